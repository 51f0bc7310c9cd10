//! Services: which endpoint gets a request, over which connection, and what a client is told when it fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use stile_tests::{
    client::{self, Client, fetch, request},
    gateway::{Gateway, plain, service},
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::{soon, until},
    wire::{Framing, Wire},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

fn one_worker(mut config: Value) -> Value {
    config["workers"] = json!(1);
    config
}

async fn names(gateway: &Gateway, requests: usize) -> Vec<String> {
    let mut client = Client::connect(gateway.address()).await;
    let mut names = Vec::new();
    for _ in 0..requests {
        names.push(client.get("/").await.json()["name"].as_str().expect("a name").to_owned());
    }
    names
}

#[tokio::test]
async fn round_robin_is_exact() {
    let (a, b, c) = (Upstream::named("a").await, Upstream::named("b").await, Upstream::named("c").await);
    let mut config = one_worker(plain(a.address()));
    config["services"] = json!([service("echo", &[a.address(), b.address(), c.address()])]);
    let gateway = Gateway::start(config).await;
    let names = names(&gateway, 30).await;
    let first = &names[..3];
    assert_eq!((a.count(), b.count(), c.count()), (10, 10, 10));
    assert!(names.chunks(3).all(|turn| turn == first), "{names:?}");
}

#[tokio::test]
async fn weights_are_exact_and_zero_gets_nothing() {
    let (a, b, c) = (Upstream::named("a").await, Upstream::named("b").await, Upstream::named("c").await);
    let mut config = one_worker(plain(a.address()));
    config["services"] = json!([{ "name": "echo", "balance": "weighted", "endpoints": [
        { "address": a.address(), "weight": 3 }, { "address": b.address() }, { "address": c.address(), "weight": 0 },
    ] }]);
    let gateway = Gateway::start(config).await;
    names(&gateway, 40).await;
    assert_eq!((a.count(), b.count(), c.count()), (30, 10, 0));
}

#[tokio::test]
async fn the_turn_and_the_connections_outlive_a_reload() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let mut config = one_worker(plain(a.address()));
    config["services"] = json!([service("echo", &[a.address(), b.address()])]);
    let gateway = Gateway::start(config.clone()).await;
    let mut seen = names(&gateway, 3).await;
    config["routes"][0]["timeout"] = json!("7s");
    gateway.rewrite(config).await;
    seen.extend(names(&gateway, 3).await);
    assert!(seen.chunks(2).all(|turn| turn == &seen[..2]), "{seen:?}");
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[tokio::test]
async fn connections_to_a_service_are_used_again() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(one_worker(plain(upstream.address()))).await;
    for _ in 0..10 {
        let mut client = Client::connect(gateway.address()).await;
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.send(request("POST", "/", &[], "body")).await.json()["body_length"], 4);
    }
    assert_eq!((upstream.count(), upstream.connections()), (20, 1));
}

#[tokio::test]
async fn a_connection_that_the_service_has_closed_is_replaced() {
    let upstream =
        Upstream::start(|_| Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())).await;
    let gateway = Gateway::start(one_worker(plain(upstream.address()))).await;
    let mut client = Client::connect(gateway.address()).await;
    for n in 1..=20 {
        assert_eq!(client.get("/").await.text(), "ok");
        assert_eq!(upstream.connections(), n);
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let upstream = Upstream::echo().await;
    let mut config = one_worker(plain(upstream.address()));
    // Far below the interval at which idle connections are swept.
    config["services"][0]["idle_timeout"] = json!("100ms");
    let gateway = Gateway::start(config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(upstream.connections(), 2);
}

/// A service that answers a POST as soon as it has the head, and reads the body after that.
async fn early() -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (connections, mut tasks) = (Arc::<AtomicUsize>::default(), JoinSet::new());
    let count = Arc::clone(&connections);
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            open.spawn(async move {
                let mut wire = Wire::new(stream);
                while let Ok(Some(head)) = wire.head().await {
                    let answered = wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    if answered.is_err() || wire.body(head.framing_of_request(), |_| ()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, connections, tasks)
}

#[tokio::test]
async fn connections_that_are_still_busy_take_no_place_of_ready_ones() {
    let (address, connections, _service) = early().await;
    let gateway = Gateway::start(one_worker(plain(address))).await;
    let mut uploads = Vec::new();
    for _ in 0..70 {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\npart").await;
        assert_eq!(client.answer_to("POST").await.body, b"ok");
        uploads.push(client);
    }
    let before = connections.load(SeqCst);
    for _ in 0..30 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(connections.load(SeqCst) - before, 1, "new connections for thirty requests in a row");
}

#[tokio::test]
async fn a_connection_whose_upload_ends_after_its_answer_is_used_again() {
    let (address, connections, _service) = early().await;
    let gateway = Gateway::start(one_worker(plain(address))).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\npart").await;
    assert_eq!(client.answer_to("POST").await.body, b"ok");
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(connections.load(SeqCst), 2, "the first is busy");
    client.write("rest").await;
    // Both are idle from here on: two requests at once need no third.
    until("both connections serve", async || {
        let before = connections.load(SeqCst);
        let pair = tokio::join!(gateway.get("/"), gateway.get("/"));
        assert_eq!((pair.0.status.as_u16(), pair.1.status.as_u16()), (200, 200));
        (connections.load(SeqCst) == before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn busy_connections_over_the_bound_end_with_their_uploads_and_the_others_serve_again() {
    const KEPT: usize = 2;
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = one_worker(plain(listener.local_addr().expect("an address")));
    config["services"][0]["idle_connections"] = json!(KEPT);
    // No sweep closes a connection.
    config["services"][0]["idle_timeout"] = json!("1h");
    let gateway = Gateway::start(config).await;
    let mut uploads = Vec::new();
    for _ in 0..5 {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\npart").await;
        let (stream, _) = soon("a connection", listener.accept()).await.expect("a connection");
        let mut service = Wire::new(stream);
        soon("a request", service.head()).await.expect("a request").expect("no end before the request");
        service.write(OK).await.expect("the gateway reads");
        assert_eq!(client.answer_to("POST").await.body, b"ok");
        uploads.push((client, service));
    }
    for (client, service) in &mut uploads {
        client.write("rest").await;
        let upload = service.body(Framing::Length(8), |_| ());
        soon("the rest of the upload", upload).await.expect("a whole upload");
    }
    let mut kept = uploads.split_off(uploads.len() - KEPT);
    for (_, service) in &mut uploads {
        soon("the connection is closed", service.closed()).await;
    }
    // Each of the two requests holds a connection until both have come.
    let answering = async {
        for (_, service) in &mut kept {
            soon("a request", service.head()).await.expect("a request").expect("no end before the request");
        }
        for (_, service) in &mut kept {
            service.write(OK).await.expect("the gateway reads");
        }
    };
    let (one, other, ()) = tokio::join!(gateway.get("/"), gateway.get("/"), answering);
    assert_eq!((one.text().as_str(), other.text().as_str()), ("ok", "ok"));
}

#[tokio::test]
async fn what_a_service_does_wrong_is_told_as_a_problem() {
    let upstream = Upstream::start(|received| match received.target() {
        "/reset" => Answer::BytesThenReset(Vec::new()),
        "/close" => Answer::BytesThenClose(Vec::new()),
        "/half" => Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\nx-half: ".to_vec()),
        "/garbage" => Answer::BytesThenClose(b"SSH-2.0-nothing\r\n\r\n".to_vec()),
        "/switch" => Answer::BytesThenClose(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_vec(),
        ),
        _ => Answer::Silence,
    })
    .await;
    let mut config = plain(upstream.address());
    config["routes"][0]["timeout"] = json!("200ms");
    let gateway = Gateway::start(config).await;
    for (path, status) in
        [("/reset", 502), ("/close", 502), ("/half", 502), ("/garbage", 502), ("/switch", 502), ("/silence", 504)]
    {
        let answer = fetch(gateway.address(), path).await;
        assert_eq!(answer.status, status, "{path}");
        if path != "/switch" {
            assert_problem(&answer, status);
        }
    }
    until("the given-up request is taken off the service", async || (upstream.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn each_exchange_of_a_connection_to_a_service_has_a_time_out_of_its_own() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let upstream = Upstream::start(|received| match received.target() {
        "/silence" => Answer::Silence,
        _ => Answer::text("here"),
    })
    .await;
    let mut config = one_worker(plain(upstream.address()));
    config["routes"][0]["timeout"] = json!("1s");
    let gateway = Gateway::start(config).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.get("/").await.status, 200);
    // The time-out of the first exchange would end within that of the second.
    sleep(TIMEOUT / 3).await;
    let start = Instant::now();
    assert_eq!((client.get("/silence").await.status.as_u16(), upstream.connections()), (504, 1));
    assert!(start.elapsed() >= TIMEOUT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_told_as_a_problem() {
    let full = Full::new().await;
    let refused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let mut config = plain(refused);
    config["services"] = json!([
        service("refused", &[refused]),
        { "name": "full", "endpoints": [{ "address": full.address }], "connect_timeout": "150ms" },
        service("empty", &[]),
    ]);
    let route = |name: &str| json!({ "name": name, "match": { "path": format!("/{name}") }, "service": name });
    config["routes"] = json!([route("refused"), route("full"), route("empty")]);
    let gateway = Gateway::start(config).await;
    for (path, status) in [("/refused", 502), ("/full", 504), ("/empty", 503), ("/unknown", 404)] {
        let answer = fetch(gateway.address(), path).await;
        assert_problem(&answer, status);
        assert!(!answer.text().contains("127.0.0.1"), "what is behind the gateway stays there: {}", answer.text());
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_is_passed_over_for_a_while() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    // Bound, so that nobody else gets the port, and not listening.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    held.bind(&any.into()).expect("a free port");
    let gone = held.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let mut config = one_worker(plain(gone));
    config["services"] = json!([service("echo", &[gone, a.address(), b.address()])]);
    let gateway = Gateway::start(config).await;
    let refused = r#"stile_upstream_attempts_total{service="echo",outcome="refused"}"#;
    let start = Instant::now();
    let mut client = Client::connect(gateway.address()).await;
    for n in 0..30 {
        // Nothing of it has reached anybody: whatever its method, and with its body.
        let sent = client.send(request("POST", "/", &[], format!("body {n}"))).await;
        assert_eq!(sent.status, 200);
    }
    let up = format!(r#"stile_endpoint_up{{service="echo",endpoint="{gone}"}}"#);
    if start.elapsed() < Duration::from_secs(1) {
        let told = (gateway.admin().metric(refused).await, gateway.admin().metric(&up).await);
        assert_eq!(told, (1, 0), "the first refusal is told to all");
    }
    assert_eq!((a.count() + b.count(), a.count().abs_diff(b.count()) <= 1), (30, true), "{} {}", a.count(), b.count());

    // Once it is there again, it has its turn.
    held.listen(128).and_then(|()| held.set_nonblocking(true)).expect("it listens");
    let back = Upstream::named_on("back", TcpListener::from_std(held.into()).expect("a runtime"));
    until("it is tried again", async || {
        client.get("/").await;
        (back.count() > 0).then_some(())
    })
    .await;
    let before = back.count();
    names(&gateway, 9).await;
    assert_eq!((back.count(), gateway.admin().metric(&up).await), (before + 3, 1));
}

#[tokio::test]
async fn a_lost_syn_does_not_fail_a_connection() {
    // The kernel sends a SYN again after 1 s: the queue has room again by then.
    let full = Full::new().await;
    let mut config = one_worker(plain(full.address));
    config["services"] = json!([service("echo", &[full.address])]);
    let gateway = Gateway::start(config).await;
    let served = async {
        sleep(Duration::from_millis(300)).await;
        let listener = full.into_listener();
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut wire = Wire::new(stream);
            open.spawn(async move {
                while let Ok(Some(_)) = wire.head().await {
                    let _ = wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    };
    let answer = tokio::select! {
        answer = gateway.get("/") => answer,
        () = served => unreachable!("it accepts for ever"),
    };
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".to_owned()));
}

#[tokio::test]
async fn an_endpoint_that_is_dead_is_found_out_within_the_timeout_of_a_route() {
    let (full, live) = (Full::new().await, Upstream::named("live").await);
    let mut config = one_worker(plain(live.address()));
    config["services"] = json!([service("echo", &[full.address, live.address()]), service("alone", &[full.address])]);
    for service in config["services"].as_array_mut().expect("services") {
        service["connect_timeout"] = json!("30s");
    }
    config["routes"] = json!([
        { "name": "both", "match": { "path": "/both" }, "service": "echo", "timeout": "4s" },
        { "name": "alone", "match": { "path": "/alone" }, "service": "alone", "timeout": "300ms" },
    ]);
    let gateway = Gateway::start(config).await;
    for n in 0..4 {
        assert_eq!(fetch(gateway.address(), "/both").await.status, 200, "{n}");
    }
    let outcome = r#"stile_upstream_attempts_total{service="echo",outcome="connect-timeout"}"#;
    assert!(gateway.admin().metric(outcome).await > 0, "the dead one had its turn");
    assert_eq!(live.count(), 4);
    assert_eq!(fetch(gateway.address(), "/alone").await.status, 504);
    let cause = r#"stile_errors_total{route="alone",service="alone",blame="upstream",cause="connect-timeout"}"#;
    assert_eq!(gateway.admin().metric(cause).await, 1);
}

#[tokio::test]
async fn a_reload_reaches_connections_that_are_kept() {
    let upstream = Upstream::start(|_| {
        let cookies: String = (0..80).map(|n| format!("set-cookie: {n}=\r\n")).collect();
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{cookies}content-length: 2\r\n\r\nok").into_bytes())
    })
    .await;
    let mut config = one_worker(plain(upstream.address()));
    config["services"][0]["header_count"] = json!(200);
    let gateway = Gateway::start(config.clone()).await;
    assert_eq!(gateway.get("/").await.status, 200);
    config["services"][0]["header_count"] = json!(60);
    gateway.rewrite(config).await;
    assert_eq!((gateway.get("/").await.status.as_u16(), upstream.connections()), (502, 2));
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("more than 60 fields"), "{errors}");
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_look_whole() {
    let upstream = Upstream::start(|received| match received.target() {
        "/length" => Answer::BytesThenReset(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        _ => Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()),
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for path in ["/length", "/chunked"] {
        let mut client = Raw::connect(gateway.address()).await;
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        client.try_answer_to("GET").await.map(|answer| answer.map(|it| it.head)).expect_err(path);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let upstream = Upstream::start(|_| Answer::Silence).await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.received(1).await;
    assert_eq!(upstream.open(), 1);
    drop(client);
    until("the service is rid of the request", async || (upstream.open() == 0).then_some(())).await;
}

fn assert_problem(answer: &client::Answer, status: u16) {
    let problem = answer.json();
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
}

/// An address whose queue is full and never read: a new connection to it is neither taken nor refused.
struct Full {
    address: SocketAddr,
    socket: Socket,
    waiting: Vec<TcpStream>,
}

impl Full {
    async fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).and_then(|()| socket.listen(0)).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        let mut waiting = Vec::new();
        for _ in 0..16 {
            match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
                Ok(connected) => waiting.push(connected.expect("the queue takes it or nobody answers")),
                Err(_) => return Self { address, socket, waiting },
            }
        }
        panic!("the queue does not fill");
    }

    /// Begins to read its queue.
    fn into_listener(self) -> TcpListener {
        drop(self.waiting);
        self.socket.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(self.socket.into()).expect("a runtime")
    }
}
