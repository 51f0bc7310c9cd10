//! Whether a peer keeps up with a transfer: with bytes that it has to send, or to take. A leaf: the owner of the transfer decides
//! what follows if it does not.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Least time between two checks of a transfer.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Bounds of a listener for its clients, or of a service for its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub body_idle_timeout: Duration,
    /// Takes the place of the former for WebSockets, event streams and gRPC, which have no minimum rate.
    pub stream_idle_timeout: Duration,
    /// Bytes a second; 0 for none.
    pub min_rate: u32,
    /// Time that a peer may be behind the minimum rate.
    pub min_rate_grace: Duration,
}

/// The bounds of one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    idle: Duration,
    /// Bytes a second; 0 for none.
    min_rate: u32,
    grace: Duration,
}

/// Why a transfer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stalled {
    #[error("no byte for {0:?}")]
    Idle(Duration),
    #[error("fewer than {0} bytes a second")]
    Slow(u32),
}

/// One connection, as its socket and the exchanges on it see it.
#[derive(Debug)]
pub struct Peer {
    limits: Limits,
    /// The transfer on it is one that may rest.
    streams: AtomicBool,
    /// Its socket takes no more bytes.
    stalled: AtomicBool,
    /// The last write found the socket full.
    blocked: AtomicBool,
    /// A write has found the socket full since `take_blocked` was called.
    was_blocked: AtomicBool,
    /// Its connection ends with a reset.
    reset: AtomicBool,
}

/// What a peer owes of one transfer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    /// Time since the last byte.
    silence: Duration,
    /// Part of the grace that is used up.
    behind: Duration,
}

/// Watches the progress of one transfer. Time counts only while the peer has bytes to send or to take.
///
/// Each transfer has at most one timer, which no single piece resets.
#[derive(Debug)]
pub struct Watch {
    /// Since when the peer owes bytes; `None` while it does not.
    since: Option<Instant>,
    account: Account,
    timer: Timer,
}

/// A timer for ends that are seldom reached: a later end than the last one costs nothing before that.
#[derive(Debug)]
pub struct Timer(Pin<Box<Sleep>>);

impl Limits {
    /// The bounds of a transfer; `streams` if it may rest.
    pub fn pace(&self, streams: bool) -> Pace {
        let grace = self.min_rate_grace;
        if streams {
            return Pace { idle: self.stream_idle_timeout, min_rate: 0, grace };
        }
        Pace { idle: self.body_idle_timeout, min_rate: self.min_rate, grace }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_idle_timeout: Duration::from_secs(60),
            stream_idle_timeout: Duration::from_secs(3600),
            min_rate: 240,
            min_rate_grace: Duration::from_secs(10),
        }
    }
}

impl Peer {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            streams: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            was_blocked: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Says of the transfers from now on whether they may rest.
    pub fn set_streams(&self, streams: bool) {
        self.streams.store(streams, Relaxed);
    }

    pub fn pace(&self) -> Pace {
        self.limits.pace(self.streams.load(Relaxed))
    }

    /// Whether its connection ended because it took no more bytes.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Relaxed);
    }

    pub fn is_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// Says whether its connection ends with a reset, since an orderly end would be that of a body which is not whole.
    pub fn set_reset(&self, reset: bool) {
        self.reset.store(reset, Relaxed);
    }

    /// Records whether a write found the socket full.
    pub fn set_blocked(&self, blocked: bool) {
        if blocked {
            self.was_blocked.store(true, Relaxed);
        }
        self.blocked.store(blocked, Relaxed);
    }

    /// Whether the last write found the socket full.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Whether a write has found the socket full since the last call, or the socket is full still.
    pub fn take_blocked(&self) -> bool {
        self.was_blocked.swap(self.is_blocked(), Relaxed)
    }
}

impl Pace {
    /// How often a transfer has to be checked where its account is kept by checks.
    pub fn check_interval(&self) -> Duration {
        let grace = if self.min_rate == 0 { Duration::MAX } else { self.grace };
        (self.idle / 8).min(grace / 4).max(MIN_INTERVAL)
    }
}

impl Account {
    /// Adds a time in which the peer owed bytes, and the bytes that it has sent or taken in it.
    ///
    /// # Errors
    ///
    /// The peer owes for too long. One silence counts for no more than the grace, since the idle time-out bounds it.
    pub fn add(&mut self, time: Duration, bytes: usize, pace: &Pace) -> Result<(), Stalled> {
        self.silence += time;
        if bytes == 0 {
            return if self.silence < pace.idle { Ok(()) } else { Err(Stalled::Idle(pace.idle)) };
        }
        let owed = std::mem::take(&mut self.silence).min(pace.grace);
        if pace.min_rate == 0 {
            return Ok(());
        }
        let earned = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / u64::from(pace.min_rate));
        self.behind = (self.behind + owed).saturating_sub(earned);
        if self.behind > pace.grace { Err(Stalled::Slow(pace.min_rate)) } else { Ok(()) }
    }

    /// The peer owes nothing for now.
    pub fn rest(&mut self) {
        self.silence = Duration::ZERO;
    }
}

impl Watch {
    /// A watch that begins to run now.
    pub fn new(pace: &Pace) -> Self {
        let now = Instant::now();
        Self { since: Some(now), account: Account::default(), timer: Timer::new(now + pace.idle) }
    }

    /// The peer has sent or taken so many bytes.
    ///
    /// # Errors
    ///
    /// `Slow`: they come too late.
    pub fn progressed(&mut self, bytes: usize, pace: &Pace) -> Result<(), Stalled> {
        let Some(since) = self.since.take() else { return Ok(()) };
        // The timer bounds a silence.
        let owed = since.elapsed().min(pace.grace);
        self.account.add(owed, bytes.max(1), pace)
    }

    /// The peer owes nothing for now.
    pub fn rest(&mut self) {
        self.since = None;
    }

    /// Waits while the peer owes bytes, until it has owed them for too long.
    pub fn poll_stalled(&mut self, cx: &mut Context<'_>, pace: &Pace) -> Poll<Stalled> {
        let end = *self.since.get_or_insert_with(Instant::now) + pace.idle;
        self.timer.poll_until(end, cx).map(|()| Stalled::Idle(pace.idle))
    }
}

impl Timer {
    pub fn new(end: Instant) -> Self {
        Self(Box::pin(sleep_until(end)))
    }

    /// Waits for this end, whichever one it waited for before.
    pub fn poll_until(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() > end {
            self.0.as_mut().reset(end);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if self.0.deadline() >= end {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Limits::default().pace(false)
    }

    async fn stalls(watch: &mut Watch, within: Duration) -> Option<Stalled> {
        timeout(within, poll_fn(|cx| watch.poll_stalled(cx, &pace()))).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_ends_a_transfer_and_each_byte_begins_it_anew() {
        let mut watch = Watch::new(&pace());
        for _ in 0..3 {
            assert_eq!(stalls(&mut watch, 59 * SECOND).await, None);
            assert_eq!(watch.progressed(100_000, &pace()), Ok(()));
        }
        assert_eq!(stalls(&mut watch, 59 * SECOND).await, None);
        assert_eq!(stalls(&mut watch, 2 * SECOND).await, Some(Stalled::Idle(60 * SECOND)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_only_while_bytes_are_owed() {
        let mut watch = Watch::new(&pace());
        for _ in 0..20 {
            advance(SECOND / 2).await;
            assert_eq!(watch.progressed(120, &pace()), Ok(()));
            // The other side is slow: nobody asks this one for bytes.
            advance(600 * SECOND).await;
            assert_eq!(stalls(&mut watch, Duration::ZERO).await, None);
        }
    }

    /// Seconds until a peer that sends so many bytes each second is given up.
    async fn lasts(bytes: usize, most: u32) -> Option<u32> {
        let mut watch = Watch::new(&pace());
        for second in 1..=most {
            advance(SECOND).await;
            if watch.progressed(bytes, &pace()) == Err(Stalled::Slow(240)) {
                return Some(second);
            }
            assert_eq!(stalls(&mut watch, Duration::ZERO).await, None);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_once_it_is_behind_by_more_than_the_grace() {
        assert_eq!(lasts(1, 60).await, Some(11));
        assert_eq!(lasts(120, 60).await, Some(21));
        assert_eq!(lasts(240, 1000).await, None);
        assert_eq!(lasts(10_000, 1000).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_silence_is_no_trickle_but_a_second_one_is() {
        let mut watch = Watch::new(&pace());
        assert_eq!(stalls(&mut watch, 50 * SECOND).await, None);
        assert_eq!(watch.progressed(1, &pace()), Ok(()));
        assert_eq!(stalls(&mut watch, 50 * SECOND).await, None);
        assert_eq!(watch.progressed(1, &pace()), Err(Stalled::Slow(240)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_waits_for_the_end_that_was_asked_for_last() {
        let start = Instant::now();
        let mut timer = Timer::new(start + SECOND);
        // Later than the first end, earlier than the one before, and after the timer has fired.
        for (end, expected) in [(5, 5), (9, 9), (7, 9), (12, 12), (20, 20)] {
            poll_fn(|cx| timer.poll_until(start + end * SECOND, cx)).await;
            assert_eq!(start.elapsed().as_secs(), expected);
        }
        assert!(timeout(SECOND, poll_fn(|cx| timer.poll_until(start + 60 * SECOND, cx))).await.is_err());
        poll_fn(|cx| timer.poll_until(start + 25 * SECOND, cx)).await;
        assert_eq!(start.elapsed().as_secs(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_rest_has_a_time_out_of_its_own_and_no_rate() {
        let pace = Limits::default().pace(true);
        let mut watch = Watch::new(&pace);
        for _ in 0..5 {
            let waited = timeout(3500 * SECOND, poll_fn(|cx| watch.poll_stalled(cx, &pace))).await;
            assert_eq!((waited.ok(), watch.progressed(1, &pace)), (None, Ok(())));
        }
        let waited = timeout(3601 * SECOND, poll_fn(|cx| watch.poll_stalled(cx, &pace))).await;
        assert_eq!(waited.ok(), Some(Stalled::Idle(3600 * SECOND)));
    }
}
