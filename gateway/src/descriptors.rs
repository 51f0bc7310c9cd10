//! The process's limit of open files, and how many of them connections of clients may take. A leaf.

use std::{
    fs,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the admin address that always have a place, however small the reserve is.
const OF_ADMIN: u64 = 8;

/// Connections of the process that count for the reserve. Their descriptors have low numbers like any others.
static OF_RESERVE: AtomicU64 = AtomicU64::new(0);

/// Raises the limit of the process as far as it may; returns what holds then.
pub fn raise() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused only where a sandbox says so; what holds is read below in any case.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    limit()
}

/// The limit of open files; `u64::MAX` if there is none.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The connections of clients that a limit allows. Each may need another to a service, so they get one half of what neither
/// `in_use` nor `reserved` takes.
pub fn connections(limit: u64, in_use: u64, reserved: u64) -> u64 {
    limit.saturating_sub(in_use).saturating_sub(reserved) / 2
}

/// Whether a file that was just opened is one of the last `reserved` that the process may open, of which those count that are open
/// for the reserve. The kernel gives the lowest number that is free, so that at least so many are open.
pub fn is_reserved(file: &impl AsRawFd, reserved: u64) -> bool {
    let unused = reserved.saturating_sub(OF_RESERVE.load(Relaxed));
    u64::try_from(file.as_raw_fd()).is_ok_and(|number| number >= limit().saturating_sub(unused))
}

/// Descriptors that are open now.
pub fn in_use() -> u64 {
    // What lists them is one of them.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// What a limit does not allow of the connections that the configuration promises, as a sentence for operators.
pub fn shortage(limit: u64, reserved: u64, promised: u64) -> Option<String> {
    let allowed = connections(limit, in_use(), reserved);
    (promised > allowed).then(|| {
        format!(
            "the limit of {limit} open files allows {allowed} connections of clients, and `connections` of the listeners \
             promise {promised}: raise the limit (`ulimit -n`, `LimitNOFILE=`) or lower `connections`"
        )
    })
}

/// The connections of clients of a gateway.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    in_use: u64,
    taken: AtomicU64,
    /// Connections of the admin address that count for the reserve.
    of_reserve: AtomicU64,
}

/// One connection, counted until dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    is_of_reserve: bool,
}

impl Room {
    /// What is open now is not for connections.
    pub fn measure() -> Self {
        Self { limit: limit(), in_use: in_use(), taken: AtomicU64::new(0), of_reserve: AtomicU64::new(0) }
    }

    /// A place for a connection of a listener; `None` if the limit, of which `reserved` is for other uses, allows no other.
    pub fn take(self: &Arc<Self>, reserved: u64) -> Option<Place> {
        self.count(false, connections(self.limit, self.in_use, reserved))
    }

    /// A place for a connection of the admin address. It has half of the reserve for itself, and further ones as long as less than
    /// half of the places of listeners are taken, so that neither side shuts the other out.
    pub fn take_for_admin(self: &Arc<Self>, reserved: u64) -> Option<Place> {
        self.count(true, (reserved / 2).max(OF_ADMIN))
            .or_else(|| self.count(false, connections(self.limit, self.in_use, reserved) / 2))
    }

    fn count(self: &Arc<Self>, is_of_reserve: bool, allowed: u64) -> Option<Place> {
        let place = Place { room: Arc::clone(self), is_of_reserve };
        if is_of_reserve {
            OF_RESERVE.fetch_add(1, Relaxed);
        }
        (place.counter().fetch_add(1, Relaxed) < allowed).then_some(place)
    }
}

impl Place {
    fn counter(&self) -> &AtomicU64 {
        if self.is_of_reserve { &self.room.of_reserve } else { &self.room.taken }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_of_reserve {
            OF_RESERVE.fetch_sub(1, Relaxed);
        }
        self.counter().fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(limit: u64, in_use: u64) -> Arc<Room> {
        Arc::new(Room { limit, in_use, taken: AtomicU64::new(0), of_reserve: AtomicU64::new(0) })
    }

    #[test]
    fn connections_take_half_of_what_is_not_reserved() {
        let room = room(100, 30);
        let places: Vec<_> = (0..30).map(|_| room.take(10)).collect();
        assert!(places.iter().all(Option::is_some) && room.take(10).is_none());
        drop(places);
        assert!(room.take(10).is_some());
        assert_eq!((connections(100, 90, 64), room.taken.load(Relaxed)), (0, 0));
    }

    #[test]
    fn neither_the_admin_address_nor_the_listeners_shut_the_other_out() {
        let room = room(100, 30);
        let of_admin: Vec<_> = (0..100).map_while(|_| room.take_for_admin(20)).collect();
        let of_listeners: Vec<_> = (0..100).map_while(|_| room.take(20)).collect();
        assert_eq!((of_admin.len(), of_listeners.len()), (10 + 12, 13));
        drop(of_admin);
        let of_listeners: Vec<_> = of_listeners.into_iter().chain((0..100).map_while(|_| room.take(20))).collect();
        let of_admin: Vec<_> = (0..100).map_while(|_| room.take_for_admin(20)).collect();
        assert_eq!((of_admin.len(), of_listeners.len()), (10, 25));
    }

    #[test]
    fn a_shortage_names_both_numbers() {
        assert_eq!(shortage(u64::MAX, 64, 131_072), None);
        let told = shortage(64, 64, 65_536).expect("a shortage");
        assert!(told.contains("64 open files allows 0 connections") && told.contains("promise 65536"), "{told}");
    }
}
