//! Slots for instances: how many instances of all plugins one engine holds at a time. An idle instance is evicted
//! whenever another pool needs its slot. It makes no instance.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    idle::IdleInstances,
    instance::{Instance, end},
};

/// Pools that are searched while the lock is held once.
const BATCH: usize = 64;

/// The slots of one engine. Only making and ending an instance takes its lock; a call that finds an idle instance does not.
pub(super) struct Slots {
    total: usize,
    /// Slots that waiting calls need beyond the free ones and those of instances that are ending.
    wanted: AtomicUsize,
    evicted: AtomicU64,
    queue: Mutex<Queue>,
    /// Probes have room of their own, for one at a time, so that a load never fails for want of it.
    probe: Arc<Semaphore>,
}

struct Queue {
    free: usize,
    /// Slots of evicted instances that have not ended yet.
    ending: usize,
    /// Waiting calls by their sequence numbers, and the sum of their slots.
    waiters: BTreeMap<u64, Waiter>,
    needed: usize,
    next: u64,
    pools: Vec<Weak<IdleInstances>>,
    /// The pool at which the next search for an idle instance begins.
    hand: usize,
}

struct Waiter {
    slots: usize,
    granted: oneshot::Sender<SlotPermit>,
}

/// Results of a search. Dropping either takes the lock of the queue, so a search leaves that to its caller.
#[derive(Default)]
struct Found {
    #[expect(clippy::vec_box, reason = "the shelves keep them in their boxes")]
    instances: Vec<Box<Instance>>,
    /// Pools whose owners dropped them during the search.
    abandoned: Vec<IdleInstances>,
}

/// The slots of one instance; dropping it frees them.
pub(super) struct SlotPermit {
    of: Arc<Slots>,
    slots: usize,
    is_evicted: bool,
    _probe: Option<OwnedSemaphorePermit>,
}

/// How many slots there are and how they are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotUse {
    pub total: usize,
    pub used: usize,
    /// Instances evicted since the start.
    pub evicted: u64,
}

impl Slots {
    pub(super) fn new(total: usize) -> Self {
        let queue =
            Queue { free: total, ending: 0, waiters: BTreeMap::new(), needed: 0, next: 0, pools: Vec::new(), hand: 0 };
        Self {
            total,
            wanted: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            queue: Mutex::new(queue),
            probe: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn usage(&self) -> SlotUse {
        SlotUse { total: self.total, used: self.total - self.queue().free, evicted: self.evicted.load(Relaxed) }
    }

    /// Lets the idle instances of a pool be evicted, for as long as the pool exists.
    pub(super) fn register(&self, pool: &Arc<IdleInstances>) {
        let mut queue = self.queue();
        if queue.pools.len() == queue.pools.capacity() {
            queue.pools.retain(|pool| pool.strong_count() > 0);
            // At least as many pools are registered before the next look.
            let live = queue.pools.len();
            queue.pools.reserve(live + 1);
        }
        queue.pools.push(Arc::downgrade(pool));
    }

    /// Takes free slots, unless other calls wait for some.
    pub(super) fn try_acquire(self: &Arc<Self>, slots: usize) -> Option<SlotPermit> {
        let mut queue = self.queue();
        if !queue.waiters.is_empty() || queue.free < slots {
            return None;
        }
        queue.free -= slots;
        Some(self.permit(slots, None))
    }

    /// Waits for slots, those of idle instances if no others are free. Callers get them in the order of their calls.
    pub(super) async fn acquire(self: &Arc<Self>, slots: usize) -> Option<SlotPermit> {
        let (granted, receiver) = oneshot::channel();
        let number = self.enqueue(Waiter { slots, granted });
        let _leaving = Leaving { slots: self, number };
        receiver.await.ok()
    }

    /// Waits for the room that probes have.
    pub(super) async fn acquire_for_probe(self: &Arc<Self>) -> Option<SlotPermit> {
        let probe = Arc::clone(&self.probe).acquire_owned().await.ok()?;
        Some(self.permit(0, Some(probe)))
    }

    /// Whether a call of another pool waits for the slot of an instance that would go idle now.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// Evicts this instance for a call that waits; gives it back if none does any more.
    pub(super) fn surrender(self: &Arc<Self>, mut instance: Box<Instance>) -> Option<Box<Instance>> {
        {
            let mut queue = self.queue();
            self.count_wanted(&queue);
            if !self.are_wanted() {
                return Some(instance);
            }
            self.evict(&mut queue, &mut instance);
        }
        end(instance);
        None
    }

    fn permit(self: &Arc<Self>, slots: usize, probe: Option<OwnedSemaphorePermit>) -> SlotPermit {
        SlotPermit { of: Arc::clone(self), slots, is_evicted: false, _probe: probe }
    }

    /// Adds a waiting call, searches instances to evict for it, and returns its sequence number.
    fn enqueue(self: &Arc<Self>, waiter: Waiter) -> u64 {
        let mut found = Found::default();
        let mut queue = self.queue();
        // Slots are wanted already if a search found too few: every instance that went idle since was surrendered.
        let is_searched = self.are_wanted();
        let number = queue.add(waiter);
        self.grant(&mut queue);
        // Twice around the pools: the first time passes over shelves that were used lately.
        let mut steps = if is_searched { 0 } else { 2 * queue.pools.len() };
        drop(queue);
        while steps > 0 && self.are_wanted() {
            let batch = steps.min(BATCH);
            self.search(&mut self.queue(), batch, &mut found);
            steps -= batch;
        }
        found.instances.into_iter().for_each(end);
        number
    }

    /// Grants waiting calls their slots, in their order, as far as there are free ones.
    fn grant(self: &Arc<Self>, queue: &mut Queue) {
        while let Some((number, waiter)) = queue.waiters.first_key_value() {
            let (number, slots) = (*number, waiter.slots);
            if !waiter.granted.is_closed() && queue.free < slots {
                break;
            }
            let Some(waiter) = queue.remove(number).filter(|waiter| !waiter.granted.is_closed()) else { continue };
            queue.free -= slots;
            if let Err(mut unused) = waiter.granted.send(self.permit(slots, None)) {
                // Dropping it would take the lock again.
                unused.slots = 0;
                queue.free += slots;
            }
        }
        self.count_wanted(queue);
    }

    /// Waiting calls look for idle instances only after this, so a call that makes one idle later sees that it is wanted.
    fn count_wanted(&self, queue: &Queue) {
        self.wanted.store(queue.needed.saturating_sub(queue.free + queue.ending), Relaxed);
    }

    /// Looks at some pools, from the hand on.
    fn search(&self, queue: &mut Queue, mut steps: usize, found: &mut Found) {
        while self.are_wanted() && steps > 0 && !queue.pools.is_empty() {
            steps -= 1;
            queue.hand %= queue.pools.len();
            let Some(pool) = queue.pools[queue.hand].upgrade() else {
                let hand = queue.hand;
                queue.pools.swap_remove(hand);
                continue;
            };
            while self.are_wanted()
                && let Some(mut instance) = pool.evict()
            {
                self.evict(queue, &mut instance);
                found.instances.push(instance);
            }
            // The pool's owner may have dropped it meanwhile.
            found.abandoned.extend(Arc::into_inner(pool));
            queue.hand += 1;
        }
    }

    fn evict(&self, queue: &mut Queue, instance: &mut Instance) {
        queue.ending += instance.mark_evicted();
        self.evicted.fetch_add(1, Relaxed);
        self.count_wanted(queue);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn add(&mut self, waiter: Waiter) -> u64 {
        let number = self.next;
        self.next += 1;
        self.needed += waiter.slots;
        self.waiters.insert(number, waiter);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        self.needed -= waiter.slots;
        Some(waiter)
    }
}

impl SlotPermit {
    /// Says that its instance ends for the sake of a waiting call; gives the number of slots that this frees.
    pub(super) fn mark_evicted(&mut self) -> usize {
        self.is_evicted = true;
        self.slots
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        if self.slots > 0 {
            let (slots, ending) = (self.slots, if self.is_evicted { self.slots } else { 0 });
            let mut queue = self.of.queue();
            queue.free += slots;
            queue.ending -= ending;
            self.of.grant(&mut queue);
        }
    }
}

/// Takes a call out of the queue that no longer waits.
struct Leaving<'a> {
    slots: &'a Arc<Slots>,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut queue = self.slots.queue();
        if queue.remove(self.number).is_some() {
            self.slots.grant(&mut queue);
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;

    use super::*;

    fn slots(total: usize) -> Arc<Slots> {
        Arc::new(Slots::new(total))
    }

    #[test]
    fn pools_that_are_gone_are_forgotten() {
        let slots = slots(1);
        let live: Vec<_> = (0..10).map(|_| Arc::new(IdleInstances::new(1))).collect();
        live.iter().for_each(|pool| slots.register(pool));
        for _ in 0..10_000 {
            slots.register(&Arc::new(IdleInstances::new(1)));
        }
        let queue = slots.queue();
        assert!(queue.pools.len() < 50, "{} pools", queue.pools.len());
        assert_eq!(queue.pools.iter().filter(|pool| pool.strong_count() > 0).count(), 10);
    }

    #[tokio::test]
    async fn a_call_that_leaves_is_not_waited_for() {
        let slots = slots(2);
        let taken = slots.try_acquire(1).expect("it is free");
        let mut first = Box::pin(slots.acquire(2));
        let mut second = pin!(slots.acquire(1));
        assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
        assert!(slots.are_wanted() && slots.try_acquire(1).is_none(), "calls get slots in their order");
        drop(first);
        assert!(!slots.are_wanted());
        let Poll::Ready(Some(granted)) = poll!(second.as_mut()) else { panic!("one slot is free") };
        drop((taken, granted));
        assert_eq!(slots.usage().used, 0);
        let queue = slots.queue();
        assert_eq!((queue.needed, queue.waiters.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_permit_that_nobody_takes_is_free_again() {
        let slots = slots(1);
        let taken = slots.try_acquire(1).expect("it is free");
        let mut waiting = Box::pin(slots.acquire(1));
        assert!(poll!(waiting.as_mut()).is_pending());
        drop(taken);
        assert_eq!(slots.usage().used, 1, "it is granted");
        drop(waiting);
        assert_eq!(slots.usage().used, 0);
    }

    #[tokio::test]
    async fn all_pools_are_searched_in_batches() {
        let slots = slots(1);
        let pools: Vec<_> = (0..3 * BATCH).map(|_| Arc::new(IdleInstances::new(1))).collect();
        pools.iter().for_each(|pool| slots.register(pool));
        let _taken = slots.try_acquire(1).expect("it is free");
        let mut waiting = pin!(slots.acquire(1));
        assert!(poll!(waiting.as_mut()).is_pending());
        assert_eq!(slots.queue().hand, 3 * BATCH, "twice around");
    }
}
