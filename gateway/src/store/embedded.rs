//! The embedded store: one file, written by one thread, which makes all commits that wait in one transaction and syncs
//! once for all of them. After a failure the file is opened anew, since what it holds then is not known.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, backends::InMemoryBackend,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Commit, Entry, Event, LeaseId, Listed, Revision, StoreError,
    form::{self, ENTRIES, LEASES, Tables},
    history::History,
    leases::Leases,
};

const FILE: &str = "stile.redb";
/// Bytes of the file that are kept in memory.
const CACHE: usize = 8 << 20;
/// Operations that share one sync.
const GROUP: usize = 1024;

pub(super) enum Operation {
    Commit(Commit),
    /// A lease of so long a time, from this moment on.
    Grant(Duration, Instant),
    Revoke(Vec<LeaseId>),
}

/// What an operation came to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Answer {
    pub(super) revision: Revision,
    /// That was granted.
    pub(super) lease: Option<LeaseId>,
}

type Reply = oneshot::Sender<Result<Answer, StoreError>>;

pub(super) struct Embedded {
    shared: Arc<Shared>,
    /// Gone when the store ends.
    operations: Option<Sender<(Operation, Reply)>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    source: Source,
    /// Or why there is none.
    database: RwLock<Result<Database, StoreError>>,
    history: Arc<History>,
    leases: Leases,
}

type Open = dyn Fn(&mut Builder) -> Result<Database, DatabaseError> + Send + Sync;

/// What can be opened again.
struct Source {
    shown: String,
    open: Box<Open>,
}

/// What one transaction makes of its operations.
#[derive(Default)]
struct Made {
    answers: Vec<Result<Answer, StoreError>>,
    events: Vec<Event>,
    granted: Vec<(LeaseId, Duration, Instant)>,
    revision: Revision,
}

impl Embedded {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Folder(folder.display().to_string(), Arc::new(error));
        // What is in it is nobody else's affair.
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let file = folder.join(FILE);
        let shown = file.display().to_string();
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(&file);
        let made =
            made.map_err(|error| StoreError::Open(shown.clone(), Arc::new(DatabaseError::Storage(error.into()))))?;
        // Earlier versions left it to others, too.
        if let Err(error) = made.set_permissions(Permissions::from_mode(0o600)) {
            tracing::warn!("others may be able to read {shown}: {error}");
        }
        Self::start(Source { shown, open: Box::new(move |builder| builder.create(&file)) })
    }

    pub(super) fn in_memory() -> Result<Self, StoreError> {
        Self::over(InMemoryBackend::new)
    }

    /// Over any storage, which is asked for again after a failure.
    pub(super) fn over<B: StorageBackend>(backend: impl Fn() -> B + Send + Sync + 'static) -> Result<Self, StoreError> {
        let open = move |builder: &mut Builder| builder.create_with_backend(backend());
        Self::start(Source { shown: "in memory".to_owned(), open: Box::new(open) })
    }

    fn start(source: Source) -> Result<Self, StoreError> {
        let (database, revision) = source.open()?;
        let leases = Leases::default();
        for (lease, ttl) in stored_leases(&database)? {
            leases.begin(lease, ttl, Instant::now());
        }
        let history = Arc::new(History::new(revision));
        let shared = Arc::new(Shared { source, database: RwLock::new(Ok(database)), history, leases });
        let (operations, waiting) = mpsc::channel();
        let writer = thread::Builder::new().name("stile-store".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.serve(&waiting)
        });
        let writer = writer.map_err(|error| StoreError::Folder("stile-store".to_owned(), Arc::new(error)))?;
        Ok(Self { shared, operations: Some(operations), writer: Some(writer) })
    }

    pub(super) fn leases(&self) -> &Leases {
        &self.shared.leases
    }

    pub(super) fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    pub(super) fn operate(&self, operation: Operation, reply: Reply) -> Result<(), StoreError> {
        let operations = self.operations.as_ref().ok_or(StoreError::Ended)?;
        operations.send((operation, reply)).map_err(|_| StoreError::Ended)
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.shared.read(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            Ok(table.get(key)?.map(|found| entry(key, found.value())))
        })
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listed, StoreError> {
        self.shared.read(|database| {
            let read = database.begin_read()?;
            let (table, revision) = (read.open_table(ENTRIES)?, form::revision(&read)?);
            let mut entries = Vec::new();
            for found in table.range(after.filter(|after| *after > prefix).unwrap_or(prefix)..)? {
                let (key, value) = found?;
                if entries.len() >= limit || !key.value().starts_with(prefix) {
                    break;
                }
                if after != Some(key.value()) {
                    entries.push(entry(key.value(), value.value()));
                }
            }
            Ok(Listed { entries, revision })
        })
    }

    pub(super) fn last(&self, prefix: &str, before: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.shared.read(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            // No key has a character after this one.
            let end = format!("{prefix}{}", char::MAX);
            let mut entries = Vec::new();
            for found in table.range(prefix..before.unwrap_or(&end))?.rev().take(limit) {
                let (key, value) = found?;
                entries.push(entry(key.value(), value.value()));
            }
            Ok(entries)
        })
    }
}

impl Drop for Embedded {
    /// The file is free once this returns.
    fn drop(&mut self) {
        drop(self.operations.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn serve(&self, waiting: &Receiver<(Operation, Reply)>) {
        while let Ok(first) = waiting.recv() {
            let group = [first].into_iter().chain(waiting.try_iter().take(GROUP - 1));
            let (operations, replies): (Vec<_>, Vec<_>) = group.unzip();
            let answers = match self.write(operations) {
                Ok(made) => {
                    for (lease, ttl, begun) in made.granted {
                        self.leases.begin(lease, ttl, begun);
                    }
                    self.history.add(made.events, made.revision);
                    made.answers
                }
                Err(error) => {
                    self.reopen(true);
                    vec![Err(error); replies.len()]
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Who asked may have left.
                let _ = reply.send(answer);
            }
        }
    }

    fn write(&self, operations: Vec<Operation>) -> Result<Made, StoreError> {
        self.read(|database| {
            let write = database.begin_write()?;
            let mut made = Made::default();
            {
                let mut tables = Tables::open(&write)?;
                made.revision = tables.revision()?;
                for operation in operations {
                    let answer = made.operate(&mut tables, operation)?;
                    made.answers.push(answer);
                }
                tables.set_revision(made.revision)?;
            }
            write.commit()?;
            Ok(made)
        })
    }

    /// Where the file could not be opened after a failure, it is tried again.
    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_err() {
            self.reopen(false);
        }
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => read(database),
            Err(error) => Err(error.clone()),
        }
    }

    /// What failed may have been made after all: nobody knows until it is read again.
    fn reopen(&self, failed: bool) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else was faster.
        if database.is_ok() && !failed {
            return;
        }
        // The old one must be closed before.
        *database = Err(StoreError::Ended);
        *database = self.source.open().map(|(open, revision)| {
            self.history.resume(revision);
            open
        });
    }
}

impl Made {
    /// The inner error is that operation's own: nothing is made of it, but all of the others.
    fn operate(
        &mut self,
        tables: &mut Tables<'_>,
        operation: Operation,
    ) -> Result<Result<Answer, StoreError>, StoreError> {
        let next = self.revision + 1;
        let mut lease = None;
        match operation {
            Operation::Commit(commit) => {
                if let Err(refusal) = tables.check(&commit)? {
                    return Ok(Err(refusal));
                }
                if commit.is_empty() {
                    return Ok(Ok(Answer { revision: self.revision, lease }));
                }
                tables.make(commit, next, &mut self.events)?;
            }
            Operation::Grant(ttl, begun) => {
                let granted = tables.grant(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
                self.granted.push((granted, ttl, begun));
                lease = Some(granted);
            }
            Operation::Revoke(leases) => {
                for lease in leases {
                    tables.revoke(lease, next, &mut self.events)?;
                }
            }
        }
        self.revision = next;
        Ok(Ok(Answer { revision: next, lease }))
    }
}

impl Source {
    /// Opens it and brings it to the newest form; gives the last commit, too.
    fn open(&self) -> Result<(Database, Revision), StoreError> {
        let opened = (self.open)(Database::builder().set_cache_size(CACHE));
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(self.shown.clone()),
            error => StoreError::Open(self.shown.clone(), Arc::new(error)),
        })?;
        let revision = form::prepare(&database, &self.shown)?;
        Ok((database, revision))
    }
}

fn stored_leases(database: &Database) -> Result<Vec<(LeaseId, Duration)>, StoreError> {
    let table = database.begin_read()?.open_table(LEASES)?;
    let lease = |entry: Result<_, redb::StorageError>| {
        let (lease, ttl): (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, u64>) = entry?;
        Ok((LeaseId(lease.value()), Duration::from_millis(ttl.value())))
    };
    table.iter()?.map(lease).collect()
}

fn entry(key: &str, (revision, lease, value): (u64, u64, &[u8])) -> Entry {
    Entry { key: key.to_owned(), value: value.to_vec(), revision, lease: (lease != 0).then_some(LeaseId(lease)) }
}
