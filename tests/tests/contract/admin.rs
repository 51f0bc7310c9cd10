//! The Admin API and the metrics, by the names that checks rely on.

use serde_json::json;
use stile_tests::{
    admin::SECRET,
    client::{Client, fetch, with},
    gateway::filtered,
    guest,
    process::Stile,
    upstream::Upstream,
};

use super::folder;

#[tokio::test]
async fn the_admin_api_keeps_its_paths_and_codes() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let gateway = Stile::run(folder.path(), filtered(upstream.address(), json!([{ "name": "stamp" }]), filters)).await;
    let admin = gateway.admin();
    let revisions = "/v1/plugins/stamp/revisions";
    let module = || guest::stamp(1);
    for (method, path, secret, body, code) in [
        ("GET", "/healthz", None, "".into(), 200),
        ("GET", "/readyz", None, "".into(), 200),
        ("GET", "/metrics", None, "".into(), 200),
        ("GET", "/v1/status", None, "".into(), 401),
        ("GET", "/v1/status", Some("wrong"), "".into(), 401),
        ("GET", "/v1/status", Some(SECRET), "".into(), 200),
        ("PUT", revisions, None, module(), 401),
        ("PUT", revisions, Some(stile_tests::admin::VIEWER), module(), 403),
        ("PUT", "/v1/plugins/none/revisions", Some(SECRET), module(), 404),
        ("PUT", revisions, Some(SECRET), "text".into(), 422),
        ("PUT", revisions, Some(SECRET), module(), 201),
        ("PUT", revisions, Some(SECRET), module(), 200),
        ("POST", "/v1/plugins/stamp/rollout", Some(SECRET), r#"{"revision":1,"percent":100}"#.into(), 200),
        ("GET", revisions, Some(SECRET), "".into(), 200),
        ("GET", "/v1/plugins", Some(SECRET), "".into(), 200),
        ("GET", "/v1/plugins/stamp", Some(SECRET), "".into(), 200),
        ("GET", "/v1/none", Some(SECRET), "".into(), 404),
    ] {
        let answer = admin.call(method, path, secret, body).await;
        assert_eq!(answer.status, code, "{method} {path} {}", answer.text());
        if code >= 400 {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        }
    }
    assert!(admin.get("/v1/plugins").await.json()["items"].is_array());
}

#[tokio::test]
async fn the_metrics_keep_their_names_and_labels() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let config = filtered(upstream.address(), json!([guest::plugin("hostile")]), json!([{ "plugin": "hostile" }]));
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(fetch(gateway.address(), "/").await.status, 200);
    assert_eq!(Client::connect(gateway.address()).await.send(with("/", &[("x-do", "panic")])).await.status, 503);
    let admin = gateway.admin();
    let calls = "stile_plugin_calls_total{plugin=\"hostile\",revision=\"1\",route=\"all\",phase=\"request\"";
    for (line, value) in [
        ("stile_generation".to_owned(), 1),
        ("stile_requests_total{route=\"all\",service=\"echo\",code=\"200\"}".to_owned(), 1),
        ("stile_requests_total{route=\"all\",service=\"echo\",code=\"503\"}".to_owned(), 1),
        (format!("{calls},outcome=\"proceed\"}}"), 1),
        (format!("{calls},outcome=\"failure\"}}"), 1),
        ("stile_plugin_overruns_total{plugin=\"hostile\",route=\"all\",cause=\"trap\"}".to_owned(), 1),
    ] {
        assert_eq!(admin.metric(&line).await, value, "{line}");
    }
}
