//! A thousand clients that stop, of each protocol, at each place of an exchange, on public and admin listeners.

use std::net::SocketAddr;

use serde_json::json;
use stile_tests::{
    admin::SECRET,
    client::{Client, HOST},
    frames::{self, Frames},
    gateway::plain,
    process::Stile,
    upstream::{Answer, Upstream},
    wait::{soon, until},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot, task::JoinSet};

const CLIENTS: usize = 1000;
/// More than the sockets on the way can hold.
const LARGE: u64 = 64 << 20;
/// How often they come: memory that is kept once may be for the next ones, memory that is kept each time is lost.
const ROUNDS: usize = 2;
/// Bytes of memory that may be more than before, once all clients are gone.
const MOST: u64 = 16 << 20;

/// Where a client stops.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// Before its first byte; in HTTP/2 after its preface.
    AtOnce,
    InTheHead,
    InTheBody,
    /// It sends all and reads nothing.
    Reading,
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    /// HTTP/1.1 at the admin address.
    Admin,
}

/// Bytes after which an HTTP/1.1 client stops.
fn http1(stop: Stop) -> String {
    let head = |line: &str, length: u64| format!("{line} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n");
    match stop {
        Stop::AtOnce => String::new(),
        Stop::InTheHead => head("POST /", 10),
        Stop::InTheBody => format!("{}\r\nhalf", head("POST /", 10)),
        Stop::Reading => format!("{}\r\n", head("GET /large", 0)),
    }
}

fn admin(stop: Stop) -> String {
    let head = |line: &str| format!("{line} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {SECRET}\r\n");
    match stop {
        Stop::AtOnce => String::new(),
        Stop::InTheHead => head("PUT /v1/services/x"),
        Stop::InTheBody => {
            format!("{}content-type: application/json\r\ncontent-length: 99\r\n\r\n{{", head("PUT /v1/services/x"))
        }
        // One answer fits into the sockets.
        Stop::Reading => format!("{}\r\n", head("GET /openapi.json")).repeat(100),
    }
}

/// Opens a connection and sends what is sent before the stop.
async fn stopped(address: SocketAddr, protocol: Protocol, stop: Stop) -> TcpStream {
    if let Protocol::Http2 = protocol {
        let mut frames = Frames::connect(address, i32::MAX as u32).await;
        let bytes = match stop {
            Stop::AtOnce => Vec::new(),
            Stop::InTheHead => {
                let mut head = frames::head(1, "GET", "/", true);
                // Not the end of the head.
                head[4] = frames::END_STREAM;
                head
            }
            Stop::InTheBody => {
                let mut head = frames::head(1, "POST", "/", false);
                head.extend(frames::frame(frames::DATA, 0, 1, b"half"));
                head
            }
            Stop::Reading => frames::head(1, "GET", "/large", true),
        };
        frames.write(&bytes).await.expect("the gateway reads");
        return frames.0;
    }
    let mut stream = TcpStream::connect(address).await.expect("the address accepts");
    let text = if let Protocol::Admin = protocol { admin(stop) } else { http1(stop) };
    stream.write_all(text.as_bytes()).await.expect("the gateway reads");
    stream
}

/// Sends requests until it is told to stop; how many were answered. Panics at the first that was not.
async fn unharmed(address: SocketAddr, mut over: oneshot::Receiver<()>) -> usize {
    let mut client = Client::connect(address).await;
    let mut answered = 0;
    while over.try_recv().is_err() {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answered += 1;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_thousand_clients_that_stop_are_all_ended_and_harm_nobody() {
    let upstream = Upstream::start(|received| match received.target() {
        "/large" => Answer::Pattern(LARGE),
        _ => Answer::text("here"),
    })
    .await;
    let limits = json!({
        "connections": 4 * CLIENTS,
        "connections_per_client": 4 * CLIENTS,
        "header_timeout": "2s",
        "progress": { "idle_timeout": "2s" },
    });
    let mut config = plain(upstream.address());
    config["listeners"] = json!([
        { "name": "public", "address": "127.0.0.1:0", "limits": limits },
        // Where this machine is slow, the short time-outs must not end it.
        { "name": "neighbour", "address": "127.0.0.1:0" },
    ]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = stile_tests::gateway::write(folder.path(), config);
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("it was written")).expect("it is JSON");
    config["admin"]["limits"] = limits;
    let gateway = Stile::run(folder.path(), config).await;
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Admin] {
        for stop in [Stop::AtOnce, Stop::InTheHead, Stop::InTheBody, Stop::Reading] {
            for round in 1..=ROUNDS {
                println!("{}", round_of(&gateway, &upstream, protocol, stop, round).await);
            }
        }
    }
}

/// A thousand clients come, stop and are ended. Returns what they took.
async fn round_of(gateway: &Stile, upstream: &Upstream, protocol: Protocol, stop: Stop, round: usize) -> String {
    assert_eq!(Client::connect(gateway.address()).await.get("/").await.status, 200);
    until("nobody else is there", async || (upstream.open() <= 4).then_some(())).await;
    let (files, memory) = (gateway.descriptors(), gateway.memory("RssAnon"));
    let (over, receiver) = oneshot::channel();
    let mut neighbour = JoinSet::new();
    neighbour.spawn(unharmed(gateway.address_of("neighbour"), receiver));
    let address = if let Protocol::Admin = protocol { gateway.admin().0 } else { gateway.address() };
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(stopped(address, protocol, stop));
    }
    let clients = soon("they connect", clients.join_all()).await;
    let most = gateway.memory("RssAnon");
    until("the gateway has ended all of them", async || (gateway.descriptors() <= files + 4).then_some(())).await;
    over.send(()).expect("the neighbour runs");
    let answered: usize = neighbour.join_all().await.into_iter().sum();
    // Threads of the control plane give nothing back before they work again: what they keep is for the next round.
    let may_keep = matches!(protocol, Protocol::Admin) && round < ROUNDS;
    let kept = until("the memory is back", async || {
        let kept = gateway.memory("RssAnon").saturating_sub(memory);
        (may_keep || kept <= MOST).then_some(kept)
    })
    .await;
    drop(clients);
    let each = most.saturating_sub(memory) / CLIENTS as u64;
    format!("{protocol:?} {stop:?}: {} KiB each, {} KiB kept, {answered} answers beside them", each >> 10, kept >> 10)
}
