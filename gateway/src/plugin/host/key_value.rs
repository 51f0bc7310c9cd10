//! What a plugin remembers: values by key, some for a time, all of them within a bound. Shared by workers; each operation
//! holds the lock of one shard, never across an await.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use tokio::time::Instant;

/// Bytes of a key.
const MAX_KEY: usize = 1024;
/// What an entry is counted with beside its key and value.
const OVERHEAD: usize = 64;
/// Room is looked for among what has lapsed no more often than this, since that looks at everything.
const SWEEP: Duration = Duration::from_millis(100);

/// The values of one plugin.
#[derive(Debug)]
pub(in crate::plugin) struct Values {
    entries: DashMap<Box<str>, Value>,
    bytes: AtomicUsize,
    swept: Mutex<Instant>,
}

#[derive(Debug)]
struct Value {
    /// Shared, so that no lock is held while a guest is given a copy.
    bytes: Bytes,
    lapses: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin) enum ValueError {
    InvalidKey,
    Full,
    NotACounter,
}

impl Value {
    fn new(bytes: Vec<u8>, ttl: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { bytes: bytes.into(), lapses: ttl.and_then(|ttl| now.checked_add(ttl)) }
    }

    fn holds(&self) -> bool {
        self.lapses.is_none_or(|lapses| Instant::now() < lapses)
    }
}

impl Values {
    pub(in crate::plugin) fn new() -> Self {
        Self { entries: DashMap::new(), bytes: AtomicUsize::new(0), swept: Mutex::new(Instant::now()) }
    }

    pub(in crate::plugin) fn get(&self, key: &str) -> Option<Bytes> {
        self.entries.get(key).filter(|value| value.holds()).map(|value| value.bytes.clone())
    }

    /// `bound` is in bytes, here and below, for all that the plugin has.
    pub(in crate::plugin) fn set(
        &self,
        bound: usize,
        key: String,
        bytes: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), ValueError> {
        self.change(bound, key, |_| Ok(Some(Value::new(bytes, ttl)))).map(drop)
    }

    /// Whether what was there is `before`, and so is changed.
    pub(in crate::plugin) fn compare_and_swap(
        &self,
        bound: usize,
        key: String,
        before: Option<&[u8]>,
        bytes: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<bool, ValueError> {
        self.change(bound, key, |now| {
            let same = now.map(|now| &*now.bytes) == before;
            Ok(same.then(|| Value::new(bytes, ttl)))
        })
    }

    /// What the counter is then; it keeps the time to live that it was made with.
    pub(in crate::plugin) fn increment(
        &self,
        bound: usize,
        key: String,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, ValueError> {
        let mut after = 0;
        self.change(bound, key, |now| {
            let text = now.map_or(Ok("0"), |now| str::from_utf8(&now.bytes));
            let before = text.ok().and_then(|text| text.parse::<i64>().ok()).ok_or(ValueError::NotACounter)?;
            after = before.saturating_add(by);
            let bytes = after.to_string().into_bytes();
            Ok(Some(match now {
                Some(now) => Value { bytes: bytes.into(), lapses: now.lapses },
                None => Value::new(bytes, ttl),
            }))
        })?;
        Ok(after)
    }

    pub(in crate::plugin) fn delete(&self, key: &str) {
        if let Some((key, value)) = self.entries.remove(key) {
            self.bytes.fetch_sub(cost(&key, &value), Relaxed);
        }
    }

    /// Puts what `next` makes of what is there, if it makes something.
    fn change(
        &self,
        bound: usize,
        key: String,
        next: impl FnOnce(Option<&Value>) -> Result<Option<Value>, ValueError>,
    ) -> Result<bool, ValueError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(ValueError::InvalidKey);
        }
        let entry = self.entries.entry(key.into());
        let now = match &entry {
            Entry::Occupied(entry) => Some(entry.get()),
            Entry::Vacant(_) => None,
        };
        let before = now.map_or(0, |now| cost(entry.key(), now));
        let Some(value) = next(now.filter(|now| now.holds()))? else { return Ok(false) };
        let after = cost(entry.key(), &value);
        let bytes = self.bytes.fetch_add(after, Relaxed) + after;
        if bytes - before > bound {
            self.bytes.fetch_sub(after, Relaxed);
            return Err(ValueError::Full);
        }
        self.bytes.fetch_sub(before, Relaxed);
        match entry {
            Entry::Occupied(mut entry) => drop(entry.insert(value)),
            Entry::Vacant(entry) => drop(entry.insert(value)),
        }
        Ok(true)
    }

    /// Whether an entry of this many bytes finds room only after a sweep, and none was made a moment ago.
    pub(in crate::plugin) fn needs_sweep(&self, bound: usize, key: &str, value: usize) -> bool {
        self.bytes.load(Relaxed) + key.len() + value + OVERHEAD > bound && self.lapsed().is_some()
    }

    /// Removes the entries that have lapsed, unless that was done a moment ago. Looks at all of them, which takes too long for a
    /// worker.
    pub(in crate::plugin) fn sweep(&self) {
        let Some(mut swept) = self.lapsed() else { return };
        self.entries.retain(|key, value| {
            let holds = value.holds();
            if !holds {
                self.bytes.fetch_sub(cost(key, value), Relaxed);
            }
            holds
        });
        *swept = Instant::now();
    }

    /// The time of the last sweep, if another one may be made.
    fn lapsed(&self) -> Option<MutexGuard<'_, Instant>> {
        self.swept.try_lock().ok().filter(|swept| swept.elapsed() >= SWEEP)
    }
}

fn cost(key: &str, value: &Value) -> usize {
    key.len() + value.bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const BOUND: usize = 1000;

    fn key(name: &str) -> String {
        name.to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn values_lapse_and_counters_keep_their_time() {
        let values = Values::new();
        let second = Some(Duration::from_secs(1));
        values.set(BOUND, key("a"), b"1".to_vec(), second).expect("room");
        assert_eq!(values.increment(BOUND, key("n"), 2, second), Ok(2));
        advance(Duration::from_millis(999)).await;
        assert_eq!(values.increment(BOUND, key("n"), 3, second), Ok(5));
        assert_eq!(values.get("a").as_deref(), Some(&b"1"[..]));
        advance(Duration::from_millis(1)).await;
        assert_eq!((values.get("a"), values.get("n")), (None, None));
        assert_eq!(values.increment(BOUND, key("n"), 1, None), Ok(1));
        values.set(BOUND, key("a"), b"x".to_vec(), None).expect("room");
        assert_eq!(values.increment(BOUND, key("a"), 1, None), Err(ValueError::NotACounter));
        assert_eq!(values.set(BOUND, String::new(), Vec::new(), None), Err(ValueError::InvalidKey));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lapsed_makes_room() {
        let values = Values::new();
        let tenth = |n: usize| format!("{n:036}");
        for n in 0..10 {
            values
                .set(BOUND, tenth(n), Vec::new(), Some(Duration::from_secs(1)))
                .expect("room for ten of a hundred bytes");
        }
        assert_eq!(values.set(BOUND, tenth(10), Vec::new(), None), Err(ValueError::Full));
        assert_eq!(values.set(BOUND, tenth(9), b"x".to_vec(), None), Err(ValueError::Full), "it would be larger");
        values.set(BOUND, tenth(9), Vec::new(), None).expect("it is as large as before");
        advance(Duration::from_secs(1)).await;
        assert!(values.needs_sweep(BOUND, &tenth(10), 0));
        values.sweep();
        assert!(!values.needs_sweep(BOUND, &tenth(10), 0));
        for n in 10..19 {
            values.set(BOUND, tenth(n), Vec::new(), None).expect("nine have lapsed");
        }
        assert_eq!(values.set(BOUND, tenth(20), Vec::new(), None), Err(ValueError::Full));
        for n in 9..19 {
            values.delete(&tenth(n));
        }
        assert_eq!(values.bytes.load(Relaxed), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, u8),
        Swap(u8, Option<u8>, u8),
        Add(u8, i8),
        Delete(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..4_u8;
        let step = prop_oneof![
            (key.clone(), 0..3_u8).prop_map(|(key, value)| Step::Set(key, value)),
            (key.clone(), prop::option::of(0..3_u8), 0..3_u8).prop_map(|(key, old, new)| Step::Swap(key, old, new)),
            (key.clone(), any::<i8>()).prop_map(|(key, by)| Step::Add(key, by)),
            key.prop_map(Step::Delete),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn is_a_map(steps in steps()) {
            let (values, mut map) = (Values::new(), BTreeMap::<String, Vec<u8>>::new());
            let text = |value: u8| value.to_string().into_bytes();
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        values.set(BOUND, key.to_string(), text(value), None).expect("room");
                        map.insert(key.to_string(), text(value));
                    }
                    Step::Swap(key, old, new) => {
                        let old = old.map(text);
                        let swapped = values.compare_and_swap(BOUND, key.to_string(), old.as_deref(), text(new), None);
                        let same = map.get(&key.to_string()) == old.as_ref();
                        prop_assert_eq!(swapped, Ok(same));
                        if same {
                            map.insert(key.to_string(), text(new));
                        }
                    }
                    Step::Add(key, by) => {
                        let before = map.get(&key.to_string()).map_or(0, |value| {
                            String::from_utf8_lossy(value).parse::<i64>().expect("a number")
                        });
                        let after = before + i64::from(by);
                        prop_assert_eq!(values.increment(BOUND, key.to_string(), by.into(), None), Ok(after));
                        map.insert(key.to_string(), after.to_string().into_bytes());
                    }
                    Step::Delete(key) => {
                        values.delete(&key.to_string());
                        map.remove(&key.to_string());
                    }
                }
                for key in 0..4_u8 {
                    prop_assert_eq!(values.get(&key.to_string()).map(Vec::from), map.get(&key.to_string()).cloned());
                }
            }
        }
    }
}
