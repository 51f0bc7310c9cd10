//! What must outlive the process: entries under text keys, each with the revision of the commit that wrote it.
//! It knows no resource; who keeps what under which key is the owner's affair.

#[cfg(test)]
mod conformance;
mod embedded;
mod form;
mod history;
mod leases;
#[cfg(test)]
mod lossy;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use self::embedded::{Answer, Embedded, Operation};
pub use self::history::{Progress, Watch};
#[cfg(test)]
pub(crate) use self::lossy::Lossy;

/// The number of a commit: one more for each, for the life of the store.
pub type Revision = u64;

/// One lease, as long as the store lives; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Vec<u8>,
    /// Of the commit that wrote it last.
    pub revision: Revision,
    /// It ends with this lease.
    pub lease: Option<LeaseId>,
}

/// Entries as they were after one commit, by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub entries: Vec<Entry>,
    /// Of the last commit that they show; a watch from there on misses nothing.
    pub revision: Revision,
}

/// How leases stand at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    pub all: usize,
    /// Those that have had no sign of life for two thirds of their time, the ones below among them.
    pub late: Vec<LeaseId>,
    /// Those whose time is over.
    pub over: Vec<LeaseId>,
}

/// Changes that are made together or not at all, and what must hold for them to be made.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    expected: Vec<(String, Expect)>,
    changes: Vec<Change>,
}

/// How an entry must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Present,
    /// Written last by this commit.
    At(Revision),
}

#[derive(Debug, Clone)]
enum Change {
    Put { key: String, value: Vec<u8>, lease: Option<LeaseId> },
    Delete { key: String },
}

/// One entry that was written, or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: Arc<str>,
    /// None if it was deleted, or ended with its lease.
    pub value: Option<Arc<[u8]>>,
    /// It ends with this lease, or has.
    pub lease: Option<LeaseId>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the folder {0}: {1}")]
    Folder(String, Arc<std::io::Error>),
    #[error("the store {0} is in use by another process")]
    InUse(String),
    #[error("the store {0} has format {1}, this gateway reads up to {max}", max = form::FORMAT)]
    Format(String, String),
    #[error("the store {0} cannot be opened: {1}")]
    Open(String, Arc<redb::DatabaseError>),
    #[error("the store failed: {0}")]
    Failed(Arc<redb::Error>),
    #[error("the store's entry \"{0}\" is corrupt: {1}")]
    Corrupt(String, String),
    /// Nothing was changed.
    #[error("the store's entry \"{key}\" {}", found.map_or_else(|| "does not exist".to_owned(), |at| format!("was written by commit {at}")))]
    Conflict { key: String, found: Option<Revision> },
    #[error("the lease has ended")]
    NoLease,
    #[error("the store no longer knows what changed after commit {0}")]
    Forgotten(Revision),
    #[error("the store has ended")]
    Ended,
}

/// A store. Cheap to clone; it ends with its last clone.
#[derive(Clone)]
pub struct Store(Arc<Embedded>);

impl Store {
    /// Opens the store in this folder and makes either if it is missing. Every lease has its whole time again.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or written, another process has the store, or it is of a form that is not known.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Embedded::open(folder).map(Arc::new).map(Self)
    }

    /// A store that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        Embedded::in_memory().map(Arc::new).map(Self)
    }

    #[cfg(test)]
    pub(crate) fn on(disk: &Lossy) -> Result<Self, StoreError> {
        let disk = disk.clone();
        Embedded::over(move || disk.clone()).map(Arc::new).map(Self)
    }

    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |store| store.get(&key)).await
    }

    /// The entries whose keys begin with `prefix`, by key: at most `limit` of those after the key `after`.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listed, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |store| store.list(&prefix, after.as_deref(), limit)).await
    }

    /// All entries whose keys begin with `prefix`, by key.
    pub async fn list_all(&self, prefix: &str) -> Result<Listed, StoreError> {
        self.list(prefix, None, usize::MAX).await
    }

    /// The last entries whose keys begin with `prefix`, the last first: at most `limit` of those before the key `before`.
    pub async fn last(&self, prefix: &str, before: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let (prefix, before) = (prefix.to_owned(), before.map(str::to_owned));
        self.blocking(move |store| store.last(&prefix, before.as_deref(), limit)).await
    }

    /// Makes all changes or none; when it returns they are on disk. Commits at the same time share one sync.
    ///
    /// # Errors
    ///
    /// `Conflict` if an entry is not as expected, `NoLease` if a lease has ended: nothing was changed. After `Failed`
    /// the changes may have been made or not.
    pub async fn commit(&self, commit: Commit) -> Result<Revision, StoreError> {
        self.operate(Operation::Commit(commit)).await.map(|answer| answer.revision)
    }

    /// A new lease, which ends once it has not been kept alive for its time.
    pub async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let Answer { lease, .. } = self.operate(Operation::Grant(ttl, Instant::now())).await?;
        lease.ok_or(StoreError::Ended)
    }

    /// Gives a lease its whole time again, also one whose time is over but that has not been ended. Nothing is written: this may
    /// be called often.
    ///
    /// # Errors
    ///
    /// `NoLease` if it has ended.
    pub fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.leases().keep_alive(lease, Instant::now())
    }

    /// How much of its time a lease has left; none if it has ended.
    pub fn left(&self, lease: LeaseId) -> Option<Duration> {
        self.0.leases().left(lease, Instant::now())
    }

    /// How leases stand.
    pub fn census(&self) -> Census {
        self.0.leases().census(Instant::now())
    }

    /// Ends a lease, and with it its entries. Where that fails, it goes on.
    pub async fn revoke(&self, lease: LeaseId) -> Result<Revision, StoreError> {
        let ended = self.0.leases().end(lease)?;
        let result = self.operate(Operation::Revoke(vec![lease])).await;
        if result.is_err() {
            self.0.leases().put_back(vec![(lease, ended)]);
        }
        result.map(|answer| answer.revision)
    }

    /// Ends those of these leases whose time is over, and with them their entries. Whose time is over ends by this alone.
    pub async fn expire(&self, leases: &[LeaseId]) -> Result<(), StoreError> {
        let over = self.0.leases().over(leases, Instant::now());
        if over.is_empty() {
            return Ok(());
        }
        let result = self.operate(Operation::Revoke(over.iter().map(|(lease, _)| *lease).collect())).await;
        if result.is_err() {
            // Ended all the same: its entries go when the store can write again.
            self.0.leases().put_back(over);
        }
        result.map(drop)
    }

    /// Tells of every commit after `after`, and of the changes of entries whose keys begin with `prefix`.
    pub fn watch(&self, prefix: &str, after: Revision) -> Watch {
        self.0.history().watch(prefix, after)
    }

    /// The last commit.
    pub fn revision(&self) -> Revision {
        self.0.history().last()
    }

    async fn operate(&self, operation: Operation) -> Result<Answer, StoreError> {
        let (sender, answer) = oneshot::channel();
        self.0.operate(operation, sender)?;
        answer.await.unwrap_or(Err(StoreError::Ended))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Embedded) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.0);
        spawn_blocking(move || read(&store)).await.unwrap_or(Err(StoreError::Ended))
    }
}

impl Entry {
    /// The value, if it is JSON of this type.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is not.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.value).map_err(|error| StoreError::Corrupt(self.key.clone(), error.to_string()))
    }
}

impl Commit {
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is changed unless the entry is like that.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.expected.push((key.into(), expect));
        self
    }

    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.put_until(key, value, None)
    }

    /// Writes an entry that ends with this lease.
    #[must_use]
    pub fn put_until(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>, lease: Option<LeaseId>) -> Self {
        self.changes.push(Change::Put { key: key.into(), value: value.into(), lease });
        self
    }

    /// Deletes an entry; one that is not there is as good as deleted.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.changes.push(Change::Delete { key: key.into() });
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Failed(Arc::new(error.into()))
    }
}
