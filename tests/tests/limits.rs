//! Bounds of connections whatever they say: those of the admin address, open files, and what is read after an answer.

mod descriptors;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use serde_json::json;
use stile_tests::{
    admin::SECRET,
    client::{Client, request},
    frames::{self, Frames},
    gateway::{self, Gateway, plain, service},
    process::{Stile, limited},
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::{SOON, until},
    wire::Wire,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// More than the kernel keeps for a reader that does not read.
const UPLOAD: usize = 32 << 20;

/// Sends a whole body before it reads, as many clients do, and gives the status of the answer.
async fn upload(address: SocketAddr) -> u16 {
    let mut client = Raw::connect(address).await;
    client.write(format!("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n")).await;
    client.write(vec![b'x'; UPLOAD]).await;
    client.answer_to("POST").await.status()
}

#[tokio::test]
async fn a_client_that_sends_before_it_reads_gets_the_answer_that_refuses_its_body() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/other" });
    let gateway = Gateway::start(config).await;
    for _ in 0..8 {
        assert_eq!(upload(gateway.address()).await, 404);
        assert_eq!(upload(gateway.address_of("admin")).await, 404);
    }
}

#[tokio::test]
async fn a_client_that_sends_before_it_reads_gets_the_early_answer_of_a_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let service = listener.local_addr().expect("a bound address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut begun = [0; 100 << 10];
            stream.read_exact(&mut begun).await.expect("the gateway sends");
            let answer = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("the gateway reads");
            // It reads no more, and closes when the gateway has had time to read the answer.
            stream.shutdown().await.expect("the gateway reads");
            sleep(Duration::from_secs(3)).await;
        }
    });
    let gateway = Gateway::start(plain(service)).await;
    assert_eq!(upload(gateway.address()).await, 413);
}

#[tokio::test]
async fn an_answer_is_passed_on_though_its_service_closes_with_the_request_unread() {
    const TRIES: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let service = listener.local_addr().expect("a bound address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The head, and not all of the body: the kernel resets the connection.
            let answer = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig";
            if stream.read_exact(&mut [0; 64]).await.is_ok() {
                let _ = stream.write_all(answer).await;
            }
        }
    });
    let gateway = Gateway::start(plain(service)).await;
    for length in [30_000, 1 << 20] {
        for _ in 0..TRIES {
            for mut client in [Client::connect(gateway.address()).await, Client::http2(gateway.address()).await] {
                let answer = client.send(request("POST", "/", &[], vec![b'x'; length])).await;
                assert_eq!((answer.status.as_u16(), answer.text().as_str()), (413, "big"), "{length}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_read_after_an_answer_is_bounded() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/other" });
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": { "linger_bytes": "1MiB" } }]);
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    let endless = async {
        while client.try_write(&chunk).await.is_ok() {
            sent += chunk.len();
        }
    };
    timeout(SOON, endless).await.expect("the gateway closes the connection");
    assert!(sent < UPLOAD, "{sent} bytes");
}

#[tokio::test]
async fn the_time_of_reading_after_an_answer_is_bounded() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/other" });
    let limits = json!({ "linger_timeout": "500ms" });
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "limits": limits }]);
    config["admin"] = json!({ "address": "127.0.0.1:0", "limits": limits });
    let gateway = Gateway::start(config).await;
    for address in [gateway.address(), gateway.address_of("admin")] {
        let mut client = Raw::connect(address).await;
        // More than the gateway reads of a body without an end of the connection.
        client.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
        assert_eq!(client.answer_to("POST").await.status(), 404);
        client.trickle().await;
    }
}

#[tokio::test]
async fn a_refused_upload_of_http2_gets_its_answer_and_the_connection_stays() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/other" });
    let gateway = Gateway::start(config).await;
    let mut client = Client::http2(gateway.address()).await;
    for _ in 0..4 {
        assert_eq!(client.send(request("POST", "/upload", &[], vec![b'x'; UPLOAD])).await.status, 404);
        assert_eq!(client.get("/other").await.status, 200);
    }
}

#[tokio::test]
async fn the_admin_address_has_the_limits_of_a_listener() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    // The bound alone closes connections here.
    for key in ["connections", "connections_per_client"] {
        config["admin"] = json!({ "address": "127.0.0.1:0", "limits": { key: 5, "header_timeout": "1h" } });
        let gateway = Gateway::start(config.clone()).await;
        let admin = gateway.address_of("admin");
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(Raw::connect(admin).await);
        }
        Raw::connect(admin).await.closed().await;
        assert_eq!(silent[0].ask("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.status(), 200, "{key}");
    }

    let limits = json!({ "header_count": 20, "header_bytes": "16KiB", "header_timeout": "300ms" });
    config["admin"] = json!({ "address": "127.0.0.1:0", "limits": limits });
    let gateway = Gateway::start(config).await;
    let admin = gateway.address_of("admin");
    for begun in ["", "GET /healthz HTTP/1.1\r\nhost: a\r\nx-slow:"] {
        let mut client = Raw::connect(admin).await;
        client.write(begun).await;
        client.closed().await;
    }
    let get = |fields: &str| format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let many: String = (0..20).map(|n| format!("x-{n}: a\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(20 << 10));
    for (fields, status) in [("", 200), (&many, 431), (&long, 431)] {
        let mut client = Raw::connect(admin).await;
        client.try_write(get(fields)).await.expect("the gateway reads so much");
        assert_eq!(client.answer().await.status(), status);
    }
    // An idle connection that was of use has the same time.
    let mut idle = Raw::connect(admin).await;
    assert_eq!(idle.ask(get("")).await.status(), 200);
    idle.closed().await;
}

#[tokio::test]
async fn a_gateway_without_descriptors_blames_no_endpoint_and_keeps_its_admin_address() {
    let (upstream, silent) = (Upstream::echo().await, Upstream::start(|_| Answer::Silence).await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).expect("the folder is ours");
    let config = json!({
        // Another worker would go on with an idle connection that it has, which only its own requests close.
        "workers": 1,
        "services": [service("echo", &[upstream.address()]), service("silent", &[silent.address()])],
        "routes": [
            { "name": "echo", "match": { "path": "/echo" }, "service": "echo" },
            // No time-out frees a descriptor.
            { "name": "silent", "match": { "path": "/silent" }, "service": "silent", "timeout": "1h" },
        ],
    });
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), file.into()).await;
    let begun = Instant::now();
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    // Each takes a connection to the service, until one finds no descriptor.
    fill(&mut client, "/silent", 200).await;
    // A descriptor that something else had may be free now.
    let (mut other, mut stream) = (Client::http2(gateway.address()).await, 401);
    let refused = async || {
        client.write(&frames::head(stream, "GET", "/silent", true)).await.expect("the gateway reads");
        stream += 2;
        Some(other.get("/echo").await).filter(|answer| answer.status == 503)
    };
    let answer = until("there is no descriptor left", refused).await;
    assert_eq!(answer.header("retry-after"), "1");
    let admin = gateway.admin();
    assert_eq!(answer.json()["detail"], "the gateway has no room for another connection");
    for (service, upstream) in [("echo", &upstream), ("silent", &silent)] {
        let up = format!("stile_endpoint_up{{service=\"{service}\",endpoint=\"{}\"}}", upstream.address());
        assert_eq!(admin.metric(&up).await, 1, "{service}");
    }
    drop(client);
    let served = async || (other.get("/echo").await.status == 200).then_some(());
    until("there are descriptors again", served).await;
    let told = std::fs::read_to_string(&log).expect("a log");
    let lines = told.lines().filter(|line| line.contains("no connection can be opened")).count();
    // Each service has one a second.
    let most = 2 * (begun.elapsed().as_secs() + 2);
    assert!((1..=most).contains(&(lines as u64)), "{lines} lines:\n{told}");
}

#[tokio::test]
async fn idle_connections_make_room_for_others_where_no_descriptor_is_left() {
    let (held, silent) = (Gate::new(), Upstream::start(|_| Answer::Silence).await);
    let behind = held.clone();
    let busy = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("ok")))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = json!({
        "workers": 1,
        "services": [service("silent", &[silent.address()]), service("busy", &[busy.address()])],
        "routes": [
            { "name": "silent", "match": { "path": "/silent" }, "service": "silent" },
            { "name": "busy", "match": { "path": "/busy" }, "service": "busy" },
        ],
    });
    for service in config["services"].as_array_mut().expect("services") {
        // No sweep ends one before it makes room.
        service["idle_timeout"] = json!("1h");
        service["idle_connections"] = json!(1000);
    }
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), Stdio::null()).await;
    let mut client = Frames::connect(gateway.address(), 65_535).await;
    let before = fill(&mut client, "/busy", 200).await;
    held.cancel();
    for _ in before..200 {
        answered(&mut client).await;
    }
    let kept = busy.open();
    assert!(kept >= 20, "{kept} connections are kept");
    // All descriptors are with one service, and the other gets as many as it needs.
    for n in 200..220 {
        client.write(&frames::head(2 * n + 1, "GET", "/silent", true)).await.expect("the gateway reads");
    }
    until("the other service has its connections", async || (silent.open() == 20).then_some(())).await;
    until("the first one has fewer", async || (busy.open() < kept).then_some(())).await;
}

/// Sends so many requests, whose answers wait, until the last is refused for want of a descriptor. Returns the number of answers.
/// Nothing else may open a connection meanwhile: it would leave a descriptor.
async fn fill(client: &mut Frames, path: &str, requests: u32) -> usize {
    for n in 0..requests {
        client.write(&frames::head(2 * n + 1, "GET", path, true)).await.expect("the gateway reads");
    }
    let mut answers = 1;
    while answered(client).await != 2 * requests - 1 {
        answers += 1;
    }
    answers
}

/// Returns the stream of the next answer.
async fn answered(client: &mut Frames) -> u32 {
    loop {
        let frame = client.next().await.expect("the connection goes on");
        if frame.kind == frames::HEADERS {
            return frame.stream;
        }
    }
}

#[tokio::test]
async fn a_client_that_stops_sending_to_the_admin_address_is_given_up() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    let token = json!({ "name": "ops", "role": "admin", "secret": SECRET });
    let limits = json!({ "progress": { "idle_timeout": "300ms" } });
    config["admin"] = json!({ "address": "127.0.0.1:0", "tokens": [token], "limits": limits });
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address_of("admin")).await;
    let head =
        "PUT /v1/services/other HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n";
    client.write(format!("{head}authorization: Bearer {SECRET}\r\n\r\n{{")).await;
    assert_eq!(client.answer_to("PUT").await.status(), 408);
    client.closed().await;
    // The gateway neither asks for the body of a refused request nor waits for it.
    let mut client = Raw::connect(gateway.address_of("admin")).await;
    client.write(format!("{head}expect: 100-continue\r\n\r\n")).await;
    let refused = client.answer_to("PUT").await;
    assert_eq!((refused.status(), refused.head.get("connection")), (401, Some("close")));
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run_with_files(folder.path(), plain(upstream.address()), (100, 500), Stdio::null()).await;
    assert_eq!(gateway.admin().metric("process_max_fds").await, 500);
}

#[tokio::test]
async fn a_check_says_how_many_connections_the_open_files_allow() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = gateway::write(folder.path(), plain(SocketAddr::from(([127, 0, 0, 1], 9))));
    let checked = limited((160, 160)).arg("check").arg("--config").arg(file).output().await.expect("sh runs");
    let told = [checked.stdout, checked.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(checked.status.success() && told.contains("the limit of 160 open files allows"), "{told}");
}

#[tokio::test]
async fn clients_without_number_leave_room_for_services_and_the_admin_address() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).expect("the folder is ours");
    let gateway = Stile::run_with_files(folder.path(), plain(upstream.address()), (160, 160), file.into()).await;
    let told = std::fs::read_to_string(&log).expect("a log");
    assert!(told.contains("the limit of 160 open files allows"), "{told}");
    let at_start = told.lines().filter(|line| line.contains("WARN")).count() as u64;

    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(Raw(Wire::new(TcpStream::connect(gateway.address()).await.expect("the kernel accepts"))));
    }
    assert_eq!(gateway.admin().get("/healthz").await.status, 200);
    let (mut answered, mut closed) = (0, 0);
    for client in &mut clients {
        match client.try_write(GET).await.ok() {
            Some(()) => match client.try_answer_to("GET").await {
                Ok(Some(answer)) => {
                    assert_eq!(answer.status(), 200);
                    answered += 1;
                }
                Ok(None) | Err(_) => closed += 1,
            },
            None => closed += 1,
        }
    }
    assert!(answered > 10 && closed > 100, "{answered} answered, {closed} closed");
    let admin = gateway.admin();
    let up = format!("stile_endpoint_up{{service=\"echo\",endpoint=\"{}\"}}", upstream.address());
    assert_eq!(admin.metric(&up).await, 1);
    assert_eq!(admin.metric("stile_connections{listener=\"public\"}").await, answered);
    let told = std::fs::read_to_string(&log).expect("a log");
    let lines = told.lines().filter(|line| line.contains("WARN")).count() as u64;
    // One a second for the listener and one for the service, beside those of the start.
    let most = at_start + 2 * (begun.elapsed().as_secs() + 2);
    assert!(lines <= most, "{lines} warnings:\n{told}");
}

#[tokio::test]
async fn silent_connections_to_the_admin_address_leave_room_for_clients_and_services() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["admin"] = json!({ "address": "127.0.0.1:0", "limits": { "header_timeout": "1h" } });
    let gateway = Stile::run_with_files(folder.path(), config, (160, 160), Stdio::null()).await;
    let mut silent = Vec::new();
    // No client has more than it may.
    for n in (2..17).flat_map(|n| [n; 20]) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, n], 0).into()).expect("an address of this machine");
        silent.push(socket.connect(gateway.address_of("admin")).await.expect("the kernel accepts"));
    }
    // The gateway closes connections that find no room.
    for stream in silent.split_off(150) {
        Raw(Wire::new(stream)).closed().await;
    }
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Raw::connect(gateway.address()).await;
        assert_eq!(client.ask(GET).await.status(), 200);
        clients.push(client);
    }
}
