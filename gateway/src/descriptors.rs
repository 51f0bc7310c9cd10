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

/// Whether a file that was just opened is one of the last `reserved` that the process may open. The kernel gives the lowest number
/// that is free, so that at least so many are open.
pub fn is_reserved(file: &impl AsRawFd, reserved: u64) -> bool {
    u64::try_from(file.as_raw_fd()).is_ok_and(|number| number >= limit().saturating_sub(reserved))
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

/// The connections of clients of a gateway, on all listeners but the admin address.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    in_use: u64,
    taken: AtomicU64,
}

/// One connection, counted until dropped.
#[derive(Debug)]
pub struct Place(Arc<Room>);

impl Room {
    /// What is open now is not for connections.
    pub fn measure() -> Self {
        Self { limit: limit(), in_use: in_use(), taken: AtomicU64::new(0) }
    }

    /// `None` if the limit, of which `reserved` is for other uses, allows no other connection.
    pub fn take(self: &Arc<Self>, reserved: u64) -> Option<Place> {
        let allowed = connections(self.limit, self.in_use, reserved);
        let place = Place(Arc::clone(self));
        (self.taken.fetch_add(1, Relaxed) < allowed).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_half_of_what_is_not_reserved() {
        let room = Arc::new(Room { limit: 100, in_use: 30, taken: AtomicU64::new(0) });
        let places: Vec<_> = (0..30).map(|_| room.take(10)).collect();
        assert!(places.iter().all(Option::is_some) && room.take(10).is_none());
        drop(places);
        assert!(room.take(10).is_some());
        assert_eq!((connections(100, 90, 64), room.taken.load(Relaxed)), (0, 0));
    }

    #[test]
    fn a_shortage_names_both_numbers() {
        assert_eq!(shortage(u64::MAX, 64, 131_072), None);
        let told = shortage(64, 64, 65_536).expect("a shortage");
        assert!(told.contains("64 open files allows 0 connections") && told.contains("promise 65536"), "{told}");
    }
}
