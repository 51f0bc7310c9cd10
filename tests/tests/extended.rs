//! What takes minutes, or means something only where the machine has nothing else to do: run by `tests/extended`.

use std::time::Duration;

use serde_json::{Value, json};
mod consumers;
mod kills;

use stile_tests::{
    gateway::{self, Gateway, service},
    guest,
    load::latencies,
    process::Stile,
    upstream::Upstream,
    wait::until,
};
use tokio::time::Instant;

/// Routes that each have a filter with a configuration of its own, another one in each generation.
fn with_filters(upstream: &Upstream, routes: usize, generation: usize) -> Value {
    let route = |n: usize| {
        json!({
            "name": format!("route-{n}"),
            "service": "echo",
            "match": { "path": format!("/{n}/*") },
            "filters": [{ "plugin": "stamp", "config": { "mark": format!("{generation}-{n}") } }],
        })
    };
    json!({
        "plugins": [guest::plugin("stamp")],
        "services": [service("echo", &[upstream.address()])],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
    })
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_thousand_reloads_leave_memory_flat() {
    const RELOADS: usize = 1000;
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), with_filters(&upstream, 80, 0)).await;
    let mut client = stile_tests::client::Client::connect(gateway.address()).await;
    let mut memory = Vec::with_capacity(RELOADS);
    for generation in 1..=RELOADS {
        gateway::write(folder.path(), with_filters(&upstream, 80, generation));
        let path = format!("/{}/x", generation % 80);
        let mark = format!("/{generation}-{}", generation % 80);
        until("the generation is live", async || {
            client.get(&path).await.header("x-stamp").ends_with(&mark).then_some(())
        })
        .await;
        memory.push(gateway.memory("VmRSS"));
    }
    // As the middle of the last five hundred begins and as it ends, each over fifty reloads.
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    let (begin, end) = (mean(&memory[500..550]), mean(&memory[RELOADS - 50..]));
    let growth = (end as f64 / begin as f64 - 1.0) * 100.0;
    println!("{} KiB after 500 reloads, {} KiB after 1000: {growth:+.1} %", begin >> 10, end >> 10);
    assert!(growth <= 5.0, "{growth} %");
}

#[tokio::test]
#[ignore = "a time, for a machine that has nothing else to do"]
async fn ten_thousand_routes_are_compiled_beside_the_traffic() {
    const RELOADS: u32 = 10;
    let upstream = Upstream::echo().await;
    let config = |last: u32| {
        let route = |n: u32| {
            let path = if n == 9_999 { format!("/last-{last}") } else { format!("/service-{n}/items/*") };
            json!({ "name": format!("route-{n}"), "service": "echo", "match": { "path": path } })
        };
        json!({
            "services": [service("echo", &[upstream.address()])],
            "routes": (0..10_000).map(route).collect::<Vec<_>>(),
        })
    };
    let gateway = Gateway::start(config(0)).await;
    let quiet = latencies(gateway.address(), "/service-7/items/1", Duration::from_secs(5)).await;
    let reloads = async {
        let mut times = Vec::new();
        for reload in 1..=RELOADS {
            let start = Instant::now();
            gateway.rewrite(config(reload)).await;
            times.push(start.elapsed());
        }
        times
    };
    let load = latencies(gateway.address(), "/service-7/items/1", Duration::from_secs(5));
    let (busy, times) = tokio::join!(load, reloads);
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    println!(
        "a reload {:?} at most; p99 {:?} quiet, {:?} while reloading",
        times.iter().max(),
        p99(&quiet),
        p99(&busy)
    );
    assert_eq!(gateway.get(&format!("/last-{RELOADS}")).await.status, 200);
}
