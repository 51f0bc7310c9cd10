//! Standard output, standard error and files that nobody reads any more: traffic goes on, and the process ends when it should.

use std::{fs::OpenOptions, process::Command};

use serde_json::{Value, json};
use stile_tests::{
    client::Client,
    gateway::{plain, service},
    process::Stile,
    upstream::{Answer, Upstream},
};

/// Lines of a log, each so long that a pipe is full after a few of them.
const LINES: usize = 300;
const LONG: usize = 4000;

/// A route `/good`, and one whose service cannot be reached.
fn config(upstream: &Upstream) -> Value {
    let mut config = plain(upstream.address());
    config["services"].as_array_mut().expect("a list").push(service("nowhere", &[([127, 0, 0, 1], 9).into()]));
    config["routes"] = json!([
        { "name": "good", "match": { "path": "/good/*" }, "service": config["services"][0]["name"] },
        { "name": "bad", "match": { "path": "/bad/*" }, "service": "nowhere" },
    ]);
    config["flush_timeout"] = json!("500ms");
    config
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    let upstream = Upstream::start(|_| Answer::text("good")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(&upstream);
    config["log"] = json!({ "buffer": "16KiB" });
    let gateway = Stile::run_unread(folder.path(), config).await;
    let bad = format!("/bad/{}", "x".repeat(LONG));
    for _ in 0..LINES {
        assert!(Client::connect(gateway.address()).await.get(&bad).await.status.is_server_error());
    }
    for _ in 0..8 {
        assert_eq!(Client::connect(gateway.address()).await.get("/good/").await.text(), "good");
    }
    let admin = gateway.admin();
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert!(admin.metric("stile_log_dropped_total").await > 0);
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_does_not_keep_the_process_from_ending() {
    let upstream = Upstream::start(|_| Answer::text("good")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    // Open at both ends, so that opening it waits for nobody.
    let unread = OpenOptions::new().read(true).write(true).open(&pipe).expect("the folder is ours");
    for log in [json!({}), json!({ "file": pipe })] {
        let mut config = config(&upstream);
        config["access_log"] = log.clone();
        let gateway = Stile::run_unread(folder.path(), config).await;
        let good = format!("/good/{}", "x".repeat(LONG));
        for _ in 0..LINES {
            assert_eq!(Client::connect(gateway.address()).await.get(&good).await.text(), "good");
        }
        gateway.terminate().await;
        assert_eq!(gateway.ended().await, Some(0), "{log}");
    }
    drop(unread);
}
