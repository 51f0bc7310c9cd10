//! Bodies pass through and are not kept: measured on the built binary, so that this process does not count.

use std::time::Duration;

use serde_json::json;
use stile_tests::{
    gateway::{filtered, plain},
    guest::plugin,
    pattern::{Check, Source},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Upstream},
    wire::Framing,
};
use tokio::time::{Instant, sleep};

const GIB: u64 = 1 << 30;
/// Buffers and what the allocator keeps of them: some 4 MiB alone, up to 18 MiB seen where other programs had both cores.
const GROWTH: u64 = 32 << 20;
const PAUSE: Duration = Duration::from_secs(1);
/// How much earlier or later than that a chunk may come.
const JITTER: Duration = Duration::from_millis(300);
/// Tries of what depends on the machine having time.
const TRIES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_down_is_not_kept() {
    let upstream = Upstream::start(|received| match received.target() {
        "/huge" => Answer::Pattern(GIB),
        _ => Answer::Pattern(1 << 20),
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    download(&gateway, "/warm-up", 1 << 20).await;
    let before = gateway.memory("VmRSS");
    let start = Instant::now();
    download(&gateway, "/huge", GIB).await;
    told("down", start, before, gateway.memory("VmHWM"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_is_not_kept() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let filters = json!([{ "plugin": "add-headers", "config": { "request": { "set": { "x-added": "1" } } } }]);
    let config = filtered(upstream.address(), json!([plugin("add-headers")]), filters);
    let gateway = Stile::run(folder.path(), config).await;
    upload(&gateway, 1 << 20).await;
    let before = gateway.memory("VmRSS");
    let start = Instant::now();
    upload(&gateway, GIB).await;
    told("up", start, before, gateway.memory("VmHWM"));
    let last = upstream.last();
    assert_eq!((last.framing, last.body_length, last.body_is_pattern), (Framing::Length(GIB), GIB, true));
    assert_eq!(last.head.get("x-added"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_a_second_apart_come_a_second_apart() {
    let upstream = Upstream::start(|_| Answer::Chunks(vec![(Duration::ZERO, "one"), (PAUSE, "two")])).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.0.head().await.expect("a response").expect("a head");
        assert_eq!(head.framing_of_response("GET"), Framing::Chunked);
        let mut pieces: Vec<(String, Instant)> = Vec::new();
        let note = |piece: &[u8]| pieces.push((String::from_utf8_lossy(piece).into_owned(), Instant::now()));
        client.0.body(Framing::Chunked, note).await.expect("a whole body");
        assert_eq!(pieces.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let apart = pieces[1].1 - pieces[0].1;
        if near(apart) {
            return;
        }
        seen.push(apart);
    }
    panic!("chunks came {seen:?} apart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_a_request_reach_the_service_as_they_come() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        sleep(PAUSE).await;
        let answer = client.ask("3\r\ntwo\r\n0\r\n\r\n").await;
        assert_eq!((answer.status(), answer.json()["body_length"].clone()), (200, json!(6)));
        if near(upstream.last().body_took) {
            return;
        }
        seen.push(upstream.last().body_took);
    }
    panic!("the pieces came {seen:?} apart");
}

async fn download(gateway: &Stile, path: &str, length: u64) {
    let mut client = Raw::connect(gateway.address()).await;
    client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let head = client.0.head().await.expect("a response").expect("a head");
    assert_eq!(head.framing_of_response("GET"), Framing::Length(length));
    let mut check = Check::new();
    client.0.body(Framing::Length(length), |piece| check.add(piece)).await.expect("a whole body");
    assert_eq!(check.right(), Some(length));
}

async fn upload(gateway: &Stile, length: u64) {
    let mut client = Raw::connect(gateway.address()).await;
    client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
    for block in Source::new(length) {
        client.write(block).await;
    }
    assert_eq!(client.answer().await.json()["body_length"], length);
}

#[expect(clippy::print_stdout, reason = "a measurement, shown by --nocapture")]
fn told(way: &str, start: Instant, before: u64, most: u64) {
    let growth = most.saturating_sub(before);
    println!("1 GiB {way} in {:?}: {} KiB before, {} KiB more at most", start.elapsed(), before >> 10, growth >> 10);
    assert!(growth < GROWTH, "memory grew by {growth} bytes");
}

fn near(apart: Duration) -> bool {
    (PAUSE - JITTER..PAUSE + JITTER).contains(&apart)
}
