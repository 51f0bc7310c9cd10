//! Servers that announce themselves: registration, heartbeats, lapse, draining, discovery, and who may do what.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use stile_tests::{
    admin::{Admin, SERVICE, VIEWER},
    client::Client,
    gateway::{Gateway, service},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::{SOON, until},
};
use tokio::time::{Instant, timeout};

/// How long a machine may be busy with something else.
const BUSY: Duration = Duration::from_secs(5);

/// A gateway whose service `echo` has these endpoints of its own, and `other` none.
async fn gateway(endpoints: &[SocketAddr]) -> Gateway {
    Gateway::start(config(endpoints)).await
}

fn config(endpoints: &[SocketAddr]) -> Value {
    json!({
        "workers": 1,
        "services": [service("echo", endpoints), service("other", &[])],
        "routes": [{ "name": "all", "service": "echo" }],
    })
}

fn at(id: &str) -> String {
    format!("/v1/services/echo/endpoints/{id}")
}

async fn register(admin: &Admin, id: &str, address: SocketAddr, more: Value) -> u16 {
    let mut sent = json!({ "address": address });
    for (key, value) in more.as_object().into_iter().flatten() {
        sent[key] = value.clone();
    }
    admin.send("PUT", &at(id), sent).await.status.as_u16()
}

/// Who answered so many requests, with how often.
async fn answers(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(gateway.address()).await;
    let mut names = BTreeMap::new();
    for _ in 0..requests {
        let name = client.get("/").await.json()["name"].as_str().expect("a name").to_owned();
        *names.entry(name).or_insert(0) += 1;
    }
    names
}

async fn ids(admin: &Admin) -> Vec<String> {
    let listed = admin.get("/v1/services/echo/endpoints").await.json();
    listed["items"].as_array().expect("items").iter().map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_registration_is_an_endpoint_at_once_and_until_it_deregisters() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    assert_eq!(gateway.get("/").await.status, 503);
    let sent = admin.send("PUT", &at("a-1"), json!({ "address": a.address(), "metadata": { "zone": "x" } })).await;
    assert_eq!(sent.status, 201);
    let expected =
        json!({ "id": "a-1", "address": a.address(), "weight": 1, "ttl": "30s", "metadata": { "zone": "x" } });
    assert_eq!(sent.json(), expected);
    assert_eq!(answers(&gateway, 2).await, [("a".to_owned(), 2)].into());
    assert_eq!(register(&admin, "b-1", b.address(), json!({})).await, 201);
    assert_eq!(answers(&gateway, 4).await, [("a".to_owned(), 2), ("b".to_owned(), 2)].into());
    assert_eq!(register(&admin, "b-1", b.address(), json!({})).await, 200, "it says the same again");
    assert_eq!(register(&admin, "b-1", a.address(), json!({})).await, 200, "it is elsewhere now");
    assert_eq!(answers(&gateway, 2).await, [("a".to_owned(), 2)].into());
    assert_eq!(admin.send("DELETE", &at("b-1"), Value::Null).await.status, 204);
    assert_eq!(admin.send("DELETE", &at("b-1"), Value::Null).await.status, 404);
    assert_eq!(ids(&admin).await, ["a-1"]);
    assert_eq!(admin.send("DELETE", &at("a-1"), Value::Null).await.status, 204);
    assert_eq!(gateway.get("/").await.status, 503);
    assert_eq!(gateway.generation(), 1, "no generation is made for any of it");
}

#[tokio::test]
async fn one_without_heartbeats_is_out_within_a_second_of_its_ttl() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let before = Instant::now();
    register(&admin, "silent", a.address(), json!({ "ttl": "500ms" })).await;
    let registered = Instant::now();
    register(&admin, "alive", b.address(), json!({ "ttl": "10s" })).await;
    until("the silent one is gone", async || {
        assert_eq!(admin.send("POST", &format!("{}/heartbeat", at("alive")), Value::Null).await.status, 204);
        (ids(&admin).await == ["alive"]).then_some(())
    })
    .await;
    assert!(before.elapsed() >= Duration::from_millis(500), "{:?}", before.elapsed());
    // Its ttl and a second, and as much as a busy machine may take to tell.
    assert!(registered.elapsed() < Duration::from_millis(1500) + BUSY, "{:?}", registered.elapsed());
    assert_eq!(admin.send("POST", &format!("{}/heartbeat", at("silent")), Value::Null).await.status, 404);
    assert_eq!(answers(&gateway, 2).await, [("b".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_server_that_announces_itself_again_is_not_passed_over() {
    // Bound, so that nobody else gets the port, and not listening.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    held.bind(&any.into()).expect("a free port");
    let address = held.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let up = format!(r#"stile_endpoint_up{{service="echo",endpoint="{address}"}}"#);
    assert_eq!(register(&admin, "a", address, json!({})).await, 201);
    // The same words again, and as another: each begins anew.
    for (times, more) in [json!({}), json!({ "weight": 2 }), json!({ "ttl": "20s" })].into_iter().enumerate() {
        for _ in 0..3 {
            assert_eq!(gateway.get("/").await.status, 502);
        }
        assert_eq!(admin.metric(&up).await, 0, "{times}: no connection is taken");
        let found = admin.get("/v1/services/echo/discover").await;
        assert_eq!((found.status.as_u16(), &found.json()["id"]), (200, &json!("a")), "better than none at all");
        assert_eq!(register(&admin, "a", address, more).await, 200);
        assert_eq!(admin.metric(&up).await, 1, "{times}: it has announced itself");
    }
}

#[tokio::test]
async fn registrations_outlive_a_restart_with_their_whole_time() {
    let a = Upstream::named("a").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(&[]);
    config["store"] = json!({ "path": "store" });
    let gateway = Stile::run(folder.path(), config.clone()).await;
    let admin = gateway.admin();
    assert_eq!(register(&admin, "a", a.address(), json!({ "ttl": "1h", "metadata": { "zone": "x" } })).await, 201);
    assert_eq!(admin.send("PUT", &format!("{}/drain", at("a")), Value::Null).await.status, 204);
    drop(gateway);
    let gateway = Stile::run(folder.path(), config).await;
    let admin = gateway.admin();
    let told = admin.get("/v1/services/echo/endpoints").await.json()["items"][0].clone();
    assert_eq!((&told["metadata"]["zone"], &told["drained"], &told["ttl"]), (&json!("x"), &json!(true), &json!("1h")));
    assert_eq!(admin.send("DELETE", &format!("{}/drain", at("a")), Value::Null).await.status, 204);
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.get("/").await.json()["name"], "a");
}

#[tokio::test]
async fn generations_that_go_live_lose_no_registration() {
    let upstreams = join_all((0..20).map(|n| async move { Upstream::named(&format!("u{n}")).await })).await;
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let registering = async {
        for (n, upstream) in upstreams.iter().enumerate() {
            assert_eq!(register(&admin, &format!("u{n}"), upstream.address(), json!({})).await, 201);
            let mut client = Client::connect(gateway.address()).await;
            // One turn reaches every endpoint that is there.
            let mut seen = false;
            for _ in 0..=n {
                seen |= client.get("/").await.json()["name"] == format!("u{n}");
            }
            assert!(seen, "u{n} is registered and gets nothing");
        }
    };
    let changing = async {
        for n in 0..30 {
            let put = admin.send("PUT", "/v1/services/more", json!({ "idle_connections": n + 1 })).await;
            assert!(put.status.is_success(), "{}", put.text());
        }
    };
    tokio::join!(registering, changing);
    assert!(gateway.generation() > 20);
    assert_eq!(answers(&gateway, 40).await.len(), 20);
    let connections: usize = upstreams.iter().map(|upstream| upstream.connections()).sum();
    assert_eq!(connections, 20, "each goes on with its connection");
}

#[tokio::test]
async fn a_service_that_comes_again_has_its_registrations_again() {
    let a = Upstream::named("a").await;
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    assert_eq!(admin.send("PUT", "/v1/services/later", json!({})).await.status, 201);
    let path = "/v1/services/later/endpoints/a";
    assert_eq!(admin.send("PUT", path, json!({ "address": a.address() })).await.status, 201);
    assert_eq!(admin.send("DELETE", "/v1/services/later", Value::Null).await.status, 204);
    assert_eq!(admin.get("/v1/services/later/endpoints").await.status, 404);
    assert_eq!(admin.send("POST", &format!("{path}/heartbeat"), Value::Null).await.status, 204, "its lease goes on");
    assert_eq!(admin.send("PUT", "/v1/services/later", json!({})).await.status, 201);
    assert_eq!(admin.get("/v1/services/later/discover").await.json()["id"], "a");
}

#[tokio::test]
async fn a_drained_endpoint_ends_what_it_has_and_gets_nothing_new() {
    let slow = Upstream::start(|received| match received.target() {
        "/hold" => Answer::Silence,
        _ => Answer::text(r#"{"name":"slow"}"#),
    })
    .await;
    let b = Upstream::named("b").await;
    let gateway = gateway(&[b.address()]).await;
    let admin = gateway.admin();
    register(&admin, "slow", slow.address(), json!({})).await;
    // Either gets one, in turn: one of them holds it.
    let mut holding = Vec::new();
    for _ in 0..2 {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await;
        holding.push(client);
    }
    slow.received(1).await;
    assert_eq!(admin.send("PUT", &format!("{}/drain", at("slow")), Value::Null).await.status, 204);
    assert_eq!(answers(&gateway, 6).await, [("b".to_owned(), 6)].into());
    assert_eq!(slow.open(), 1, "what it has goes on");
    let told = admin.get("/v1/services/echo/endpoints").await.json();
    let told = &told["items"][1];
    assert_eq!((&told["id"], &told["health"], &told["in_flight"]), (&json!("slow"), &json!("up"), &json!(1)));
    let in_flight = format!("stile_endpoint_requests_in_flight{{service=\"echo\",endpoint=\"{}\"}} 1", slow.address());
    let metrics = admin.get("/metrics").await.text();
    assert!(metrics.contains(&in_flight), "{in_flight} in {metrics}");
    // One of the configuration goes by its address.
    let fixed = at(&b.address().to_string());
    assert_eq!(admin.send("PUT", &format!("{fixed}/drain"), Value::Null).await.status, 204);
    assert_eq!(gateway.get("/").await.status, 503, "none is left");
    let told = admin.get("/v1/services/echo/endpoints").await.json();
    assert_eq!((&told["items"][0]["drained"], &told["items"][1]["drained"]), (&json!(true), &json!(true)));
    assert_eq!(admin.get("/v1/services/echo/discover").await.status, 503);
    for path in [&fixed, &at("slow")] {
        assert_eq!(admin.send("DELETE", &format!("{path}/drain"), Value::Null).await.status, 204);
    }
    assert_eq!(answers(&gateway, 4).await.len(), 2);
    assert_eq!(admin.send("PUT", &format!("{}/drain", at("nobody")), Value::Null).await.status, 404);
}

#[tokio::test]
async fn is_found_by_policy_and_metadata() {
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    for (id, port, weight, zone) in [("a", 1, 3, "x"), ("b", 2, 1, "x"), ("c", 3, 0, "y")] {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let more = json!({ "weight": weight, "metadata": { "zone": zone, "version": "2" } });
        assert_eq!(register(&admin, id, address, more).await, 201);
    }
    let found = async |query: &str, times: usize| {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..times {
            let answer = admin.call("GET", &format!("/v1/services/echo/discover{query}"), Some(VIEWER), "").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            *found.entry(answer.json()["id"].as_str().expect("an id").to_owned()).or_insert(0) += 1;
        }
        found
    };
    let counts = |all: &[(&str, usize)]| all.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    assert_eq!(found("", 6).await, counts(&[("a", 2), ("b", 2), ("c", 2)]));
    assert_eq!(found("?policy=round-robin", 6).await, counts(&[("a", 2), ("b", 2), ("c", 2)]));
    assert_eq!(found("?policy=weighted", 8).await, counts(&[("a", 6), ("b", 2)]));
    assert_eq!(found("?policy=random", 60).await.len(), 3);
    assert_eq!(found("?metadata.zone=y", 3).await, counts(&[("c", 3)]));
    assert_eq!(found("?metadata.zone=x&metadata.version=2&policy=weighted", 4).await, counts(&[("a", 3), ("b", 1)]));
    let whole =
        json!({ "id": "c", "address": "127.0.0.1:3", "weight": 0, "metadata": { "zone": "y", "version": "2" } });
    assert_eq!(admin.get("/v1/services/echo/discover?metadata.zone=y").await.json(), whole);
    for (path, status, words) in [
        ("echo/discover?metadata.zone=z", 503, "no usable endpoint"),
        ("other/discover", 503, "no usable endpoint"),
        ("nobody/discover", 404, "nobody"),
        ("echo/discover?policy=best", 400, "round-robin"),
        ("echo/discover?zone=x", 400, "metadata.KEY"),
    ] {
        let answer = admin.get(&format!("/v1/services/{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{}", answer.text());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_told_and_changes_nothing() {
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let long = "x".repeat(2000);
    for (id, sent, status, words) in [
        ("a", json!({}), 422, "address"),
        ("a", json!({ "address": "localhost:80" }), 422, "address"),
        ("a", json!({ "address": "0.0.0.0:80" }), 422, "nobody can connect"),
        ("a", json!({ "address": "127.0.0.1:0" }), 422, "nobody can connect"),
        ("a", json!({ "address": "127.0.0.1:1", "ttl": "1ms" }), 422, "within 100ms and 24h"),
        ("a", json!({ "address": "127.0.0.1:1", "ttl": 30 }), 422, "ttl"),
        ("a", json!({ "address": "127.0.0.1:1", "weight": 65536 }), 422, "weight"),
        ("a", json!({ "address": "127.0.0.1:1", "metadata": { "k": long } }), 422, "metadata.k"),
        ("a", json!({ "address": "127.0.0.1:1", "wieght": 1 }), 422, "wieght"),
        ("a%20b", json!({ "address": "127.0.0.1:1" }), 422, "is no id"),
        ("a%2Fb", json!({ "address": "127.0.0.1:1" }), 422, "is no id"),
    ] {
        let answer = admin.send("PUT", &at(id), sent.clone()).await;
        assert_eq!(answer.status, status, "{id} {sent}: {}", answer.text());
        assert!(answer.text().contains(words), "{id} {sent}: {}", answer.text());
    }
    let unknown = admin.send("PUT", "/v1/services/nobody/endpoints/a", json!({ "address": "127.0.0.1:1" })).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    assert_eq!(ids(&admin).await, [""; 0]);
}

#[tokio::test]
async fn a_service_has_as_many_registrations_as_it_may() {
    let mut config = config(&[]);
    config["registry"] = json!({ "endpoints_per_service": 2 });
    let gateway = Gateway::start(config).await;
    let (admin, address) = (gateway.admin(), SocketAddr::from(([127, 0, 0, 1], 1)));
    for (id, status) in [("a", 201), ("b", 201), ("c", 409), ("b", 200)] {
        assert_eq!(register(&admin, id, address, json!({})).await, status, "{id}");
    }
}

#[tokio::test]
async fn a_token_of_a_service_speaks_for_that_service_alone() {
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let call = async |method: &str, path: &str, body: &str| {
        admin.call(method, &format!("/v1/services/{path}"), Some(SERVICE), body.to_owned()).await.status.as_u16()
    };
    let body = r#"{ "address": "127.0.0.1:1" }"#;
    assert_eq!(call("PUT", "echo/endpoints/a", body).await, 201);
    assert_eq!(call("POST", "echo/endpoints/a/heartbeat", "").await, 204);
    assert_eq!(call("GET", "echo/endpoints", "").await, 200);
    assert_eq!(call("GET", "other/endpoints", "").await, 200);
    assert_eq!(call("GET", "other/discover", "").await, 503);
    assert_eq!(call("PUT", "echo/endpoints/a/drain", "").await, 204);
    assert_eq!(call("DELETE", "echo/endpoints/a", "").await, 204);
    for (method, path) in [
        ("PUT", "other/endpoints/a"),
        ("DELETE", "other/endpoints/a"),
        ("POST", "other/endpoints/a/heartbeat"),
        ("PUT", "other/endpoints/a/drain"),
        ("GET", "third/discover"),
        ("GET", "echo"),
        ("PUT", "echo"),
    ] {
        assert_eq!(call(method, path, body).await, 403, "{method} {path}");
    }
    let refused = admin.call("PUT", "/v1/services/other/endpoints/a", Some(SERVICE), body).await;
    assert!(refused.json()["detail"].as_str().is_some_and(|it| it.contains("not for service \"other\"")));
    assert_eq!(admin.call("PUT", &at("a"), Some(VIEWER), body).await.status, 403);
}

/// The next line, be it of an event or of the chunks that events come in.
async fn line(stream: &mut Raw) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push_str(&stream.text(1).await);
    }
    line.trim_end().to_owned()
}

/// The next event of a stream: its kind and what it says.
async fn event(stream: &mut Raw) -> (String, Value) {
    let mut kind = String::new();
    loop {
        let line = line(stream).await;
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (kind, serde_json::from_str(data).expect("JSON"));
        }
    }
}

async fn listen(gateway: &Gateway, secret: &str, query: &str) -> Raw {
    let mut stream = Raw::connect(gateway.admin().0).await;
    stream.write(format!("GET /v1/events{query} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {secret}\r\n\r\n")).await;
    assert_eq!(stream.head().await.status(), 200);
    stream
}

#[tokio::test]
async fn every_change_is_told_to_whoever_listens() {
    let gateway = gateway(&[]).await;
    let admin = gateway.admin();
    let (mut all, mut own, mut one) = (
        listen(&gateway, VIEWER, "").await,
        listen(&gateway, SERVICE, "").await,
        listen(&gateway, VIEWER, "?service=other").await,
    );
    admin.send("PUT", "/v1/services/third", json!({})).await;
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for service in ["third", "echo", "other"] {
        let path = format!("/v1/services/{service}/endpoints/a");
        assert_eq!(admin.send("PUT", &path, json!({ "address": address, "ttl": "1m" })).await.status, 201);
    }
    admin.send("PUT", &at("a"), json!({ "address": address, "ttl": "1s", "weight": 2 })).await;
    admin.send("PUT", &format!("{}/drain", at("a")), Value::Null).await;
    let told = |service: &str, change: &str, weight: u16| {
        let endpoint = json!({ "id": "a", "address": address, "weight": weight, "metadata": {} });
        ("endpoint".to_owned(), json!({ "service": service, "id": "a", "change": change, "endpoint": endpoint }))
    };
    assert_eq!(event(&mut all).await, ("generation".to_owned(), json!({ "generation": 2 })));
    assert_eq!(event(&mut all).await, told("third", "registered", 1));
    assert_eq!(event(&mut one).await, told("other", "registered", 1));
    for (service, change, weight) in
        [("echo", "registered", 1), ("other", "registered", 1), ("echo", "changed", 2), ("echo", "drained", 2)]
    {
        assert_eq!(event(&mut all).await, told(service, change, weight));
        assert_eq!(event(&mut own).await, told(service, change, weight));
    }
    // It has lapsed: both of its entries end, in the order of their keys.
    assert_eq!(event(&mut all).await, told("echo", "restored", 2));
    let gone = |service: &str, why: &str, weight: u16| {
        let (kind, mut gone) = told(service, "gone", weight);
        gone["why"] = why.into();
        (kind, gone)
    };
    assert_eq!(event(&mut all).await, gone("echo", "lapsed", 2));
    admin.send("DELETE", "/v1/services/third/endpoints/a", Value::Null).await;
    assert_eq!(event(&mut all).await, gone("third", "deregistered", 1));
    for (secret, service, status) in [(VIEWER, "nobody", 404), (SERVICE, "third", 403)] {
        let refused = admin.call("GET", &format!("/v1/events?service={service}"), Some(secret), "").await;
        assert_eq!(refused.status.as_u16(), status, "{}", refused.text());
    }
    admin.send("PUT", "/v1/services/fixed", json!({ "endpoints": [{ "address": address }] })).await;
    assert_eq!(event(&mut all).await.0, "generation");
    admin.send("PUT", &format!("/v1/services/fixed/endpoints/{address}/drain"), Value::Null).await;
    let (_, drained) = event(&mut all).await;
    assert_eq!((&drained["change"], &drained["endpoint"]["weight"]), (&json!("drained"), &json!(1)));
    assert_eq!(timeout(SOON, gateway.stop()).await.expect("streams end when the gateway does"), 0);
}

#[tokio::test]
async fn when_most_go_silent_at_once_they_are_held() {
    let a = Upstream::named("a").await;
    let mut config = config(&[]);
    config["registry"] = json!({ "self_preservation": { "least": 4 } });
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    for n in 0..4 {
        register(&admin, &format!("id-{n}"), a.address(), json!({ "ttl": "1s" })).await;
    }
    until("they are held", async || (admin.metric("stile_registrations_held").await == 4).then_some(())).await;
    assert_eq!((ids(&admin).await.len(), admin.metric("stile_registrations").await), (4, 4));
    assert_eq!(gateway.get("/").await.status, 200, "the service goes on");
    assert_eq!(admin.status().await["registrations"], json!({ "all": 4, "held": 4 }));
    // The network is there again, and one of them has died meanwhile.
    until("the one that stays silent is gone", async || {
        for n in 0..3 {
            let path = format!("{}/heartbeat", at(&format!("id-{n}")));
            assert_eq!(admin.send("POST", &path, Value::Null).await.status, 204, "it has not lapsed");
        }
        (ids(&admin).await == ["id-0", "id-1", "id-2"]).then_some(())
    })
    .await;
    until("nothing is held", async || (admin.metric("stile_registrations_held").await == 0).then_some(())).await;
}
