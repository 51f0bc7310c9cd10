//! A million API keys: how long a look-up takes, how much memory they have, how soon a gateway is there.

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use serde_json::json;
use stile_gateway::{
    access::Presented,
    app,
    store::{Commit, Store},
};
use stile_tests::{gateway, process::Stile, upstream::Upstream};
use tokio::time::Instant;

const KEYS: usize = 1_000_000;
const CONSUMERS: usize = 10_000;

fn key(n: usize) -> String {
    format!("a-key-of-{n:09}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A store with all of them, written as a gateway writes them.
async fn filled(folder: &std::path::Path) {
    let store = Store::open(folder).expect("a store");
    let mut n = 0;
    while n < KEYS {
        let mut commit = Commit::new();
        for _ in 0..20_000 {
            let consumer = n % CONSUMERS;
            if n < CONSUMERS {
                commit = commit.put(format!("consumer/c{consumer}"), "{}");
            }
            let lookup = hex(Presented::ApiKey(&key(n)).lookup().as_bytes());
            let kept = json!({ "type": "api-key", "created": "2026-01-01T00:00:00Z", "shown": {}, "lookup": lookup });
            commit = commit.put(format!("credential/c{consumer}/{n:09}"), kept.to_string());
            n += 1;
        }
        store.commit(commit).await.expect("room");
    }
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_million_api_keys() {
    let upstream = Upstream::echo().await;
    let mut config = gateway::plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    let empty = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(empty.path(), config.clone()).await;
    let before = gateway.memory("VmRSS");
    gateway.kill().await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    filled(&folder.path().join("store")).await;
    let start = Instant::now();
    let gateway = Stile::run(folder.path(), config.clone()).await;
    let started = start.elapsed();
    let each = (gateway.memory("VmRSS") - before) / KEYS as u64;
    gateway.kill().await;

    let file = gateway::write(folder.path(), config);
    let inside = app::Gateway::start(gateway::engine_for, &file).await.expect("it starts");
    let access = inside.control().live().load_full().access.clone();
    // One text, since a request's key was just read; each look-up is of a key that was not looked up before.
    let (length, text) = (key(0).len(), (0..KEYS).step_by(7).map(key).collect::<String>());
    let now = SystemTime::now();
    let is_known = |n: &usize| {
        let key = &text[n * length..(n + 1) * length];
        black_box(access.find(&Presented::ApiKey(key).lookup(), now)).is_some()
    };
    let start = Instant::now();
    let known = (0..text.len() / length).filter(is_known).count();
    let look_up = start.elapsed() / u32::try_from(known).expect("some");
    println!("{KEYS} keys: a look-up {look_up:?}, {each} bytes each, {started:?} to start");
    assert_eq!(known, text.len() / length, "every key is known");
    assert!(look_up < Duration::from_nanos(500) && each <= 200 && started < Duration::from_secs(5));
}
