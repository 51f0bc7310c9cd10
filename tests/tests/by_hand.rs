//! Guests that break the rules below any language: each is contained, its exchange answered, its cause told.

use serde_json::{Value, json};
use stile_tests::{
    by_hand::{DROP, request_filter},
    client::{Client, get},
    gateway::{Gateway, filtered},
    upstream::Upstream,
};

const PROCEED: &str = "(call $drop (local.get $request)) (i32.const 1024)";
const METHODS: &str = r#"
    (import "stile:plugin/exchange@0.1.0" "[method]request.path" (func $path (param i32 i32)))
    (import "stile:plugin/exchange@0.1.0" "[method]response.status" (func $status (param i32) (result i32)))
    (import "stile:plugin/exchange@0.1.0" "[method]request.add-header"
        (func $add (param i32 i32 i32 i32 i32 i32)))
    (import "stile:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (data (i32.const 64) "x-many") (data (i32.const 80) "\ff\fe") (data (i32.const 96) "\0d\0ax: y")
    (global $kept (mut i32) (i32.const 0))"#;

fn config(upstream: &Upstream, limits: &Value) -> Value {
    let plugin = json!({ "name": "p", "limits": limits });
    filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "p" }]))
}

/// A filter of this phase, whose instances have these parts.
fn guest(phase: &str) -> Vec<u8> {
    request_filter(&["log"], &format!("{DROP}{METHODS}"), phase)
}

/// What it answers, and the cause that is told if it fails.
async fn tried(module: Vec<u8>, limits: Value) -> (u16, Value, Upstream) {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &limits)).await;
    let pushed = gateway.admin().push("p", module).await;
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    let mut status = 0;
    for _ in 0..3 {
        status = Client::connect(gateway.address()).await.send(get("/")).await.status.as_u16();
    }
    let told = gateway.admin().status().await["routes"][0]["filters"][0]["failures"].clone();
    (status, told, upstream)
}

#[tokio::test]
async fn one_that_keeps_the_rules_proceeds() {
    let (status, told, upstream) = tried(guest(PROCEED), json!({})).await;
    assert_eq!((status, told, upstream.count()), (200, json!({}), 3));
}

#[tokio::test]
async fn handles_are_no_numbers() {
    let kept = "(global.set $kept (local.get $request)) (i32.const 1024)";
    let later = "(if (i32.eqz (global.get $kept)) (then (global.set $kept (local.get $request)) (call $drop (local.get $request)))
                 (else (call $path (global.get $kept) (i32.const 2048)))) (i32.const 1024)";
    for (what, phase) in [
        ("kept", kept.to_owned()),
        ("forged", format!("(call $path (i32.const 12345) (i32.const 2048)) {PROCEED}")),
        ("of another kind", format!("(drop (call $status (local.get $request))) {PROCEED}")),
        ("dropped twice", format!("(call $drop (local.get $request)) {PROCEED}")),
        (
            "used after",
            "(call $drop (local.get $request)) (call $path (local.get $request) (i32.const 2048)) (i32.const 1024)"
                .to_owned(),
        ),
    ] {
        let (status, told, upstream) = tried(guest(&phase), json!({})).await;
        assert_eq!((status, told, upstream.count()), (503, json!({ "trap": 3 }), 0), "{what}");
    }
    // The number of the first call is that of the second, so only what is behind it tells them apart.
    let (status, _, _) = tried(guest(later), json!({})).await;
    assert!([200, 503].contains(&status));
}

#[tokio::test]
async fn texts_and_lists_are_what_they_say_or_nothing() {
    let huge = format!("(call $log (i32.const 2) (i32.const 0) (i32.const 0x7fffffff)) {PROCEED}");
    let beyond = format!("(call $log (i32.const 2) (i32.const 65530) (i32.const 100)) {PROCEED}");
    let no_text = format!("(call $log (i32.const 2) (i32.const 80) (i32.const 2)) {PROCEED}");
    let no_level = format!("(call $log (i32.const 99) (i32.const 64) (i32.const 2)) {PROCEED}");
    let nowhere = "(call $drop (local.get $request)) (i32.const 0x7ffffff0)";
    let no_verdict = "(call $drop (local.get $request)) (i32.store8 (i32.const 1028) (i32.const 99)) (i32.const 1024)";
    let crooked = "(call $drop (local.get $request)) (i32.const 1025)";
    for phase in [&huge, &beyond, &no_text, &no_level, nowhere, no_verdict, crooked] {
        let (status, told, upstream) = tried(guest(phase), json!({})).await;
        assert_eq!((status, told, upstream.count()), (503, json!({ "trap": 3 }), 0), "{phase}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_fields_are_refused_one_by_one() {
    let add = |name: &str| {
        format!(
            "(local $n i32) (local.set $n (i32.const 100000))
             (loop $again
                (call $add (local.get $request) {name} (i32.const 64) (i32.const 6) (i32.const 2048))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             {PROCEED}"
        )
    };
    let limits = json!({ "deadline": "30s", "timeout": "30s" });
    let (status, _, upstream) = tried(guest(&add("(i32.const 64) (i32.const 6)")), limits.clone()).await;
    let seen = upstream.last().head.all("x-many").count();
    assert_eq!((status, seen), (200, 256), "as many as one call may make");
    // With what no field may have in its name.
    let (status, _, upstream) = tried(guest(&add("(i32.const 96) (i32.const 6)")), limits).await;
    assert_eq!((status, upstream.last().head.all("x").count()), (200, 0));
}

#[tokio::test]
async fn tables_and_memories_grow_up_to_their_limits() {
    let grow_table = "(table $t 1 funcref)";
    let table = format!(
        "(loop $again (br_if $again (i32.ge_s (table.grow $t (ref.null func) (i32.const 1000)) (i32.const 0)))) {PROCEED}"
    );
    let memory =
        format!("(loop $again (br_if $again (i32.ge_s (memory.grow (i32.const 10)) (i32.const 0)))) {PROCEED}");
    for (phase, cause) in [(table, "table"), (memory, "memory")] {
        let module = request_filter(&["log"], &format!("{DROP}{METHODS}{grow_table}"), &phase);
        let (status, told, _) = tried(module, json!({})).await;
        assert_eq!((status, told), (503, json!({ (cause): 3 })), "{cause}");
    }
}

#[tokio::test]
async fn an_allocator_that_lies_harms_nobody() {
    let upstream = Upstream::echo().await;
    for lie in ["(i32.const 0x7ffffff0)", "(i32.const 3)", "(unreachable)", "(loop $again (br $again)) (unreachable)"] {
        let text = format!(
            r#"(module {DROP}{METHODS} (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {lie})
                (func (export "stile:plugin/request-filter@0.1.0#on-request") (param $request i32) (result i32)
                    (call $path (local.get $request) (i32.const 2048)) {PROCEED}))"#
        );
        let module = stile_tests::by_hand::module(&["exchange", "log"], &["request-filter"], &text);
        let gateway = Gateway::start(config(&upstream, &json!({}))).await;
        assert_eq!(gateway.admin().push("p", module).await.status, 201);
        let status = gateway.get("/").await.status.as_u16();
        // What a text is put into without harm may be anywhere.
        assert!(status == 503 || lie.contains("const 3"), "{lie}: {status}");
    }
}

#[tokio::test]
async fn what_never_starts_is_never_live() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, &json!({ "timeout": "200ms" }))).await;
    let start = "(func $start (loop $again (br $again))) (start $start)";
    let grows = "(func $start (drop (memory.grow (i32.const 1000)))) (start $start)";
    for start in [start, grows, "(func $start (unreachable)) (start $start)"] {
        let module = request_filter(&["log"], &format!("{DROP}{METHODS}{start}"), PROCEED);
        let refused = gateway.admin().push("p", module).await;
        assert_eq!(refused.status, 422, "{start}: {}", refused.text());
        let text = refused.text();
        assert!(text.contains("can start") || text.contains("was not ready in time"), "{text}");
    }
    assert_eq!(gateway.admin().push("p", guest(PROCEED)).await.status, 201);
    assert_eq!(gateway.get("/").await.status, 200);
}
