//! Bounds that are too small to serve anybody, and those of the WebAssembly engine that no engine can have.

use std::time;

use crate::{
    config::{
        Problem,
        scalar::{Duration, Size},
        schema::{ListenerLimits, Progress, Service, Wasm},
    },
    plugin::{
        engine::{MAX_MEMORY, STACK},
        loader::MAX_MODULE,
    },
};

/// The smallest head that hyper has a buffer for.
const HEADER_BYTES: Size = Size::kib(8);
/// The smallest buffer that has a share for each stream of a connection and room for one to use.
const RESPONSE_BUFFER: Size = Size::kib(512);

/// Of a listener, or of the admin address, at `path`.
pub(super) fn of_listener(path: &str, limits: &ListenerLimits) -> Vec<Problem> {
    let path = format!("{path}.limits");
    let mut problems = progress(&path, &limits.progress);
    problems.extend(at_least(HEADER_BYTES, &path, "header_bytes", limits.header_bytes));
    problems.extend(at_least(RESPONSE_BUFFER, &path, "response_buffer", limits.response_buffer));
    problems
}

pub(super) fn of_service(index: usize, service: &Service) -> Vec<Problem> {
    let path = format!("services[{index}]");
    let mut problems = progress(&path, &service.progress);
    problems.extend(at_least(HEADER_BYTES, &path, "header_bytes", service.header_bytes));
    problems
}

pub(super) fn of_wasm(wasm: &Wasm) -> Vec<Problem> {
    let most = |bytes: usize| Size(bytes as u64);
    let mut problems = Vec::new();
    problems.extend(at_most(most(MAX_MEMORY), "wasm", "memory", wasm.memory));
    problems.extend(at_least(most(*STACK.start()), "wasm", "stack", wasm.stack));
    problems.extend(at_most(most(*STACK.end()), "wasm", "stack", wasm.stack));
    problems.extend(at_most(most(MAX_MODULE), "wasm", "module_bytes", wasm.module_bytes));
    problems
}

fn at_least(least: Size, path: &str, key: &str, size: Size) -> Option<Problem> {
    (size < least).then(|| Problem::new(format!("{path}.{key}"), format!("{size} is less than {least}")))
}

fn at_most(most: Size, path: &str, key: &str, size: Size) -> Option<Problem> {
    (size > most).then(|| Problem::new(format!("{path}.{key}"), format!("{size} is more than {most}")))
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
