//! Generations: what made each, what is otherwise now, and the way back.

use serde_json::{Value, json};
use stile_tests::{
    admin::Admin,
    client::Answer,
    gateway::{Gateway, filtered, plain},
    guest,
    process::Stile,
    upstream::Upstream,
};

fn of(upstream: &Upstream) -> Value {
    json!({ "endpoints": [{ "address": upstream.address() }] })
}

async fn put(admin: &Admin, path: &str, value: Value) {
    let answer = admin.send("PUT", path, value).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

async fn restore(admin: &Admin, generation: u64, query: &str) -> Answer {
    admin.send("POST", &format!("/v1/generations/{generation}/restore{query}"), Value::Null).await
}

fn items(answer: &Answer) -> Vec<Value> {
    answer.json()["items"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.text())).clone()
}

/// Kind and name of what is otherwise.
fn names(answer: &Answer) -> Vec<String> {
    let name = |item: &Value| format!("{} {}", item["kind"], item["name"]).replace('"', "");
    items(answer).iter().map(name).collect()
}

#[tokio::test]
async fn an_earlier_generation_comes_back_as_a_new_one() {
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    let gateway = Gateway::start(plain(old.address())).await;
    let admin = gateway.admin();
    put(&admin, "/v1/services/users", of(&old)).await;
    put(&admin, "/v1/routes/users", json!({ "match": { "path": "/users" }, "service": "users" })).await;
    let good = gateway.generation();
    put(&admin, "/v1/services/users", of(&new)).await;
    put(&admin, "/v1/routes/more", json!({ "match": { "path": "/more" }, "service": "users" })).await;
    put(&admin, "/v1/consumers/mobile", json!({})).await;
    assert_eq!(admin.send("DELETE", "/v1/routes/users", Value::Null).await.status, 204);
    assert_eq!(gateway.get("/more").await.json()["name"], "new");
    let bad = gateway.generation();

    let diff = admin.get(&format!("/v1/generations/{good}/diff")).await;
    assert_eq!(names(&diff), ["services users", "routes more", "routes users"]);
    let difference = |name: &str| items(&diff).into_iter().find(|item| item["name"] == name).expect("it is told");
    assert_eq!(
        (&difference("more")["then"], &difference("more")["now"]["match"]["path"]),
        (&Value::Null, &json!("/more"))
    );
    assert_eq!(difference("users")["then"]["endpoints"][0]["address"], old.address().to_string());

    assert_eq!(restore(&admin, good, "?dry_run=true").await.json(), diff.json());
    assert_eq!(gateway.generation(), bad, "a dry run changes nothing");
    assert_eq!(restore(&admin, good, "").await.json(), diff.json());
    assert_eq!(gateway.generation(), bad + 1, "all of it goes live at once");
    assert_eq!(gateway.get("/users").await.json()["name"], "old");
    assert_eq!(admin.get("/v1/routes/more").await.status, 404);
    assert_eq!(admin.get("/v1/consumers/mobile").await.status, 200, "consumers are not gone back on");
    assert_eq!(names(&admin.get(&format!("/v1/generations/{good}/diff")).await), Vec::<String>::new());
    assert_eq!(items(&restore(&admin, good, "").await), Vec::<Value>::new());
    assert_eq!(gateway.generation(), bad + 1, "nothing was otherwise");

    // The way back is itself a change.
    assert_eq!(restore(&admin, bad, "").await.status, 200);
    assert_eq!(gateway.get("/more").await.json()["name"], "new");

    let listed = items(&admin.get("/v1/generations?limit=3").await);
    let told: Vec<_> = listed.iter().map(|item| item["generation"].as_u64().expect("a number")).collect();
    assert_eq!(told, [bad + 2, bad + 1, bad]);
    let changes = listed[1]["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|change| change["by"] == "ops" && change.get("before").is_none()), "{changes:?}");
    let older = items(&admin.get(&format!("/v1/generations?before={bad}&limit=1")).await);
    assert_eq!(older[0]["generation"], bad - 1);
}

#[tokio::test]
async fn what_cannot_come_back_is_refused_with_its_reason() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let admin = gateway.admin();
    put(&admin, "/v1/services/users", of(&upstream)).await;
    put(&admin, "/v1/routes/users", json!({ "match": { "path": "/users" }, "service": "users" })).await;
    let good = gateway.generation();
    assert_eq!(admin.send("DELETE", "/v1/routes/users", Value::Null).await.status, 204);
    assert_eq!(admin.send("DELETE", "/v1/services/users", Value::Null).await.status, 204);
    for (generation, status) in [("0", 404), ("99", 404), ("x", 400), ("-1", 400)] {
        let answer = admin.get(&format!("/v1/generations/{generation}/diff")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
    }
    // The file has a route of that name in the meantime.
    let mut config = plain(upstream.address());
    config["routes"]
        .as_array_mut()
        .expect("routes")
        .push(json!({ "name": "users", "match": { "path": "/u" }, "service": "echo" }));
    gateway.rewrite(config).await;
    let refused = restore(&admin, good, "").await;
    assert_eq!(refused.status, 409);
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.starts_with("route \"users\" is in the configuration file"), "{detail}");
    assert_eq!(admin.get("/v1/services/users").await.status, 404, "all of it or nothing");

    let reload = items(&admin.get("/v1/audit?limit=1").await);
    assert_eq!(
        (&reload[0]["action"], &reload[0]["after"]),
        (&json!("reload"), &json!({ "routes": { "added": ["users"] } }))
    );
}

#[tokio::test]
async fn revisions_of_plugins_are_gone_back_on_too() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "m" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([guest::plugin("stamp")]), filters)).await;
    let admin = gateway.admin();
    let first = gateway.generation();
    let told = items(&admin.get("/v1/generations?limit=1").await);
    let actions: Vec<_> =
        told[0]["changes"].as_array().expect("changes").iter().map(|it| it["action"].clone()).collect();
    assert_eq!(actions, ["rollout", "reload"], "a file's revision is told of");
    assert_eq!(admin.push("stamp", guest::stamp(2)).await.status, 201);
    let diff = admin.get(&format!("/v1/generations/{first}/diff")).await;
    let expected = json!({ "kind": "revisions", "name": "stamp", "now": { "revision": 2 }, "then": { "revision": 1 } });
    assert_eq!(items(&diff), [expected]);
    assert_eq!(restore(&admin, first, "").await.status, 200);
    assert_eq!(admin.get("/v1/plugins/stamp").await.json()["revision"], 1);

    let before = gateway.generation();
    let again = admin.send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": 1 })).await;
    assert_eq!((again.status.as_u16(), gateway.generation()), (200, before), "what is live already changes nothing");
}

#[tokio::test]
async fn a_plugin_goes_and_comes_back_with_the_revision_that_was_live() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    let gateway = Stile::run(folder.path(), config.clone()).await;
    let admin = gateway.admin();
    let nothing = admin.generation().await;
    put(&admin, "/v1/plugins/stamp", json!({})).await;
    for number in 1..=3 {
        assert_eq!(admin.push("stamp", guest::stamp(number)).await.status, 201);
    }
    let revision = async |admin: &Admin| admin.get("/v1/plugins/stamp").await.json()["revision"].clone();
    assert_eq!(admin.send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": 1 })).await.status, 200);
    let first = admin.generation().await;
    assert_eq!(admin.send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": 2 })).await.status, 200);

    // Before it was there, no revision of it was.
    let gone = restore(&admin, nothing, "").await;
    assert_eq!(names(&gone), ["plugins stamp"], "{}", gone.text());
    assert_eq!(admin.get("/v1/plugins/stamp").await.status, 404);
    put(&admin, "/v1/plugins/stamp", json!({})).await;
    assert_eq!(revision(&admin).await, 2);
    assert_eq!(admin.send("DELETE", "/v1/plugins/stamp", Value::Null).await.status, 204);
    gateway.kill().await;

    let gateway = Stile::run(folder.path(), config.clone()).await;
    let admin = gateway.admin();
    let back = restore(&admin, first, "").await;
    assert_eq!(names(&back), ["plugins stamp", "revisions stamp"], "{}", back.text());
    assert_eq!(revision(&admin).await, 1);
    // A number is given once.
    let pushed = admin.push("stamp", guest::stamp(4)).await.json();
    assert_eq!(pushed["revision"], 4);
    assert_eq!(restore(&admin, first, "").await.status, 200);
    gateway.kill().await;
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(revision(&gateway.admin()).await, 1);
    let numbers = items(&gateway.admin().get("/v1/plugins/stamp/revisions").await);
    assert_eq!(numbers.len(), 4, "all are kept");
}
