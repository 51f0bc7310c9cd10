//! Peers that stop in the middle of a body, or are too slow: each is given up, and blamed for what it owed.

use std::{fs, io::ErrorKind, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use stile_tests::{
    client::{HOST, http2},
    gateway::{Gateway, plain},
    guest::plugin,
    raw::{self, Raw},
    upstream::{Answer, Upstream},
    wait::{soon, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// More than the sockets on the way can hold.
const LARGE: u64 = 64 << 20;
/// A pause that is short beside a time-out of a test that must not end it.
const PAUSE: Duration = Duration::from_millis(50);

/// One route to one service, with bounds on clients and on the service, and a log of how each exchange ended.
fn config(upstream: SocketAddr, clients: Value, service: Value) -> Value {
    let mut config = plain(upstream);
    config["workers"] = json!(1);
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": { "progress": clients } }]);
    config["services"][0]["progress"] = service;
    config["access_log"] = json!({ "file": "log", "format": "{path} {status} {blame} {cause}" });
    config
}

/// The log, once it has so many lines.
async fn log(gateway: &Gateway, lines: usize) -> Vec<String> {
    let file = gateway.folder().join("log");
    until("the exchanges have ended", async || {
        let text = fs::read_to_string(&file).ok()?;
        let read: Vec<String> = text.lines().map(str::to_owned).collect();
        (read.len() >= lines && text.ends_with('\n')).then_some(read)
    })
    .await
}

async fn attempts(gateway: &Gateway, outcome: &str) -> u64 {
    let metric = format!(r#"stile_upstream_attempts_total{{service="echo",outcome="{outcome}"}}"#);
    gateway.admin().metric(&metric).await
}

#[tokio::test]
async fn a_slow_upload_is_not_bounded_by_the_timeout() {
    let upstream = Upstream::echo().await;
    let mut config = config(upstream.address(), json!({}), json!({}));
    // Long enough for an answer on any machine, and the upload takes longer.
    config["routes"][0]["timeout"] = json!("3s");
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await;
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        client.write("x").await;
    }
    let answer = client.ask("x").await;
    assert_eq!((answer.status(), &answer.json()["body_length"]), (200, &json!(5)));
}

#[tokio::test]
async fn a_slow_upload_of_http2_is_not_bounded_by_the_timeout() {
    let upstream = Upstream::echo().await;
    let mut config = config(upstream.address(), json!({}), json!({}));
    // Long enough for an answer on any machine, and the upload takes longer.
    config["routes"][0]["timeout"] = json!("3s");
    let gateway = Gateway::start(config).await;
    let pieces = stream::unfold((), async |()| {
        sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
    });
    let body = StreamBody::new(Box::pin(pieces.take(5)));
    let request = Request::post(format!("http://{HOST}/")).body(body).expect("a request");
    let (mut sender, _driver) = http2(gateway.address()).await;
    let answer = soon("an answer", sender.send_request(request)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.last().body_length, 5);
}

/// A filter that reads whole bodies, or a description, changes nothing in whose fault a body is that does not come.
#[tokio::test]
async fn a_body_that_is_collected_has_the_same_causes() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "bodies", "config": { "request": "judge" } }]);
    let mut filter = config(upstream.address(), json!({ "idle_timeout": "200ms" }), json!({}));
    filter["plugins"] = json!([plugin("bodies")]);
    filter["routes"][0]["filters"] = filters;
    let mut described = config(upstream.address(), json!({ "idle_timeout": "200ms" }), json!({}));
    described["routes"] = json!([]);
    let content = json!({ "application/json": { "schema": { "type": "object" } } });
    let paths = json!({ "/slow": { "post": { "requestBody": { "content": content } } } });
    let mut all = paths.clone();
    for path in ["/chunk", "/lf", "/left"] {
        all[path] = paths["/slow"].clone();
    }
    described["apis"] = json!([{ "name": "api", "versions": [{
        "name": "1", "state": "published", "anonymous": true, "validate": {}, "import": { "service": "echo" },
        "openapi": { "openapi": "3.1.0", "info": { "title": "A", "version": "1" }, "paths": all },
    }] }]);
    for config in [filter, described] {
        let gateway = Gateway::start(config).await;
        let head = |path: &str| {
            let fields = "content-type: application/json\r\ntransfer-encoding: chunked\r\nexpect: 100-continue";
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")
        };
        let mut lines = Vec::new();
        for (path, rest, status) in [("/slow", "", 408), ("/chunk", "zz\r\n", 400), ("/lf", "0\r\nx: y\n\r\n", 400)] {
            let mut client = Raw::connect(gateway.address()).await;
            client.write(head(path)).await;
            assert_eq!(client.head().await.status(), 100, "the body is being read");
            client.write(format!("2\r\n{{}}\r\n{rest}")).await;
            assert_eq!(client.answer_to("POST").await.status(), status, "{path}");
            lines = log(&gateway, lines.len() + 1).await;
        }
        assert_eq!(
            lines,
            ["/slow 408 client slow-client", "/chunk 400 client request-framing", "/lf 400 client request-framing"]
        );
    }
}

#[tokio::test]
async fn the_timeout_runs_from_the_end_of_the_request() {
    let upstream = Upstream::start(|_| Answer::Silence).await;
    let mut config = config(upstream.address(), json!({}), json!({}));
    config["routes"][0]["timeout"] = json!("150ms");
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha").await;
    sleep(PAUSE * 6).await;
    assert_eq!(client.ask("lf").await.status(), 504);
    assert_eq!(log(&gateway, 1).await, ["/ 504 upstream timeout"]);
    assert_eq!(attempts(&gateway, "timeout").await, 1);
}

#[tokio::test]
async fn a_client_that_stops_sending_is_blamed_itself() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(upstream.address(), json!({ "idle_timeout": "200ms" }), json!({}))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(client.answer_to("POST").await.status(), 408);
    client.closed().await;

    let (mut sender, _driver) = http2(gateway.address()).await;
    let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"half")))]);
    let body = StreamBody::new(first.chain(stream::pending()));
    let request = Request::post(format!("http://{HOST}/2")).body(body).expect("a request");
    let answer = soon("an answer", sender.send_request(request)).await.expect("an answer");
    assert_eq!(answer.status(), 408);
    let mut lines = log(&gateway, 2).await;
    lines.sort();
    assert_eq!(lines, ["/1 408 client slow-client", "/2 408 client slow-client"]);
    assert_eq!((attempts(&gateway, "client").await, attempts(&gateway, "timeout").await), (2, 0));
    until("the service is rid of them", async || (upstream.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_ended() {
    let upstream = Upstream::start(|_| Answer::Pattern(LARGE)).await;
    let gateway = Gateway::start(config(upstream.address(), json!({ "idle_timeout": "300ms" }), json!({}))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(log(&gateway, 1).await, ["/ 200 client slow-client"]);
    until("the service is rid of it", async || (upstream.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_a_stream_keeps_its_others() {
    let upstream = Upstream::start(|received| match received.target() {
        "/large" => Answer::Pattern(LARGE),
        _ => Answer::text("small"),
    })
    .await;
    let gateway = Gateway::start(config(upstream.address(), json!({ "idle_timeout": "300ms" }), json!({}))).await;
    let (mut sender, _driver) = http2(gateway.address()).await;
    let request =
        |path: &str| Request::get(format!("http://{HOST}{path}")).body(Empty::<Bytes>::new()).expect("a request");
    let large = soon("a head", sender.send_request(request("/large"))).await.expect("a head");
    assert_eq!(log(&gateway, 1).await, ["/large 200 client slow-client"]);
    let broken = soon("an end", large.into_body().collect()).await.expect_err("it does not look whole");
    assert!(broken.to_string().contains("error reading a body"), "{broken}");
    let small = soon("an answer", sender.send_request(request("/small"))).await.expect("an answer");
    assert_eq!(soon("a body", small.into_body().collect()).await.expect("a body").to_bytes(), "small");
    assert_eq!(log(&gateway, 2).await[1], "/small 200 - -");
}

#[tokio::test]
async fn a_service_that_stops_in_the_middle_is_ended() {
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    // The last two are answers whose trailer section has lines that end with LF alone: they have no end.
    for rest in ["content-length: 10\r\n\r\nhalf", &format!("{chunked}\n"), &format!("{chunked}x: y\n\n")] {
        let half = format!("HTTP/1.1 200 OK\r\n{rest}");
        let upstream = Upstream::start(move |_| Answer::Bytes(half.clone().into())).await;
        let gateway = Gateway::start(config(upstream.address(), json!({}), json!({ "idle_timeout": "200ms" }))).await;
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.try_answer_to("GET").await.map(|answer| answer.map(|it| it.head)).expect_err("it does not look whole");
        assert_eq!(log(&gateway, 1).await, ["/ 200 upstream stalled"], "{rest:?}");
        until("its connection is closed", async || (upstream.open() == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn a_service_that_stops_reading_is_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let gateway = Gateway::start(config(address, json!({}), json!({ "idle_timeout": "300ms" }))).await;
    let client = TcpStream::connect(gateway.address()).await.expect("the address accepts");
    let (mut reader, mut writer) = client.into_split();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
        let mut written = writer.write_all(head.as_bytes()).await;
        while written.is_ok() {
            written = writer.write_all(&[0; 1 << 16]).await;
        }
    });
    let (_held, _) = soon("a connection", listener.accept()).await.expect("a connection");
    let mut text = String::new();
    // The gateway closes behind its answer, with what it has not read of the request.
    let _ = soon("an answer", reader.read_to_string(&mut text)).await;
    assert_eq!(log(&gateway, 1).await, ["/ 504 upstream stalled"], "{text}");
    assert_eq!((attempts(&gateway, "timeout").await, attempts(&gateway, "client").await), (1, 0));
}

#[tokio::test]
async fn a_trickle_is_ended_by_the_minimum_rate() {
    let slow = json!({ "min_rate": "1KiB", "min_rate_grace": "200ms" });
    let drops = vec![(PAUSE, "x"); 10_000];
    let upstream = Upstream::start(move |received| match received.target() {
        "/down" => Answer::Chunks(drops.clone()),
        _ => Answer::text("whole"),
    })
    .await;
    let gateway = Gateway::start(config(upstream.address(), slow.clone(), slow)).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET /down HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.try_answer_to("GET").await.map(|answer| answer.map(|it| it.head)).expect_err("it does not look whole");
    assert_eq!(log(&gateway, 1).await, ["/down 200 upstream stalled"]);

    let client = TcpStream::connect(gateway.address()).await.expect("the address accepts");
    let (mut reader, mut writer) = client.into_split();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut written = writer.write_all(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n").await;
        while written.is_ok() {
            sleep(PAUSE).await;
            written = writer.write_all(b"x").await;
        }
    });
    let mut text = String::new();
    let _ = soon("an answer", reader.read_to_string(&mut text)).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(log(&gateway, 2).await[1], "/up 408 client slow-client");

    let drops = stream::unfold((), async |()| {
        sleep(PAUSE).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
    });
    let (mut sender, _driver) = http2(gateway.address()).await;
    let request =
        Request::post(format!("http://{HOST}/up2")).body(StreamBody::new(Box::pin(drops))).expect("a request");
    assert_eq!(soon("an answer", sender.send_request(request)).await.expect("an answer").status(), 408);
    assert_eq!(log(&gateway, 3).await[2], "/up2 408 client slow-client");
}

#[tokio::test]
async fn a_client_that_reads_a_trickle_is_ended_by_the_minimum_rate() {
    let upstream = Upstream::start(|_| Answer::Pattern(LARGE)).await;
    // The rate is beyond any trickle, and no time-out ends the exchange instead.
    let bounds = json!({ "idle_timeout": "1h", "min_rate": "1GiB", "min_rate_grace": "100ms" });
    let gateway = Gateway::start(config(upstream.address(), bounds, json!({ "idle_timeout": "1h" }))).await;
    let mut client = TcpStream::connect(gateway.address()).await.expect("the address accepts");
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the gateway reads");
    let trickle = async {
        let mut piece = vec![0; 16 << 10];
        loop {
            if let Err(error) = client.read_exact(&mut piece).await {
                return error.kind();
            }
            sleep(PAUSE).await;
        }
    };
    let (lines, end) = tokio::join!(log(&gateway, 1), soon("the end of the connection", trickle));
    assert_eq!(lines, ["/ 200 client slow-client"]);
    assert_eq!(end, ErrorKind::ConnectionReset);
    until("the service is rid of it", async || (upstream.open() == 0).then_some(())).await;
}

/// Answers with a part of a body of this media type and unknown length, and is silent then.
async fn resting(media_type: &'static str) -> Upstream {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\nconnection: close\r\n\r\n");
    Upstream::start(move |_| Answer::BytesThenMirror(format!("{head}data: 1\n\n").into_bytes())).await
}

#[tokio::test]
async fn a_transfer_of_messages_may_rest_and_has_a_time_out_of_its_own() {
    for media_type in [
        "text/event-stream; charset=utf-8",
        "application/grpc+proto",
        "application/x-ndjson",
        "multipart/x-mixed-replace; boundary=a",
    ] {
        let upstream = resting(media_type).await;
        let mut bounds = json!({ "idle_timeout": "100ms", "min_rate": "1GiB", "min_rate_grace": "1ms" });
        let gateway = Gateway::start(config(upstream.address(), bounds.clone(), bounds.clone())).await;
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200);
        sleep(PAUSE * 8).await;
        assert_eq!(upstream.open(), 1, "{media_type} is let alone");

        bounds["stream_idle_timeout"] = json!("200ms");
        let gateway = Gateway::start(config(upstream.address(), json!({}), bounds)).await;
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(log(&gateway, 1).await, ["/ 200 upstream stalled"], "{media_type}");
    }
}

#[tokio::test]
async fn a_websocket_has_a_time_out_of_its_own() {
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let upstream = Upstream::start(move |_| Answer::BytesThenMirror(agreed.into())).await;
    let bounds = json!({ "idle_timeout": "50ms", "stream_idle_timeout": "1500ms" });
    let gateway = Gateway::start(config(upstream.address(), bounds, json!({}))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write(upgrade).await;
    assert_eq!(client.head().await.status(), 101);
    sleep(PAUSE * 4).await;
    client.write("still here").await;
    assert_eq!(client.text(10).await, "still here");
    client.closed().await;
    assert_eq!(log(&gateway, 1).await, ["/ 101 client idle"]);
    until("the service's side ends too", async || (upstream.open() == 0).then_some(())).await;
}

/// The timer of the connection from one port to another as the kernel has it; 2 is that of keep-alive.
fn timer(from: u16, to: u16) -> Option<String> {
    let text = fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (port(fields[1])? == from && port(fields[2])? == to).then(|| fields[5].split(':').next().map(str::to_owned))?
    })
}

#[tokio::test]
async fn silent_connections_are_probed_on_both_sides() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let gateway = Gateway::start(config(address, json!({}), json!({}))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (held, peer) = soon("a connection", listener.accept()).await.expect("a connection");
    soon("a request", held.readable()).await.expect("a request");
    let port = client.0.stream.local_addr().expect("an address").port();
    for (from, to) in [(gateway.address().port(), port), (peer.port(), address.port())] {
        // Until the last bytes are acknowledged, another timer runs.
        until("the keep-alive timer runs", async || (timer(from, to)? == "02").then_some(())).await;
    }
}

#[tokio::test]
async fn heads_of_answers_have_limits_of_their_own() {
    let upstream = Upstream::start(|received| {
        let (count, size) = if received.target() == "/many" { (150, 10) } else { (2, 40_000) };
        let cookies: String = (0..count).map(|n| format!("set-cookie: {n}={}\r\n", "x".repeat(size))).collect();
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{cookies}content-length: 2\r\n\r\nok").into_bytes())
    })
    .await;
    let mut config = config(upstream.address(), json!({}), json!({}));
    config["services"][0]["header_bytes"] = json!("64KiB");
    let gateway = Gateway::start(config.clone()).await;
    for path in ["/many", "/long"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 502, "{path}");
        assert_eq!(answer.json()["detail"], "the head of the service's answer is too large", "{path}");
    }
    assert_eq!(log(&gateway, 2).await, ["/many 502 upstream header-size", "/long 502 upstream header-size"]);
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("more than 100 fields or 65536 bytes"), "{errors}");

    config["services"][0]["header_count"] = json!(200);
    config["services"][0]["header_bytes"] = json!("128KiB");
    let gateway = Gateway::start(config).await;
    for (path, cookies) in [("/many", 150), ("/long", 2)] {
        let answer = raw::ask(gateway.address(), format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.head.all("set-cookie").count()), (200, cookies), "{path}");
    }
}
