//! Endpoints that servers announce themselves: registrations and the leases they live by, draining, discovery. What is known
//! comes from the store alone, by watching it; it reaches requests by the table of each service. It knows no configuration.

mod discover;
mod expiry;
mod directory;
mod record;
mod roll;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    mem::take,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::{
    sync::{broadcast, watch},
    time::sleep,
};

pub use self::{
    directory::{Directories, Directory},
    discover::{Discovered, Wanted},
    expiry::Preservation,
    record::Announcement,
    roll::Change,
};
use self::{
    record::{ENDPOINTS, Record, Subject},
    roll::Roll,
};
use crate::{
    balance::Cursor,
    store::{Commit, Entry, Event, Expect, LeaseId, Listed, Progress, Revision, Store, StoreError},
    upstream::{Endpoint, Service},
};
pub use crate::{balance::Policy, upstream::Member};

/// Changes that one who listens may be behind.
const BACKLOG: usize = 4096;
/// Tries to change an endpoint that others change at the same time.
const TRIES: usize = 16;
/// Entries that are read at once.
const AT_ONCE: usize = 10_000;
/// Before the store is read again after it failed.
const PAUSE: Duration = Duration::from_secs(1);

type Services = HashMap<Arc<str>, Arc<Service>>;

/// The registrations of one gateway.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    /// By service.
    rolls: DashMap<Arc<str>, Roll>,
    /// Where discovery stands, by service.
    cursors: DashMap<Arc<str>, Cursor>,
    /// The services of the live generation.
    services: ArcSwap<Services>,
    settings: ArcSwap<Settings>,
    /// Held while tables are published, so that no service goes live without what was registered meanwhile.
    publishing: Mutex<()>,
    /// The last commit that the rolls show.
    seen: watch::Sender<Revision>,
    news: broadcast::Sender<News>,
    /// Those of the live generation.
    directories: watch::Sender<Directories>,
    /// Leases whose time is over and that go on.
    held: AtomicUsize,
}

/// Bounds of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Registrations that a service may have.
    pub endpoints_per_service: usize,
    pub preservation: Preservation,
    pub directories: Directories,
}

/// A change of an endpoint, as it is told to whoever listens.
#[derive(Debug, Clone)]
pub struct News {
    pub service: Arc<str>,
    pub id: Box<str>,
    pub change: Change,
    /// What it is now, or was.
    pub member: Option<Arc<Member>>,
}

/// Where an endpoint is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Configuration,
    Registration,
    File,
    Dns,
    Consul,
}

/// An endpoint as it stands.
#[derive(Debug)]
pub struct Standing {
    pub member: Arc<Member>,
    pub source: Source,
    pub drained: bool,
    /// None of one whose address another has.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Of a registration: its time, and what is left of it.
    pub lease: Option<(Duration, Duration)>,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no service \"{0}\"")]
    UnknownService(String),
    #[error("service \"{0}\" has no endpoint \"{1}\"")]
    UnknownEndpoint(String, String),
    #[error("service \"{0}\" has no registration \"{1}\": it has lapsed, or never was")]
    Lapsed(String, String),
    #[error("service \"{0}\" has no usable endpoint that is as asked for")]
    NoneUsable(String),
    #[error("service \"{0}\" has {1} registrations, and may have no more")]
    Full(String, usize),
    #[error("endpoint \"{1}\" of service \"{0}\" is being changed by many at once")]
    Busy(String, String),
    #[error("{}", .0.iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<(String, String)>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Registry {
    /// Begins with what the store holds; `follow` keeps it up to date.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        let registry = Self {
            store,
            rolls: DashMap::new(),
            cursors: DashMap::new(),
            services: ArcSwap::default(),
            settings: ArcSwap::from_pointee(Settings::default()),
            publishing: Mutex::new(()),
            seen: watch::Sender::new(0),
            news: broadcast::Sender::new(BACKLOG),
            directories: watch::Sender::default(),
            held: AtomicUsize::new(0),
        };
        registry.read().await?;
        Ok(registry)
    }

    /// Brings what the store tells to requests, for as long as it lives.
    pub async fn follow(&self) {
        loop {
            let mut watch = self.store.watch(ENDPOINTS, *self.seen.borrow());
            let error = loop {
                match watch.next().await {
                    Ok(progress) => self.apply(progress),
                    Err(error) => break error,
                }
            };
            if matches!(error, StoreError::Ended) {
                return;
            }
            while let Err(error) = self.read().await {
                tracing::error!("registrations cannot be read: {error}");
                sleep(PAUSE).await;
            }
        }
    }

    /// Makes a generation live whose services are these, by `swap`.
    pub fn bring_live<T>(&self, services: &Arc<Services>, settings: Settings, swap: impl FnOnce() -> T) -> T {
        let _turn = self.turn();
        let before = self.services.load_full();
        for (name, service) in &**services {
            let roster = self.rolls.get(name).map(|roll| Arc::clone(&roll.roster)).unwrap_or_default();
            let compiled = Arc::clone(&service.table.load().roster);
            if !Arc::ptr_eq(&compiled, &roster) && compiled != roster {
                service.enroll(roster, before.get(name).map(|before| &**before));
            }
        }
        self.directories.send_if_modified(|directories| {
            let changes = *directories != settings.directories;
            directories.clone_from(&settings.directories);
            changes
        });
        self.settings.store(Arc::new(settings));
        self.services.store(Arc::clone(services));
        self.cursors.retain(|name, _| services.contains_key(name));
        swap()
    }

    /// Registers an endpoint, or says anew what it is; true if it was not there. When this returns, requests see it.
    ///
    /// # Errors
    ///
    /// `UnknownService`, `Invalid`, `Full`, `Busy`, `Store`: nothing is changed.
    pub async fn register(&self, service: &str, id: &str, announcement: &Announcement) -> Result<bool, RegistryError> {
        self.service(service)?;
        let mistakes = announcement.mistakes(id);
        if !mistakes.is_empty() {
            return Err(RegistryError::Invalid(mistakes));
        }
        let (member, ttl) = (announcement.member(id), announcement.ttl.0);
        for _ in 0..TRIES {
            let found = self.found(service, id);
            let goes_on = found.as_ref().filter(|it| it.ttl == ttl && self.store.keep_alive(it.lease).is_ok());
            if goes_on.is_some_and(|found| *found.member == member) {
                return Ok(false);
            }
            let most = self.settings.load().endpoints_per_service;
            if found.is_none() && self.rolls.get(service).is_some_and(|roll| roll.registered.len() >= most) {
                return Err(RegistryError::Full(service.to_owned(), most));
            }
            let lease = match goes_on {
                Some(found) => found.lease,
                None => self.store.grant(ttl).await?,
            };
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::At(found.revision));
            let key = Subject::Registered { service, id }.key();
            let mut commit = Commit::new().expect(&*key, expect).put_until(key, announcement.value(), Some(lease));
            if goes_on.is_none() && found.is_some() && self.is_drained(service, id) {
                commit = commit.put_until(Subject::Drained { service, id }.key(), "", Some(lease));
            }
            match self.commit(commit).await? {
                Some(revision) => {
                    self.saw(revision).await?;
                    if let Some(old) = found.as_ref().map(|found| found.lease).filter(|old| *old != lease) {
                        self.take_over(service, id, old, lease).await;
                    }
                    return Ok(found.is_none());
                }
                None if goes_on.is_none() => drop(self.store.revoke(lease).await),
                None => {}
            }
        }
        Err(RegistryError::Busy(service.to_owned(), id.to_owned()))
    }

    /// Ends a lease for another that the registration has now. What fails of it ends by itself, when the old one is over.
    async fn take_over(&self, service: &str, id: &str, old: LeaseId, new: LeaseId) {
        if self.is_drained(service, id) {
            let key = Subject::Drained { service, id }.key();
            let _ = self.commit(Commit::new().expect(&*key, Expect::Present).put_until(key, "", Some(new))).await;
        }
        let _ = self.store.revoke(old).await;
    }

    /// Gives a registration its whole time again. Nothing is written.
    pub fn heartbeat(&self, service: &str, id: &str) -> Result<(), RegistryError> {
        let lease = self.rolls.get(service).and_then(|roll| roll.registered.get(id).map(|record| record.lease));
        let kept = lease.is_some_and(|lease| self.store.keep_alive(lease).is_ok());
        kept.then_some(()).ok_or_else(|| RegistryError::Lapsed(service.to_owned(), id.to_owned()))
    }

    /// Takes a registration away. When this returns, no request begins on it.
    pub async fn deregister(&self, service: &str, id: &str) -> Result<(), RegistryError> {
        let unknown = || RegistryError::UnknownEndpoint(service.to_owned(), id.to_owned());
        let found = self.found(service, id).ok_or_else(unknown)?;
        match self.store.revoke(found.lease).await {
            Ok(revision) => self.saw(revision).await,
            Err(StoreError::NoLease) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets an endpoint, of the configuration too, take no new exchanges, or let it take them again. That of a registration ends
    /// with it. When this returns, requests keep to it.
    pub async fn drain(&self, service: &str, id: &str, drained: bool) -> Result<(), RegistryError> {
        let known = self.service(service)?;
        let key = Subject::Drained { service, id }.key();
        for _ in 0..TRIES {
            let found = self.found(service, id);
            // One that is away may come again.
            let lifts = || !drained && self.is_drained(service, id);
            let of_directories = || {
                let roll = self.rolls.get(service);
                roll.is_some_and(|roll| roll.found.values().flatten().any(|member| *member.id == *id))
            };
            if found.is_none()
                && known.listed.fixed.iter().all(|member| *member.id != *id)
                && !of_directories()
                && !lifts()
            {
                return Err(RegistryError::UnknownEndpoint(service.to_owned(), id.to_owned()));
            }
            let mut commit = Commit::new();
            if let Some(found) = &found {
                commit = commit.expect(Subject::Registered { service, id }.key(), Expect::At(found.revision));
            }
            let commit = match drained {
                true => commit.put_until(&*key, "", found.map(|found| found.lease)),
                false => commit.delete(&*key),
            };
            if let Some(revision) = self.commit(commit).await? {
                return self.saw(revision).await;
            }
        }
        Err(RegistryError::Busy(service.to_owned(), id.to_owned()))
    }

    /// All endpoints of a service, wherever they are known from.
    pub fn list(&self, service: &str) -> Result<Vec<Standing>, RegistryError> {
        let known = self.service(service)?;
        let table = known.table.load_full();
        let by_address: HashMap<SocketAddr, _> = table.all().map(|it| (it.0.address, it)).collect();
        let roll = self.rolls.get(service);
        let standing = |member: &Arc<Member>, source, record: Option<&Record>| {
            let counts = by_address.get(&member.address).filter(|(known, _)| Arc::ptr_eq(known, member));
            Standing {
                member: Arc::clone(member),
                source,
                drained: table.roster.drained.contains(&member.id),
                endpoint: counts.map(|(_, endpoint)| Arc::clone(endpoint)),
                lease: record.map(|record| (record.ttl, self.store.left(record.lease).unwrap_or_default())),
            }
        };
        let fixed = known.listed.fixed.iter().map(|member| standing(member, Source::Configuration, None));
        let registered = roll.iter().flat_map(|roll| roll.registered.values());
        let registered = registered.map(|record| standing(&record.member, Source::Registration, Some(record)));
        let found = roll.iter().flat_map(|roll| &roll.found);
        let found =
            found.flat_map(|(directory, members)| members.iter().map(|it| standing(it, directory.source(), None)));
        Ok(fixed.chain(registered).chain(found).collect())
    }

    /// Tells of every change from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Registrations of all services.
    pub fn count(&self) -> usize {
        self.rolls.iter().map(|roll| roll.registered.len()).sum()
    }

    /// Registrations whose time is over and that are kept, since too many have gone silent at once.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn service(&self, name: &str) -> Result<Arc<Service>, RegistryError> {
        let found = self.services.load().get(name).cloned();
        found.ok_or_else(|| RegistryError::UnknownService(name.to_owned()))
    }

    fn is_drained(&self, service: &str, id: &str) -> bool {
        self.rolls.get(service).is_some_and(|roll| roll.drained.contains(id))
    }

    fn found(&self, service: &str, id: &str) -> Option<Record> {
        self.rolls.get(service)?.registered.get(id).cloned()
    }

    /// None if somebody else was faster; then it has been seen what they did.
    async fn commit(&self, commit: Commit) -> Result<Option<Revision>, RegistryError> {
        match self.store.commit(commit).await {
            Ok(revision) => Ok(Some(revision)),
            Err(StoreError::Conflict { .. } | StoreError::NoLease) => {
                self.saw(self.store.revision()).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn saw(&self, revision: Revision) -> Result<(), RegistryError> {
        let mut seen = self.seen.subscribe();
        let waited = seen.wait_for(|seen| *seen >= revision).await;
        waited.map(drop).map_err(|_| StoreError::Ended.into())
    }

    fn apply(&self, Progress { events, revision }: Progress) {
        let _turn = self.turn();
        let mut changed: Vec<Arc<str>> = Vec::new();
        for event in &events {
            changed.extend(self.change(event));
        }
        changed.sort_unstable();
        changed.dedup();
        self.publish(&changed);
        self.seen.send_replace(revision);
    }

    /// Gives the service whose roll is another now.
    fn change(&self, event: &Event) -> Option<Arc<str>> {
        let subject = Subject::of(&event.key)?;
        let (Subject::Registered { service, id } | Subject::Drained { service, id }) = subject;
        let mut roll = self.rolls.entry(service.into()).or_default();
        let mut member = roll.registered.get(id).map(|record| Arc::clone(&record.member));
        let change = match subject {
            Subject::Drained { .. } => roll.drain(id, event.value.is_some()),
            Subject::Registered { .. } => match Record::of_event(event) {
                Ok(record) => {
                    member = record.as_ref().map(|record| Arc::clone(&record.member)).or(member);
                    roll.set(id, record)
                }
                Err(error) => {
                    tracing::error!("a registration is passed over: {error}");
                    None
                }
            },
        }?;
        let service = Arc::clone(roll.key());
        tracing::debug!(service = &*service, id, ?change, "endpoint");
        // Nobody may be listening.
        let _ = self.news.send(News { service: Arc::clone(&service), id: id.into(), change, member });
        Some(service)
    }

    /// Begins anew with what the store holds.
    async fn read(&self) -> Result<(), StoreError> {
        let (mut rolls, mut after, mut begun) = (HashMap::new(), None::<String>, None);
        loop {
            let Listed { entries, revision } = self.store.list(ENDPOINTS, after.as_deref(), AT_ONCE).await?;
            // What comes after the first part is read is told again by the watch from there.
            begun.get_or_insert(revision);
            entries.iter().for_each(|entry| enter(&mut rolls, entry));
            match entries.last() {
                Some(last) if entries.len() == AT_ONCE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        let _turn = self.turn();
        let gone = self.rolls.iter().map(|roll| Arc::clone(roll.key()));
        let changed: Vec<Arc<str>> = gone.chain(rolls.keys().cloned()).collect();
        let before: Vec<_> = self.rolls.iter_mut().map(|mut it| (Arc::clone(it.key()), take(&mut it.found))).collect();
        for (service, found) in before.into_iter().filter(|(_, found)| !found.is_empty()) {
            rolls.entry(service).or_default().found = found;
        }
        self.rolls.retain(|service, _| rolls.contains_key(service));
        for (service, roll) in rolls {
            self.rolls.insert(service, roll);
        }
        self.publish(&changed);
        self.seen.send_replace(begun.unwrap_or_default());
        Ok(())
    }

    fn publish(&self, changed: &[Arc<str>]) {
        let services = self.services.load();
        for name in changed {
            let roster = match self.rolls.get_mut(name) {
                Some(mut roll) => Arc::clone(roll.enroll()),
                None => Arc::default(),
            };
            if let Some(service) = services.get(name) {
                service.enroll(roster, None);
            } else {
                self.rolls.remove_if(name, |_, roll| roll.is_empty());
            }
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enter(rolls: &mut HashMap<Arc<str>, Roll>, entry: &Entry) {
    match Subject::of(&entry.key) {
        Some(Subject::Registered { service, id }) => match Record::of_entry(entry) {
            Ok(record) => drop(rolls.entry(service.into()).or_default().set(id, Some(record))),
            Err(error) => tracing::error!("a registration is passed over: {error}"),
        },
        Some(Subject::Drained { service, id }) => {
            rolls.entry(service.into()).or_default().drain(id, true);
        }
        None => {}
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { endpoints_per_service: 10_000, preservation: Preservation::default(), directories: Directories::new() }
    }
}
