//! Who calls, and where to: authenticators and routers, on listeners and on routes.

use serde_json::{Value, json};
use stile_tests::{
    client::{Answer, Client, request, with},
    gateway::{Gateway, service},
    guest::{plugin, plugin_with},
    upstream::Upstream,
};

const KEY: &str = "a key of the file";

/// Routes `/a/*` and `/b/*` to the services of these names, and a porter on the listener.
fn config(a: &Upstream, b: &Upstream, keys: Value) -> Value {
    let mut porter = plugin_with("porter", json!({ "allow": ["consumers"] }));
    for (key, value) in keys.as_object().into_iter().flatten() {
        porter[key] = value.clone();
    }
    let route = |name: &str, filters: Value| json!({ "name": name, "service": name, "match": { "path": format!("/{name}/*") }, "filters": filters });
    json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": [{ "plugin": "porter" }] }],
        "plugins": [porter, plugin("add-headers"), plugin("stamp")],
        "services": [service("a", &[a.address()]), service("b", &[b.address()])],
        "routes": [
            route("a", json!([{ "plugin": "add-headers", "config": { "request": { "set": { "x-route": "a" } } } }])),
            route("b", json!([{ "plugin": "stamp", "config": { "mark": "b" } }])),
        ],
        "consumers": [{ "name": "ann", "credentials": [{ "id": "one", "type": "api-key", "key": KEY }] }],
    })
}

async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    Client::connect(gateway.address()).await.send(with(path, fields)).await
}

#[tokio::test]
async fn an_authenticator_tells_who_calls_or_refuses_with_a_challenge() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(config(&a, &b, json!({}))).await;
    let seen = |answer: &Answer| answer.json()["headers"]["x-consumer"].clone();
    assert_eq!(seen(&ask(&gateway, "/a/", &[("x-key", KEY)]).await), "ann/one");
    assert_eq!(seen(&ask(&gateway, "/a/", &[]).await), "nobody");

    let contacted = (a.count(), b.count());
    let refused = ask(&gateway, "/a/", &[("x-key", "wrong")]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), "ApiKey realm=\"test\"");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.json()["detail"], "nobody has this key");
    let refused = ask(&gateway, "/a/", &[("x-refuse", "403")]).await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (403, ""));
    assert_eq!((a.count(), b.count()), contacted);
    let told = gateway.admin().get("/v1/errors").await.json()["items"][0].clone();
    assert_eq!((&told["blame"], &told["cause"]), (&json!("client"), &json!("denied")), "{told}");

    // What no authenticator may say is the plugin's failure.
    for fields in [
        [("x-refuse", "401"), ("x-other", "")],
        [("x-refuse", "200"), ("x-other", "")],
        [("x-claim", "ann"), ("x-other", "")],
    ] {
        assert_eq!(ask(&gateway, "/a/", &fields).await.status, 503, "{fields:?}");
    }
}

#[tokio::test]
async fn a_router_chooses_the_route_the_service_or_another_path() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(config(&a, &b, json!({}))).await;
    let to = async |path: &str, to: &str| ask(&gateway, path, &[("x-to", to)]).await;

    let by_match = ask(&gateway, "/a/x", &[]).await.json();
    assert_eq!((&by_match["name"], &by_match["headers"]["x-route"]), (&json!("a"), &json!("a")));
    let by_route = to("/b/x", "route:a").await;
    assert_eq!((&by_route.json()["name"], &by_route.json()["target"]), (&json!("a"), &json!("/b/x")));
    assert_eq!((&by_route.json()["headers"]["x-route"], by_route.header("x-stamp")), (&json!("a"), ""));
    assert_eq!(to("/a/x", "route:b").await.header("x-stamp"), "0/b");
    let by_service = to("/nowhere", "service:b").await;
    assert_eq!((&by_service.json()["name"], by_service.header("x-stamp")), (&json!("b"), ""));
    assert_eq!(to("/nowhere", "path:/b/y").await.json()["target"], "/b/y");
    assert_eq!(to("/a/", "respond:stay here").await.text(), "stay here");
    let mut client = Client::connect(gateway.address()).await;
    let by_body = client.send(request("POST", "/a/", &[("x-to", "body")], "b")).await.json();
    assert_eq!((&by_body["name"], &by_body["body"]), (&json!("b"), &json!("b")));

    for nowhere in ["route:c", "service:c", "elsewhere:x", "path:x"] {
        assert_eq!(to("/a/", nowhere).await.status, 503, "{nowhere}");
    }
    // Gateway-made answers meet the listener's filters too, and so do those of no route at all.
    assert_eq!(ask(&gateway, "/nowhere", &[]).await.status, 404);
    assert_eq!(ask(&gateway, "/nowhere", &[]).await.header("x-porter"), "was here");
    assert_eq!(ask(&gateway, "/a/", &[]).await.header("x-porter"), "was here");

    let metric = r#"stile_plugin_calls_total{plugin="porter",revision="1",route="listener:public",phase="route",outcome="failure"}"#;
    assert_eq!(gateway.admin().metric(metric).await, 2);
    let requests = r#"stile_requests_total{route="",service="b",code="200"}"#;
    assert_eq!(gateway.admin().metric(requests).await, 2);
}

#[tokio::test]
async fn a_router_that_is_open_leaves_the_choice_to_the_routes() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(config(&a, &b, json!({ "on_error": "open" }))).await;
    assert_eq!(ask(&gateway, "/a/", &[("x-to", "elsewhere:x")]).await.json()["name"], "a");
}

#[tokio::test]
async fn a_plugin_that_does_nothing_where_it_stands_is_refused() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let gateway = Gateway::start(config(&a, &b, json!({}))).await;
    let mut wrong = config(&a, &b, json!({}));
    wrong["plugins"][0]["allow"] = json!([]);
    let told = gateway.rewrite_refused(wrong).await;
    assert!(told.contains("plugins[0].allow: the plugin imports \"consumers\", which it is not allowed"), "{told}");
    let mut wrong = config(&a, &b, json!({}));
    wrong["listeners"][0]["filters"] = json!([{ "plugin": "portr" }, { "plugin": "stamp", "config": { "nme": 1 } }]);
    let told = gateway.rewrite_refused(wrong).await;
    assert!(told.contains("listeners[0].filters[0].plugin: there is no plugin \"portr\"; did you mean"), "{told}");
    assert!(told.contains("listeners[0].filters[1].config: plugin \"stamp\" refuses it"), "{told}");
}
