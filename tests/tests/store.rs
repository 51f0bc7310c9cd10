//! What must outlive the process: pushed revisions, their numbers, which one is active.

use std::path::Path;

use serde_json::{Value, json};
use stile_tests::{client::fetch, gateway::filtered, guest, process::Stile, upstream::Upstream};

fn config(upstream: &Upstream, plugin: Value) -> Value {
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let mut config = filtered(upstream.address(), json!([plugin]), filters);
    config["store"] = json!({ "path": "store" });
    config
}

async fn stamp(gateway: &Stile) -> String {
    let answer = fetch(gateway.address(), "/").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-stamp").to_owned()
}

async fn push(gateway: &Stile, number: u32) -> (u16, Value) {
    let answer = gateway.admin().push("stamp", guest::stamp(number)).await;
    (answer.status.as_u16(), answer.json()["revision"].clone())
}

#[tokio::test]
async fn a_pushed_revision_answers_after_kill_and_restart() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = config(&upstream, json!({ "name": "stamp", "file": guest::file("stamp") }));
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(stamp(&gateway).await, "0/a");
    assert_eq!(push(&gateway, 7).await, (201, json!(2)));
    assert_eq!(stamp(&gateway).await, "7/a");
    gateway.kill().await;

    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(stamp(&gateway).await, "7/a", "the file is as it was, so the push still counts");
    assert_eq!(push(&gateway, 8).await, (201, json!(3)), "numbers go on");
    assert_eq!(push(&gateway, 7).await, (200, json!(2)), "the same digest is the same revision");
    assert_eq!(stamp(&gateway).await, "7/a");
    gateway.kill().await;

    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(stamp(&gateway).await, "7/a");
    let revisions = gateway.admin().get("/v1/plugins/stamp/revisions").await.json();
    let active: Vec<Value> =
        revisions["items"].as_array().expect("a list").iter().map(|it| it["active"].clone()).collect();
    assert_eq!(active, [false, true, false]);
}

#[tokio::test]
async fn a_plugin_without_a_file_is_resumed_and_a_roll_back_too() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = config(&upstream, json!({ "name": "stamp" }));
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(fetch(gateway.address(), "/").await.status, 503, "there is no revision yet");
    assert_eq!(push(&gateway, 1).await, (201, json!(1)));
    assert_eq!(push(&gateway, 2).await, (201, json!(2)));
    let secret = Some(stile_tests::admin::SECRET);
    let rolled = gateway.admin().call("POST", "/v1/plugins/stamp/rollout", secret, r#"{"revision":1}"#).await;
    assert_eq!(rolled.status, 200, "{}", rolled.text());
    assert_eq!(stamp(&gateway).await, "1/a");
    gateway.kill().await;

    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(stamp(&gateway).await, "1/a");
}

#[tokio::test]
async fn a_file_that_changed_while_the_gateway_was_down_is_the_newest_revision() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |folder: &Path, number| std::fs::write(folder.join("stamp.wasm"), guest::stamp(number)).expect("ours");
    write(folder.path(), 1);
    let config = config(&upstream, json!({ "name": "stamp", "file": "stamp.wasm" }));
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(push(&gateway, 2).await, (201, json!(2)));
    gateway.kill().await;
    write(folder.path(), 3);
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(stamp(&gateway).await, "3/a");
    gateway.kill().await;

    std::fs::write(folder.path().join("stamp.wasm"), "no module").expect("ours");
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(stamp(&gateway).await, "3/a", "the stored revision goes on where the file is broken");
}
