//! Services called by name, without a route; and the filters of a service, however it is reached.

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, fetch},
    gateway::{Gateway, service},
    guest::plugin,
    upstream::Upstream,
};

fn stamp(mark: &str) -> Value {
    json!([{ "plugin": "stamp", "config": { "mark": mark } }])
}

/// `public` is for calls, `other` is not; the service `echo` has a filter of its own, and a route has everything.
async fn gateway(a: &Upstream, b: &Upstream) -> Gateway {
    let mut echo = service("echo", &[a.address(), b.address()]);
    echo["filters"] = stamp("service");
    Gateway::start(json!({
        "workers": 1,
        "listeners": [
            { "name": "public", "address": "127.0.0.1:0", "call": true },
            { "name": "other", "address": "127.0.0.1:0" },
        ],
        "plugins": [plugin("stamp")],
        "services": [echo, service("bare", &[b.address()])],
        "routes": [{ "name": "all", "service": "echo", "filters": stamp("route") }],
    }))
    .await
}

#[tokio::test]
async fn a_service_is_called_by_name_balanced_and_with_its_filters() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = gateway(&a, &b).await;
    let mut client = Client::connect(gateway.address()).await;
    let answer = client.get("/call/echo/users/7?full=yes").await.json();
    assert_eq!(answer["target"], "/users/7?full=yes", "{answer}");
    assert_eq!(answer["headers"]["x-stamp"], "0/service");
    for (path, seen) in [("/call/echo", "/"), ("/call/echo/", "/"), ("/call/./echo//x", "/x")] {
        assert_eq!(client.get(path).await.json()["target"], seen, "{path}");
    }
    assert_eq!((a.count(), b.count()), (2, 2));
    let bare = client.get("/call/bare/x").await.json();
    assert_eq!((&bare["name"], &bare["headers"]["x-stamp"]), (&json!("b"), &Value::Null));
    let line = r#"stile_requests_total{route="",service="echo",code="200"}"#;
    assert_eq!(gateway.admin().metric(line).await, 4);
}

#[tokio::test]
async fn a_name_that_is_no_service_is_told_and_no_route_sees_it() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = gateway(&a, &b).await;
    for path in ["/call/nobody/x", "/call/", "/call/ECHO/"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["detail"].as_str().is_some_and(|it| it.starts_with("there is no service")), "{path}");
    }
    let told = gateway.admin().get("/v1/errors").await.json()["items"][0].clone();
    assert_eq!((&told["blame"], &told["cause"]), (&json!("client"), &json!("no-service")), "{told}");
    assert_eq!(gateway.get("/call/echo/a%2Fx").await.status, 400, "an encoded slash is for routes that allow it");
    assert_eq!(gateway.get("/called").await.status, 200, "that is a path like any other");
    let elsewhere = fetch(gateway.address_of("other"), "/call/echo/x").await.json();
    assert_eq!(elsewhere["target"], "/call/echo/x", "on this listener, too");
}

#[tokio::test]
async fn filters_of_a_service_come_after_those_of_the_route() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = gateway(&a, &b).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.json()["headers"]["x-stamp"], json!(["0/route", "0/service"]));
    assert_eq!(answer.all("x-stamp"), ["0/service", "0/route"]);
    let calls = |route: &str| {
        format!(
            r#"stile_plugin_calls_total{{plugin="stamp",revision="1",route="{route}",phase="request",outcome="proceed"}}"#
        )
    };
    let admin = gateway.admin();
    assert_eq!((admin.metric(&calls("all")).await, admin.metric(&calls("service:echo")).await), (1, 1));
}
