//! The ticks at which a guest that computes gives way: a thread that raises the engine's epoch while guests run.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use wasmtime::EngineWeak;

/// Time between two ticks while guests compute.
const TICK: Duration = Duration::from_millis(1);
/// Time between two ticks while few calls last until one, unless a tick meets a guest: the next one then comes after `TICK`. A tick costs a
/// wake-up, 30 to 40 µs on a small virtual machine: each millisecond, that is over 3 % of a processor.
const SELDOM: Duration = Duration::from_millis(4);
/// Ticks of `TICK` after a guest was found computing.
const ACTIVE: u32 = 1000;
/// Ticks in a row that meet guests after which seldom ticks save nothing: each of them would wake the thread twice.
const BUSY: u32 = 4;
/// Ticks of `TICK` that follow those.
const BUSY_FOR: u32 = 100;
/// Ticks that nobody needed after which it rests: an idle gateway should not wake hundreds of times a second.
const QUIET: u32 = 100;

/// Whoever runs guest code says so here. The thread ends with the ticker.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    needed: AtomicBool,
    rests: AtomicBool,
    /// The thread waits for longer than `TICK`.
    is_seldom: AtomicBool,
    /// The last tick has met a guest.
    has_met: AtomicBool,
    /// A guest has computed from one tick to the next, since the thread last looked.
    computes: AtomicBool,
    /// Ticks since the start.
    ticks: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        Self::start_with(engine, SELDOM)
    }

    fn start_with(engine: EngineWeak, seldom: Duration) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self::default());
        let weak = Arc::downgrade(&ticker);
        let thread = thread::Builder::new().name("stile-epochs".into()).spawn(move || tick(&engine, &weak, seldom))?;
        let _ = ticker.thread.set(thread.thread().clone());
        Ok(ticker)
    }

    /// The number of the last tick.
    pub(super) fn now(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    /// A tick has met a guest in the middle of a call: the next one comes after `TICK`.
    pub(super) fn met(&self) {
        self.needed();
        self.has_met.store(true, SeqCst);
        if self.is_seldom.swap(false, SeqCst) {
            self.thread.get().inspect(|thread| thread.unpark());
        }
    }

    /// A guest has computed from one tick to the next: for a second ticks come each `TICK`.
    pub(super) fn computes(&self) {
        self.computes.store(true, SeqCst);
    }

    /// Whether a tick has met a guest, and whether one computes, as far as the thread has not looked yet.
    #[cfg(test)]
    pub(super) fn reported(&self) -> (bool, bool) {
        (self.has_met.load(SeqCst), self.computes.load(SeqCst))
    }

    /// Guest code is about to run.
    pub(super) fn needed(&self) {
        // Written once a tick, not by every call.
        if !self.needed.load(SeqCst) {
            self.needed.store(true, SeqCst);
        }
        if self.rests.load(SeqCst) {
            self.thread.get().inspect(|thread| thread.unpark());
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.get().inspect(|thread| thread.unpark());
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own: a busy worker must not hold up the ticks")]
fn tick(engine: &EngineWeak, ticker: &Weak<Ticker>, seldom: Duration) {
    let mut quiet = 0;
    let mut pace = Pace::default();
    while let (Some(engine), Some(running)) = (engine.upgrade(), ticker.upgrade()) {
        running.rests.store(false, SeqCst);
        quiet = if running.needed.swap(false, SeqCst) { 0 } else { quiet + 1 };
        let is_seldom = pace.is_seldom(running.has_met.swap(false, SeqCst), running.computes.swap(false, SeqCst));
        if quiet <= QUIET {
            running.is_seldom.store(is_seldom, SeqCst);
            // First: a guest that sees the epoch sees this as well.
            running.ticks.fetch_add(1, SeqCst);
            engine.increment_epoch();
            drop((engine, running));
            if !is_seldom || is_met_within(seldom, ticker) {
                thread::sleep(TICK);
            }
            continue;
        }
        (quiet, pace) = (0, Pace::default());
        running.rests.store(true, SeqCst);
        // A call that needed a tick before this is seen here; a later one sees that the thread rests.
        let needed = running.needed.load(SeqCst);
        drop((engine, running));
        if !needed {
            thread::park();
        }
    }
}

/// Waits until the last tick has met a guest, or the ticker ends, but no longer than this. Returns whether it has met one.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, whose time no test pauses")]
fn is_met_within(limit: Duration, ticker: &Weak<Ticker>) -> bool {
    let end = Instant::now() + limit;
    loop {
        let Some(has_met) = ticker.upgrade().map(|ticker| ticker.has_met.load(SeqCst)) else { return false };
        let rest = end.saturating_duration_since(Instant::now());
        if has_met || rest.is_zero() {
            return has_met;
        }
        // It may end early for a call that saw the thread at rest.
        thread::park_timeout(rest);
    }
}

/// Decides how far away the next tick is.
#[derive(Debug, Default)]
struct Pace {
    /// Ticks of `TICK` that are left.
    active: u32,
    /// Ticks in a row that met guests.
    met: u32,
}

impl Pace {
    /// Whether the next tick is further away than `TICK`; the last one has met a guest or not, and found one computing or not.
    fn is_seldom(&mut self, has_met: bool, computes: bool) -> bool {
        self.met = if has_met { self.met + 1 } else { 0 };
        self.active = self.active.saturating_sub(1);
        if self.met == BUSY {
            (self.met, self.active) = (0, self.active.max(BUSY_FOR));
        }
        if computes {
            self.active = ACTIVE;
        }
        self.active == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until it rests, or until it does not.
    #[expect(clippy::disallowed_methods, reason = "a test on a thread of its own")]
    fn comes_to(ticker: &Ticker, rests: bool) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while ticker.rests.load(SeqCst) != rests && Instant::now() < end {
            thread::sleep(TICK);
        }
        ticker.rests.load(SeqCst) == rests
    }

    #[test]
    fn rests_while_nobody_needs_it_and_wakes_for_who_does() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::start(engine.weak()).expect("a thread");
        for _ in 0..3 {
            assert!(comes_to(&ticker, true), "it rests");
            ticker.needed();
            assert!(comes_to(&ticker, false), "it ticks again");
        }
    }

    /// Waits for this tick.
    #[expect(clippy::disallowed_methods, reason = "a test on a thread of its own")]
    fn reaches(ticker: &Ticker, tick: u64) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while ticker.now() < tick && Instant::now() < end {
            thread::sleep(TICK);
        }
        ticker.now() >= tick
    }

    #[test]
    fn a_guest_that_a_tick_has_met_is_not_kept_waiting_for_the_next() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::start_with(engine.weak(), Duration::from_secs(3600)).expect("a thread");
        assert!(reaches(&ticker, 1));
        for tick in 2..5 {
            ticker.met();
            assert!(reaches(&ticker, tick), "the next tick is near");
        }
        ticker.computes();
        ticker.met();
        assert!(reaches(&ticker, 100), "ticks stay near where a guest computes");
    }

    #[test]
    fn ticks_are_near_for_a_second_after_a_guest_computed() {
        let mut pace = Pace::default();
        assert!(pace.is_seldom(false, false) && pace.is_seldom(true, false), "a short call met a tick");
        assert!(!pace.is_seldom(true, true));
        let near = (0..2 * ACTIVE).take_while(|_| !pace.is_seldom(false, false)).count();
        assert_eq!(near as u32, ACTIVE - 1);
    }

    #[test]
    fn ticks_are_near_where_most_of_them_meet_a_guest() {
        let mut pace = Pace::default();
        let seldom: Vec<bool> = (0..=BUSY_FOR).map(|_| pace.is_seldom(true, false)).collect();
        assert_eq!(seldom.iter().filter(|seldom| **seldom).count(), BUSY as usize - 1, "{seldom:?}");
        assert!((0..=BUSY_FOR).any(|_| pace.is_seldom(false, false)), "until they do not");
    }
}
