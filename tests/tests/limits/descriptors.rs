//! Descriptors of a gateway near its limit of open files: its reserve, and calls of plugins.

use serde_json::Value;
use stile_tests::{client::with, guest::plugin_with};

use super::*;

const OPEN: &str = "stile_connections{listener=\"public\"}";

/// Returns the number of connections that the gateway opens to its service, which answers nothing. This client must be
/// the first one.
async fn opened_to_service(gateway: &Stile, silent: &Upstream) -> u64 {
    const REQUESTS: u32 = 200;
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    fill(&mut client, "/", REQUESTS).await;
    let admin = gateway.admin();
    until("each request has a connection or is refused", async || {
        let refused = admin.metric(r#"stile_upstream_attempts_total{service="echo",outcome="gateway"}"#).await;
        let opened = silent.count() as u64;
        (opened + refused == u64::from(REQUESTS)).then_some(opened)
    })
    .await
}

/// Returns the number of connections of clients that the gateway keeps, of more than it has room for.
async fn kept_of_clients(gateway: &Stile) -> u64 {
    const CLIENTS: u64 = 100;
    let admin = gateway.admin();
    until("no other client is there", async || (admin.metric(OPEN).await == 0).then_some(())).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(gateway.address()).await.expect("the kernel accepts"));
    }
    until("each connection is kept or closed", async || {
        let open = admin.metric(OPEN).await;
        let refused = admin.metric("stile_connections_refused_total{listener=\"public\"}").await;
        (open + refused == CLIENTS).then_some(open)
    })
    .await
}

#[tokio::test]
async fn a_larger_reserve_leaves_fewer_connections_to_services_and_of_clients() {
    let mut opened = Vec::new();
    let mut kept = Vec::new();
    for reserved in [30, 130] {
        let silent = Upstream::start(|_| Answer::Silence).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = plain(silent.address());
        config["workers"] = json!(1);
        config["limits"] = json!({ "reserved_descriptors": reserved });
        // No time-out frees a descriptor.
        let limits = json!({ "header_timeout": "1h" });
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": limits }]);
        config["routes"][0]["timeout"] = json!("1h");
        let gateway = Stile::run_with_files(folder.path(), config, (200, 200), Stdio::null()).await;
        opened.push(opened_to_service(&gateway, &silent).await);
        kept.push(kept_of_clients(&gateway).await);
    }
    // The two gateways may differ by a few other files.
    assert!((96..=104).contains(&opened[0].saturating_sub(opened[1])), "{opened:?} connections to the service");
    assert!((46..=54).contains(&kept[0].saturating_sub(kept[1])), "{kept:?} connections of clients");
}

#[tokio::test]
async fn connections_to_the_admin_address_take_no_descriptors_of_services() {
    let mut opened = Vec::new();
    for silent_to_admin in [0_u64, 24] {
        let silent = Upstream::start(|_| Answer::Silence).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = plain(silent.address());
        config["workers"] = json!(1);
        let tokens = json!([{ "name": "ops", "role": "admin", "secret": SECRET }]);
        let limits = json!({ "header_timeout": "1h" });
        config["admin"] = json!({ "address": "127.0.0.1:0", "limits": limits, "tokens": tokens });
        config["routes"][0]["timeout"] = json!("1h");
        let gateway = Stile::run_with_files(folder.path(), config, (200, 200), Stdio::null()).await;
        let mut kept = Vec::new();
        for _ in 0..silent_to_admin {
            kept.push(TcpStream::connect(gateway.address_of("admin")).await.expect("the kernel accepts"));
        }
        let open = "stile_connections{listener=\"admin\"}";
        let admin = gateway.admin();
        until("the gateway has taken them", async || (admin.metric(open).await > silent_to_admin).then_some(())).await;
        opened.push(opened_to_service(&gateway, &silent).await);
    }
    // The two gateways may differ by a few other files.
    assert!(opened[0].abs_diff(opened[1]) <= 8, "{opened:?} connections to the service");
}

#[tokio::test]
async fn the_admin_address_answers_beside_full_listeners_however_small_the_reserve_is() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    // One worker takes connections in their order, and closes the last one.
    config["workers"] = json!(1);
    config["limits"] = json!({ "reserved_descriptors": 0 });
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": { "header_timeout": "1h" } }]);
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), Stdio::null()).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(TcpStream::connect(gateway.address()).await.expect("the kernel accepts"));
    }
    let last = clients.pop().expect("a client");
    Raw(Wire::new(last)).closed().await;
    assert_eq!(gateway.admin().get("/healthz").await.status, 200);
}

/// A service on the path `/held`, and a plugin on the path `/call` that may call the service `asked`.
fn calling(held: &Upstream, asked: &Upstream) -> Value {
    // No time-out frees a descriptor or ends a call.
    let limits = json!({ "timeout": "2h", "call_timeout": "1h" });
    let keys = json!({ "allow": ["http-client"], "http": { "services": ["asked"] }, "limits": limits });
    let mut services = [service("held", &[held.address()]), service("asked", &[asked.address()])];
    for service in &mut services {
        service["idle_timeout"] = json!("1h");
        service["idle_connections"] = json!(1000);
    }
    let filters = json!([{ "plugin": "caller", "config": {} }]);
    json!({
        "workers": 1,
        "plugins": [plugin_with("caller", keys)],
        "services": services,
        "routes": [
            { "name": "held", "match": { "path": "/held" }, "service": "held", "timeout": "1h" },
            { "name": "call", "match": { "path": "/call" }, "service": "held", "filters": filters },
        ],
    })
}

/// Lets the plugin call the service `asked`, and returns the result of that call.
async fn call(client: &mut Client) -> String {
    let answer = client.send(with("/call", &[("x-call", "service://asked/")])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[tokio::test]
async fn a_call_of_a_plugin_without_a_descriptor_fails_and_blames_no_endpoint() {
    let silent = Upstream::start(|_| Answer::Silence).await;
    let asked = Upstream::start(|_| Answer::text("ok")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = calling(&silent, &asked);
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), Stdio::null()).await;
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    fill(&mut client, "/held", 200).await;
    // A descriptor of another use may be free now, and a call that succeeds leaves an idle connection: each further
    // request takes one of them.
    let mut caller = Client::http2(gateway.address()).await;
    let mut stream = 401;
    let failed = until("a call finds no descriptor", async || {
        client.write(&frames::head(stream, "GET", "/held", true)).await.expect("the gateway reads");
        stream += 2;
        Some(call(&mut caller).await).filter(|result| result != "200 ok")
    })
    .await;
    assert!(failed.starts_with("the call failed: ") && failed.contains("Too many open files"), "{failed}");
    let admin = gateway.admin();
    let up = format!("stile_endpoint_up{{service=\"asked\",endpoint=\"{}\"}}", asked.address());
    assert_eq!(admin.metric(&up).await, 1);
    let attempts = |outcome: &str| format!(r#"stile_upstream_attempts_total{{service="asked",outcome="{outcome}"}}"#);
    assert!(admin.metric(&attempts("gateway")).await > 0);
    assert_eq!(admin.metric(&attempts("refused")).await, 0);
    drop(client);
    until("there are descriptors again", async || (call(&mut caller).await == "200 ok").then_some(())).await;
}

#[tokio::test]
async fn calls_of_a_plugin_close_idle_connections_where_no_descriptor_is_left() {
    const CALLS: usize = 20;
    let held_gate = Gate::new();
    let asked_gate = Gate::new();
    let behind = held_gate.clone();
    let held = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("ok")))).await;
    let behind = asked_gate.clone();
    let asked = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("ok")))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = calling(&held, &asked);
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), Stdio::null()).await;
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    let before = fill(&mut client, "/held", 200).await;
    held_gate.cancel();
    for _ in before..200 {
        answered(&mut client).await;
    }
    let kept = held.open();
    assert!(kept >= CALLS, "{kept} connections are kept");
    let caller = Client::http2(gateway.address()).await;
    let mut calls = JoinSet::new();
    for open in 1..=CALLS {
        let mut another = caller.another();
        calls.spawn(async move { call(&mut another).await });
        // One after the other: no call takes the descriptor that another one has made free.
        until("the call has its connection", async || (asked.open() == open).then_some(())).await;
    }
    until("idle connections are closed", async || (held.open() < kept).then_some(())).await;
    asked_gate.cancel();
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.expect("no panic"), "200 ok");
    }
}
