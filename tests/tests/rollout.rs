//! Revisions that come by and by, are pinned, and are taken back by themselves.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stile_tests::{
    admin::Admin,
    by_hand::{self, DROP},
    client::{Client, request, with},
    gateway::{Gateway, filtered, service},
    guest,
    phases::{self, ANSWER, PHASES},
    process::Stile,
    raw::{Raw, RawAnswer},
    upstream::{Answer, Gate, Upstream},
    wait::until,
};
use tokio::time::sleep;

/// A plugin `p` that is pushed, on a route for everything.
fn config(upstream: &Upstream, rollout: Value, filter: Value) -> Value {
    let plugin = json!({ "name": "p", "rollout": rollout });
    filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "p", "config": filter }]))
}

async fn push(admin: &Admin, module: impl Into<bytes::Bytes>, query: &str) -> Value {
    let path = format!("/v1/plugins/p/revisions{query}");
    let secret = Some(stile_tests::admin::SECRET);
    let pushed = admin.call("PUT", &path, secret, module).await;
    assert!(pushed.status.is_success(), "{}", pushed.text());
    pushed.json()
}

async fn rollout(admin: &Admin, body: Value) -> u16 {
    admin.send("POST", "/v1/plugins/p/rollout", body).await.status.as_u16()
}

/// Of each revision, the share of exchanges it gets and how many are on it.
async fn shares(admin: &Admin) -> BTreeMap<u64, (u64, u64)> {
    let told = admin.get("/v1/plugins/p/revisions").await.json();
    let items = told["items"].as_array().expect("items").iter();
    let number = |item: &Value, key: &str| item[key].as_u64().unwrap_or_else(|| panic!("no {key} in {item}"));
    items.map(|item| (number(item, "revision"), (number(item, "percent"), number(item, "exchanges")))).collect()
}

/// Which revision of `stamp` answers a request of this user.
async fn revision(client: &mut Client, user: &str) -> String {
    let answer = client.send(with("/", &[("x-user", user)])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-stamp").split('/').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_exchanges_gets_the_new_revision_always_the_same_ones() {
    const USERS: usize = 2000;
    let upstream = Upstream::start(|_| Answer::text("ok")).await;
    let gateway = Gateway::start(config(&upstream, json!({ "key": "header:x-user" }), json!({ "mark": "m" }))).await;
    let admin = gateway.admin();
    push(&admin, guest::stamp(1), "").await;
    assert_eq!(push(&admin, guest::stamp(2), "?percent=10").await["revision"], 2);
    assert_eq!(shares(&admin).await, BTreeMap::from([(1, (90, 0)), (2, (10, 0))]));
    let mut client = Client::connect(gateway.address()).await;
    let mut seen = Vec::new();
    for user in 0..USERS {
        seen.push(revision(&mut client, &format!("user-{user}")).await);
    }
    let new = seen.iter().filter(|revision| *revision == "2").count();
    assert!((140..=260).contains(&new), "{new} of {USERS}");
    // On another connection, which another worker may serve.
    let mut client = Client::connect(gateway.address()).await;
    for user in (0..USERS).step_by(7) {
        assert_eq!(revision(&mut client, &format!("user-{user}")).await, seen[user], "user {user}");
    }
    // Whoever had it has it still when it is for more.
    assert_eq!(rollout(&admin, json!({ "revision": 2, "percent": 50 })).await, 200);
    for user in (0..USERS).filter(|user| seen[*user] == "2") {
        assert_eq!(revision(&mut client, &format!("user-{user}")).await, "2");
    }
    assert_eq!(rollout(&admin, json!({ "revision": 2 })).await, 200);
    assert_eq!(shares(&admin).await, BTreeMap::from([(1, (0, 0)), (2, (100, 0))]));
    assert_eq!(revision(&mut client, "anybody").await, "2");
    assert_eq!(rollout(&admin, json!({ "revision": 3 })).await, 404);
    assert_eq!(rollout(&admin, json!({ "revision": 2, "percent": 101 })).await, 422);
}

/// The hostile guest, as a module with a digest of its own that does no harm unless it is told to.
fn hostile() -> bytes::Bytes {
    guest::module("hostile")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_too_often_is_taken_back_and_clients_see_no_more_than_the_budget() {
    let upstream = Upstream::echo().await;
    let rollout = json!({ "key": "header:x-user", "failures": 5, "within": "1h" });
    // Both take a configuration of nothing.
    let gateway = Gateway::start(config(&upstream, rollout, Value::Null)).await;
    let admin = gateway.admin();
    for percent in [100, 50] {
        push(&admin, guest::module("keeper"), "").await;
        push(&admin, hostile(), &format!("?percent={percent}")).await;
        let requests = (0..200).map(async |n: usize| {
            let user = format!("user-{n}");
            let mut client = Client::connect(gateway.address()).await;
            client.send(with("/", &[("x-do", "trap"), ("x-user", &user)])).await.status.as_u16()
        });
        let statuses = futures_util::future::join_all(requests).await;
        let failed = statuses.iter().filter(|status| **status == 503).count();
        assert_eq!(failed, 5, "of {percent} %: the budget, and not one more");
        assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
        until("it is taken back", async || {
            let told = admin.get("/v1/plugins/p/revisions").await.json();
            (told["taken_back"]["revision"] == 2 && told["items"][0]["percent"] == 100).then_some(())
        })
        .await;
        let told = admin.get("/v1/audit").await.json()["items"][0].clone();
        assert_eq!((&told["by"], &told["action"]), (&json!("error budget"), &json!("rollout")), "{told}");
        assert_eq!(gateway.get("/").await.status, 200);
    }
}

/// A plugin with the phase `tick` alone, which does nothing.
const TICK: &str = include_str!("../../gateway/src/plugin/tick.wat");

/// A plugin with the phase `tick` alone, which does this.
fn ticking(instruction: &str) -> Vec<u8> {
    wat::parse_str(TICK.replace("i32.const 0", instruction)).expect("a component")
}

#[tokio::test]
async fn failures_of_ticks_take_a_revision_back() {
    let upstream = Upstream::echo().await;
    let mut config = config(&upstream, json!({ "failures": 3, "within": "1h" }), Value::Null);
    config["plugins"][0]["tick"] = json!("10ms");
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    // A revision that gets one exchange in a hundred is called as well.
    for query in ["", "?percent=1"] {
        push(&admin, ticking("i32.const 0"), "").await;
        push(&admin, ticking("unreachable"), query).await;
        let back = BTreeMap::from([(1, (100, 0)), (2, (0, 0))]);
        until("it is taken back", async || (shares(&admin).await == back).then_some(())).await;
        let told = admin.get("/v1/plugins/p/revisions").await.json();
        assert_eq!(told["taken_back"], json!({ "revision": 2, "failures": 3, "at": told["taken_back"]["at"] }));
    }
}

#[tokio::test]
async fn a_revision_that_gets_no_exchanges_is_not_ticked() {
    let upstream = Upstream::echo().await;
    let mut config = config(&upstream, json!({ "within": "1h" }), Value::Null);
    config["plugins"][0]["tick"] = json!("5ms");
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    let ticks = async |revision: u32| {
        let labels =
            |outcome: &str| format!(r#"plugin="p",revision="{revision}",route="",phase="tick",outcome="{outcome}""#);
        let metric = |outcome: &str| format!("stile_plugin_calls_total{{{}}}", labels(outcome));
        admin.metric(&metric("proceed")).await + admin.metric(&metric("failure")).await
    };
    push(&admin, ticking("unreachable"), "").await;
    until("the first is ticked", async || (ticks(1).await > 0).then_some(())).await;
    push(&admin, ticking("i32.const 0"), "").await;
    // A tick of the first may have been under way.
    until("the second is ticked", async || (ticks(2).await > 1).then_some(())).await;
    let (before, second) = (ticks(1).await, ticks(2).await);
    until("the second is ticked on", async || (ticks(2).await > second + 10).then_some(())).await;
    assert_eq!(ticks(1).await, before);
}

#[tokio::test]
async fn failures_of_each_phase_take_a_revision_back() {
    const FAILURES: u64 = 3;
    let upstream = Upstream::start(|_| Answer::Bytes(ANSWER.as_bytes().to_vec())).await;
    let config = |failing: &str| {
        let used = json!({ "plugin": "p", "config": { "case": failing, "verdicts": { failing: "fail" } } });
        let mut echo = service("echo", &[upstream.address()]);
        echo["balance"] = used.clone();
        json!({
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": [used] }],
            "plugins": [{ "name": "p", "allow": ["metrics"], "limits": { "metrics": 1000 },
                "rollout": { "failures": FAILURES, "within": "1h" } }],
            "services": [echo],
            "routes": [{ "name": "all", "service": "echo" }],
        })
    };
    let gateway = Gateway::start(config("log")).await;
    let admin = gateway.admin();
    let good = guest::module("phases");
    // An empty custom section of the name "x" gives the module another digest.
    let trial = [&good[..], &[0, 2, 1, b'x']].concat();
    push(&admin, good, "").await;
    for failing in PHASES {
        gateway.rewrite(config(failing)).await;
        push(&admin, trial.clone(), "").await;
        assert_eq!(shares(&admin).await.values().map(|share| share.0).collect::<Vec<_>>(), [0, 100]);
        let mut exchanges = 0;
        until(failing, async || {
            if exchanges < FAILURES {
                phases::send(gateway.address()).await;
                exchanges += 1;
            }
            (shares(&admin).await.get(&1)?.0 == 100).then_some(())
        })
        .await;
        assert_eq!(exchanges, FAILURES, "{failing}: taken back too early");
    }
}

/// A plugin that takes some seconds to compile: many functions with many locals and blocks.
fn laborious() -> Vec<u8> {
    let locals = "i64 ".repeat(60);
    let step = |n: usize| {
        let (to, from) = (n % 60, (n * 7 + 3) % 60);
        format!("block local.get {from} i64.eqz br_if 0 local.get {from} local.get {to} i64.mul local.set {to} end ")
    };
    let body: String = (0..60).map(step).collect();
    let functions = format!("(func (local {locals}) {body})").repeat(200);
    let text = TICK.replace("(core module $m", &format!("(core module $m {functions}"));
    wat::parse_str(text).expect("a component")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
async fn other_changes_go_live_while_a_push_compiles() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, json!({}), Value::Null)).await;
    let admin = gateway.admin();
    let other = gateway.admin();
    let module = laborious();
    let begun = Instant::now();
    let pushed = tokio::spawn(async move { push(&other, module, "").await });
    let mut changes = 0;
    let mut longest = Duration::ZERO;
    while !pushed.is_finished() {
        let consumer = format!("/v1/consumers/c{changes}");
        let sent = Instant::now();
        assert!(admin.send("PUT", &consumer, json!({})).await.status.is_success());
        longest = longest.max(sent.elapsed());
        changes += 1;
    }
    assert_eq!(pushed.await.expect("it does not panic")["revision"], 1);
    // A change that waits for a compilation takes nearly as long as the push, on a slow machine as on a fast one.
    let push = begun.elapsed();
    assert!(longest < push / 2, "one of {changes} changes took {longest:?} of the {push:?} that a module compiled");
}

#[tokio::test]
async fn one_push_compiles_at_a_time_and_makes_room_for_workers() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), config(&upstream, json!({}), Value::Null)).await;
    let module = laborious();
    let pushes = [0, 1, 2].map(|number| {
        let (admin, module) = (gateway.admin(), [&module[..], &[0, 2, 1, b'a' + number]].concat());
        async move { push(&admin, module, "").await }
    });
    let mut seen = Vec::new();
    let watching = async {
        loop {
            seen.push(gateway.niceness("stile-compiler"));
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(pushes) => {}
        () = watching => {}
    }
    // A thread begins with the niceness of the gateway, and one that ends may still be there when the next one begins.
    let own = gateway.niceness("stile")[0];
    let nice = seen.iter().filter(|threads| **threads == [own.max(1)]).count();
    assert!(nice > seen.len() / 2, "{seen:?}");
}

#[tokio::test]
async fn a_revision_that_has_lasted_is_the_one_to_go_back_to() {
    let upstream = Upstream::echo().await;
    let brief = json!({ "failures": 1, "within": "1s" });
    let gateway = Gateway::start(config(&upstream, brief, json!({ "mark": "m" }))).await;
    let admin = gateway.admin();
    push(&admin, guest::stamp(1), "").await;
    push(&admin, guest::stamp(2), "").await;
    let stays = async || (admin.get("/v1/audit").await.json()["items"][0]["by"] == "rollout").then_some(());
    until("it has lasted", stays).await;
    assert_eq!(shares(&admin).await, BTreeMap::from([(1, (0, 0)), (2, (100, 0))]));
    let running = gateway.app().control().view().revisions["p"].clone();
    assert_eq!((running.revision.number, running.trial.is_none()), (2, true));
}

#[tokio::test]
async fn a_plugin_that_is_pinned_is_changed_by_rollouts_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, json!({}), json!({ "mark": "m" }))).await;
    let (admin, mut client) = (gateway.admin(), Client::connect(gateway.address()).await);
    push(&admin, guest::stamp(1), "").await;
    assert_eq!(rollout(&admin, json!({ "revision": 1, "pin": true })).await, 200);
    assert_eq!(push(&admin, guest::stamp(2), "").await["revision"], 2);
    assert_eq!(revision(&mut client, "").await, "1", "it is only stored");
    let told = admin.get("/v1/plugins/p/revisions").await.json();
    assert_eq!((&told["pinned"], &told["items"][1]["active"]), (&json!(true), &json!(false)));
    assert_eq!(rollout(&admin, json!({ "revision": 2, "pin": false })).await, 200);
    assert_eq!(revision(&mut client, "").await, "2");
    push(&admin, guest::stamp(3), "").await;
    assert_eq!(revision(&mut client, "").await, "3");
}

#[tokio::test]
async fn exchanges_stay_on_the_revision_that_they_began_with_and_are_counted_there() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |received| match received.target() {
        "/late" => Answer::Behind(behind.clone(), Box::new(Answer::text("late"))),
        _ => Answer::text("now"),
    })
    .await;
    let gateway = Gateway::start(config(&upstream, json!({}), json!({ "mark": "m" }))).await;
    let admin = gateway.admin();
    push(&admin, guest::stamp(1), "").await;
    let late = (0..3).map(async |_| Client::connect(gateway.address()).await.get("/late").await);
    let (answers, ()) = tokio::join!(futures_util::future::join_all(late), async {
        until("they are under way", async || (upstream.open() == 3).then_some(())).await;
        push(&admin, guest::stamp(2), "").await;
        assert_eq!(shares(&admin).await, BTreeMap::from([(1, (0, 3)), (2, (100, 0))]));
        let metric = r#"stile_plugin_exchanges{plugin="p",revision="1"}"#;
        assert_eq!(admin.metric(metric).await, 3, "revision 1 can still be gone back to, and so is shown");
        gate.cancel();
    });
    assert!(answers.iter().all(|answer| answer.header("x-stamp") == "1/m"));
    until("none is left", async || (shares(&admin).await[&1] == (0, 0)).then_some(())).await;
}

#[tokio::test]
async fn trials_go_on_after_a_restart_and_only_so_many_revisions_are_kept() {
    let upstream = Upstream::echo().await;
    let store = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(&upstream, json!({ "keep": 3 }), json!({ "mark": "m" }));
    config["store"] = json!({ "path": store.path() });
    let gateway = Gateway::start(config.clone()).await;
    let admin = gateway.admin();
    for number in 1..=5 {
        push(&admin, guest::stamp(number), "?percent=20").await;
    }
    let kept = BTreeMap::from([(1, (80, 0)), (4, (0, 0)), (5, (20, 0))]);
    assert_eq!(shares(&admin).await, kept, "1 is the good one and stays");
    gateway.stop().await;
    let gateway = Gateway::start(config).await;
    assert_eq!(shares(&gateway.admin()).await, kept);
    let running = gateway.app().control().view().revisions["p"].clone();
    let trial = running.trial.expect("a trial");
    assert_eq!((running.revision.number, trial.revision.number, trial.percent), (1, 5, 20));
}

/// Passes a request through a trial that is taken back after the request began: the trial may fail once, and another request
/// uses that up. Both modules are written by hand and take no configuration.
async fn outlive_the_trial(good: Vec<u8>, trial: Vec<u8>) -> RawAnswer {
    let upstream = Upstream::echo().await;
    let mut config = config(&upstream, json!({ "failures": 1, "within": "1h" }), Value::Null);
    config["plugins"][0]["limits"] = json!({ "deadline": "1s", "timeout": "60s" });
    // The request waits for as long as another one computes, which is long on a slow machine.
    config["listeners"] = json!([{
        "name": "public",
        "address": "127.0.0.1:0",
        "limits": { "progress": { "min_rate": "0B", "idle_timeout": "1h" } },
    }]);
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    push(&admin, good, "").await;
    push(&admin, trial, "?percent=100").await;
    let mut begun = Raw::connect(gateway.address()).await;
    begun.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo").await;
    until("it is on the trial", async || (shares(&admin).await[&2].1 == 1).then_some(())).await;
    let failed = Client::connect(gateway.address()).await.send(request("POST", "/", &[], "body")).await;
    assert_eq!(failed.status, 503);
    begun.write("dy").await;
    begun.answer_to("POST").await
}

/// A plugin that filters the bodies of requests, as a whole and as a stream.
fn body_filter(whole: &str, stream: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {DROP}
            (import "stile:plugin/body@0.1.0" "[resource-drop]body-stream" (func $drop-stream (param i32)))
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
            (func (export "stile:plugin/request-body@0.1.0#on-request-body") (param $request i32) (param i32 i32)
                (result i32) (local $n i32) (call $drop (local.get $request)) {whole})
            (func (export "stile:plugin/request-stream@0.1.0#on-request-stream") (param $body i32) (result i32)
                (call $drop-stream (local.get $body)) {stream}))"#
    );
    by_hand::module(&["exchange", "body"], &["request-body", "request-stream"], &text)
}

const PROCEED: &str = "(i32.const 1024)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_the_good_revision_is_its_own() {
    let counting = format!(
        "(loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 20000000))))
        {PROCEED}"
    );
    let endless = "(loop $again (br $again)) unreachable";
    let answer = outlive_the_trial(body_filter(&counting, PROCEED), body_filter(endless, PROCEED)).await;
    assert_eq!((answer.status(), &answer.json()["body_length"]), (200, &json!(4)));
}

#[tokio::test]
async fn a_revision_that_fails_at_a_whole_body_does_not_get_the_rest() {
    let trial = body_filter("unreachable", "unreachable");
    let answer = outlive_the_trial(body_filter(PROCEED, PROCEED), trial).await;
    assert_eq!((answer.status(), &answer.json()["body_length"]), (200, &json!(4)));
}
