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
    time::Duration,
};

use wasmtime::EngineWeak;

/// How often a guest that computes gives way to its neighbours.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks that nobody needed after which it rests: an idle gateway should not wake a thousand times a second.
const QUIET: u32 = 100;

/// Whoever runs guest code says so here. The thread ends with the ticker.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    needed: AtomicBool,
    rests: AtomicBool,
    /// Ticks since the start.
    ticks: AtomicU64,
    thread: OnceLock<Thread>,
}

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self::default());
        let weak = Arc::downgrade(&ticker);
        let thread = thread::Builder::new().name("stile-epochs".into()).spawn(move || tick(&engine, &weak))?;
        let _ = ticker.thread.set(thread.thread().clone());
        Ok(ticker)
    }

    /// The number of the last tick.
    pub(super) fn now(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    /// Guest code is about to run, or has been running for a tick.
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
fn tick(engine: &EngineWeak, ticker: &Weak<Ticker>) {
    let mut quiet = 0;
    while let (Some(engine), Some(ticker)) = (engine.upgrade(), ticker.upgrade()) {
        ticker.rests.store(false, SeqCst);
        quiet = if ticker.needed.swap(false, SeqCst) { 0 } else { quiet + 1 };
        if quiet <= QUIET {
            // First: a guest that sees the epoch sees this as well.
            ticker.ticks.fetch_add(1, SeqCst);
            engine.increment_epoch();
            drop((engine, ticker));
            thread::sleep(TICK);
            continue;
        }
        quiet = 0;
        ticker.rests.store(true, SeqCst);
        // Who needed a tick before that is seen here; who needs one later sees that it rests.
        let needed = ticker.needed.load(SeqCst);
        drop((engine, ticker));
        if !needed {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
}
