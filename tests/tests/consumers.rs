//! Consumers and their credentials: given, told once, looked up, rotated, taken away, remembered, and never leaked.

use std::time::SystemTime;

use serde_json::{Value, json};
use stile_gateway::access::Presented;
use stile_tests::{
    admin::{Admin, PUBLISHER, SECRET},
    client::{Client, request},
    gateway::{Gateway, filtered, plain},
    guest,
    process::Stile,
    upstream::Upstream,
};

const KEY: &str = "the key that seals secrets";

async fn started(upstream: &Upstream, more: &[(&str, Value)]) -> Gateway {
    let mut config = plain(upstream.address());
    config["store"] = json!({ "path": "store", "key": KEY });
    for (key, value) in more {
        config[*key] = value.clone();
    }
    Gateway::start(config).await
}

/// Whose credential this is, as a plugin would be told.
async fn who(gateway: &Gateway, presented: Presented<'_>) -> Option<String> {
    let access = gateway.app().control().live().load_full().access.clone();
    let found = access.verify(presented, SystemTime::now()).await?;
    let groups = found.consumer.groups.join("+");
    Some(format!("{}/{} {groups}", found.consumer.name, found.id).trim_end().to_owned())
}

/// Makes a credential and gives what is told of it.
async fn given(admin: &Admin, consumer: &str, wanted: Value) -> Value {
    let answer = admin.send("POST", &format!("/v1/consumers/{consumer}/credentials"), wanted).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"), "{}", answer.text());
    answer.json()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn hmac_of(secret: &str, message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

#[tokio::test]
async fn a_consumer_is_known_by_each_of_its_credentials_at_once() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream, &[]).await;
    let admin = gateway.admin();
    let made = admin.send("PUT", "/v1/consumers/mobile", json!({ "groups": ["partners"] })).await;
    assert_eq!(
        (made.status.as_u16(), made.json()),
        (201, json!({ "name": "mobile", "groups": ["partners"], "origin": "store" }))
    );
    let key = given(&admin, "mobile", json!({ "id": "app", "type": "api-key" })).await;
    assert!(text(&key["secret"]).starts_with("stile_") && text(&key["secret"]).len() > 40, "{key}");
    assert_eq!(who(&gateway, Presented::ApiKey(text(&key["secret"]))).await.as_deref(), Some("mobile/app partners"));

    given(&admin, "mobile", json!({ "id": "ann", "type": "basic", "username": "ann", "password": "correct horse" }))
        .await;
    let basic = |password| Presented::Basic { username: "ann", password };
    assert_eq!(who(&gateway, basic("correct horse")).await.as_deref(), Some("mobile/ann partners"));
    assert_eq!(who(&gateway, basic("battery staple")).await, None);

    let hmac = given(&admin, "mobile", json!({ "id": "signer", "type": "hmac" })).await;
    let signature = hmac_of(text(&hmac["secret"]), b"message");
    let signed = Presented::Hmac { key_id: text(&hmac["key_id"]), message: b"message", signature: &signature };
    assert_eq!(who(&gateway, signed).await.as_deref(), Some("mobile/signer partners"));

    given(&admin, "mobile", json!({ "id": "sso", "type": "jwt", "issuer": "https://id", "subject": "42" })).await;
    given(&admin, "mobile", json!({ "id": "tls", "type": "certificate", "subject": "CN=mobile" })).await;
    let jwt = Presented::Jwt { issuer: "https://id", subject: "42" };
    assert_eq!(who(&gateway, jwt).await.as_deref(), Some("mobile/sso partners"));
    let certificate = Presented::Certificate { subject: "CN=mobile" };
    assert_eq!(who(&gateway, certificate).await.as_deref(), Some("mobile/tls partners"));

    // The consumer changes under all of them.
    assert_eq!(admin.send("PUT", "/v1/consumers/mobile", json!({ "groups": ["a", "b"] })).await.status, 200);
    assert_eq!(who(&gateway, jwt).await.as_deref(), Some("mobile/sso a+b"));
    let listed = admin.get("/v1/consumers/mobile/credentials").await.json();
    let ids: Vec<_> =
        listed["items"].as_array().expect("a list").iter().map(|item| text(&item["id"]).to_owned()).collect();
    assert_eq!(ids, ["ann", "app", "signer", "sso", "tls"]);

    assert_eq!(admin.send("DELETE", "/v1/consumers/mobile/credentials/sso", Value::Null).await.status, 204);
    assert_eq!(who(&gateway, jwt).await, None);
    assert_eq!(admin.send("DELETE", "/v1/consumers/mobile/credentials/sso", Value::Null).await.status, 404);
    assert_eq!(admin.send("DELETE", "/v1/consumers/mobile", Value::Null).await.status, 204);
    assert_eq!(who(&gateway, certificate).await, None);
    assert_eq!(admin.get("/v1/consumers/mobile").await.status, 404);
}

#[tokio::test]
async fn a_secret_is_rotated_with_an_overlap_or_without() {
    let upstream = Upstream::echo().await;
    let gateway = started(&upstream, &[]).await;
    let admin = gateway.admin();
    admin.send("PUT", "/v1/consumers/mobile", json!({})).await;
    let old = given(&admin, "mobile", json!({ "id": "one", "type": "api-key" })).await;
    let rotate = async |id: &str, body: Value| {
        let fields = [("content-type", "application/json")];
        admin.send_with("POST", &format!("/v1/consumers/mobile/credentials/{id}/rotate"), &fields, body).await
    };
    let new = rotate("one", json!({ "overlap": "1h" })).await;
    assert_eq!(new.status, 201);
    let new = new.json();
    assert_eq!(who(&gateway, Presented::ApiKey(text(&old["secret"]))).await.as_deref(), Some("mobile/one"));
    let fresh = format!("mobile/{}", text(&new["id"]));
    assert_eq!(who(&gateway, Presented::ApiKey(text(&new["secret"]))).await, Some(fresh));
    let listed = admin.get("/v1/consumers/mobile/credentials").await.json();
    let ending =
        listed["items"].as_array().expect("a list").iter().find(|item| item["id"] == "one").expect("it is there");
    assert!(ending["expires"].is_string(), "{ending}");
    assert_eq!(rotate(text(&new["id"]), json!({})).await.status, 201);
    assert_eq!(
        who(&gateway, Presented::ApiKey(text(&new["secret"]))).await,
        None,
        "without an overlap it ends at once"
    );
    assert_eq!(rotate("none", json!({})).await.status, 404);
    given(&admin, "mobile", json!({ "id": "sso", "type": "jwt", "issuer": "i", "subject": "s" })).await;
    assert_eq!(rotate("sso", json!({})).await.status, 409);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_nothing_is_kept_of_it() {
    let upstream = Upstream::echo().await;
    let consumers = json!([{ "name": "inner", "groups": ["ops"], "credentials": [
        { "id": "one", "type": "api-key", "key": "a key of the file" },
        { "id": "cert", "type": "certificate", "subject": "CN=inner" },
    ] }]);
    let gateway = started(&upstream, &[("consumers", consumers)]).await;
    let admin = gateway.admin();
    assert_eq!(who(&gateway, Presented::ApiKey("a key of the file")).await.as_deref(), Some("inner/one ops"));
    assert_eq!(admin.get("/v1/consumers/inner").await.json()["origin"], "file");
    admin.send("PUT", "/v1/consumers/mobile", json!({})).await;
    let add = "/v1/consumers/mobile/credentials";
    given(&admin, "mobile", json!({ "id": "one", "type": "jwt", "issuer": "i", "subject": "s" })).await;
    for (method, path, body, status, reason) in [
        ("PUT", "/v1/consumers/inner", json!({}), 409, "is in the configuration file"),
        ("DELETE", "/v1/consumers/inner", Value::Null, 409, "is in the configuration file"),
        ("PUT", "/v1/consumers/a%20b", json!({}), 422, "is no name"),
        ("PUT", "/v1/consumers/b", json!({ "groups": ["a b"] }), 422, "groups[0]"),
        ("PUT", "/v1/consumers/b", json!({ "name": "c" }), 422, "the path is that of"),
        ("PUT", "/v1/consumers/b", json!({ "group": [] }), 422, "did you mean \"groups\"?"),
        ("PUT", "/v1/consumers/b", json!({ "grants": [] }), 422, "stile consumer grant put"),
        ("DELETE", "/v1/consumers/b", Value::Null, 404, "no consumer \"b\""),
        ("POST", "/v1/consumers/b/credentials", json!({ "type": "api-key" }), 404, "no consumer \"b\""),
        ("POST", "/v1/consumers/inner/credentials", json!({ "type": "api-key" }), 409, "is in the configuration file"),
        ("GET", "/v1/consumers/inner/credentials", Value::Null, 409, "is in the configuration file"),
        ("POST", add, json!({ "type": "api-key", "key": "short" }), 422, "key: it has fewer than 16 characters"),
        ("POST", add, json!({ "type": "api-key", "key": "a key of the file" }), 409, "presented the same way"),
        ("POST", add, json!({ "type": "jwt", "issuer": "i", "subject": "s" }), 409, "presented the same way"),
        ("POST", add, json!({ "id": "one", "type": "api-key" }), 409, "has a credential \"one\" already"),
        ("POST", add, json!({ "type": "basic", "username": "u" }), 422, "needs \"hash\""),
        ("POST", add, json!({ "type": "jwt", "issuer": "i", "password": "p" }), 422, "has no \"password\""),
        ("POST", add, json!({ "type": "key" }), 422, "\"key\" is none of api-key, basic, hmac, jwt, certificate"),
        ("POST", add, json!({ "type": "api-key", "expires": "soon" }), 422, "expected a time such as"),
    ] {
        let answer =
            admin.call(method, path, Some(SECRET), if body.is_null() { String::new() } else { body.to_string() }).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, status, "{method} {path} {body}: {detail}");
        assert!(detail.contains(reason), "{method} {path} {body}: {detail}");
    }
    let names: Vec<_> = admin.get("/v1/consumers").await.json()["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| text(&item["name"]).to_owned())
        .collect();
    assert_eq!(names, ["inner", "mobile"]);
    assert_eq!(admin.get(add).await.json()["items"].as_array().map(Vec::len), Some(1));

    let mut clash = plain(upstream.address());
    clash["store"] = json!({ "path": "store", "key": KEY });
    clash["consumers"] = json!([{ "name": "mobile" }]);
    let reason = gateway.rewrite_refused(clash).await;
    assert!(
        reason.contains("consumers[0].name: there is another \"mobile\" in consumers, at /v1/consumers/mobile"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_secret_is_stored_only_where_it_can_be_sealed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let admin = gateway.admin();
    admin.send("PUT", "/v1/consumers/mobile", json!({})).await;
    let refused = admin.send("POST", "/v1/consumers/mobile/credentials", json!({ "type": "hmac" })).await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("set store.key")),
        "{}",
        refused.text()
    );
}

/// What every GET of the OpenAPI document answers, by path.
async fn everything(admin: &Admin) -> Vec<(String, Vec<u8>)> {
    let (document, mut told) = (admin.get("/openapi.json").await.json(), Vec::new());
    for (path, item) in document["paths"].as_object().expect("paths") {
        // Events come one by one, without an end.
        if item.get("get").is_some() && path != "/v1/events" {
            let path = path.replace("{name}", if path.contains("consumers") { "mobile" } else { "echo" });
            let answer = admin.get(&path.replace("{generation}", "1")).await;
            let is_not_there = ["plugins/echo", "routes/echo", "apis/echo", "groups/echo", "endpoints/{endpoint}"]
                .iter()
                .any(|none| path.contains(none));
            assert!(answer.status == 200 || is_not_there, "{path}");
            told.push((path, answer.text().into_bytes()));
        }
    }
    told
}

#[tokio::test]
async fn planted_secrets_appear_nowhere() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = || {
        let mut config = plain(upstream.address());
        config["store"] = json!({ "path": "store", "key": KEY });
        config["access_log"] = json!({ "file": "access.log" });
        config
    };
    let log = folder.path().join("stderr.log");
    let gateway = Stile::run_logging(folder.path(), config(), &log).await;
    let admin = gateway.admin();
    let fields = [("content-type", "application/json")];
    admin.call("PUT", "/v1/consumers/mobile", Some(PUBLISHER), "{}").await;
    let planted = ["planted-api-key-0001", "planted-password-02", "planted-secret-00003"];
    let mut told = Vec::new();
    let refused = json!({ "id": "d", "type": "jwt", "key": planted[0] });
    for (path, status, body) in [
        ("/v1/consumers/mobile/credentials", 201, json!({ "id": "a", "type": "api-key", "key": planted[0] })),
        (
            "/v1/consumers/mobile/credentials",
            201,
            json!({ "id": "b", "type": "basic", "username": "ann", "password": planted[1] }),
        ),
        (
            "/v1/consumers/mobile/credentials",
            201,
            json!({ "id": "c", "type": "hmac", "key_id": "k", "secret": planted[2] }),
        ),
        ("/v1/consumers/mobile/credentials", 422, refused.clone()),
        ("/v1/consumers/mobile/credentials", 422, json!({ "id": "e", "type": "none", "secret": planted[2] })),
        ("/v1/import", 422, json!({ "consumers": [{ "name": "other", "credentials": [refused] }] })),
        ("/v1/import", 422, json!({ "consumers": [{ "name": "other", "credentials": [planted[0]] }] })),
        ("/v1/import", 422, json!({ "consumers": [{ "name": "other", "credentials": planted[1] }] })),
        ("/v1/consumers/mobile/credentials", 422, json!({ "type": "hmac", "secret": [planted[2]] })),
        ("/v1/consumers/mobile/credentials", 422, json!({ "type": "hmac", "secret": { "x": planted[2] } })),
    ] {
        let answer = admin.send_with("POST", path, &fields, body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        told.push((path.to_owned(), answer.text().into_bytes()));
    }
    let made = given(&admin, "mobile", json!({ "id": "f", "type": "api-key" })).await;
    let rotated = admin.send_with("POST", "/v1/consumers/mobile/credentials/f/rotate", &fields, json!({})).await.json();
    let mut secrets: Vec<String> = planted.iter().map(|secret| (*secret).to_owned()).collect();
    secrets.extend([&made, &rotated].map(|told| text(&told["secret"]).to_owned()));
    secrets.extend([KEY.to_owned(), SECRET.to_owned(), PUBLISHER.to_owned()]);

    told.extend(everything(&admin).await);
    let of = |path: &str| String::from_utf8_lossy(&told.iter().find(|(known, _)| known == path).expect("it is told").1);
    assert!(of("/v1/audit").contains("mobile/c"), "the audit log tells of the credentials");
    assert!(of("/v1/export").contains("mobile") && of("/v1/generations").contains("credentials"));
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(0));
    told.push(("log".to_owned(), std::fs::read(&log).expect("it is written")));
    told.push(("store".to_owned(), std::fs::read(folder.path().join("store/stile.redb")).expect("it is there")));
    assert!(told.iter().all(|(_, text)| !text.is_empty()));
    for (place, bytes) in &told {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{place} has {secret}");
        }
    }
}

#[tokio::test]
async fn credentials_are_known_after_a_restart_and_only_with_the_key_that_sealed_them() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = |key: &str| {
        let mut config = plain(upstream.address());
        config["store"] = json!({ "path": "store", "key": key });
        config
    };
    let gateway = Stile::run(folder.path(), config(KEY)).await;
    let admin = gateway.admin();
    admin.send("PUT", "/v1/consumers/mobile", json!({})).await;
    given(&admin, "mobile", json!({ "id": "a", "type": "api-key" })).await;
    given(&admin, "mobile", json!({ "id": "c", "type": "hmac" })).await;
    let told = admin.get("/v1/consumers/mobile/credentials").await.json();
    gateway.kill().await;

    let gateway = Stile::run(folder.path(), config(KEY)).await;
    assert_eq!(gateway.admin().get("/v1/consumers/mobile/credentials").await.json(), told);
    gateway.kill().await;
    let file = stile_tests::gateway::write(folder.path(), config("another key than that one"));
    let output = stile_tests::process::stile(&["run", "--config", &file.display().to_string()]).await;
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        reason.contains("\"credential/mobile/c\" is corrupt: it is sealed with another key, or damaged"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_plugin_asks_whose_it_is_and_is_told_who_and_nothing_else() {
    let upstream = Upstream::echo().await;
    let plugin = guest::plugin_with("doorkeeper", json!({ "allow": ["consumers"] }));
    let mut config = filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "doorkeeper", "config": {} }]));
    config["store"] = json!({ "path": "store", "key": KEY });
    let gateway = Gateway::start(config.clone()).await;
    let admin = gateway.admin();
    admin.send("PUT", "/v1/consumers/mobile", json!({ "groups": ["a", "b"] })).await;
    let key = given(&admin, "mobile", json!({ "id": "app", "type": "api-key" })).await;
    let secret = given(&admin, "mobile", json!({ "id": "signer", "type": "hmac" })).await;
    given(&admin, "mobile", json!({ "id": "ann", "type": "basic", "username": "ann", "password": "correct horse" }))
        .await;
    given(&admin, "mobile", json!({ "id": "sso", "type": "jwt", "issuer": "i", "subject": "s" })).await;
    given(&admin, "mobile", json!({ "id": "tls", "type": "certificate", "subject": "CN=a" })).await;
    let asked = async |kind: &str, shown: &str, other: &str| {
        let fields = [("x-kind", kind), ("x-shown", shown), ("x-other", other)];
        let answer = Client::connect(gateway.address()).await.send(request("GET", "/", &fields, "")).await;
        answer.text()
    };
    let signature: String =
        hmac_of(text(&secret["secret"]), b"message").iter().map(|byte| format!("{byte:02x}")).collect();
    for (kind, shown, other, expected) in [
        ("api-key", text(&key["secret"]), "", "mobile a+b app"),
        ("api-key", "another key of some length", "", "nobody"),
        ("basic", "ann", "correct horse", "mobile a+b ann"),
        ("basic", "ann", "battery staple", "nobody"),
        ("basic", "bob", "correct horse", "nobody"),
        ("hmac", text(&secret["key_id"]), &signature, "mobile a+b signer"),
        ("hmac", text(&secret["key_id"]), &signature[2..], "nobody"),
        ("jwt", "i", "s", "mobile a+b sso"),
        ("certificate", "CN=a", "", "mobile a+b tls"),
        ("certificate", "CN=b", "", "nobody"),
    ] {
        assert_eq!(asked(kind, shown, other).await, expected, "{kind} {shown}");
    }
    assert_eq!(admin.send("DELETE", "/v1/consumers/mobile/credentials/app", Value::Null).await.status, 204);
    assert_eq!(asked("api-key", text(&key["secret"]), "").await, "nobody", "at once");

    config["plugins"][0]["allow"] = json!([]);
    let refused = gateway.rewrite_refused(config.clone()).await;
    assert!(refused.contains("consumers"), "{refused}");
    config["plugins"][0]["allow"] = json!(["consumers"]);
    config["routes"][0]["filters"][0]["config"] = json!({ "eager": true });
    let refused = gateway.rewrite_refused(config).await;
    assert!(refused.contains("called outside of an exchange"), "{refused}");
}
