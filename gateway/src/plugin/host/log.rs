//! Log lines of guests: they join the gateway's own, under the target `stile::plugin`, so many a second of each plugin.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Host, Identity, monotonic};
use crate::{exchange::RequestId, plugin::text::one_line};

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

macro_rules! at_level {
    ($level:expr, $run:ident) => {
        match $level {
            Level::Trace => $run!(TRACE),
            Level::Debug => $run!(DEBUG),
            Level::Info => $run!(INFO),
            Level::Warn => $run!(WARN),
            Level::Error => $run!(ERROR),
        }
    };
}

impl Host {
    pub(in crate::plugin) fn log_enabled(&self, level: Level) -> bool {
        enabled(level)
    }

    pub(in crate::plugin) fn log(&self, level: Level, message: &str) {
        write(&self.identity, self.about.request.as_ref().map(RequestId::as_str), level, message);
    }

    /// Keeps the message and the place of a panic for the failure that the trap behind it becomes.
    pub(in crate::plugin) fn panicked(&mut self, message: &str, place: &str) {
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        let text = format!("panicked{at}: {message}");
        self.panic = Some(one_line(&text).into());
    }
}

fn enabled(level: Level) -> bool {
    macro_rules! enabled {
        ($level:ident) => {
            tracing::enabled!(target: "stile::plugin", tracing::Level::$level)
        };
    }
    at_level!(level, enabled)
}

/// Writes one line, if the plugin has one left in this second; `request` is the id of the exchange in hand.
pub(super) fn write(identity: &Identity, request: Option<&str>, level: Level, message: &str) {
    if !enabled(level) || !identity.may_log() {
        return;
    }
    let (plugin, revision, line) = (&*identity.plugin, identity.revision, one_line(message));
    macro_rules! write {
        ($level:ident) => {
            tracing::event!(target: "stile::plugin", tracing::Level::$level, plugin, revision, request, "{line}")
        };
    }
    at_level!(level, write);
}

impl Identity {
    /// Takes one of the plugin's log lines of this second. The first that is refused in a second is logged once for all.
    pub(in crate::plugin) fn may_log(&self) -> bool {
        match self.lines.take(monotonic() / SECOND, self.lines_per_second) {
            Line::Write => true,
            Line::Drop { first } => {
                if first {
                    tracing::warn!(
                        plugin = &*self.plugin,
                        "more than {} log lines in a second; drops the rest of this second",
                        self.lines_per_second
                    );
                }
                false
            }
        }
    }
}

/// The log lines of one plugin, counted by the second.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Lines {
    /// The second in the upper half, the lines asked for in it in the lower.
    window: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, PartialEq)]
enum Line {
    Write,
    Drop { first: bool },
}

impl Lines {
    fn take(&self, second: u64, allowed: u32) -> Line {
        let second = second << 32;
        let next = |window: u64| {
            let same = window & !u64::from(u32::MAX) == second;
            let asked = if same { window & u64::from(u32::MAX) } else { 0 };
            Some(second | (asked + 1).min(u64::from(u32::MAX)))
        };
        let before = self.window.fetch_update(Relaxed, Relaxed, next).unwrap_or_default();
        let asked = next(before).unwrap_or_default() & u64::from(u32::MAX);
        if asked <= u64::from(allowed) {
            return Line::Write;
        }
        self.dropped.fetch_add(1, Relaxed);
        Line::Drop { first: asked == u64::from(allowed) + 1 }
    }

    /// Lines that were not written, since the start.
    pub(in crate::plugin) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_lines_and_the_rest_is_counted() {
        let lines = Lines::default();
        let take = |second, allowed| lines.take(second, allowed);
        assert_eq!([take(7, 2), take(7, 2)], [Line::Write, Line::Write]);
        assert_eq!([take(7, 2), take(7, 2)], [Line::Drop { first: true }, Line::Drop { first: false }]);
        assert_eq!([take(8, 1), take(8, 1)], [Line::Write, Line::Drop { first: true }]);
        assert_eq!(take(9, 0), Line::Drop { first: true });
        assert_eq!(lines.dropped(), 4);
    }
}
