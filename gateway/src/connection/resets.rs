//! Streams of an HTTP/2 connection that are reset before they are answered, by the client or for an error of it: each may have
//! cost a connection to a service, so their number is bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Half of the time in which streams and resets are counted.
const HALF: Duration = Duration::from_secs(5);

/// The counts of one connection, of the last 5 to 10 s.
#[derive(Debug)]
pub(super) struct Resets {
    limit: u32,
    since: Instant,
    current: Counts,
    /// Counts of the 5 s before `since`.
    previous: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// New streams.
    streams: u32,
    /// Streams that were open at the beginning.
    open: u32,
    resets: u32,
}

impl Resets {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, since: Instant::now(), current: Counts::default(), previous: Counts::default() }
    }

    /// Counts a new stream of a connection that has `open` others.
    pub(super) fn opened(&mut self, open: usize) {
        self.advance(open);
        self.current.streams = self.current.streams.saturating_add(1);
    }

    /// Counts a stream that ended without an answer; it is one of the `open` streams of its connection.
    pub(super) fn reset(&mut self, open: usize) {
        self.advance(open);
        self.current.resets = self.current.resets.saturating_add(1);
    }

    /// Whether the resets exceed the limit and half of all streams. Counts them anew once they do.
    pub(super) fn take_excess(&mut self) -> bool {
        let resets = self.current.resets.saturating_add(self.previous.resets);
        let new = self.current.streams.saturating_add(self.previous.streams);
        // With the streams of the previous half, those that were open at its beginning are all that can have been reset.
        let all = new.saturating_add(self.previous.open);
        let is_excess = resets > self.limit && resets > all / 2;
        if is_excess {
            self.current = Counts::default();
            self.previous = Counts::default();
        }
        is_excess
    }

    fn advance(&mut self, open: usize) {
        let elapsed = self.since.elapsed();
        if elapsed < HALF {
            return;
        }
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        self.previous = if elapsed < 2 * HALF { self.current } else { Counts { open, ..Counts::default() } };
        self.current = Counts { open, ..Counts::default() };
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn resets_are_too_many_beyond_the_limit_and_half_of_the_streams_of_ten_seconds() {
        let mut resets = Resets::new(3);
        for _ in 0..3 {
            resets.opened(0);
            resets.reset(1);
        }
        assert!(!resets.take_excess(), "as many as the limit");
        for _ in 0..5 {
            resets.opened(0);
        }
        resets.reset(1);
        assert!(!resets.take_excess(), "half of all");
        resets.reset(1);
        assert!(resets.take_excess());
        assert!(!resets.take_excess(), "they are counted anew");
        for _ in 0..4 {
            resets.opened(0);
            resets.reset(1);
        }
        advance(2 * HALF).await;
        resets.opened(0);
        resets.reset(1);
        assert!(!resets.take_excess(), "another ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_were_opened_before_the_first_reset_count() {
        let mut resets = Resets::new(100);
        for _ in 0..1000 {
            resets.opened(0);
        }
        advance(HALF).await;
        for _ in 0..101 {
            resets.reset(250);
        }
        assert!(!resets.take_excess(), "101 of 1000 streams of the last ten seconds");
        advance(2 * HALF).await;
        for _ in 0..101 {
            resets.reset(250);
        }
        assert!(!resets.take_excess(), "101 of 250 streams that have been open for longer");
        advance(2 * HALF).await;
        for _ in 0..101 {
            resets.reset(101);
        }
        assert!(resets.take_excess(), "all streams of the connection");
    }
}
