//! What the store adds to the file, out of it and into it: in the form of the file, all of it or nothing.
//!
//! Modules of plugins stay where they are. Of a consumer the credentials come along only if that is asked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Control, StoreError, Work,
    audit::{Action, Done},
    consumers::{CONSUMERS, ConsumerError, MAX_CREDENTIALS, Stored, consumer_key},
    credentials::{Kept, credential_key, keep},
    grants::{self, Whose},
    resources::{Condition, ResourceError, Together, Wish},
};
use crate::{
    access::{self, Holdings},
    config::{
        Error, Errors,
        layers::Origin,
        resource::{self, Kind},
        scalar::{NAME, is_name},
        schema,
    },
    snapshot::compile::consumers::compiled,
    store::Commit,
};

/// Bytes of a resource, however it comes.
pub const MAX_RESOURCE: usize = 1 << 20;
/// Consumers of one import, during which nothing else can be changed.
const MAX_CONSUMERS: usize = 50_000;
/// Mistakes that one answer tells.
const MAX_MISTAKES: usize = 1000;

/// Resources and consumers, in the form of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bundle {
    plugins: Vec<Value>,
    services: Vec<Value>,
    routes: Vec<Value>,
    apis: Vec<Value>,
    consumers: Vec<Consumer>,
    groups: Vec<schema::Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consumer {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    /// Without it they stay as they are.
    credentials: Option<Vec<schema::Credential>>,
    /// The same of these.
    grants: Option<Vec<schema::Grant>>,
}

/// What an import does with a resource or consumer that is not the same already.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    pub kind: &'static str,
    pub name: String,
    pub action: Act,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    Create,
    Change,
    Delete,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Invalid(Errors),
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an import comes to.
#[derive(Default)]
struct Plan {
    together: Together,
    changes: Vec<Change>,
    /// The first of them, and how many there are.
    mistakes: Vec<Error>,
    count: usize,
}

impl Control {
    /// The resources of the store as they were sent, by list, and the groups that have grants there.
    pub async fn export(&self) -> Result<Map<String, Value>, StoreError> {
        let view = self.view();
        let values = |kind| view.layers.stored_values(kind).cloned().collect();
        let mut all: Map<_, _> = Kind::ALL.map(|kind| (kind.list().to_owned(), values(kind))).into_iter().collect();
        all.insert("groups".to_owned(), json!(grants::groups(&self.store).await?));
        Ok(all)
    }

    /// Consumers of the store in the form of the file: at most `limit` of those after the name `after`. With their
    /// credentials, secrets included, only if these are asked for.
    pub async fn export_consumers(
        &self,
        after: Option<&str>,
        limit: usize,
        secrets: bool,
    ) -> Result<Vec<Value>, ConsumerError> {
        let mut consumers = Vec::new();
        for entry in self.store.list(CONSUMERS, after.map(consumer_key).as_deref(), limit).await?.entries {
            let (name, Stored { groups }) = (&entry.key[CONSUMERS.len()..], entry.json()?);
            let grants = grants::of_store(&self.store, &Whose::Consumer(name.to_owned())).await?;
            let mut consumer = json!({ "name": name, "groups": groups, "grants": grants });
            if secrets {
                let kept = self.kept(name).await?;
                let written = kept.iter().map(|(id, kept)| kept.written(id, name, self.seal_key.as_deref()));
                consumer["credentials"] = written.collect::<Result<Vec<_>, _>>()?.into();
            }
            consumers.push(consumer);
        }
        Ok(consumers)
    }

    /// Makes the store hold what a bundle has, or only says what that would change; with `prune` nothing else stays.
    ///
    /// # Errors
    ///
    /// All that is wrong; nothing was changed.
    pub async fn import(
        self: &Arc<Self>,
        bundle: Bundle,
        prune: bool,
        dry_run: bool,
        by: Arc<str>,
    ) -> Result<Vec<Change>, ImportError> {
        let this = Arc::clone(self);
        let done = self.tasks.spawn(async move {
            let mut work = this.settled().await?;
            let mut plan = Plan::default();
            let Bundle { plugins, services, routes, apis, consumers, groups } = bundle;
            if consumers.len() > MAX_CONSUMERS {
                let message = format!("an import may have {MAX_CONSUMERS} consumers, no more");
                return Err(ImportError::Invalid(Errors(vec![of_import("consumers", message)])));
            }
            let kinds = [(Kind::Plugin, plugins), (Kind::Service, services), (Kind::Route, routes), (Kind::Api, apis)];
            for (kind, values) in kinds {
                plan.resources(&work, kind, values, prune, &by);
            }
            this.plan_consumers(&work, &mut plan, consumers, groups, prune, &by).await?;
            let Plan { together, mut changes, mut mistakes, count } = plan;
            if let Some(more) = count.checked_sub(mistakes.len()).filter(|more| *more > 0) {
                mistakes.push(of_import("", format!("there are {more} more mistakes")));
            }
            if !mistakes.is_empty() {
                return Err(ImportError::Invalid(Errors(mistakes)));
            }
            this.change_together(&mut work, &by, together, dry_run).await?;
            changes.sort();
            Ok(changes)
        });
        done.await.unwrap_or(Err(ImportError::Store(StoreError::Ended)))
    }

    async fn plan_consumers(
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
                plan.refuse(mistake(&name, "name", "it is there twice"));
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
        for group in &groups {
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
                plan.refuse(mistake(&consumer.name, &format!("credentials[{id}]"), message));
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
        let mut wrong = |path: String, message: String| {
            let file = format!("/v1/{kind}s/{}", name.escape_debug());
            plan.refuse(Error { file, line: 1, column: 1, path, message });
        };
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

/// A credential that will be looked up.
struct Entering {
    consumer: Arc<access::Consumer>,
    id: String,
    kept: Kept,
}

impl Plan {
    fn resources(&mut self, work: &Work, kind: Kind, values: Vec<Value>, prune: bool, by: &Arc<str>) {
        let mut seen = BTreeSet::new();
        for (n, value) in values.into_iter().enumerate() {
            let Some(name) = value["name"].as_str().filter(|name| is_name(name)).map(str::to_owned) else {
                self.refuse(of_import(&format!("{}[{n}].name", kind.list()), format!("it needs a name: {NAME}")));
                continue;
            };
            let place = format!("/v1/{}/{name}", kind.list());
            let wrong = |message: &str| Error {
                file: place.clone(),
                line: 1,
                column: 1,
                path: "name".to_owned(),
                message: message.to_owned(),
            };
            if !seen.insert(name.clone()) {
                self.refuse(wrong("it is there twice"));
                continue;
            }
            let text = value.to_string();
            if text.len() > MAX_RESOURCE {
                self.refuse(wrong(&format!("it has more than {MAX_RESOURCE} bytes")));
                continue;
            }
            let stored = match resource::Stored::parse(kind, &name, &text) {
                Ok(stored) => Arc::new(stored),
                Err(errors) => {
                    errors.0.into_iter().for_each(|error| self.refuse(error));
                    continue;
                }
            };
            let action = match work.layers.origin(kind, &name) {
                Some(Origin::File) => {
                    self.refuse(wrong("it is in the configuration file: change it there"));
                    continue;
                }
                Some(Origin::Store(kept)) if kept.stored.value == stored.value => continue,
                Some(Origin::Store(_)) => Act::Change,
                None => Act::Create,
            };
            self.change(kind.list(), &name, action);
            self.wish(kind, name, Some(stored), by);
        }
        if prune {
            let names = work.layers.stored_values(kind).filter_map(|value| value["name"].as_str());
            for name in names.filter(|name| !seen.contains(*name)) {
                self.change(kind.list(), name, Act::Delete);
                self.wish(kind, name.to_owned(), None, by);
            }
        }
    }

    fn consumer_is_sound(&mut self, work: &Work, Consumer { name, groups, credentials, .. }: &Consumer) -> bool {
        let before = self.count;
        if !is_name(name) {
            self.refuse(mistake(name, "name", &format!("it is no name: {NAME}")));
        }
        for (n, group) in groups.iter().enumerate().filter(|(_, group)| !is_name(group)) {
            let message = format!("\"{}\" is no name: {NAME}", group.escape_debug());
            self.refuse(mistake(name, &format!("groups[{n}]"), &message));
        }
        if work.consumer_of_file(name).is_some() {
            self.refuse(mistake(name, "name", "it is in the configuration file: change it there"));
        }
        if credentials.as_ref().is_some_and(|credentials| credentials.len() > MAX_CREDENTIALS) {
            let message = format!("a consumer may have {MAX_CREDENTIALS} credentials, no more");
            self.refuse(mistake(name, "credentials", &message));
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
                    self.refuse(mistake(&name, &format!("credentials[{id}]"), "it is there twice"));
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
                    mistakes.iter().for_each(|(path, text)| self.refuse(mistake(&name, &of(path), text)));
                }
                Err(error) => {
                    self.refuse(mistake(&name, &format!("credentials[{id}]"), &error.to_string()));
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

    /// Notes a mistake; what is beyond the first so many is not told.
    fn refuse(&mut self, error: Error) {
        self.count += 1;
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(error);
        }
    }

    fn wish(&mut self, kind: Kind, name: String, stored: Option<Arc<resource::Stored>>, by: &Arc<str>) {
        let (condition, by) = (Condition::Any, Arc::clone(by));
        self.together.wishes.push(Wish { kind, name, stored, condition, by });
    }

    fn change(&mut self, kind: &'static str, name: &str, action: Act) {
        self.changes.push(Change { kind, name: name.to_owned(), action });
    }

    fn edit(&mut self, edit: impl FnOnce(Commit) -> Commit) {
        let commit = &mut self.together.edit.commit;
        *commit = edit(std::mem::take(commit));
    }

    fn done(
        &mut self,
        by: &Arc<str>,
        action: Action,
        kind: &'static str,
        name: String,
        before: Option<Value>,
        after: Option<Value>,
    ) {
        self.together.edit.done.push(Done { by: Arc::clone(by), action, kind, name, before, after });
    }
}

fn of_import(path: &str, message: String) -> Error {
    Error { file: "import".to_owned(), line: 1, column: 1, path: path.to_owned(), message }
}

fn mistake(consumer: &str, path: &str, message: &str) -> Error {
    let file = format!("/v1/consumers/{}", consumer.escape_debug());
    Error { file, line: 1, column: 1, path: path.to_owned(), message: message.to_owned() }
}
