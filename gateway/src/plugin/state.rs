//! What a plugin keeps whatever its revision, its configurations and the generation: its values and its own metrics.

use std::sync::Arc;

use dashmap::DashMap;

pub use super::host::{OwnMetric, OwnValue};
use super::host::{Series, Values};

/// The state of one plugin.
#[derive(Debug)]
pub struct State {
    pub(super) values: Values,
    pub(super) series: Series,
}

/// That of all plugins, by name.
#[derive(Debug, Default)]
pub struct States(DashMap<Arc<str>, Arc<State>>);

impl States {
    /// The state of this plugin, made if there is none.
    pub fn of(&self, plugin: &Arc<str>) -> Arc<State> {
        Arc::clone(&self.0.entry(Arc::clone(plugin)).or_default())
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
        Self { values: Values::new(), series: Series::default() }
    }
}
