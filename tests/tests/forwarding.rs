//! What the service sees of a request, and the client of its response.

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, HOST, fetch, request, with},
    gateway::{Gateway, plain, service},
    raw::{Raw, ask},
    upstream::{Answer, Upstream},
};

#[tokio::test]
async fn what_belongs_to_the_connection_ends_with_it() {
    let upstream = Upstream::start(|received| match received.target() {
        "/down" => Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
              proxy-connection: a\r\nupgrade: h2c\r\nx-kept: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
              content-length: 2\r\n\r\nok"
                .to_vec(),
        ),
        _ => Answer::Echo,
    })
    .await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let up = "GET /up HTTP/1.1\r\nhost: a\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\nte: trailers\r\n\
              proxy-connection: a\r\nupgrade: websocket\r\ntrailer: x\r\nx-kept: 1\r\n\r\n";
    let headers = ask(gateway.address(), up).await.json()["headers"].clone();
    for gone in ["connection", "x-mine", "keep-alive", "te", "proxy-connection", "upgrade", "transfer-encoding"] {
        assert_eq!(headers[gone], Value::Null, "{gone}");
    }
    assert_eq!(headers["x-kept"], "1");

    let answer = fetch(gateway.address(), "/down").await;
    for gone in ["connection", "x-mine", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
    assert_eq!(
        (answer.header("x-kept"), answer.all("set-cookie"), answer.text().as_str()),
        ("1", vec!["a=1", "b=2"], "ok")
    );
}

const CLAIMS: [(&str, &str); 6] = [
    ("host", "api.example:81"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-host", "evil"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=6.6.6.6"),
    ("via", "1.1 lie"),
];

#[tokio::test]
async fn who_asked_is_told_and_a_client_is_not_believed() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["via"] = json!({ "pseudonym": "edge" });
    let gateway = Gateway::start(config).await;
    let headers = Client::connect(gateway.address()).await.send(with("/", &CLAIMS)).await.json()["headers"].clone();
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-host"], "api.example:81");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["forwarded"], "for=127.0.0.1;host=\"api.example:81\";proto=http");
    assert_eq!(headers["via"], "1.1 lie, 1.1 edge");
}

#[tokio::test]
async fn a_trusted_client_is_believed_and_added_to() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": ["127.0.0.0/8"] }]);
    config["via"] = json!({ "pseudonym": "edge" });
    let gateway = Gateway::start(config).await;
    let headers = Client::connect(gateway.address()).await.send(with("/", &CLAIMS)).await.json()["headers"].clone();
    assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 127.0.0.1");
    assert_eq!((&headers["x-forwarded-host"], &headers["x-forwarded-proto"]), (&json!("evil"), &json!("https")));
    assert_eq!(headers["forwarded"], "for=6.6.6.6;host=\"evil\";proto=https, for=127.0.0.1");
    assert_eq!(headers["via"], "1.1 lie, 1.1 edge");
}

#[tokio::test]
async fn the_path_is_matched_and_forwarded_in_its_one_form() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"] = json!([
        { "name": "users", "match": { "path": "/users/*" }, "service": "echo", "rewrite": { "strip_prefix": "/users" } },
        { "name": "files", "match": { "path": "/files/*", "allow_encoded_slash": true }, "service": "echo" },
        { "name": "rest", "match": { "path": "/open/*" }, "service": "echo" },
    ]);
    let gateway = Gateway::start(config).await;
    let forms = [
        ("/users/7?a=%2F&b", "/7?a=%2F&b"),
        ("/users", "/"),
        ("/users?x=1", "/?x=1"),
        ("/open/../users//./%7Ejoe/", "/~joe/"),
        ("/%75sers/a%20b", "/a%20b"),
        ("/open/a/b/../c", "/open/a/c"),
        ("/files/a%2Fb", "/files/a%2Fb"),
        ("/open/%c3%a4", "/open/%C3%A4"),
        ("/users;v=1/7;a=b/c?x=;", "/7;a=b/c?x=;"),
        ("/open;x/a;y", "/open;x/a;y"),
        ("/open/;x", "/open/;x"),
    ];
    for (asked, seen) in forms {
        let answer = fetch(gateway.address(), asked).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["target"]), (200, &json!(seen)), "{asked}");
    }
    let hidden = ["/users/..;/open/a", "/open/.;x/a", "/open/%2e%2E;/a", "/open/..%3b/a", "/open/.%3B", "/;x/open/a"];
    for refused in ["/open/a%2Fb", "/open/a%00b", "/open/%zz"].into_iter().chain(hidden) {
        let answer = fetch(gateway.address(), refused).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (400, "application/problem+json"),
            "{refused}"
        );
    }
    for none in ["/userss", "/files/../secret", "/"] {
        assert_eq!(fetch(gateway.address(), none).await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn raw_bytes_of_a_query_pass() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    let matches = json!({ "query": { "q": "{\"a\":1}" } });
    config["routes"] = json!([
        { "name": "all", "service": "echo" },
        { "name": "json", "match": matches, "service": "echo", "rewrite": { "strip_prefix": "/a" } },
    ]);
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    // One connection, so that every request but the first follows another.
    for (sent, seen) in [
        (&b"/a?q={\"a\":1}"[..], "/?q={%22a%22:1}"),
        (b"/a?q=%7b%22a%22:1}", "/?q=%7b%22a%22:1}"),
        (b"/b?<x>=[1]|\\^`{}", "/b?%3Cx%3E=[1]|\\^`{}"),
        (b"/b?\xe9\xc3\xa9", "/b?%E9%C3%A9"),
        (b"/b?a#b", "/b?a%23b"),
        (b"/b", "/b"),
    ] {
        for body in ["", "GET /?\" HTTP/1.1\r\n\r\n"] {
            let (method, length) = if body.is_empty() {
                ("GET", String::new())
            } else {
                ("POST", format!("content-length: {}\r\n", body.len()))
            };
            let text = [
                method.as_bytes(),
                b" ",
                sent,
                b" HTTP/1.1\r\nhost: a\r\n",
                length.as_bytes(),
                b"\r\n",
                body.as_bytes(),
            ];
            let answer = client.ask(text.concat()).await;
            assert_eq!((answer.status(), &answer.json()["target"]), (200, &json!(seen)), "{method}");
            assert_eq!(answer.json()["body"].as_str().unwrap_or_default(), body, "{method} {seen}");
        }
    }
    for refused in [&b"/a?b c"[..], b"/a?\x01", b"/a?\x7f"] {
        let text = [&b"GET "[..], refused, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        assert_eq!(ask(gateway.address(), text).await.status(), 400, "{}", refused.escape_ascii());
    }
}

#[tokio::test]
async fn one_host_is_asked_for_and_seen() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    let route = |name: &str, host: &str, seen: &str| json!({ "name": name, "match": { "hosts": [host] }, "service": "echo", "host": seen });
    config["routes"] =
        json!([route("client", "*.client.test", "client"), route("upstream", "upstream.test", "upstream")]);
    let gateway = Gateway::start(config).await;
    let host = async |text: &str| {
        let answer = ask(gateway.address(), text).await;
        assert_eq!(answer.status(), 200, "{text}");
        answer.json()["headers"]["host"].clone()
    };
    assert_eq!(host("GET / HTTP/1.1\r\nhost: A.client.test:80\r\n\r\n").await, "A.client.test:80");
    assert_eq!(host("GET / HTTP/1.1\r\nhost: upstream.test\r\n\r\n").await, upstream.address().to_string());
    // RFC 9112 §3.2.2: the request line goes before the field.
    assert_eq!(host("GET http://b.client.test/x HTTP/1.1\r\nhost: upstream.test\r\n\r\n").await, "b.client.test");
    let refused = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.client.test\r\nhost: upstream.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: me@a.client.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a client.test\r\n\r\n",
    ];
    for text in refused {
        assert_eq!(ask(gateway.address(), text).await.status(), 400, "{text}");
    }
    assert_eq!(ask(gateway.address(), "GET / HTTP/1.1\r\nhost: client.test\r\n\r\n").await.status(), 404);
}

#[tokio::test]
async fn the_most_special_route_is_taken_whatever_the_order_in_the_file() {
    let (general, special) = (Upstream::named("general").await, Upstream::named("special").await);
    let mut config = plain(general.address());
    config["services"] = json!([service("general", &[general.address()]), service("special", &[special.address()])]);
    config["routes"] = json!([
        { "name": "all", "service": "general" },
        { "name": "prefix", "match": { "path": "/a/*" }, "service": "general" },
        { "name": "exact", "match": { "path": "/a/b" }, "service": "special" },
        { "name": "post", "match": { "path": "/a/*", "methods": ["POST"] }, "service": "special" },
        { "name": "segment", "match": { "path": "/a/{id}/c" }, "service": "special" },
        { "name": "host", "match": { "hosts": ["special.test"] }, "service": "special" },
        { "name": "regex", "match": { "hosts": ["regex.test"], "path": "~^/v[0-9]+/" }, "service": "special" },
    ]);
    let gateway = Gateway::start(config).await;
    let asked = [
        ("GET", "/", HOST, "general"),
        ("GET", "/a/x", HOST, "general"),
        ("GET", "/a/b", HOST, "special"),
        ("POST", "/a/x", HOST, "special"),
        ("GET", "/a/x/c", HOST, "special"),
        ("GET", "/a/x", "special.test:8080", "special"),
        ("GET", "/v12/", "regex.test", "special"),
        ("GET", "/vx/", "regex.test", "general"),
    ];
    for (method, path, host, name) in asked {
        let answer = Client::connect(gateway.address()).await.send(request(method, path, &[("host", host)], "")).await;
        assert_eq!(answer.json()["name"], name, "{method} {path} {host}");
    }
}

#[tokio::test]
async fn a_head_request_gets_a_head_only() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.answer_to("HEAD").await;
    assert_eq!((answer.status(), answer.head.get("content-type")), (200, Some("application/json")));
    let length: u64 = answer.head.get("content-length").expect("the length of the body").parse().expect("a number");
    assert!(length > 50, "{length}");
    assert_eq!(client.ask("GET /y HTTP/1.1\r\nhost: a\r\n\r\n").await.json()["target"], "/y");
    assert_eq!(upstream.connections(), 1, "the connection to the service was used again");
}

#[tokio::test]
async fn a_request_id_ties_everything_together() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let mut client = Client::connect(gateway.address()).await;
    let (one, two) = (client.get("/").await, client.get("/").await);
    assert_eq!(one.header("x-request-id").len(), 32);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    assert_eq!(one.json()["headers"]["x-request-id"], one.header("x-request-id"));
    let own = client.send(with("/", &[("x-request-id", "mine-1")])).await;
    assert_eq!((own.header("x-request-id"), &own.json()["headers"]["x-request-id"]), ("mine-1", &json!("mine-1")));
}
