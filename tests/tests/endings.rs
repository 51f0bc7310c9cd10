//! What plugins are told after the end of an exchange, and from time to time without one; and who chooses endpoints.

use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, request, with},
    gateway::{Gateway, service},
    guest::{plugin, plugin_with},
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};

fn config(upstream: &Upstream, keys: Value) -> Value {
    let mut witness = plugin_with("witness", json!({ "allow": ["key-value", "metrics"], "tick": "1h" }));
    for (key, value) in keys.as_object().into_iter().flatten() {
        witness[key] = value.clone();
    }
    json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": [{ "plugin": "witness", "config": {} }] }],
        "plugins": [witness, plugin("hostile")],
        "services": [service("echo", &[upstream.address()])],
        "routes": [
            { "name": "all", "match": { "path": "/all/*" }, "service": "echo" },
            { "name": "hostile", "match": { "path": "/hostile/*" }, "service": "echo", "filters": [{ "plugin": "hostile" }] },
        ],
    })
}

/// What the witness was told of an exchange.
async fn told(gateway: &Gateway, id: &str) -> String {
    until("the witness is told", async || {
        let answer = Client::connect(gateway.address()).await.send(with("/", &[("x-ask", id)])).await;
        (answer.status == 200).then(|| answer.text())
    })
    .await
}

fn times(id: &str) -> String {
    format!(r#"stile_plugin_own_told_total{{plugin="witness",id="{id}"}}"#)
}

#[tokio::test]
async fn each_exchange_is_told_of_once_however_it_ends() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/all/never" => Answer::Behind(behind.clone(), Box::new(Answer::text("late"))),
        "/all/broken" => Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        _ => Answer::Reply(200, vec![("x-seen", "yes".to_owned())], "body".to_owned()),
    })
    .await;
    let gateway = Gateway::start(config(&upstream, json!({}))).await;
    let mut client = Client::connect(gateway.address()).await;
    for (id, method, path, more, what) in [
        (
            "good",
            "POST",
            "/all/x",
            "x-none",
            r#"POST /all/x 200 "all" "echo" true 3 4 true true None None Some("kept") Some("yes")"#,
        ),
        (
            "lost",
            "GET",
            "/no",
            "x-none",
            r#"GET /no 404 "" "" false 0 SENT true true Some("client") Some("no-route") Some("kept") None"#,
        ),
        (
            "refused",
            "GET",
            "/all/x",
            "x-refuse",
            r#"GET /all/x 403 "" "" false 0 2 true true None None Some("kept") None"#,
        ),
        (
            "failed",
            "GET",
            "/hostile/x",
            "x-do",
            r#"GET /hostile/x 503 "hostile" "echo" false 0 SENT true true Some("plugin") Some("trap") Some("kept") None"#,
        ),
    ] {
        let body = if method == "POST" { "abc" } else { "" };
        let answer = client.send(request(method, path, &[("x-id", id), (more, "trap")], body)).await;
        let what = what.replace("SENT", &answer.body.len().to_string());
        assert_eq!(told(&gateway, id).await, what, "{id}");
    }
    cut_short(&gateway, &upstream).await;
    gate.cancel();

    // A filter that fails at it harms nobody, and all are told once.
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.send(with("/all/x", &[("x-id", "trap"), ("x-trap", "1")])).await.status, 200);
    told(&gateway, "trap").await;
    for id in ["good", "lost", "refused", "failed", "broken", "left", "trap"] {
        assert_eq!(gateway.admin().metric(&times(id)).await, 1, "{id}");
    }
    let failed = r#"stile_plugin_overruns_total{plugin="witness",route="listener:public",cause="trap"}"#;
    until("it is counted", async || (gateway.admin().metric(failed).await == 1).then_some(())).await;
}

/// The service breaks off, and the client leaves.
async fn cut_short(gateway: &Gateway, upstream: &Upstream) {
    let mut client = Client::connect(gateway.address()).await;
    assert!(client.try_send(with("/all/broken", &[("x-id", "broken")])).await.is_err());
    assert!(
        told(gateway, "broken").await.contains(r#"200 "all" "echo" true 0 4 true true Some("upstream") Some("reset")"#)
    );
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("GET /all/never HTTP/1.1\r\nhost: a\r\nx-id: left\r\n\r\n").await;
    until("the service is asked", async || (upstream.count() >= 3).then_some(())).await;
    drop(raw);
    assert!(
        told(gateway, "left").await.contains(r#"499 "all" "echo" false 0 0 false true Some("client") Some("left")"#)
    );
}

#[tokio::test]
async fn what_ended_before_a_stop_is_told_before_its_end() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, json!({}))).await;
    let states = gateway.app().control().live().load().states.clone();
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..50 {
        client.send(with("/all/x", &[("x-id", "same")])).await;
    }
    gateway.stop().await;
    let told: Vec<_> = states.metrics().into_iter().filter(|(_, metric)| metric.name.ends_with("told_total")).collect();
    assert!(format!("{told:?}").contains("Counter(50)"), "{told:?}");
}

#[tokio::test]
async fn ticks_come_once_per_configuration_and_do_not_stop_at_failures() {
    let upstream = Upstream::echo().await;
    let ticks = "stile_plugin_own_ticks_total{plugin=\"witness\"}";
    let gateway = Gateway::start(config(&upstream, json!({}))).await;
    until("the first comes at once", async || (gateway.admin().metric(ticks).await == 1).then_some(())).await;
    // Once for both places that have the same configuration.
    let mut config = config(&upstream, json!({ "tick": "20ms" }));
    config["routes"][0]["filters"] = json!([{ "plugin": "witness", "config": {} }]);
    gateway.rewrite(config.clone()).await;
    until("more come", async || (gateway.admin().metric(ticks).await >= 4).then_some(())).await;
    let calls = |outcome: &str| {
        format!(
            r#"stile_plugin_calls_total{{plugin="witness",revision="1",route="",phase="tick",outcome="{outcome}"}}"#
        )
    };
    let before = gateway.admin().metric(&calls("proceed")).await;
    assert!(before >= 4);
    config["plugins"][0]["limits"] = json!({ "key_value": "1KiB" });
    config["routes"][0]["filters"][0]["config"] = json!({ "tick": "remember" });
    gateway.rewrite(config.clone()).await;
    let told = r#"stile_plugin_overruns_total{plugin="witness",route="",cause="key-value"}"#;
    until("it is told of a limit", async || (gateway.admin().metric(told).await >= 2).then_some(())).await;
    assert_eq!(gateway.admin().metric(&calls("failure")).await, 0);
    for (n, harm) in [(1, "fail"), (2, "loop")] {
        config["listeners"][0]["filters"][0]["config"] = json!({ "tick": harm });
        config["routes"][0]["filters"][0]["config"] = json!({ "tick": harm });
        gateway.rewrite(config.clone()).await;
        let failed = async || (gateway.admin().metric(&calls("failure")).await >= 3 * n).then_some(());
        until("it fails again and again", failed).await;
        assert_eq!(gateway.get("/all/x").await.status, 200, "{harm}");
    }
}

/// Requests that go to the endpoint that a plugin chooses.
#[tokio::test]
async fn a_balancer_chooses_among_the_endpoints() {
    let gate = Gate::new();
    let behind = gate.clone();
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let slow = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("slow")))).await;
    let config = |on_error: &str| {
        let mut balanced = service("s", &[a.address(), b.address()]);
        balanced["balance"] = json!({ "plugin": "chooser", "config": {} });
        balanced["endpoints"][1]["weight"] = json!(5);
        let mut busy = service("t", &[slow.address(), a.address()]);
        busy["balance"] = json!({ "plugin": "chooser", "config": {} });
        json!({
            "plugins": [plugin_with("chooser", json!({ "on_error": on_error }))],
            "services": [balanced, busy],
            "routes": [{ "name": "s", "service": "s" }, { "name": "t", "match": { "path": "/t/*" }, "service": "t" }],
        })
    };
    let gateway = Gateway::start(config("closed")).await;
    let to = async |path: &str, endpoint: &str| {
        Client::connect(gateway.address()).await.send(with(path, &[("x-endpoint", endpoint)])).await
    };
    for _ in 0..5 {
        assert_eq!(to("/", &a.address().to_string()).await.json()["name"], "a");
        assert_eq!(to("/", &b.address().to_string()).await.json()["name"], "b");
        assert_eq!(to("/", "heavy").await.json()["name"], "b");
    }
    let slow_one = slow.address().to_string();
    let (slowly, ()) = tokio::join!(to("/t/", &slow_one), async {
        until("it is under way", async || (slow.open() == 1).then_some(())).await;
        for _ in 0..5 {
            assert_eq!(to("/t/", "idle").await.json()["name"], "a");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        gate.cancel();
    });
    assert_eq!(slowly.text(), "slow");
    assert_eq!(to("/t/", "fast").await.json()["name"], "a", "the other took its time");
    for harm in ["fail", "beyond", "trap"] {
        assert_eq!(to("/", harm).await.status, 503, "{harm}");
    }
    let failed = r#"stile_plugin_calls_total{plugin="chooser",revision="1",route="service:s",phase="balance",outcome="failure"}"#;
    assert_eq!(gateway.admin().metric(failed).await, 3);
    gateway.rewrite(config("open")).await;
    for harm in ["fail", "beyond", "trap"] {
        assert_eq!(to("/", harm).await.status, 200, "{harm} leaves the choice to the gateway");
    }
}
