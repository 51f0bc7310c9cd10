//! Resources through the Admin API: put, changed, deleted, refused, remembered.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use stile_tests::{
    admin::{Admin, PUBLISHER, SECRET, VIEWER},
    client::{Answer, fetch},
    gateway::{self, Gateway, plain, service},
    guest,
    process::Stile,
    upstream::Upstream,
};

/// A gateway whose file has the service `echo` and the route `all`.
async fn started(upstream: &Upstream) -> Gateway {
    Gateway::start(plain(upstream.address())).await
}

fn of(upstream: &Upstream) -> Value {
    json!({ "endpoints": [{ "address": upstream.address() }] })
}

fn route(path: &str, service: &str) -> Value {
    json!({ "match": { "path": path }, "service": service })
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap_or_default().to_owned()
}

async fn audit(admin: &Admin) -> Vec<Value> {
    admin.get("/v1/audit").await.json()["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_resource_is_live_when_it_is_answered_and_gone_when_it_is_deleted() {
    let (file, stored) = (Upstream::named("file").await, Upstream::named("stored").await);
    let gateway = started(&file).await;
    let admin = gateway.admin();
    let made = admin.send("PUT", "/v1/services/users", of(&stored)).await;
    assert_eq!((made.status.as_u16(), made.json()["origin"].as_str()), (201, Some("store")), "{}", made.text());
    assert_eq!(admin.send("PUT", "/v1/routes/users", route("/users/*", "users")).await.status, 201);
    assert_eq!(gateway.get("/users/1").await.json()["name"], "stored");
    assert_eq!(gateway.get("/other").await.json()["name"], "file");

    let changed = admin.send("PUT", "/v1/routes/users", route("/people/*", "users")).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["match"]["path"]), (200, &json!("/people/*")));
    assert_eq!(gateway.get("/users/1").await.json()["name"], "file");
    assert_eq!(gateway.get("/people/1").await.json()["name"], "stored");

    let needed = admin.send("DELETE", "/v1/services/users", Value::Null).await;
    assert_eq!(needed.status, 409);
    assert_eq!(detail(&needed), "/v1/routes/users:1:41: service: there is no service \"users\", only echo");
    assert_eq!(needed.json()["errors"][0]["file"], "/v1/routes/users");
    assert_eq!(admin.send("DELETE", "/v1/routes/users", Value::Null).await.status, 204);
    assert_eq!(gateway.get("/people/1").await.json()["name"], "file");
    assert_eq!(admin.send("DELETE", "/v1/services/users", Value::Null).await.status, 204);
    for path in ["/v1/services/users", "/v1/routes/users"] {
        assert_eq!(admin.get(path).await.status, 404);
        assert_eq!(admin.send("DELETE", path, Value::Null).await.status, 404);
    }
}

#[tokio::test]
async fn what_is_told_can_be_sent_back() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    admin.send("PUT", "/v1/services/users", of(&upstream)).await;
    admin.send("PUT", "/v1/routes/users", route("/users/*", "users")).await;
    admin.send("PUT", "/v1/plugins/stamp", json!({})).await;
    for path in ["/v1/services/users", "/v1/routes/users", "/v1/plugins/stamp"] {
        let told = admin.get(path).await.json();
        let again = admin.send("PUT", path, told.clone()).await;
        assert_eq!((again.status.as_u16(), again.json()), (200, told), "{path}");
    }
}

#[tokio::test]
async fn who_may_only_look_sees_no_configuration_of_a_filter() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "planted-mark" } }]);
    let gateway =
        Gateway::start(gateway::filtered(upstream.address(), json!([guest::plugin("stamp")]), filters.clone())).await;
    let admin = gateway.admin();
    let mut stored = route("/stored", "echo");
    stored["filters"] = filters.clone();
    assert_eq!(admin.send("PUT", "/v1/routes/stored", stored.clone()).await.status, 201);
    stored["name"] = json!("one");
    stored["match"] = json!({ "path": "/of-an-api" });
    let version = json!({ "state": "published", "routes": [stored] });
    assert_eq!(admin.send("PUT", "/v1/apis/api/versions/1", version).await.status, 201);
    let described = json!({ "openapi": "3.1.0", "paths": { "/imported": { "get": {} } } });
    let import = json!({ "service": "echo", "filters": filters });
    let version = json!({ "state": "published", "openapi": described, "import": import });
    assert_eq!(admin.send("PUT", "/v1/apis/described/versions/1", version).await.status, 201);
    let consul = json!({ "url": "http://127.0.0.1:9", "service": "s", "token": "planted-mark" });
    let service = json!({ "filters": filters, "sources": [{ "consul": consul }] });
    assert_eq!(admin.send("PUT", "/v1/services/stored", service).await.status, 201);
    for path in [
        "/v1/routes",
        "/v1/routes/all",
        "/v1/routes/stored",
        "/v1/services/stored",
        "/v1/apis",
        "/v1/apis/api/versions",
        "/v1/apis/api/versions/1",
        "/v1/apis/described",
        "/v1/apis/described/versions",
        "/v1/apis/described/versions/1",
    ] {
        let seen = admin.call("GET", path, Some(VIEWER), "").await;
        assert!(seen.status == 200 && !seen.text().contains("planted-mark"), "{path}: {}", seen.text());
        assert!(seen.text().contains("[redacted]"), "{path}: {}", seen.text());
        assert!(admin.call("GET", path, Some(PUBLISHER), "").await.text().contains("planted-mark"), "{path}");
    }
    // Conditions may have any names.
    let mut matching = route("/matching", "echo");
    matching["match"]["headers"] = json!({ "plugin": "a", "config": "b" });
    assert_eq!(admin.send("PUT", "/v1/routes/matching", matching.clone()).await.status, 201);
    let seen = admin.call("GET", "/v1/routes/matching", Some(VIEWER), "").await.json();
    assert_eq!(seen["match"]["headers"], matching["match"]["headers"]);
}

#[tokio::test]
async fn numbers_that_would_be_rounded_are_refused_on_every_path() {
    let upstream = Upstream::echo().await;
    let gateway =
        Gateway::start(gateway::filtered(upstream.address(), json!([guest::plugin("stamp")]), json!([]))).await;
    let route = r#"{ "name": "r", "match": { "path": "/r" }, "service": "echo",
        "filters": [{ "plugin": "stamp", "config": { "mark": "a", "n": 99999999999999999999 } }] }"#;
    for (method, path, body) in [
        ("PUT", "/v1/routes/r", route.to_owned()),
        ("PUT", "/v1/apis/a/versions/1", format!(r#"{{ "state": "published", "routes": [{route}] }}"#)),
        ("POST", "/v1/import", format!(r#"{{ "routes": [{route}] }}"#)),
    ] {
        let answer = gateway.admin().call(method, path, Some(SECRET), body).await;
        assert!(answer.status == 400 || answer.status == 422, "{path}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains("whole numbers reach from"), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn who_may_only_look_does_not_see_why_a_configuration_was_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let reason = gateway.rewrite_refused(json!({ "routes": [{ "name": "all", "service": "planted-mark" }] })).await;
    assert!(reason.contains("planted-mark"), "{reason}");
    for (secret, is_told) in [(PUBLISHER, true), (VIEWER, false)] {
        let status = gateway.admin().call("GET", "/v1/status", Some(secret), "").await.json();
        let told = status["last_error"]["message"].as_str().expect("it is told that one was refused").to_owned();
        assert_eq!(told.contains("planted-mark"), is_told, "{told}");
    }
}

#[tokio::test]
async fn of_changes_of_one_resource_at_the_same_time_each_is_judged_by_what_became_of_the_others() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    for round in 0..20 {
        let path = format!("/v1/routes/r{round}");
        let new = [("if-none-match", "*")];
        let put = async |service: &str| {
            admin.send_with("PUT", &path, &new, route(&format!("/r{round}"), service)).await.status.as_u16()
        };
        let (wrong, right, other) = tokio::join!(put("none"), put("echo"), put("echo"));
        let mut both = [right, other];
        both.sort_unstable();
        assert_eq!((wrong == 422 || wrong == 412, both), (true, [201, 412]), "one of the right ones is made: {wrong}");
    }
}

#[tokio::test]
async fn conditions_keep_two_writers_apart() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let (admin, path) = (gateway.admin(), "/v1/services/users");
    let put = async |fields: &[(&str, &str)]| admin.send_with("PUT", path, fields, of(&upstream)).await;
    assert_eq!(put(&[("if-match", "*")]).await.status, 412);
    let first = put(&[("if-none-match", "*")]).await;
    assert_eq!(first.status, 201);
    assert_eq!(put(&[("if-none-match", "*")]).await.status, 412);
    let tag = first.header("etag").to_owned();
    assert_eq!(admin.get(path).await.header("etag"), tag);
    let second = put(&[("if-match", &tag)]).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.header("etag"), tag);
    for old in [tag.as_str(), "\"none\"", "\"0\""] {
        let refused = put(&[("if-match", old)]).await;
        assert_eq!(refused.status, 412);
        assert_eq!(detail(&refused), "service \"users\" is not as the condition says");
        assert_eq!(admin.send_with("DELETE", path, &[("if-match", old)], Value::Null).await.status, 412);
    }
    for fields in [&[("if-match", "*"), ("if-none-match", "*")][..], &[("if-none-match", "\"7\"")]] {
        assert_eq!(put(fields).await.status, 400, "{fields:?}");
    }
    assert_eq!(put(&[("if-match", "W/1")]).await.status, 412, "no tag of ours");
    let both = format!("{tag}, {}", second.header("etag"));
    assert_eq!(admin.send_with("DELETE", path, &[("if-match", &both)], Value::Null).await.status, 204);
}

#[tokio::test]
async fn what_is_in_the_file_is_changed_there_and_a_name_is_in_one_of_both() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let told = admin.get("/v1/services/echo").await;
    assert_eq!((told.status.as_u16(), &told.json()["origin"], told.header("etag")), (200, &json!("file"), ""));
    for (method, body) in [("PUT", of(&upstream)), ("DELETE", Value::Null)] {
        let refused = admin.send(method, "/v1/services/echo", body).await;
        let file = gateway.folder().join("stile.yaml");
        let expected = format!("service \"echo\" is in the configuration file {}: change it there", file.display());
        assert_eq!((refused.status.as_u16(), detail(&refused)), (409, expected));
    }
    assert_eq!(admin.send("PUT", "/v1/services/users", of(&upstream)).await.status, 201);
    let mut clash = plain(upstream.address());
    clash["services"] = json!([service("echo", &[upstream.address()]), service("users", &[])]);
    let reason = gateway.rewrite_refused(clash).await;
    assert!(reason.contains("/v1/services/users:1:1: name: there is another \"users\" in services, at "), "{reason}");
    assert_eq!(admin.get("/v1/services/users").await.json()["origin"], "store", "what runs goes on");

    let without = json!({ "services": [], "routes": [] });
    admin.send("PUT", "/v1/routes/users", route("/users/*", "echo")).await;
    let reason = gateway.rewrite_refused(without).await;
    assert!(reason.contains("/v1/routes/users:1:40: service: there is no service \"echo\", only users"), "{reason}");
}

#[tokio::test]
async fn every_mistake_of_a_resource_is_told_and_nothing_is_changed() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let generation = gateway.generation();
    let wrong = json!({ "servic": "echo", "match": { "path": "users", "methods": ["get"] }, "timeout": 5 });
    let refused = admin.send("PUT", "/v1/routes/users", wrong).await;
    assert_eq!(refused.status, 422);
    let errors = refused.json()["errors"].as_array().expect("a list").clone();
    let mut paths: Vec<_> = errors.iter().map(|error| error["path"].as_str().expect("a path")).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["servic", "timeout"], "{errors:?}");
    let refused = admin.send("PUT", "/v1/routes/users", route("/users", "ecko")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["path"]), (422, &json!("service")));
    assert!(detail(&refused).contains("did you mean \"echo\"?"), "{}", detail(&refused));
    for (name, reason) in [("a%20b", "is no name"), ("users", "expected a mapping")] {
        let body = if name == "users" { json!([1]) } else { route("/a", "echo") };
        let refused = admin.send("PUT", &format!("/v1/routes/{name}"), body).await;
        assert_eq!(refused.status, 422);
        assert!(detail(&refused).contains(reason), "{}", detail(&refused));
    }
    assert_eq!(admin.call("PUT", "/v1/routes/users", Some(PUBLISHER), vec![0xff, 0xfe]).await.status, 422);
    assert_eq!(admin.call("PUT", "/v1/routes/users", Some(PUBLISHER), vec![b' '; (1 << 20) + 1]).await.status, 413);
    assert_eq!((gateway.generation(), audit(&admin).await.len()), (generation, 1));
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let would = async |method: &str, path: &str, body: Value| {
        let answer = admin.send(method, &format!("{path}?dry_run=true"), body).await;
        (answer.status.as_u16(), answer.json()["would"].clone())
    };
    assert_eq!(would("PUT", "/v1/services/users", of(&upstream)).await, (200, json!("create")));
    assert_eq!(admin.get("/v1/services/users").await.status, 404);
    admin.send("PUT", "/v1/services/users", of(&upstream)).await;
    assert_eq!(would("PUT", "/v1/services/users", of(&upstream)).await, (200, json!("change")));
    assert_eq!(would("PUT", "/v1/routes/users", route("/a", "none")).await, (422, Value::Null));
    assert_eq!(would("DELETE", "/v1/services/users", Value::Null).await, (200, json!("delete")));
    assert_eq!(would("DELETE", "/v1/services/echo", Value::Null).await, (409, Value::Null));
    assert_eq!((admin.get("/v1/services/users").await.status.as_u16(), gateway.generation()), (200, 2));
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    for name in ["b", "a", "f"] {
        admin.send("PUT", &format!("/v1/services/{name}"), of(&upstream)).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/services?limit=2".to_owned();
    loop {
        let page = admin.get(&path).await.json();
        names.extend(page["items"].as_array().expect("a list").iter().map(|item| item["name"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/services?limit=2&after={next}");
    }
    assert_eq!(names, ["a", "b", "echo", "f"]);
    assert_eq!(admin.get("/v1/services?limit=x").await.status, 400);
}

#[tokio::test]
async fn changes_at_the_same_time_are_made_together_and_refused_each_by_itself() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let change = |n: usize| async move {
        // Every fifth names a service that there is not.
        let service = if n.is_multiple_of(5) { "none" } else { "echo" };
        let path = format!("/v1/routes/r{n}");
        (n, admin.send("PUT", &path, route(&format!("/r{n}"), service)).await.status.as_u16())
    };
    let answers = join_all((0..50).map(change)).await;
    for (n, status) in answers {
        assert_eq!(status, if n % 5 == 0 { 422 } else { 201 }, "{n}");
    }
    let list = admin.get("/v1/routes").await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(41));
    let changes = audit(&admin).await;
    assert_eq!(changes.iter().filter(|change| change["action"] == "put").count(), 40);
    for n in [1, 49] {
        assert_eq!(gateway.get(&format!("/r{n}")).await.status, 200);
    }
}

#[tokio::test]
async fn who_changed_what_is_told() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    admin.call("PUT", "/v1/routes/a", Some(PUBLISHER), route("/a", "echo").to_string()).await;
    admin.send("PUT", "/v1/routes/a", route("/b", "echo")).await;
    admin.send("PUT", "/v1/plugins/stamp", json!({})).await;
    admin.push("stamp", guest::stamp(1)).await;
    admin.send("DELETE", "/v1/routes/a", Value::Null).await;
    let changes = audit(&admin).await;
    let told: Vec<_> = changes
        .iter()
        .map(|it| ["by", "action", "kind", "name"].map(|key| it[key].as_str().unwrap_or_default().to_owned()).join(" "))
        .collect();
    let file = format!("file reload configuration {}", gateway.folder().join("stile.yaml").display());
    let expected = [
        "ops delete routes a",
        "ops rollout plugins stamp",
        "ops put plugins stamp",
        "ops put routes a",
        "publisher put routes a",
        file.as_str(),
    ];
    assert_eq!(told, expected);
    assert_eq!((&changes[0]["before"]["match"]["path"], &changes[0]["after"]), (&json!("/b"), &Value::Null));
    assert_eq!(
        (&changes[3]["before"]["match"]["path"], &changes[3]["after"]["match"]["path"]),
        (&json!("/a"), &json!("/b"))
    );
    assert_eq!((&changes[1]["before"], &changes[1]["after"]), (&Value::Null, &json!({ "revision": 1 })));
    assert_eq!(
        changes.iter().map(|it| it["generation"].as_u64()).collect::<Vec<_>>(),
        (1..=6).rev().map(Some).collect::<Vec<_>>()
    );
    let page = admin.get("/v1/audit?limit=2&before=3").await.json();
    assert_eq!(
        page["items"].as_array().expect("a list").iter().map(|it| it["number"].clone()).collect::<Vec<_>>(),
        [2, 1]
    );
}

async fn stile(folder: &Path, upstream: &Upstream) -> Stile {
    let mut config = plain(upstream.address());
    config["store"] = json!({ "path": "store" });
    Stile::run(folder, config).await
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_and_restart() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = stile(folder.path(), &upstream).await;
    assert_eq!(gateway.admin().send("PUT", "/v1/services/users", of(&upstream)).await.status, 201);
    assert_eq!(gateway.admin().send("PUT", "/v1/routes/users", route("/users", "users")).await.status, 201);
    let (generation, tag) = (gateway.admin().generation().await, gateway.admin().get("/v1/routes/users").await);
    gateway.kill().await;

    let gateway = stile(folder.path(), &upstream).await;
    assert_eq!(fetch(gateway.address(), "/users").await.status, 200);
    assert_eq!(gateway.admin().get("/v1/routes/users").await.header("etag"), tag.header("etag"));
    assert_eq!(gateway.admin().generation().await, generation + 1, "generations go on");
    gateway.kill().await;

    // What the store has must go with the file at a start, too.
    let mut clash = plain(upstream.address());
    clash["store"] = json!({ "path": "store" });
    clash["services"] = json!([service("echo", &[upstream.address()]), service("users", &[])]);
    gateway::write(folder.path(), clash);
    let file = folder.path().join("stile.yaml");
    let output = stile_tests::process::stile(&["run", "--config", &file.display().to_string()]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("/v1/services/users:1:53: name: there is another \"users\" in services"), "{told}");
}
