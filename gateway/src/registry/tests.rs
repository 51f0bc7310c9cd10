//! Registrations against a simple reference, with a stopped clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::*;
use crate::{
    balance::Policy,
    monitor::record::{Record as _, ServiceRecord},
    progress::Limits,
    store::Lossy,
    upstream::{Listed, PoolLimits, Transport},
};

const SERVICES: [&str; 2] = ["users", "orders"];
const PRESERVATION: Preservation = Preservation { above_percent: 50, least: 4 };
const MOST: usize = 5;

/// Ids and addresses overlap, also with what the configuration has.
#[derive(Debug, Clone)]
enum Step {
    Register {
        service: usize,
        id: u8,
        port: u16,
        weight: u16,
        seconds: u64,
    },
    Heartbeat {
        service: usize,
        id: u8,
    },
    Deregister {
        service: usize,
        id: u8,
    },
    Drain {
        service: usize,
        id: u8,
        drained: bool,
    },
    Pass {
        millis: u64,
    },
    Restart,
    /// A generation with other fixed endpoints goes live.
    Reload {
        fixed: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (service, id) = (0..SERVICES.len(), 0..7_u8);
    prop_oneof![
        6 => (service.clone(), id.clone(), 1..6_u16, 0..3_u16, 1..4_u64)
            .prop_map(|(service, id, port, weight, seconds)| Step::Register { service, id, port, weight, seconds }),
        4 => (service.clone(), id.clone()).prop_map(|(service, id)| Step::Heartbeat { service, id }),
        1 => (service.clone(), id.clone()).prop_map(|(service, id)| Step::Deregister { service, id }),
        2 => (service, id, any::<bool>()).prop_map(|(service, id, drained)| Step::Drain { service, id, drained }),
        4 => (1..2500_u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Restart),
        1 => (0..3_u16).prop_map(|fixed| Step::Reload { fixed }),
    ]
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Of the last one the id is that of a fixed endpoint.
fn name(id: u8) -> String {
    if id == 6 { address(1).to_string() } else { format!("id-{id}") }
}

/// What a registration is, as simply as it can be said.
#[derive(Debug, Clone)]
struct Expected {
    port: u16,
    weight: u16,
    ttl: Duration,
    end: Instant,
    /// The higher the newer.
    turn: usize,
}

#[derive(Debug, Default)]
struct Reference {
    registered: BTreeMap<(usize, u8), Expected>,
    /// Whether it ends with the registration: not if there was none.
    drained: BTreeMap<(usize, u8), bool>,
    /// Ports of fixed endpoints.
    fixed: u16,
    /// Some are kept although their time is over.
    holds: bool,
}

impl Reference {
    fn register(&mut self, key: (usize, u8), (port, weight, ttl): (u16, u16, Duration), turn: usize) -> bool {
        let end = Instant::now() + ttl;
        let before = self.registered.get(&key);
        let same = before.is_some_and(|it| (it.port, it.weight, it.ttl) == (port, weight, ttl));
        let turn = before.filter(|_| same).map_or(turn, |it| it.turn);
        if before.is_some_and(|it| it.ttl != ttl) {
            self.drained.entry(key).and_modify(|ends| *ends = true);
        }
        self.registered.insert(key, Expected { port, weight, ttl, end, turn }).is_none()
    }

    fn end(&mut self, key: (usize, u8)) -> bool {
        let gone = self.registered.remove(&key).is_some();
        if gone && self.drained.get(&key) == Some(&true) {
            self.drained.remove(&key);
        }
        gone
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<_> = self.registered.iter().filter(|(_, it)| it.end <= now).map(|(key, _)| *key).collect();
        let all = self.registered.len();
        let silent = self.registered.values_mut().filter(|it| it.end.saturating_duration_since(now) < it.ttl / 3);
        let silent: Vec<_> = silent.collect();
        let held = self.holds;
        self.holds = !over.is_empty() && all >= PRESERVATION.least && 2 * silent.len() > all;
        if held && !self.holds {
            silent.into_iter().for_each(|it| it.end = now + it.ttl);
        } else if !self.holds {
            for key in over {
                self.end(key);
            }
        }
    }

    /// What requests may be sent to: ports with their weights.
    fn table(&self, service: usize) -> BTreeMap<u16, u16> {
        let mut newest: Vec<_> = self.registered.iter().filter(|((of, _), _)| *of == service).collect();
        newest.sort_by_key(|(_, it)| it.turn);
        let drained = |id| self.drained.contains_key(&(service, id));
        let mut table = BTreeMap::new();
        for ((_, id), it) in newest {
            table.insert(it.port, (!drained(*id)).then_some(it.weight));
        }
        for port in 1..=self.fixed {
            table.insert(port, (port != 1 || !drained(6)).then_some(9));
        }
        table.into_iter().filter_map(|(port, weight)| Some((port, weight?))).collect()
    }
}

fn services(fixed: u16, before: &Services) -> Arc<Services> {
    let service = |name: &str| {
        let name: Arc<str> = name.into();
        let limits = PoolLimits { idle_connections: 1, idle_timeout: Duration::from_secs(1) };
        let fixed = (1..=fixed).map(|port| Arc::new(Member::of(address(port), 9))).collect();
        let listed = Listed { fixed, policy: Policy::RoundRobin, limits, workers: 1, reserved_descriptors: 0 };
        let record = Arc::new(ServiceRecord::new(0));
        let transport = Transport {
            connect_timeout: Duration::from_secs(1),
            tcp_keepalive: Duration::from_secs(60),
            progress: Limits::default(),
            header_count: 100,
            header_bytes: 64 << 10,
            interim_responses: 32,
        };
        let before = before.get(&name).map(|before| &**before);
        (Arc::clone(&name), Arc::new(Service::new(name, listed, transport, record, before)))
    };
    Arc::new(SERVICES.into_iter().map(service).collect())
}

async fn open(disk: &Lossy) -> Registry {
    Registry::open(Store::on(disk).expect("a store")).await.expect("it can be read")
}

fn go_live(registry: &Registry, fixed: u16) {
    let settings =
        Settings { endpoints_per_service: MOST, preservation: PRESERVATION, directories: Directories::new() };
    registry.bring_live(&services(fixed, &registry.services.load_full()), settings, || ());
}

/// Lets the registry follow its store for as long as something else takes.
async fn followed<T>(registry: &Registry, then: impl Future<Output = T>) -> T {
    let mut then = pin!(then);
    tokio::select! {
        biased;
        result = &mut then => result,
        () = registry.follow() => unreachable!("the store lives"),
    }
}

async fn take(registry: &Registry, reference: &mut Reference, turn: usize, step: &Step) {
    match *step {
        Step::Register { service, id, port, weight, seconds } => {
            let (ttl, full) = (Duration::from_secs(seconds), reference.registered.keys().filter(|it| it.0 == service));
            let is_full = full.count() >= MOST && !reference.registered.contains_key(&(service, id));
            let ttl_text = crate::config::scalar::Duration(ttl);
            let announcement =
                Announcement { address: address(port), weight, ttl: ttl_text, metadata: Default::default() };
            let made = followed(registry, registry.register(SERVICES[service], &name(id), &announcement)).await;
            if is_full {
                assert!(matches!(made, Err(RegistryError::Full(_, MOST))), "{made:?}");
            } else {
                assert_eq!(made.expect("room"), reference.register((service, id), (port, weight, ttl), turn));
            }
        }
        Step::Heartbeat { service, id } => {
            let kept = registry.heartbeat(SERVICES[service], &name(id)).is_ok();
            let known = reference.registered.get_mut(&(service, id));
            assert_eq!(kept, known.is_some());
            if let Some(known) = known {
                known.end = Instant::now() + known.ttl;
            }
        }
        Step::Deregister { service, id } => {
            let gone = followed(registry, registry.deregister(SERVICES[service], &name(id))).await.is_ok();
            assert_eq!(gone, reference.end((service, id)));
        }
        Step::Drain { service, id, drained } => {
            let is_fixed = id == 6 && reference.fixed > 0;
            let is_registered = reference.registered.contains_key(&(service, id));
            let done = followed(registry, registry.drain(SERVICES[service], &name(id), drained)).await.is_ok();
            let lifts = !drained && reference.drained.contains_key(&(service, id));
            assert_eq!(done, is_fixed || is_registered || lifts);
            match (done, drained) {
                (false, _) => {}
                (true, true) => drop(reference.drained.insert((service, id), is_registered)),
                (true, false) => drop(reference.drained.remove(&(service, id))),
            }
        }
        Step::Pass { millis } => {
            advance(Duration::from_millis(millis)).await;
            registry.expire().await.expect("room");
            reference.expire();
            followed(registry, registry.saw(registry.store.revision())).await.expect("the store lives");
        }
        Step::Restart => unreachable!("it is another registry then"),
        Step::Reload { fixed } => {
            reference.fixed = fixed;
            go_live(registry, fixed);
        }
    }
}

fn check(registry: &Registry, reference: &Reference) {
    for (index, service) in SERVICES.into_iter().enumerate() {
        let table = registry.services.load()[service].table.load_full();
        let seen: BTreeMap<u16, u16> =
            table.endpoints.iter().zip(&table.weights).map(|(it, weight)| (it.address.port(), *weight)).collect();
        assert_eq!((seen.len(), &seen), (table.endpoints.len(), &reference.table(index)), "{service}");
        let told = registry.list(service).expect("it is known");
        let told: BTreeSet<_> = told
            .iter()
            .filter(|it| it.source == Source::Registration)
            .map(|it| (it.member.id.to_string(), it.member.address.port(), it.drained))
            .collect();
        let expected = reference
            .registered
            .iter()
            .filter(|((of, _), _)| *of == index)
            .map(|((_, id), it)| (name(*id), it.port, reference.drained.contains_key(&(index, *id))));
        assert_eq!(told, expected.collect());
        let usable = registry.discover(service, &Wanted::default()).map(|it| it.address.port()).ok();
        assert_eq!(usable.is_some(), !seen.is_empty());
        assert!(usable.is_none_or(|port| seen.contains_key(&port)));
    }
}

async fn play(steps: &[Step]) {
    let disk = Lossy::default();
    let (mut registry, mut reference) = (open(&disk).await, Reference::default());
    go_live(&registry, 0);
    for (turn, step) in steps.iter().enumerate() {
        if let Step::Restart = step {
            drop(registry);
            registry = open(&disk).await;
            go_live(&registry, reference.fixed);
            let now = Instant::now();
            reference.registered.values_mut().for_each(|it| it.end = now + it.ttl);
            reference.holds = false;
        } else {
            take(&registry, &mut reference, turn, step).await;
        }
        check(&registry, &reference);
    }
}

fn stopped() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn is_as_a_simple_reference_whatever_comes(steps in prop::collection::vec(step(), 1..60)) {
        stopped().block_on(play(&steps));
    }
}
