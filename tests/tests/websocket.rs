//! WebSockets: a request that asks for one is an exchange like others until both sides have agreed; then bytes pass.

use std::sync::Arc;

use serde_json::{Value, json};
use stile_tests::{
    gateway::{Gateway, filtered, plain},
    guest::{plugin, plugin_with},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::until,
    wire::Head,
};

const ASKED: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One that agrees to everything, with a greeting in the same breath, and sends back what it gets.
async fn mirror() -> Upstream {
    Upstream::start(|_| Answer::BytesThenMirror(format!("{AGREED}hello").into_bytes())).await
}

async fn open(gateway: &Gateway) -> (Raw, Head) {
    let mut client = Raw::connect(gateway.address()).await;
    client.write(ASKED).await;
    let head = client.head().await;
    (client, head)
}

#[tokio::test]
async fn bytes_pass_both_ways_once_both_sides_agree() {
    let upstream = mirror().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let (mut client, head) = open(&gateway).await;
    assert_eq!((head.status(), head.get("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!((head.get("connection"), head.get("upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(client.text(5).await, "hello");
    for text in ["one", "two", &"x".repeat(300_000)] {
        client.write(text).await;
        assert_eq!(client.text(text.len() as u64).await, *text);
    }
    let head = upstream.last().head;
    assert_eq!((head.get("connection"), head.get("upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(head.get("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(head.get("x-forwarded-for").is_some(), "{head:?}");
    client.0.stream.set_zero_linger().expect("a socket");
    drop(client);
    until("the service's side ends too", async || (upstream.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_goes_on_writing_keeps_no_service_that_is_gone() {
    let upstream = Upstream::start(|_| Answer::BytesThenClose(format!("{AGREED}hello").into_bytes())).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let (mut client, _) = open(&gateway).await;
    client.trickle().await;
}

/// Frames may look like status lines: each of these would be an interim response.
#[tokio::test]
async fn frames_are_no_interim_responses() {
    let upstream = mirror().await;
    let mut config = plain(upstream.address());
    config["services"][0]["interim_responses"] = json!(0);
    let gateway = Gateway::start(config).await;
    let (mut client, _) = open(&gateway).await;
    assert_eq!(client.text(5).await, "hello");
    for _ in 0..3 {
        let frame = "HTTP/1.1 103 Early Hints\r\n\r\n";
        client.write(frame).await;
        assert_eq!(client.text(frame.len() as u64).await, frame);
    }
}

#[tokio::test]
async fn it_counts_as_one_exchange_with_its_bytes_when_it_ends() {
    let upstream = mirror().await;
    let mut config = plain(upstream.address());
    config["access_log"] = json!({ "file": "log", "format": "{path} {status} {received_bytes} {sent_bytes} {cause}" });
    let gateway = Gateway::start(config).await;
    let (mut client, _) = open(&gateway).await;
    client.write("0123456789").await;
    assert_eq!(client.text(15).await, "hello0123456789");
    drop(client);
    let log = gateway.folder().join("log");
    let line = until("a line", async || std::fs::read_to_string(&log).ok().filter(|text| text.ends_with('\n'))).await;
    assert_eq!(line, "/chat 101 10 15 -\n");
}

#[tokio::test]
async fn only_what_was_asked_for_is_agreed_to() {
    let bytes = |text: &str| Answer::Bytes(text.as_bytes().to_vec());
    let other = AGREED.replace("websocket\r", "h2c\r");
    let upstream = Upstream::start(move |received| match received.target() {
        "/other" => bytes(&other),
        _ => bytes(AGREED),
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let refused = [
        ("another protocol is not passed on", ASKED.replace("websocket", "h2c")),
        ("Connection must name it", ASKED.replace("connection: keep-alive, Upgrade\r\n", "")),
        ("only GET", ASKED.replace("GET", "POST").replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n")),
        ("the service agrees to another", ASKED.replace("/chat", "/other")),
    ];
    for (n, (what, request)) in refused.iter().enumerate() {
        let mut client = Raw::connect(gateway.address()).await;
        assert_eq!(client.ask(request).await.status(), 502, "{what}");
        assert_eq!(upstream.last().head.get("upgrade").is_some(), n == 3, "{what}");
    }
}

#[tokio::test]
async fn filters_decide_on_it_and_see_its_answer() {
    let upstream = mirror().await;
    let filters = json!([
        { "plugin": "require-token", "config": { "header": "x-token", "tokens": ["open-sesame"] } },
        { "plugin": "stamp", "config": { "mark": "a" } },
    ]);
    let gateway =
        Gateway::start(filtered(upstream.address(), json!([plugin("require-token"), plugin("stamp")]), filters)).await;
    let (_, head) = open(&gateway).await;
    assert_eq!((head.status(), upstream.count()), (401, 0));
    let mut client = Raw::connect(gateway.address()).await;
    client.write(ASKED.replace("host: a", "host: a\r\nx-token: open-sesame")).await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    assert!(head.get("x-stamp").is_some_and(|stamp| stamp.ends_with("/a")), "{head:?}");
    assert_eq!(client.text(5).await, "hello");
}

/// A body that a filter puts into a handshake would be read as frames.
#[tokio::test]
async fn filters_of_bodies_are_passed_over() {
    let upstream = mirror().await;
    for (guest, config) in [("bodies", json!({ "request": "fixed" })), ("streams", json!({ "request": "preface" }))] {
        let filters = json!([{ "plugin": guest, "config": config }]);
        let gateway = Gateway::start(filtered(upstream.address(), json!([plugin(guest)]), filters)).await;
        let (mut client, head) = open(&gateway).await;
        assert_eq!((head.status(), client.text(5).await.as_str()), (101, "hello"), "{guest}");
        client.write("frame").await;
        assert_eq!(client.text(5).await, "frame", "{guest}: nothing comes before the frames");
        let head = upstream.last().head;
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None), "{guest}");
    }
}

#[tokio::test]
async fn a_filter_may_still_answer_instead() {
    let upstream = mirror().await;
    let late = json!([{ "plugin": "editor", "config": { "respond_late": 403 } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin_with("editor", json!({}))]), late)).await;
    let (_, head) = open(&gateway).await;
    assert_eq!(head.status(), 403);
    until("the service's side ends", async || (upstream.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn it_outlives_reloads_and_keeps_no_generation() {
    let upstream = mirror().await;
    let mut config = plain(upstream.address());
    let gateway = Gateway::start(config.clone()).await;
    let (mut client, _) = open(&gateway).await;
    let first = Arc::downgrade(&gateway.app().control().live().load_full());
    config["routes"] = Value::Array(Vec::new());
    gateway.rewrite(config).await;
    until("the first generation is gone", async || (first.strong_count() == 0).then_some(())).await;
    client.write("still").await;
    assert_eq!(client.text(10).await, "hellostill");
    assert_eq!(gateway.get("/chat").await.status.as_u16(), 404, "the route is gone");
}

#[tokio::test]
async fn a_stopping_gateway_lets_it_finish_within_the_grace_period() {
    let upstream = mirror().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write(ASKED).await;
    assert_eq!(client.head().await.status(), 101);
    gateway.terminate().await;
    until("nobody is let in", async || tokio::net::TcpStream::connect(gateway.address()).await.err()).await;
    client.write("late").await;
    assert_eq!(client.text(9).await, "hellolate");
    drop(client);
    assert_eq!(gateway.ended().await, Some(0));
}
