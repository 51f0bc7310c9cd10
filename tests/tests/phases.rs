//! Which phases of a filter run after which of its verdicts.

use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{
    gateway::{Gateway, service},
    guest::{plugin, plugin_with},
    phases::{self, ANSWER, PHASES},
    upstream::{Answer, Upstream},
    wait::SOON,
};
use tokio::time::{sleep, timeout};

/// Two filters of a listener, an editor and behind it the one whose phases are counted, which chooses the endpoint, too.
fn config(upstream: &Upstream, case: &str, editor: &Value, verdicts: &Value) -> Value {
    let phases = json!({ "plugin": "phases", "config": { "case": case, "verdicts": verdicts } });
    let mut echo = service("echo", &[upstream.address()]);
    echo["balance"] = phases.clone();
    let filters = json!([{ "plugin": "editor", "config": editor }, phases]);
    json!({
        "workers": 1,
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": filters }],
        "plugins": [plugin("editor"), plugin_with("phases", json!({ "allow": ["metrics"], "limits": { "metrics": 1000 } }))],
        "services": [echo],
        "routes": [{ "name": "all", "service": "echo" }],
    })
}

async fn ran(gateway: &Gateway, case: &str) -> Vec<&'static str> {
    let metrics = gateway.admin().get("/metrics").await.text();
    let times = |phase: &&str| {
        let metric = format!(r#"stile_plugin_own_phases_total{{plugin="phases",case="{case}",phase="{phase}"}} "#);
        metrics.lines().find_map(|line| line.strip_prefix(&metric)).map_or(0, |times| times.parse().expect("a number"))
    };
    let ran = PHASES.into_iter().filter(|phase| times(phase) > 0).collect();
    assert!(PHASES.iter().all(|phase| times(phase) <= 1), "{case}: a phase ran twice");
    ran
}

#[tokio::test]
async fn each_phase_runs_or_not_by_the_verdicts_before_it() {
    let upstream = Upstream::start(|_| Answer::Bytes(ANSWER.as_bytes().to_vec())).await;
    let none = json!({});
    let gateway = Gateway::start(config(&upstream, "none", &none, &none)).await;
    let requests = &PHASES[1..7];
    let responses = &PHASES[7..11];
    let all = |lists: &[&[&'static str]]| [&["authenticate"], lists.concat().as_slice()].concat();
    let cases = [
        ("proceed", none.clone(), all(&[requests, responses, &["log"]])),
        ("refuse", json!({ "authenticate": "refuse" }), all(&[&["log"]])),
        ("unknown", json!({ "authenticate": "fail" }), all(&[&["log"]])),
        ("request-fails", json!({ "request": "fail" }), all(&[&["request", "log"]])),
        ("request-done", json!({ "request": "done" }), all(&[&["request", "balance"]])),
        (
            "request-passes",
            json!({ "request": "pass-body" }),
            all(&[&["request", "route", "balance"], responses, &["log"]]),
        ),
        ("request-answers", json!({ "request": "respond" }), all(&[&["request"], &responses[..3], &["log"]])),
        ("body-fails", json!({ "request-body": "fail" }), all(&[&requests[..2], &responses[..3], &["log"]])),
        (
            "body-replaced",
            json!({ "request-body": "replace" }),
            all(&[&requests[..3], &requests[4..], responses, &["log"]]),
        ),
        ("body-answers", json!({ "request-body": "respond" }), all(&[&requests[..2], &responses[..3], &["log"]])),
        ("route-fails", json!({ "route": "fail" }), all(&[&requests[..5], &responses[..3], &["log"]])),
        ("route-answers", json!({ "route": "respond" }), all(&[&requests[..5], &responses[..3], &["log"]])),
        (
            "balance-fails",
            json!({ "balance": "fail" }),
            all(&[&requests[..2], &requests[4..], &responses[..3], &["log"]]),
        ),
        (
            "stream-fails",
            json!({ "request-stream": "fail" }),
            all(&[&requests[..3], &requests[4..], &responses[..3], &["log"]]),
        ),
        ("trailers-fail", json!({ "request-trailers": "fail" }), all(&[requests, &responses[..3], &["log"]])),
        ("response-fails", json!({ "response": "fail" }), all(&[requests, &["response", "log"]])),
        ("response-done", json!({ "response": "done" }), all(&[requests, &["response"]])),
        ("response-passes", json!({ "response": "pass-body" }), all(&[requests, &["response", "log"]])),
        ("response-answers", json!({ "response": "respond" }), all(&[requests, &["response", "log"]])),
        ("late-body-fails", json!({ "response-body": "fail" }), all(&[requests, &responses[..2], &["log"]])),
        ("late-body-replaced", json!({ "response-body": "replace" }), all(&[requests, &responses[..3], &["log"]])),
        ("late-body-answers", json!({ "response-body": "respond" }), all(&[requests, &responses[..2], &["log"]])),
        ("late-stream-fails", json!({ "response-stream": "fail" }), all(&[requests, &responses[..3], &["log"]])),
        ("late-trailers-fail", json!({ "response-trailers": "fail" }), all(&[requests, responses, &["log"]])),
        ("log-fails", json!({ "log": "fail" }), all(&[requests, responses, &["log"]])),
    ];
    for (case, verdicts, expected) in &cases {
        gateway.rewrite(config(&upstream, case, &none, verdicts)).await;
        exchange(&gateway, case, expected).await;
    }
    // The filter before it answers or fails: of this one nothing ran, and it is logged to all the same.
    for (case, editor) in [("passed-over", json!({ "respond": 403 })), ("not-reached", json!({ "fail": true }))] {
        gateway.rewrite(config(&upstream, case, &editor, &none)).await;
        exchange(&gateway, case, &["log"]).await;
    }
    // The one worker has logged these exchanges behind all before them.
    for (case, _, expected) in &cases {
        assert_eq!(ran(&gateway, case).await, *expected, "{case}");
    }
}

/// Sends one request, and waits for the phases that it is to meet; the log phase comes after the answer.
async fn exchange(gateway: &Gateway, case: &str, expected: &[&'static str]) {
    phases::send(gateway.address()).await;
    let met = async {
        while ran(gateway, case).await != expected {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = timeout(SOON, met).await;
    assert_eq!(ran(gateway, case).await, expected, "{case}");
}
