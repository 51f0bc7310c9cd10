//! Endpoints that servers announce themselves: registrations and the leases they live by, draining, discovery. What is known
//! comes from the store alone, by watching it; it reaches requests by the table of each service. It knows no configuration.

mod change;
mod discover;
mod expiry;
mod directory;
mod record;
mod roll;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
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
    store::{Entry, Event, LeaseId, Listed, Progress, Revision, Store, StoreError},
    upstream::{Endpoint, Service},
};
pub use crate::{balance::Policy, upstream::Member};

/// Changes that one who listens may be behind.
const BACKLOG: usize = 4096;
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
    /// Leases that are being ended since their time is over.
    lapsing: DashMap<LeaseId, ()>,
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
            lapsing: DashMap::new(),
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

    /// # Errors
    ///
    /// `UnknownService`
    pub fn service(&self, name: &str) -> Result<Arc<Service>, RegistryError> {
        let found = self.services.load().get(name).cloned();
        found.ok_or_else(|| RegistryError::UnknownService(name.to_owned()))
    }

    fn is_drained(&self, service: &str, id: &str) -> bool {
        self.rolls.get(service).is_some_and(|roll| roll.drained.contains(id))
    }

    fn found(&self, service: &str, id: &str) -> Option<Record> {
        self.rolls.get(service)?.registered.get(id).cloned()
    }

    async fn saw(&self, revision: Revision) -> Result<(), RegistryError> {
        let mut seen = self.seen.subscribe();
        let waited = seen.wait_for(|seen| *seen >= revision).await;
        waited.map(drop).map_err(|_| StoreError::Ended.into())
    }

    fn apply(&self, Progress { events, revision }: Progress) {
        let _turn = self.turn();
        let mut changed: Vec<Arc<str>> = Vec::new();
        let mut announced = HashSet::new();
        for event in &events {
            let Some(News { service, change, member, .. }) = self.change(event) else { continue };
            if matches!(change, Change::Registered | Change::Changed) {
                announced.extend(member.map(|member| member.address));
            }
            changed.push(service);
        }
        changed.sort_unstable();
        changed.dedup();
        self.publish(&changed);
        for service in changed.iter().filter(|_| !announced.is_empty()) {
            self.announced(service, &announced);
        }
        self.seen.send_replace(revision);
    }

    /// Tries of these endpoints that failed count no longer: a server has announced itself at each.
    fn announced(&self, service: &str, addresses: &HashSet<SocketAddr>) {
        let Some(service) = self.services.load().get(service).cloned() else { return };
        let table = service.table.load();
        for (_, endpoint) in table.all().filter(|(member, _)| addresses.contains(&member.address)) {
            endpoint.announced();
        }
    }

    /// Enters an event into the roll of its service; `None` if that changes nothing.
    fn change(&self, event: &Event) -> Option<News> {
        let subject = Subject::of(&event.key)?;
        let (Subject::Registered { service, id } | Subject::Drained { service, id }) = subject;
        let mut roll = self.rolls.entry(service.into()).or_default();
        let before = roll.registered.get(id).map(|record| (Arc::clone(&record.member), record.lease));
        let lapses = || before.as_ref().is_some_and(|(_, lease)| self.lapsing.remove(lease).is_some());
        let mut member =
            before.as_ref().map(|(member, _)| Arc::clone(member)).or_else(|| self.listed(&roll, service, id));
        let change = match subject {
            Subject::Drained { .. } => roll.drain(id, event.value.is_some()),
            Subject::Registered { .. } => match Record::of_event(event) {
                Ok(record) => {
                    member = record.as_ref().map(|record| Arc::clone(&record.member)).or(member);
                    match roll.set(id, record) {
                        Some(Change::Deregistered) if lapses() => Some(Change::Lapsed),
                        change => change,
                    }
                }
                Err(error) => {
                    tracing::error!("a registration is passed over: {error}");
                    None
                }
            },
        }?;
        let service = Arc::clone(roll.key());
        tracing::debug!(service = &*service, id, ?change, "endpoint");
        let news = News { service, id: id.into(), change, member };
        // Nobody may be listening.
        let _ = self.news.send(news.clone());
        Some(news)
    }

    /// One that nobody has registered.
    fn listed(&self, roll: &Roll, service: &str, id: &str) -> Option<Arc<Member>> {
        let services = self.services.load();
        let fixed = services.get(service).into_iter().flat_map(|service| &service.listed.fixed);
        fixed.chain(roll.found.values().flatten()).find(|member| *member.id == *id).cloned()
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
