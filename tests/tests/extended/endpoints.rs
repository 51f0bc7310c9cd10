//! A hundred thousand endpoints that announced themselves: what a heartbeat costs, how soon a registration gets requests, how
//! much memory they have, how soon a gateway is there with them.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use stile_gateway::{app, cpu};
use stile_tests::{
    admin::SECRET,
    client::{Client, with},
    gateway,
    population::{ENDPOINTS, config, fill, id, service},
    process::Stile,
    upstream::Upstream,
};
use tokio::time::Instant;

const HEARTBEATS: usize = 20_000;

/// Registers all of them in a gateway of this process, and gives how long that takes and what a heartbeat costs there.
async fn filled(folder: &std::path::Path) -> (Duration, Duration) {
    let file = gateway::write(folder, config());
    let inside = app::Gateway::start(gateway::engine_for, &file).await.expect("it starts");
    let registry = inside.control().registry();
    let start = Instant::now();
    fill(registry).await;
    let registered = start.elapsed();
    let names: Vec<_> = (0..ENDPOINTS).step_by(7).map(|n| (service(n), id(n))).collect();
    let before = cpu::nanos();
    let kept = names.iter().filter(|(service, id)| registry.heartbeat(service, id).is_ok()).count();
    let heartbeat = Duration::from_nanos(cpu::nanos() - before) / u32::try_from(kept).expect("some");
    assert_eq!(kept, names.len());
    inside.stop().await;
    (registered, heartbeat)
}

/// What the gateway spends on a heartbeat that comes by HTTP.
async fn by_http(gateway: &Stile) -> Duration {
    let bearer = format!("Bearer {SECRET}");
    let mut clients = join_all((0..8).map(|_| Client::connect(gateway.address_of("admin")))).await;
    let before = gateway.cpu();
    let each = clients.iter_mut().enumerate().map(|(which, client)| {
        let bearer = &bearer;
        async move {
            for n in 0..HEARTBEATS / 8 {
                let n = (n * 8 + which) * 5 % ENDPOINTS;
                let path = format!("/v1/services/{}/endpoints/{}/heartbeat", service(n), id(n));
                let mut request = with(&path, &[("authorization", bearer)]);
                *request.method_mut() = http::Method::POST;
                assert_eq!(client.send(request).await.status, 204);
            }
        }
    });
    join_all(each).await;
    (gateway.cpu() - before) / u32::try_from(HEARTBEATS).expect("few")
}

/// From the moment that an endpoint announces itself to the answer to its first request: the longest of many.
async fn until_routable(gateway: &Stile) -> Duration {
    let mut longest = Duration::ZERO;
    let mut client = Client::connect(gateway.address()).await;
    for n in 0..50 {
        let upstream = Upstream::named(&format!("new-{n}")).await;
        let (admin, service) = (gateway.admin(), format!("few-{n:02}"));
        let start = Instant::now();
        let path = format!("/v1/services/{service}/endpoints/new");
        assert_eq!(admin.send("PUT", &path, json!({ "address": upstream.address() })).await.status, 201);
        let answer = client.get(&format!("/call/{service}/")).await;
        longest = longest.max(start.elapsed());
        assert_eq!(answer.json()["name"], format!("new-{n}"), "the next request finds it");
    }
    longest
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_hundred_thousand_endpoints() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(empty.path(), config()).await;
    let before = gateway.memory("VmRSS");
    gateway.kill().await;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (registered, heartbeat) = filled(folder.path()).await;
    let start = Instant::now();
    let gateway = Stile::run(folder.path(), config()).await;
    let started = start.elapsed();
    let each = (gateway.memory("VmRSS") - before) / ENDPOINTS as u64;
    let http = by_http(&gateway).await;
    let routable = until_routable(&gateway).await;
    println!(
        "{ENDPOINTS} endpoints registered in {registered:?}: a heartbeat {heartbeat:?} of CPU, {http:?} by HTTP; routable after {routable:?} at most; \
         {each} bytes each; {started:?} to start"
    );
    assert!(heartbeat <= Duration::from_micros(20) && http <= Duration::from_micros(60));
    assert!(routable <= Duration::from_millis(50) && started <= Duration::from_secs(3) && each <= 1024);
}
