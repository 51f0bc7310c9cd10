//! Endpoints that others know of: a file, DNS, a Consul-compatible catalogue. Each is followed by a task of its own; what it cannot
//! be asked just now stays as it was told last.

mod consul;
mod dns;
mod file;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    slice,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{Change, News, Registry, Source};
use crate::upstream::Member;

/// Before one that could not be asked is asked again: the first time, and later, as each is twice the one before.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Endpoints of one directory.
const MOST: usize = 10_000;

/// Where endpoints of a service are known from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Directory {
    File(PathBuf),
    Dns {
        name: String,
        /// Of each address; none where SRV records are asked for, which have their own.
        port: Option<u16>,
        /// Those of the machine if there are none.
        servers: Vec<SocketAddr>,
    },
    Consul {
        url: String,
        service: String,
        tag: Option<String>,
        token: Option<String>,
    },
}

/// All directories, each with its service.
pub type Directories = BTreeSet<(Arc<str>, Directory)>;

/// What an directory tells, and how long that is good for.
struct Told {
    members: Vec<Member>,
    /// Then it is asked again.
    wait: Duration,
}

/// What is followed, with what must be remembered of it.
enum Followed {
    File(file::File),
    Dns(dns::Dns),
    Consul(consul::Consul),
}

impl Directory {
    pub(super) fn source(&self) -> Source {
        match self {
            Self::File(_) => Source::File,
            Self::Dns { .. } => Source::Dns,
            Self::Consul { .. } => Source::Consul,
        }
    }

    fn followed(&self) -> Result<Followed, String> {
        Ok(match self {
            Self::File(path) => Followed::File(file::File::new(path)),
            Self::Dns { name, port, servers } => Followed::Dns(dns::Dns::new(name, *port, servers)?),
            Self::Consul { url, service, tag, token } => {
                Followed::Consul(consul::Consul::new(url, service, tag.as_deref(), token.as_deref())?)
            }
        })
    }
}

impl Followed {
    /// Waits until there is something to tell.
    async fn next(&mut self) -> Result<Told, String> {
        match self {
            Self::File(file) => file.next().await,
            Self::Dns(dns) => dns.next().await,
            Self::Consul(consul) => consul.next().await,
        }
    }
}

impl Registry {
    /// Follows the directories that the live generation names, for as long as it is polled.
    pub async fn follow_directories(self: Arc<Self>) {
        let (mut wanted, mut tasks) = (self.directories.subscribe(), JoinSet::new());
        let mut running: HashMap<(Arc<str>, Directory), AbortHandle> = HashMap::new();
        loop {
            let (now, mut gone) = (wanted.borrow_and_update().clone(), Vec::new());
            running.retain(|key, task| {
                let stays = now.contains(key);
                if !stays {
                    task.abort();
                    gone.push(key.clone());
                }
                stays
            });
            // What took the place of another tells before that is forgotten.
            let is_new = |service: &str| now.iter().any(|key| *key.0 == *service && !running.contains_key(key));
            for (service, directory) in gone.into_iter().filter(|(service, _)| !is_new(service)) {
                self.forget(&service, &directory);
            }
            for key in now {
                if !running.contains_key(&key) {
                    running.insert(key.clone(), tasks.spawn(follow(Arc::clone(&self), key)));
                }
            }
            while tasks.try_join_next().is_some() {}
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    /// A directory of the live generation knows these endpoints of a service. What others told that it has no more is forgotten.
    fn found_at(&self, service: &Arc<str>, directory: &Directory, members: Vec<Member>) {
        let _turn = self.turn();
        let changes = {
            let wanted = self.directories.borrow();
            let is_wanted = |directory: &Directory| wanted.contains(&(Arc::clone(service), directory.clone()));
            if !is_wanted(directory) {
                return;
            }
            let mut seen = HashSet::new();
            let members = members.into_iter().filter(|member| seen.insert(Arc::clone(&member.id))).map(Arc::new);
            let mut roll = self.rolls.entry(Arc::clone(service)).or_default();
            let mut changes = roll.find(directory, members.collect());
            let others: Vec<_> = roll.found.keys().filter(|other| !is_wanted(other)).cloned().collect();
            changes.extend(others.iter().flat_map(|other| roll.find(other, Vec::new())).collect::<Vec<_>>());
            changes
        };
        self.tell(service, changes);
    }

    /// A directory is none of the service's any more.
    fn forget(&self, service: &Arc<str>, directory: &Directory) {
        let _turn = self.turn();
        let changes = self.rolls.get_mut(service).map(|mut roll| roll.find(directory, Vec::new()));
        self.tell(service, changes.unwrap_or_default());
    }

    fn tell(&self, service: &Arc<str>, changes: Vec<(Arc<Member>, Change)>) {
        if changes.is_empty() {
            return;
        }
        self.publish(slice::from_ref(service));
        for (member, change) in changes {
            let news = News { service: Arc::clone(service), id: (*member.id).into(), change, member: Some(member) };
            let _ = self.news.send(news);
        }
    }
}

async fn follow(registry: Arc<Registry>, (service, directory): (Arc<str>, Directory)) {
    let mut pause = PAUSES[0];
    let mut followed = None;
    loop {
        if followed.is_none() {
            followed = directory.followed().map_err(|error| tracing::error!(service = &*service, "{error}")).ok();
        }
        let told = match &mut followed {
            Some(followed) => followed.next().await,
            None => Err("it cannot be followed".to_owned()),
        };
        match told {
            Ok(Told { mut members, wait }) => {
                if members.len() > MOST {
                    tracing::warn!(service = &*service, "{} endpoints are told of, {MOST} are taken", members.len());
                    members.truncate(MOST);
                }
                registry.found_at(&service, &directory, members);
                pause = PAUSES[0];
                sleep(wait).await;
            }
            Err(error) => {
                tracing::warn!(service = &*service, ?pause, "endpoints stay as they were told last: {error}");
                sleep(pause).await;
                pause = (2 * pause).min(PAUSES[1]);
            }
        }
    }
}
