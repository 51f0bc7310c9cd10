//! The CPU time of a thread, to which neither its waits nor the time in which it is preempted add.

use rustix::time::{ClockId, clock_gettime};

/// Of this thread, in nanoseconds. It costs a system call.
pub fn nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
