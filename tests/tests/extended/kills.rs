//! A gateway that is killed again and again while it is written to.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use stile_tests::{admin::Admin, gateway, process::Stile, upstream::Upstream};
use tokio::time::Instant;

const KILLS: usize = 100;
const WRITES: usize = 10_000;
const WRITERS: usize = 8;
const NAMES: usize = 200;

/// What is known of one service: the last version that was acknowledged, and the last that was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    asked: u64,
}

fn body(version: u64) -> Value {
    json!({ "connect_timeout": format!("{version}ms") })
}

fn version(service: &Value) -> u64 {
    let text = service["connect_timeout"].as_str().expect("a time");
    let millis = text.strip_suffix("ms").map(|millis| millis.parse::<u64>().expect("a number"));
    millis.unwrap_or_else(|| 1000 * text.trim_end_matches('s').parse::<u64>().expect("a number"))
}

/// Writes until the gateway is gone; tells of each acknowledgement.
async fn write(admin: Admin, writer: usize, known: &RefCell<BTreeMap<String, Known>>, acknowledged: &impl Fn()) {
    let mut rng = 7 * writer + 1;
    loop {
        rng = (rng * 1_103_515_245 + 12_345) % (1 << 31);
        // Names of its own, so that no two writers wait for each other's order.
        let name = format!("s{}", (rng / 65_536 % (NAMES / WRITERS)) * WRITERS + writer);
        let version = {
            let mut known = known.borrow_mut();
            let known = known.entry(name.clone()).or_default();
            known.asked += 1;
            known.asked
        };
        let status = admin.try_call("PUT", &format!("/v1/services/{name}"), &body(version).to_string()).await;
        match status {
            Some(200 | 201) => {
                known.borrow_mut().entry(name).or_default().acknowledged = version;
                acknowledged();
            }
            Some(other) => panic!("{name}: {other}"),
            None => return,
        }
    }
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = gateway::plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    let known: RefCell<BTreeMap<String, Known>> = RefCell::default();
    let (mut kills, mut writes, mut in_flight) = (0, 0, 0);
    let start = Instant::now();
    while kills < KILLS || writes < WRITES {
        let gateway = Stile::run(folder.path(), config.clone()).await;
        let admin = gateway.admin();
        let mut there = BTreeSet::new();
        for item in admin.get("/v1/services").await.json()["items"].as_array().expect("a list") {
            let name = item["name"].as_str().expect("a name");
            there.insert(name.to_owned());
            if let Some(known) = known.borrow_mut().get_mut(name) {
                let found = version(item);
                assert!(
                    (known.acknowledged..=known.asked).contains(&found),
                    "kill {kills}: {name} is {found}: {known:?}"
                );
                in_flight += usize::from(found < known.asked);
                *known = Known { acknowledged: found, asked: found };
            }
        }
        let is_lost = |(name, known): &(&String, &Known)| known.acknowledged > 0 && !there.contains(*name);
        let lost: Vec<String> = known.borrow().iter().filter(is_lost).map(|(name, _)| name.clone()).collect();
        assert_eq!(lost, [""; 0], "kill {kills}: they are not there at all");
        let (count, enough) = (RefCell::new(0), 1 + (kills * 37) % (2 * WRITES / KILLS));
        let reached = tokio::sync::Notify::new();
        let acknowledged = || {
            *count.borrow_mut() += 1;
            if *count.borrow() == enough {
                reached.notify_one();
            }
        };
        let killing = async {
            reached.notified().await;
            gateway.kill().await;
        };
        let writers = join_all((0..WRITERS).map(|writer| write(admin, writer, &known, &acknowledged)));
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(writers, killing) }).await.expect("it ends");
        kills += 1;
        writes += count.into_inner();
    }
    println!("{kills} kills, {writes} writes acknowledged, {in_flight} in flight at a kill, {:?}", start.elapsed());
    assert!(in_flight > 0, "no kill came while something was in flight");
}
