//! Texts of plugins in the log and in `/v1/errors`: bounded, one line each, so many a second.

use std::{fs, path::Path};

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, with},
    gateway::filtered,
    guest::plugin_with,
    process::Stile,
    upstream::Upstream,
    wait::until,
};

fn config(upstream: &Upstream) -> Value {
    let limits = json!({ "deadline": "1s", "timeout": "5s" });
    let hostile = plugin_with("hostile", json!({ "limits": limits }));
    filtered(upstream.address(), json!([hostile]), json!([{ "plugin": "hostile" }]))
}

/// Waits for a request's last line, and gives all lines of the log that have the text.
async fn lines(log: &Path, last: &str, text: &str) -> Vec<String> {
    let read = || String::from_utf8_lossy(&fs::read(log).expect("the log")).into_owned();
    let whole = until("the log has it", async || Some(read()).filter(|log| log.contains(last))).await;
    whole.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test]
async fn failures_are_one_bounded_line_each() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let gateway = Stile::run_logging(folder.path(), config(&upstream), &log).await;
    let mut client = Client::connect(gateway.address()).await;
    for (harm, text) in [("shout", "éé"), ("forge", r"one\r\ntwo\0\nthree"), ("panic", "as it was told")] {
        let answer = client.send(with("/", &[("x-do", harm), ("x-request-id", harm)])).await;
        assert_eq!(answer.status, 503, "{harm}");
        let found = lines(&log, &format!("request=\"{harm}\" phase"), text).await;
        let loud: Vec<_> = found.iter().filter(|line| !line.contains("DEBUG") && !line.contains("TRACE")).collect();
        assert_eq!(loud.len(), 1, "{harm}: {found:?}");
        assert!(
            loud[0].contains(r#"plugin="hostile""#) && loud[0].contains(&format!("request=\"{harm}\"")),
            "{loud:?}"
        );
        assert!(found.iter().all(|line| line.len() < 4096 + 500), "{harm}");
        let error = gateway.admin().get("/v1/errors").await.json()["items"][0].clone();
        assert_eq!(error["request_id"], harm);
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains(text) && message.len() <= 4096, "{harm}: {} bytes", message.len());
        if harm == "panic" {
            for part in ["panicked at", "src/lib.rs:", "; in ", "guest_hostile::"] {
                assert!(loud[0].contains(part), "{part}: {}", loud[0]);
            }
        }
    }
}

#[tokio::test]
async fn a_plugin_has_so_many_log_lines_a_second() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let gateway = Stile::run_logging(folder.path(), config(&upstream), &log).await;
    let answer = Client::connect(gateway.address()).await.send(with("/", &[("x-do", "chatter")])).await;
    assert_eq!(answer.status, 200);
    let dropped = gateway.admin().metric(r#"stile_plugin_log_lines_dropped_total{plugin="hostile"}"#).await;
    // The call may begin in one second, and end up to five seconds later.
    assert!((200..=700).contains(&dropped), "{dropped} lines are dropped");
    let last = format!("line {}", 0);
    let written = until("the log has it", async || {
        let written = lines(&log, &last, "of many").await;
        (written.len() as u64 == 800 - dropped).then_some(written)
    })
    .await;
    assert!(written.iter().all(|line| line.contains(r"\nof many")), "{written:?}");
    assert!(!lines(&log, "drops the rest", "more than 100 log lines in a second").await.is_empty());
}
