//! Bodies of responses that wait for their turn, while as many pass a filter as may.

use serde_json::json;
use stile_tests::{
    client::Client,
    gateway::{Gateway, filtered},
    guest::plugin_with,
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::{soon, until},
    wire::Framing,
};

/// Starts a gateway whose filter passes one body at a time, and a client whose answer passes until the gate is open.
async fn passing(gate: &Gate, wait: &str) -> (Upstream, Gateway, Raw) {
    let gate = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/first" => {
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".to_vec();
            Answer::BytesInTwo(half, gate.clone(), b"cde".to_vec())
        }
        _ => Answer::text("another"),
    })
    .await;
    let limits = json!({ "instances": 3, "streams": 1, "streams_per_client": 100, "instance_wait": wait });
    let plugin = plugin_with("streams", json!({ "limits": limits }));
    let filters = json!([{ "plugin": "streams", "config": { "response": "copy" } }]);
    let mut config = filtered(upstream.address(), json!([plugin]), filters);
    // The first answer rests for as long as the others take.
    config["services"][0]["progress"] = json!({ "idle_timeout": "10m", "min_rate": "0B" });
    let gateway = Gateway::start(config).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("GET /first HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((head.status(), head.framing_of_response("GET")), (200, Framing::Chunked));
    (upstream, gateway, client)
}

/// Reads the rest of a chunked answer.
async fn rest(client: &mut Raw) -> String {
    let mut bytes = Vec::new();
    let read = client.0.body(Framing::Chunked, |piece| bytes.extend_from_slice(piece));
    soon("the rest of the body", read).await.expect("a whole body");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
async fn a_body_of_a_response_waits_for_its_turn_when_as_many_pass_as_may() {
    let gate = Gate::new();
    let (_upstream, gateway, mut first) = passing(&gate, "10m").await;
    let mut other = Client::connect(gateway.address()).await;
    let second = tokio::spawn(async move { other.get("/second").await });
    let answers = r#"stile_upstream_attempts_total{service="echo",outcome="answered"}"#;
    until("the second answer is there", async || (gateway.admin().metric(answers).await == 2).then_some(())).await;
    assert!(!second.is_finished(), "the first body passes still");
    gate.cancel();
    assert_eq!(rest(&mut first).await, "abcde");
    let second = second.await.expect("it does not panic");
    assert_eq!((second.status.as_u16(), second.text().as_str()), (200, "another"));
}

#[tokio::test]
async fn a_body_of_a_response_that_finds_no_turn_is_refused_with_the_name_of_the_limit() {
    let gate = Gate::new();
    let (_upstream, gateway, mut first) = passing(&gate, "20ms").await;
    let refused = gateway.get("/second").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["detail"]), (503, &json!("a filter is overloaded")));
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("1 bodies pass already, as many as limits.streams allows"), "{errors}");
    let overruns = r#"stile_plugin_overruns_total{plugin="streams",route="all",cause="instances"}"#;
    assert_eq!(gateway.admin().metric(overruns).await, 1);
    gate.cancel();
    assert_eq!(rest(&mut first).await, "abcde");
    assert_eq!(gateway.get("/third").await.text(), "another");
}
