//! Ending registrations whose time is over, unless so many have gone silent at once that it is not the servers who left.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::interval;

use super::Registry;
use crate::store::{Census, LeaseId, StoreError};

/// How often it is looked whose time is over.
const EVERY: Duration = Duration::from_millis(250);

/// When registrations are kept although their time is over: a network that is cut between all servers and this gateway looks
/// like all of them dying at once, and taking them all out of service would be the greater harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preservation {
    /// That many percent of all have been silent for two thirds of their time, or more; 100 is never.
    pub above_percent: u8,
    /// With fewer registrations than this each one that is over ends.
    pub least: usize,
}

impl Default for Preservation {
    fn default() -> Self {
        Self { above_percent: 50, least: 10 }
    }
}

impl Preservation {
    fn holds(self, all: usize, late: usize) -> bool {
        all >= self.least && late * 100 > all * usize::from(self.above_percent)
    }
}

impl Registry {
    /// Ends what is over, again and again.
    pub async fn attend(&self) {
        let mut interval = interval(EVERY);
        loop {
            interval.tick().await;
            if let Err(error) = self.expire().await {
                tracing::error!("registrations that are over cannot be ended: {error}");
            }
        }
    }

    /// Ends those registrations whose time is over, or holds them. When none is held any more, those that are silent have their
    /// whole time once more: the heartbeats of others have only just come through.
    pub(super) async fn expire(&self) -> Result<(), StoreError> {
        let Census { all, late, over } = self.store.census();
        let holds = !over.is_empty() && self.settings.load().preservation.holds(all, late.len());
        let held = self.held.swap(if holds { over.len() } else { 0 }, Relaxed);
        match (held > 0, holds) {
            (false, false) => return self.end(&over).await,
            (false, true) => {
                tracing::warn!("{} of {all} registrations are silent: those whose ttl is over are held", late.len());
            }
            (true, true) => {}
            (true, false) => {
                tracing::warn!("{} of {all} registrations are silent: each has its whole ttl once more", late.len());
                late.iter().for_each(|lease| drop(self.store.keep_alive(*lease)));
            }
        }
        Ok(())
    }

    /// What ends is told of as a lapse.
    async fn end(&self, over: &[LeaseId]) -> Result<(), StoreError> {
        // Those of before have been told of, or had another lease by then.
        if over.is_empty() {
            self.lapsing.clear();
        }
        for lease in over {
            self.lapsing.insert(*lease, ());
        }
        let ended = self.store.expire(over).await;
        // Some may have been kept alive in the meantime.
        for lease in over.iter().filter(|lease| self.store.left(**lease).is_some()) {
            self.lapsing.remove(lease);
        }
        ended
    }
}
