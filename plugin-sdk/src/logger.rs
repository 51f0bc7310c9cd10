//! The `log` crate's way to the host's log.

use log::{LevelFilter, Log, Metadata, Record};

use crate::backend;

struct HostLog;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        backend::log_enabled(metadata.level())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            backend::log_write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// May be called again: the first logger stays.
pub(crate) fn install() {
    if log::set_logger(&HostLog).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}
