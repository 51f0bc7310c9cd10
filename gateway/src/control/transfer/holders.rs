//! The consumers and groups of an import: what becomes of them, their credentials and their grants.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        Control, StoreError, Work,
        audit::Action,
        consumers::{CONSUMERS, ConsumerError, MAX_CREDENTIALS, Stored, consumer_key},
        credentials::{Kept, credential_key, keep},
        grants::{self, Whose},
    },
    Act, Plan, mistake,
};
use crate::{
    access::{self, Holdings},
    config::{
        scalar::{NAME, is_name},
        schema,
    },
    snapshot::compile::consumers::compiled,
};

/// Their part of a path of the Admin API.
const CONSUMERS_LIST: &str = "consumers";

/// A consumer, in the form of the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Consumer {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    /// Without it they stay as they are.
    credentials: Option<Vec<schema::Credential>>,
    /// The same of these.
    grants: Option<Vec<schema::Grant>>,
}

/// A credential that will be looked up.
struct Entering {
    consumer: Arc<access::Consumer>,
    id: String,
    kept: Kept,
}

impl Control {
    pub(super) async fn plan_holders(
        &self,
        work: &Work,
        plan: &mut Plan,
        consumers: Vec<Consumer>,
        groups: Vec<schema::Group>,
        prune: bool,
        by: &Arc<str>,
    ) -> Result<(), StoreError> {
        let (mut credentials, mut entering) = (work.credentials.clone(), Vec::new());
        let mut seen = BTreeSet::new();
        for mut consumer in consumers {
            let name = consumer.name.clone();
            if plan.consumer_is_sound(work, &consumer) && !seen.insert(name.clone()) {
                plan.refuse(mistake(CONSUMERS_LIST, &name, "name", "it is there twice"));
            }
            let before: Option<Stored> = match self.store.get(&consumer_key(&name)).await? {
                Some(entry) => Some(entry.json()?),
                None => None,
            };
            let kept = self.kept(&name).await?;
            let grants = consumer.grants.take();
            entering.extend(plan.consumer(work, &mut credentials, consumer, before, kept, by));
            if let Some(grants) = grants {
                self.plan_held(plan, &Whose::Consumer(name), &grants, &mut credentials, by).await?;
            }
        }
        let mut named = BTreeSet::new();
        for group in &groups {
            if !named.insert(&group.name) {
                plan.refuse(mistake("groups", &group.name, "name", "it is there twice"));
            }
            self.plan_held(plan, &Whose::Group(group.name.clone()), &group.grants, &mut credentials, by).await?;
        }
        if prune {
            self.plan_pruned(plan, &mut credentials, &seen, by).await?;
            let named = |name: &str| groups.iter().any(|group| group.name == *name);
            for gone in grants::groups(&self.store).await?.into_iter().filter(|group| !named(&group.name)) {
                self.plan_held(plan, &Whose::Group(gone.name), &[], &mut credentials, by).await?;
            }
        }
        let file = &self.live.load().access.file;
        for Entering { consumer, id, kept } in entering {
            let lookup = kept.lookup()?;
            if file.get(&lookup).is_some() || credentials.get(&lookup).is_some() {
                let message = "another credential is presented the same way";
                plan.refuse(mistake(CONSUMERS_LIST, &consumer.name, &format!("credentials[{id}]"), message));
            }
            work.enter(&mut credentials, &consumer, &id, &kept)?;
        }
        let edit = &mut plan.together.edit;
        edit.credentials = (!edit.done.is_empty()).then_some(credentials);
        Ok(())
    }

    /// Plans that a consumer or group has these grants.
    async fn plan_held(
        &self,
        plan: &mut Plan,
        whose: &Whose,
        grants: &[schema::Grant],
        held: &mut Holdings,
        by: &Arc<str>,
    ) -> Result<(), StoreError> {
        let (kind, name) = (whose.holder().kind(), whose.holder().name());
        let list = format!("{kind}s");
        let mut wrong = |path: String, message: String| plan.refuse(mistake(&list, name, &path, &message));
        if let Some(message) = self.ungrantable(whose, grants.len()) {
            wrong("grants".to_owned(), message);
        }
        let mut seen = BTreeSet::new();
        for (n, grant) in grants.iter().enumerate() {
            if !seen.insert((&grant.api, &grant.version)) {
                wrong(format!("grants[{n}]"), "there is another grant for the same".to_owned());
            }
            for (key, message) in grants::malformed(grant) {
                wrong(format!("grants[{n}].{key}"), message);
            }
        }
        let commit = std::mem::take(&mut plan.together.edit.commit);
        let (commit, done) = self.plan_grants(whose, grants, held, by, commit).await?;
        plan.together.edit.commit = commit;
        let is_told = plan.changes.last().is_some_and(|last| last.kind == "consumers" && last.name == name);
        match whose {
            _ if done.is_empty() => {}
            Whose::Group(_) => plan.change("groups", name, if grants.is_empty() { Act::Delete } else { Act::Change }),
            Whose::Consumer(_) if is_told => {}
            Whose::Consumer(_) => plan.change("consumers", name, Act::Change),
        }
        plan.together.edit.done.extend(done);
        Ok(())
    }

    /// Plans to delete the consumers that are not among these.
    async fn plan_pruned(
        &self,
        plan: &mut Plan,
        credentials: &mut Holdings,
        seen: &BTreeSet<String>,
        by: &Arc<str>,
    ) -> Result<(), StoreError> {
        for entry in self.store.list_all(CONSUMERS).await?.entries {
            let name = &entry.key[CONSUMERS.len()..];
            if seen.contains(name) {
                continue;
            }
            let before: Stored = entry.json()?;
            plan.change("consumers", name, Act::Delete);
            plan.edit(|commit| commit.delete(consumer_key(name)));
            plan.done(by, Action::Delete, "consumers", name.to_owned(), Some(json!(before)), None);
            self.plan_held(plan, &Whose::Consumer(name.to_owned()), &[], credentials, by).await?;
            for (id, kept) in self.kept(name).await? {
                credentials.remove(&kept.lookup()?);
                plan.edit(|commit| commit.delete(credential_key(name, &id)));
            }
        }
        Ok(())
    }
}

impl Plan {
    fn consumer_is_sound(&mut self, work: &Work, Consumer { name, groups, credentials, .. }: &Consumer) -> bool {
        let before = self.count;
        if !is_name(name) {
            self.refuse(mistake(CONSUMERS_LIST, name, "name", &format!("it is no name: {NAME}")));
        }
        for (n, group) in groups.iter().enumerate().filter(|(_, group)| !is_name(group)) {
            let message = format!("\"{}\" is no name: {NAME}", group.escape_debug());
            self.refuse(mistake(CONSUMERS_LIST, name, &format!("groups[{n}]"), &message));
        }
        if work.consumer_of_file(name).is_some() {
            self.refuse(mistake(CONSUMERS_LIST, name, "name", "it is in the configuration file: change it there"));
        }
        if credentials.as_ref().is_some_and(|credentials| credentials.len() > MAX_CREDENTIALS) {
            let message = format!("a consumer may have {MAX_CREDENTIALS} credentials, no more");
            self.refuse(mistake(CONSUMERS_LIST, name, "credentials", &message));
        }
        self.count == before
    }

    /// Plans what becomes of one consumer: takes what it had out of the credentials, and gives what is to be entered.
    fn consumer(
        &mut self,
        work: &Work,
        credentials: &mut Holdings,
        Consumer { name, groups, credentials: wanted, .. }: Consumer,
        before: Option<Stored>,
        kept: Vec<(String, Kept)>,
        by: &Arc<str>,
    ) -> Vec<Entering> {
        let changes = self.together.edit.done.len();
        let (new, consumer) = (Stored { groups: groups.clone() }, Arc::new(compiled(&name, &groups)));
        if before.as_ref() != Some(&new) {
            self.edit(|commit| commit.put(consumer_key(&name), json!(new).to_string()));
            self.done(
                by,
                Action::Put,
                "consumers",
                name.clone(),
                before.as_ref().map(|it| json!(it)),
                Some(json!(new)),
            );
        }
        for (_, kept) in &kept {
            if let Ok(lookup) = kept.lookup() {
                credentials.remove(&lookup);
            }
        }
        let mut old: BTreeMap<String, Kept> = kept.into_iter().collect();
        let mut entering: HashMap<String, Kept> = HashMap::new();
        let Some(wanted) = wanted else {
            entering.extend(old);
            return self.entering(&consumer, entering, changes, before.is_none());
        };
        for credential in wanted {
            let id = credential.id.clone();
            let key = credential_key(&name, &id);
            match keep(credential.clone(), &name, work.seal_key.as_deref()) {
                Ok(_) if entering.contains_key(&id) => {
                    self.refuse(mistake(CONSUMERS_LIST, &name, &format!("credentials[{id}]"), "it is there twice"));
                }
                Ok(kept) => {
                    let before = old.remove(&id);
                    let told_before = before.as_ref().map(|before| before.told(&id));
                    let same = before.filter(|old| old.is_like(&kept, &key, work.seal_key.as_deref()));
                    let kept = same.unwrap_or_else(|| {
                        self.edit(|commit| commit.put(&key, json!(kept).to_string()));
                        let (place, told) = (format!("{name}/{id}"), kept.told(&id));
                        self.done(by, Action::Put, "credentials", place, told_before, Some(told));
                        kept
                    });
                    entering.insert(id, kept);
                }
                Err(ConsumerError::Invalid(mistakes)) => {
                    let of = |path: &str| format!("credentials[{id}]{}{path}", if path.is_empty() { "" } else { "." });
                    mistakes
                        .iter()
                        .for_each(|(path, text)| self.refuse(mistake(CONSUMERS_LIST, &name, &of(path), text)));
                }
                Err(error) => {
                    self.refuse(mistake(CONSUMERS_LIST, &name, &format!("credentials[{id}]"), &error.to_string()));
                }
            }
        }
        for (id, kept) in old {
            self.edit(|commit| commit.delete(credential_key(&name, &id)));
            self.done(by, Action::Delete, "credentials", format!("{name}/{id}"), Some(kept.told(&id)), None);
        }
        self.entering(&consumer, entering, changes, before.is_none())
    }

    /// Tells of a consumer whose changes are planned, if there are any beyond so many.
    fn entering(
        &mut self,
        consumer: &Arc<access::Consumer>,
        kept: HashMap<String, Kept>,
        changes: usize,
        is_new: bool,
    ) -> Vec<Entering> {
        if self.together.edit.done.len() > changes {
            self.change("consumers", &consumer.name, if is_new { Act::Create } else { Act::Change });
        }
        kept.into_iter().map(|(id, kept)| Entering { consumer: Arc::clone(consumer), id, kept }).collect()
    }
}
