//! Bounds of listeners and services that are too small to serve anybody.

use std::time;

use crate::config::{
    Problem,
    scalar::{Duration, Size},
    schema::{ListenerLimits, Progress, Service},
};

/// The smallest head that hyper has a buffer for.
const HEADER_BYTES: Size = Size::kib(8);

pub(super) fn of_listener(index: usize, limits: &ListenerLimits) -> Vec<Problem> {
    let path = format!("listeners[{index}].limits");
    let mut problems = progress(&path, &limits.progress);
    problems.extend(header_bytes(&path, limits.header_bytes));
    problems
}

pub(super) fn of_service(index: usize, service: &Service) -> Vec<Problem> {
    let path = format!("services[{index}]");
    let mut problems = progress(&path, &service.progress);
    problems.extend(header_bytes(&path, service.header_bytes));
    problems
}

fn header_bytes(path: &str, size: Size) -> Option<Problem> {
    let is_short = size < HEADER_BYTES;
    is_short.then(|| Problem::new(format!("{path}.header_bytes"), format!("{size} is less than {HEADER_BYTES}")))
}

fn progress(path: &str, progress: &Progress) -> Vec<Problem> {
    let millisecond = time::Duration::from_millis(1);
    // The kernel counts in seconds.
    let second = time::Duration::from_secs(1);
    let mut problems = Vec::new();
    for (key, time, shortest) in [
        ("idle_timeout", progress.idle_timeout, millisecond),
        ("stream_idle_timeout", progress.stream_idle_timeout, millisecond),
        ("tcp_keepalive", progress.tcp_keepalive, second),
    ] {
        if time.0 < shortest {
            let message = format!("{time} is less than {}", Duration(shortest));
            problems.push(Problem::new(format!("{path}.progress.{key}"), message));
        }
    }
    problems
}
