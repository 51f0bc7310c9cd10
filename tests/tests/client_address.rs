//! One notion of the client's address: the peer's, or behind trusted proxies the address that they state.

use std::fs;

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, with},
    gateway::{Gateway, filtered, plain},
    guest::{self, plugin_with},
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::until,
};

const CHAIN: (&str, &str) = ("x-forwarded-for", "6.6.6.6, 192.0.2.1, 127.0.0.2");

/// A configuration whose only listener trusts this machine.
fn behind_a_proxy(mut config: Value) -> Value {
    config["listeners"] =
        json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": ["127.0.0.0/8"], "limits": {} }]);
    config
}

#[tokio::test]
async fn the_access_log_and_the_last_errors_name_client_and_peer() {
    let mut config = behind_a_proxy(json!({}));
    config["access_log"] = json!({ "file": "access.log" });
    let gateway = Gateway::start(config).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(with("/", &[CHAIN])).await;
    client.send(with("/", &[])).await;
    let log = gateway.folder().join("access.log");
    let lines = until("two lines are written", async || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    });
    let lines: Vec<Value> = lines.await.lines().map(|line| line.parse().expect("a line is JSON")).collect();
    let errors = gateway.admin().get("/v1/errors").await.json()["items"].clone();
    for (line, error, client) in [(&lines[0], &errors[1], "192.0.2.1"), (&lines[1], &errors[0], "127.0.0.1")] {
        for record in [line, error] {
            assert_eq!((&record["client"], &record["peer"]), (&json!(client), &json!("127.0.0.1")), "{record}");
            assert!(record["peer_port"].is_u64(), "{record}");
        }
    }
}

#[tokio::test]
async fn a_rollout_by_client_shares_among_the_clients_of_a_proxy() {
    const CLIENTS: u8 = 64;
    let upstream = Upstream::start(|_| Answer::text("ok")).await;
    let plugins = json!([{ "name": "p", "rollout": { "key": "client" } }]);
    let filters = json!([{ "plugin": "p", "config": { "mark": "m" } }]);
    let gateway = Gateway::start(behind_a_proxy(filtered(upstream.address(), plugins, filters))).await;
    let secret = Some(stile_tests::admin::SECRET);
    for (number, query) in [(1, ""), (2, "?percent=50")] {
        let path = format!("/v1/plugins/p/revisions{query}");
        assert!(gateway.admin().call("PUT", &path, secret, guest::stamp(number)).await.status.is_success());
    }
    let mut client = Client::connect(gateway.address()).await;
    let mut new = 0;
    for number in 0..CLIENTS {
        let chain = format!("192.0.2.{number}, 127.0.0.2");
        let stamps = [
            client.send(with("/", &[("x-forwarded-for", &chain)])).await.header("x-stamp").to_owned(),
            client
                .send(with("/", &[("x-forwarded-for", &format!("6.6.6.6, {chain}"))]))
                .await
                .header("x-stamp")
                .to_owned(),
        ];
        assert_eq!(stamps[0], stamps[1], "one client, one revision");
        new += u8::from(stamps[0].starts_with("2/"));
    }
    assert!((1..CLIENTS).contains(&new), "{new} of {CLIENTS} clients get the new revision");
}

#[tokio::test]
async fn a_plugin_sees_the_client_and_the_peer() {
    let upstream = Upstream::echo().await;
    let allow = ["connection", "crypto", "key-value", "metrics"];
    let toolbox = plugin_with("toolbox", json!({ "allow": allow }));
    let config = filtered(upstream.address(), json!([toolbox]), json!([{ "plugin": "toolbox" }]));
    let gateway = Gateway::start(behind_a_proxy(config)).await;
    let told =
        Client::connect(gateway.address()).await.send(with("/", &[("x-tool", "connection"), CHAIN])).await.text();
    for fact in ["address: \"192.0.2.1\"", "peer: \"127.0.0.1\"", "trusted: true"] {
        assert!(told.contains(fact), "{fact} is not in {told}");
    }
}

#[tokio::test]
async fn the_connections_of_a_proxy_are_not_counted_as_one_clients() {
    let upstream = Upstream::echo().await;
    for (trusted, served) in [(json!(["127.0.0.0/8"]), 3), (json!([]), 1)] {
        let mut config = behind_a_proxy(plain(upstream.address()));
        config["listeners"][0]["trusted"] = trusted;
        config["listeners"][0]["limits"] = json!({ "connections_per_client": 1 });
        let gateway = Gateway::start(config).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut connection = Raw::connect(gateway.address()).await;
            let written = connection.try_write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            if let (Ok(()), Ok(Some(answer))) = (written, connection.try_answer_to("GET").await) {
                assert_eq!(answer.status(), 200);
                open.push(connection);
            }
        }
        assert_eq!(open.len(), served, "connections that are served");
    }
}
