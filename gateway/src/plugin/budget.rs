//! Revisions on trial: how many failures each may show before it is taken back. What was spent outlives generations.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::Revision;

/// A share of all exchanges, in hundredths.
pub const WHOLE: u8 = 100;

/// What runs of a plugin.
#[derive(Debug, Clone)]
pub struct Running {
    /// The last that is known to be good.
    pub revision: Revision,
    pub trial: Option<Trial>,
}

/// A revision that some exchanges get, or all of them, as long as it fails seldom.
#[derive(Debug, Clone)]
pub struct Trial {
    pub revision: Revision,
    /// How many of a hundred exchanges get it.
    pub percent: u8,
    /// Seconds since 1970.
    pub since: u64,
    pub budget: Arc<Budget>,
}

/// The failures of one trial.
#[derive(Debug)]
pub struct Budget {
    plugin: Arc<str>,
    revision: u32,
    /// Those since the window began.
    window: Mutex<(Instant, u32)>,
    exhausted: AtomicBool,
    tell: UnboundedSender<Exhausted>,
}

/// A trial has failed too often.
#[derive(Debug, Clone)]
pub struct Exhausted {
    pub plugin: Arc<str>,
    pub revision: u32,
    pub failures: u32,
}

impl Running {
    /// The revision that is running alone, or would be without the other.
    pub fn alone(revision: Revision) -> Self {
        Self { revision, trial: None }
    }

    /// That of most exchanges.
    pub fn leading(&self) -> &Revision {
        let whole = self.trial.as_ref().filter(|trial| trial.percent >= WHOLE);
        whole.map_or(&self.revision, |trial| &trial.revision)
    }

    /// The revisions that new exchanges get.
    pub fn serving(&self) -> impl Iterator<Item = &Revision> {
        let rest = self.trial.as_ref().is_none_or(|trial| trial.percent < WHOLE).then_some(&self.revision);
        rest.into_iter().chain(self.trial.as_ref().map(|trial| &trial.revision))
    }

    pub fn all(&self) -> impl Iterator<Item = &Revision> {
        std::iter::once(&self.revision).chain(self.trial.as_ref().map(|trial| &trial.revision))
    }
}

impl Budget {
    pub fn new(plugin: Arc<str>, revision: u32, tell: UnboundedSender<Exhausted>) -> Self {
        let window = Mutex::new((Instant::now(), 0));
        Self { plugin, revision, window, exhausted: AtomicBool::new(false), tell }
    }

    pub fn is_exhausted(&self) -> bool {
        self.exhausted.load(Relaxed)
    }

    /// One more failure, of which there may be so many within that time. Says whether a client may see it: the last one that
    /// may ends the trial, and any after it is not to be seen.
    pub fn spend(&self, allowed: u32, within: Duration) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_exhausted() {
            return false;
        }
        if window.0.elapsed() >= within {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        if window.1 >= allowed {
            self.exhausted.store(true, Relaxed);
            let (plugin, revision) = (Arc::clone(&self.plugin), self.revision);
            // Without a control plane nobody needs to know.
            let _ = self.tell.send(Exhausted { plugin, revision, failures: window.1 });
        }
        window.1 <= allowed
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc::unbounded_channel, time::advance};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn so_many_are_seen_and_the_last_ends_it() {
        for allowed in 0..4_u32 {
            let (tell, mut told) = unbounded_channel();
            let budget = Budget::new("p".into(), 2, tell);
            let seen = (0..10).filter(|_| budget.spend(allowed, MINUTE)).count();
            assert_eq!((seen, budget.is_exhausted()), (allowed as usize, true));
            let exhausted = told.try_recv().expect("it is told");
            assert_eq!((&*exhausted.plugin, exhausted.revision), ("p", 2));
            assert!(told.try_recv().is_err(), "once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_long_past_does_not_count() {
        let (tell, _told) = unbounded_channel();
        let budget = Budget::new("p".into(), 2, tell);
        for _ in 0..10 {
            assert!(budget.spend(2, MINUTE) && !budget.is_exhausted());
            advance(MINUTE).await;
        }
        assert!(budget.spend(2, MINUTE) && budget.spend(2, MINUTE));
        assert!(budget.is_exhausted());
    }
}
