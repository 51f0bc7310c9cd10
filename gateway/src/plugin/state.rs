//! What a plugin keeps whatever its revision, its configurations and the generation: its values and its own metrics.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;

use super::host::{Lines, Series, Values};
pub use super::host::{OwnMetric, OwnValue};

/// The state of one plugin.
#[derive(Debug)]
pub struct State {
    pub(super) values: Values,
    pub(super) series: Series,
    pub(super) lines: Arc<Lines>,
    presences: DashMap<u32, Presence>,
}

/// Who is on one revision: each exchange and each pool of instances holds a clone of its part, and all there is to that is
/// how many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    /// Held by pools too, so that they can hand it to exchanges.
    pub(super) exchange: Arc<()>,
    pool: Arc<()>,
}

impl Presence {
    fn exchanges(&self) -> usize {
        Arc::strong_count(&self.exchange).saturating_sub(Arc::strong_count(&self.pool))
    }

    fn is_needed(&self) -> bool {
        Arc::strong_count(&self.exchange) > 1
    }
}

/// That of all plugins, by name.
#[derive(Debug, Default)]
pub struct States(DashMap<Arc<str>, Arc<State>>);

impl State {
    /// That of a revision.
    pub(super) fn presence(&self, revision: u32) -> Presence {
        self.presences.retain(|_, presence| presence.is_needed());
        self.presences.entry(revision).or_default().clone()
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
