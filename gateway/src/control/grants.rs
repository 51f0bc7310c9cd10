//! Grants that come through the Admin API: kept in the store one by one, looked up in `access` by who has them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Control, View, Work,
    audit::{Action, Done},
    consumers::{ConsumerError, each},
};
use crate::{
    access::{Holder, Holdings},
    config::{scalar::is_name, schema},
    snapshot::compile::products,
    store::{Commit, Store, StoreError},
};

pub(super) const GRANTS: &str = "grant/";
/// Grants that a consumer may have, or a group.
const MAX_GRANTS: usize = 100;
/// Stands for each version.
pub const EACH: &str = "*";

/// Who has a grant, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    Consumer(String),
    Group(String),
}

/// What is granted of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    pub scopes: Vec<String>,
    pub quotas: schema::Quotas,
}

/// A grant to be made, changed, or taken away.
#[derive(Debug)]
pub struct Wish {
    pub whose: Whose,
    pub api: String,
    /// None is each version.
    pub version: Option<String>,
    /// None takes it away.
    pub terms: Option<Terms>,
    /// The name of the token that is used.
    pub by: Arc<str>,
}

impl Whose {
    pub fn holder(&self) -> Holder<'_> {
        match self {
            Self::Consumer(name) => Holder::Consumer(name),
            Self::Group(name) => Holder::Group(name),
        }
    }

    fn prefix(&self) -> String {
        format!("{GRANTS}{}/{}/", self.holder().kind(), self.holder().name())
    }
}

impl Control {
    /// What a consumer or a group may use by itself, by API and version.
    pub async fn grants(&self, whose: &Whose) -> Result<Vec<schema::Grant>, ConsumerError> {
        if let Whose::Consumer(name) = whose {
            self.consumer(name).await?;
        }
        let mut all = of_file(&self.view(), whose);
        all.extend(of_store(&self.store, whose).await?);
        Ok(all)
    }

    /// Makes, changes or takes away one; true if it is new. It counts from the next request on.
    pub async fn change_grant(self: &Arc<Self>, wish: Wish) -> Result<bool, ConsumerError> {
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            let Wish { whose, api, version, terms, by } = wish;
            this.may_be_granted(&work, &whose).await?;
            let key = format!("{}{api}/{}", whose.prefix(), version.as_deref().unwrap_or(EACH));
            let before = this.store.get(&key).await?.map(|entry| entry.json::<Terms>()).transpose()?;
            let mut all = of_store(&this.store, &whose).await?;
            all.retain(|grant| (&grant.api, &grant.version) != (&api, &version));
            let mut commit = Commit::new();
            match &terms {
                Some(terms) => {
                    let mistakes = mistakes(&this.view(), &api, version.as_deref(), terms);
                    if !mistakes.is_empty() {
                        return Err(ConsumerError::Invalid(mistakes));
                    }
                    if all.len() >= MAX_GRANTS {
                        return Err(ConsumerError::Conflict(format!("there may be {MAX_GRANTS} grants, no more")));
                    }
                    commit = commit.put(&*key, json!(terms).to_string());
                    let Terms { scopes, quotas } = terms.clone();
                    all.push(schema::Grant { api: api.clone(), version: version.clone(), scopes, quotas });
                }
                None if before.is_none() => return Err(ConsumerError::UnknownGrant(name(&whose), api)),
                None => commit = commit.delete(&*key),
            }
            let mut held = work.credentials.clone();
            held.set_grants(whose.holder(), all.iter().map(products::grant).collect());
            let is_new = before.is_none();
            let done = Done {
                by: Arc::clone(&by),
                action: if terms.is_some() { Action::Put } else { Action::Delete },
                kind: "grants",
                name: key[GRANTS.len()..].to_owned(),
                before: before.map(|terms| json!(terms)),
                after: terms.map(|terms| json!(terms)),
            };
            this.consumers_changed(&mut work, commit, &by, vec![done], held).await?;
            Ok(is_new)
        })
        .await
    }

    /// Whoever is in the file is granted there.
    async fn may_be_granted(&self, work: &Work, whose: &Whose) -> Result<(), ConsumerError> {
        match whose {
            Whose::Consumer(name) if self.consumer(name).await?.revision.is_none() => {
                Err(ConsumerError::OfFile(name.clone()))
            }
            Whose::Group(name) if !is_name(name) => {
                let message = format!("\"{}\" is no name", name.escape_debug());
                Err(ConsumerError::Invalid(vec![("name".to_owned(), message)]))
            }
            Whose::Group(name) if work.layers.config().groups.iter().any(|group| group.name == *name) => {
                Err(ConsumerError::Conflict(format!("group \"{name}\" is in the configuration file: change it there")))
            }
            _ => Ok(()),
        }
    }

    /// Takes all grants of one away, in a commit that is to be made.
    pub(super) async fn without_grants(
        &self,
        whose: &Whose,
        held: &mut Holdings,
        mut commit: Commit,
    ) -> Result<Commit, StoreError> {
        for entry in self.store.list_all(&whose.prefix()).await?.entries {
            commit = commit.delete(entry.key);
        }
        held.set_grants(whose.holder(), Vec::new());
        Ok(commit)
    }
}

/// Adds all grants of a store to what is held.
pub(super) async fn stored(store: &Store, held: &mut Holdings) -> Result<(), StoreError> {
    let mut all: BTreeMap<Whose, Vec<schema::Grant>> = BTreeMap::new();
    each(store, GRANTS, |entry| {
        let corrupt = || StoreError::Corrupt(entry.key.clone(), "it does not say whose grant it is".to_owned());
        let (kind, rest) = entry.key[GRANTS.len()..].split_once('/').ok_or_else(corrupt)?;
        let (name, what) = rest.split_once('/').ok_or_else(corrupt)?;
        let whose = match kind {
            "consumer" => Whose::Consumer(name.to_owned()),
            "group" => Whose::Group(name.to_owned()),
            _ => return Err(corrupt()),
        };
        all.entry(whose).or_default().push(grant(what, entry.json()?).ok_or_else(corrupt)?);
        Ok(())
    })
    .await?;
    for (whose, grants) in all {
        held.set_grants(whose.holder(), grants.iter().map(products::grant).collect());
    }
    Ok(())
}

fn of_file(view: &View, whose: &Whose) -> Vec<schema::Grant> {
    let config = view.layers.config();
    let found = match whose {
        Whose::Consumer(name) => config.consumers.iter().find(|it| it.name == *name).map(|it| &it.grants),
        Whose::Group(name) => config.groups.iter().find(|it| it.name == *name).map(|it| &it.grants),
    };
    found.cloned().unwrap_or_default()
}

async fn of_store(store: &Store, whose: &Whose) -> Result<Vec<schema::Grant>, StoreError> {
    let prefix = whose.prefix();
    let mut all = Vec::new();
    for entry in store.list_all(&prefix).await?.entries {
        all.extend(grant(&entry.key[prefix.len()..], entry.json()?));
    }
    Ok(all)
}

/// Of the last two parts of its key.
fn grant(what: &str, Terms { scopes, quotas }: Terms) -> Option<schema::Grant> {
    let (api, version) = what.split_once('/')?;
    let version = (version != EACH).then(|| version.to_owned());
    Some(schema::Grant { api: api.to_owned(), version, scopes, quotas })
}

fn mistakes(view: &View, api: &str, version: Option<&str>, terms: &Terms) -> Vec<(String, String)> {
    let mut mistakes = Vec::new();
    let found = view.layers.config().apis.iter().find(|it| it.name == *api);
    let is_there = |version: &str| found.is_some_and(|api| api.versions.iter().any(|it| it.name == *version));
    if found.is_none() {
        mistakes.push(("api".to_owned(), format!("there is no API \"{}\"", api.escape_debug())));
    } else if let Some(version) = version.filter(|version| !is_there(version)) {
        let message = format!("API \"{api}\" has no version \"{}\"", version.escape_debug());
        mistakes.push(("version".to_owned(), message));
    }
    for (n, scope) in terms.scopes.iter().enumerate() {
        if scope.is_empty() || scope.len() > 128 || scope.contains(char::is_whitespace) {
            mistakes.push((format!("scopes[{n}]"), format!("\"{}\" is no scope", scope.escape_debug())));
        }
    }
    mistakes
}

fn name(whose: &Whose) -> String {
    format!("{} \"{}\"", whose.holder().kind(), whose.holder().name())
}
