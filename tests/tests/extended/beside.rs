//! Traffic goes on while the control plane is at work: ten thousand routes are compiled, a thousand writes a second made.
//!
//! Client, service and worker have a core of their own and all else another, so that what is seen is what the control plane
//! does to the data plane, not how a kernel shares a core.

use std::{cell::Cell, fs, future::pending, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use stile_tests::{
    gateway::{self, service},
    load::latencies,
    process::Stile,
    upstream::Upstream,
    wait::until,
};
use tokio::{
    runtime::Builder,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, MissedTickBehavior, interval},
};

const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(3);
const TRAFFIC: usize = 0;
const ELSE: usize = 1;

/// A service, and one client of a gateway, on a thread of their own.
struct Traffic {
    service: SocketAddr,
    ask: UnboundedSender<(SocketAddr, &'static str)>,
    told: UnboundedReceiver<Vec<Duration>>,
}

impl Traffic {
    async fn start() -> Self {
        let (ask, mut asked) = unbounded_channel();
        let (tell, told) = unbounded_channel();
        let (begin, begun) = oneshot::channel();
        pin(Path::new("/proc/thread-self"), ELSE);
        thread::spawn(move || {
            pin(Path::new("/proc/thread-self"), TRAFFIC);
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let upstream = Upstream::echo().await;
                begin.send(upstream.address()).expect("it is waited for");
                while let Some((gateway, path)) = asked.recv().await {
                    tell.send(latencies(gateway, path, ROUND).await).expect("it is waited for");
                }
            });
        });
        Self { service: begun.await.expect("it starts"), ask, told }
    }

    /// What the client waits for, at the 99th percentile, in turns: beside what is usual, and beside more.
    async fn p99(
        &mut self,
        gateway: &Stile,
        path: &'static str,
        mut usual: impl AsyncFnMut(),
        mut more: impl AsyncFnMut(),
    ) -> String {
        for thread in gateway.threads() {
            let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
            pin(&thread, if name.starts_with("stile-worker") { TRAFFIC } else { ELSE });
        }
        let mut p99s = [Vec::new(), Vec::new()];
        for round in 0..2 * ROUNDS {
            self.ask.send((gateway.address(), path)).expect("the thread runs");
            let beside = async {
                if round % 2 == 0 {
                    usual().await
                } else {
                    more().await
                }
                pending().await
            };
            let times = tokio::select! {
                times = self.told.recv() => times.expect("every answer is right"),
                () = beside => unreachable!("it waits for the client"),
            };
            p99s[round % 2].push(times[times.len() * 99 / 100]);
        }
        let [usual, more] = p99s.map(|mut p99s| {
            p99s.sort();
            format!("{:?} ({:?} to {:?})", p99s[ROUNDS / 2], p99s[0], p99s[ROUNDS - 1])
        });
        format!("p99 {usual} without, {more} with")
    }
}

/// Puts a thread, told by its folder in /proc, on one core; those that it starts stay there.
fn pin(thread: &Path, core: usize) {
    let id = fs::canonicalize(thread).expect("Linux tells");
    let id = id.file_name().and_then(|id| id.to_str()).expect("a number");
    let done = Command::new("taskset").args(["--cpu-list", "--pid", &core.to_string(), id]).output();
    assert!(done.expect("taskset is there").status.success(), "there is no core {core}, or no thread {id}");
}

#[tokio::test]
#[ignore = "a time, for a machine that has nothing else to do"]
async fn ten_thousand_routes_are_compiled_beside_the_traffic() {
    let mut traffic = Traffic::start().await;
    let config = |last: u32| {
        let route = |n: u32| {
            let path = if n == 9_999 { format!("/last-{last}") } else { format!("/service-{n}/items/*") };
            json!({ "name": format!("route-{n}"), "service": "echo", "match": { "path": path } })
        };
        json!({
            "workers": 1,
            "services": [service("echo", &[traffic.service])],
            "routes": (0..10_000).map(route).collect::<Vec<_>>(),
        })
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Written beforehand, so that this takes no time meanwhile.
    let [other, first] = [1, 0].map(|last| fs::read(gateway::write(folder.path(), config(last))).expect("it is there"));
    let gateway = Stile::start(folder.path(), &[]).await;
    let (file, draft) = (folder.path().join("stile.yaml"), folder.path().join("stile.yaml.draft"));
    let (mut reloads, mut longest) = (0, Duration::ZERO);
    let reload = async || {
        loop {
            reloads += 1;
            fs::write(&draft, if reloads % 2 == 1 { &other } else { &first }).expect("the folder is ours");
            let (start, generation) = (Instant::now(), gateway.admin().generation().await);
            fs::rename(&draft, &file).expect("the folder is ours");
            until("it is live", async || (gateway.admin().generation().await > generation).then_some(())).await;
            longest = longest.max(start.elapsed());
        }
    };
    let told = traffic.p99(&gateway, "/service-7/items/1", async || (), reload).await;
    println!("{reloads} reloads, the longest {longest:?}, debounce included; {told}");
    assert!(reloads > 10, "they were reloads beside traffic");
}

#[tokio::test]
#[ignore = "a time, for a machine that has nothing else to do"]
async fn a_thousand_writes_a_second_are_made_beside_the_traffic() {
    const EACH_SECOND: u32 = 1000;
    const AT_ONCE: usize = 100;
    let mut traffic = Traffic::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = gateway::plain(traffic.service);
    config["store"] = json!({ "path": "store" });
    config["workers"] = json!(1);
    let gateway = Stile::run(folder.path(), config).await;
    let admin = gateway.admin();
    let (next, made) = (Cell::new(0u32), Cell::new(0u32));
    let (mut time, mut longest) = (Duration::ZERO, Duration::ZERO);
    // So many calls a second, of which each has a connection of its own.
    let calls = async |method: &'static str| {
        let (begin, next) = (Instant::now(), &next);
        let caller = async |n: usize| {
            let mut pace = interval(Duration::from_secs(1) * u32::try_from(AT_ONCE).expect("few") / EACH_SECOND);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut longest, mut done) = (Duration::ZERO, 0);
            while begin.elapsed() < ROUND - Duration::from_millis(300) {
                pace.tick().await;
                let version = next.replace(next.get() + 1);
                let body = json!({ "connect_timeout": format!("{}ms", 100 + version % 1000) });
                let start = Instant::now();
                let path = format!("/v1/services/s{}", n + AT_ONCE * (version as usize / AT_ONCE % 10));
                let status = admin.try_call(method, &path, &body.to_string()).await;
                assert!(matches!(status, Some(200 | 201)), "{method} {path}: {status:?}");
                longest = longest.max(start.elapsed());
                done += 1;
            }
            (longest, done)
        };
        let all = join_all((0..AT_ONCE).map(caller)).await;
        let longest = all.iter().map(|(longest, _)| *longest).max().unwrap_or_default();
        (longest, all.iter().map(|(_, done)| done).sum::<u32>(), begin.elapsed())
    };
    for n in 0..1000 {
        assert_eq!(admin.try_call("PUT", &format!("/v1/services/s{n}"), "{}").await, Some(201));
    }
    let before = admin.generation().await;
    let read = async || {
        calls("GET").await;
    };
    let write = async || {
        let (most, done, took) = calls("PUT").await;
        longest = longest.max(most);
        time += took;
        made.set(made.get() + done);
    };
    let told = traffic.p99(&gateway, "/", read, write).await;
    let (rate, generations) = (f64::from(made.get()) / time.as_secs_f64(), admin.generation().await - before);
    println!(
        "{rate:.0} writes a second in {generations} generations, the longest {longest:?}; beside as many reads: {told}"
    );
    assert!(rate >= 950.0, "{rate}");
}
