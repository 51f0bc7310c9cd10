//! How connections end whose client may still be sending.

use std::io;

use serde_json::json;
use stile_tests::{
    frames::{self, Frames},
    gateway::{Gateway, plain},
    raw::Raw,
    upstream::Upstream,
    wait::soon,
    wire::Wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

/// More than the kernel keeps for a reader that does not read.
const UPLOAD: usize = 32 << 20;

const UPGRADE: &str =
    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";

/// Sends a request and a whole body before it reads.
async fn upload(client: &mut Raw, path: &str, fields: &str) -> io::Result<Option<u16>> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {UPLOAD}\r\n\r\n");
    client.try_write(head).await?;
    client.try_write(vec![b'x'; UPLOAD]).await?;
    Ok(client.try_answer_to("POST").await?.map(|answer| answer.status()))
}

async fn without_routes() -> (Upstream, Gateway) {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/other" });
    let gateway = Gateway::start(config).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_refused_upload_that_asks_for_an_upgrade_gets_its_answer() {
    let (_upstream, gateway) = without_routes().await;
    for address in [gateway.address(), gateway.address_of("admin")] {
        let mut client = Raw::connect(address).await;
        assert_eq!(upload(&mut client, "/upload", UPGRADE).await.expect("no reset"), Some(404));
        // An earlier request of the connection may have asked for it.
        let mut client = Raw::connect(address).await;
        client.ask(format!("GET / HTTP/1.1\r\nhost: a\r\n{UPGRADE}\r\n")).await;
        assert_eq!(upload(&mut client, "/upload", "").await.expect("no reset"), Some(404));
    }
}

#[tokio::test]
async fn an_early_answer_that_finds_no_room_is_sent_to_its_end_though_an_upgrade_was_asked_for() {
    // More than the kernel takes for this client, and less than the gateway and the kernel take together.
    const LENGTH: usize = 120 << 10;
    for fields in ["", "upgrade: h2c\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let service = listener.local_addr().expect("a bound address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut wire = Wire::new(stream);
            wire.head().await.expect("a request").expect("no end");
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n");
            wire.write(head.as_bytes()).await.expect("the gateway reads");
            wire.write(&[b'x'; LENGTH]).await.expect("the gateway reads");
            wire.stream.shutdown().await.expect("the gateway reads");
            wire.closed().await;
        });
        let gateway = Gateway::start(plain(service)).await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 << 10).expect("a size");
        let mut client = Raw(Wire::new(socket.connect(gateway.address()).await.expect("the address accepts")));
        client.write(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}content-length: 10\r\n\r\n")).await;
        soon("the gateway has taken the answer", tasks.join_next()).await;
        assert_eq!(client.answer().await.body.len(), LENGTH, "{fields}");
    }
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_head_gets_the_answer_that_refuses_it() {
    let (_upstream, gateway) = without_routes().await;
    for before in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut client = Raw::connect(gateway.address()).await;
        if !before.is_empty() {
            assert_eq!(client.ask(before).await.status(), 404);
        }
        // The field has more bytes than a head may have, and the client sends all of it before it reads.
        client.write("GET / HTTP/1.1\r\nhost: a\r\nx-large: ").await;
        client.try_write(vec![b'x'; UPLOAD]).await.expect("no reset");
        let answer = client.try_answer_to("GET").await.expect("no reset").expect("an answer");
        assert_eq!(answer.status(), 431);
    }
}

#[tokio::test]
async fn the_admin_address_refuses_a_bare_line_feed_behind_a_body_and_serves_nothing_behind_it() {
    let (_upstream, gateway) = without_routes().await;
    for end in ["0\r\n\n", "0\r\nX: y\n\r\n"] {
        let mut client = Raw::connect(gateway.address_of("admin")).await;
        let chunked = "POST /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write(format!("{chunked}{end}GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("connection")), (400, Some("close")), "{end:?}");
        assert!(client.try_answer_to("GET").await.expect("a proper end").is_none(), "{end:?}");
    }
}

#[tokio::test]
async fn an_http2_client_that_goes_on_sending_gets_what_was_sent_to_it() {
    let (_upstream, gateway) = without_routes().await;
    let mut client = Frames::connect(gateway.address(), 1 << 20).await;
    // A frame of a stream that was never opened ends the connection.
    client.write(&frames::frame(frames::DATA, 0, 1, b"x")).await.expect("the gateway reads");
    assert!(client.until(frames::GOAWAY, 0).await.is_some());
    assert_eq!(client.next().await, None);
    let ping = frames::frame(frames::PING, 0, 0, b"12345678");
    // The gateway reads on, although it has ended its side.
    for _ in 0..10 {
        client.write(&ping).await.expect("no reset");
        assert_eq!(client.0.read(&mut [0]).await.expect("no reset"), 0);
    }
    client.0.shutdown().await.expect("no reset");
}
