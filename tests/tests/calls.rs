//! Calls that plugins make: to whom they may, several at once, within bounds, while the worker serves others.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, with},
    gateway::{self, Gateway, service},
    guest::plugin_with,
    process::Stile,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// A caller on every route, which may call the service `asked` and these hosts.
fn config(upstream: &Upstream, asked: &Upstream, hosts: &[String], keys: Value) -> Value {
    let mut plugin =
        plugin_with("caller", json!({ "allow": ["http-client"], "http": { "services": ["asked"], "hosts": hosts } }));
    for (key, value) in keys.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    json!({
        "workers": 1,
        "plugins": [plugin],
        "services": [service("echo", &[upstream.address()]), service("asked", &[asked.address()])],
        "routes": [{ "name": "all", "service": "echo", "filters": [{ "plugin": "caller", "config": {} }] }],
    })
}

async fn call(gateway: &Gateway, fields: &[(&str, &str)]) -> String {
    let answer = Client::connect(gateway.address()).await.send(with("/", fields)).await;
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    answer.text()
}

fn origin(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[tokio::test]
async fn a_plugin_calls_services_and_hosts_that_it_may_call() {
    let (upstream, asked, host) =
        (Upstream::echo().await, Upstream::named("asked").await, Upstream::named("host").await);
    let gateway = Gateway::start(config(&upstream, &asked, &[origin(host.address())], json!({}))).await;
    for (url, name, target) in [
        ("service://asked/a?b=c".to_owned(), "asked", "/a?b=c"),
        ("service://asked".to_owned(), "asked", "/"),
        (format!("{}/x", origin(host.address())), "host", "/x"),
    ] {
        let told = call(&gateway, &[("x-call", &url), ("x-request-id", "from-the-client")]).await;
        let told = told.strip_prefix("200 ").expect("an answer");
        let told: Value = serde_json::from_str(told).expect("what was asked for");
        assert_eq!((&told["name"], &told["target"]), (&json!(name), &json!(target)), "{url}");
        assert_eq!(told["headers"]["x-from"], "a plugin");
        assert_eq!(told["headers"]["x-request-id"], "from-the-client");
    }
    assert_eq!(upstream.count(), 0, "the plugin has answered");
    for (url, told) in [
        ("service://echo/".to_owned(), "the plugin may not call service \"echo\""),
        (origin(upstream.address()), "the plugin may not call http://127.0.0.1:"),
        ("https://localhost/".to_owned(), "the plugin may not call https://localhost:443"),
        ("ftp://asked/".to_owned(), "\"ftp://asked/\" is no URL to call"),
        (format!("{}@evil/", origin(host.address())), "is no URL to call"),
    ] {
        let answer = call(&gateway, &[("x-call", &url)]).await;
        assert!(answer.contains(told), "{url}: {answer}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_answer_may_be_the_reply_with_all_its_fields() {
    let fields = |framing: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nx-made-by: asked\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n{framing}\r\n"
        )
    };
    let (length, chunks) =
        (fields("content-length: 3\r\n") + "abc", fields("transfer-encoding: chunked\r\ntrailer: x-sum\r\n"));
    let chunks = chunks + "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    let answers = move |target: &str| if target == "/chunks" { chunks.clone() } else { length.clone() };
    let asked = Upstream::start(move |received| Answer::BytesThenClose(answers(received.target()).into_bytes())).await;
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &asked, &[origin(asked.address())], json!({}))).await;
    for base in ["service://asked".to_owned(), origin(asked.address())] {
        for path in ["/length", "/chunks"] {
            let url = format!("{base}{path}");
            let mut client = Client::connect(gateway.address()).await;
            let answer = client.send(with("/", &[("x-call", &url), ("x-copy", "yes")])).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "abc"), "{url}");
            assert_eq!((answer.header("x-made-by"), answer.header("content-length")), ("asked", "3"), "{url}");
            for gone in ["x-hop", "keep-alive", "transfer-encoding", "trailer"] {
                assert_eq!(answer.header(gone), "", "{url}: {gone}");
            }
        }
    }
}

#[tokio::test]
async fn several_calls_are_under_way_at_once_and_the_worker_serves_others() {
    let gate = Gate::new();
    let (upstream, behind) = (Upstream::echo().await, gate.clone());
    let asked = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("late")))).await;
    let patient = json!({ "limits": { "timeout": "30s", "call_timeout": "30s" } });
    let gateway = Gateway::start(config(&upstream, &asked, &[], patient)).await;
    let fields = [("x-call", "service://asked/"), ("x-times", "5")];
    let (told, ()) = tokio::join!(call(&gateway, &fields), async {
        until("all are under way", async || (asked.open() == 5).then_some(())).await;
        assert_eq!(gateway.get("/").await.status, 200, "the one worker serves others meanwhile");
        gate.cancel();
    });
    assert_eq!(told, ["200 late"; 5].join("\n"));
}

#[tokio::test]
async fn calls_are_bounded_in_number_time_and_size() {
    let upstream = Upstream::echo().await;
    let asked = Upstream::start(|received| match received.target() {
        "/never" => Answer::Silence,
        "/large" => Answer::Pattern(2000),
        "/broken" => Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        _ => Answer::text("ok"),
    })
    .await;
    let limits = json!({ "limits": { "calls": 3, "call_body": "1KiB", "call_timeout": "1h" } });
    let gateway = Gateway::start(config(&upstream, &asked, &[], limits)).await;
    let many = call(&gateway, &[("x-call", "service://asked/"), ("x-times", "5")]).await;
    let limit = "more than the plugin may: 3 calls in one phase (limits.calls)";
    assert_eq!(many, ["200 ok", "200 ok", "200 ok", limit, limit].join("\n"));
    let large = call(&gateway, &[("x-call", "service://asked/large")]).await;
    assert_eq!(large, "more than the plugin may: an answer of 1024 bytes (limits.call_body)");
    // Without the time-out of its own, the call would outlast the plugin's.
    assert_eq!(call(&gateway, &[("x-call", "service://asked/never"), ("x-timeout", "1")]).await, "no answer in time");
    let overruns = r#"stile_plugin_overruns_total{plugin="caller",route="all",cause="calls"}"#;
    assert_eq!(gateway.admin().metric(overruns).await, 3, "one of many, one too large, one late");
    let broken = call(&gateway, &[("x-call", "service://asked/broken")]).await;
    assert!(broken.starts_with("the call failed: "), "{broken}");

    // What is not waited for any more is given up.
    until("nothing is under way", async || (asked.open() <= 3).then_some(())).await;
    let before = asked.count();
    assert_eq!(call(&gateway, &[("x-call", "service://asked/"), ("x-drop", "1")]).await, "200 ok");
    assert!(asked.count() <= before + 2);

    let limits = json!({ "limits": { "call_timeout": "200ms" } });
    let gateway = Gateway::start(config(&upstream, &asked, &[], limits)).await;
    assert_eq!(call(&gateway, &[("x-call", "service://asked/never")]).await, "no answer in time");
    assert_eq!(gateway.admin().metric(overruns).await, 1);

    // A plugin's own time-out ends it too.
    let limits = json!({ "limits": { "call_timeout": "30s", "timeout": "100ms" } });
    let gateway = Gateway::start(config(&upstream, &asked, &[], limits)).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.send(with("/", &[("x-call", "service://asked/never")])).await.status, 503);
    let overruns = r#"stile_plugin_overruns_total{plugin="caller",route="all",cause="timeout"}"#;
    assert_eq!(gateway.admin().metric(overruns).await, 1);
}

#[tokio::test]
async fn interim_responses_of_services_and_hosts_are_bounded() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    let asked = Upstream::start(move |received| {
        let count = received.target()[1..].parse().expect("a number of responses");
        // The body looks like more of them.
        let body = hints.repeat(40);
        let last = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        Answer::Bytes(format!("{}{last}", hints.repeat(count)).into_bytes())
    })
    .await;
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &asked, &[origin(asked.address())], json!({}))).await;
    for base in ["service://asked".to_owned(), origin(asked.address())] {
        for (count, is_served) in [(0, true), (32, true), (32, true), (33, false), (32, true)] {
            let answer = call(&gateway, &[("x-call", &format!("{base}/{count}"))]).await;
            assert_eq!(answer.starts_with("200 HTTP/1.1 103"), is_served, "{base} {count}: {answer}");
            assert_eq!(answer.starts_with("the call failed: "), !is_served, "{base} {count}: {answer}");
        }
    }
    assert_eq!(asked.connections(), 4, "each connection has many exchanges");
}

#[tokio::test]
async fn answers_of_services_and_hosts_with_another_transfer_coding_than_chunked_are_refused() {
    let asked = Upstream::start(move |received| {
        let codings = received.target()[1..].replace('+', ", ");
        Answer::Bytes(
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n2\r\nok\r\n0\r\n\r\n").into_bytes(),
        )
    })
    .await;
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &asked, &[origin(asked.address())], json!({}))).await;
    for base in ["service://asked".to_owned(), origin(asked.address())] {
        for codings in ["chunked", "gzip", "gzip+chunked", "chunked+gzip", "identity", "chunked+chunked"] {
            let answer = call(&gateway, &[("x-call", &format!("{base}/{codings}"))]).await;
            let is_served = codings == "chunked";
            assert_eq!(answer.starts_with("200 ok"), is_served, "{base} {codings}: {answer}");
            assert_eq!(answer.starts_with("the call failed: "), !is_served, "{base} {codings}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_configuration_that_calls_or_names_nobody_is_refused() {
    let (upstream, asked) = (Upstream::echo().await, Upstream::echo().await);
    let good = config(&upstream, &asked, &[], json!({}));
    let gateway = Gateway::start(good.clone()).await;
    let mut wrong = good.clone();
    wrong["routes"][0]["filters"][0]["config"] = json!({ "call": "service://asked/" });
    let told = gateway.rewrite_refused(wrong).await;
    assert!(told.contains("plugin \"caller\" refuses it: called outside of an exchange"), "{told}");
    let mut wrong = good;
    wrong["plugins"][0]["http"] = json!({ "services": ["askd"], "hosts": ["idp.example.com", "http://a/b"] });
    let told = gateway.rewrite_refused(wrong).await;
    for message in [
        "plugins[0].http.services[0]: there is no service \"askd\"; did you mean \"asked\"?",
        "plugins[0].http.hosts[0]: \"idp.example.com\" is not of the form http://HOST:PORT or https://HOST",
        "plugins[0].http.hosts[1]: \"http://a/b\" is not of the form",
    ] {
        assert!(told.contains(message), "{told}");
    }
}

/// A host that speaks TLS with a certificate for `localhost`, and the certificate.
async fn tls_host() -> (SocketAddr, String, JoinSet<()>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("they belong together");
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(server)), TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let address = listener.local_addr().expect("a bound address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut read = vec![0; 4096];
            let length = stream.read(&mut read).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&read[..length]).lines().next().unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, made.cert.pem(), tasks)
}

/// On the built binary, since which certificates are trusted is a matter of its environment.
#[tokio::test]
async fn hosts_may_speak_tls_and_must_be_who_they_are() {
    let (upstream, asked) = (Upstream::echo().await, Upstream::echo().await);
    let (address, certificate, _tasks) = tls_host().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).expect("the folder is ours");
    let trusted = trusted.to_string_lossy().into_owned();
    let (right, other) = (format!("https://localhost:{}", address.port()), format!("https://{address}"));
    let config = config(&upstream, &asked, &[right.clone(), other.clone()], json!({}));
    gateway::write(folder.path(), config);
    let gateway = Stile::start(folder.path(), &[("SSL_CERT_FILE", &trusted)]).await;
    let call =
        async |url: &str| Client::connect(gateway.address()).await.send(with("/", &[("x-call", url)])).await.text();
    assert_eq!(call(&format!("{right}/keys?a")).await, "200 GET /keys?a HTTP/1.1");
    let told = call(&other).await;
    assert!(told.starts_with("the call failed: ") && told.contains("certificate"), "{told}");
}
