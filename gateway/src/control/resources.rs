//! Resources that come through the Admin API: checked by themselves, then with all others, stored, and made live. Changes
//! that come while one is being made are made together, with one generation and one sync for all of them.

use std::{
    collections::BTreeMap,
    slice,
    sync::{Arc, PoisonError},
};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    Control, Work,
    artifact::Artifacts,
    audit::{Action, Done},
    consumers::Edit,
    draft::Draft,
    revisions::Staged,
};
use crate::{
    config::{
        Errors, Layers,
        layers::{Kept, Origin},
        resource::{Kind, Stored},
    },
    plugin::Module,
    store::{Commit, Revision, Store, StoreError},
};

const PREFIX: &str = "resource/";

/// A wish to change one resource.
#[derive(Debug, Clone)]
pub struct Wish {
    pub kind: Kind,
    pub name: String,
    /// None deletes it.
    pub stored: Option<Arc<Stored>>,
    pub condition: Condition,
    /// The name of the token that is used.
    pub by: Arc<str>,
}

/// How the resource must be for the change to be made (RFC 9110 §13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Any,
    Absent,
    Present,
    /// Written last by one of these commits.
    At(Vec<Revision>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created(Revision),
    Changed(Revision),
    Deleted,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ResourceError {
    #[error("there is no {kind} \"{1}\"", kind = .0.singular())]
    Unknown(Kind, String),
    #[error("API \"{0}\" has no version \"{1}\"")]
    UnknownVersion(String, String),
    #[error("{kind} \"{name}\" is in the configuration file {file}: change it there", kind = kind.singular())]
    OfFile { kind: Kind, name: String, file: String },
    #[error("{kind} \"{1}\" is not as the condition says", kind = .0.singular())]
    Condition(Kind, String),
    #[error("{0}")]
    Invalid(Errors),
    /// Others need it.
    #[error("{0}")]
    InUse(Errors),
    #[error(transparent)]
    Store(StoreError),
}

/// A wish and who waits for what comes of it.
#[derive(Debug)]
pub(super) struct Waiting {
    wish: Wish,
    answer: oneshot::Sender<Result<Outcome, ResourceError>>,
}

/// Changes of the stored layer: a resource, or none any more.
pub(super) type Changes = BTreeMap<(Kind, String), Option<Kept>>;

/// Changes that are made together or not at all.
#[derive(Default)]
pub(super) struct Together {
    pub(super) wishes: Vec<Wish>,
    /// Revisions of plugins that become active.
    pub(super) staged: Vec<Staged>,
    pub(super) edit: Edit,
}

/// A wish that can be granted as far as its own resource goes.
struct Granted {
    wish: Wish,
    created: bool,
    before: Option<Value>,
}

impl Control {
    /// Makes a change; returns once it is on disk and live.
    ///
    /// # Errors
    ///
    /// Nothing was changed; only after a failure of the store it may have been made all the same, which is looked at
    /// before the next change.
    pub async fn change(self: &Arc<Self>, wish: Wish) -> Result<Outcome, ResourceError> {
        let (answer, told) = oneshot::channel();
        // If the store fails here, it fails again in the turn.
        let compiled = self.compile_wished(&wish).await.unwrap_or_default();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { wish, answer });
        let this = Arc::clone(self);
        // To its end, although who asked may leave. The first to come makes the changes of all who wait by then.
        self.tasks.spawn(async move {
            let mut left = Vec::new();
            loop {
                let settled = this.settled().await;
                left.append(&mut this.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                left = match settled {
                    _ if left.is_empty() => return,
                    Ok(mut work) => this.change_all(&mut work, left).await,
                    Err(error) => {
                        let failed =
                            |Waiting { answer, .. }| drop(answer.send(Err(ResourceError::Store(error.clone()))));
                        return left.into_iter().for_each(failed);
                    }
                };
            }
        });
        let outcome = told.await.unwrap_or(Err(ResourceError::Store(StoreError::Ended)));
        drop(compiled);
        outcome
    }

    /// Says what would come of a change.
    pub async fn try_change(&self, wish: Wish) -> Result<Outcome, ResourceError> {
        let _compiled = self.compile_wished(&wish).await.map_err(ResourceError::Store)?;
        let work = self.settled().await.map_err(ResourceError::Store)?;
        let mut changes = Changes::new();
        let granted = grant(&work.layers, &mut changes, wish)?;
        self.draft(&work, work.layers.with(changes), slice::from_ref(&granted), Vec::new()).await?;
        Ok(granted.outcome(self.store.revision() + 1))
    }

    /// Compiles, before a change takes its turn, the revisions of a plugin that run again with it.
    async fn compile_wished(&self, wish: &Wish) -> Result<Vec<Module>, StoreError> {
        if wish.kind != Kind::Plugin || wish.stored.is_none() {
            return Ok(Vec::new());
        }
        // Plugins of the store have no sources.
        self.compile_ahead(&[&wish.name], &Artifacts::new()).await
    }

    /// Makes changes together, as far as they go together, and gives back those whose turn comes later.
    async fn change_all(&self, work: &mut Work, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let (mut changes, mut granted, mut answers) = (Changes::new(), Vec::new(), Vec::new());
        let mut later = Vec::new();
        for Waiting { wish, answer } in waiting {
            // After what came before it is made, or refused: nobody knows yet which.
            if changes.contains_key(&(wish.kind, wish.name.clone())) {
                later.push(Waiting { wish, answer });
                continue;
            }
            match grant(&work.layers, &mut changes, wish) {
                Ok(more) => {
                    granted.push(more);
                    answers.push(answer);
                }
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        if granted.is_empty() {
            return later;
        }
        match self.draft(work, work.layers.with(changes), &granted, Vec::new()).await {
            Ok(draft) => {
                let by = Arc::clone(&granted[0].wish.by);
                let made = self.make(work, &by, &granted, draft, Commit::new(), Vec::new()).await;
                let outcomes = granted.iter().map(|granted| match &made {
                    Ok(revision) => Ok(granted.outcome(*revision)),
                    Err(error) => Err(ResourceError::Store(error.clone())),
                });
                answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(outcome)));
            }
            // One at a time, so that nobody is refused for the mistake of another.
            Err(_) if granted.len() > 1 => {
                for (Granted { wish, .. }, answer) in granted.into_iter().zip(answers) {
                    let one = vec![Waiting { wish, answer }];
                    // After a failure of the store nothing may be changed before it is read again.
                    let put_off =
                        if work.revisions.is_doubtful() { one } else { Box::pin(self.change_all(work, one)).await };
                    later.extend(put_off);
                }
            }
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
        later
    }

    /// Makes all of it or nothing, or only says whether it could be made.
    pub(super) async fn change_together(
        &self,
        work: &mut Work,
        by: &Arc<str>,
        Together { wishes, staged, edit }: Together,
        dry_run: bool,
    ) -> Result<(), ResourceError> {
        let (mut changes, mut granted) = (Changes::new(), Vec::new());
        for wish in wishes {
            granted.push(grant(&work.layers, &mut changes, wish)?);
        }
        let Edit { commit, done, credentials } = edit;
        let draft = if granted.is_empty() && staged.is_empty() {
            let Some(credentials) = credentials else { return Ok(()) };
            work.draft_credentials(&self.live.load_full(), credentials)
        } else {
            let draft = self.draft(work, work.layers.with(changes), &granted, staged).await?;
            credentials.into_iter().fold(draft, Draft::with_credentials)
        };
        if !dry_run {
            self.make(work, by, &granted, draft, commit, done).await.map_err(ResourceError::Store)?;
        }
        Ok(())
    }

    /// Drafts a configuration with changes, which may bring plugins that have revisions from before, and with these
    /// revisions.
    async fn draft(
        &self,
        work: &Work,
        layers: Layers,
        granted: &[Granted],
        staged: Vec<Staged>,
    ) -> Result<Draft, ResourceError> {
        let named =
            |name: &str| granted.iter().any(|Granted { wish, .. }| wish.kind == Kind::Plugin && wish.name == name);
        // Those that may be named here come from no file.
        let stage = work.stage(&layers, Artifacts::new(), named).await.map_err(ResourceError::Store)?.with(staged);
        work.draft(Some(&self.live.load_full()), Arc::new(layers), stage).await.map_err(|errors| {
            let deletes = granted.iter().all(|Granted { wish, .. }| wish.stored.is_none());
            if deletes { ResourceError::InUse(errors) } else { ResourceError::Invalid(errors) }
        })
    }

    async fn make(
        &self,
        work: &mut Work,
        by: &Arc<str>,
        granted: &[Granted],
        draft: Draft,
        mut commit: Commit,
        mut done: Vec<Done>,
    ) -> Result<Revision, StoreError> {
        for Granted { wish, .. } in granted {
            let key = key(wish.kind, &wish.name);
            commit = match &wish.stored {
                Some(stored) => commit.put(key, stored.value.to_string()),
                None => commit.delete(key),
            };
        }
        done.extend(granted.iter().map(Granted::done));
        self.make_live(work, draft, commit, by, done).await
    }
}

impl Granted {
    fn outcome(&self, revision: Revision) -> Outcome {
        match (&self.wish.stored, self.created) {
            (None, _) => Outcome::Deleted,
            (Some(_), true) => Outcome::Created(revision),
            (Some(_), false) => Outcome::Changed(revision),
        }
    }

    fn done(&self) -> Done {
        let after = self.wish.stored.as_ref().map(|stored| stored.value.clone());
        Done {
            by: Arc::clone(&self.wish.by),
            action: if after.is_some() { Action::Put } else { Action::Delete },
            kind: self.wish.kind.list(),
            name: self.wish.name.clone(),
            before: self.before.clone(),
            after,
        }
    }
}

/// Everything of a store, to go over a document.
pub(super) async fn stored(store: &Store) -> Result<Result<Changes, Errors>, StoreError> {
    let (mut all, mut errors) = (Changes::new(), Errors(Vec::new()));
    for entry in store.list_all(PREFIX).await?.entries {
        let corrupt = |what: &str| StoreError::Corrupt(entry.key.clone(), what.to_owned());
        let place = entry.key.strip_prefix(PREFIX).and_then(|place| place.split_once('/'));
        let (list, name) = place.ok_or_else(|| corrupt("it names no resource"))?;
        let kind = Kind::of_list(list).ok_or_else(|| corrupt("there is no such kind of resource"))?;
        let text = std::str::from_utf8(&entry.value).map_err(|error| corrupt(&error.to_string()))?;
        match Stored::parse(kind, name, text) {
            Ok(stored) => {
                let kept = Kept { stored: Arc::new(stored), revision: entry.revision };
                all.insert((kind, name.to_owned()), Some(kept));
            }
            Err(more) => errors.0.extend(more.0),
        }
    }
    Ok(if errors.0.is_empty() { Ok(all) } else { Err(errors) })
}

/// Adds a change to those that are made together, unless the resource is not as it must be.
fn grant(layers: &Layers, changes: &mut Changes, wish: Wish) -> Result<Granted, ResourceError> {
    let Wish { kind, name, stored, condition, .. } = &wish;
    let key = (*kind, name.clone());
    let kept = match layers.origin(*kind, name) {
        Some(Origin::File) => {
            let file = layers.document().file.display().to_string();
            return Err(ResourceError::OfFile { kind: *kind, name: name.clone(), file });
        }
        Some(Origin::Store(kept)) => Some(kept),
        None => None,
    };
    let holds = match (condition, kept) {
        (Condition::Any, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::At(revisions), Some(kept)) => revisions.contains(&kept.revision),
        (Condition::Absent, Some(_)) | (Condition::Present | Condition::At(_), None) => false,
    };
    match (kept, stored) {
        (None, None) => return Err(ResourceError::Unknown(*kind, name.clone())),
        _ if !holds => return Err(ResourceError::Condition(*kind, name.clone())),
        _ => {}
    }
    let (created, before) = (kept.is_none(), kept.map(|kept| kept.stored.value.clone()));
    // Its revision is known once it is stored.
    changes.insert(key, stored.clone().map(|stored| Kept { stored, revision: 0 }));
    Ok(Granted { wish, created, before })
}

fn key(kind: Kind, name: &str) -> String {
    format!("{PREFIX}{}/{name}", kind.list())
}
