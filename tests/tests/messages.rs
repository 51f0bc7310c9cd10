//! Rules for messages: transfer codings, hosts, lengths, statuses, trailers and interim responses. gateway/docs/http.md has the rules.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use stile_tests::{
    client::{Answer as Response, Client, fetch, get, request, with},
    frames::{self, Frames},
    gateway::{Gateway, filtered, plain, service},
    guest::plugin,
    load::{Load, Probe},
    raw::{Raw, ask},
    upstream::{Answer, Upstream},
    wait::{soon, until},
    wire::{Framing, Wire},
};
use tokio::net::TcpListener;

/// A service that answers every request with these bytes and then closes.
async fn answering(bytes: impl Into<Vec<u8>>) -> (Upstream, Gateway) {
    let bytes = bytes.into();
    let upstream = Upstream::start(move |_| Answer::BytesThenClose(bytes.clone())).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    (upstream, gateway)
}

/// The response is the gateway's own problem document, and nothing of the service's response is in it.
fn assert_bad_gateway(answer: &Response, what: &str) {
    assert_eq!((answer.status.as_u16(), answer.json()["status"].as_u64()), (502, Some(502)), "{what}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(answer.header("x-inner"), "", "{what}");
    assert!(!answer.text().contains("inner"), "{what}");
}

#[tokio::test]
async fn a_request_with_another_transfer_coding_than_chunked_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for (codings, status) in [
        (&["chunked", "gzip, chunked"][..], 400),
        (&["gzip", "chunked"], 501),
        (&["gzip, chunked"], 501),
        (&["identity, chunked"], 501),
        (&["chunked", "chunked"], 400),
        (&["chunked, chunked"], 400),
        (&["chunked, gzip"], 400),
        (&["chunked;q=1, chunked"], 501),
        (&[", chunked"], 400),
        (&["CHUNKED"], 200),
    ] {
        let fields: String = codings.iter().map(|coding| format!("transfer-encoding: {coding}\r\n")).collect();
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(ask(gateway.address(), &text).await.status(), status, "{codings:?}");
        let served = if status == 200 { 405 } else { status };
        let text = text.replacen("POST / ", "POST /healthz ", 1);
        assert_eq!(ask(gateway.address_of("admin"), text).await.status(), served, "{codings:?}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_response_with_another_transfer_coding_than_chunked_becomes_502() {
    for codings in [
        &["gzip, chunked"][..],
        &["gzip"],
        &["xchunked"],
        &["chunked, identity"],
        &["gzip", "chunked"],
        &["chunked", "chunked"],
        &["identity"],
    ] {
        let fields: String = codings.iter().map(|coding| format!("transfer-encoding: {coding}\r\n")).collect();
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}x-inner: 1\r\n\r\n5\r\ninner\r\n0\r\n\r\n");
        let (_upstream, gateway) = answering(bytes).await;
        for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
            assert_bad_gateway(&client.get("/").await, &format!("{codings:?}"));
        }
    }
}

#[tokio::test]
async fn a_host_that_is_no_host_and_port_gets_400() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let good = ["a", "a:8080", "a.example.:1", "[::1]", "[::1]:81", "192.0.2.1:65535", "a:", "xn--bcher-kva_1"];
    let bad = [
        "",
        "a:x",
        "a:-1",
        "a:+1",
        "a:99999",
        "a:65536",
        "[::1]x",
        "[::1",
        "[::g]",
        "[]",
        "::1",
        ":80",
        "a:80:80",
        "u@a",
        "u:p@a",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a,b",
        "a%zz",
        "[v1.a]",
        "[::1%25eth0]",
        "é",
    ];
    for (hosts, status) in [(&good[..], 200), (&bad[..], 400)] {
        for host in hosts {
            let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let answer = ask(gateway.address(), text).await;
            assert_eq!(answer.status(), status, "Host: {host}");
            if status == 200 {
                assert_eq!(&answer.json()["headers"]["host"], host);
            }
            let text = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert_eq!(ask(gateway.address_of("admin"), text).await.status(), status, "Host: {host}");
        }
    }
    for fields in ["", "host: a\r\nhost: a\r\n"] {
        for (address, path) in [(gateway.address(), "/"), (gateway.address_of("admin"), "/healthz")] {
            assert_eq!(ask(address, format!("GET {path} HTTP/1.1\r\n{fields}\r\n")).await.status(), 400, "{fields}");
        }
    }
    for host in ["a:x", "a:99999", "u@a", "[::1]x"] {
        let text = format!("GET http://{host}/ HTTP/1.1\r\nhost: a\r\n\r\n");
        for address in [gateway.address(), gateway.address_of("admin")] {
            assert_eq!(ask(address, &text).await.status(), 400, "GET http://{host}/");
        }
    }
    for host in ["a:99999", "u@a"] {
        let request = Request::get(format!("http://{host}/")).body(Full::default()).expect("a request");
        assert_eq!(Client::http2(gateway.address()).await.send(request).await.status, 400, ":authority {host}");
    }
}

#[tokio::test]
async fn a_connection_field_with_an_odd_byte_still_names_fields() {
    let down = b"HTTP/1.1 200 OK\r\nconnection: x-mine, \xff\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let upstream = Upstream::start(move |received| match received.target() {
        "/down" => Answer::Bytes(down.clone()),
        _ => Answer::Echo,
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let up = b"GET /up HTTP/1.1\r\nhost: a\r\nconnection: \xff, x-mine\r\nx-mine: 1\r\nx-kept: 1\r\n\r\n";
    let headers = ask(gateway.address(), up).await.json()["headers"].clone();
    assert_eq!((&headers["x-mine"], &headers["x-kept"]), (&Value::Null, &json!("1")));
    assert_eq!(fetch(gateway.address(), "/down").await.header("x-mine"), "");
}

#[tokio::test]
async fn a_length_is_one_number_in_every_response() {
    let length = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}x-inner: 1\r\n\r\n");
    for bad in ["content-length: x\r\n", "content-length: 1\r\ncontent-length: 2\r\n", "content-length: -1\r\n"] {
        let (_upstream, gateway) = answering(length(bad)).await;
        for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
            let answer = client.send(request("HEAD", "/", &[], "")).await;
            assert_eq!((answer.status.as_u16(), answer.header("x-inner")), (502, ""), "{bad:?}");
        }
        let (_upstream, gateway) = answering(length(bad).replace("200 OK", "304 Not Modified")).await;
        assert_eq!(fetch(gateway.address(), "/").await.status, 502, "304 with {bad:?}");
    }
    for twice in ["content-length: 5\r\ncontent-length: 5\r\n", "content-length: 5, 5\r\n", "content-length: 05\r\n"] {
        let (_upstream, gateway) = answering(length(twice)).await;
        let text = "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut client = Raw::connect(gateway.address()).await;
        client.write(text).await;
        let answer = client.answer_to("HEAD").await;
        assert_eq!(answer.head.all("content-length").collect::<Vec<_>>(), ["5"], "{twice:?}");
    }
}

#[tokio::test]
async fn a_request_says_its_length_once_and_where_its_method_expects_a_body() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for (method, fields, length) in [
        ("POST", "", Some("0")),
        ("PUT", "", Some("0")),
        ("PATCH", "", Some("0")),
        ("GET", "", None),
        ("DELETE", "", None),
        ("OPTIONS", "", None),
        ("DELETE", "content-length: 0\r\n", Some("0")),
        ("POST", "content-length: 00\r\n", Some("0")),
    ] {
        let text = format!("{method} / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        assert_eq!(ask(gateway.address(), text).await.status(), 200);
        assert_eq!(upstream.last().head.all("content-length").collect::<Vec<_>>(), Vec::from_iter(length), "{method}");
    }
    let mut client = Client::http2(gateway.address()).await;
    for method in ["POST", "DELETE"] {
        let twice = request(method, "/", &[("content-length", "0"), ("content-length", "0")], "");
        assert_eq!(client.send(twice).await.status, 200);
        assert_eq!(upstream.last().head.all("content-length").collect::<Vec<_>>(), ["0"], "{method} of HTTP/2");
    }
    assert_eq!(client.send(request("POST", "/", &[], "")).await.status, 200);
    assert_eq!(upstream.last().head.all("content-length").collect::<Vec<_>>(), ["0"]);
}

#[tokio::test]
async fn a_status_that_is_none_becomes_502_and_takes_its_fields_along() {
    for (status, fields) in [
        ("600 Odd", "content-length: 5\r\n"),
        ("999 Odd", "content-length: 5\r\n"),
        ("101 Switching Protocols", "upgrade: websocket\r\nconnection: upgrade\r\n"),
        ("101 Switching Protocols", "upgrade: h2c\r\nconnection: upgrade\r\n"),
    ] {
        let (_upstream, gateway) = answering(format!("HTTP/1.1 {status}\r\nx-inner: 1\r\n{fields}\r\ninner")).await;
        for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
            assert_bad_gateway(&client.get("/").await, status);
        }
        let counted = r#"stile_errors_total{route="all",service="echo",blame="upstream",cause="malformed"}"#;
        assert_eq!(gateway.admin().metric(counted).await, 2, "{status}");
    }
}

#[tokio::test]
async fn the_reason_phrase_of_a_service_is_kept() {
    let upstream = Upstream::start(|received| match received.target() {
        "/fine" => Answer::Bytes(b"HTTP/1.1 200 All is fine\r\ncontent-length: 0\r\n\r\n".to_vec()),
        "/none" => Answer::Bytes(b"HTTP/1.1 404 \r\ncontent-length: 0\r\n\r\n".to_vec()),
        _ => Answer::Bytes(b"HTTP/1.1 499 Odd\r\ncontent-length: 0\r\n\r\n".to_vec()),
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    for (path, line) in
        [("/fine", "HTTP/1.1 200 All is fine"), ("/none", "HTTP/1.1 404 "), ("/odd", "HTTP/1.1 499 Odd")]
    {
        assert_eq!(client.ask(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await.head.line, line);
    }
}

const TRAILERS: &str = "x-sum: 7\r\nconnection: x-mine\r\nx-mine: 1\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
                        x-request-id: evil\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\nhost: evil\r\n\
                        authorization: evil\r\ncookie: a=1\r\nkeep-alive: 5\r\nx-real-ip: 6.6.6.6\r\nexpect: x\r\n\
                        upgrade: x\r\nvia: 1.1 evil\r\nx_forwarded_for: 6.6.6.6\r\ncf-connecting-ip: 6.6.6.6\r\n\
                        x-original-url: /admin\r\nx-rewrite-url: /admin\r\nclient-cert: :a:\r\nssl-client-verify: SUCCESS\r\n\
                        x-remote-user: root\r\nx_remote_user: root\r\nx-ssl-client-verify: SUCCESS\r\n";
const NAMES: &str = "x-sum, connection, x-mine, x-forwarded-for, forwarded, x-request-id, transfer-encoding, content-length, \
                     host, authorization, cookie, keep-alive, x-real-ip, expect, upgrade, via, x_forwarded_for, \
                     cf-connecting-ip, x-original-url, x-rewrite-url, client-cert, ssl-client-verify, x-remote-user, x_remote_user, \
                     x-ssl-client-verify";

#[tokio::test]
async fn trailers_of_a_request_carry_nothing_that_its_head_may_not() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: {NAMES}\r\n");
    let answer = ask(gateway.address(), format!("{head}\r\n5\r\nhello\r\n0\r\n{TRAILERS}\r\n")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.last().trailers, ["x-sum: 7"]);
}

#[tokio::test]
async fn a_trailer_stands_for_no_field_that_a_filter_decides_by() {
    let upstream = Upstream::echo().await;
    let edits = |edits: Value| json!({ "plugin": "add-headers", "config": { "request": edits } });
    // One filter sets the field, one removes it, and one reads it.
    for (filter, left) in [
        (edits(json!({ "set": { "x-do": "nothing" } })), json!("nothing")),
        (edits(json!({ "remove": ["x-do"] })), Value::Null),
        (json!({ "plugin": "hostile" }), Value::Null),
    ] {
        let name = filter["plugin"].as_str().expect("a name").to_owned();
        let config = filtered(upstream.address(), json!([plugin(&name)]), json!([filter]));
        let gateway = Gateway::start(config).await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-do, x_do, x-sum\r\n\r\n";
        let answer = ask(gateway.address(), format!("{head}0\r\nx-do: 1\r\nx_do: 1\r\nx-sum: 7\r\n\r\n")).await;
        assert_eq!((answer.status(), &answer.json()["headers"]["x-do"]), (200, &left));
        assert_eq!(upstream.last().trailers, ["x-sum: 7"], "HTTP/1.1, {filter}");

        let mut client = Frames::connect(gateway.address(), 65_535).await;
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("trailer", "x-do, x-sum")];
        let head = frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::block(&fields));
        let trailers = frames::block(&[("x-do", "1"), ("x-sum", "7")]);
        let ends = frames::END_HEADERS | frames::END_STREAM;
        let request = [head, frames::frame(frames::HEADERS, ends, 1, &trailers)].concat();
        client.write(&request).await.expect("the gateway reads");
        client.until(frames::HEADERS, 1).await.expect("an answer");
        assert_eq!(upstream.last().trailers, ["x-sum: 7"], "HTTP/2, {filter}");
    }
}

#[tokio::test]
async fn trailers_behind_a_body_of_known_length_do_not_pass() {
    let upstream = Upstream::echo().await;
    // The one reads the body as a whole, the other leaves it without a known length.
    for (name, config) in [("bodies", json!({ "request": "measure" })), ("streams", json!({ "request": "upper" }))] {
        let filters = json!([
            { "plugin": "add-headers", "config": { "request": { "remove": ["x-do"] } } },
            { "plugin": name, "config": config },
        ]);
        let plugins = json!([plugin("add-headers"), plugin(name)]);
        let gateway = Gateway::start(filtered(upstream.address(), plugins, filters)).await;
        let mut client = Frames::connect(gateway.address(), 65_535).await;
        let method = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        let fields = [("content-length", "5"), ("trailer", "x-do, x-sum")];
        let head = frames::block(&[&method[..], &fields].concat());
        let trailers = frames::block(&[("x-do", "1"), ("x-sum", "7")]);
        let ends = frames::END_HEADERS | frames::END_STREAM;
        let request = [
            frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &head),
            frames::frame(frames::DATA, 0, 1, b"hello"),
            frames::frame(frames::HEADERS, ends, 1, &trailers),
        ];
        client.write(&request.concat()).await.expect("the gateway reads");
        client.until(frames::HEADERS, 1).await.expect("an answer");
        let received = upstream.last();
        assert_eq!(received.body.to_ascii_lowercase(), b"hello", "{name}");
        assert_eq!(received.trailers, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn no_trailer_passes_where_filters_have_touched_256_names() {
    let upstream = Upstream::echo().await;
    let different = |count| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
    // It counts once, as `x-0`.
    let same = vec!["x_0".to_owned(); 300];
    for (names, passed) in [
        (different(255), vec!["x-sum: 7"]),
        (different(256), vec![]),
        (different(257), vec![]),
        (same, vec!["x-sum: 7"]),
    ] {
        let count = names.len();
        // The names of all filters of the exchange count.
        let filters: Vec<Value> = names
            .chunks(128)
            .map(|names| json!({ "plugin": "add-headers", "config": { "request": { "remove": names } } }))
            .collect();
        let config = filtered(upstream.address(), json!([plugin("add-headers")]), json!(filters));
        let gateway = Gateway::start(config).await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-0, x-sum\r\n\r\n";
        let answer = ask(gateway.address(), format!("{head}0\r\nx-0: 1\r\nx-sum: 7\r\n\r\n")).await;
        assert_eq!(answer.status(), 200, "{count} names");
        assert_eq!(upstream.last().trailers, passed, "{count} names");
    }
}

#[tokio::test]
async fn a_listener_that_drops_underscores_drops_those_of_trailers() {
    let upstream = Upstream::echo().await;
    for (policy, passed) in [("drop", vec!["x-sum: 7"]), ("reserved", vec!["api_key: 1", "x-sum: 7"])] {
        let mut config = plain(upstream.address());
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "underscores": policy }]);
        let gateway = Gateway::start(config).await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: api_key, x-sum\r\n\r\n";
        assert_eq!(ask(gateway.address(), format!("{head}0\r\napi_key: 1\r\nx-sum: 7\r\n\r\n")).await.status(), 200);
        assert_eq!(upstream.last().trailers, passed, "{policy}");
    }
}

#[tokio::test]
async fn trailers_of_a_response_carry_nothing_that_its_head_may_not() {
    let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: {NAMES}\r\n");
    let (_upstream, gateway) = answering(format!("{head}\r\n5\r\nhello\r\n0\r\n{TRAILERS}\r\n")).await;
    let answer = Client::http2(gateway.address()).await.get("/").await;
    let names: Vec<_> = answer.trailers.keys().map(|name| name.as_str()).collect();
    assert_eq!((answer.text().as_str(), names), ("hello", vec!["x-sum"]));
    let mut client = Raw::connect(gateway.address()).await;
    let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n").await;
    assert_eq!((answer.status(), &client.0.trailers), (200, &vec!["x-sum: 7".to_owned()]));
}

#[tokio::test]
async fn an_expectation_is_met_by_the_gateway_and_goes_no_further() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 100);
    assert_eq!(client.ask("hello").await.json()["headers"]["expect"], Value::Null);
    let answer = Client::http2(gateway.address()).await.send(with("/", &[("expect", "100-continue")])).await;
    assert_eq!(answer.json()["headers"]["expect"], Value::Null);
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

#[tokio::test]
async fn interim_responses_of_one_exchange_are_bounded() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::start(move |received| match received.target() {
        "/endless" => Answer::BytesForever(HINTS.repeat(1000).into()),
        target => {
            let count = target[1..].parse().expect("a number of responses");
            Answer::Bytes(format!("{}{last}", HINTS.repeat(count)).into())
        }
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Client::connect(gateway.address()).await;
    for (count, status) in [("/0", 200), ("/1", 200), ("/32", 200), ("/33", 502), ("/500", 502), ("/endless", 502)] {
        assert_eq!(client.get(count).await.status, status, "{count}");
    }
    // Each response begins another count.
    for _ in 0..3 {
        assert_eq!(client.get("/32").await.text(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_answered_beside_another_that_sends_interim_responses_without_end() {
    let echo = Upstream::echo().await;
    let flood = Upstream::start(|_| Answer::BytesForever(HINTS.repeat(1000).into())).await;
    let mut flooding = service("flood", &[flood.address()]);
    // A flood has some 280 KB: its connection takes several turns.
    flooding["interim_responses"] = json!(5000);
    let mut config = plain(echo.address());
    config["workers"] = json!(1);
    config["services"].as_array_mut().expect("a list").push(flooding);
    config["routes"] = json!([
        { "name": "echo", "match": { "path": "/echo" }, "service": "echo" },
        // Only the number of interim responses ends an exchange.
        { "name": "flood", "match": { "path": "/flood" }, "service": "flood", "timeout": "1h" },
    ]);
    let gateway = Gateway::start(config).await;
    let load = Load { address: gateway.address(), connections: 2, requests: 100_000, pause: Duration::ZERO };
    let floods = load.start(|| Probe {
        request: get("/flood"),
        judge: |answer: &Response| if answer.status == 502 { Ok(()) } else { Err(answer.text()) },
    });
    flood.received(2).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/echo").await.status, 200);
    }
    let floods = floods.stop().await;
    assert_eq!((floods.wrong, floods.failed), (0, 0), "{:?}", floods.examples);
    let counted = r#"stile_errors_total{route="flood",service="flood",blame="upstream",cause="malformed"}"#;
    let admin = gateway.admin();
    until(counted, async || (admin.metric(counted).await == floods.right as u64).then_some(())).await;
}

#[tokio::test]
async fn the_body_of_an_early_answer_has_no_interim_responses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gateway = Gateway::start(plain(listener.local_addr().expect("an address"))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\npart").await;
    let (stream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    let mut service = Wire::new(stream);
    let body = HINTS.repeat(40);
    service.head().await.expect("a head");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    service.write(head.as_bytes()).await.expect("the gateway reads");
    assert_eq!(client.head().await.status(), 200);
    client.write("rest").await;
    soon("the rest of the request", service.body(Framing::Length(8), |_| ())).await.expect("a body");
    service.write(body.as_bytes()).await.expect("the gateway reads");
    assert_eq!(client.text(body.len() as u64).await, body);
}

#[tokio::test]
async fn white_space_around_values_of_http2_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Client::http2(gateway.address()).await;
    for (value, status) in [("admin", 200), (" admin", 400), ("admin ", 400), ("\tadmin", 400), ("a b", 200), ("", 200)]
    {
        assert_eq!(client.send(with("/", &[("x-role", value)])).await.status, status, "{value:?}");
    }
    // HTTP/1.1 takes it off.
    let answer = ask(gateway.address(), "GET / HTTP/1.1\r\nhost: a\r\nx-role: \t admin \t\r\n\r\n").await;
    assert_eq!(answer.json()["headers"]["x-role"], "admin");
}
