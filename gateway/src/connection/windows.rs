//! Flow-control windows of HTTP/2 connections: the bytes of request bodies that clients may send before a service takes them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::MAX_STREAMS;

/// The window of a stream.
const STREAM: u32 = 64 << 10;
/// More than all streams of a connection can fill, so that no upload waits for another (RFC 9113 §5.2).
const CONNECTION: u32 = (MAX_STREAMS + 1) * STREAM;

/// The windows that the open HTTP/2 connections of a gateway have been given.
#[derive(Debug, Default)]
pub struct Windows(AtomicU64);

/// The windows of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) streams: u32,
    /// Bytes of each stream's window.
    pub(super) stream: u32,
    /// Bytes of the connection's window.
    pub(super) connection: u32,
    /// The windows that it counts for; `None` if it is too small to count.
    counted: Option<Arc<Windows>>,
}

impl Windows {
    /// Gives a connection its windows: small ones where large ones would exceed `bound` bytes over all connections.
    pub(super) fn grant(self: &Arc<Self>, bound: u64) -> Granted {
        let add = |given: u64| given.checked_add(CONNECTION.into()).filter(|given| *given <= bound);
        if self.0.fetch_update(Relaxed, Relaxed, add).is_ok() {
            let counted = Some(Arc::clone(self));
            return Granted { streams: MAX_STREAMS, stream: STREAM, connection: CONNECTION, counted };
        }
        // The least that a connection can have (RFC 9113 §6.9.2), again more than its streams can fill.
        Granted { streams: 15, stream: 4 << 10, connection: 65_535, counted: None }
    }

    /// Bytes given so far.
    pub(crate) fn given(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(windows) = &self.counted {
            windows.0.fetch_sub(self.connection.into(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_beyond_the_bound_are_small_until_others_are_given_back() {
        let windows = Arc::new(Windows::default());
        let bound = 2 * u64::from(CONNECTION);
        let first = windows.grant(bound);
        let second = windows.grant(bound);
        let small = windows.grant(bound);
        assert_eq!((first.stream, second.stream, small.stream), (STREAM, STREAM, 4 << 10));
        for granted in [&first, &small] {
            assert!(granted.streams * granted.stream < granted.connection, "{granted:?}");
        }
        drop(first);
        assert_eq!(windows.given(), u64::from(CONNECTION));
        assert_eq!(windows.grant(bound).stream, STREAM);
        drop((second, small));
        assert_eq!(windows.given(), 0);
    }
}
