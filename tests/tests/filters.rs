//! Filters on routes: what they may do to an exchange, in which order, and what becomes of it when they fail.

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, request, with},
    gateway::{Gateway, filtered, service},
    guest::{self, plugin, plugin_with},
    raw::Raw,
    upstream::Upstream,
};

fn stamp(mark: &str) -> Value {
    json!({ "plugin": "stamp", "config": { "mark": mark } })
}

fn editor(config: Value) -> Value {
    json!({ "plugin": "editor", "config": config })
}

/// A gateway with every guest, these filters, and one worker, so that instances are told apart by number.
async fn gateway(upstream: &Upstream, filters: Value) -> Gateway {
    let plugins: Vec<Value> = ["stamp", "editor", "keeper", "require-token", "add-headers"].map(plugin).to_vec();
    let mut config = filtered(upstream.address(), json!(plugins), filters);
    config["workers"] = json!(1);
    Gateway::start(config).await
}

#[tokio::test]
async fn requests_meet_filters_in_order_and_responses_in_reverse() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([stamp("a"), stamp("b"), stamp("c")])).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.json()["headers"]["x-stamp"], json!(["0/a", "0/b", "0/c"]));
    assert_eq!(answer.all("x-stamp"), ["0/c", "0/b", "0/a"]);
}

#[tokio::test]
async fn a_filter_that_is_done_is_called_no_more() {
    let upstream = Upstream::echo().await;
    let edits =
        |done: bool| editor(json!({ "headers": { "x-up": "1" }, "response_headers": { "x-down": "1" }, "done": done }));
    for (done, down) in [(false, vec!["1"]), (true, vec![])] {
        let gateway = gateway(&upstream, json!([stamp("a"), edits(done), stamp("b")])).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.json()["headers"]["x-up"], "1");
        assert_eq!(answer.all("x-down"), down);
        assert_eq!(answer.all("x-stamp"), ["0/b", "0/a"], "its neighbours are");
    }
}

#[tokio::test]
async fn one_module_has_a_configuration_per_route() {
    let upstream = Upstream::echo().await;
    let route = |name: &str| json!({ "name": name, "match": { "path": format!("/{name}") }, "service": "echo", "filters": [stamp(name)] });
    let config = json!({
        "plugins": [plugin("stamp")],
        "services": [service("echo", &[upstream.address()])],
        "routes": [route("one"), route("two")],
    });
    let gateway = Gateway::start(config).await;
    assert_eq!(gateway.get("/one").await.header("x-stamp"), "0/one");
    assert_eq!(gateway.get("/two").await.header("x-stamp"), "0/two");
}

#[tokio::test]
async fn an_early_answer_contacts_nobody_and_meets_the_filters_before_it() {
    let upstream = Upstream::echo().await;
    let answering = editor(json!({ "respond": 418, "respond_headers": { "x-own": "1" } }));
    let gateway = gateway(&upstream, json!([stamp("before"), answering, stamp("after")])).await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (418, "from the editor"));
    assert_eq!((answer.header("x-own"), answer.header("content-length")), ("1", "15"));
    assert_eq!(answer.all("x-stamp"), ["0/before"]);
    assert_eq!(answer.header("x-request-id").len(), 32);
    assert_eq!(upstream.count(), 0);
}

/// RFC 9112 §9.6: closed with bytes unread, the connection would be reset, and the answer lost with it.
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([editor(json!({ "respond": 418 }))])).await;
    for _ in 0..10 {
        let mut client = Raw::connect(gateway.address()).await;
        let length = 4 << 20;
        client.write(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
        // It may be closed before all of it is sent.
        let _ = client.try_write(vec![b'x'; length]).await;
        assert_eq!(client.answer().await.status(), 418);
    }
}

#[tokio::test]
async fn a_late_answer_replaces_the_response() {
    let upstream = Upstream::echo().await;
    let gateway =
        gateway(&upstream, json!([stamp("before"), editor(json!({ "respond_late": 410 })), stamp("after")])).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (410, "from the editor"));
        assert_eq!(
            answer.all("x-stamp"),
            ["0/before"],
            "what the later filter put on the old response is gone with it"
        );
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([editor(json!({ "respond": 204 }))])).await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.header("content-length")), (204, 0, ""));
}

#[tokio::test]
async fn every_part_of_both_heads_can_be_edited() {
    let upstream = Upstream::echo().await;
    let edits = json!({
        "method": "PUT", "path": "/a/../b//%7Ec", "query": "q=1", "headers": { "X-New": "1", "x-old": "2" },
        "remove": ["x-gone", "content-type"], "status": 299, "response_headers": { "x-late": "3" },
    });
    let gateway = gateway(&upstream, json!([editor(edits)])).await;
    let asked = request("POST", "/old?x=y", &[("x-old", "1"), ("x-gone", "1")], "body");
    let answer = Client::connect(gateway.address()).await.send(asked).await;
    let seen = answer.json();
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["body_length"]),
        (&json!("PUT"), &json!("/b/~c?q=1"), &json!(4))
    );
    assert_eq!((&seen["headers"]["x-new"], &seen["headers"]["x-old"]), (&json!("1"), &json!("2")));
    assert_eq!(seen["headers"]["x-gone"], Value::Null);
    assert_eq!((answer.status.as_u16(), answer.header("x-late"), answer.header("content-type")), (299, "3", ""));
    assert_eq!((answer.header("x-refused"), &seen["headers"]["x-refused"]), ("", &Value::Null));
}

#[tokio::test]
async fn the_query_can_be_removed() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([editor(json!({ "query": "" }))])).await;
    assert_eq!(gateway.get("/x?y=1").await.json()["target"], "/x");
}

#[tokio::test]
async fn what_a_filter_may_not_edit_stays_as_it_was() {
    let upstream = Upstream::echo().await;
    let edits = [
        (json!({ "method": "a b" }), "\"a b\" is not a method"),
        (json!({ "path": "b" }), "path does not start with"),
        (json!({ "path": "/a%2Fb" }), "the path has an encoded slash, backslash or NUL"),
        (
            json!({ "path": "/a?x=1" }),
            "the path has a \"?\", which only its encoded form may be; a query is set by itself",
        ),
        (json!({ "path": "/a#b" }), "the path has a \"#\""),
        (json!({ "method": "CONNECT" }), "a plugin cannot make it a CONNECT"),
        (json!({ "query": "a#b" }), "is not a query: encode spaces"),
        (json!({ "query": "a b" }), "is not a query: encode spaces"),
        (json!({ "headers": { "x y": "1" } }), "\"x y\" is not a field name"),
        (json!({ "headers": { "x": "1\r\ny: 2" } }), "has a character that no field may have"),
        (json!({ "headers": { "Host": "evil" } }), "header host is the gateway's to write"),
        (json!({ "headers": { "content-length": "1" } }), "header content-length is the gateway's to write"),
        (json!({ "headers": { "transfer-encoding": "x" } }), "header transfer-encoding is the gateway's to write"),
        (json!({ "headers": { "connection": "close" } }), "header connection is the gateway's to write"),
        (json!({ "many": 300 }), "256 edits by one call"),
    ];
    for (edit, reason) in edits {
        let gateway = gateway(&upstream, json!([editor(edit.clone())])).await;
        let answer = gateway.get("/x?y=1").await;
        let seen = answer.json();
        if edit["many"] == 300 {
            assert_eq!(answer.status, 503, "the field that was to tell it did not fit either");
            continue;
        }
        assert_eq!((&seen["method"], &seen["target"]), (&json!("GET"), &json!("/x?y=1")), "{edit}");
        assert_eq!((&seen["headers"]["host"], &seen["headers"]["connection"]), (&json!("stile.test"), &Value::Null));
        let refused = seen["headers"]["x-refused"].as_str().unwrap_or_default();
        assert!(!refused.is_empty() && refused.contains(reason), "{edit}: {refused:?}");
    }
}

#[tokio::test]
async fn an_answer_that_may_not_be_given_is_a_failure() {
    let upstream = Upstream::echo().await;
    for answer in [
        json!({ "respond": 101 }),
        json!({ "respond": 42 }),
        json!({ "respond": 200, "respond_headers": { "connection": "x" } }),
    ] {
        let gateway = gateway(&upstream, json!([editor(answer.clone())])).await;
        assert_eq!(gateway.get("/").await.status, 503, "{answer}");
    }
    let gateway = gateway(&upstream, json!([editor(json!({ "status": 101 }))])).await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-refused")), (200, "101 is not a status from 200 to 599"));
}

#[tokio::test]
async fn a_failed_call_is_undone_and_answered_as_the_plugin_is_set() {
    let upstream = Upstream::echo().await;
    let failing = json!({
        "fail": true, "method": "PUT", "path": "/new", "query": "q", "many": 10,
        "headers": { "x-new": "1", "x-two": "3" }, "remove": ["x-old", "x-two"],
    });
    for (on_error, status) in [("closed", 503), ("open", 200)] {
        let plugins = json!([plugin("stamp"), plugin_with("editor", json!({ "on_error": on_error }))]);
        let filters = json!([stamp("before"), editor(failing.clone()), stamp("after")]);
        let gateway = Gateway::start(filtered(upstream.address(), plugins, filters)).await;
        let asked = with("/old", &[("x-old", "1"), ("x-two", "1"), ("x-two", "2")]);
        let answer = Client::connect(gateway.address()).await.send(asked).await;
        assert_eq!(answer.status, status);
        if on_error == "open" {
            let seen = answer.json();
            assert_eq!((&seen["method"], &seen["target"]), (&json!("GET"), &json!("/old")));
            let field = |name: &str| seen["headers"][name].clone();
            assert_eq!((field("x-new"), field("x-many")), (Value::Null, Value::Null));
            assert_eq!((field("x-old"), field("x-two")), (json!("1"), json!(["1", "2"])));
            assert_eq!(answer.all("x-stamp"), ["0/after", "0/before"]);
        } else {
            assert_eq!(answer.all("x-stamp"), ["0/before"], "the gateway's own answer meets the filters that ran");
            assert_eq!(upstream.count(), 0);
        }
    }
}

#[tokio::test]
async fn state_is_kept_for_the_response_of_the_same_exchange_only() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([{ "plugin": "keeper" }])).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.send(with("/one", &[("x-keep", "1")])).await.header("x-kept"), "/one");
    assert_eq!(client.get("/two").await.header("x-kept"), "nothing");
    assert_eq!(client.send(with("/three", &[("x-keep", "1"), ("x-padding", "4000")])).await.header("x-kept"), "/three");
    assert_eq!(client.send(with("/four", &[("x-keep", "1"), ("x-padding", "4096")])).await.status, 503);
    assert_eq!(client.get("/five").await.header("x-kept"), "nothing");
}

#[tokio::test]
async fn an_instance_serves_many_exchanges_or_one_call_as_it_is_set() {
    let upstream = Upstream::echo().await;
    for (isolation, calls) in [("pooled", ["1", "2", "3"]), ("request", ["1", "1", "1"])] {
        let plugins = json!([plugin_with("keeper", json!({ "isolation": isolation }))]);
        let mut config = filtered(upstream.address(), plugins, json!([{ "plugin": "keeper" }]));
        config["workers"] = json!(1);
        let gateway = Gateway::start(config).await;
        let mut client = Client::connect(gateway.address()).await;
        for count in calls {
            assert_eq!(client.get("/").await.json()["headers"]["x-calls"], count, "{isolation}");
        }
    }
}

#[tokio::test]
async fn the_sample_plugins_do_what_they_are_for() {
    let upstream = Upstream::echo().await;
    let edits = json!({ "request": { "set": { "x-set": "1" } }, "response": { "add": { "x-add": "2" }, "remove": ["content-type"] } });
    let filters = json!([
        { "plugin": "require-token", "config": { "tokens": ["good"] } },
        { "plugin": "add-headers", "config": edits },
    ]);
    let gateway = gateway(&upstream, filters).await;
    let mut client = Client::connect(gateway.address()).await;
    let refused = client.send(with("/", &[("authorization", "Bearer bad")])).await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate"), upstream.count()), (401, "Bearer", 0));
    let allowed = client.send(with("/", &[("authorization", "Bearer good")])).await;
    assert_eq!((allowed.status.as_u16(), &allowed.json()["headers"]["x-set"]), (200, &json!("1")));
    assert_eq!((allowed.header("x-add"), allowed.header("content-type")), ("2", ""));
}

#[tokio::test]
async fn a_plugin_file_that_changes_is_the_next_revision_and_a_broken_one_is_not() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("stamp.wasm");
    let write = |bytes: &[u8]| {
        let draft = file.with_extension("draft");
        std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, &file)).expect("the folder is ours");
    };
    write(&guest::stamp(1));
    let config =
        |mark: &str| filtered(upstream.address(), json!([{ "name": "stamp", "file": file }]), json!([stamp(mark)]));
    let gateway = Gateway::start(config("a")).await;
    assert_eq!(gateway.get("/").await.header("x-stamp"), "1/a");
    write(b"\0asm\x01\0\0\0broken");
    stile_tests::wait::until("the broken file is refused", async || gateway.app().control().last_refused()).await;
    assert_eq!(gateway.get("/").await.header("x-stamp"), "1/a");
    gateway.rewrite(config("b")).await;
    assert_eq!(gateway.get("/").await.header("x-stamp"), "1/b", "the rest of a configuration goes live all the same");
    let told = async || gateway.app().control().last_refused();
    stile_tests::wait::until("the broken file is still told of", told).await;
    write(&guest::stamp(2));
    stile_tests::wait::until("the new file is live", async || {
        (gateway.get("/").await.header("x-stamp") == "2/b").then_some(())
    })
    .await;
    let silent = async || gateway.app().control().last_refused().is_none().then_some(());
    stile_tests::wait::until("nothing is wrong any more", silent).await;
}

#[tokio::test]
async fn there_may_be_more_configurations_than_instances() {
    // The engine of the harness has room for a thousand.
    const ROUTES: usize = 1100;
    let upstream = Upstream::echo().await;
    let route = |n: usize| {
        let name = format!("r{n}");
        json!({ "name": name, "match": { "path": format!("/{n}") }, "service": "echo", "filters": [stamp(&name)] })
    };
    let gateway = Gateway::start(json!({
        "plugins": [plugin("stamp")],
        "services": [service("echo", &[upstream.address()])],
        "routes": (0..ROUTES).map(route).collect::<Vec<_>>(),
    }))
    .await;
    for n in [0, ROUTES - 1] {
        assert_eq!(gateway.get(&format!("/{n}")).await.header("x-stamp"), format!("0/r{n}"));
    }
}
