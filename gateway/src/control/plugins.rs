//! Revisions of plugins that are pushed, rolled out by and by, and gone back from, by somebody or by themselves.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Control, Work,
    artifact::{Artifact, ArtifactError, Artifacts},
    draft::Stage,
    revisions::{Origin, Record, Staged, State, module, now, records, state},
};
use crate::{
    config::{Errors, Layers, schema},
    plugin::{Digest256, Exhausted, LoadError, Module, Revision, Trial, WHOLE},
    store::{Commit, StoreError},
};

/// Who changes what runs by itself, as the audit log names them.
const BUDGET: &str = "error budget";
const LASTED: &str = "rollout";
/// After what cannot be stored.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("there is no plugin \"{0}\": name it under plugins in the configuration first")]
    UnknownPlugin(String),
    #[error("plugin \"{0}\" has no revision {1}")]
    UnknownRevision(String, u32),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Refused(#[from] Errors),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A module that is pushed.
#[derive(Debug)]
pub struct Push {
    pub module: Vec<u8>,
    /// In base64.
    pub signature: Option<String>,
    /// Of a hundred exchanges.
    pub percent: u8,
}

/// A revision, whether it is new, and how many of a hundred exchanges get it.
#[derive(Debug)]
pub struct Pushed {
    pub revision: Revision,
    pub new: bool,
    pub percent: u8,
}

/// What a rollout asks for.
#[derive(Debug, Clone, Copy)]
pub struct Rollout {
    pub revision: u32,
    /// Of a hundred exchanges.
    pub percent: u8,
    /// Whether files and pushes may change what runs from then on; none leaves that as it is.
    pub pin: Option<bool>,
}

/// All that is known of a plugin's revisions.
#[derive(Debug)]
pub struct Known {
    /// The oldest first.
    pub records: Vec<Record>,
    pub state: Option<State>,
    /// Exchanges on each, in the order of the records.
    pub exchanges: Vec<usize>,
}

impl Control {
    /// Makes a module the newest revision of a plugin, for so many of a hundred exchanges; one with the digest of an older
    /// revision is that one.
    pub async fn push(self: &Arc<Self>, plugin: &str, push: Push, by: Arc<str>) -> Result<Pushed, PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let Push { module, signature, percent } = push;
            let (view, engine) = (this.view(), this.compiler.engine());
            let known = named(&view.layers, &plugin)?;
            let artifact = Artifact::new(known, module, signature.as_deref(), Origin::Push, engine)?;
            // Before the turn, or other changes would wait for it. The turn checks again what holds then.
            let _compiled = this.compiler.module(artifact.bytes.clone(), artifact.sha256).await?;
            let mut work = this.settled().await?;
            let plugin = named(&work.layers, &plugin)?;
            artifact.check(plugin)?;
            let staged = work.revisions.stage_push(plugin, artifact, percent).await?;
            let new = staged.is_new();
            let (revision, percent) = (staged.revision().clone(), staged.percent());
            this.run(&mut work, staged, by).await?;
            Ok(Pushed { revision, new, percent })
        })
        .await
    }

    /// Says which revision runs, and for how many exchanges; gives it and what it gets now.
    pub async fn roll_to(
        self: &Arc<Self>,
        plugin: &str,
        rollout: Rollout,
        by: Arc<str>,
    ) -> Result<(Revision, u8), PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let Rollout { revision: number, percent, pin } = rollout;
            let _compiled = this.compile_stored(&plugin, number).await?;
            let mut work = this.settled().await?;
            named(&work.layers, &plugin)?;
            let next = |before: &State| Some(State::rolled(before, number, percent, pin, now()));
            let staged = work.revisions.stage_state(&plugin, number, next).await?;
            let staged = staged.ok_or_else(|| PluginError::UnknownRevision(plugin.clone(), number))?;
            let rolled = (staged.revision().clone(), staged.percent());
            this.run(&mut work, staged, by).await?;
            Ok(rolled)
        })
        .await
    }

    /// Takes back what fails too often on trial, and makes what has lasted the one to go back to, for as long as this is
    /// waited for.
    pub async fn attend_trials(self: &Arc<Self>) {
        let Some(mut exhausted) = self.work.lock().await.exhausted.take() else { return };
        let mut changed = self.changed();
        loop {
            let due = self.next_to_settle();
            let settled = async {
                match &due {
                    Some((_, _, wait)) => sleep(*wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(told) = exhausted.recv() => {
                    let Exhausted { plugin, revision, failures } = told;
                    tracing::error!(plugin = &*plugin, revision, failures, "it fails too often, and is taken back");
                    let next = move |before: &State| before.taken_back(revision, failures, now());
                    // Nobody gets it any more; what is stored has to say so too, or a start would not know.
                    while !self.run_by_itself(Arc::clone(&plugin), revision, next, BUDGET).await {
                        sleep(AGAIN).await;
                    }
                }
                () = settled => {
                    if let Some((plugin, trial, _)) = due {
                        let (revision, since) = (trial.revision.number, trial.since);
                        let still = move |before: &State| {
                            before.settled(revision, since).filter(|_| !trial.budget.is_exhausted())
                        };
                        if !self.run_by_itself(plugin, revision, still, LASTED).await {
                            sleep(AGAIN).await;
                        }
                    }
                }
                _ = changed.changed() => {}
            }
        }
    }

    /// The trial of all exchanges that has lasted soonest, and when that is.
    fn next_to_settle(&self) -> Option<(Arc<str>, Trial, Duration)> {
        let view = self.view();
        let plugins = view.layers.config().plugins.iter();
        let due = plugins.filter_map(|plugin| {
            let (name, running) = view.revisions.get_key_value(plugin.name.as_str())?;
            let trial =
                running.trial.as_ref().filter(|trial| trial.percent >= WHOLE && !trial.budget.is_exhausted())?;
            let wait = (trial.since + plugin.rollout.within.0.as_secs()).saturating_sub(now());
            // Its time is known to the second.
            Some((Arc::clone(name), trial.clone(), Duration::from_secs(wait) + Duration::from_millis(500)))
        });
        due.min_by_key(|(_, _, wait)| *wait)
    }

    async fn run_by_itself(
        self: &Arc<Self>,
        plugin: Arc<str>,
        revision: u32,
        next: impl FnOnce(&State) -> Option<State> + Send + 'static,
        by: &'static str,
    ) -> bool {
        let this = Arc::clone(self);
        // What is refused is told there.
        self.to_its_end(async move {
            let mut work = this.settled().await?;
            if let Some(staged) = work.revisions.stage_state(&plugin, revision, next).await? {
                this.run(&mut work, staged, by.into()).await?;
            }
            Ok(())
        })
        .await
        .is_ok()
    }

    async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, PluginError>> + Send + 'static,
    ) -> Result<T, PluginError> {
        let result = self.tasks.spawn(change).await.unwrap_or(Err(PluginError::Store(StoreError::Ended)));
        result.inspect_err(|error| {
            self.refusals.fetch_add(1, Relaxed);
            tracing::warn!("a change of a plugin is refused: {error}");
        })
    }

    /// Compiles a revision of the store before a change takes its turn to run it; `None` if there is no such revision.
    pub(super) async fn compile_stored(&self, plugin: &str, number: u32) -> Result<Option<Module>, PluginError> {
        let records = records(&self.store, plugin).await?;
        let Some(record) = records.into_iter().find(|record| record.revision == number) else { return Ok(None) };
        let Some(bytes) = module(&self.store, plugin, &record.sha256).await? else { return Ok(None) };
        let sha256 = Digest256::of(&bytes);
        Ok(Some(self.compiler.module(bytes.into(), sha256).await?))
    }

    /// Compiles, before a change takes its turn, the revisions that begin to run once these plugins are in the configuration: those
    /// that ran last, and modules of files and URLs that are new. A module that is refused is refused again in the turn.
    pub(super) async fn compile_ahead(
        &self,
        plugins: &[&str],
        artifacts: &Artifacts,
    ) -> Result<Vec<Module>, StoreError> {
        let view = self.view();
        let mut modules = Vec::new();
        for plugin in plugins {
            let stored = state(&self.store, plugin).await?;
            let mut goes_on = view.revisions.contains_key(*plugin);
            if !goes_on {
                for number in stored.iter().flat_map(State::running) {
                    match self.compile_stored(plugin, number).await {
                        Ok(module) => {
                            goes_on |= module.is_some();
                            modules.extend(module);
                        }
                        Err(PluginError::Store(error)) => return Err(error),
                        Err(_) => {}
                    }
                }
            }
            let Some(Ok(artifact)) = artifacts.get(*plugin) else { continue };
            let seen = stored.and_then(|state| state.source_sha256);
            if !goes_on || seen != Some(artifact.sha256.to_string()) {
                modules.extend(self.compiler.module(artifact.bytes.clone(), artifact.sha256).await);
            }
        }
        Ok(modules)
    }

    /// Every revision of a plugin, and what runs.
    pub async fn revisions(&self, plugin: &str) -> Result<Known, PluginError> {
        named(&self.view().layers, plugin)?;
        let (records, state) = (records(&self.store, plugin).await?, state(&self.store, plugin).await?);
        let kept = self.live.load().states.of(&plugin.into());
        let exchanges = records.iter().map(|record| kept.exchanges(record.revision)).collect();
        Ok(Known { records, state, exchanges })
    }

    async fn run(&self, work: &mut Work, staged: Staged, by: Arc<str>) -> Result<(), PluginError> {
        if staged.changes_nothing() {
            return Ok(());
        }
        let plugin = Arc::clone(&staged.revision().plugin);
        let (_, told) = staged.told();
        let stage = Stage::default().with(vec![staged]);
        let draft = work.draft(Some(&self.live.load_full()), Arc::clone(&work.layers), stage).await?;
        self.make_live(work, draft, Commit::new(), &by, Vec::new()).await?;
        tracing::info!(plugin = &*plugin, "what runs: {told}");
        Ok(())
    }
}

fn named<'l>(layers: &'l Layers, plugin: &str) -> Result<&'l schema::Plugin, PluginError> {
    let known = layers.config().plugins.iter().find(|known| known.name == plugin);
    known.ok_or_else(|| PluginError::UnknownPlugin(plugin.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        pin::{Pin, pin},
    };

    use serde_json::json;

    use super::*;
    use crate::{
        config::{
            Document,
            resource::{Kind, Stored},
        },
        control::{resources, tests::over, transfer::Bundle},
        store::Store,
    };

    const MODULE: &str = include_str!("../plugin/tick.wat");

    fn wish(stored: Option<&str>) -> resources::Wish {
        wish_for(Kind::Plugin, "p", stored)
    }

    fn wish_for(kind: Kind, name: &str, stored: Option<&str>) -> resources::Wish {
        let stored = stored.map(|text| Arc::new(Stored::parse(kind, name, text).expect("a resource")));
        resources::Wish { kind, name: name.to_owned(), stored, condition: Default::default(), by: "ops".into() }
    }

    /// A control plane over the store of an earlier one, whose plugin `p` was deleted, and the digest of its module.
    async fn restarted() -> (Arc<Control>, Digest256) {
        let store = Store::in_memory().expect("a store");
        let module = wat::parse_str(MODULE).expect("a component");
        let sha256 = Digest256::of(&module);
        let before = over(store.clone()).await;
        before.change(wish(Some("{}"))).await.expect("room");
        before.push("p", Push { module, signature: None, percent: 100 }, "ops".into()).await.expect("it is a plugin");
        before.change(wish(None)).await.expect("nothing needs it");
        (over(store).await, sha256)
    }

    /// Checks that a change compiles the module while it waits for its turn.
    async fn compiles_ahead<T, E: std::fmt::Debug>(
        (control, sha256): &(Arc<Control>, Digest256),
        change: impl Future<Output = Result<T, E>>,
    ) {
        let work = control.work.lock().await;
        let mut change = pin!(change);
        compiled(control, *sha256, change.as_mut()).await;
        drop(work);
        change.await.unwrap_or_else(|error| panic!("{error:?}"));
        let runs = control.view().revisions.contains_key("p");
        assert_eq!(runs, control.view().layers.origin(Kind::Plugin, "p").is_some());
    }

    /// Waits until a change has compiled the module and is held up by the turn of another.
    async fn compiled(control: &Control, sha256: Digest256, mut change: Pin<&mut impl Future>) {
        let compiled = async {
            while control.compiler.known(sha256).is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = &mut change => panic!("it does not wait for its turn"),
            () = compiled => {}
            () = sleep(Duration::from_secs(60)) => panic!("it does not compile before its turn"),
        }
    }

    /// Pushes the first revision of `p`. The change goes live once the module is compiled, before the push has its turn.
    async fn push_beside(control: &Arc<Control>, change: resources::Wish) -> Result<Pushed, PluginError> {
        let module = wat::parse_str(MODULE).expect("a component");
        let sha256 = Digest256::of(&module);
        let mut work = control.work.lock().await;
        let mut push = pin!(control.push("p", Push { module, signature: None, percent: 100 }, "ops".into()));
        compiled(control, sha256, push.as_mut()).await;
        let change = resources::Together { wishes: vec![change], ..Default::default() };
        control.change_together(&mut work, &"ops".into(), change, false).await.expect("nothing is against it");
        drop(work);
        push.await
    }

    /// A control plane with the plugin `p`, which has no revision.
    async fn unpushed() -> Arc<Control> {
        let control = over(Store::in_memory().expect("a store")).await;
        control.change(wish(Some("{}"))).await.expect("room");
        control
    }

    fn bundle() -> Bundle {
        serde_json::from_value(json!({ "plugins": [{ "name": "p" }] })).expect("a bundle")
    }

    #[tokio::test]
    async fn every_change_that_brings_a_plugin_back_compiles_it_before_its_turn() {
        let at = restarted().await;
        compiles_ahead(&at, at.0.try_change(wish(Some("{}")))).await;
        compiles_ahead(&at, at.0.import(bundle(), false, true, "ops".into())).await;
        compiles_ahead(&at, at.0.restore(3, true, "ops".into())).await;
        compiles_ahead(&at, at.0.change(wish(Some("{}")))).await;

        let at = restarted().await;
        compiles_ahead(&at, at.0.import(bundle(), false, false, "ops".into())).await;
        let at = restarted().await;
        compiles_ahead(&at, at.0.restore(3, false, "ops".into())).await;
        let at = restarted().await;
        let document = Document::parse(Path::new("stile.yaml"), "plugins: [{ name: p }]", &|_| None);
        compiles_ahead(&at, at.0.reload_document(document)).await;
    }

    #[tokio::test]
    async fn a_push_is_refused_if_it_does_not_fit_a_change_made_while_it_compiled() {
        let key = r#"{ "signed_by": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] }"#;
        // The plugin has the phase `tick` alone, and chooses no endpoints.
        let balanced = r#"{ "balance": { "plugin": "p" } }"#;
        for (change, expected) in [
            (wish(None), "there is no plugin"),
            (wish(Some(key)), "sign"),
            (wish_for(Kind::Service, "s", Some(balanced)), "balance"),
        ] {
            let control = unpushed().await;
            let refused = push_beside(&control, change.clone()).await.expect_err("it does not fit");
            assert!(format!("{refused:?} {refused}").contains(expected), "{refused:?} {refused}");
            let view = control.view();
            let live = view.layers.stored_values(change.kind).find(|value| value["name"] == change.name);
            assert_eq!(live, change.stored.as_ref().map(|stored| &stored.value), "{refused}");
            assert!(!view.revisions.contains_key("p"), "{refused}");
            assert!(records(&control.store, "p").await.expect("a reading").is_empty(), "{refused}");
            // The start, the plugin and the change made one generation each.
            assert_eq!(control.live().load().generation, 3, "{refused}");
        }
    }

    #[tokio::test]
    async fn a_push_leaves_a_change_that_was_made_while_it_compiled() {
        let control = unpushed().await;
        let pushed = push_beside(&control, wish(Some(r#"{ "tick": "1h" }"#))).await.expect("it is a plugin");
        assert_eq!((pushed.revision.number, pushed.new), (1, true));
        let view = control.view();
        assert_eq!(view.layers.config().plugins[0].tick.0, Duration::from_secs(3600));
        assert!(view.revisions.contains_key("p"));
        assert_eq!(control.live().load().generation, 4);
    }
}
