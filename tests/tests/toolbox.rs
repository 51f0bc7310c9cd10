//! What the gateway offers to plugins beside the exchange.

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use stile_tests::{
    client::{Client, request, with},
    gateway::{Gateway, filtered},
    guest::plugin_with,
    upstream::Upstream,
    wait::until,
};

const ALL: [&str; 4] = ["connection", "crypto", "key-value", "metrics"];

fn config(upstream: &Upstream, allow: &[&str], limits: Value) -> Value {
    let toolbox = plugin_with("toolbox", json!({ "allow": allow, "limits": limits }));
    filtered(upstream.address(), json!([toolbox]), json!([{ "plugin": "toolbox" }]))
}

/// What a tool told, on a connection of its own, so that any worker may answer.
async fn tool(gateway: &Gateway, fields: &[(&str, &str)]) -> String {
    let answer = Client::connect(gateway.address()).await.send(with("/", fields)).await;
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    answer.text()
}

#[tokio::test]
async fn each_but_the_harmless_ones_must_be_allowed() {
    let upstream = Upstream::echo().await;
    for missing in ALL {
        let allowed: Vec<_> = ALL.into_iter().filter(|name| *name != missing).collect();
        let error = Gateway::try_start(config(&upstream, &allowed, json!({}))).await.expect_err("a refusal");
        let told = format!("plugins[0].allow: the plugin imports \"{missing}\", which it is not allowed");
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[tokio::test]
async fn all_that_are_missing_are_named_at_once() {
    let upstream = Upstream::echo().await;
    let error = Gateway::try_start(config(&upstream, &[], json!({}))).await.expect_err("a refusal");
    let mut all = ALL.map(|name| format!("\"{name}\""));
    all.sort();
    let told = format!("plugins[0].allow: the plugin imports {}, which it is not allowed", all.join(", "));
    assert!(error.to_string().contains(&told), "{error}");
}

#[tokio::test]
async fn what_a_plugin_remembers_is_shared_by_workers_and_outlives_generations() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &ALL, json!({ "key_value": "64KiB" }))).await;
    let key = |tool: &'static str, value: &'static str| [("x-tool", tool), ("x-value", value)];
    assert_eq!(tool(&gateway, &key("get", "")).await, "nothing");
    assert_eq!(tool(&gateway, &key("set", "one")).await, "()");
    for n in 1..=20 {
        assert_eq!(
            tool(&gateway, &[("x-tool", "increment"), ("x-key", "n"), ("x-value", "2")]).await,
            (2 * n).to_string()
        );
        assert_eq!(tool(&gateway, &key("get", "")).await, "one");
    }
    let swap = [("x-tool", "swap"), ("x-before", "one"), ("x-value", "two")];
    assert_eq!((tool(&gateway, &swap).await, tool(&gateway, &swap).await), ("true".into(), "false".into()));
    assert_eq!(tool(&gateway, &[("x-tool", "swap"), ("x-value", "x")]).await, "false", "there is something");
    assert_eq!(tool(&gateway, &key("increment", "1")).await, "the value is no counter");

    let lapses = [("x-tool", "set"), ("x-key", "brief"), ("x-value", "x"), ("x-ttl", "50")];
    assert_eq!(tool(&gateway, &lapses).await, "()");
    until("it has lapsed", async || {
        let now = tool(&gateway, &[("x-tool", "get"), ("x-key", "brief")]).await;
        (now == "nothing").then_some(())
    })
    .await;

    assert_eq!(tool(&gateway, &[("x-tool", "fill"), ("x-key", "f")]).await, "more than the plugin may remember");
    let overruns = r#"stile_plugin_overruns_total{plugin="toolbox",route="all",cause="key-value"}"#;
    assert_eq!(gateway.admin().metric(overruns).await, 1);
    let body = Client::connect(gateway.address()).await.send(request("POST", "/", &[], vec![b'x'; 70_000])).await;
    assert_eq!(body.status, 200);
    assert_eq!(gateway.admin().metric(overruns).await, 2, "while a body passes, too");
    assert_eq!(tool(&gateway, &key("get", "")).await, "two");
    gateway.rewrite(config(&upstream, &ALL, json!({ "key_value": "2MiB" }))).await;
    assert_eq!(tool(&gateway, &key("get", "")).await, "two", "a generation later");
    assert_eq!(tool(&gateway, &key("delete", "")).await, "done");
    assert_eq!(tool(&gateway, &key("get", "")).await, "nothing");
    // And it ends with the plugin.
    assert_eq!(tool(&gateway, &key("set", "three")).await, "()");
    let without = filtered(upstream.address(), json!([]), json!([]));
    gateway.rewrite(without).await;
    gateway.rewrite(config(&upstream, &ALL, json!({ "key_value": "2MiB" }))).await;
    assert_eq!(tool(&gateway, &key("get", "")).await, "nothing", "of a plugin that was gone");
}

#[tokio::test]
async fn the_plugins_own_metrics_are_in_the_gateways() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &ALL, json!({ "metrics": 4 }))).await;
    let named = |tool: &'static str, key: &'static str, value: &'static str| {
        [("x-tool", tool), ("x-key", key), ("x-value", value)]
    };
    for kind in ["a", "a", "b\\\""] {
        assert_eq!(tool(&gateway, &[("x-tool", "add"), ("x-key", "hits"), ("x-value", kind)]).await, "()");
    }
    assert_eq!(tool(&gateway, &named("gauge", "level", "1.5")).await, "()");
    assert_eq!(tool(&gateway, &named("observe", "work", "0.003")).await, "()");
    assert_eq!(tool(&gateway, &named("gauge", "more", "1")).await, "more sets of labels than the plugin may have");
    assert!(tool(&gateway, &named("gauge", "No", "1")).await.contains("no name of a metric"));
    let text = gateway.admin().get("/metrics").await.text();
    for line in [
        r#"stile_plugin_overruns_total{plugin="toolbox",route="all",cause="metrics"} 1"#,
        "# TYPE stile_plugin_own_hits_total counter",
        r#"stile_plugin_own_hits_total{plugin="toolbox",kind="a"} 2"#,
        r#"stile_plugin_own_hits_total{plugin="toolbox",kind="b\\\""} 1"#,
        r#"stile_plugin_own_level{plugin="toolbox"} 1.5"#,
        "# TYPE stile_plugin_own_work_seconds histogram",
        r#"stile_plugin_own_work_seconds_bucket{plugin="toolbox",le="0.005"} 1"#,
        r#"stile_plugin_own_work_seconds_count{plugin="toolbox"} 1"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn clocks_chance_connections_and_cryptography_are_what_they_should_be() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &ALL, json!({}))).await;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let now: u64 = tool(&gateway, &[("x-tool", "now")]).await.parse().expect("a number");
    assert!(now.abs_diff(since.as_secs()) <= 2, "{now}");
    assert_eq!(tool(&gateway, &[("x-tool", "monotonic")]).await, "true");
    let (one, other) = (tool(&gateway, &[("x-tool", "random")]).await, tool(&gateway, &[("x-tool", "random")]).await);
    assert_ne!(one, other);
    let told = tool(&gateway, &[("x-tool", "connection")]).await;
    for fact in [
        "address: \"127.0.0.1\"",
        "listener: \"public\"",
        "scheme: \"http\"",
        "protocol: \"HTTP/1.1\"",
        "trusted: false",
    ] {
        assert!(told.contains(fact), "{fact} is not in {told}");
    }
    let hashed = digest::digest(&digest::SHA256, b"abc");
    assert_eq!(tool(&gateway, &[("x-tool", "hash"), ("x-value", "abc")]).await, format!("{:02x?}", hashed.as_ref()));
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (public, signature) = (hex(pair.public_key().as_ref()), hex(pair.sign(b"abc").as_ref()));
    for (value, told) in [("abc", "true"), ("abd", "false")] {
        let fields = [("x-tool", "ed25519"), ("x-value", value), ("x-public", &public), ("x-signature", &signature)];
        assert_eq!(tool(&gateway, &fields).await, told);
    }
}
