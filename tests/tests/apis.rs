//! APIs: versions and what selects them, their life cycle, grants, scopes and quotas.

mod descriptions;

use serde_json::{Value, json};
use stile_tests::{
    admin::{PUBLISHER, VIEWER},
    client::{Answer, Client, with},
    gateway::{Gateway, service},
    guest::plugin_with,
    process::Stile,
    upstream::Upstream,
    wait::until,
};

const ANN: &str = "the key of ann, who is alone";
const BOB: &str = "the key of bob, a partner";

/// Two services, an authenticator on each of them, and two consumers. Whoever has no key passes as nobody.
fn config(one: &Upstream, two: &Upstream, apis: Value) -> Value {
    let authenticator = json!([{ "plugin": "api-key-auth", "config": { "optional": true } }]);
    let served = |name: &str, upstream: &Upstream| {
        let mut served = service(name, &[upstream.address()]);
        served["filters"] = authenticator.clone();
        served
    };
    let consumer = |name: &str, groups: Value, key: &str| {
        let credentials = json!([{ "id": "key", "type": "api-key", "key": key }]);
        json!({ "name": name, "groups": groups, "credentials": credentials })
    };
    json!({
        "plugins": [plugin_with("api-key-auth", json!({ "allow": ["consumers"] }))],
        "services": [served("one", one), served("two", two)],
        "apis": apis,
        "consumers": [consumer("ann", json!([]), ANN), consumer("bob", json!(["partners"]), BOB)],
    })
}

fn route(name: &str, path: &str, service: &str) -> Value {
    json!({ "name": name, "match": { "path": path }, "service": service })
}

/// A version with one route for everything.
fn version(name: &str, service: &str, more: Value) -> Value {
    let mut version = json!({ "name": name, "state": "published", "routes": [route("all", "/*", service)] });
    for (key, value) in more.as_object().into_iter().flatten() {
        version[key] = value.clone();
    }
    version
}

async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    Client::connect(gateway.address()).await.send(with(path, fields)).await
}

async fn upstreams() -> (Upstream, Upstream) {
    (Upstream::named("one").await, Upstream::named("two").await)
}

#[tokio::test]
async fn a_version_is_selected_by_path_header_accept_or_query() {
    let (one, two) = upstreams().await;
    let accepts =
        ["a/b;version=2;", "a/b;version=2; , c/d", "a/b;version=2;;q=1", "a/b;x=\"c;q=0\";version=2;y=\"d;q=0\""];
    let accepts = accepts.map(|field| (json!({ "accept": "version=2" }), "/users", [("accept", field)], "/users"));
    let others = [
        (json!({ "path": "/v2" }), "/v2/users?x=1", [("x-other", "")], "/users?x=1"),
        (json!({ "headers": { "x-version": "2" } }), "/users", [("x-version", "2")], "/users"),
        (json!({ "query": { "v": "2" } }), "/users?v=2", [("x-other", "")], "/users?v=2"),
        (
            json!({ "accept": "version=2" }),
            "/users",
            [("accept", "text/html, application/json; Version=\"2\" ;charset=utf-8;q=0.05, */*;q=0")],
            "/users",
        ),
    ];
    for (select, path, fields, seen) in others.into_iter().chain(accepts) {
        let versions = json!([
            version("1", "one", json!({ "anonymous": true })),
            version("2", "two", json!({ "anonymous": true, "select": select }))
        ]);
        let gateway = Gateway::start(config(&one, &two, json!([{ "name": "users", "versions": versions }]))).await;
        let answer = ask(&gateway, path, &fields).await.json();
        assert_eq!((&answer["name"], &answer["target"]), (&json!("two"), &json!(seen)), "{select}");
        for (path, fields) in [
            ("/users", ("x-version", "3")),
            ("/users?v=3", ("x-version", "1")),
            ("/users", ("accept", "application/json;version=22")),
            ("/users", ("accept", "application/json;version=2;q=0, */*")),
            ("/users", ("accept", "application/json;version=2; q=0.00")),
            ("/users", ("accept", "application/json;q=0;version=2")),
            ("/users", ("accept", "application/json;version=2;x=\"a,b\";q=0")),
            ("/v22/users", ("accept", "version=2")),
        ] {
            assert_eq!(ask(&gateway, path, &[fields]).await.json()["name"], "one", "{select} {path} {fields:?}");
        }
    }
}

#[tokio::test]
async fn a_version_has_its_life_and_says_so() {
    let (one, two) = upstreams().await;
    let mut config = config(&one, &two, json!([]));
    let state = |state: &str| {
        let more = json!({
            "anonymous": true, "state": state,
            "deprecated": "2026-01-02T03:04:05Z", "sunset": "2027-01-02T03:04:05Z",
        });
        json!([{ "name": "users", "versions": [version("1", "one", more)] }])
    };
    config["apis"] = state("draft");
    let gateway = Gateway::start(config.clone()).await;
    assert_eq!(gateway.get("/x").await.status, 404);
    for (now, status, deprecation, sunset) in [
        ("published", 200, "", ""),
        ("deprecated", 200, "@1767323045", "Sat, 02 Jan 2027 03:04:05 GMT"),
        ("retired", 410, "", ""),
    ] {
        config["apis"] = state(now);
        gateway.rewrite(config.clone()).await;
        let answer = gateway.get("/x").await;
        assert_eq!(answer.status, status, "{now}");
        assert_eq!((answer.header("deprecation"), answer.header("sunset")), (deprecation, sunset), "{now}");
    }
    assert_eq!(one.count(), 2);
    let answer = gateway.get("/x").await;
    assert_eq!(answer.json()["detail"], "this version of the API is retired");
    let line = r#"stile_requests_total{route="users/1/all",service="one",code="410"}"#;
    assert_eq!(gateway.admin().metric(line).await, 2);
}

#[tokio::test]
async fn who_has_no_grant_is_refused_and_a_grant_counts_at_once() {
    let (one, two) = upstreams().await;
    let versions = json!([
        version("1", "one", json!({ "select": { "path": "/v1" } })),
        version("2", "two", json!({ "select": { "path": "/v2" } })),
    ]);
    let mut config = config(&one, &two, json!([{ "name": "users", "versions": versions }]));
    config["consumers"][0] = json!({ "name": "eve" });
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    assert_eq!(admin.send("PUT", "/v1/consumers/ann", json!({})).await.status, 201);
    let credential = json!({ "type": "api-key", "key": ANN });
    assert_eq!(admin.send("POST", "/v1/consumers/ann/credentials", credential).await.status, 201);
    let status = async |path: &str, key: &str| ask(&gateway, path, &[("x-api-key", key)]).await;

    let nobody = ask(&gateway, "/v1/x", &[]).await;
    assert_eq!((nobody.status.as_u16(), nobody.header("www-authenticate").is_empty()), (401, false));
    let refused = status("/v1/x", ANN).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-type")), (403, "application/problem+json"));
    assert_eq!(refused.json()["detail"], "this consumer has no grant for this API");
    assert_eq!(one.count() + two.count(), 0);
    let told = admin.get("/v1/errors").await.json()["items"][0].clone();
    assert_eq!((&told["blame"], &told["cause"]), (&json!("client"), &json!("no-grant")));

    let path = "/v1/consumers/ann/grants";
    let made = admin.call("PUT", &format!("{path}/users/1"), Some(PUBLISHER), "{}").await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!((status("/v1/x", ANN).await.status.as_u16(), status("/v2/x", ANN).await.status.as_u16()), (200, 403));
    let grant = json!({ "api": "users", "version": null, "scopes": [], "quotas": {} });
    let made = admin.send("POST", path, json!({ "api": "users" })).await;
    assert_eq!(
        (made.status.as_u16(), &made.json()["version"], &made.json()["api"]),
        (201, &grant["version"], &grant["api"])
    );
    assert_eq!(status("/v2/x", ANN).await.status, 200);
    assert_eq!(admin.get(path).await.json()["items"].as_array().map(Vec::len), Some(2));
    for version in ["1", "*"] {
        assert_eq!(admin.send("DELETE", &format!("{path}/users/{version}"), Value::Null).await.status, 204);
    }
    assert_eq!(status("/v1/x", ANN).await.status, 403);
    assert_eq!(admin.send("DELETE", &format!("{path}/users/1"), Value::Null).await.status, 404);

    // One of a group is for each of its consumers.
    assert_eq!(status("/v1/x", BOB).await.status, 403);
    assert_eq!(admin.send("PUT", "/v1/groups/partners/grants/users/*", json!({})).await.status, 201);
    assert_eq!((status("/v1/x", BOB).await.status.as_u16(), status("/v1/x", ANN).await.status.as_u16()), (200, 403));

    // With a consumer its grants are gone, and another one of its name has none.
    assert_eq!(admin.send("PUT", &format!("{path}/users/1"), json!({})).await.status, 201);
    assert_eq!(admin.send("DELETE", "/v1/consumers/ann", Value::Null).await.status, 204);
    assert_eq!(admin.send("PUT", "/v1/consumers/ann", json!({})).await.status, 201);
    assert_eq!(admin.get(path).await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_a_grant_is_told() {
    let (one, two) = upstreams().await;
    let apis = json!([{ "name": "users", "versions": [version("1", "one", json!({}))] }]);
    let mut config = config(&one, &two, apis);
    config["groups"] = json!([{ "name": "gold", "grants": [{ "api": "users" }] }]);
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    assert_eq!(admin.send("PUT", "/v1/consumers/new", json!({})).await.status, 201);
    for (path, sent, status, words) in [
        ("consumers/new/grants/user/1", json!({}), 422, "there is no API \\\"user\\\""),
        ("consumers/new/grants/users/2", json!({}), 422, "has no version \\\"2\\\""),
        ("consumers/new/grants/users/1", json!({ "scopes": ["a b"] }), 422, "scopes[0]"),
        ("consumers/new/grants/users/1", json!({ "quotas": { "hour": 1 } }), 422, "hour"),
        ("consumers/nobody/grants/users/1", json!({}), 404, "nobody"),
        ("consumers/ann/grants/users/1", json!({}), 409, "configuration file"),
        ("groups/gold/grants/users/1", json!({}), 409, "configuration file"),
    ] {
        let answer = admin.send("PUT", &format!("/v1/{path}"), sent).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
    }
    assert_eq!(admin.get("/v1/groups/gold/grants").await.json()["items"][0]["api"], "users");
}

#[tokio::test]
async fn a_version_may_ask_for_scopes() {
    let (one, two) = upstreams().await;
    let apis = json!([{ "name": "users", "versions": [version("1", "one", json!({ "scopes": ["read", "write"] }))] }]);
    let mut config = config(&one, &two, apis);
    config["consumers"][0]["grants"] = json!([{ "api": "users", "scopes": ["read"] }]);
    config["groups"] =
        json!([{ "name": "partners", "grants": [{ "api": "users", "scopes": ["write", "read", "more"] }] }]);
    let gateway = Gateway::start(config).await;
    let refused = ask(&gateway, "/x", &[("x-api-key", ANN)]).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["detail"], "the grant of this consumer lacks the scopes write");
    assert_eq!(ask(&gateway, "/x", &[("x-api-key", BOB)]).await.status, 200);
}

#[tokio::test]
async fn a_filter_that_answers_does_so_for_those_alone_who_may() {
    let (one, two) = upstreams().await;
    let mut granted = version("1", "one", json!({}));
    granted["routes"][0]["filters"] = json!([{ "plugin": "editor", "config": { "respond": 203 } }]);
    let mut config = config(&one, &two, json!([{ "name": "users", "versions": [granted] }]));
    config["plugins"] = json!([config["plugins"][0], stile_tests::guest::plugin("editor")]);
    config["services"][0]["filters"] = json!([]);
    config["listeners"] = json!([{
        "name": "public", "address": "127.0.0.1:0",
        "filters": [{ "plugin": "api-key-auth", "config": { "optional": true } }],
    }]);
    config["consumers"][0]["grants"] = json!([{ "api": "users" }]);
    let gateway = Gateway::start(config).await;
    let (nobody, bob, ann) = (
        ask(&gateway, "/x", &[]).await,
        ask(&gateway, "/x", &[("x-api-key", BOB)]).await,
        ask(&gateway, "/x", &[("x-api-key", ANN)]).await,
    );
    assert_eq!((nobody.status.as_u16(), bob.status.as_u16()), (401, 403));
    assert!(!bob.text().contains("from the editor"));
    assert_eq!((ann.status.as_u16(), ann.text().as_str()), (203, "from the editor"));
}

#[tokio::test]
async fn a_quota_is_told_of_and_never_exceeded() {
    let (one, two) = upstreams().await;
    let apis = json!([{ "name": "users", "versions": [version("1", "one", json!({}))] }]);
    let mut config = config(&one, &two, apis);
    config["consumers"][0]["grants"] = json!([{ "api": "users", "quotas": { "month": 5 } }]);
    config["groups"] =
        json!([{ "name": "partners", "grants": [{ "api": "users", "quotas": { "day": 2, "month": 9 } }] }]);
    let gateway = Gateway::start(config.clone()).await;
    let asking = (0..20).map(|_| ask(&gateway, "/x", &[("x-api-key", ANN)]));
    let answers = futures_util::future::join_all(asking).await;
    let (through, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((through.len(), one.count()), (5, 5));
    assert!(through.iter().any(|answer| answer.header("ratelimit").starts_with("\"month\";r=0;t=")));
    for answer in refused {
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.json()["detail"], "the quota of 5 requests in a month is used up");
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=31 * 86_400).contains(&wait));
        assert!(answer.header("ratelimit-policy").starts_with("\"month\";q=5;w="));
        assert_eq!(answer.header("ratelimit"), format!("\"month\";r=0;t={wait}"));
    }
    // It is the consumer's, whatever becomes of the configuration.
    config["consumers"][0]["grants"][0]["quotas"]["month"] = json!(6);
    gateway.rewrite(config).await;
    let more = [
        ask(&gateway, "/x", &[("x-api-key", ANN)]).await.status,
        ask(&gateway, "/x", &[("x-api-key", ANN)]).await.status,
    ];
    assert_eq!(more.map(|status| status.as_u16()), [200, 429]);
    let bob = ask(&gateway, "/x", &[("x-api-key", BOB)]).await;
    assert!(bob.header("ratelimit").starts_with("\"day\";r=1;t="), "{}", bob.header("ratelimit"));
    assert!(bob.header("ratelimit").contains(", \"month\";r=8;t="), "{}", bob.header("ratelimit"));
}

#[tokio::test]
async fn what_was_taken_of_a_quota_outlives_a_restart() {
    let (one, two) = upstreams().await;
    let apis = json!([{ "name": "users", "versions": [version("1", "one", json!({}))] }]);
    let mut config = config(&one, &two, apis);
    config["consumers"][0]["grants"] = json!([{ "api": "users", "quotas": { "month": 5 } }]);
    config["store"] = json!({ "path": "store" });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let take = async |gateway: &Stile| {
        let answer = Client::connect(gateway.address()).await.send(with("/x", &[("x-api-key", ANN)])).await;
        answer.header("ratelimit").split(';').nth(1).expect("what is left").to_owned()
    };
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!((take(&gateway).await, take(&gateway).await), ("r=4".to_owned(), "r=3".to_owned()));
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(0));
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(take(&gateway).await, "r=2", "a gateway that is stopped forgets nothing");
}

#[tokio::test]
async fn what_is_used_is_counted_by_consumer_and_version() {
    let (one, two) = upstreams().await;
    let versions = json!([
        version("1", "one", json!({ "select": { "path": "/v1" } })),
        version("2", "two", json!({ "select": { "path": "/v2" } })),
    ]);
    let mut config = config(&one, &two, json!([{ "name": "users", "versions": versions }]));
    config["consumers"][0]["grants"] = json!([{ "api": "users", "version": "1", "quotas": { "month": 2 } }]);
    let gateway = Gateway::start(config).await;
    for (path, key, status) in
        [("/v1/x", ANN, 200), ("/v1/x", ANN, 200), ("/v1/x", ANN, 429), ("/v2/x", ANN, 403), ("/v1/x", BOB, 403)]
    {
        assert_eq!(ask(&gateway, path, &[("x-api-key", key)]).await.status, status);
    }
    assert_eq!(ask(&gateway, "/v1/x", &[]).await.status, 401);
    let admin = gateway.admin();
    let told = async |query: &str| {
        let told = admin.get(&format!("/v1/usage{query}")).await.json();
        let items = told["items"].as_array().expect("items").clone();
        items
            .iter()
            .map(|it| {
                let texts = ["version", "consumer"].map(|key| it[key].as_str().expect("a text").to_owned());
                let numbers = ["requests", "refused", "failed"].map(|key| it[key].as_u64().expect("a number"));
                (texts.join("/"), numbers)
            })
            .collect::<Vec<_>>()
    };
    let expected = [("1/", [1, 1, 0]), ("1/ann", [3, 1, 0]), ("1/bob", [1, 1, 0]), ("2/ann", [1, 1, 0])];
    let expected = expected.map(|(name, numbers)| (name.to_owned(), numbers));
    until("the last of them has ended", async || (told("").await == expected).then_some(())).await;
    assert_eq!(told("?consumer=ann&version=1").await, expected[1..2]);
    assert_eq!(told("?api=other").await, []);
    assert_eq!(told("?to=2020-01-01").await, []);
    let first = admin.get("/v1/usage?limit=3").await.json();
    assert_eq!(told(&format!("?after={}", first["next"].as_str().expect("there is more"))).await, expected[3..]);
    assert!(admin.get("/v1/usage?consumer=ann&version=1").await.json()["items"][0]["sent"].as_u64() > Some(100));
    assert_eq!(admin.get("/v1/usage?from=today").await.status, 400);
}

#[tokio::test]
async fn versions_are_put_one_by_one() {
    let (one, two) = upstreams().await;
    let gateway = Gateway::start(config(&one, &two, json!([]))).await;
    let admin = gateway.admin();
    let put = async |version: &str, sent: Value| {
        admin.call("PUT", &format!("/v1/apis/users/versions/{version}"), Some(PUBLISHER), sent.to_string()).await
    };
    let sent = |service: &str, state: &str, prefix: &str| json!({ "state": state, "anonymous": true, "select": { "path": prefix }, "routes": [route("all", "/*", service)] });
    let made = put("1", sent("one", "published", "/v1")).await;
    assert_eq!((made.status.as_u16(), &made.json()["name"]), (201, &json!("1")), "{}", made.text());
    assert_eq!(put("2", sent("two", "draft", "/v2")).await.status, 201);
    assert_eq!((gateway.get("/v1/x").await.status.as_u16(), gateway.get("/v2/x").await.status.as_u16()), (200, 404));
    let changed = put("2", sent("two", "published", "/v2")).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["state"]), (200, &json!("published")));
    assert_eq!(put("1", sent("one", "deprecated", "/v1")).await.status, 200);
    assert_eq!(
        (gateway.get("/v1/x").await.header("deprecation"), gateway.get("/v2/x").await.header("deprecation")),
        ("@0", "")
    );
    let listed = admin.call("GET", "/v1/apis/users/versions", Some(VIEWER), "").await.json();
    let names: Vec<_> = listed["items"].as_array().expect("items").iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["1", "2"]);

    let wrong = put("3", json!({ "state": "published", "routes": [route("all", "/*", "nobody")] })).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("versions[2].routes[0].service"), "{}", wrong.text());
    assert_eq!(put("3", json!({ "stat": "published" })).await.status, 422);
    assert_eq!(put("3", json!({ "name": "4" })).await.status, 422);
    for (method, path, status) in [
        ("GET", "users/versions/3", 404),
        ("DELETE", "users/versions/3", 404),
        ("DELETE", "nobody/versions/1", 404),
        ("DELETE", "users/versions/1", 204),
        ("GET", "users/versions/1", 404),
        ("DELETE", "users", 204),
    ] {
        let answer = admin.send(method, &format!("/v1/apis/{path}"), Value::Null).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    assert_eq!(gateway.get("/v2/x").await.status, 404);
}
