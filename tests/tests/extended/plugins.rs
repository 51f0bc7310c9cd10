//! Plugins in number: exchanges open at once, shares of many requests, harm without end.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use stile_tests::{
    client::{Client, with},
    gateway::{Gateway, filtered},
    guest::{self, plugin_with, plugin_with_default_deadline},
    process::Stile,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};
use tokio::task::JoinSet;

const OPEN: usize = 10_000;
/// Streams on each connection of a client.
const STREAMS: usize = 250;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "opens twenty thousand sockets"]
async fn ten_thousand_exchanges_are_open_at_once_on_one_filter() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/now" => Answer::text("now"),
        _ => Answer::Behind(behind.clone(), Box::new(Answer::text("late"))),
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Far fewer instances than exchanges: none waits for a service with one in its hands.
    let keeper = plugin_with("keeper", json!({ "limits": { "instances": 16 } }));
    let mut config = filtered(upstream.address(), json!([keeper]), json!([{ "plugin": "keeper", "config": {} }]));
    config["routes"][0]["timeout"] = json!("5m");
    config["services"][0]["connect_timeout"] = json!("30s");
    let gateway = Stile::run(folder.path(), config).await;
    let ask = |path: &str| with(path, &[("x-keep", "1")]);
    Client::connect(gateway.address()).await.send(ask("/now")).await;
    let before = gateway.memory("VmRSS");
    let connections = join_all((0..OPEN / STREAMS).map(|_| Client::http2(gateway.address()))).await;
    let mut late = JoinSet::new();
    // In waves, since a service accepts only so many at once.
    for connection in &connections {
        for _ in 0..STREAMS {
            let (mut client, asked) = (connection.another(), ask("/late"));
            late.spawn(async move { client.try_send(asked).await });
        }
        let wave = late.len();
        until("a wave is open", async || {
            if let Some(ended) = late.try_join_next() {
                panic!("with {} open one has ended: {ended:?}", upstream.open());
            }
            (upstream.open() >= wave).then_some(())
        })
        .await;
    }
    let during = gateway.memory("VmRSS");
    let metric = r#"stile_plugin_exchanges{plugin="keeper",revision="1"}"#;
    assert_eq!(gateway.admin().metric(metric).await, OPEN as u64);
    // One more is served all the same.
    let answer = Client::connect(gateway.address()).await.send(ask("/now")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-kept")), (200, "/now"));
    gate.cancel();
    let right = |answer: &hyper::Result<stile_tests::client::Answer>| {
        answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.header("x-kept") == "/late")
    };
    let answers = late.join_all().await;
    assert_eq!(answers.iter().filter(|answer| right(answer)).count(), OPEN);
    let each = (during - before) / OPEN as u64;
    println!("{OPEN} exchanges open: {each} bytes each, their two connections' share included");
    assert!(each < 64 << 10, "{each} bytes each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a hundred thousand requests"]
async fn ten_percent_of_a_hundred_thousand_requests_are_ten_percent() {
    const REQUESTS: usize = 100_000;
    const CLIENTS: usize = 8;
    let upstream = Upstream::start(|_| Answer::text("ok")).await;
    let plugin = json!({ "name": "stamp", "rollout": { "key": "header:x-user" } });
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "m" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin]), filters)).await;
    let admin = gateway.admin();
    admin.push("stamp", guest::stamp(1)).await;
    let path = "/v1/plugins/stamp/revisions?percent=10";
    let pushed = admin.call("PUT", path, Some(stile_tests::admin::SECRET), guest::stamp(2)).await;
    assert_eq!(pushed.status, 201);
    let clients = (0..CLIENTS).map(async |client| {
        let mut connection = Client::connect(gateway.address()).await;
        let mut new = Vec::new();
        for user in (client..REQUESTS).step_by(CLIENTS) {
            let answer = connection.send(with("/", &[("x-user", &user.to_string())])).await;
            if answer.header("x-stamp").starts_with("2/") {
                new.push(user);
            }
        }
        new
    });
    let new = join_all(clients).await.concat();
    let share = new.len() as f64 / REQUESTS as f64 * 100.0;
    println!("{share:.2} % of {REQUESTS}");
    assert!((9.0..=11.0).contains(&share), "{share} %");
    // The same ones once more, on another connection.
    let mut connection = Client::connect(gateway.address()).await;
    for user in new.iter().step_by(10) {
        let answer = connection.send(with("/", &[("x-user", &user.to_string())])).await;
        assert!(answer.header("x-stamp").starts_with("2/"), "user {user}");
    }
}

const REPEATED: usize = 10_000;
const AT_ONCE: usize = 16;

/// So many requests of this kind, over some connections; the number that were answered 503.
async fn repeated(gateway: &Stile, count: usize, request: impl Fn() -> Request<Full<Bytes>>) -> usize {
    let clients = (0..AT_ONCE).map(async |_| {
        let mut client = Client::connect(gateway.address()).await;
        let mut closed = 0;
        for _ in 0..count / AT_ONCE {
            closed += usize::from(client.send(request()).await.status == 503);
        }
        closed
    });
    join_all(clients).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_harms_of_each_kind_leave_nothing_behind() {
    let upstream = Arc::new(Upstream::echo().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = filtered(
        upstream.address(),
        json!([plugin_with_default_deadline("hostile")]),
        json!([{ "plugin": "hostile" }]),
    );
    let gateway = Stile::run(folder.path(), config).await;
    for harm in ["loop", "grow", "recurse", "panic", "trap", "error", "flood"] {
        for header in ["x-do", "x-do-late"] {
            let request = || with("/", &[(header, harm)]);
            repeated(&gateway, REPEATED / 10, request).await;
            let before = gateway.memory("VmRSS");
            let closed = repeated(&gateway, REPEATED, request).await;
            let growth = gateway.memory("VmRSS").saturating_sub(before);
            println!("{harm} by {header}: {closed} of {REPEATED} closed, {} KiB more", growth >> 10);
            assert_eq!(closed, REPEATED, "{harm} by {header}");
            assert!(growth < 16 << 20, "{harm} by {header}: {growth} bytes more");
        }
    }
    assert_eq!(Client::connect(gateway.address()).await.get("/").await.status, 200);
    let metric = r#"stile_plugin_exchanges{plugin="hostile",revision="1"}"#;
    assert_eq!(gateway.admin().metric(metric).await, 0);
}
