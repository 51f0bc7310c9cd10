//! The metrics that a plugin keeps of its own: by name and labels, within a bound of how many.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dashmap::{DashMap, Entry};

use super::shortened;
use crate::monitor::count::{Times, TimesSum};

/// The prefix of their names.
const PREFIX: &str = "stile_plugin_own_";
const MAX_LABELS: usize = 8;
const MAX_NAME: usize = 64;
const MAX_LABEL: usize = 128;

/// The metrics of one plugin.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Series {
    known: DashMap<Key, Held>,
    /// `known.len()` looks at every shard.
    count: AtomicUsize,
}

/// A name as it is shown, and labels.
type Key = (Box<str>, Box<[(String, String)]>);

#[derive(Debug)]
enum Held {
    Counter(u64),
    Gauge(f64),
    Times(Box<Times>),
}

/// One line, or one histogram, of `/metrics`.
#[derive(Debug)]
pub struct OwnMetric {
    pub name: Box<str>,
    pub labels: Box<[(String, String)]>,
    pub value: OwnValue,
}

#[derive(Debug, PartialEq)]
pub enum OwnValue {
    Counter(u64),
    Gauge(f64),
    Times(TimesSum),
}

#[derive(Debug, PartialEq)]
pub(in crate::plugin) enum MetricError {
    Invalid(String),
    Full,
}

/// What a guest records.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) enum Step {
    Add(u64),
    Set(f64),
    /// In seconds.
    Observe(f64),
}

impl Step {
    /// What names of this kind end with, so that no two kinds share a name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Add(_) => "_total",
            Self::Set(_) => "",
            Self::Observe(_) => "_seconds",
        }
    }

    fn begin(self) -> Held {
        match self {
            Self::Add(_) => Held::Counter(0),
            Self::Set(_) => Held::Gauge(0.0),
            Self::Observe(_) => Held::Times(Box::default()),
        }
    }
}

impl Series {
    /// `bound` is how many sets of labels there may be in all.
    pub(in crate::plugin) fn record(
        &self,
        bound: usize,
        name: &str,
        labels: Vec<(String, String)>,
        step: Step,
    ) -> Result<(), MetricError> {
        let key = (full_name(name, step)?, checked(labels)?);
        if let Some(mut held) = self.known.get_mut(&key) {
            return held.add(step);
        }
        match self.known.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().add(step),
            Entry::Vacant(entry) => {
                if self.count.fetch_add(1, Relaxed) >= bound {
                    self.count.fetch_sub(1, Relaxed);
                    return Err(MetricError::Full);
                }
                entry.insert(step.begin()).add(step)
            }
        }
    }

    /// All of them, by name and labels.
    pub(in crate::plugin) fn all(&self) -> Vec<OwnMetric> {
        let tell = |entry: dashmap::mapref::multiple::RefMulti<'_, Key, Held>| {
            let (name, labels) = entry.key().clone();
            let value = match entry.value() {
                Held::Counter(n) => OwnValue::Counter(*n),
                Held::Gauge(value) => OwnValue::Gauge(*value),
                Held::Times(times) => OwnValue::Times(TimesSum::of([&**times].into_iter())),
            };
            OwnMetric { name, labels, value }
        };
        let mut all: Vec<_> = self.known.iter().map(tell).collect();
        all.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        all
    }
}

impl Held {
    fn add(&mut self, step: Step) -> Result<(), MetricError> {
        match (self, step) {
            (Self::Counter(n), Step::Add(by)) => *n = n.saturating_add(by),
            (Self::Gauge(value), Step::Set(new)) if new.is_finite() => *value = new,
            (Self::Times(times), Step::Observe(seconds)) => {
                let time = std::time::Duration::try_from_secs_f64(seconds)
                    .map_err(|_| MetricError::Invalid(format!("{seconds} is no time")))?;
                times.add(time);
            }
            (_, Step::Set(value)) => return Err(MetricError::Invalid(format!("{value} is no value"))),
            // Names of different kinds are different.
            _ => {}
        }
        Ok(())
    }
}

fn full_name(name: &str, step: Step) -> Result<Box<str>, MetricError> {
    const OF_OTHERS: [&str; 5] = ["_total", "_seconds", "_bucket", "_sum", "_count"];
    let suffix = step.suffix();
    let stem = if suffix.is_empty() { name } else { name.strip_suffix(suffix).unwrap_or(name) };
    if !is_name(stem) || OF_OTHERS.iter().any(|other| stem.ends_with(other)) {
        return Err(MetricError::Invalid(format!("\"{}\" is no name of a metric of this kind", shortened(name))));
    }
    Ok([PREFIX, stem, suffix].concat().into())
}

fn checked(mut labels: Vec<(String, String)>) -> Result<Box<[(String, String)]>, MetricError> {
    let invalid = || MetricError::Invalid("no labels that a metric may have".to_owned());
    // Before anything that takes longer the more there are.
    if labels.len() > MAX_LABELS {
        return Err(invalid());
    }
    labels.sort();
    let twice = labels.windows(2).any(|two| two[0].0 == two[1].0);
    let reserved = |name: &str| ["plugin", "le", "quantile"].contains(&name);
    let right = |(name, value): &(String, String)| is_name(name) && !reserved(name) && value.len() <= MAX_LABEL;
    if twice || !labels.iter().all(right) {
        return Err(invalid());
    }
    Ok(labels.into())
}

/// `[a-z][a-z0-9_]*`, not too long.
fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= MAX_NAME && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_kind_and_labels_are_checked() {
        let series = Series::default();
        let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (name, step) in [
            ("hits", Step::Add(2)),
            ("hits_total", Step::Add(1)),
            ("hits", Step::Set(1.5)),
            ("hits", Step::Observe(0.002)),
        ] {
            series.record(9, name, label("kind", "a\"b"), step).expect("a metric");
        }
        let told: Vec<_> = series.all().into_iter().map(|metric| (metric.name, metric.value)).collect();
        assert_eq!(told[0], ("stile_plugin_own_hits".into(), OwnValue::Gauge(1.5)));
        assert!(matches!(&told[1], (name, OwnValue::Times(_)) if &**name == "stile_plugin_own_hits_seconds"));
        assert_eq!(told[2], ("stile_plugin_own_hits_total".into(), OwnValue::Counter(3)));
        for (name, labels, step) in [
            ("", vec![], Step::Add(1)),
            ("Hits", vec![], Step::Add(1)),
            ("hits_total", vec![], Step::Set(1.0)),
            ("hits_bucket", vec![], Step::Set(1.0)),
            ("hits", label("le", "1"), Step::Add(1)),
            ("hits", label("plugin", "other"), Step::Add(1)),
            ("hits", [label("a", "1"), label("a", "2")].concat(), Step::Add(1)),
            ("hits", vec![], Step::Set(f64::NAN)),
            ("hits", vec![], Step::Observe(-1.0)),
        ] {
            let refused = series.record(9, name, labels, step);
            assert!(matches!(refused, Err(MetricError::Invalid(_))), "{name} {step:?}: {refused:?}");
        }
    }

    #[test]
    fn there_are_no_more_than_the_bound() {
        let series = Series::default();
        for n in 0..3 {
            series.record(3, &format!("m{n}"), Vec::new(), Step::Add(1)).expect("room");
        }
        assert_eq!(series.record(3, "m3", Vec::new(), Step::Add(1)), Err(MetricError::Full));
        assert_eq!(series.record(3, "m0", Vec::new(), Step::Add(1)), Ok(()));
    }
}
