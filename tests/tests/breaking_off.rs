//! Answers that break off: clients get what came of them, and take none for whole.

use std::net::SocketAddr;

use stile_tests::{
    gateway::{Gateway, plain},
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::soon,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A service whose answers break off, each at another place.
async fn breaking_off() -> Upstream {
    Upstream::start(|received| {
        let rest = match received.target() {
            "/head" => "content-length: 10\r\n\r\n",
            "/length" => "content-length: 10\r\n\r\nhalf",
            "/whole" => "transfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
            "/chunks" => "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            _ => "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        };
        Answer::BytesThenClose(format!("HTTP/1.1 200 OK\r\nx-inner: 1\r\n{rest}").into_bytes())
    })
    .await
}

#[tokio::test]
async fn what_came_before_the_end_is_passed_on() {
    let upstream = breaking_off().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for (path, part) in [("/head", ""), ("/length", "half"), ("/chunks", "half"), ("/invalid", "half")] {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!((head.status(), head.get("x-inner")), (200, Some("1")), "{path}");
        let mut body = Vec::new();
        let read = client.0.body(head.framing_of_response("GET"), |piece| body.extend_from_slice(piece));
        soon("an end", read).await.expect_err("it does not look whole");
        assert_eq!(String::from_utf8_lossy(&body), part, "{path}");
    }
}

/// All that comes on a connection with this request, and whether its end is a reset.
async fn exchanged(gateway: &Gateway, request: &str) -> (String, bool) {
    let mut client = TcpStream::connect(gateway.address()).await.expect("the address accepts");
    client.write_all(request.as_bytes()).await.expect("the gateway reads");
    let mut told = Vec::new();
    let ended = soon("an end", client.read_to_end(&mut told)).await;
    (String::from_utf8_lossy(&told).into_owned(), ended.is_err())
}

#[tokio::test]
async fn a_client_of_http10_takes_none_for_whole() {
    let upstream = breaking_off().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for keep in ["", "connection: keep-alive\r\n"] {
        let get = |path: &str| format!("GET {path} HTTP/1.0\r\nhost: a\r\n{keep}\r\n");
        for path in ["/chunks", "/invalid"] {
            let (told, is_reset) = exchanged(&gateway, &get(path)).await;
            assert!(
                is_reset && told.starts_with("HTTP/1.0 200 OK\r\n") && !told.contains("keep-alive"),
                "{path}: {told}"
            );
        }
        let (told, _) = exchanged(&gateway, &get("/length")).await;
        assert!(told.contains("content-length: 10\r\n") && told.ends_with("\r\n\r\nhalf"), "{told}");
        let (told, is_reset) = exchanged(&gateway, &get("/whole")).await;
        assert!(!is_reset && told.ends_with("\r\n\r\nwhole") && !told.contains("keep-alive"), "{told}");
    }
}

/// A service that takes a part of a request, sends a part of a response without a length, and closes: the kernel resets the
/// connection, since it has bytes that nobody has read.
async fn resetting() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read_exact(&mut [0; 64]).await.is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await;
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_reset_is_no_end_of_a_body_without_length() {
    let (service, _tasks) = resetting().await;
    let gateway = Gateway::start(plain(service)).await;
    for _ in 0..20 {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 1 << 20)).await;
        let _ = client.try_write(vec![b'x'; 1 << 20]).await;
        let answer = client.try_answer_to("POST").await;
        // It is not whole, or there is none but the gateway's own.
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.as_ref().is_some_and(|it| it.status() == 502)) || answer.is_err(),
            "{answer:?}"
        );
    }
}
