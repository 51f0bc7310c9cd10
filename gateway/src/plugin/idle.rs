//! Idle instances of one pool, by worker. It makes and ends none.

use super::instance::Instance;
use crate::worker::{PerWorker, WorkerId};

/// Idle instances of one (revision, configuration).
#[derive(Default)]
struct Shelf {
    /// The last used is the last.
    #[expect(clippy::vec_box, reason = "calls pass them on in their boxes")]
    instances: Vec<Box<Instance>>,
    /// The fewest instances since the last sweep: the pool did not need that many.
    unneeded: usize,
    /// A call took one since the last look for an instance to evict.
    used: bool,
}

pub(super) struct IdleInstances(PerWorker<Shelf>);

impl IdleInstances {
    pub(super) fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers, |_| Shelf::default()))
    }

    /// Takes the instance that this worker used last.
    pub(super) fn pop(&self, worker: WorkerId) -> Option<Box<Instance>> {
        self.0.of(worker).pop()
    }

    /// Takes an instance of any worker.
    pub(super) fn pop_any(&self) -> Option<Box<Instance>> {
        self.0.all().find_map(|mut shelf| shelf.pop())
    }

    pub(super) fn push(&self, worker: WorkerId, instance: Box<Instance>) {
        self.0.of(worker).instances.push(instance);
    }

    /// Takes one that the pool can spare. A worker's shelf that was used since the last look is passed over once.
    pub(super) fn evict(&self) -> Option<Box<Instance>> {
        self.0.all().find_map(|mut shelf| shelf.evict())
    }

    /// Takes the instances that no call needed since the last sweep.
    #[expect(clippy::vec_box, reason = "the shelf keeps them in their boxes")]
    pub(super) fn sweep(&self) -> Vec<Box<Instance>> {
        let mut unneeded = Vec::new();
        for mut shelf in self.0.all() {
            let surplus = shelf.unneeded;
            unneeded.extend(shelf.instances.drain(..surplus));
            shelf.unneeded = shelf.instances.len();
        }
        unneeded
    }
}

impl Shelf {
    fn pop(&mut self) -> Option<Box<Instance>> {
        let instance = self.instances.pop();
        self.unneeded = self.unneeded.min(self.instances.len());
        self.used = true;
        instance
    }

    fn evict(&mut self) -> Option<Box<Instance>> {
        let spared = self.unneeded > 0 || !std::mem::take(&mut self.used);
        if !spared || self.instances.is_empty() {
            return None;
        }
        self.unneeded = self.unneeded.saturating_sub(1);
        Some(self.instances.remove(0))
    }
}
