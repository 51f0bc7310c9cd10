//! The endpoints of a service: those of its configuration, and those that come and go while it is live.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{Endpoint, PoolLimits, Transport};
use crate::balance::{Balancer, Policy};

/// An endpoint as somebody listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Unique among those that are listed alike; of one that nobody named it is the address.
    pub id: Arc<str>,
    pub address: SocketAddr,
    pub weight: u16,
    pub metadata: Metadata,
}

/// Keys and values, by key. There may be a hundred thousand of it, most of a few entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(Box<[(Box<str>, Box<str>)]>);

/// What a service has beside its configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Of two with one address the first counts, and one of the configuration before both.
    pub members: Vec<Arc<Member>>,
    /// The ids of those that take no new exchanges, of the configuration's too.
    pub drained: HashSet<Arc<str>>,
}

/// What the configuration says of a service's endpoints; the same for all tables of one generation.
#[derive(Debug)]
pub struct Listed {
    pub fixed: Vec<Arc<Member>>,
    pub policy: Policy,
    pub limits: PoolLimits,
    pub workers: usize,
    /// Descriptors that connections to them must leave to others.
    pub reserved_descriptors: u64,
}

/// The endpoints of a service that may be chosen, one for each address, and the choice among them.
#[derive(Debug)]
pub struct Table {
    pub balancer: Balancer,
    /// One per endpoint, as are the members.
    pub weights: Vec<u16>,
    pub endpoints: Vec<Arc<Endpoint>>,
    pub members: Vec<Arc<Member>>,
    /// Those that may not be chosen, with what they go on with: exchanges that they have, connections.
    pub drained: Vec<(Arc<Member>, Arc<Endpoint>)>,
    /// What it was made of.
    pub roster: Arc<Roster>,
}

impl Member {
    /// One that has nothing but its address and weight.
    pub fn of(address: SocketAddr, weight: u16) -> Self {
        Self { id: address.to_string().into(), address, weight, metadata: Metadata::default() }
    }
}

impl Metadata {
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[found].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl From<BTreeMap<Box<str>, Box<str>>> for Metadata {
    fn from(entries: BTreeMap<Box<str>, Box<str>>) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Table {
    /// Endpoints of the tables before go on, with their connections, unless the configuration of these has changed.
    pub(super) fn new<'a>(
        listed: &Listed,
        transport: &Transport,
        roster: Arc<Roster>,
        before: impl IntoIterator<Item = &'a Self>,
    ) -> Self {
        let all = listed.fixed.iter().chain(&roster.members);
        let mut seen = HashSet::new();
        // Of one address the first counts, also where that is drained.
        let counts = all.filter(|member| seen.insert(member.address)).cloned();
        let (drained, members): (Vec<_>, Vec<_>) = counts.partition(|member| roster.drained.contains(&member.id));
        let before = before.into_iter().flat_map(Self::all).map(|(_, endpoint)| endpoint);
        let before = before.filter(|endpoint| endpoint.settings == (listed.limits, *transport));
        let before: HashMap<SocketAddr, &Arc<Endpoint>> = before.map(|it| (it.address, it)).collect();
        let endpoint = |member: &Arc<Member>| match before.get(&member.address) {
            Some(endpoint) => Arc::clone(endpoint),
            None => Arc::new(Endpoint::new(member.address, listed.limits, *transport, listed.workers)),
        };
        let endpoints = members.iter().map(endpoint).collect();
        let drained = drained.into_iter().map(|member| (Arc::clone(&member), endpoint(&member))).collect();
        let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
        Self { balancer: Balancer::new(listed.policy, &weights), weights, endpoints, members, drained, roster }
    }

    /// Every endpoint with its member, those that may be chosen first.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<Member>, &Arc<Endpoint>)> {
        let drained = self.drained.iter().map(|(member, endpoint)| (member, endpoint));
        self.members.iter().zip(&self.endpoints).chain(drained)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::progress::Limits;

    const TRANSPORT: Transport = Transport {
        connect_timeout: Duration::from_secs(1),
        tcp_keepalive: Duration::from_secs(1),
        progress: Limits {
            body_idle_timeout: Duration::from_secs(1),
            stream_idle_timeout: Duration::from_secs(1),
            min_rate: 1,
            min_rate_grace: Duration::from_secs(1),
        },
        header_count: 1,
        header_bytes: 1,
        interim_responses: 1,
    };

    fn made<'a>(listed: &Listed, roster: Arc<Roster>, before: impl IntoIterator<Item = &'a Table>) -> Table {
        Table::new(listed, &TRANSPORT, roster, before)
    }

    fn member(id: &str, port: u16, weight: u16) -> Arc<Member> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Arc::new(Member { id: id.into(), ..Member::of(address, weight) })
    }

    fn listed(fixed: &[&Arc<Member>], idle_connections: usize) -> Listed {
        let limits = PoolLimits { idle_connections, idle_timeout: Duration::from_secs(1) };
        let fixed = fixed.iter().map(|it| Arc::clone(it)).collect();
        Listed { fixed, policy: Policy::Weighted, limits, workers: 1, reserved_descriptors: 0 }
    }

    fn roster(members: &[&Arc<Member>], drained: &[&str]) -> Arc<Roster> {
        let members = members.iter().map(|it| Arc::clone(it)).collect();
        Arc::new(Roster { members, drained: drained.iter().map(|id| (*id).into()).collect() })
    }

    fn ids(table: &Table) -> Vec<&str> {
        table.members.iter().map(|member| &*member.id).collect()
    }

    #[test]
    fn the_first_of_an_address_counts_drained_or_not() {
        let (fixed, same, other) = (member("fixed", 1, 2), member("same", 1, 3), member("other", 2, 4));
        let table = made(&listed(&[&fixed], 1), roster(&[&same, &other], &[]), None);
        assert_eq!((ids(&table), &table.weights), (vec!["fixed", "other"], &vec![2, 4]));
        let table = made(&listed(&[&fixed], 1), roster(&[&same, &other], &["fixed", "other"]), None);
        assert!(ids(&table).is_empty() && table.endpoints.is_empty());
        let drained: Vec<&str> = table.all().map(|(member, _)| &*member.id).collect();
        assert_eq!(drained, ["fixed", "other"]);
        let table = made(&listed(&[&fixed], 1), roster(&[&same, &other], &["same"]), None);
        assert_eq!(ids(&table), ["fixed", "other"]);
    }

    #[test]
    fn endpoints_go_on_by_their_address() {
        let (a, b) = (member("a", 1, 1), member("b", 2, 1));
        let first = made(&listed(&[&a, &b], 1), Arc::default(), None);
        let second = made(&listed(&[&b], 1), roster(&[&member("again", 1, 9)], &[]), [&first]);
        assert!(Arc::ptr_eq(&first.endpoints[1], &second.endpoints[0]));
        assert!(Arc::ptr_eq(&first.endpoints[0], &second.endpoints[1]));
        let drained = made(&listed(&[&a, &b], 1), roster(&[], &["b"]), [&first]);
        let restored = made(&listed(&[&a, &b], 1), Arc::default(), [&drained]);
        assert!(Arc::ptr_eq(&first.endpoints[1], &drained.drained[0].1));
        assert!(Arc::ptr_eq(&first.endpoints[1], &restored.endpoints[1]));
        let third = made(&listed(&[&a], 2), Arc::default(), [&first]);
        assert!(!Arc::ptr_eq(&first.endpoints[0], &third.endpoints[0]), "other limits, another pool");
    }

    #[test]
    fn connections_go_on_as_long_as_their_configuration_is_the_same() {
        let listed = listed(&[&member("a", 1, 1)], 1);
        let first = made(&listed, Arc::default(), None);
        let progress = Limits { min_rate: 2, ..TRANSPORT.progress };
        for (transport, goes_on) in [
            (TRANSPORT, true),
            (Transport { tcp_keepalive: Duration::from_secs(2), ..TRANSPORT }, false),
            (Transport { progress, ..TRANSPORT }, false),
            (Transport { header_count: 2, ..TRANSPORT }, false),
            (Transport { header_bytes: 2, ..TRANSPORT }, false),
            (Transport { interim_responses: 2, ..TRANSPORT }, false),
        ] {
            let next = Table::new(&listed, &transport, Arc::default(), [&first]);
            assert_eq!(Arc::ptr_eq(&first.endpoints[0], &next.endpoints[0]), goes_on, "{transport:?}");
        }
    }
}
