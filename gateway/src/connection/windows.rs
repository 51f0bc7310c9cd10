//! Flow-control windows of HTTP/2 connections: the bytes of request bodies that clients may send before a service takes them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::MAX_STREAMS;
use crate::exchange::clients::{Clients, Counted};

/// The window of a stream.
const STREAM: u32 = 64 << 10;
/// More than all streams of a connection can fill, so that no upload waits for another (RFC 9113 §5.2).
const CONNECTION: u32 = (MAX_STREAMS + 1) * STREAM;

/// Part of all windows that one client address may have.
const SHARE: u64 = 4;

/// The windows that the open HTTP/2 connections of a gateway have been given.
#[derive(Debug, Default)]
pub struct Windows {
    given: AtomicU64,
    /// Connections with large windows.
    clients: Clients,
}

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
    _of_client: Option<Counted>,
}

impl Windows {
    /// Gives a connection its windows: small ones where large ones would exceed `bound` bytes over all connections, or a quarter
    /// of that for its client. `None` stands for a trusted proxy, whose connections are those of many clients.
    pub(super) fn grant(self: &Arc<Self>, bound: u64, client: Option<IpAddr>) -> Granted {
        self.large(bound, client).unwrap_or(Granted {
            // The least that a connection can have (RFC 9113 §6.9.2), again more than its streams can fill.
            streams: 15,
            stream: 4 << 10,
            connection: 65_535,
            counted: None,
            _of_client: None,
        })
    }

    fn large(self: &Arc<Self>, bound: u64, client: Option<IpAddr>) -> Option<Granted> {
        let share = usize::try_from(bound / u64::from(CONNECTION) / SHARE).unwrap_or(usize::MAX).max(1);
        let of_client = match client {
            Some(address) => Some(self.clients.admit(address, share)?),
            None => None,
        };
        let add = |given: u64| given.checked_add(CONNECTION.into()).filter(|given| *given <= bound);
        self.given.fetch_update(Relaxed, Relaxed, add).ok()?;
        Some(Granted {
            streams: MAX_STREAMS,
            stream: STREAM,
            connection: CONNECTION,
            counted: Some(Arc::clone(self)),
            _of_client: of_client,
        })
    }

    /// Bytes given so far.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Relaxed)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(windows) = &self.counted {
            windows.given.fetch_sub(self.connection.into(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn windows_beyond_the_bound_are_small_until_others_are_given_back() {
        let windows = Arc::new(Windows::default());
        let bound = 2 * u64::from(CONNECTION);
        let first = windows.grant(bound, client(1));
        let second = windows.grant(bound, client(2));
        let small = windows.grant(bound, client(3));
        assert_eq!((first.stream, second.stream, small.stream), (STREAM, STREAM, 4 << 10));
        for granted in [&first, &small] {
            assert!(granted.streams * granted.stream < granted.connection, "{granted:?}");
        }
        drop(first);
        assert_eq!(windows.given(), u64::from(CONNECTION));
        assert_eq!(windows.grant(bound, client(3)).stream, STREAM);
        drop((second, small));
        assert_eq!(windows.given(), 0);
    }

    #[test]
    fn one_client_gets_a_quarter_of_all_and_a_trusted_proxy_more() {
        let windows = Arc::new(Windows::default());
        let bound = 8 * u64::from(CONNECTION);
        let [first, second] = [windows.grant(bound, client(1)), windows.grant(bound, client(1))];
        assert_eq!((first.stream, second.stream), (STREAM, STREAM));
        assert_eq!(windows.grant(bound, client(1)).stream, 4 << 10);
        let other = windows.grant(bound, client(2));
        assert_eq!(other.stream, STREAM);
        drop(first);
        let again = windows.grant(bound, client(1));
        assert_eq!(again.stream, STREAM, "one was given back");
        let of_proxy: Vec<_> = (0..5).map(|_| windows.grant(bound, None)).collect();
        assert!(of_proxy.iter().all(|granted| granted.stream == STREAM));
        assert_eq!(windows.given(), bound);
    }
}
