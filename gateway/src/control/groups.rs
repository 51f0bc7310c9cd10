//! Groups of consumers: there is no more to one than who is in it and what it may use.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Control, StoreError,
    consumers::{CONSUMERS, Stored, each},
    grants,
};

/// A group, with how many consumers are in it and how many grants they have by it.
#[derive(Debug, Default, Serialize)]
pub struct Group {
    pub consumers: usize,
    pub grants: usize,
}

impl Control {
    /// By name: those that the file names or the store grants something, and those that a consumer says it is in. Every consumer is read
    /// for it.
    pub async fn groups(&self) -> Result<BTreeMap<String, Group>, StoreError> {
        let view = self.view();
        let config = view.layers.config();
        let mut all: BTreeMap<String, Group> = BTreeMap::new();
        for group in config.groups.iter().cloned().chain(grants::groups(&self.store).await?) {
            all.entry(group.name).or_default().grants += group.grants.len();
        }
        let mut enter = |groups: Vec<String>| {
            // One that is named twice is one.
            for group in BTreeSet::from_iter(groups) {
                all.entry(group).or_default().consumers += 1;
            }
        };
        config.consumers.iter().for_each(|consumer| enter(consumer.groups.clone()));
        each(&self.store, CONSUMERS, |entry| {
            let Stored { groups } = entry.json()?;
            enter(groups);
            Ok(())
        })
        .await?;
        Ok(all)
    }
}
