//! Whether the client of an HTTP/2 connection takes what is there for each stream. It counts bytes as they go to the socket,
//! among them those that wait in HTTP/2 behind the end of the task of their stream.
//!
//! HTTP/2 serves streams that can be sent in turn. If a piece that was handed over later has passed a stream, the window of that
//! stream is closed, and its client has to open it. If none has, the whole connection is slow, and each byte of it counts.

use std::time::Duration;

use crate::progress::{Account, Pace, Stalled};

/// The bytes of all streams on their way to the client.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Number of the last piece that was handed to HTTP/2; the first one has 1.
    last: u64,
    /// The highest number of a piece of which bytes were taken.
    newest_taken: u64,
    /// Bytes taken since the last check.
    taken: usize,
}

/// The bytes of one stream on their way to the client.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// `Traffic::last` when bytes of the stream were last taken, or began to wait.
    last: u64,
    /// Bytes taken since the last check.
    taken: usize,
    /// Set if a newer piece has been taken since the last check.
    is_passed_over: bool,
    /// Bytes have waited without a break since the last check.
    owes: bool,
    account: Account,
}

impl Traffic {
    /// Numbers a new piece.
    pub(super) fn next_piece(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Ends an interval, and returns the bytes that were taken in it.
    pub(super) fn end_interval(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }
}

impl Taking {
    /// Bytes of the stream begin to wait.
    pub(super) fn begin(&mut self, traffic: &Traffic) {
        self.last = traffic.last;
    }

    /// So many bytes of a piece were taken.
    pub(super) fn take(&mut self, piece: u64, bytes: usize, traffic: &mut Traffic) {
        self.is_passed_over |= traffic.newest_taken > self.last;
        self.last = traffic.last;
        self.taken += bytes;
        traffic.newest_taken = traffic.newest_taken.max(piece);
        traffic.taken += bytes;
    }

    /// All bytes of the stream were taken.
    pub(super) fn rest(&mut self) {
        self.owes = false;
        self.account.rest();
    }

    /// Ends an interval in which the socket took bytes whenever there were some; `all` is the bytes that were taken of all
    /// streams.
    ///
    /// # Errors
    ///
    /// The client has taken too little for too long.
    pub(super) fn check(&mut self, time: Duration, all: usize, traffic: &Traffic, pace: &Pace) -> Result<(), Stalled> {
        let is_passed_over = self.is_passed_over || traffic.newest_taken > self.last;
        let bytes = if is_passed_over { self.taken } else { all };
        if self.end_interval() { self.account.add(time, bytes, pace) } else { Ok(()) }
    }

    /// Ends an interval. Returns whether bytes waited during the whole of it.
    pub(super) fn end_interval(&mut self) -> bool {
        self.taken = 0;
        self.is_passed_over = false;
        std::mem::replace(&mut self.owes, true)
    }

    /// Forgets what the client owes so far.
    pub(super) fn forgive(&mut self) {
        self.account = Account::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Limits;

    const SECOND: Duration = Duration::from_secs(1);
    const PIECE: usize = 16 << 10;

    /// Streams that always have bytes waiting.
    struct Connection {
        traffic: Traffic,
        streams: Vec<(Taking, u64)>,
    }

    impl Connection {
        fn new(streams: usize) -> Self {
            let mut traffic = Traffic::default();
            let streams = (0..streams).map(|_| {
                let mut taking = Taking::default();
                let piece = traffic.next_piece();
                taking.begin(&traffic);
                (taking, piece)
            });
            Self { streams: streams.collect(), traffic }
        }

        /// A stream takes bytes of its piece, and has another one then.
        fn take(&mut self, stream: usize, bytes: usize) {
            let (taking, piece) = &mut self.streams[stream];
            taking.take(*piece, bytes, &mut self.traffic);
            *piece = self.traffic.next_piece();
        }

        /// The streams that are stalled once `time` has passed since the last check.
        fn check(&mut self, time: Duration) -> Vec<usize> {
            let all = self.traffic.end_interval();
            let pace = Limits::default().pace(false);
            let mut stalled = Vec::new();
            for (number, (taking, _)) in self.streams.iter_mut().enumerate() {
                if taking.check(time, all, &self.traffic, &pace).is_err() {
                    stalled.push(number);
                }
            }
            stalled
        }

        /// Seconds until a stream is stalled, of at most `most`, and which ones are; each second begins with `step`.
        fn lasts(&mut self, most: usize, mut step: impl FnMut(&mut Self, usize)) -> Option<(usize, Vec<usize>)> {
            self.check(SECOND);
            for second in 1..=most {
                step(self, second);
                let stalled = self.check(SECOND);
                if !stalled.is_empty() {
                    return Some((second, stalled));
                }
            }
            None
        }
    }

    #[test]
    fn streams_of_a_client_that_takes_nothing_are_stalled() {
        assert_eq!(Connection::new(2).lasts(100, |_, _| {}), Some((60, vec![0, 1])));
    }

    #[test]
    fn streams_that_share_a_slow_link_are_not() {
        // 2 kB/s for 100 streams: each one has to wait for 800 s between two pieces.
        let lasts = Connection::new(100).lasts(5000, |connection, second| {
            if second % 8 == 0 {
                connection.take((second / 8 - 1) % 100, PIECE);
            }
        });
        assert_eq!(lasts, None);
    }

    #[test]
    fn a_stream_with_a_closed_window_is_stalled_beside_one_that_goes_on() {
        let mut connection = Connection::new(3);
        // Its next piece is newer than those of the others.
        connection.take(1, PIECE);
        let lasts = connection.lasts(100, |connection, _| connection.take(1, PIECE));
        assert_eq!(lasts, Some((60, vec![0, 2])));
        // One small response a minute.
        let mut connection = Connection::new(3);
        connection.take(1, 100);
        let lasts = connection.lasts(200, |connection, second| {
            if second % 55 == 0 {
                connection.take(1, 100);
                connection.streams[1].0.rest();
                connection.streams[1].0.begin(&connection.traffic);
            }
            connection.streams[1].0.rest();
        });
        assert!(lasts.as_ref().is_some_and(|(second, stalled)| *second <= 120 && *stalled == [0, 2]), "{lasts:?}");
    }

    #[test]
    fn a_window_that_opens_by_a_byte_at_a_time_is_a_stall() {
        let lasts = Connection::new(2).lasts(100, |connection, _| {
            for _ in 0..3 {
                connection.take(1, PIECE);
            }
            connection.take(0, 1);
        });
        assert!(lasts.as_ref().is_some_and(|(second, stalled)| *second <= 20 && *stalled == [0]), "{lasts:?}");
    }

    #[test]
    fn a_slow_service_is_not_its_clients_fault() {
        let lasts = Connection::new(1).lasts(5000, |connection, _| {
            connection.take(0, 1);
            connection.streams[0].0.rest();
        });
        assert_eq!(lasts, None);
    }
}
