//! What a plugin keeps whatever its revision, its configurations and the generation: its values and its own metrics.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;

use super::host::{Lines, Series, Values};
pub use super::host::{OwnMetric, OwnValue};
use crate::{exchange::Present, worker::WorkerId};

/// The state of one plugin.
#[derive(Debug)]
pub struct State {
    pub(super) values: Values,
    pub(super) series: Series,
    pub(super) lines: Arc<Lines>,
    presences: DashMap<u32, Arc<Presence>>,
}

/// Which exchanges are on one revision, by worker: each of them holds a clone of its worker's, and all there is to that is how many
/// there are.
#[derive(Debug)]
pub(super) struct Presence(Box<[Present]>);

impl Presence {
    fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Present::default()).collect())
    }

    /// For an exchange of this worker.
    pub(super) fn of(&self, worker: WorkerId) -> Present {
        Arc::clone(&self.0[worker.0 % self.0.len()])
    }

    fn exchanges(&self) -> usize {
        self.0.iter().map(|present| Arc::strong_count(present) - 1).sum()
    }
}

/// That of all plugins, by name.
#[derive(Debug, Default)]
pub struct States(DashMap<Arc<str>, Arc<State>>);

impl State {
    /// That of a revision, for a pool of its instances.
    pub(super) fn presence(&self, revision: u32, workers: usize) -> Arc<Presence> {
        self.presences.retain(|_, presence| Arc::strong_count(presence) > 1 || presence.exchanges() > 0);
        Arc::clone(&self.presences.entry(revision).or_insert_with(|| Arc::new(Presence::new(workers))))
    }

    /// How many exchanges are on a revision.
    pub fn exchanges(&self, revision: u32) -> usize {
        self.presences.get(&revision).map_or(0, |presence| presence.exchanges())
    }
}

impl States {
    /// The state of this plugin, made if there is none.
    pub fn of(&self, plugin: &Arc<str>) -> Arc<State> {
        Arc::clone(&self.0.entry(Arc::clone(plugin)).or_default())
    }

    /// Log lines of each plugin that were over its limit, by name.
    pub fn dropped_lines(&self) -> BTreeMap<Arc<str>, u64> {
        self.0.iter().map(|entry| (Arc::clone(entry.key()), entry.lines.dropped())).collect()
    }

    /// Lets go of those of plugins that are gone.
    pub fn sweep(&self, known: impl Fn(&str) -> bool) {
        self.0.retain(|plugin, _| known(plugin));
    }

    /// The metrics that plugins keep of their own, with whose they are.
    pub fn metrics(&self) -> Vec<(Arc<str>, OwnMetric)> {
        let mut all = Vec::new();
        for entry in &self.0 {
            all.extend(entry.series.all().into_iter().map(|metric| (Arc::clone(entry.key()), metric)));
        }
        all.sort_by(|(a, one), (b, other)| (&one.name, a, &one.labels).cmp(&(&other.name, b, &other.labels)));
        all
    }
}

impl Default for State {
    fn default() -> Self {
        Self { values: Values::new(), series: Series::default(), lines: Arc::default(), presences: DashMap::new() }
    }
}
