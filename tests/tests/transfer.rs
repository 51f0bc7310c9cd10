//! Export and import: what the store adds to the file, as one document, all of it or nothing.

use std::time::SystemTime;

use serde_json::{Value, json};
use stile_gateway::access::Presented;
use stile_tests::{
    admin::Admin,
    client::Answer,
    gateway::{Gateway, plain},
    upstream::Upstream,
};

const KEY: &str = "a key of sixteen or more";
const SECRET: &str = "a secret of sixteen or more";

async fn started(upstream: &Upstream) -> Gateway {
    let mut config = plain(upstream.address());
    config["store"] = json!({ "path": "store", "key": "what seals secrets" });
    config["consumers"] = json!([{ "name": "of-file" }]);
    Gateway::start(config).await
}

/// A store with one of everything.
async fn filled(admin: &Admin, upstream: &Upstream) {
    let filled = [
        ("PUT", "/v1/plugins/p", json!({ "allow": ["log"] })),
        ("PUT", "/v1/services/users", json!({ "endpoints": [{ "address": upstream.address() }] })),
        ("PUT", "/v1/routes/users", json!({ "match": { "path": "/users" }, "service": "users" })),
        (
            "PUT",
            "/v1/apis/shop",
            json!({ "versions": [{ "name": "1", "routes": [{ "name": "all", "service": "users" }] }] }),
        ),
        ("PUT", "/v1/consumers/mobile", json!({ "groups": ["partners"] })),
        ("PUT", "/v1/consumers/mobile/grants/shop/1", json!({ "scopes": ["read"], "quotas": { "day": 7 } })),
        ("PUT", "/v1/groups/partners/grants/shop/*", json!({ "quotas": { "month": 9 } })),
        ("POST", "/v1/consumers/mobile/credentials", json!({ "id": "app", "type": "api-key", "key": KEY })),
        ("POST", "/v1/consumers/mobile/credentials", json!({ "id": "signer", "type": "hmac", "secret": SECRET })),
        (
            "POST",
            "/v1/consumers/mobile/credentials",
            json!({ "id": "ann", "type": "basic", "username": "ann", "password": "correct horse" }),
        ),
        (
            "POST",
            "/v1/consumers/mobile/credentials",
            json!({ "id": "sso", "type": "jwt", "issuer": "i", "subject": "s", "expires": "2099-01-01T00:00:00Z" }),
        ),
    ];
    for (method, path, body) in filled {
        let answer = admin.send(method, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
    }
}

async fn import(admin: &Admin, query: &str, bundle: &Value) -> Answer {
    admin.send("POST", &format!("/v1/import{query}"), bundle.clone()).await
}

fn told(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let items = answer.json()["items"].as_array().expect("a list").clone();
    items.iter().map(|item| format!("{} {} {}", item["action"], item["kind"], item["name"]).replace('"', "")).collect()
}

async fn who(gateway: &Gateway, presented: Presented<'_>) -> Option<String> {
    let live = gateway.app().control().live().load_full();
    let found = live.access.verify(presented, SystemTime::now()).await?;
    Some(format!("{}/{}", found.consumer.name, found.id))
}

#[tokio::test]
async fn what_one_gateway_exports_another_imports() {
    let upstream = Upstream::echo().await;
    let (one, other) = (started(&upstream).await, started(&upstream).await);
    filled(&one.admin(), &upstream).await;
    let bundle = one.admin().get("/v1/export?secrets=true").await;
    assert_eq!((bundle.status.as_u16(), bundle.header("cache-control")), (200, "no-store"));
    let bundle = bundle.json();
    assert_eq!(bundle["routes"], json!([{ "match": { "path": "/users" }, "service": "users", "name": "users" }]));
    assert!(!bundle.to_string().contains(KEY), "nobody knows an API key but who has it");

    let all = [
        "create apis shop",
        "create consumers mobile",
        "change groups partners",
        "create plugins p",
        "create routes users",
        "create services users",
    ];
    let before = other.generation();
    assert_eq!(told(&import(&other.admin(), "?dry_run=true", &bundle).await), all);
    assert_eq!(other.generation(), before);
    assert_eq!(told(&import(&other.admin(), "", &bundle).await), all);
    assert_eq!(other.generation(), before + 1, "all of it goes live at once");
    assert_eq!(other.get("/users").await.status, 200);
    assert_eq!(who(&other, Presented::ApiKey(KEY)).await.as_deref(), Some("mobile/app"));
    let basic = Presented::Basic { username: "ann", password: "correct horse" };
    assert_eq!(who(&other, basic).await.as_deref(), Some("mobile/ann"));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, b"message");
    let hmac = Presented::Hmac { key_id: "mobile.signer", message: b"message", signature: signature.as_ref() };
    assert_eq!(who(&other, hmac).await.as_deref(), Some("mobile/signer"));
    let granted = other.admin().get("/v1/consumers/mobile/grants").await.json()["items"].clone();
    assert_eq!((&granted[0]["version"], &granted[0]["quotas"]["day"]), (&json!("1"), &json!(7)));
    let granted = other.admin().get("/v1/groups/partners/grants").await.json()["items"].clone();
    assert_eq!((&granted[0]["version"], &granted[0]["quotas"]["month"]), (&Value::Null, &json!(9)));
    assert_eq!(other.admin().get("/v1/export?secrets=true").await.json(), bundle);
    assert_eq!(told(&import(&other.admin(), "", &bundle).await), Vec::<String>::new(), "it is the same already");
    assert_eq!(other.generation(), before + 1);
}

#[tokio::test]
async fn without_being_asked_for_no_credential_is_exported_nor_changed_by_an_import() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    filled(&admin, &upstream).await;
    let mut bundle = admin.get("/v1/export").await.json();
    let keys: Vec<_> = bundle["consumers"][0].as_object().expect("a consumer").keys().cloned().collect();
    assert_eq!(keys, ["name", "groups", "grants"], "credentials are not there");
    bundle["consumers"][0]["groups"] = json!(["others"]);
    assert_eq!(told(&import(&admin, "", &bundle).await), ["change consumers mobile"]);
    assert_eq!(who(&gateway, Presented::ApiKey(KEY)).await.as_deref(), Some("mobile/app"));
    assert_eq!(admin.get("/v1/consumers/mobile").await.json()["groups"], json!(["others"]));

    bundle["consumers"][0]["credentials"] = json!([{ "id": "new", "type": "api-key", "key": KEY }]);
    assert_eq!(told(&import(&admin, "", &bundle).await), ["change consumers mobile"]);
    assert_eq!(who(&gateway, Presented::ApiKey(KEY)).await.as_deref(), Some("mobile/new"));
    let left = admin.get("/v1/consumers/mobile/credentials").await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
}

#[tokio::test]
async fn pruning_leaves_nothing_else() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    filled(&admin, &upstream).await;
    let service = json!({ "name": "users", "endpoints": [{ "address": upstream.address() }] });
    let refused = import(&admin, "?prune=true", &json!({ "routes": [{ "name": "users", "service": "users" }] })).await;
    assert_eq!(refused.status, 422, "a service that is needed cannot go: {}", refused.text());
    let pruned = import(&admin, "?prune=true", &json!({ "services": [service] })).await;
    assert_eq!(
        told(&pruned),
        [
            "delete apis shop",
            "delete consumers mobile",
            "delete groups partners",
            "delete plugins p",
            "delete routes users"
        ]
    );
    assert_eq!(who(&gateway, Presented::ApiKey(KEY)).await, None);
    assert_eq!(admin.get("/v1/consumers/of-file").await.status, 200, "what the file has is not the store's");
    let exported = admin.get("/v1/export?secrets=true").await.json();
    assert_eq!(
        exported,
        json!({ "plugins": [], "services": [service], "routes": [], "apis": [], "consumers": [], "groups": [] })
    );
}

#[tokio::test]
async fn every_mistake_is_told_and_nothing_is_imported() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let before = gateway.generation();
    let bundle = json!({
        "services": [{ "name": "echo" }, { "endpoints": [] }, { "name": "ok" }],
        "routes": [{ "name": "a", "servce": "ok" }, { "name": "b", "service": "ok" }, { "name": "b", "service": "ok" }],
        "consumers": [
            { "name": "of-file" },
            { "name": "x y", "groups": ["not ok"] },
            { "name": "c", "credentials": [
                { "id": "none", "type": "api-key" },
                { "id": "one", "type": "certificate", "subject": "CN=a" },
                { "id": "two", "type": "certificate", "subject": "CN=a" },
            ] },
            { "name": "d", "credentials": [{ "id": "short", "type": "api-key", "key": "short" }] },
            { "groups": [] },
        ],
        "groups": [{ "name": "e", "grant": [] }, { "name": "f" }, { "name": "f" }],
    });
    let refused = import(&admin, "", &bundle).await;
    assert_eq!(refused.status, 422);
    let told: Vec<String> = refused.json()["errors"]
        .as_array()
        .expect("mistakes")
        .iter()
        .map(|error| format!("{} {}: {}", error["file"], error["path"], error["message"]).replace(['"', '\\'], ""))
        .collect();
    let starts = [
        "/v1/services/echo name: it is in the configuration file",
        "import services[1].name: it needs a name",
        "/v1/routes/a servce: unknown key servce; did you mean service?",
        "/v1/routes/b name: it is there twice",
        "/v1/consumers/of-file name: it is in the configuration file",
        "/v1/consumers/x y name: it is no name",
        "/v1/consumers/x y groups[0]: not ok is no name",
        "/v1/consumers/d credentials[0].key: expected at least 16 characters, found 5",
        "import consumers[4].name: it needs a name",
        "/v1/groups/f name: it is there twice",
        "/v1/groups/e grant: unknown key grant; did you mean grants?",
        "/v1/consumers/c credentials[none]: a credential of type api-key needs key",
        "presented the same way",
    ];
    for start in starts {
        assert!(told.iter().any(|told| told.contains(start)), "{start}: {told:#?}");
    }
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    let meaning = import(&admin, "", &json!({ "routes": [{ "name": "a", "service": "none" }] })).await;
    assert_eq!(meaning.status, 422);
    assert!(meaning.text().contains("there is no service"), "{}", meaning.text());
    for body in ["{", "[]", "{\"listeners\": []}"] {
        let answer = admin.call("POST", "/v1/import", Some(stile_tests::admin::SECRET), body).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.text());
    }
    assert_eq!(gateway.generation(), before, "nothing was changed");
    assert_eq!(admin.get("/v1/services/ok").await.status, 404);
}

#[tokio::test]
async fn no_import_makes_an_answer_of_any_length() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream).await;
    let admin = gateway.admin();
    let errors = async |bundle: Value| {
        let answer = import(&admin, "", &bundle).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        answer.json()["errors"].as_array().expect("mistakes").clone()
    };
    let all = errors(json!({ "routes": vec![0; 100_000] })).await;
    assert_eq!((all.len(), &all[1000]["message"]), (1001, &json!("there are 99000 more mistakes")));
    let config = "x".repeat(1 << 20);
    let large = json!({ "name": "a", "service": "echo", "filters": [{ "plugin": "p", "config": config }] });
    let all = errors(json!({ "routes": [large] })).await;
    assert_eq!(all[0]["message"], "it has more than 1048576 bytes");
    let consumer = |n: usize| json!({ "name": format!("c{n}") });
    let all = errors(json!({ "consumers": (0..50_001).map(consumer).collect::<Vec<_>>() })).await;
    assert_eq!(all[0]["message"], "an import may have 50000 consumers, no more");
}
