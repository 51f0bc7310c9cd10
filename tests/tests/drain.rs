//! Stopping: what is in flight finishes within the grace period, nothing new begins.

mod closing;

use std::time::Duration;

use serde_json::json;
use stile_tests::{
    client::{Client, get},
    gateway::{Gateway, plain},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

async fn held(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |_| Answer::Behind(gate.clone(), Box::new(Answer::text("late")))).await
}

#[tokio::test]
async fn an_exchange_in_flight_finishes_and_then_the_process_ends_well() {
    let gate = Gate::new();
    let upstream = held(&gate).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let (address, mut tasks) = (gateway.address(), JoinSet::new());
    for _ in 0..4 {
        let mut client = Client::connect(address).await;
        tasks.spawn(async move { client.get("/").await.text() });
    }
    let mut second = Client::http2(address).await;
    tasks.spawn(async move { second.send(get("/")).await.text() });
    upstream.received(5).await;
    let mut idle = Raw::connect(address).await;
    gateway.terminate().await;
    until("new connections are refused", async || TcpStream::connect(address).await.err()).await;
    idle.closed().await;
    assert!(tasks.try_join_next().is_none(), "nothing in flight was cut");
    gate.cancel();
    while let Some(text) = tasks.join_next().await {
        assert_eq!(text.expect("an answer"), "late");
    }
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_wait_for_the_grace_period() {
    let upstream = Upstream::start(|_| Answer::text("here")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["grace"] = json!("1h");
    let gateway = Stile::run(folder.path(), config).await;
    let address = gateway.address();
    let (mut first, mut second) = (Client::connect(address).await, Client::http2(address).await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/").await.text(), "here");
    }
    // Its protocol is known, its first request is not.
    let mut half = Raw::connect(address).await;
    half.write("GET / HTTP/1.1").await;
    gateway.terminate().await;
    half.closed().await;
    assert_eq!(gateway.ended().await, Some(0));
    drop((first, second));
}

#[tokio::test]
async fn the_grace_period_has_an_end() {
    let upstream = Upstream::start(|_| Answer::Silence).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["grace"] = json!("300ms");
    let gateway = Stile::run(folder.path(), config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.received(1).await;
    let start = Instant::now();
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(0));
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    client.closed().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_a_hang_up_does_not() {
    let upstream = Upstream::start(|_| Answer::Silence).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["grace"] = json!("1h");
    let gateway = Stile::run(folder.path(), config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.received(1).await;
    gateway.signal("-HUP").await;
    assert_eq!(gateway.admin().get("/readyz").await.status, 200);
    gateway.terminate().await;
    until("it is draining", async || (gateway.admin().get("/readyz").await.status == 503).then_some(())).await;
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(1));
    client.closed().await;
}

#[tokio::test]
async fn a_stopped_gateway_tells_how_many_connections_it_cut() {
    let upstream = Upstream::start(|_| Answer::Silence).await;
    let mut config = plain(upstream.address());
    config["grace"] = json!("100ms");
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.received(1).await;
    assert_eq!(gateway.stop().await, 1);
    client.closed().await;
}

#[tokio::test]
async fn a_listener_that_is_taken_out_stops_accepting_and_the_others_go_on() {
    let gate = Gate::new();
    let upstream = held(&gate).await;
    let mut config = plain(upstream.address());
    let listener = |name: &str| json!({ "name": name, "address": "127.0.0.1:0" });
    config["listeners"] = json!([listener("public"), listener("second")]);
    let gateway = Gateway::start(config.clone()).await;
    let (first, second) = (gateway.address(), gateway.address_of("second"));
    let mut client = Client::connect(second).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.get("/").await.text() });
    upstream.received(1).await;
    config["listeners"] = json!([listener("public"), listener("third")]);
    gateway.rewrite(config).await;
    until("the second listener refuses", async || TcpStream::connect(second).await.err()).await;
    gate.cancel();
    assert_eq!(tasks.join_next().await.expect("a task").expect("an answer"), "late");
    assert_eq!(gateway.address(), first, "it was not bound anew");
    for name in ["public", "third"] {
        assert_eq!(Client::connect(gateway.address_of(name)).await.get("/").await.text(), "late");
    }
}
