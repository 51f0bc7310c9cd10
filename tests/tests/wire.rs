//! HTTP/1.1 on the wire: framing that is meant to deceive, limits on heads and connections, slow clients.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use stile_tests::{
    client::Client,
    gateway::{Gateway, plain},
    raw::{Raw, ask},
    upstream::{Answer, Upstream},
    wait::until,
    wire::Framing,
};
use tokio::time::Instant;

fn limited(upstream: &Upstream, limits: Value) -> Value {
    let mut config = plain(upstream.address());
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": limits }]);
    config
}

#[tokio::test]
async fn two_lengths_are_one_message_and_the_last_on_its_connection() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let both = [
        format!(
            "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            5 + hidden.len()
        ),
        format!(
            "POST /one HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{hidden}"
        ),
    ];
    for text in both {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(&text).await;
        let answer = client.try_answer_to("POST").await.expect("no error").expect("an answer");
        assert!([200, 400].contains(&answer.status()), "{}", answer.status());
        client.closed().await;
    }
    for received in upstream.requests() {
        assert_eq!((received.target(), received.framing), ("/one", Framing::Chunked));
        assert_eq!(received.head.get("content-length"), None, "one canonical message");
    }
}

#[tokio::test]
async fn framing_that_is_not_clear_is_refused_and_never_forwarded() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let heads = [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\na",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x00\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\rx-b: 2\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/3.1\r\nhost: a\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for text in heads {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(text).await;
        let answer = client.try_answer_to("GET").await.expect("no error");
        assert!(answer.as_ref().is_none_or(|it| it.status() == 400), "{text:?} got {answer:?}");
        client.closed().await;
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.requests());
}

#[tokio::test]
async fn a_chunk_that_is_no_chunk_ends_the_exchange() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for body in ["zz\r\n", "5\r\nabc\r\n0\r\n\r\nx", "fffffffffffffffff\r\na"] {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")).await;
        let answer = client.try_answer_to("POST").await.expect("no error");
        assert!(answer.as_ref().is_none_or(|it| it.status() == 400), "{body:?} got {answer:?}");
        client.closed().await;
    }
    assert_eq!(upstream.count(), 0, "no request got through whole");
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_in_order() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    let text = |n: usize| format!("POST /{n} HTTP/1.1\r\nhost: a\r\ncontent-length: {n}\r\n\r\n{}", "b".repeat(n));
    client.write((1..=5).map(text).collect::<String>()).await;
    for n in 1..=5 {
        let answer = client.answer().await.json();
        assert_eq!((&answer["target"], &answer["body_length"]), (&json!(format!("/{n}")), &json!(n)));
    }
}

/// A query that browsers send, and hyper refuses.
const RAW: &str = "GET /raw?q={\"a\":<1>} HTTP/1.1\r\nhost: a\r\n\r\n";
const ESCAPED: &str = "/raw?q={%22a%22:%3C1%3E}";

/// Requests whose bodies must stay as they are.
fn before() -> [String; 6] {
    let sized = |method: &str| format!("{method} /b HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{RAW}", RAW.len());
    let chunks = format!("{:x}\r\n{RAW}\r\n0\r\nx: /?\"\r\n\r\n", RAW.len());
    [
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        format!("POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"),
        sized("POST"),
        sized("GET"),
        "\r\nDELETE /a HTTP/1.1\r\nhost: a\r\n\r\n\r\n".to_owned(),
        RAW.to_owned(),
    ]
}

#[tokio::test]
async fn a_raw_query_passes_behind_every_request_and_in_the_same_bytes() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for before in before() {
        for is_one_piece in [true, false] {
            let mut client = Raw::connect(gateway.address()).await;
            if is_one_piece {
                client.write(format!("{before}{RAW}")).await;
            } else {
                client.write(&before).await;
            }
            let first = client.answer().await.json();
            if first["target"] == "/b" {
                assert_eq!(first["body"], RAW, "the body stays");
            }
            if !is_one_piece {
                client.write(RAW).await;
            }
            let second = client.answer().await;
            assert_eq!(
                (second.status(), &second.json()["target"]),
                (200, &json!(ESCAPED)),
                "{before:?} {is_one_piece}"
            );
        }
    }
}

#[tokio::test]
async fn a_raw_query_passes_whatever_segments_it_comes_in() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.0.stream.set_nodelay(true).expect("a socket");
    for at in 1..RAW.len() {
        client.write(&RAW[..at]).await;
        // The gateway may or may not read before the rest comes; the answer is the same.
        tokio::task::yield_now().await;
        let answer = client.ask(&RAW[at..]).await;
        assert_eq!((answer.status(), &answer.json()["target"]), (200, &json!(ESCAPED)), "{at}");
    }
}

#[tokio::test]
async fn a_raw_query_that_is_too_long_with_its_escapes_is_refused() {
    let upstream = Upstream::echo().await;
    let mut config = limited(&upstream, json!({ "header_bytes": "256KiB" }));
    config["services"][0]["header_bytes"] = json!("400KiB");
    let gateway = Gateway::start(config).await;
    for (count, status) in [(10_000, 200), (30_000, 400)] {
        let answer = ask(gateway.address(), RAW.replace("<1>", &"\"".repeat(count))).await;
        assert_eq!(answer.status(), status, "{count}");
        if status == 400 {
            assert_eq!(answer.json()["detail"], "the request target is too long once its query is escaped");
        }
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn chunks_go_through_as_chunks_both_ways() {
    let chunks = vec![(Duration::ZERO, "one "), (Duration::ZERO, "two "), (Duration::ZERO, "three")];
    let upstream = Upstream::start(move |received| match received.method() {
        "GET" => Answer::Chunks(chunks.clone()),
        _ => Answer::Echo,
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    let up = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(client.ask(up).await.json()["body_length"], 5);
    let last = upstream.last();
    assert_eq!((last.framing, last.head.get("content-length")), (Framing::Chunked, None));
    let down = client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(down.head.framing_of_response("GET"), Framing::Chunked);
    assert_eq!(down.body, b"one two three");
    let empty = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(empty.json()["body_length"], 0);
}

#[tokio::test]
async fn a_body_that_waits_for_a_go_ahead_gets_it() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 100);
    assert_eq!(client.ask("body").await.json()["body_length"], 4);
}

#[tokio::test]
async fn an_old_client_is_served_and_its_connection_closed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    let answer = client.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status(), &answer.json()["version"]), (200, &json!("HTTP/1.1")));
    assert!(answer.json()["headers"]["via"].as_str().is_some_and(|via| via.starts_with("1.0 stile-")));
    client.closed().await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_fields() {
    let upstream = Upstream::echo().await;
    let config = limited(&upstream, json!({ "header_bytes": "16KiB", "header_count": 20 }));
    let gateway = Gateway::start(config).await;
    let field = |n: usize| format!("x-{n}: a\r\n");
    let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "a".repeat(12 << 10));
    assert_eq!(ask(gateway.address(), fits).await.status(), 200);
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "a".repeat(20 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", (0..20).map(field).collect::<String>());
    for text in [long, many] {
        let mut client = Raw::connect(gateway.address()).await;
        client.try_write(&text).await.expect("the gateway reads so much");
        assert_eq!(client.answer().await.status(), 431);
        client.closed().await;
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_head_is_closed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(limited(&upstream, json!({ "header_timeout": "300ms" }))).await;
    let beginnings =
        ["", "G", "GET / HTTP/1.1\r\nhost: a\r\nx-slow:", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for text in beginnings {
        let start = Instant::now();
        let mut client = Raw::connect(gateway.address()).await;
        client.write(text).await;
        client.closed().await;
        assert!(start.elapsed() >= Duration::from_millis(290), "{text:?} after {:?}", start.elapsed());
    }
    let mut idle = Raw::connect(gateway.address()).await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200);
    idle.closed().await;
}

#[tokio::test]
async fn a_client_that_goes_on_asking_is_served_past_that_time() {
    let upstream = Upstream::echo().await;
    // Long beside the pauses that a busy machine makes.
    let gateway = Gateway::start(limited(&upstream, json!({ "header_timeout": "2s" }))).await;
    let (mut one, mut two) = (Client::connect(gateway.address()).await, Client::http2(gateway.address()).await);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!((one.get("/").await.status, two.get("/").await.status), (StatusCode::OK, StatusCode::OK));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(limited(&upstream, json!({ "connections": 2 }))).await;
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut one, mut two) = (Raw::connect(gateway.address()).await, Raw::connect(gateway.address()).await);
    assert_eq!((one.ask(get).await.status(), two.ask(get).await.status()), (200, 200));
    Raw::connect(gateway.address()).await.closed().await;
    assert_eq!(two.ask(get).await.status(), 200);
    drop(one);
    until("there is room again", async || {
        let mut client = Raw::connect(gateway.address()).await;
        client.try_write(get).await.ok()?;
        client.try_answer_to("GET").await.ok().flatten()
    })
    .await;
}
