//! Fields of answers that have no body or a part of one, where a filter changes the body.

use serde_json::json;
use stile_tests::{
    client::{Client, request, with},
    gateway::{Gateway, filtered},
    guest::plugin,
    upstream::{Answer, Upstream},
};

use super::{DESCRIBING, bodies, streams};

/// Fields that describe a body, in the order of the two lists below.
const SHOWN: [&str; 6] = ["etag", "accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"];
const UNCHANGED: [&str; 6] = ["\"strong\"", "bytes", "sha-256=:x:", "sha-256=:x:", "sha-256=x", "x"];
const CHANGED: [&str; 6] = ["W/\"strong\"", "", "", "", "", ""];

#[tokio::test]
async fn a_304_and_the_answer_to_head_have_the_fields_of_the_changed_body() {
    let upstream = Upstream::start(|received| {
        let fields: String = DESCRIBING.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // The comparison is weak (RFC 9110 §13.1.2).
        let is_known = received.head.get("if-none-match").is_some_and(|tag| tag.ends_with("\"strong\""));
        let (status, body) = match received.method() {
            _ if is_known => ("304 Not Modified", ""),
            "HEAD" => ("200 OK", ""),
            _ => ("200 OK", "body"),
        };
        Answer::Bytes(format!("HTTP/1.1 {status}\r\n{fields}content-length: 4\r\n\r\n{body}").into_bytes())
    })
    .await;
    for (config, fields, coding, lengths) in [
        (bodies(&upstream, json!({ "response": "pass" })), UNCHANGED, "x-none", ["4", "4", "4"]),
        (bodies(&upstream, json!({ "response": "fixed" })), CHANGED, "", ["5", "", ""]),
        (streams(&upstream, json!({ "response": "upper" })), CHANGED, "x-none", ["", "", ""]),
    ] {
        let gateway = Gateway::start(config.clone()).await;
        // On HTTP/1.1 the HTTP library leaves out the length of a 304.
        let mut client = Client::http2(gateway.address()).await;
        let whole = client.get("/").await;
        let same = client.send(with("/", &[("if-none-match", whole.header("etag"))])).await;
        let head = client.send(request("HEAD", "/", &[], "")).await;
        let filter = &config["routes"][0]["filters"][0];
        for ((answer, status), length) in [(&whole, 200), (&same, 304), (&head, 200)].into_iter().zip(lengths) {
            assert_eq!(answer.status.as_u16(), status, "{filter}");
            assert_eq!(SHOWN.map(|name| answer.header(name)), fields, "{filter}: {status}");
            let others = ["content-encoding", "content-length"].map(|name| answer.header(name));
            assert_eq!(others, [coding, length], "{filter}: {status}");
        }
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_length_where_a_filter_changes_a_body_of_the_gateway() {
    for (name, config, lengths) in [
        ("bodies", json!({ "response": "pass" }), ["15", "15"]),
        ("bodies", json!({ "response": "fixed" }), ["5", ""]),
        ("streams", json!({ "response": "upper" }), ["", ""]),
    ] {
        // The second filter answers, and the first meets its answer.
        let filters = json!([
            { "plugin": name, "config": config },
            { "plugin": "editor", "config": { "respond": 200 } },
        ]);
        let upstream = Upstream::echo().await;
        let config = filtered(upstream.address(), json!([plugin(name), plugin("editor")]), filters);
        let gateway = Gateway::start(config).await;
        let mut client = Client::http2(gateway.address()).await;
        for (method, length) in ["GET", "HEAD"].into_iter().zip(lengths) {
            let answer = client.send(request(method, "/", &[], "")).await;
            let got = (answer.status.as_u16(), answer.header("content-length"));
            assert_eq!(got, (200, length), "{name} {method}");
        }
    }
}

#[tokio::test]
async fn a_part_of_a_body_is_changed_like_a_whole_one_unless_a_filter_removes_range() {
    let upstream = Upstream::start(|received| {
        let mut fields: Vec<_> = DESCRIBING.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if received.head.get("range").is_none() {
            return Answer::Reply(200, fields, "bodybody".to_owned());
        }
        fields.push(("content-range", "bytes 0-3/8".to_owned()));
        Answer::Reply(206, fields, "body".to_owned())
    })
    .await;
    let range = || with("/", &[("range", "bytes=0-3")]);
    for (config, coding, length) in [
        (bodies(&upstream, json!({ "response": "upper" })), "", "4"),
        (streams(&upstream, json!({ "response": "upper" })), "x-none", ""),
    ] {
        let gateway = Gateway::start(config.clone()).await;
        let part = Client::connect(gateway.address()).await.send(range()).await;
        let filter = &config["routes"][0]["filters"][0];
        assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "BODY"), "{filter}");
        assert_eq!(SHOWN.map(|name| part.header(name)), CHANGED, "{filter}");
        let others = ["content-range", "content-encoding", "content-length"].map(|name| part.header(name));
        assert_eq!(others, ["bytes 0-3/8", coding, length], "{filter}");
    }
    let filters = json!([
        { "plugin": "add-headers", "config": { "request": { "remove": ["range"] } } },
        { "plugin": "streams", "config": { "response": "upper" } },
    ]);
    let config = filtered(upstream.address(), json!([plugin("add-headers"), plugin("streams")]), filters);
    let gateway = Gateway::start(config).await;
    let whole = Client::connect(gateway.address()).await.send(range()).await;
    assert_eq!((whole.status.as_u16(), whole.text().as_str()), (200, "BODYBODY"));
    assert_eq!(whole.header("content-range"), "");
}
