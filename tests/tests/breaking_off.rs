//! Answers that break off: clients get what came of them, and take none for whole.

use stile_tests::{
    gateway::{Gateway, plain},
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::soon,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A service whose answers break off, each at another place.
async fn breaking_off() -> Upstream {
    Upstream::start(|received| {
        let rest = match received.target() {
            "/head" => "content-length: 10\r\n\r\n",
            "/length" => "content-length: 10\r\n\r\nhalf",
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
    for path in ["/head", "/length", "/chunks", "/invalid"] {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!((head.status(), head.get("x-inner")), (200, Some("1")), "{path}");
    }
}

#[tokio::test]
async fn a_client_of_http10_takes_none_for_whole() {
    let upstream = breaking_off().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for path in ["/length", "/chunks", "/invalid"] {
        for keep in ["", "connection: keep-alive\r\n"] {
            let mut client = TcpStream::connect(gateway.address()).await.expect("the address accepts");
            let request = format!("GET {path} HTTP/1.0\r\nhost: a\r\n{keep}\r\n");
            client.write_all(request.as_bytes()).await.expect("the gateway reads");
            let mut told = Vec::new();
            let ended = soon("an end", client.read_to_end(&mut told)).await;
            let told = String::from_utf8_lossy(&told).into_owned();
            assert!(told.starts_with("HTTP/1.0 200 OK\r\n") && told.ends_with("half"), "{path}: {told}");
            assert!(ended.is_err(), "{path}: an orderly end");
            assert!(!told.contains("keep-alive") || told.contains("content-length"), "{told}");
        }
    }
}
