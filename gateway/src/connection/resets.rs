//! Streams of an HTTP/2 connection that are reset before they are answered, by the client or for an error of it: each may have
//! cost a connection to a service, so their number is bounded.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;

/// The time in which they are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// The count of one connection.
#[derive(Debug)]
pub(super) struct Resets {
    limit: u32,
    /// Streams in this period.
    streams: Cell<u32>,
    period: RefCell<Option<Period>>,
}

/// Begins with a reset: a connection without any never reads the clock.
#[derive(Debug)]
struct Period {
    since: Instant,
    resets: u32,
}

/// A stream without an answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    resets: Rc<Resets>,
    is_answered: bool,
}

impl Resets {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, streams: Cell::new(0), period: RefCell::default() }
    }

    /// Counts a new stream, and its reset if it is dropped without an answer.
    pub(super) fn watch(self: &Rc<Self>) -> Unanswered {
        self.streams.set(self.streams.get().saturating_add(1));
        Unanswered { resets: Rc::clone(self), is_answered: false }
    }

    /// More than the limit and more than half of all streams.
    pub(super) fn are_too_many(&self) -> bool {
        let resets = self.period.borrow().as_ref().map_or(0, |period| period.resets);
        resets > self.limit && resets > self.streams.get() / 2
    }

    fn reset(&self) {
        let now = Instant::now();
        let mut period = self.period.borrow_mut();
        match &mut *period {
            Some(period) if now - period.since < PERIOD => period.resets += 1,
            before => {
                *before = Some(Period { since: now, resets: 1 });
                self.streams.set(1);
            }
        }
    }
}

impl Unanswered {
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.is_answered {
            self.resets.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn resets_are_too_many_beyond_the_limit_and_half_of_the_streams_of_ten_seconds() {
        let resets = Rc::new(Resets::new(3));
        for _ in 0..3 {
            drop(resets.watch());
        }
        assert!(!resets.are_too_many());
        drop(resets.watch());
        assert!(resets.are_too_many());
        for _ in 0..4 {
            resets.watch().answered();
        }
        assert!(!resets.are_too_many(), "half of all");
        drop(resets.watch());
        assert!(resets.are_too_many());
        advance(PERIOD).await;
        drop(resets.watch());
        assert!(!resets.are_too_many(), "another period");
    }
}
