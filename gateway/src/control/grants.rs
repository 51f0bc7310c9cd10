//! Grants that come through the Admin API: kept in the store one by one, looked up in `access` by who has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Control, View, Work,
    audit::{Action, Done},
    consumers::{ConsumerError, each},
};
use crate::{
    access::{Holder, Holdings},
    config::{
        Config,
        scalar::{NAME, SCOPE, is_name, is_scope},
        schema,
    },
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        match whose {
            Whose::Group(name) if all.is_empty() && !self.groups().await?.contains_key(name) => {
                Err(ConsumerError::UnknownGroup(name.clone()))
            }
            _ => Ok(all),
        }
    }

    /// Makes, changes or takes away one; true if it is new. It counts from the next request on.
    pub async fn change_grant(self: &Arc<Self>, wish: Wish) -> Result<bool, ConsumerError> {
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            let Wish { whose, api, version, terms, by } = wish;
            this.may_be_granted(&work, &whose).await?;
            let before = of_store(&this.store, &whose).await?;
            let is_it = |grant: &schema::Grant| (&grant.api, &grant.version) == (&api, &version);
            let was_there = before.iter().any(is_it);
            let mut after: Vec<_> = before.iter().filter(|grant| !is_it(grant)).cloned().collect();
            match terms {
                Some(Terms { scopes, quotas }) => {
                    after.push(schema::Grant { api, version, scopes, quotas });
                    let mistakes = mistakes(&after, after.len() - 1, this.view().layers.config());
                    if !mistakes.is_empty() {
                        return Err(ConsumerError::Invalid(mistakes));
                    }
                }
                None if !was_there => return Err(ConsumerError::UnknownGrant(name(&whose), api)),
                None => {}
            }
            if after.len() > MAX_GRANTS {
                return Err(ConsumerError::Conflict(format!("there may be {MAX_GRANTS} grants, no more")));
            }
            let mut held = work.credentials.clone();
            let (commit, done) = become_of(&whose, &before, &after, &mut held, &by, Commit::new());
            this.consumers_changed(&mut work, commit, &by, done, held).await?;
            Ok(!was_there)
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
                let message = format!("\"{}\" is no name: {NAME}", name.escape_debug());
                Err(ConsumerError::Invalid(vec![("name".to_owned(), message)]))
            }
            Whose::Group(name) if work.layers.config().groups.iter().any(|group| group.name == *name) => {
                Err(ConsumerError::Conflict(format!("group \"{name}\" is in the configuration file: change it there")))
            }
            _ => Ok(()),
        }
    }

    /// Why one may not have so many grants in the store.
    pub(super) fn ungrantable(&self, whose: &Whose, grants: usize) -> Option<String> {
        let name = whose.holder().name();
        let view = self.view();
        let is_of_file = |name: &str| view.layers.config().groups.iter().any(|group| group.name == *name);
        match whose {
            _ if grants > MAX_GRANTS => Some(format!("there may be {MAX_GRANTS} grants, no more")),
            _ if !is_name(name) => Some(format!("\"{}\" is no name: {NAME}", name.escape_debug())),
            Whose::Group(name) if grants > 0 && is_of_file(name) => {
                Some("the group is in the configuration file: change it there".to_owned())
            }
            _ => None,
        }
    }

    /// Plans that one who has grants in the store has these, or none any more.
    pub(super) async fn plan_grants(
        &self,
        whose: &Whose,
        after: &[schema::Grant],
        held: &mut Holdings,
        by: &Arc<str>,
        commit: Commit,
    ) -> Result<(Commit, Vec<Done>), StoreError> {
        let before = of_store(&self.store, whose).await?;
        Ok(become_of(whose, &before, after, held, by, commit))
    }
}

/// Makes these the grants of one: what is to be written, and what is to be told of it.
fn become_of(
    whose: &Whose,
    before: &[schema::Grant],
    after: &[schema::Grant],
    held: &mut Holdings,
    by: &Arc<str>,
    mut commit: Commit,
) -> (Commit, Vec<Done>) {
    let by_key = |grants: &[schema::Grant]| -> BTreeMap<String, Terms> {
        let key = |grant: &schema::Grant| {
            format!("{}{}/{}", whose.prefix(), grant.api, grant.version.as_deref().unwrap_or(EACH))
        };
        let terms = |grant: &schema::Grant| Terms { scopes: grant.scopes.clone(), quotas: grant.quotas };
        grants.iter().map(|grant| (key(grant), terms(grant))).collect()
    };
    let (old, new) = (by_key(before), by_key(after));
    let mut done = Vec::new();
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (old.get(key), new.get(key));
        if was == is {
            continue;
        }
        commit = match is {
            Some(terms) => commit.put(key, json!(terms).to_string()),
            None => commit.delete(key),
        };
        done.push(Done {
            by: Arc::clone(by),
            action: if is.is_some() { Action::Put } else { Action::Delete },
            kind: "grants",
            name: key[GRANTS.len()..].to_owned(),
            before: was.map(|terms| json!(terms)),
            after: is.map(|terms| json!(terms)),
        });
    }
    held.set_grants(whose.holder(), after.iter().map(products::grant).collect());
    (commit, done)
}

/// Groups that have grants in the store, by name.
pub(super) async fn groups(store: &Store) -> Result<Vec<schema::Group>, StoreError> {
    let prefix = format!("{GRANTS}{}/", Holder::Group("").kind());
    let mut all: BTreeMap<String, Vec<schema::Grant>> = BTreeMap::new();
    for entry in store.list_all(&prefix).await?.entries {
        if let Some((name, what)) = entry.key[prefix.len()..].split_once('/') {
            all.entry(name.to_owned()).or_default().extend(grant(what, entry.json()?));
        }
    }
    Ok(all.into_iter().map(|(name, grants)| schema::Group { name, grants }).collect())
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

pub(super) async fn of_store(store: &Store, whose: &Whose) -> Result<Vec<schema::Grant>, StoreError> {
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

/// What is wrong with one of these, by key; its API is one of the configuration's.
fn mistakes(grants: &[schema::Grant], which: usize, config: &Config) -> Vec<(String, String)> {
    let schema::Grant { api, version, .. } = &grants[which];
    let mut mistakes = malformed(&grants[which]);
    let found = config.apis.iter().find(|it| it.name == *api);
    let is_there = |version: &str| found.is_some_and(|api| api.versions.iter().any(|it| it.name == *version));
    if found.is_none() {
        mistakes.push(("api".to_owned(), format!("there is no API \"{}\"", api.escape_debug())));
    } else if let Some(version) = version.as_deref().filter(|version| !is_there(version)) {
        let message = format!("API \"{api}\" has no version \"{}\"", version.escape_debug());
        mistakes.push(("version".to_owned(), message));
    }
    mistakes
}

/// What is wrong with one, whatever APIs there are.
pub(super) fn malformed(grant: &schema::Grant) -> Vec<(String, String)> {
    let named = [("api", Some(&grant.api)), ("version", grant.version.as_ref())];
    let named = named.into_iter().filter_map(|(key, name)| Some((key, name?)));
    let unnamed = named.filter(|(_, name)| !is_name(name));
    let unnamed = unnamed.map(|(key, name)| match name.as_str() {
        EACH if key == "version" => (key.to_owned(), products::EACH_VERSION.to_owned()),
        name => (key.to_owned(), format!("\"{}\" is no name: {NAME}", name.escape_debug())),
    });
    let scopes = grant.scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope));
    let no_scope = |scope: &str| format!("\"{}\" is no scope: {SCOPE}", scope.escape_debug());
    unnamed.chain(scopes.map(|(n, scope)| (format!("scopes[{n}]"), no_scope(scope)))).collect()
}

fn name(whose: &Whose) -> String {
    format!("{} \"{}\"", whose.holder().kind(), whose.holder().name())
}
