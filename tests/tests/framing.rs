//! Where a message ends: one framing towards each side, whatever came with it.

use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, request},
    gateway::{Gateway, filtered, plain},
    guest::plugin,
    raw::{Raw, ask},
    upstream::{Answer, Upstream},
    wait::until,
    wire::Framing,
};

#[tokio::test]
async fn a_get_keeps_its_body_of_unknown_length() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let text = "GET /search HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(ask(gateway.address(), text).await.json()["body_length"], 5);
    assert_eq!(upstream.last().framing, Framing::Chunked);
}

#[tokio::test]
async fn a_request_without_a_body_gets_no_framing() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    assert_eq!(ask(gateway.address(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.head.get("content-length"), seen.head.get("transfer-encoding")), (None, None));
}

#[tokio::test]
async fn what_cannot_be_served_is_said_and_goes_nowhere() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for (text, status) in [
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ] {
        assert_eq!(ask(gateway.address(), text).await.status(), status, "{text}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_answer_with_both_framings_ends_where_its_chunks_end() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let upstream = Upstream::start(|_| Answer::Bytes(answer.as_bytes().to_vec())).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
        let answer = client.get("/").await;
        assert_eq!((answer.text().as_str(), answer.header("content-length")), ("hello", ""));
    }
}

/// RFC 9110 §15.3.6, whoever answers.
#[tokio::test]
async fn an_answer_of_205_has_no_body() {
    let upstream = Upstream::start(|received| match received.target() {
        "/length" => Answer::Reply(205, vec![], "hello".to_owned()),
        "/chunks" => Answer::Bytes(
            b"HTTP/1.1 205 Reset Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
        ),
        _ => Answer::text("from the service"),
    })
    .await;
    let editor = |config: Value| json!([{ "plugin": "editor", "config": config }]);
    let config = |filter: Value| filtered(upstream.address(), json!([plugin("editor")]), editor(filter));
    for (filter, path) in [
        (json!({}), "/length"),
        (json!({}), "/chunks"),
        (json!({ "respond": 205 }), "/"),
        (json!({ "respond_late": 205 }), "/"),
        (json!({ "status": 205 }), "/"),
    ] {
        let gateway = Gateway::start(config(filter.clone())).await;
        let answer = ask(gateway.address(), format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.head.get("content-length")), (205, Some("0")), "{filter} {path}");
        // RFC 9110 §8.6: it has the length that GET gets, or none.
        let head = Client::http2(gateway.address()).await.send(request("HEAD", path, &[], "")).await;
        assert!(head.status == 205 && ["", "0"].contains(&head.header("content-length")), "{filter} {path}: {head:?}");
        for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
            for _ in 0..2 {
                let answer = client.get(path).await;
                assert_eq!((answer.status.as_u16(), answer.text().as_str()), (205, ""), "{filter} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_in_http2_either() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"]["path"] = "/there".into();
    let gateway = Gateway::start(config).await;
    for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
        for (path, status) in [("/there", 200), ("/elsewhere", 404)] {
            let answer = client.send(request("HEAD", path, &[], "")).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, ""), "{path}");
            assert_ne!(answer.header("content-length"), "", "{path}");
        }
    }
}

#[tokio::test]
async fn an_upload_after_an_answer_in_http_1_0_is_whole() {
    let upstream = Upstream::start(|received| match received.target() {
        "/old" => Answer::Bytes(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        _ => Answer::Echo,
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    assert_eq!(client.ask("GET /old HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
    let upload = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(client.ask(upload).await.json()["body_length"], 5);
}

#[tokio::test]
async fn a_large_upload_that_is_refused_gets_its_answer() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"]["path"] = "/there".into();
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 128 << 10)).await;
    client.write(vec![b'a'; 64 << 10]).await;
    assert_eq!(client.answer().await.status(), 404);
    client.write(vec![b'a'; 64 << 10]).await;
    let next = tokio::time::timeout(Duration::from_secs(5), client.ask("GET /there HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_eq!(next.await.expect("the connection lives on").status(), 200);
}

/// Ends of a chunked body whose trailer section has a line that ends with a bare LF.
const BARE_LF: [&str; 4] = ["0\r\n\n", "0\r\nX: y\n\n", "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\n"];
const CHUNKED: &str = "POST /one HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /two HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn a_bare_line_feed_in_a_trailer_section_gets_400_and_the_end_of_the_connection() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for end in BARE_LF {
        for before in ["", NEXT, "POST /zero HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na\n\n"] {
            let mut client = Raw::connect(gateway.address()).await;
            client.write(format!("{before}{CHUNKED}5\r\na\nb\n\n\r\n{end}{NEXT}")).await;
            if !before.is_empty() {
                assert_eq!(client.answer().await.status(), 200, "{before:?}");
            }
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.head.get("connection")), (400, Some("close")), "{before:?} {end:?}");
            client.closed().await;
        }
    }
    assert!(upstream.requests().iter().all(|request| request.target() != "/one"));
}

#[tokio::test]
async fn a_bare_line_feed_that_comes_later_gets_400_and_the_end_of_the_connection() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for (number, end) in BARE_LF.iter().enumerate() {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("{CHUNKED}5\r\nhello\r\n")).await;
        until("the service has the connection", async || (upstream.connections() > number).then_some(())).await;
        client.write(end).await;
        client.write(NEXT).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("connection")), (400, Some("close")), "{end:?}");
        client.closed().await;
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_trailer_section_with_proper_ends_leaves_the_next_request_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for end in ["0\r\n\r\n", "0\r\nX: y\r\n\r\n", "5\r\na\nb\n\n\r\n0;x\r\nX: y\r\nZ: \r\n\r\n"] {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("{CHUNKED}{end}{NEXT}{CHUNKED}{end}")).await;
        for target in ["/one", "/two", "/one"] {
            let answer = client.answer().await;
            assert_eq!((answer.status(), &answer.json()["target"]), (200, &target.into()), "{end:?}");
        }
    }
}
