//! What the store adds to the file, out of it and into it: in the form of the file, all of it or nothing.
//!
//! Modules of plugins stay where they are. Of a consumer the credentials come along only if that is asked for.

mod holders;

use std::{collections::BTreeSet, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    Control, StoreError, Work,
    artifact::Artifacts,
    audit::{Action, Done},
    consumers::{CONSUMERS, ConsumerError, Stored, consumer_key},
    grants::{self, Whose},
    resources::{Condition, ResourceError, Together, Wish},
};
use crate::{
    config::{
        Error, Errors,
        layers::Origin,
        resource::{self, Kind},
        scalar::{NAME, is_name},
        sent,
    },
    store::Commit,
};

/// Bytes of a resource, however it comes.
pub const MAX_RESOURCE: usize = 1 << 20;
/// Consumers of one import, during which nothing else can be changed.
const MAX_CONSUMERS: usize = 50_000;
/// Mistakes that one answer tells.
const MAX_MISTAKES: usize = 1000;

/// Resources and consumers, in the form of the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bundle {
    plugins: Vec<Value>,
    services: Vec<Value>,
    routes: Vec<Value>,
    apis: Vec<Value>,
    consumers: Vec<Value>,
    groups: Vec<Value>,
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
            let names = bundle.plugins.iter().filter_map(|plugin| plugin["name"].as_str());
            let names: Vec<&str> = names.filter(|name| is_name(name)).collect();
            let _compiled = this.compile_ahead(&names, &Artifacts::new()).await?;
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
            let (consumers, groups) = (plan.read("consumers", consumers), plan.read("groups", groups));
            this.plan_holders(&work, &mut plan, consumers, groups, prune, &by).await?;
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
}

impl Plan {
    fn resources(&mut self, work: &Work, kind: Kind, values: Vec<Value>, prune: bool, by: &Arc<str>) {
        let mut seen = BTreeSet::new();
        for (n, value) in values.into_iter().enumerate() {
            let Some(name) = value["name"].as_str().filter(|name| is_name(name)).map(str::to_owned) else {
                self.refuse(of_import(&format!("{}[{n}].name", kind.list()), format!("it needs a name: {NAME}")));
                continue;
            };
            let wrong = |message: &str| mistake(kind.list(), &name, "name", message);
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

    /// Those of a list that have their form.
    fn read<T: JsonSchema + DeserializeOwned + 'static>(&mut self, list: &str, values: Vec<Value>) -> Vec<T> {
        let mut all = Vec::with_capacity(values.len());
        for (n, value) in values.into_iter().enumerate() {
            let Some(name) = value["name"].as_str().map(str::to_owned) else {
                self.refuse(of_import(&format!("{list}[{n}].name"), format!("it needs a name: {NAME}")));
                continue;
            };
            match sent::body(value) {
                Ok(read) => all.push(read),
                Err(mistakes) => {
                    mistakes.iter().for_each(|(path, message)| self.refuse(mistake(list, &name, path, message)));
                }
            }
        }
        all
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

/// One of a resource, consumer or group.
fn mistake(list: &str, name: &str, path: &str, message: &str) -> Error {
    let file = format!("/v1/{list}/{}", name.escape_debug());
    Error { file, line: 1, column: 1, path: path.to_owned(), message: message.to_owned() }
}
