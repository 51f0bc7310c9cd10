//! Counting on the request path: each worker writes memory of its own, and whoever asks adds it up. A leaf.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        OnceLock,
        atomic::{
            AtomicU16, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;

use crate::worker::{PerWorker, WorkerId};

/// Upper bounds of the buckets of every histogram of times; what is longer falls into one more.
pub const BOUNDS: [Duration; 19] = {
    const MICROS: [u64; 19] = [
        10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000,
    ];
    let mut bounds = [Duration::ZERO; MICROS.len()];
    let mut n = 0;
    while n < bounds.len() {
        bounds[n] = Duration::from_micros(MICROS[n]);
        n += 1;
    }
    bounds
};

/// A number that one worker raises. Whoever else raises it at the same time may lose a step, so nobody else may.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// One `T` per worker, each on cache lines of its own, made when its worker first needs it: what nobody calls takes no
/// room. For no workers at all nothing is counted.
#[derive(Debug)]
pub struct Workers<T>(Box<[OnceLock<Box<CachePadded<T>>>]>);

/// Times, by bucket.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Count; BOUNDS.len() + 1],
    nanos: Count,
}

/// How many exchanges ended with which status: those that came first by themselves, what came later than the places last
/// as [`OTHER`].
#[derive(Debug, Default)]
pub struct Statuses {
    seen: [(AtomicU16, Count); 24],
    other: Count,
}

/// Stands for the statuses that found no place; the status of no answer.
pub const OTHER: u16 = 0;

/// A histogram added up over workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimesSum {
    /// Not cumulated.
    pub buckets: [u64; BOUNDS.len() + 1],
    pub total: Duration,
}

/// The last few of something, by worker.
#[derive(Debug)]
pub struct Last<T> {
    kept: usize,
    items: PerWorker<VecDeque<T>>,
}

impl Count {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    /// Of what was added by the same worker.
    pub fn subtract(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

impl<T: Default> Workers<T> {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// What this worker alone may write.
    pub fn of(&self, worker: WorkerId) -> Option<&T> {
        self.0.get(worker.0).map(|one| &***one.get_or_init(Box::default))
    }

    /// What there is, of all workers.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|one| one.get().map(|one| &***one))
    }

    pub fn sum(&self, part: impl Fn(&T) -> u64) -> u64 {
        self.all().map(part).sum()
    }
}

impl Times {
    pub fn add(&self, time: Duration) {
        self.buckets[BOUNDS.partition_point(|bound| *bound < time)].add(1);
        self.nanos.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl TimesSum {
    pub fn of<'a>(all: impl Iterator<Item = &'a Times>) -> Self {
        all.fold(Self::default(), |mut sum, times| {
            for (sum, bucket) in sum.buckets.iter_mut().zip(&times.buckets) {
                *sum += bucket.get();
            }
            sum.total += Duration::from_nanos(times.nanos.get());
            sum
        })
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of the bucket in which this share of all times ends; none if there is none, or it has no bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut below = 0;
        let found = self.buckets.iter().position(|bucket| {
            below += bucket;
            below >= wanted.max(1)
        });
        BOUNDS.get(found?).copied()
    }
}

impl Statuses {
    pub fn add(&self, status: u16) {
        for (code, count) in &self.seen {
            let seen = code.load(Relaxed);
            if seen == OTHER {
                code.store(status, Relaxed);
            }
            if seen == OTHER || seen == status {
                return count.add(1);
            }
        }
        self.other.add(1);
    }

    /// Each status that occurred and how often.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> BTreeMap<u16, u64> {
        let mut sums = BTreeMap::new();
        for statuses in all {
            // The count first: where it is seen, so is its status, which was written before it.
            let seen = statuses.seen.iter().map(|(code, count)| (count.get(), code.load(Relaxed)));
            let seen = seen.map(|(n, code)| (code, n));
            for (code, n) in seen.chain([(OTHER, statuses.other.get())]).filter(|(_, n)| *n > 0) {
                *sums.entry(code).or_insert(0) += n;
            }
        }
        sums
    }
}

impl<T: Clone> Last<T> {
    /// Keeps so many for each worker.
    pub fn new(workers: usize, kept: usize) -> Self {
        Self { kept, items: PerWorker::new(workers, |_| VecDeque::new()) }
    }

    pub fn push(&self, worker: WorkerId, item: T) {
        let mut items = self.items.of(worker);
        if items.len() == self.kept {
            items.pop_front();
        }
        items.push_back(item);
    }

    /// All of them, each worker's oldest first.
    pub fn all(&self) -> Vec<T> {
        self.items.all().flat_map(|items| items.iter().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_counts_by_itself_and_the_sum_is_of_all() {
        let counts = Workers::<Count>::new(3);
        assert_eq!(counts.all().count(), 0, "nothing is made before it is needed");
        counts.of(WorkerId(0)).expect("a worker").add(2);
        counts.of(WorkerId(2)).expect("a worker").add(5);
        assert_eq!((counts.sum(Count::get), counts.all().count()), (7, 2));
        assert!(counts.of(WorkerId(3)).is_none(), "no worker may write what is another's");
    }

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let times = Times::default();
        for micros in [0, 10, 11, 10_000_000, 10_000_001] {
            times.add(Duration::from_micros(micros));
        }
        let sum = TimesSum::of([&times, &times].into_iter());
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[18], sum.buckets[19]), (4, 2, 2, 2));
        assert_eq!((sum.count(), sum.total), (10, Duration::from_micros(2 * 20_000_022)));
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let times = Times::default();
        (0..98).for_each(|_| times.add(Duration::from_micros(20)));
        times.add(Duration::from_micros(300));
        times.add(Duration::from_secs(60));
        let sum = TimesSum::of([&times].into_iter());
        let bound = |micros| Some(Duration::from_micros(micros));
        assert_eq!((sum.quantile(0.5), sum.quantile(0.98), sum.quantile(0.99)), (bound(25), bound(25), bound(500)));
        assert_eq!((sum.quantile(1.0), TimesSum::default().quantile(0.5)), (None, None));
    }

    #[test]
    fn statuses_beyond_the_places_are_one() {
        let statuses = Statuses::default();
        (200..230).for_each(|status| statuses.add(status));
        statuses.add(200);
        let sums = Statuses::sum([&statuses].into_iter());
        assert_eq!((sums[&200], sums[&223], sums[&OTHER], sums.len()), (2, 1, 6, 25));
    }

    #[test]
    fn the_last_are_kept() {
        let last = Last::new(2, 2);
        for n in 0..4 {
            last.push(WorkerId(0), n);
        }
        last.push(WorkerId(1), 9);
        assert_eq!(last.all(), [2, 3, 9]);
    }
}
