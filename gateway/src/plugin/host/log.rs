//! Log lines of guests: they join the gateway's own, under the target `stile::plugin`.

use super::{Host, Identity};
use crate::exchange::RequestId;

/// Longest line taken from a guest, in bytes; the rest is cut off.
pub(super) const MAX_LINE: usize = 4096;

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
        macro_rules! enabled {
            ($level:ident) => {
                tracing::enabled!(target: "stile::plugin", tracing::Level::$level)
            };
        }
        at_level!(level, enabled)
    }

    pub(in crate::plugin) fn log(&self, level: Level, message: &str) {
        write(&self.identity, self.request.as_ref().map(RequestId::as_str), level, message);
    }
}

/// Writes one line; `request` is the id of the exchange in hand.
pub(super) fn write(identity: &Identity, request: Option<&str>, level: Level, message: &str) {
    let line = &message[..message.floor_char_boundary(MAX_LINE)];
    let (plugin, revision) = (&*identity.plugin, identity.revision);
    macro_rules! write {
        ($level:ident) => {
            tracing::event!(target: "stile::plugin", tracing::Level::$level, plugin, revision, request, "{line}")
        };
    }
    at_level!(level, write);
}
