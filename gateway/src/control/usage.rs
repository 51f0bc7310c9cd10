//! Usage of APIs by day, version and consumer: taken over from `access` every few seconds, kept in the store, asked for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::time::interval;

use super::Control;
use crate::{
    access::Used,
    store::{Commit, StoreError},
};

const USAGE: &str = "usage/";
const EVERY: Duration = Duration::from_secs(5);
/// For how long it is kept: thirteen months.
const KEPT: Duration = Duration::from_secs(400 * 86_400);
/// Entries that one answer looks at.
const AT_ONCE: usize = 10_000;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Days, such as `2026-01-31`, both included.
    pub from: Option<String>,
    pub to: Option<String>,
    pub api: Option<String>,
    pub version: Option<String>,
    pub consumer: Option<String>,
    /// Where the answer before ended.
    pub after: Option<String>,
    pub limit: usize,
}

/// Some of it, by day, and where the next part begins if there is more.
#[derive(Debug)]
pub struct Told {
    pub items: Vec<Value>,
    pub next: Option<String>,
}

impl Control {
    /// Takes usage over, again and again, and lets go of what is too old.
    pub async fn attend_usage(self: &Arc<Self>) {
        let mut interval = interval(EVERY);
        let mut swept = String::new();
        loop {
            interval.tick().await;
            let today = day(SystemTime::now());
            let result = match self.write_usage().await {
                Ok(()) if swept != today => self.sweep_usage().await,
                result => result,
            };
            match result {
                Ok(()) => swept = today,
                Err(error) => tracing::error!("usage cannot be written: {error}"),
            }
        }
    }

    /// Takes over what was used since it was last done. To its end, although who asked may leave.
    pub async fn write_usage(self: &Arc<Self>) -> Result<(), StoreError> {
        let this = Arc::clone(self);
        self.tasks.spawn(async move { this.take_usage().await }).await.unwrap_or(Err(StoreError::Ended))
    }

    async fn take_usage(&self) -> Result<(), StoreError> {
        let _turn = self.usage.lock().await;
        let usages = self.live.load().access.usages.clone();
        let (taken, today) = (usages.take(), day(SystemTime::now()));
        if taken.is_empty() {
            return Ok(());
        }
        let added = async {
            let mut commit = Commit::new();
            for (key, used) in &taken {
                let key = format!("{USAGE}{today}/{key}");
                let before = match self.store.get(&key).await? {
                    Some(entry) => entry.json()?,
                    None => Used::default(),
                };
                commit = commit.put(key, json!(before.plus(used)).to_string());
            }
            self.store.commit(commit).await
        };
        let added = added.await;
        if added.is_err() {
            taken.iter().for_each(|(key, used)| usages.put_back(key, used));
        }
        added.map(drop)
    }

    async fn sweep_usage(&self) -> Result<(), StoreError> {
        let oldest = SystemTime::now().checked_sub(KEPT).map(day).unwrap_or_default();
        loop {
            let entries = self.store.list(USAGE, None, AT_ONCE).await?.entries;
            let old: Vec<_> = entries.into_iter().filter(|entry| entry.key[USAGE.len()..] < *oldest).collect();
            if old.is_empty() {
                return Ok(());
            }
            self.store.commit(old.iter().fold(Commit::new(), |commit, entry| commit.delete(&*entry.key))).await?;
        }
    }

    /// What was used until now.
    pub async fn usage(self: &Arc<Self>, asked: &Asked) -> Result<Told, StoreError> {
        self.write_usage().await?;
        let start = asked.after.clone().or_else(|| asked.from.clone());
        let mut after = start.map(|start| format!("{USAGE}{start}"));
        let mut items = Vec::new();
        loop {
            let entries = self.store.list(USAGE, after.as_deref(), AT_ONCE).await?.entries;
            for entry in &entries {
                let place = &entry.key[USAGE.len()..];
                let mut parts = place.splitn(4, '/');
                let (Some(day), Some(api), Some(version), Some(consumer)) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    continue;
                };
                if asked.to.as_deref().is_some_and(|to| day > to) {
                    return Ok(Told { items, next: None });
                }
                let wanted = [(&asked.api, api), (&asked.version, version), (&asked.consumer, consumer)];
                if !wanted.iter().all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is)) {
                    continue;
                }
                let Used { requests, refused, failed, received, sent } = entry.json()?;
                items.push(json!({
                    "day": day, "api": api, "version": version, "consumer": consumer,
                    "requests": requests, "refused": refused, "failed": failed, "received": received, "sent": sent,
                }));
                if items.len() >= asked.limit {
                    return Ok(Told { items, next: Some(place.to_owned()) });
                }
            }
            match entries.last() {
                Some(last) if entries.len() == AT_ONCE => after = Some(last.key.clone()),
                _ => return Ok(Told { items, next: None }),
            }
        }
    }
}

/// As a calendar writes it, in UTC.
fn day(time: SystemTime) -> String {
    let mut day = humantime::format_rfc3339_seconds(time).to_string();
    day.truncate(10);
    day
}
