//! What was taken of quotas outlives the process: written every few seconds and when the gateway stops, so that after a crash
//! the requests of the last seconds are forgotten, and nothing else.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use tokio::time::interval;

use super::{Control, consumers::each};
use crate::{
    access::{Meters, Reading},
    store::{Commit, Store, StoreError},
};

const METERS: &str = "meter/";
/// How much a crash may forget.
const EVERY: Duration = Duration::from_secs(5);
/// Meters that one commit writes.
const AT_ONCE: usize = 10_000;

/// What of the meters is in the store.
#[derive(Debug, Default)]
pub(super) struct Written(HashMap<Box<str>, Reading>);

/// Lets meters go on from what the store has of them.
pub(super) async fn resume(store: &Store, meters: &Meters) -> Result<Written, StoreError> {
    let mut written = Written::default();
    each(store, METERS, |entry| {
        let (key, reading) = (&entry.key[METERS.len()..], entry.json()?);
        meters.resume(key, reading);
        written.0.insert(key.into(), reading);
        Ok(())
    })
    .await?;
    Ok(written)
}

impl Control {
    /// Writes what is taken, again and again.
    pub async fn attend_meters(&self) {
        let mut interval = interval(EVERY);
        loop {
            interval.tick().await;
            if let Err(error) = self.write_meters().await {
                tracing::error!("what was taken of quotas cannot be written: {error}");
            }
        }
    }

    /// Writes what was taken since it was last written.
    pub async fn write_meters(&self) -> Result<(), StoreError> {
        let mut written = self.meters.lock().await;
        let now: HashMap<Box<str>, Reading> =
            self.live.load().access.meters.sweep(SystemTime::now()).into_iter().collect();
        let changed = now.iter().filter(|(key, reading)| written.0.get(*key) != Some(*reading));
        let mut changes: Vec<_> = changed.map(|(key, reading)| (key.clone(), Some(*reading))).collect();
        changes.extend(written.0.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), None)));
        for some in changes.chunks(AT_ONCE) {
            let commit = some.iter().fold(Commit::new(), |commit, (key, reading)| {
                let key = format!("{METERS}{key}");
                match reading {
                    Some(reading) => commit.put(key, serde_json::to_vec(reading).unwrap_or_default()),
                    None => commit.delete(key),
                }
            });
            self.store.commit(commit).await?;
            for (key, reading) in some {
                match reading {
                    Some(reading) => drop(written.0.insert(key.clone(), *reading)),
                    None => drop(written.0.remove(key)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{Access, Grant, Holder, Holdings, Product, Quotas},
        store::Lossy,
    };

    fn access() -> Access {
        let grant = Grant {
            api: "a".into(),
            version: None,
            scopes: Box::default(),
            quotas: Quotas([None, None, None, Some(5)]),
        };
        let mut held = Holdings::default();
        held.set_grants(Holder::Consumer("ann"), vec![grant]);
        Access::default().with_file(held)
    }

    fn left(access: &Access, now: SystemTime) -> u32 {
        let product =
            Product { api: "a".into(), version: "1".into(), retired: false, anonymous: false, scopes: Box::default() };
        access.admit(&product, Some(("ann", &[])), now).expect("room")[0].remaining
    }

    #[tokio::test]
    async fn a_crash_forgets_what_was_not_written_and_nothing_else() {
        let (disk, now) = (Lossy::default(), SystemTime::now());
        let control = crate::control::tests::over(Store::on(&disk).expect("a store")).await;
        let live = access().with_meters(&control.live.load().access.meters);
        assert_eq!((left(&live, now), left(&live, now)), (4, 3));
        control.write_meters().await.expect("room");
        assert_eq!(left(&live, now), 2, "of this nothing is written");
        drop(control);
        let store = Store::on(&disk.crash(&mut fastrand::Rng::with_seed(1))).expect("the same store");
        let control = crate::control::tests::over(store).await;
        let live = access().with_meters(&control.live.load().access.meters);
        assert_eq!(left(&live, now), 2);
    }
}
