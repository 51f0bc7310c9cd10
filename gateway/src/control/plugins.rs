//! Revisions of plugins that are pushed, and going back to older ones.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    Control, Work,
    draft::Stage,
    revisions::{Origin, Record, Staged, records},
};
use crate::{
    config::{Errors, Layers},
    plugin::{LoadError, Revision},
    store::{Commit, StoreError},
};

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("there is no plugin \"{0}\": name it under plugins in the configuration first")]
    UnknownPlugin(String),
    #[error("plugin \"{0}\" has no revision {1}")]
    UnknownRevision(String, u32),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Refused(#[from] Errors),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A revision and whether it is new.
#[derive(Debug)]
pub struct Pushed {
    pub revision: Revision,
    pub new: bool,
}

impl Control {
    /// Makes a module the newest revision of a plugin and live; one with the digest of an older revision is that one.
    pub async fn push(self: &Arc<Self>, plugin: &str, bytes: Vec<u8>, by: Arc<str>) -> Result<Pushed, PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let mut work = this.settled().await?;
            knows(&work.layers, &plugin)?;
            let staged = work.revisions.stage(&plugin, bytes, Origin::Push).await?;
            let new = staged.is_new();
            let revision = this.activate(&mut work, staged, by).await?;
            Ok(Pushed { revision, new })
        })
        .await
    }

    /// Makes an older or newer revision of a plugin live.
    pub async fn roll_to(self: &Arc<Self>, plugin: &str, number: u32, by: Arc<str>) -> Result<Revision, PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let mut work = this.settled().await?;
            knows(&work.layers, &plugin)?;
            let staged = work.revisions.stored(&plugin, number).await?;
            this.activate(&mut work, staged, by).await
        })
        .await
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

    /// Every revision of a plugin, the oldest first, and the number of the active one.
    pub async fn revisions(&self, plugin: &str) -> Result<(Vec<Record>, Option<u32>), PluginError> {
        let view = self.view();
        knows(&view.layers, plugin)?;
        let active = view.revisions.get(plugin).map(|revision| revision.number);
        Ok((records(&self.store, plugin).await?, active))
    }

    async fn activate(&self, work: &mut Work, staged: Staged, by: Arc<str>) -> Result<Revision, PluginError> {
        let revision = staged.revision().clone();
        if work.revisions.active(&revision.plugin).is_some_and(|active| active.number == revision.number) {
            return Ok(revision);
        }
        let stage = Stage::default().with(vec![staged]);
        let draft = work.draft(Some(&self.live.load_full()), Arc::clone(&work.layers), stage).await?;
        self.make_live(work, draft, Commit::new(), &by, Vec::new()).await?;
        tracing::info!(plugin = &*revision.plugin, revision = revision.number, "revision is live");
        Ok(revision)
    }
}

fn knows(layers: &Layers, plugin: &str) -> Result<(), PluginError> {
    let known = layers.config().plugins.iter().any(|known| known.name == plugin);
    if known { Ok(()) } else { Err(PluginError::UnknownPlugin(plugin.to_owned())) }
}
