//! Messages that cannot be parsed leave their traces: metrics by reason, the access log.

use std::fs;

use serde_json::{Value, json};
use stile_tests::{
    frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, block, frame},
    gateway::{Gateway, plain},
    raw::Raw,
    upstream::Upstream,
    wait::until,
};

/// Waits until a line of `/metrics` has this value.
async fn counted(gateway: &Gateway, line: &str, count: u64) {
    let admin = gateway.admin();
    until(line, async || (admin.metric(line).await == count).then_some(())).await;
}

async fn logged(gateway: &Gateway, count: usize) -> Vec<Value> {
    let file = gateway.folder().join("access.log");
    let lines = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect::<Vec<_>>()
    };
    until("the lines are written", async || Some(lines()).filter(|lines| lines.len() >= count)).await
}

async fn logging() -> (Upstream, Gateway) {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["access_log"] = json!({ "file": "access.log" });
    let gateway = Gateway::start(config).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_is_counted_and_logged() {
    let (_upstream, gateway) = logging().await;
    let long = "x".repeat(70_000);
    let cases = [
        ("GET /a HTTP/1.1\r\nhost a\r\n\r\n".to_owned(), 400, "header", Some(("GET", "/a"))),
        ("G@T /b HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400, "method", None),
        ("GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 400, "target", None),
        ("GET /c HTTP/3.1\r\nhost: a\r\n\r\n".to_owned(), 400, "version", None),
        (
            "POST /d HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n".to_owned(),
            400,
            "content-length",
            Some(("POST", "/d")),
        ),
        (
            "POST /e?token=s3cret HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
            400,
            "transfer-encoding",
            Some(("POST", "/e")),
        ),
        (format!("GET /f HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431, "too-large", Some(("GET", "/f"))),
    ];
    for (number, (text, status, reason, request)) in cases.iter().enumerate() {
        let mut client = Raw::connect(gateway.address()).await;
        // The gateway may have answered before it has read all of it.
        let _ = client.try_write(text).await;
        assert_eq!(client.answer().await.status(), *status, "{reason}");
        counted(&gateway, &format!("stile_unparsed_requests_total{{listener=\"public\",reason=\"{reason}\"}}"), 1)
            .await;
        let lines = logged(&gateway, number + 1).await;
        let line = &lines[number];
        assert_eq!((&line["status"], &line["listener"]), (&json!(status), &json!("public")), "{line}");
        assert_eq!((&line["blame"], &line["cause"]), (&json!("client"), &json!("unparsed")), "{line}");
        if let Some((method, path)) = request {
            assert_eq!((&line["method"], &line["path"]), (&json!(method), &json!(path)), "{line}");
        }
        assert!(!line.to_string().contains("s3cret"), "{line}");
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_is_counted() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": { "header_bytes": "1MiB" } }]);
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    let _ = client.try_write(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000))).await;
    assert_eq!(client.answer().await.status(), 414);
    counted(&gateway, "stile_unparsed_requests_total{listener=\"public\",reason=\"target-too-long\"}", 1).await;
}

#[tokio::test]
async fn the_admin_address_counts_what_it_cannot_parse() {
    let (_upstream, gateway) = logging().await;
    let mut client = Raw::connect(gateway.address_of("admin")).await;
    assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nhost a\r\n\r\n").await.status(), 400);
    counted(&gateway, "stile_unparsed_requests_total{listener=\"admin\",reason=\"header\"}", 1).await;
}

#[tokio::test]
async fn the_log_never_has_a_user_name_as_host() {
    let (_upstream, gateway) = logging().await;
    let texts = [
        "GET http://user:s3cret@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user:s3cret@a\r\n\r\n",
        "GET http://s3cret@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for (number, text) in texts.iter().enumerate() {
        let mut client = Raw::connect(gateway.address()).await;
        assert_eq!(client.ask(text).await.status(), 400);
        let line = logged(&gateway, number + 1).await[number].to_string();
        assert!(!line.contains("s3cret"), "{line}");
    }
}

#[tokio::test]
async fn errors_of_http2_are_counted_by_their_code() {
    let (_upstream, gateway) = logging().await;
    // DATA on the connection itself: PROTOCOL_ERROR. A frame that is too large: FRAME_SIZE_ERROR.
    for (bytes, reason) in [
        (frame(DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
        ([&[0xff, 0xff, 0xff, DATA][..], &1u32.to_be_bytes()].concat(), "FRAME_SIZE_ERROR"),
    ] {
        let mut client = Frames::connect(gateway.address(), 65_535).await;
        client.write(&bytes).await.expect("the gateway reads");
        client.closed().await;
        let line = format!("stile_http2_connection_errors_total{{listener=\"public\",code=\"{reason}\"}}");
        counted(&gateway, &line, 1).await;
    }
    // A head with a field of the connection is malformed: the stream is reset.
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("connection", "x")];
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
    client.write(&head).await.expect("the gateway reads");
    let line = "stile_http2_stream_resets_total{listener=\"public\",code=\"PROTOCOL_ERROR\"}";
    counted(&gateway, line, 1).await;
}
