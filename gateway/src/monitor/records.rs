//! Which records there are: one per set of label values. They outlive the generation that asked for them, so that no
//! reload takes a count back. Their number is bounded: those of what is gone give way to new ones, and what finds no room
//! shares the record called `other`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::record::{Record, RouteRecord, ServiceRecord};
use crate::filter::{FilterRecord, PluginRecord};

/// The value of every label of what found no place.
pub const OTHER: &str = "other";

/// All records of one gateway.
#[derive(Debug)]
pub struct Records {
    /// By route and service; both are empty for what no route matched.
    pub routes: Family<2, RouteRecord>,
    pub services: Family<1, ServiceRecord>,
    /// By plugin, revision and route.
    pub filters: Family<3, FilterRecord>,
    pub plugins: Family<1, PluginRecord>,
}

/// The records of one kind.
#[derive(Debug)]
pub struct Family<const N: usize, R> {
    /// 0 if nothing is to be counted.
    workers: usize,
    bound: usize,
    known: Mutex<BTreeMap<Labels<N>, Arc<R>>>,
}

pub type Labels<const N: usize> = [Arc<str>; N];

impl Records {
    /// For so many workers, with room for `bound` label sets in each family; for no workers nothing is counted.
    pub fn new(workers: usize, bound: usize) -> Self {
        Self {
            routes: Family::new(workers, bound),
            services: Family::new(workers, bound),
            filters: Family::new(workers, bound),
            plugins: Family::new(workers, bound),
        }
    }

    /// Label sets that there is room for in each family.
    pub fn bound(&self) -> usize {
        self.routes.bound
    }

    /// Whether they are made for this.
    pub fn are_for(&self, workers: usize, bound: usize) -> bool {
        (self.routes.workers, self.routes.bound) == (workers, bound)
    }
}

impl<const N: usize, R: Record> Family<N, R> {
    fn new(workers: usize, bound: usize) -> Self {
        Self { workers, bound, known: Mutex::default() }
    }

    /// The record of these label values, an old one if there is one.
    pub fn of(&self, labels: [&Arc<str>; N]) -> Arc<R> {
        let labels = labels.map(Arc::clone);
        let mut known = self.known();
        if let Some(record) = known.get(&labels) {
            return Arc::clone(record);
        }
        if known.len() >= self.bound {
            // Those of resources that are gone, first.
            known.retain(|_, record| Arc::strong_count(record) > 1);
        }
        let labels = if known.len() < self.bound { labels } else { [(); N].map(|()| OTHER.into()) };
        Arc::clone(known.entry(labels).or_insert_with(|| Arc::new(R::new(self.workers))))
    }

    /// All of them, by label values.
    pub fn all(&self) -> Vec<(Labels<N>, Arc<R>)> {
        self.known().iter().map(|(labels, record)| (labels.clone(), Arc::clone(record))).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Labels<N>, Arc<R>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(family: &Family<1, ServiceRecord>) -> Vec<String> {
        family.all().iter().map(|([name], _)| name.to_string()).collect()
    }

    #[test]
    fn a_record_is_found_again_and_what_is_beyond_the_bound_is_other() {
        let family = Family::<1, ServiceRecord>::new(1, 2);
        let of = |name: &str| family.of([&name.into()]);
        let (a, b, c, d) = (of("a"), of("b"), of("c"), of("d"));
        assert!(Arc::ptr_eq(&a, &of("a")) && Arc::ptr_eq(&c, &d) && !Arc::ptr_eq(&a, &b));
        assert_eq!(names(&family), ["a", "b", "other"]);
    }

    #[test]
    fn what_is_gone_gives_way_once_there_is_no_room() {
        let family = Family::<1, ServiceRecord>::new(1, 2);
        let of = |name: &str| family.of([&name.into()]);
        let (a, _) = (of("a"), of("b"));
        assert_eq!(names(&family), ["a", "b"], "kept as long as there is room");
        let c = of("c");
        assert_eq!(names(&family), ["a", "c"]);
        drop((a, c));
    }

    #[test]
    fn without_workers_nothing_is_counted() {
        let record = Family::<1, ServiceRecord>::new(0, 2).of([&"a".into()]);
        assert!(record.counts.of(crate::worker::WorkerId(0)).is_none());
    }
}
