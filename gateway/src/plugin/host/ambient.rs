//! What needs no grant: time and chance.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment of this machine.
pub(in crate::plugin) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[derive(Debug, thiserror::Error)]
#[error("this machine has no random bytes")]
pub(in crate::plugin) struct NoRandom;

pub(in crate::plugin) fn random(count: usize) -> Result<Vec<u8>, NoRandom> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}
