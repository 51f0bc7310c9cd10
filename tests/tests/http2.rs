//! HTTP/2 by prior knowledge on the port of HTTP/1.1; services are spoken to in HTTP/1.1.

mod slow;

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame};
use http_body_util::{Full, combinators::BoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use stile_tests::{
    client::{Client, HOST, get, request, with},
    frames::{self, Frames},
    gateway::{Gateway, plain, service},
    upstream::{Answer, Gate, Upstream},
    wait::{soon, until},
    wire::Framing,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let (mut one, mut two) = (Client::connect(gateway.address()).await, Client::http2(gateway.address()).await);
    for client in [&mut one, &mut two] {
        let answer = client.get("/x?y=1").await;
        assert_eq!(answer.status, 200);
        let seen = answer.json();
        assert_eq!((&seen["target"], &seen["version"]), (&json!("/x?y=1"), &json!("HTTP/1.1")));
        assert_eq!(seen["headers"]["host"], HOST);
        assert_eq!(client.send(request("POST", "/", &[], "12345")).await.json()["body_length"], 5);
    }
    assert!(upstream.last().head.get("via").is_some_and(|via| via.starts_with("2.0 stile-")));
    assert_eq!(upstream.last().framing, Framing::Length(5));
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_field_again() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let crumbs = Request::builder().version(Version::HTTP_2).uri("/").header("cookie", "a=1").header("cookie", "b=2");
    let request = crumbs.body(Full::default()).expect("a request");
    let answer = Client::http2(gateway.address()).await.send(request).await;
    assert_eq!(answer.json()["headers"]["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/held" => Answer::Behind(held.clone(), Box::new(Answer::text("held"))),
        _ => Answer::text("quick"),
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let client = Client::http2(gateway.address()).await;
    let (mut slow, mut quick) = (client.another(), client);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { slow.send(get("/held")).await.text() });
    upstream.received(1).await;
    for _ in 0..20 {
        assert_eq!(quick.get("/quick").await.text(), "quick");
    }
    assert!(tasks.try_join_next().is_none());
    gate.cancel();
    assert_eq!(tasks.join_next().await.expect("a task").expect("an answer"), "held");
}

/// The largest window that HTTP/2 knows.
const WIDE: u32 = i32::MAX as u32;

/// Bytes of response bodies that HTTP/2 connections hold, as `/metrics` shows them.
async fn buffered(gateway: &Gateway) -> u64 {
    gateway.admin().metric("stile_response_buffered_bytes{listener=\"public\"}").await
}

#[tokio::test]
async fn a_client_that_does_not_read_fills_the_budget_of_its_connection_and_no_more() {
    const STREAMS: u32 = 256;
    let upstream = Upstream::start(|_| Answer::Pattern(100_000)).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    let ids = (0..STREAMS).map(|n| 2 * n + 1);
    let requests: Vec<u8> = ids.flat_map(|id| frames::head(id, "GET", "/", true)).collect();
    client.write(&requests).await.expect("the gateway reads");
    upstream.received(STREAMS as usize).await;
    let (mut before, mut steady) = (0, 0);
    until("the connection holds what it may", async || {
        let now = buffered(&gateway).await;
        assert!(now <= 1 << 20, "{now} bytes are buffered");
        steady = if now == before { steady + 1 } else { 0 };
        before = now;
        (now > 512 << 10 && steady > 20).then_some(())
    })
    .await;

    let (mut bytes, mut ended) = (0, 0);
    while ended < STREAMS {
        let frame = client.next().await.expect("the connection lasts");
        if frame.kind == frames::DATA {
            bytes += frame.payload.len();
            ended += u32::from(frame.flags & frames::END_STREAM);
        }
    }
    assert_eq!(bytes, 100_000 * STREAMS as usize);
    until("all of it is given back", async || (buffered(&gateway).await == 0).then_some(())).await;
}

#[tokio::test]
async fn one_stream_may_use_the_whole_budget() {
    let upstream = Upstream::start(|_| Answer::Pattern(64 << 20)).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    client.write(&frames::head(1, "GET", "/", true)).await.expect("the gateway reads");
    // 1 KiB of each of the other 255 streams is kept for them.
    until("the stream holds the budget", async || (buffered(&gateway).await == 769 << 10).then_some(())).await;
    drop(client);
    until("all of it is given back", async || (buffered(&gateway).await == 0).then_some(())).await;
}

#[tokio::test]
async fn the_response_buffer_of_a_listener_sets_the_budget_of_its_connections() {
    let upstream = Upstream::start(|_| Answer::Pattern(64 << 20)).await;
    for (size, bytes) in [("512KiB", 512 << 10), ("2MiB", 2 << 20)] {
        let limits = json!({ "response_buffer": size, "progress": { "idle_timeout": "1h" } });
        let gateway = Gateway::start(limited(&upstream, limits)).await;
        let mut client = Frames::connect(gateway.address(), WIDE).await;
        client.write(&frames::head(1, "GET", "/", true)).await.expect("the gateway reads");
        // 1 KiB of each of the other 255 streams is kept for them.
        let most = bytes - (255 << 10);
        let mut before = 0;
        let mut steady = 0;
        until("the stream holds the budget", async || {
            let now = buffered(&gateway).await;
            assert!(now <= most, "{now} bytes are buffered with {size}");
            steady = if now == before { steady + 1 } else { 0 };
            before = now;
            // The stream takes no piece into a rest of less than 1 KiB.
            (now > most - (1 << 10) && steady > 20).then_some(())
        })
        .await;
        drop(client);
        until("all of it is given back", async || (buffered(&gateway).await == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn streams_with_closed_windows_do_not_starve_others() {
    let upstream = Upstream::start(|_| Answer::Pattern(100_000)).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    // Each stream may be sent one byte, which is enough to have a whole piece taken for it.
    let mut client = Frames::connect(gateway.address(), 1).await;
    let ids = (0..255).map(|n| 2 * n + 1);
    let requests: Vec<u8> = ids.flat_map(|id| frames::head(id, "GET", "/", true)).collect();
    client.write(&requests).await.expect("the gateway reads");
    upstream.received(255).await;
    until("the budget is used up", async || (buffered(&gateway).await > 900 << 10).then_some(())).await;

    let mut last = frames::head(511, "GET", "/", true);
    last.extend(frames::frame(frames::WINDOW_UPDATE, 0, 511, &100_000_u32.to_be_bytes()));
    client.write(&last).await.expect("the gateway reads");
    let mut bytes = 0;
    loop {
        let frame = client.until(frames::DATA, 511).await.expect("the connection lasts");
        bytes += frame.payload.len();
        if frame.flags & frames::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(bytes, 100_000);
}

/// Listens, accepts, and reads nothing for as long as it lives.
async fn deaf() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    (address, tasks)
}

/// A body without end; counts the bytes that were taken of it.
struct Endless(Arc<AtomicU64>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const PIECE: &[u8] = &[0; 16 << 10];
        self.0.fetch_add(PIECE.len() as u64, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}

#[tokio::test]
async fn an_upload_does_not_wait_for_uploads_that_a_service_does_not_read() {
    let (stuck, _tasks) = deaf().await;
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(json!({
        "services": [service("stuck", &[stuck]), service("echo", &[upstream.address()])],
        "routes": [
            { "name": "stuck", "match": { "path": "/stuck" }, "service": "stuck" },
            { "name": "echo", "match": { "path": "/echo" }, "service": "echo" },
        ],
    }))
    .await;
    let stream = TcpStream::connect(gateway.address()).await.expect("the address accepts");
    let handshake = http2::handshake::<_, _, BoxBody<Bytes, Infallible>>(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2 is spoken");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let post = |path: &str, body| {
        Request::post(format!("http://{HOST}{path}")).body(body).expect("a request that can be written")
    };
    let taken = Arc::<AtomicU64>::default();
    for _ in 0..2 {
        let answer = sender.send_request(post("/stuck", BoxBody::new(Endless(Arc::clone(&taken)))));
        tasks.spawn(async move { drop(answer.await) });
    }
    let (mut before, mut steady) = (0, 0);
    until("the uploads are stuck", async || {
        let now = taken.load(Relaxed);
        steady = if now > 0 && now == before { steady + 1 } else { 0 };
        before = now;
        (steady > 300).then_some(())
    })
    .await;
    let body = BoxBody::new(Full::from(vec![b'x'; 1000]));
    let answer = soon("an answer beside the uploads", sender.send_request(post("/echo", body))).await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(upstream.last().body_length, 1000);
}

/// The values of the gateway's settings with this identifier, and the window that it adds to the connection's.
async fn given(gateway: &Gateway) -> (Frames, [Option<u32>; 2], u32) {
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    let settings = client.until(frames::SETTINGS, 0).await.expect("settings").payload;
    let value = |wanted: u16| {
        settings.chunks(6).find_map(|setting| {
            let (name, value) = setting.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*name) == wanted).then(|| u32::from_be_bytes(value.try_into().expect("four bytes")))
        })
    };
    let settings = [value(3), value(4)];
    // A ping is answered after what the gateway says of its window.
    client.write(&frames::frame(frames::PING, 0, 0, b"12345678")).await.expect("the gateway reads");
    let mut added = 0;
    loop {
        let frame = client.next().await.expect("the connection lasts");
        match frame.kind {
            frames::WINDOW_UPDATE => added = u32::from_be_bytes(frame.payload.try_into().expect("four bytes")),
            frames::PING => return (client, settings, added),
            _ => {}
        }
    }
}

#[tokio::test]
async fn windows_of_new_connections_are_small_once_the_gateway_has_given_all() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["limits"] = json!({ "http2_windows": "20MiB" });
    let gateway = Gateway::start(config).await;
    let large = ([Some(256), Some(64 << 10)], (257 << 16) - 65_535);
    let (first, settings, added) = given(&gateway).await;
    assert_eq!((settings, added), large);
    assert_eq!(gateway.admin().metric("stile_http2_window_bytes").await, 257 << 16);
    let (_second, settings, added) = given(&gateway).await;
    assert_eq!((settings, added), ([Some(15), Some(4 << 10)], 0));
    drop(first);
    until("the windows are given back", async || {
        (gateway.admin().metric("stile_http2_window_bytes").await == 0).then_some(())
    })
    .await;
    let (_third, settings, added) = given(&gateway).await;
    assert_eq!((settings, added), large);
}

fn limited(upstream: &Upstream, limits: Value) -> Value {
    let mut config = plain(upstream.address());
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": limits }]);
    config
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_fields_as_on_http1() {
    let upstream = Upstream::echo().await;
    let config = limited(&upstream, json!({ "header_bytes": "16KiB", "header_count": 20 }));
    let gateway = Gateway::start(config).await;
    let mut client = Client::http2(gateway.address()).await;
    let long = "a".repeat(20 << 10);
    assert_eq!(client.send(with("/", &[("x-long", &long)])).await.status, 431);
    let names: Vec<String> = (0..30).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    let answer = client.send(with("/", &many)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (431, "application/problem+json"));
    assert_eq!(answer.json()["detail"], "the request has more than 20 header fields");
    assert_eq!(upstream.count(), 0);
    assert_eq!(client.send(with("/", &[("cookie", "a=1"); 30])).await.status, 200, "crumbs of a cookie are one field");
}

#[tokio::test]
async fn connections_are_bounded_as_on_http1() {
    for key in ["connections", "connections_per_client"] {
        let upstream = Upstream::echo().await;
        let gateway = Gateway::start(limited(&upstream, json!({ key: 1 }))).await;
        let mut first = Client::http2(gateway.address()).await;
        assert_eq!(first.get("/").await.status, 200);
        Frames::connect(gateway.address(), WIDE).await.closed().await;
        assert_eq!(first.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_silent_connection_ends_though_it_answers_pings() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(limited(&upstream, json!({ "header_timeout": "1s" }))).await;
    let whole = frames::head(1, "GET", "/", true);
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    client.write(&whole).await.expect("the gateway reads");
    client.until(frames::HEADERS, 1).await.expect("an answer");
    client.closed().await;

    // The head of another request without its end: no other frame may follow, so that the client answers nothing.
    let block = frames::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
    let half = [whole, frames::frame(frames::HEADERS, frames::END_STREAM, 3, &block)].concat();
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    client.write(&half).await.expect("the gateway reads");
    let mut is_answered = false;
    while let Some(frame) = client.next().await {
        is_answered |= (frame.kind, frame.stream) == (frames::HEADERS, 1);
    }
    assert!(is_answered);
}

/// A request and, at once, a window beyond the largest: an error of its stream (RFC 9113 §6.9.1).
fn reset(stream: u32) -> Vec<u8> {
    let overflow = frames::frame(frames::WINDOW_UPDATE, 0, stream, &WIDE.to_be_bytes());
    [frames::head(stream, "POST", "/", false), overflow].concat()
}

#[tokio::test]
async fn a_request_whose_stream_is_reset_at_once_opens_no_connection_to_a_service() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Frames::connect(gateway.address(), WIDE).await;
    for n in 0..50 {
        client.write(&reset(2 * n + 1)).await.expect("the gateway reads");
        client.until(frames::RST_STREAM, 2 * n + 1).await.expect("the connection lasts");
    }
    client.write(&frames::head(101, "GET", "/", true)).await.expect("the gateway reads");
    client.until(frames::HEADERS, 101).await.expect("an answer");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn streams_that_are_reset_before_their_answer_are_bounded() {
    let (silent, _tasks) = deaf().await;
    let own = |stream| frames::frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    for by_client in [false, true] {
        let mut config = plain(silent);
        config["listeners"] =
            json!([{ "name": "public", "address": "127.0.0.1:0", "limits": { "stream_resets": 20 } }]);
        let gateway = Gateway::start(config).await;
        let mut client = Frames::connect(gateway.address(), WIDE).await;
        let (mut sent, mut is_announced) = (0, false);
        'sending: while sent < 100 {
            let stream = 2 * sent + 1;
            let one =
                if by_client { [frames::head(stream, "GET", "/", true), own(stream)].concat() } else { reset(stream) };
            // The gateway has read it once it answers the ping.
            let ping = frames::frame(frames::PING, 0, 0, b"12345678");
            if client.write(&[one, ping].concat()).await.is_err() {
                break;
            }
            loop {
                let Some(frame) = client.next().await else { break 'sending };
                is_announced |= frame.kind == frames::GOAWAY;
                match (frame.kind, frame.flags & frames::ACK) {
                    (frames::PING, 0) => {
                        let answer = frames::frame(frames::PING, frames::ACK, 0, &frame.payload);
                        if client.write(&answer).await.is_err() {
                            break 'sending;
                        }
                    }
                    (frames::PING, _) => break,
                    _ => {}
                }
            }
            sent += 1;
        }
        assert!(is_announced, "by the client: {by_client}");
        assert!((20..40).contains(&sent), "{sent} resets, by the client: {by_client}");
    }
}

#[test]
fn the_reference_of_limits_has_each_key_and_says_what_it_does_on_each_protocol() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/docs");
    let read = |name: &str| fs::read_to_string(docs.join(name)).expect("a file of the documents");
    let schema: Value = serde_json::from_str(&read("configuration.schema.json")).expect("JSON");
    let text = read("limits.md");
    let text = text.split("\n## ").find(|section| section.starts_with("Connections")).expect("a section");
    let keys = schema["$defs"]["ListenerLimits"]["properties"].as_object().expect("keys");
    for key in keys.keys() {
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("| `{key}` |"))).collect();
        let [row] = rows[..] else { panic!("{} rows for {key}", rows.len()) };
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}
