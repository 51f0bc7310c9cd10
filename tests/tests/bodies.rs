//! Bodies in the hands of filters: decided on as a whole before anybody else sees them, or changed while they pass.

mod fields;
mod turns;

use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{
    client::{Answer as Got, Client, request, with},
    gateway::{Gateway, filtered},
    guest::{plugin, plugin_with},
    pattern::{Check, Source},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::until,
    wire::Framing,
};

fn bodies(upstream: &Upstream, filter: Value) -> Value {
    filtered(upstream.address(), json!([plugin("bodies")]), json!([{ "plugin": "bodies", "config": filter }]))
}

fn streams(upstream: &Upstream, filter: Value) -> Value {
    filtered(upstream.address(), json!([plugin("streams")]), json!([{ "plugin": "streams", "config": filter }]))
}

async fn post(gateway: &Gateway, body: &'static str) -> Got {
    Client::connect(gateway.address()).await.send(request("POST", "/", &[], body)).await
}

#[tokio::test]
async fn a_body_is_judged_before_the_service_is_contacted() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(bodies(&upstream, json!({ "request": "judge" }))).await;
    let refused = post(&gateway, "this is bad").await;
    assert_eq!((refused.status.as_u16(), refused.text().as_str()), (422, "it is bad"));
    // In pieces, which are not the filter's business.
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nba\r\n").await;
    assert_eq!(client.ask("1\r\nd\r\n0\r\n\r\n").await.status(), 422);
    assert_eq!((upstream.count(), upstream.connections()), (0, 0), "nobody was contacted");
    let passed = post(&gateway, "this is good").await;
    assert_eq!(passed.json()["body"], "this is good");
    assert_eq!(upstream.last().framing, Framing::Length(12));
}

#[tokio::test]
async fn a_whole_body_may_be_replaced_both_ways_and_its_length_is_told() {
    let upstream = Upstream::start(|received| match received.target() {
        "/chunks" => Answer::Chunks(vec![(Duration::ZERO, "one"), (Duration::ZERO, "two")]),
        _ => Answer::Echo,
    })
    .await;
    for (filter, sent, length) in [
        (json!({ "request": "double" }), "abab", Framing::Length(4)),
        (json!({ "request": "upper" }), "AB", Framing::Length(2)),
        (json!({ "request": "clear" }), "", Framing::Length(0)),
        (json!({ "request": "measure" }), "ab", Framing::Length(2)),
        (json!({ "request": "pass" }), "ab", Framing::Length(2)),
    ] {
        let gateway = Gateway::start(bodies(&upstream, filter.clone())).await;
        let answer = post(&gateway, "ab").await;
        assert_eq!(answer.json()["body"], sent, "{filter}");
        assert_eq!(upstream.last().framing, length, "{filter}");
        let seen = answer.json()["headers"]["x-length"].clone();
        assert_eq!(seen, if filter["request"] == "measure" { json!("2") } else { Value::Null });
        // What has no body has an empty one.
        assert_eq!(gateway.get("/").await.json()["body"], "", "{filter}");
    }
    for (filter, told) in [("double", "onetwoonetwo"), ("upper", "ONETWO"), ("clear", ""), ("measure", "onetwo")] {
        let gateway = Gateway::start(bodies(&upstream, json!({ "response": filter }))).await;
        let answer = gateway.get("/chunks").await;
        assert_eq!(answer.text(), told, "{filter}");
        if filter != "measure" && !told.is_empty() {
            assert_eq!(answer.header("content-length"), told.len().to_string(), "{filter}");
        }
    }
}

/// Fields that describe a body, as the service sends them.
const DESCRIBING: [(&str, &str); 7] = [
    ("content-digest", "sha-256=:x:"),
    ("repr-digest", "sha-256=:x:"),
    ("digest", "sha-256=x"),
    ("content-md5", "x"),
    ("accept-ranges", "bytes"),
    ("content-encoding", "x-none"),
    ("etag", "\"strong\""),
];

#[tokio::test]
async fn fields_that_describe_a_body_go_with_it() {
    let reply = || DESCRIBING.map(|(name, value)| (name, value.to_owned())).to_vec();
    let upstream = Upstream::start(move |received| match received.method() {
        "POST" => Answer::Echo,
        _ => Answer::Reply(200, reply(), "body".to_owned()),
    })
    .await;
    let unchanged = ["x-none", "\"strong\"", "bytes", "x", "sha-256=x"];
    let shown = ["content-encoding", "etag", "accept-ranges", "content-md5", "digest"];
    for (config, expected) in [
        (bodies(&upstream, json!({ "response": "measure" })), unchanged),
        (bodies(&upstream, json!({ "response": "pass" })), unchanged),
        (bodies(&upstream, json!({ "response": "fixed" })), ["", "W/\"strong\"", "", "", ""]),
        (bodies(&upstream, json!({ "response": "described" })), ["\"own\""; 5]),
        (streams(&upstream, json!({ "response": "upper" })), ["x-none", "W/\"strong\"", "", "", ""]),
    ] {
        let gateway = Gateway::start(config.clone()).await;
        let answer = gateway.get("/").await;
        let filter = &config["routes"][0]["filters"][0];
        assert_eq!(shown.map(|name| answer.header(name)), expected, "{filter}");
        for digest in ["content-digest", "repr-digest"] {
            assert_eq!(answer.header(digest).is_empty(), expected[4].is_empty(), "{filter}: {digest}");
        }
        // The head of a changed body is that of GET (RFC 9110 §9.3.2), as far as it is known.
        if expected[4].is_empty() {
            let head = Client::connect(gateway.address()).await.send(request("HEAD", "/", &[], "")).await;
            assert_eq!((head.header("etag"), head.header("digest")), ("W/\"strong\"", ""), "{filter}");
        }
    }
    for (config, kept) in [
        (bodies(&upstream, json!({ "request": "measure" })), ["sha-256=x", "x-none"]),
        (bodies(&upstream, json!({ "request": "fixed" })), ["", ""]),
        (bodies(&upstream, json!({ "request": "described" })), ["\"own\"", "\"own\""]),
        (streams(&upstream, json!({ "request": "upper" })), ["", "x-none"]),
    ] {
        let gateway = Gateway::start(config.clone()).await;
        let mut client = Client::connect(gateway.address()).await;
        let seen = client.send(request("POST", "/", &DESCRIBING, "body")).await.json()["headers"].clone();
        let seen = ["digest", "content-encoding"].map(|name| seen[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(seen, kept, "{}", config["routes"][0]["filters"][0]);
    }
}

#[tokio::test]
async fn the_next_filter_sees_the_body_as_the_one_before_has_left_it() {
    let upstream = Upstream::echo().await;
    let filter = |config: Value| json!({ "plugin": "bodies", "config": config });
    let filters = json!([
        filter(json!({ "request": "double" })),
        { "plugin": "streams", "config": { "request": "upper" } },
        filter(json!({ "request": "measure" })),
    ]);
    let config = filtered(upstream.address(), json!([plugin("bodies"), plugin("streams")]), filters);
    let gateway = Gateway::start(config).await;
    let answer = post(&gateway, "abc").await.json();
    assert_eq!((&answer["body"], &answer["headers"]["x-length"]), (&json!("ABCABC"), &json!("6")));
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_or_passed_unseen() {
    let upstream = Upstream::start(|received| match received.target() {
        "/large" => Answer::Pattern(5000),
        _ => Answer::Echo,
    })
    .await;
    let limits = json!({ "body": "1KiB" });
    let config = |on_error: &str, filter: &str| {
        let plugin = plugin_with("bodies", json!({ "limits": limits, "on_error": on_error }));
        let filters = json!([{ "plugin": "bodies", "config": { filter: "upper" } }]);
        filtered(upstream.address(), json!([plugin]), filters)
    };
    let large = || "x".repeat(1025);
    let gateway = Gateway::start(config("closed", "request")).await;
    let mut client = Client::connect(gateway.address()).await;
    let refused = client.send(request("POST", "/", &[], large())).await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["detail"], "the body of the request is too large");
    assert_eq!(upstream.count(), 0);
    let overruns = r#"stile_plugin_overruns_total{plugin="bodies",route="all",cause="body"}"#;
    assert_eq!(gateway.admin().metric(overruns).await, 1);
    assert_eq!(client.send(request("POST", "/", &[], "x".repeat(1024))).await.json()["body_length"], 1024);

    let gateway = Gateway::start(config("open", "request")).await;
    let mut client = Raw::connect(gateway.address()).await;
    let half = large();
    client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n401\r\n{half}\r\n")).await;
    let answer = client.ask("3\r\nyyy\r\n0\r\n\r\n").await.json();
    assert_eq!((&answer["body_length"], &answer["body"]), (&json!(1028), &json!(format!("{half}yyy"))));

    let gateway = Gateway::start(config("closed", "response")).await;
    assert_eq!(gateway.get("/large").await.status, 502);
    let gateway = Gateway::start(config("open", "response")).await;
    let answer = gateway.get("/large").await;
    let mut check = Check::new();
    check.add(&answer.body);
    assert_eq!((answer.status.as_u16(), check.right()), (200, Some(5000)));
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_the_clients_doing() {
    let upstream = Upstream::echo().await;
    let slow = plugin_with("bodies", json!({ "limits": { "body_timeout": "100ms", "instances": 1 } }));
    let filters = json!([{ "plugin": "bodies", "config": { "request": "judge" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([slow]), filters)).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(gateway.address()).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab").await;
        waiting.push(client);
    }
    // The one instance is free all the while.
    assert_eq!(post(&gateway, "good").await.status, 200);
    for mut client in waiting {
        assert_eq!(client.answer().await.status(), 408);
    }
}

/// A filter with one stream at a time, and a client whose body passes through it.
async fn passing(upstream: &Upstream, wait: &str) -> (Gateway, Raw) {
    let limits = json!({ "instances": 3, "streams": 1, "streams_per_client": 100, "instance_wait": wait });
    let plugin = plugin_with("streams", json!({ "limits": limits }));
    let filters = json!([{ "plugin": "streams", "config": { "request": "copy" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([plugin]), filters)).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab").await;
    until("the body passes", async || (upstream.connections() == 1).then_some(())).await;
    (gateway, client)
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
async fn a_body_waits_for_its_turn_when_as_many_pass_as_may() {
    let upstream = Upstream::echo().await;
    let (gateway, mut first) = passing(&upstream, "20s").await;
    let mut other = Client::connect(gateway.address()).await;
    let second = tokio::spawn(async move { other.send(request("POST", "/", &[], "second")).await });
    // The heads of both are filtered by instances of their own.
    let calls =
        r#"stile_plugin_calls_total{plugin="streams",revision="1",route="all",phase="request",outcome="proceed"}"#;
    until("the second is there", async || (gateway.admin().metric(calls).await == 2).then_some(())).await;
    first.write("cde").await;
    assert_eq!(first.answer().await.json()["body"], "abcde");
    let second = second.await.expect("it does not panic");
    assert_eq!((second.status.as_u16(), second.json()["body"].as_str()), (200, Some("second")));
}

#[tokio::test]
async fn a_body_that_finds_no_turn_is_refused_with_the_name_of_the_limit() {
    let upstream = Upstream::echo().await;
    let (gateway, mut first) = passing(&upstream, "20ms").await;
    let refused =
        until("one is refused", async || Some(post(&gateway, "second").await).filter(|answer| answer.status == 503));
    assert_eq!(refused.await.json()["detail"], "a filter is overloaded");
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("1 bodies pass already, as many as limits.streams allows"), "{errors}");
    first.write("cde").await;
    assert_eq!(first.answer().await.status(), 200);
    assert_eq!(post(&gateway, "third").await.status, 200);
}

#[tokio::test]
async fn a_filter_that_fails_at_a_body_closes_or_is_skipped() {
    let upstream = Upstream::echo().await;
    for (on_error, status) in [("closed", 503), ("open", 200)] {
        for harm in ["fail", "trap"] {
            for side in ["request", "response"] {
                let plugin = plugin_with("bodies", json!({ "on_error": on_error }));
                let filters = json!([{ "plugin": "bodies", "config": { side: harm } }]);
                let gateway = Gateway::start(filtered(upstream.address(), json!([plugin]), filters)).await;
                let answer = post(&gateway, "ab").await;
                assert_eq!(answer.status.as_u16(), status, "{harm} at a {side}, {on_error}");
                assert_eq!(answer.json()["body"].as_str(), (status == 200).then_some("ab"), "{harm} at a {side}");
                let phase = format!("{side}-body");
                let failures = format!(
                    r#"stile_plugin_calls_total{{plugin="bodies",revision="1",route="all",phase="{phase}",outcome="failure"}}"#
                );
                assert_eq!(gateway.admin().metric(&failures).await, 1);
            }
        }
    }
}

#[tokio::test]
async fn what_has_no_body_keeps_having_none() {
    let upstream = Upstream::start(|received| match received.target() {
        "/none" => Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/same" => Answer::Bytes(b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".to_vec()),
        _ => Answer::Echo,
    })
    .await;
    for plugins in ["bodies", "streams"] {
        let filters = json!([{ "plugin": plugins, "config": { "response": "double" } }]);
        let gateway = Gateway::start(filtered(upstream.address(), json!([plugin(plugins)]), filters)).await;
        let mut client = Raw::connect(gateway.address()).await;
        for (method, path, status) in [("GET", "/none", 204), ("GET", "/same", 304), ("HEAD", "/", 200)] {
            client.write(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let answer = client.answer_to(method).await;
            assert_eq!((answer.status(), answer.body.len()), (status, 0), "{method} {path}");
            assert_eq!(answer.head.get("content-length"), None, "nobody knows what GET would get");
        }
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 200, "the connection is sound");
    }
}

#[tokio::test]
async fn passing_bodies_are_changed_both_ways() {
    let upstream = Upstream::start(|received| match received.target() {
        "/chunks" => Answer::Chunks(vec![(Duration::ZERO, "one"), (Duration::ZERO, "two")]),
        _ => Answer::Echo,
    })
    .await;
    let fields = [("x-kept", "for later")];
    for (filter, sent) in [
        ("upper", "ABC"),
        ("double", "abcabc"),
        ("preface", "[for later]abc"),
        ("first", "Abc"),
        ("swallow", ""),
        ("idle", ""),
    ] {
        let gateway = Gateway::start(streams(&upstream, json!({ "request": filter }))).await;
        let mut client = Client::connect(gateway.address()).await;
        let answer = client.send(request("POST", "/", &fields, "abc")).await;
        if filter == "idle" {
            // Nothing comes of it, and it takes time.
            assert_eq!(answer.status, 503, "{filter}");
            continue;
        }
        assert_eq!(answer.json()["body"], sent, "{filter}");
        assert_eq!(upstream.last().framing, Framing::Chunked, "{filter}");
    }
    for (filter, told) in
        [("upper", "ONETWO"), ("double", "oneonetwotwo"), ("preface", "[for later]onetwo"), ("swallow", "")]
    {
        let gateway = Gateway::start(streams(&upstream, json!({ "response": filter }))).await;
        let answer = Client::connect(gateway.address()).await.send(with("/chunks", &fields)).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, told), "{filter}");
        let mut client = Client::http2(gateway.address()).await;
        assert_eq!(client.send(with("/chunks", &fields)).await.text(), told, "{filter} over HTTP/2");
    }
}

#[tokio::test]
async fn a_passing_body_that_fails_is_never_taken_for_a_whole_one() {
    // The first piece comes once the head is under way.
    let chunks = || Answer::Chunks(vec![(Duration::from_millis(300), "one"), (Duration::ZERO, "two")]);
    let upstream = Upstream::start(move |_| chunks()).await;
    for harm in ["early", "fail", "trap", "loop"] {
        let gateway = Gateway::start(streams(&upstream, json!({ "response": harm }))).await;
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await;
        if harm == "early" {
            assert_eq!(head.status(), 503, "{harm}: before the head is under way there is an answer");
        } else {
            assert_eq!((head.status(), head.framing_of_response("GET")), (200, Framing::Chunked), "{harm}");
            client.0.body(Framing::Chunked, |_| {}).await.expect_err("it is cut off");
        }
        let told = gateway.admin().get("/v1/errors").await.json()["items"][0].clone();
        assert_eq!(told["blame"], "plugin", "{harm}: {told}");

        let gateway = Gateway::start(streams(&upstream, json!({ "request": harm }))).await;
        assert_eq!(post(&gateway, "abc").await.status, 503, "{harm}");
    }
    // A filter that has neither read nor written can be skipped.
    let open = plugin_with("streams", json!({ "on_error": "open" }));
    let filters = json!([{ "plugin": "streams", "config": { "response": "early" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([open]), filters)).await;
    assert_eq!(gateway.get("/").await.text(), "onetwo");
}

#[tokio::test]
async fn a_filter_that_fails_before_it_waits_for_the_body_is_answered_for() {
    const TRIES: usize = 20;
    // The service's pieces come at once: a filter that reads them does not wait either.
    let upstream = Upstream::start(|_| Answer::text("one")).await;
    for harm in ["early", "late", "fail"] {
        let mut config = streams(&upstream, json!({ "response": harm }));
        config["plugins"][0]["limits"] = json!({ "deadline": "10s", "timeout": "60s" });
        let gateway = Gateway::start(config).await;
        for _ in 0..TRIES {
            let answer = Client::connect(gateway.address()).await.get("/").await;
            assert_eq!(answer.status, 503, "{harm}");
            let answer = Client::http2(gateway.address()).await.get("/").await;
            assert_eq!(answer.status, 503, "{harm} over HTTP/2");
        }
    }
}

#[tokio::test]
async fn fields_after_a_body_pass_through_the_filter() {
    let service = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-seen\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let upstream = Upstream::start(|_| Answer::BytesThenClose(service.into())).await;
    for stream in [Value::Null, json!("upper")] {
        let filter = json!({ "trailer": "x-seen", "response": stream });
        let gateway = Gateway::start(streams(&upstream, filter)).await;
        let mut client = Raw::connect(gateway.address()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n").await;
        let mut all = Vec::new();
        client.0.body(Framing::UntilClosed, |piece| all.extend_from_slice(piece)).await.expect("an end");
        let text = String::from_utf8_lossy(&all).to_ascii_lowercase();
        assert!(text.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\nx-seen: 1\r\n\r\n"), "{text}");
    }
}

/// On the built binary, so that this process does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_passes_a_filter_in_constant_memory() {
    const LENGTH: u64 = 256 << 20;
    const GROWTH: u64 = 32 << 20;
    let upstream = Upstream::start(|received| match received.method() {
        "GET" => Answer::Pattern(LENGTH),
        _ => Answer::Echo,
    })
    .await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = streams(&upstream, json!({ "request": "copy", "response": "copy" }));
    // Copying 64 KiB takes a millisecond where the gateway is not optimised, and tens of them where that is the first touch of a
    // huge page of a virtual machine.
    config["plugins"][0]["limits"] = json!({ "deadline": "200ms" });
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(Client::connect(gateway.address()).await.send(request("POST", "/", &[], "warm")).await.status, 200);
    let before = gateway.memory("VmRSS");
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.framing_of_response("GET"), Framing::Chunked);
    let mut check = Check::new();
    let read = client.0.body(Framing::Chunked, |piece| check.add(piece)).await;
    assert!(read.is_ok(), "{read:?}: {}", gateway.admin().get("/v1/errors").await.text());
    assert_eq!(check.right(), Some(LENGTH));
    client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n")).await;
    for block in Source::new(LENGTH) {
        client.write(block).await;
    }
    assert_eq!(client.answer().await.json()["body_length"], LENGTH);
    assert!(upstream.last().body_is_pattern);
    let growth = gateway.memory("VmHWM").saturating_sub(before);
    assert!(growth < GROWTH, "memory grew by {growth} bytes");
}
