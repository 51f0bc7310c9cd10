//! A file with a list of endpoints, looked at every second.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::time::sleep;

use super::Told;
use crate::{config, upstream::Member};

const EVERY: Duration = Duration::from_secs(1);

pub(super) struct File {
    path: PathBuf,
    /// As it was read last.
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    address: SocketAddr,
    id: Option<Box<str>>,
    #[serde(default = "one")]
    weight: u16,
    #[serde(default)]
    metadata: BTreeMap<Box<str>, Box<str>>,
}

impl File {
    pub(super) fn new(path: &std::path::Path) -> Self {
        Self { path: path.to_owned(), text: None }
    }

    /// Waits until it is another than it was.
    pub(super) async fn next(&mut self) -> Result<Told, String> {
        loop {
            let read = tokio::fs::read_to_string(&self.path).await;
            let text = read.map_err(|error| format!("cannot read {}: {error}", self.path.display()))?;
            if self.text.as_ref() == Some(&text) {
                sleep(EVERY).await;
                continue;
            }
            let members = self.members(&text)?;
            self.text = Some(text);
            return Ok(Told { members, wait: EVERY });
        }
    }

    fn members(&self, text: &str) -> Result<Vec<Member>, String> {
        let value = config::plain(&self.path, text).map_err(|errors| errors.to_string())?;
        let listed: Vec<Listed> =
            serde_json::from_value(value).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let member = |Listed { address, id, weight, metadata }| {
            let plain = Member::of(address, weight);
            Member { id: id.map_or_else(|| Arc::clone(&plain.id), Arc::from), metadata: metadata.into(), ..plain }
        };
        let members: Vec<Member> = listed.into_iter().map(member).collect();
        let mut seen = HashSet::new();
        match members.iter().find(|member| !seen.insert(&member.id)) {
            Some(twice) => Err(format!("{}: \"{}\" is there twice", self.path.display(), twice.id)),
            None => Ok(members),
        }
    }
}

fn one() -> u16 {
    1
}
