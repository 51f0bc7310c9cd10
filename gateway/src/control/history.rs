//! Earlier generations, as the audit log tells of them: what changed with each, what was otherwise then, and the way back
//! to it. The way back is a change like any other, so it can itself be gone back on.
//!
//! Resources of the store and active revisions of plugins are gone back on; the file is changed where it is, and a
//! credential that was taken away stays away.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Control, PluginError, StoreError, View,
    artifact::Artifacts,
    audit::{self, Action, Change},
    resources::{Condition, ResourceError, Together, Wish},
    revisions::state,
};
use crate::{
    config::{
        Config, Errors,
        layers::Origin,
        resource::{Kind, Stored},
    },
    plugin::Module,
};

/// Changes that are read at once: some are large.
const AT_ONCE: usize = 100;
/// Names that are told of one list of the file.
const MAX_NAMES: usize = 100;

/// A generation, and what made it; the changes are without what they changed from and to.
#[derive(Debug, Serialize)]
pub struct Generation {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub changes: Vec<Change>,
}

/// What is otherwise now than it was then.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Such as `routes`; `revisions` for the active revision of a plugin.
    pub kind: &'static str,
    pub name: String,
    /// Null where there is none.
    pub now: Value,
    pub then: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("there is no generation {0} yet; {1} is live")]
    Unknown(u64, u64),
    #[error("generation {0} is too long ago: the audit log goes back to {1}")]
    Forgotten(u64, u64),
    #[error("generation {0} cannot come back: {1}")]
    Unsound(u64, Errors),
    #[error("generation {0} cannot come back: {1}")]
    Revision(u64, PluginError),
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What changes since then would have to be gone back on to.
#[derive(Default)]
struct Past {
    resources: BTreeMap<(Kind, String), Option<Value>>,
    /// Of plugins.
    revisions: BTreeMap<String, u32>,
}

impl Control {
    /// The newest first: at most `limit` of those before the generation `before`.
    pub async fn generations(&self, before: Option<u64>, limit: usize) -> Result<Vec<Generation>, StoreError> {
        let mut generations: Vec<Generation> = Vec::new();
        let mut log = Log::new(self);
        while let Some(change) = log.next().await? {
            if before.is_some_and(|before| change.generation >= before) {
                continue;
            }
            let (generation, at) = (change.generation, change.at.clone());
            if generations.last().is_none_or(|last| last.generation != generation) {
                if generations.len() == limit {
                    break;
                }
                generations.push(Generation { generation, at, changes: Vec::new() });
            }
            if let Some(last) = generations.last_mut() {
                last.changes.push(Change { before: None, after: None, ..change });
            }
        }
        Ok(generations)
    }

    /// What is otherwise now than in this generation, and would be as it was then if that came back.
    pub async fn differences(&self, generation: u64) -> Result<Vec<Difference>, HistoryError> {
        let view = self.settled().await?.view();
        let past = self.past(generation).await?;
        self.differences_to(past, &view).await
    }

    /// Compiles the revisions that would run again, before a change takes its turn.
    async fn compile_past(&self, generation: u64) -> Result<Vec<Module>, HistoryError> {
        let past = self.past(generation).await?;
        let differences = self.differences_to(past, &self.view()).await?;
        let is_plugin = |it: &&Difference| it.kind == Kind::Plugin.list() && !it.then.is_null();
        let plugins: Vec<&str> = differences.iter().filter(is_plugin).map(|it| it.name.as_str()).collect();
        let mut modules = self.compile_ahead(&plugins, &Artifacts::new()).await?;
        for Difference { kind, name, then, .. } in &differences {
            let number = then["revision"].as_u64().and_then(|number| u32::try_from(number).ok());
            if let (None, Some(number)) = (Kind::of_list(kind), number) {
                let compiled = self.compile_stored(name, number).await;
                modules.extend(compiled.map_err(|error| HistoryError::Revision(generation, error))?);
            }
        }
        Ok(modules)
    }

    /// Makes a new generation that is like an earlier one, or only says what that would change.
    pub async fn restore(
        self: &Arc<Self>,
        generation: u64,
        dry_run: bool,
        by: Arc<str>,
    ) -> Result<Vec<Difference>, HistoryError> {
        let this = Arc::clone(self);
        let done = self.tasks.spawn(async move {
            let _compiled = this.compile_past(generation).await?;
            let mut work = this.settled().await?;
            let past = this.past(generation).await?;
            let differences = this.differences_to(past, &work.view()).await?;
            let mut together = Together::default();
            for Difference { kind, name, then, .. } in &differences {
                let Some(kind) = Kind::of_list(kind) else {
                    let number = then["revision"].as_u64().and_then(|number| u32::try_from(number).ok());
                    let staged = work.revisions.stage_stored(name, number.unwrap_or_default()).await;
                    together.staged.push(staged.map_err(|error| HistoryError::Revision(generation, error))?);
                    continue;
                };
                let stored = match then {
                    Value::Null => None,
                    then => {
                        let stored = Stored::parse(kind, name, &then.to_string());
                        Some(Arc::new(stored.map_err(|errors| HistoryError::Unsound(generation, errors))?))
                    }
                };
                let (name, by) = (name.clone(), Arc::clone(&by));
                together.wishes.push(Wish { kind, name, stored, condition: Condition::Any, by });
            }
            match this.change_together(&mut work, &by, together, dry_run).await {
                Err(ResourceError::Invalid(errors) | ResourceError::InUse(errors)) => {
                    Err(HistoryError::Unsound(generation, errors))
                }
                done => done.map(|()| differences).map_err(HistoryError::from),
            }
        });
        done.await.unwrap_or(Err(HistoryError::Store(StoreError::Ended)))
    }

    async fn past(&self, generation: u64) -> Result<Past, HistoryError> {
        let live = self.live.load().generation;
        if generation == 0 || generation > live {
            return Err(HistoryError::Unknown(generation, live));
        }
        let (mut past, mut oldest) = (Past::default(), live);
        let mut log = Log::new(self);
        while let Some(change) = log.next().await? {
            oldest = change.generation;
            if oldest <= generation {
                return Ok(past);
            }
            match (Kind::of_list(&change.kind), change.action) {
                (Some(kind), Action::Put | Action::Delete) => {
                    past.resources.insert((kind, change.name), change.before);
                }
                (Some(_), Action::Rollout) => {
                    let before = change.before.as_ref().and_then(|before| before["revision"].as_u64());
                    if let Some(before) = before.and_then(|before| u32::try_from(before).ok()) {
                        past.revisions.insert(change.name, before);
                    }
                }
                (_, Action::Reload) | (None, _) => {}
            }
        }
        Err(HistoryError::Forgotten(generation, oldest))
    }

    /// Lists what is otherwise in a view than it was.
    async fn differences_to(
        &self,
        Past { resources, revisions }: Past,
        view: &View,
    ) -> Result<Vec<Difference>, HistoryError> {
        let mut differences = Vec::new();
        let layers = &view.layers;
        // Of a plugin that was not there no revision was.
        let was_there = |name: &str| match resources.get(&(Kind::Plugin, name.to_owned())) {
            Some(then) => then.is_some(),
            None => layers.origin(Kind::Plugin, name).is_some(),
        };
        let revisions: Vec<_> = revisions.into_iter().filter(|(name, _)| was_there(name)).collect();
        for ((kind, name), then) in resources {
            let now = match layers.origin(kind, &name) {
                Some(Origin::Store(kept)) => Some(kept.stored.value.clone()),
                // What came to the file in the meantime is in the way of what was stored, not of what was not.
                Some(Origin::File) | None => None,
            };
            if now != then {
                let (now, then) = (now.unwrap_or_default(), then.unwrap_or_default());
                differences.push(Difference { kind: kind.list(), name, now, then });
            }
        }
        for (name, then) in revisions {
            // Without a revision that runs, the one that would lead if the plugin came back.
            let now = match view.revisions.get(name.as_str()) {
                Some(running) => Some(running.leading().number),
                None => state(&self.store, &name).await?.map(|state| state.leading()),
            };
            if now.is_some_and(|now| now != then) {
                let (now, then) = (json!({ "revision": now }), json!({ "revision": then }));
                differences.push(Difference { kind: "revisions", name, now, then });
            }
        }
        Ok(differences)
    }
}

/// The audit log, the newest change first, read by and by.
struct Log<'c> {
    control: &'c Control,
    page: std::vec::IntoIter<Change>,
    before: Option<u64>,
    ended: bool,
}

impl<'c> Log<'c> {
    fn new(control: &'c Control) -> Self {
        Self { control, page: Vec::new().into_iter(), before: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Change>, StoreError> {
        if self.page.as_slice().is_empty() && !self.ended {
            let page = audit::list(&self.control.store, self.before, AT_ONCE).await?;
            self.ended = page.len() < AT_ONCE;
            self.before = page.last().map(|change| change.number);
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

/// What is otherwise in a file that was read again: names, by list and by what became of them.
pub(super) fn of_file(old: &Config, new: &Config) -> Value {
    fn list<T: PartialEq>(of: &mut Map<String, Value>, key: &str, old: &[T], new: &[T], name: impl Fn(&T) -> &str) {
        let by_name = |items| -> BTreeMap<&str, &T> { <[T]>::iter(items).map(|item| (name(item), item)).collect() };
        let (old, new) = (by_name(old), by_name(new));
        let mut told = Map::new();
        let mut tell = |what: &str, names: Vec<&str>| {
            if let Some(more) = names.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
                told.insert(format!("more_{what}"), more.into());
            }
            if !names.is_empty() {
                told.insert(what.to_owned(), names.into_iter().take(MAX_NAMES).collect());
            }
        };
        tell("added", new.keys().filter(|name| !old.contains_key(*name)).copied().collect());
        let is_other = |(name, item): &(&&str, &&T)| old.get(**name).is_some_and(|old| old != *item);
        tell("changed", new.iter().filter(is_other).map(|(name, _)| *name).collect());
        tell("removed", old.keys().filter(|name| !new.contains_key(*name)).copied().collect());
        if !told.is_empty() {
            of.insert(key.to_owned(), told.into());
        }
    }
    let mut of = Map::new();
    list(&mut of, "listeners", &old.listeners, &new.listeners, |it| &it.name);
    list(&mut of, "plugins", &old.plugins, &new.plugins, |it| &it.name);
    list(&mut of, "services", &old.services, &new.services, |it| &it.name);
    list(&mut of, "routes", &old.routes, &new.routes, |it| &it.name);
    list(&mut of, "apis", &old.apis, &new.apis, |it| &it.name);
    list(&mut of, "consumers", &old.consumers, &new.consumers, |it| &it.name);
    list(&mut of, "groups", &old.groups, &new.groups, |it| &it.name);
    of.into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Document;

    #[test]
    fn a_reload_tells_what_became_of_each_name() {
        let config = |text: &str| Document::parse(Path::new("stile.yaml"), text, &|_| None).config;
        let old = config("services: [{ name: a }, { name: b }, { name: c }]\nroutes: [{ name: r, service: a }]");
        let new = config(
            "services: [{ name: c, balance: random }, { name: a }, { name: d }]\nroutes: [{ name: r, service: a }]",
        );
        let expected = json!({ "services": { "added": ["d"], "changed": ["c"], "removed": ["b"] } });
        assert_eq!(of_file(&old, &new), expected);
        let many: Vec<_> = (0..150).map(|n| format!("{{ name: s{n} }}")).collect();
        let told = of_file(&Config::default(), &config(&format!("services: [{}]", many.join(", "))));
        assert_eq!(told["services"]["added"].as_array().map(Vec::len), Some(MAX_NAMES));
        assert_eq!(told["services"]["more_added"], 50);
    }
}
