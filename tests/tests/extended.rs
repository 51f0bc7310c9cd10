//! What takes minutes, or means something only where the machine has nothing else to do: run by `tests/extended`.

use serde_json::{Value, json};
mod beside;
mod consumers;
mod disk;
mod endpoints;
mod kills;
mod neighbours;
mod plugins;
mod slow;
mod streams;

use stile_tests::{
    gateway::{self, service},
    guest,
    process::Stile,
    upstream::Upstream,
    wait::until,
};
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
