//! What is recorded of routes and services while they serve. A leaf: records are handed out by `records`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::count::{Count, Last, Statuses, Times, Workers};
use crate::worker::WorkerId;

/// Errors remembered for each route and worker.
const ERRORS: usize = 16;

/// A set of numbers that workers raise; made for so many of them.
pub trait Record {
    fn new(workers: usize) -> Self;
}

/// The exchanges of one route.
#[derive(Debug)]
pub struct RouteRecord {
    pub counts: Workers<RouteCounts>,
    pub errors: Last<Mishap>,
}

#[derive(Debug, Default)]
pub struct RouteCounts {
    pub statuses: Statuses,
    /// From the request's head to the response's last byte.
    pub times: Times,
    /// Bytes of bodies.
    pub received: Count,
    pub sent: Count,
    faults: Mutex<BTreeMap<Fault, u64>>,
}

/// What a service's endpoints did.
#[derive(Debug)]
pub struct ServiceRecord {
    pub counts: Workers<ServiceCounts>,
}

#[derive(Debug, Default)]
pub struct ServiceCounts {
    outcomes: [Count; Outcome::ALL.len()],
    /// Connections opened.
    pub connections: Count,
    /// From the request to the response's head, or to the failure.
    pub times: Times,
}

/// What came of sending one request to one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The head of a response, whatever its status.
    Answered,
    Refused,
    ConnectTimeout,
    Reset,
    Malformed,
    Timeout,
    /// The client broke off.
    Client,
    /// The gateway had no descriptor for a connection.
    Gateway,
}

/// An exchange that did not end well, as `/v1/errors` tells it.
#[derive(Debug, Clone)]
pub struct Mishap {
    pub at: SystemTime,
    pub request_id: String,
    /// The client's address, as trusted proxies state it.
    pub client: IpAddr,
    pub peer: SocketAddr,
    pub method: String,
    pub path: String,
    pub status: u16,
    pub fault: Fault,
    pub endpoint: Option<Arc<str>>,
    pub message: Arc<str>,
    pub after: Duration,
}

/// Whose doing an error is, and what it is, in the words of metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub blame: &'static str,
    pub cause: &'static str,
}

/// What metrics tell beside a snapshot.
#[derive(Debug)]
pub struct Standing {
    /// Reloads and changes that were applied, and those that were refused.
    pub applied: u64,
    pub refused: u64,
    pub listeners: Vec<Connections>,
    /// Bytes of windows that HTTP/2 connections have been given.
    pub windows: u64,
    /// Endpoints that announced themselves, and those whose time is over and that are held.
    pub registrations: usize,
    pub held: usize,
    /// Lines of the log that were dropped.
    pub log_dropped: u64,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct Connections {
    pub name: Arc<str>,
    pub open: u64,
    pub accepted: u64,
    /// Over a limit of connections.
    pub turned_away: u64,
    /// Fields of requests that were dropped: claims of clients that are not trusted, and names with `_`.
    pub dropped_claims: u64,
    pub dropped_underscores: u64,
    /// Bytes of response bodies that HTTP/2 connections hold.
    pub buffered: u64,
}

impl Record for RouteRecord {
    fn new(workers: usize) -> Self {
        Self { counts: Workers::new(workers), errors: Last::new(workers.max(1), ERRORS) }
    }
}

impl Record for ServiceRecord {
    fn new(workers: usize) -> Self {
        Self { counts: Workers::new(workers) }
    }
}

impl RouteRecord {
    /// Remembers an error, and counts it.
    pub fn mishap(&self, worker: WorkerId, mishap: Mishap) {
        if let Some(counts) = self.counts.of(worker) {
            counts.fault(mishap.fault);
        }
        self.errors.push(worker, mishap);
    }

    /// How often each fault occurred.
    pub fn faults(&self) -> BTreeMap<Fault, u64> {
        let mut sums = BTreeMap::new();
        for counts in self.counts.all() {
            for (fault, n) in counts.faults.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sums.entry(*fault).or_insert(0) += n;
            }
        }
        sums
    }
}

impl RouteCounts {
    /// Faults are rare, and their kinds few: those of the code.
    fn fault(&self, fault: Fault) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_insert(0) += 1;
    }
}

impl ServiceRecord {
    /// One request sent, and how long it took to the response's head or to the failure.
    pub fn attempt(&self, worker: WorkerId, outcome: Outcome, time: Duration) {
        if let Some(counts) = self.counts.of(worker) {
            counts.outcomes[outcome as usize].add(1);
            counts.times.add(time);
        }
    }

    /// One connection opened.
    pub fn connected(&self, worker: WorkerId) {
        if let Some(counts) = self.counts.of(worker) {
            counts.connections.add(1);
        }
    }

    pub fn sum(&self, outcome: Outcome) -> u64 {
        self.counts.sum(|counts| counts.outcomes[outcome as usize].get())
    }
}

impl Outcome {
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Reset,
        Self::Malformed,
        Self::Timeout,
        Self::Client,
        Self::Gateway,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::Reset => "reset",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Client => "client",
            Self::Gateway => "gateway",
        }
    }
}
