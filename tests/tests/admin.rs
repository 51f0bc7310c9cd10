//! The Admin API: who may call what, pushing and rolling back, what is told about the gateway.

use serde_json::{Value, json};
use stile_tests::{
    admin::{Admin, SECRET, VIEWER},
    client::{Answer, Client, request},
    gateway::{Gateway, filtered, plain},
    guest,
    upstream::Upstream,
    wait::until,
};

const REVISIONS: &str = "/v1/plugins/stamp/revisions";

async fn stamped(upstream: &Upstream) -> Gateway {
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    Gateway::start(filtered(upstream.address(), json!([{ "name": "stamp" }]), filters)).await
}

fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
    assert_eq!(answer.json()["status"], status);
}

#[tokio::test]
async fn a_token_with_a_role_for_it_is_needed() {
    let upstream = Upstream::echo().await;
    let gateway = stamped(&upstream).await;
    let admin = gateway.admin();
    for secret in [None, Some(""), Some("wrong"), Some("secret-of-the-harnes"), Some("secret-of-the-harness2")] {
        for path in ["/v1/status", "/v1/plugins", REVISIONS] {
            let answer = admin.call("GET", path, secret, "").await;
            assert_problem(&answer, 401);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    assert_eq!(admin.call("GET", "/v1/status", Some(VIEWER), "").await.status, 200);
    // An answer before the module is sent whole must not be lost.
    for secret in [Some(VIEWER), None] {
        let answer = admin.call("PUT", REVISIONS, secret, vec![0; 4 << 20]).await;
        assert_problem(&answer, if secret.is_some() { 403 } else { 401 });
    }
    assert_problem(&admin.call("POST", "/v1/plugins/stamp/rollout", Some(VIEWER), "{}").await, 403);
    assert_eq!(
        admin.get(REVISIONS).await.json(),
        json!({ "items": [], "pinned": false, "taken_back": null }),
        "nothing was pushed"
    );
}

#[tokio::test]
async fn what_needs_no_token() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    let admin = gateway.admin();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(admin.call("GET", path, None, "").await.status, 200, "{path}");
    }
    gateway.get("/").await;
    let metrics = admin.call("GET", "/metrics", None, "").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    assert!(text.contains("stile_generation 1\n"), "{text}");
    assert!(text.contains("stile_requests_total{route=\"all\",service=\"echo\",code=\"200\"} 1\n"), "{text}");
}

#[tokio::test]
async fn healthz_fails_and_names_a_worker_whose_loop_turns_too_seldom() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["workers"] = json!(1);
    // An idle loop turns once in a millisecond at most.
    config["admin"] = json!({ "address": "127.0.0.1:0", "worker_timeout": "1ms" });
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    let failed = until("a request comes between two turns", async || {
        let answer = admin.call("GET", "/healthz", None, "").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_problem(&failed, 503);
    let detail = failed.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.starts_with("worker 0 (thread stile-worker-0) has not turned for "), "{detail}");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let upstream = Upstream::echo().await;
    let gateway = stamped(&upstream).await;
    let admin = gateway.admin();
    for path in ["/v1/nothing", "/v1/plugins/unknown", "/v1/plugins/unknown/revisions"] {
        assert_problem(&admin.get(path).await, 404);
    }
    assert_problem(&admin.push("unknown", guest::stamp(1)).await, 404);
    assert_problem(&admin.call("DELETE", "/v1/status", Some(SECRET), "").await, 405);
    let large = admin.push("stamp", vec![0; (64 << 20) + 1]).await;
    assert_problem(&large, 413);
    assert_eq!(large.json()["detail"], "the body may have 67108864 bytes here, no more");
    let bearer = format!("Bearer {SECRET}");
    let untyped = request("POST", "/v1/plugins/stamp/rollout", &[("authorization", &bearer)], r#"{"revision":1}"#);
    let untyped = Client::connect(admin.0).await.send(untyped).await;
    assert_problem(&untyped, 415);
    assert_eq!(untyped.json()["detail"], "the body must be JSON, and say so: content-type: application/json");
    for (share, detail) in [("101", "percent: 101 is more than 100"), ("x", "percent"), ("300", "percent")] {
        let path = format!("{REVISIONS}?percent={share}");
        let refused = admin.call("PUT", &path, Some(SECRET), guest::stamp(1)).await;
        assert_problem(&refused, if share == "101" { 422 } else { 400 });
        assert!(refused.json()["detail"].as_str().is_some_and(|it| it.contains(detail)), "{}", refused.text());
    }
    let answer = admin.call("POST", "/v1/plugins/stamp/rollout", Some(SECRET), r#"{"revision":9}"#).await;
    assert_problem(&answer, 404);
}

#[tokio::test]
async fn a_push_is_live_when_it_is_answered() {
    let upstream = Upstream::echo().await;
    let gateway = stamped(&upstream).await;
    let admin = gateway.admin();
    for number in [1, 2] {
        let pushed = admin.push("stamp", guest::stamp(number)).await;
        assert_eq!((pushed.status.as_u16(), &pushed.json()["revision"]), (201, &json!(number)));
        assert_eq!(pushed.json()["phases"], json!(["request", "response"]));
        assert_eq!(pushed.json()["sha256"].as_str().map(str::len), Some(64));
        let imports = pushed.json()["imports"].as_array().cloned().unwrap_or_default();
        assert!(imports.contains(&json!("stile:plugin/exchange@0.1.0")), "{imports:?}");
        assert_eq!(gateway.get("/").await.header("x-stamp"), format!("{number}/a"));
        let calls = format!(
            "stile_plugin_calls_total{{plugin=\"stamp\",revision=\"{number}\",route=\"all\",phase=\"request\",outcome=\"proceed\"}}"
        );
        assert_eq!(admin.metric(&calls).await, 1, "each revision has its own count");
    }
    let again = admin.push("stamp", guest::stamp(1)).await;
    assert_eq!((again.status.as_u16(), &again.json()["revision"]), (200, &json!(1)));
    assert_eq!(gateway.get("/").await.header("x-stamp"), "1/a");
    let rolled = admin.call("POST", "/v1/plugins/stamp/rollout", Some(SECRET), r#"{"revision":2,"percent":100}"#).await;
    assert_eq!(rolled.status, 200);
    assert_eq!(gateway.get("/").await.header("x-stamp"), "2/a");
    let list = admin.get("/v1/plugins").await.json();
    assert_eq!((&list["items"][0]["name"], &list["items"][0]["revision"]), (&json!("stamp"), &json!(2)));
}

#[tokio::test]
async fn a_broken_module_is_refused_with_its_reason_and_the_old_one_goes_on() {
    let upstream = Upstream::echo().await;
    let gateway = stamped(&upstream).await;
    let admin = gateway.admin();
    assert_eq!(admin.push("stamp", guest::stamp(1)).await.status, 201);
    let core = b"\0asm\x01\0\0\0";
    let cut = guest::stamp(2).slice(..5000);
    let refused: [(&[u8], &str); 5] = [
        (b"", "the file is empty"),
        (b"text", "this is neither a WebAssembly module nor a component"),
        (core, "it exports no phase of stile:plugin"),
        (&cut, "the module is not valid: unexpected end"),
        // Its configuration is of another plugin.
        (&guest::module("require-token"), "unknown field `mark`"),
    ];
    for (module, reason) in refused {
        let answer = admin.push("stamp", module.to_vec()).await;
        assert_problem(&answer, 422);
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(reason), "{detail:?} does not say {reason:?}");
        assert_eq!(gateway.get("/").await.header("x-stamp"), "1/a");
    }
    let told = admin.push("stamp", guest::module("require-token")).await.json();
    assert_eq!(told["errors"][0]["path"], "routes[0].filters[0].config");
    let revisions = admin.get(REVISIONS).await.json();
    assert_eq!(revisions["items"].as_array().map(Vec::len), Some(1), "a refused module is no revision: {revisions}");
    assert_eq!(admin.push("stamp", guest::stamp(3)).await.json()["revision"], 2);
}

#[tokio::test]
async fn the_status_tells_of_routes_filters_and_the_last_refusal() {
    let upstream = Upstream::echo().await;
    let gateway = stamped(&upstream).await;
    let admin = gateway.admin();
    admin.push("stamp", guest::stamp(1)).await;
    let status = admin.status().await;
    assert_eq!((&status["generation"], &status["last_error"]), (&json!(2), &Value::Null));
    assert_eq!((&status["routes"][0]["name"], &status["routes"][0]["service"]), (&json!("all"), &json!("echo")));
    let filter = &status["routes"][0]["filters"][0];
    assert_eq!((&filter["plugin"], &filter["revision"], &filter["failures"]), (&json!("stamp"), &json!(1), &json!({})));
    let reason = gateway.rewrite_refused(json!({ "routes": [{ "name": "all", "service": "gone" }] })).await;
    assert!(reason.contains("routes[0].service: there is no service \"gone\""), "{reason}");
    let told = admin.status().await["last_error"]["message"].clone();
    assert_eq!(told, json!(reason));
    assert_eq!(gateway.get("/").await.status, 200, "the running generation goes on");
}

#[tokio::test]
async fn several_gateways_run_in_one_process() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let (one, two) = tokio::join!(Gateway::start(plain(a.address())), Gateway::start(plain(b.address())));
    assert_eq!((&one.get("/").await.json()["name"], &two.get("/").await.json()["name"]), (&json!("a"), &json!("b")));
    let other: Admin = two.admin();
    drop(one);
    assert_eq!(two.get("/").await.status, 200);
    assert_eq!(other.get("/readyz").await.status, 200);
}
