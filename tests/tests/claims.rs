//! Fields in which clients say something about themselves, and names that servers take for one another.

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, with},
    gateway::{Gateway, filtered, plain},
    guest::plugin,
    raw::ask,
    upstream::Upstream,
};

/// Claims that only a proxy can make.
const CLAIMS: [(&str, &str); 28] = [
    ("x-forwarded", "for=6.6.6.6"),
    ("x-forwarded-by", "a"),
    ("x-forwarded-client-cert", "a"),
    ("x-forwarded-method", "PUT"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-prefix", "/a"),
    ("x-forwarded-scheme", "https"),
    ("x-forwarded-server", "a"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-uri", "/a"),
    ("x-forwarded-user", "root"),
    ("x-forwarded-whatever", "a"),
    ("x-client-cert", "a"),
    ("x-client-ip", "6.6.6.6"),
    ("x-cluster-client-ip", "6.6.6.6"),
    ("x-original-url", "/admin"),
    ("x-original-method", "PUT"),
    ("x-real-ip", "6.6.6.6"),
    ("x-remote-user", "root"),
    ("x-rewrite-url", "/admin"),
    ("x-ssl-client-verify", "SUCCESS"),
    ("cf-connecting-ip", "6.6.6.6"),
    ("client-cert", ":a:"),
    ("fastly-client-ip", "6.6.6.6"),
    ("forwarded-for", "6.6.6.6"),
    ("front-end-https", "on"),
    ("ssl-client-subject-dn", "CN=root"),
    ("true-client-ip", "6.6.6.6"),
];

async fn seen(client: &mut Client, fields: &[(&str, &str)]) -> Value {
    let answer = client.send(with("/", fields)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["headers"].clone()
}

#[tokio::test]
async fn claims_of_strangers_are_dropped_and_counted() {
    let upstream = Upstream::echo().await;
    for (http2, trusted) in [(false, false), (true, false), (false, true)] {
        let mut config = plain(upstream.address());
        let networks = if trusted { json!(["127.0.0.1"]) } else { json!([]) };
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": networks }]);
        let gateway = Gateway::start(config).await;
        let mut client =
            if http2 { Client::http2(gateway.address()).await } else { Client::connect(gateway.address()).await };
        let plain = ("x-client-id", "7");
        let headers = seen(&mut client, &[&CLAIMS[..], &[plain]].concat()).await;
        for (name, value) in CLAIMS {
            let expected = if trusted { json!(value) } else { Value::Null };
            assert_eq!(headers[name], expected, "{name}, HTTP/2: {http2}, trusted: {trusted}");
        }
        assert_eq!(headers[plain.0], plain.1);
        let metric = r#"stile_request_fields_dropped_total{listener="public",reason="untrusted"}"#;
        let dropped = gateway.admin().metric(metric).await;
        assert_eq!(dropped, if trusted { 0 } else { CLAIMS.len() as u64 });
    }
}

#[tokio::test]
async fn claims_pass_as_trailers_neither() {
    let upstream = Upstream::echo().await;
    for trusted in [json!([]), json!(["127.0.0.1"])] {
        let mut config = plain(upstream.address());
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": trusted }]);
        let gateway = Gateway::start(config).await;
        let names: Vec<&str> = CLAIMS.iter().map(|(name, _)| *name).chain(["x-client-id"]).collect();
        let lines: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: {}\r\n\r\n",
            names.join(", ")
        );
        assert_eq!(ask(gateway.address(), format!("{head}0\r\n{lines}\r\n")).await.status(), 200);
        assert_eq!(upstream.last().trailers, ["x-client-id: 1"], "{trusted}");
        let dropped = r#"stile_request_fields_dropped_total{listener="public",reason="untrusted"}"#;
        assert_eq!(gateway.admin().metric(dropped).await, CLAIMS.len() as u64, "{trusted}");
    }
}

/// Names with `_`, of which the first ones are those of fields of the gateway, of a match and of filters.
const UNDERSCORED: [&str; 11] = [
    "x_forwarded_for",
    "x-forwarded_host",
    "x_real_ip",
    "content_length",
    "transfer_encoding",
    "x_request_id",
    "x_canary",
    "x_user",
    "x_set",
    "api_key",
    "_",
];
const RESERVED: usize = 9;

#[tokio::test]
async fn the_underscored_twin_of_a_field_that_counts_is_dropped() {
    let upstream = Upstream::echo().await;
    let fields = UNDERSCORED.map(|name| (name, "1"));
    for (policy, dropped) in
        [(Value::Null, RESERVED), (json!("reserved"), RESERVED), (json!("drop"), 11), (json!("allow"), 0)]
    {
        let edits = json!({ "request": { "remove": ["x-user"], "set": { "x-set": "by a filter" } } });
        let filters = json!([{ "plugin": "add-headers", "config": edits }]);
        let mut config = filtered(upstream.address(), json!([plugin("add-headers")]), filters);
        let canary = json!({ "name": "canary", "match": { "headers": { "x-canary": "1" } }, "service": "echo" });
        config["routes"].as_array_mut().expect("routes").push(canary);
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0" }]);
        if !policy.is_null() {
            config["listeners"][0]["underscores"] = policy.clone();
        }
        let gateway = Gateway::start(config).await;
        let headers = seen(&mut Client::connect(gateway.address()).await, &fields).await;
        for (number, name) in UNDERSCORED.into_iter().enumerate() {
            let expected = if number < dropped { Value::Null } else { json!("1") };
            assert_eq!(headers[name], expected, "{name}, {policy}");
        }
        assert_eq!(headers["x-set"], "by a filter");
        let metric = r#"stile_request_fields_dropped_total{listener="public",reason="underscore"}"#;
        assert_eq!(gateway.admin().metric(metric).await, dropped as u64, "{policy}");
    }
}

#[tokio::test]
async fn both_families_of_a_trusted_proxy_agree() {
    let upstream = Upstream::echo().await;
    let fields = [
        ("host", "inner"),
        ("x-forwarded-for", "192.0.2.7, 127.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.example"),
    ];
    let other = ("forwarded", "for=\"[2001:db8::1]\";proto=http;host=other.example");
    let of_x = (
        "192.0.2.7, 127.0.0.2, 127.0.0.1",
        "for=192.0.2.7;host=\"outer.example\";proto=https, for=127.0.0.2, for=127.0.0.1",
    );
    let of_forwarded = ("2001:db8::1, 127.0.0.1", "for=\"[2001:db8::1]\";proto=http;host=other.example, for=127.0.0.1");
    for (key, has_both, expected, host) in [
        (Value::Null, false, of_x, "outer.example"),
        (Value::Null, true, of_x, "outer.example"),
        (json!("x-forwarded"), true, of_x, "outer.example"),
        (json!("forwarded"), true, of_forwarded, "other.example"),
    ] {
        let mut config = plain(upstream.address());
        config["listeners"] = json!([{ "name": "public", "address": "127.0.0.1:0", "trusted": ["127.0.0.0/8"] }]);
        if !key.is_null() {
            config["listeners"][0]["proxy_headers"] = key.clone();
        }
        let gateway = Gateway::start(config).await;
        let both = if has_both { [&fields[..], &[other]].concat() } else { fields.to_vec() };
        let headers = seen(&mut Client::connect(gateway.address()).await, &both).await;
        let told = (headers["x-forwarded-for"].as_str(), headers["forwarded"].as_str());
        assert_eq!(told, (Some(expected.0), Some(expected.1)), "{key}, both: {has_both}");
        assert_eq!(headers["x-forwarded-host"], host, "{key}, both: {has_both}");
    }
}
