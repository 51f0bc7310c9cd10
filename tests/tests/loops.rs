//! Requests that go round, and requests that may go so far and no further.

use std::{net::SocketAddr, process::Output};

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, fetch, request, with},
    gateway::{self, Gateway, filtered, plain, service},
    guest::{plugin, plugin_with},
    process::{Stile, stile},
    raw::ask,
    upstream::Upstream,
    wait::until,
};

/// A gateway whose only service is at `next(its own address)`.
async fn leading_to(via: &Value, next: impl Fn(SocketAddr) -> SocketAddr) -> Gateway {
    let config = |endpoint| {
        let mut config = plain(endpoint);
        if !via.is_null() {
            config["via"] = via.clone();
        }
        config
    };
    let gateway = Gateway::start(config(SocketAddr::from(([127, 0, 0, 1], 9)))).await;
    gateway.rewrite(config(next(gateway.address()))).await;
    gateway
}

async fn requests(gateway: &Gateway) -> u64 {
    gateway.admin().metric(r#"stile_requests_total{route="all",service="echo",code="508"}"#).await
        + gateway.admin().metric(r#"stile_requests_total{route="",service="",code="508"}"#).await
}

#[tokio::test]
async fn a_request_that_goes_round_ends() {
    for (via, passes) in
        [(Value::Null, 8), (json!({ "max_passes": 1 }), 1), (json!({ "pseudonym": "a.b", "max_passes": 3 }), 3)]
    {
        let gateway = leading_to(&via, |own| own).await;
        let answer = fetch(gateway.address(), "/").await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (508, "application/problem+json"), "{via}");
        assert_eq!(answer.json()["detail"], format!("the request has passed this gateway {passes} times"));
        assert_eq!(requests(&gateway).await, passes + 1, "exchanges, {via}");
    }
}

#[tokio::test]
async fn a_loop_over_two_gateways_ends_and_gateways_that_are_one_count_together() {
    let upstream = Upstream::echo().await;
    for (first, second, status) in [
        (json!({}), json!({}), 508),
        (json!({ "pseudonym": "one", "max_passes": 2 }), json!({ "pseudonym": "one", "max_passes": 2 }), 200),
        (json!({ "pseudonym": "one", "max_passes": 1 }), json!({ "pseudonym": "one", "max_passes": 1 }), 508),
        (json!({ "pseudonym": "one", "max_passes": 1 }), json!({ "pseudonym": "two", "max_passes": 1 }), 200),
    ] {
        let end = upstream.address();
        let outer = leading_to(&first, |own| own).await;
        let goes_round = first == json!({});
        let inner = leading_to(&second, |_| if goes_round { outer.address() } else { end }).await;
        let mut config = plain(inner.address());
        config["via"] = first.clone();
        outer.rewrite(config).await;
        assert_eq!(fetch(outer.address(), "/").await.status.as_u16(), status, "{first} {second}");
    }
}

#[tokio::test]
async fn filters_cannot_hide_that_a_request_goes_round() {
    let edits = json!({ "request": { "remove": ["via"] } });
    let filters = json!([{ "plugin": "add-headers", "config": edits }]);
    let config = |endpoint| filtered(endpoint, json!([plugin("add-headers")]), filters.clone());
    let gateway = Gateway::start(config(SocketAddr::from(([127, 0, 0, 1], 9)))).await;
    gateway.rewrite(config(gateway.address())).await;
    assert_eq!(fetch(gateway.address(), "/").await.status, 508);
}

#[tokio::test]
async fn a_plugin_that_calls_its_own_route_ends_as_a_loop_does() {
    let upstream = Upstream::echo().await;
    let config = |hosts: Value| {
        let mut caller = plugin_with("caller", json!({ "allow": ["http-client"], "http": { "hosts": hosts } }));
        caller["limits"] = json!({ "call_timeout": "20s", "timeout": "30s" });
        filtered(upstream.address(), json!([caller]), json!([{ "plugin": "caller", "config": {} }]))
    };
    let gateway = Gateway::start(config(json!([]))).await;
    let own = format!("http://{}", gateway.address());
    gateway.rewrite(config(json!([own]))).await;
    let fields = [("x-call", &*own), ("x-again", "1"), ("x-request-id", "round")];
    let answer = Client::connect(gateway.address()).await.send(with("/", &fields)).await.text();
    // Each pass adds the status of its own call.
    assert_eq!(answer.matches("200 ").count(), 7, "{answer}");
    assert!(answer.contains("508 ") && answer.contains("has passed this gateway 8 times"), "{answer}");
    assert_eq!(requests(&gateway).await, 1, "one exchange is refused");
    let fields = [("x-call", &*own), ("x-stream", "1")];
    let answer = Client::connect(gateway.address()).await.send(request("POST", "/", &fields, "body")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(requests(&gateway).await, 2, "one more is refused");
    until("the outermost request has passed", async || (upstream.count() >= 8).then_some(())).await;
    assert_eq!(upstream.count(), 8, "the first body of each pass arrives");
}

#[tokio::test]
async fn an_endpoint_that_is_the_gateway_is_warned_of_and_not_registered() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let register = async |address: SocketAddr| {
        let body = json!({ "address": address, "ttl": "10s" });
        gateway.admin().send("PUT", "/v1/services/echo/endpoints/one", body).await
    };
    for own in ["public", "admin"] {
        let refused = register(gateway.address_of(own)).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.text().contains("is an address of this gateway"), "{}", refused.text());
    }
    let anywhere = register(SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], gateway.address().port()))).await;
    assert_eq!(anywhere.status, 422, "the same address, written as IPv6: {}", anywhere.text());
    assert_eq!(register(upstream.address()).await.status, 201);

    let folder = tempfile::tempdir().expect("a folder");
    let mut config = json!({
        "listeners": [{ "name": "public", "address": "0.0.0.0:8080" }],
        "services": [service("own", &[8080, 9090].map(|port| SocketAddr::from(([127, 0, 0, 1], port))))],
    });
    config["admin"] = json!({ "address": "127.0.0.1:9090", "tokens": [] });
    let file = gateway::write(folder.path(), config);
    let Output { status, stderr, stdout } = stile(&["check", "--config", file.to_str().expect("a path")]).await;
    let told = [stderr, stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(status.success() && told.contains("is an address of the gateway"), "{told}");
    assert!(told.contains("own") && told.contains("127.0.0.1:8080") && told.contains("127.0.0.1:9090"), "{told}");
}

#[tokio::test]
async fn an_endpoint_of_a_directory_that_is_the_gateway_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let (list, log) = (folder.path().join("list.yaml"), folder.path().join("log"));
    std::fs::write(&list, "[]").expect("the folder is ours");
    let services = json!([{ "name": "own", "sources": [{ "file": list }] }]);
    let config = json!({ "workers": 1, "services": services, "routes": [{ "name": "own", "service": "own" }] });
    let gateway = Stile::run_logging(folder.path(), config, &log).await;
    let own = gateway.address_of("public");
    std::fs::write(&list, format!("[{{ address: \"{own}\" }}]")).expect("the folder is ours");
    until("it is warned of", async || {
        let log = std::fs::read_to_string(&log).expect("its log");
        log.lines()
            .any(|line| line.contains("is an address of the gateway") && line.contains(&own.to_string()))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_the_last_answers() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let send = async |method: &str, left: &str| {
        let text = format!("{method} /a HTTP/1.1\r\nhost: a\r\nauthorization: secret\r\nmax-forwards: {left}\r\n\r\n");
        ask(gateway.address(), text).await
    };
    for (method, sent, seen) in [("OPTIONS", "2", "1"), ("TRACE", "1", "0"), ("GET", "0", "0")] {
        assert_eq!(send(method, sent).await.json()["headers"]["max-forwards"], seen, "{method}");
    }
    let count = upstream.count();
    let last = send("OPTIONS", "0").await;
    assert_eq!((last.status(), last.head.get("allow").is_some()), (204, true));
    let trace = send("TRACE", "0").await;
    assert_eq!((trace.status(), trace.head.get("content-type")), (200, Some("message/http")));
    let shown = String::from_utf8_lossy(&trace.body).into_owned();
    assert!(shown.starts_with("TRACE /a HTTP/1.1\r\n") && shown.contains("via: 1.1 stile-"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(send("TRACE", "x").await.status(), 400);
    assert_eq!(upstream.count(), count, "none of these is forwarded");
}
