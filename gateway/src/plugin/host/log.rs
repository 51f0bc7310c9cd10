//! Log lines of guests: they join the gateway's own, under the target `stile::plugin`.

use super::Host;

/// Longest line taken from a guest, in bytes; the rest is cut off.
const MAX_LINE: usize = 4096;

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
        let line = &message[..message.floor_char_boundary(MAX_LINE)];
        let plugin = &*self.identity.plugin;
        let revision = self.identity.revision;
        let request = self.lent.as_ref().map(|lent| lent.id.as_str());
        macro_rules! write {
            ($level:ident) => {
                tracing::event!(target: "stile::plugin", tracing::Level::$level, plugin, revision, request, "{line}")
            };
        }
        at_level!(level, write);
    }
}
