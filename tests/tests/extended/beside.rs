//! Traffic goes on while the control plane is at work: reloads, writes by the thousand, a disk that takes nothing more.

use std::{cell::Cell, future::pending, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use stile_tests::{
    gateway::{self, service},
    load::latencies,
    process::Stile,
    upstream::Upstream,
    wait::until,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(3);

/// What a client of its own waits for, at the 99th percentile, in turns: while nothing else happens, and beside work.
async fn p99_beside(
    gateway: &Stile,
    path: &'static str,
    mut work: impl AsyncFnMut(),
) -> (Vec<Duration>, Vec<Duration>) {
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for round in 0..2 * ROUNDS {
        // On a thread of its own, as a client is: what this test does must not keep it waiting.
        let address = gateway.address();
        let client = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(latencies(address, path, ROUND))
        });
        let is_busy = round % 2 == 1;
        let times = tokio::select! {
            times = client => times.expect("every answer is right"),
            () = async { if is_busy { work().await } pending().await } => unreachable!("it waits for the client"),
        };
        let p99 = times[times.len() * 99 / 100];
        if is_busy { busy.push(p99) } else { quiet.push(p99) }
    }
    quiet.sort();
    busy.sort();
    (quiet, busy)
}

/// Medians, with what lay around them.
fn told(quiet: &[Duration], busy: &[Duration]) -> String {
    let each = |p99s: &[Duration]| format!("{:?} ({:?} to {:?})", p99s[ROUNDS / 2], p99s[0], p99s[ROUNDS - 1]);
    format!("p99 {} quiet, {} beside it", each(quiet), each(busy))
}

#[tokio::test]
#[ignore = "a time, for a machine that has nothing else to do"]
async fn ten_thousand_routes_are_compiled_beside_the_traffic() {
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
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), config(0)).await;
    let (mut last, mut longest) = (0, Duration::ZERO);
    let (quiet, busy) = p99_beside(&gateway, "/service-7/items/1", async || {
        loop {
            last += 1;
            gateway::write(folder.path(), config(last));
            let (start, generation) = (Instant::now(), gateway.admin().generation().await);
            until("it is live", async || (gateway.admin().generation().await > generation).then_some(())).await;
            longest = longest.max(start.elapsed());
        }
    })
    .await;
    println!("{last} reloads, the longest {longest:?}, debounce included; {}", told(&quiet, &busy));
    assert!(last > 10, "they were reloads beside traffic");
}

#[tokio::test]
#[ignore = "a time, for a machine that has nothing else to do"]
async fn a_thousand_writes_a_second_are_made_beside_the_traffic() {
    const EACH_SECOND: u32 = 1000;
    const AT_ONCE: usize = 100;
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = gateway::plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    let gateway = Stile::run(folder.path(), config).await;
    let admin = gateway.admin();
    let (next, made) = (Cell::new(0u32), Cell::new(0u32));
    let (mut time, mut longest) = (Duration::ZERO, Duration::ZERO);
    let (quiet, busy) = p99_beside(&gateway, "/", async || {
        let begin = Instant::now();
        let (next, made) = (&next, &made);
        let writer = async |n: usize| {
            let mut pace = interval(Duration::from_secs(1) * u32::try_from(AT_ONCE).expect("few") / EACH_SECOND);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut longest = Duration::ZERO;
            while begin.elapsed() < ROUND - Duration::from_millis(300) {
                pace.tick().await;
                let version = next.replace(next.get() + 1);
                let body = json!({ "connect_timeout": format!("{}ms", 100 + version % 1000) });
                let start = Instant::now();
                let path = format!("/v1/services/s{}", n + AT_ONCE * (version as usize / AT_ONCE % 10));
                let status = admin.try_put(&path, &body.to_string()).await;
                assert!(matches!(status, Some(200 | 201)), "{path}: {status:?}");
                longest = longest.max(start.elapsed());
                made.set(made.get() + 1);
            }
            longest
        };
        let all = join_all((0..AT_ONCE).map(writer)).await;
        longest = all.into_iter().max().unwrap_or_default().max(longest);
        time += begin.elapsed();
    })
    .await;
    let rate = f64::from(made.get()) / time.as_secs_f64();
    println!("{rate:.0} writes a second, the longest {longest:?}; {}", told(&quiet, &busy));
    assert!(rate >= 950.0, "{rate}");
    let generations = admin.generation().await;
    println!("{} writes in {generations} generations", made.get());
}
