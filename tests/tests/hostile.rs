//! Guests that do harm: their own exchange fails, in time and with its cause counted, and nobody else notices.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use stile_tests::{
    admin::Admin,
    client::{Answer, Client, get, request, with},
    gateway::{Gateway, filtered, service},
    guest::{plugin_with, plugin_with_default_deadline},
    load::{Load, Probe},
    process::Stile,
    raw::Raw,
    upstream::Upstream,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

/// The default of `limits.deadline`.
const DEADLINE: Duration = Duration::from_millis(5);
/// What the gateway may add to it.
const SLACK: Duration = Duration::from_millis(5);
/// Tries of each kind; one in time is enough, since the machine may have other things to do.
const TRIES: usize = 20;

/// What guests do in a phase, and the cause that is counted for it.
const HARMS: [(&str, &str); 7] = [
    ("loop", "deadline"),
    ("grow", "memory"),
    ("recurse", "trap"),
    ("panic", "trap"),
    ("trap", "trap"),
    ("error", "error"),
    ("flood", "copies"),
];

/// Two routes to the same service: `/hostile/*` through the guest, `/plain/*` not.
fn config(upstream: &Upstream, plugin: Value, filter: Value) -> Value {
    json!({
        "plugins": [plugin],
        "services": [service("echo", &[upstream.address()])],
        "routes": [
            { "name": "hostile", "match": { "path": "/hostile/*" }, "service": "echo",
              "filters": [{ "plugin": "hostile", "config": filter }] },
            { "name": "plain", "match": { "path": "/plain/*" }, "service": "echo" },
        ],
    })
}

/// On the built binary, so that the scheduler tells of its threads alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_costs_its_own_exchange_only_and_no_more_than_the_deadline() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(&upstream, plugin_with_default_deadline("hostile"), Value::Null);
    let list = |value: &mut Value, item: Value| value.as_array_mut().expect("a list").push(item);
    // Here every harm but a loop has time to come to its own end, however slow the machine is.
    let patient = plugin_with("hostile", json!({ "name": "patient", "limits": { "deadline": "10s" } }));
    list(&mut config["plugins"], patient);
    let route = json!({ "name": "patient", "match": { "path": "/patient/*" }, "service": "echo",
                        "filters": [{ "plugin": "patient" }] });
    list(&mut config["routes"], route);
    // One, so that what it waits for a CPU is what the exchange waits.
    config["workers"] = json!(1);
    let gateway = Stile::run(folder.path(), config).await;
    let (admin, mut client) = (gateway.admin(), Client::connect(gateway.address()).await);
    let mut counts = BTreeMap::<(&str, &str), u64>::new();
    // A response phase comes after the service's answer, whose time is not that of the gateway.
    let service = quickest_exchange(&mut client).await;
    for (header, phase, before) in [("x-do", "request", Duration::ZERO), ("x-do-late", "response", service)] {
        for (harm, cause) in HARMS {
            let route = if harm == "loop" { "hostile" } else { "patient" };
            let mut times = vec![harmed(&gateway, &mut client, route, header, harm).await];
            while harm == "loop" && times.iter().all(|time| *time > before + DEADLINE + SLACK) {
                assert!(times.len() < 20 * TRIES, "{harm} in the {phase} took {times:?}");
                times.push(harmed(&gateway, &mut client, route, header, harm).await);
            }
            let best = times[times.len() - 1];
            assert!(harm != "loop" || best >= DEADLINE, "a loop was given only {best:?}");
            let neighbours = neighbours(gateway.address(), 125);
            for _ in 0..TRIES {
                times.push(harmed(&gateway, &mut client, route, header, harm).await);
            }
            let tally = neighbours.finished().await;
            assert_eq!((tally.right, tally.wrong, tally.failed), (1000, 0, 0), "{:?}", tally.examples);
            *counts.entry((route, cause)).or_default() += times.len() as u64;
            let of_route = counts.iter().filter(|((of, _), _)| *of == route);
            let expected = of_route.map(|((_, cause), count)| ((*cause).to_owned(), *count)).collect();
            assert_eq!(failures(&admin, route).await, expected, "{harm} in the {phase}");
            for (cause, count) in &expected {
                assert_eq!(admin.metric(&counted(route, cause)).await, *count, "{cause}");
            }
            times.sort();
            let median = times[times.len() / 2];
            println!("{harm} in the {phase}: {best:?}, with neighbours mostly {median:?}, of it {before:?} before");
        }
    }
}

/// How often the guest failed on a route, by cause.
async fn failures(admin: &Admin, route: &str) -> BTreeMap<String, u64> {
    let status = admin.status().await;
    let found = status["routes"].as_array().expect("routes").iter().find(|it| it["name"] == route);
    let told = found.expect("the route")["filters"][0]["failures"].clone();
    serde_json::from_value(told).expect("numbers by cause")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_harmful_exchanges_at_once_leave_the_other_routes_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, plugin_with_default_deadline("hostile"), Value::Null)).await;
    let hostile = Load { address: gateway.address(), connections: 8, requests: 25, pause: Duration::ZERO };
    let hostile = hostile.start(|| Probe {
        request: with("/hostile/", &[("x-do", "loop")]),
        judge: |answer: &Answer| if answer.status == 503 { Ok(()) } else { Err(answer.text()) },
    });
    let plain = neighbours(gateway.address(), 125);
    let (hostile, plain) = (hostile.finished().await, plain.finished().await);
    assert_eq!((hostile.right, hostile.wrong, hostile.failed), (200, 0, 0), "{:?}", hostile.examples);
    assert_eq!((plain.right, plain.wrong, plain.failed), (1000, 0, 0), "{:?}", plain.examples);
    assert_eq!(gateway.get("/hostile/").await.status, 200);
}

#[tokio::test]
async fn a_filter_that_is_open_is_skipped_with_its_edits() {
    let upstream = Upstream::echo().await;
    let open = plugin_with("hostile", json!({ "on_error": "open" }));
    let gateway = Gateway::start(config(&upstream, open, Value::Null)).await;
    let mut client = Client::connect(gateway.address()).await;
    for (harm, _) in HARMS {
        let answer = client.send(with("/hostile/", &[("x-do", harm)])).await;
        assert_eq!(answer.status, 200, "{harm}");
        assert_eq!(answer.json()["headers"]["x-hostile"], Value::Null, "the edit before {harm} is undone");
        assert_eq!(answer.header("x-hostile"), "", "a response phase is due after a request phase only");
        let answer = client.send(with("/hostile/", &[("x-do-late", harm)])).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-hostile")), (200, ""), "late {harm}");
        assert_eq!(answer.json()["headers"]["x-hostile"], "was here");
    }
}

#[tokio::test]
async fn a_configuration_that_the_plugin_cannot_take_is_refused_with_its_reason() {
    let upstream = Upstream::echo().await;
    let slow = json!({ "limits": { "timeout": "300ms" } });
    let config = |filter: Value| config(&upstream, plugin_with("hostile", slow.clone()), filter);
    let gateway = Gateway::start(config(Value::Null)).await;
    let reasons = [
        ("loop", "the guest computed past its deadline"),
        ("grow", "over its memory limit"),
        ("recurse", "call stack exhausted"),
        ("panic", "panicked at tests/guests/hostile/src/lib.rs"),
        ("error", "an error of its own"),
    ];
    for (harm, reason) in reasons {
        let told = gateway.rewrite_refused(config(json!({ "configure": harm }))).await;
        assert!(told.contains("routes[0].filters[0].config: plugin \"hostile\" refuses it: "), "{told}");
        // On a busy machine the time-out passes before so much has been computed.
        assert!(told.contains(reason) || told.contains("was not ready in time"), "{harm}: {told}");
        assert_eq!(gateway.get("/hostile/").await.status, 200, "the running generation goes on after {harm}");
    }
    let told = gateway.rewrite_refused(config(json!({ "unknown": 1 }))).await;
    assert!(told.contains("unknown field `unknown`"), "{told}");
}

#[tokio::test]
async fn limits_of_memory_and_tables_hold_from_the_first_instance() {
    let upstream = Upstream::echo().await;
    for (limits, reason) in [
        (json!({ "memory": "64KiB" }), "over its memory limit: it wants 1114112, limits.memory is 65536"),
        (json!({ "table_elements": 1 }), "over its table limit: it wants "),
    ] {
        let plugin = plugin_with("hostile", json!({ "limits": limits }));
        let error = Gateway::try_start(config(&upstream, plugin, Value::Null)).await.expect_err("a refusal");
        assert!(error.to_string().contains(reason), "{error}");
        let place = "routes[0].filters[0].plugin: no instance of \"hostile\" can start: ";
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[tokio::test]
async fn a_bound_names_its_key_and_gives_way_to_it() {
    let upstream = Upstream::echo().await;
    let config = |limits: Value| config(&upstream, plugin_with("hostile", json!({ "limits": limits })), Value::Null);
    let gateway = Gateway::start(config(json!({ "deadline": "10s" }))).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.send(with("/hostile/", &[("x-do", "flood")])).await.status, 503);
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("copied more than 3145728 bytes out of the guest, which are limits.copies"), "{errors}");
    gateway.rewrite(config(json!({ "copies": "8MiB", "deadline": "10s" }))).await;
    assert_eq!(client.send(with("/hostile/", &[("x-do", "flood")])).await.status, 200);
    assert_eq!(client.send(with("/hostile/", &[("x-do", "recurse")])).await.status, 503);
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("call stack exhausted: its stack has 262144 bytes (wasm.stack)"), "{errors}");
}

#[tokio::test]
async fn failures_in_the_first_call_of_an_instance_are_counted_apart() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(config(&upstream, plugin_with_default_deadline("hostile"), Value::Null)).await;
    let (admin, mut client) = (gateway.admin(), Client::connect(gateway.address()).await);
    let first =
        r#"stile_plugin_first_call_failures_total{plugin="hostile",revision="1",route="hostile",phase="request"}"#;
    for _ in 0..2 {
        assert_eq!(client.get("/hostile/").await.status, 200);
        assert_eq!(client.send(with("/hostile/", &[("x-do", "loop")])).await.status, 503);
    }
    let of_used = admin.metric(first).await;
    for _ in 0..2 {
        assert_eq!(client.send(with("/hostile/", &[("x-do", "loop")])).await.status, 503);
    }
    assert_eq!(admin.metric(first).await - of_used, 2, "these two met new instances");
    let errors = admin.get("/v1/errors").await.text();
    assert!(errors.contains("past its deadline"), "{errors}");
    assert!(errors.contains("in the first call of its instance"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_finds_no_instance_waits_only_so_long() {
    let upstream = Upstream::echo().await;
    let limits = json!({ "limits": { "instances": 1, "instance_wait": "20ms", "deadline": "300ms" } });
    let filters = json!([{ "plugin": "hostile" }]);
    let config = filtered(upstream.address(), json!([plugin_with("hostile", limits)]), filters);
    let gateway = Gateway::start(config).await;
    let (mut busy, mut other) = (Client::connect(gateway.address()).await, Client::connect(gateway.address()).await);
    let admin = gateway.admin();
    let counted = "stile_plugin_overruns_total{plugin=\"hostile\",route=\"all\",cause=\"instances\"}";
    let looping = busy.send(with("/", &[("x-do", "loop")]));
    // Until the loop has been cut short, which frees its instance, the other finds none.
    let refused = async {
        loop {
            let answer = other.get("/").await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let (looping, refused) = tokio::join!(looping, refused);
    assert_eq!(looping.status, 503);
    assert_eq!(refused.json()["detail"], "a filter is overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(admin.metric(counted).await >= 1);
    assert_eq!(other.send(get("/")).await.status, 200);
}

#[tokio::test]
async fn a_stream_filter_that_waits_for_something_else_than_its_body_is_ended() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let host = format!("http://{}", silent.local_addr().expect("an address"));
    let upstream = Upstream::echo().await;
    let caller = |limits: Value| {
        let plugin =
            plugin_with("caller", json!({ "allow": ["http-client"], "http": { "hosts": [&host] }, "limits": limits }));
        filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "caller", "config": {} }]))
    };
    let gateway = Gateway::start(caller(json!({ "timeout": "100ms", "call_timeout": "1h" }))).await;
    let mut client = Client::connect(gateway.address()).await;
    let answer = client.send(request("POST", "/", &[("x-call", &*host), ("x-stream", "1")], "body")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let errors = gateway.admin().get("/v1/errors").await.text();
    assert!(errors.contains("the call took longer than 100ms (limits.timeout)"), "{errors}");
}

#[tokio::test]
async fn a_stream_filter_may_wait_for_its_body_beyond_its_timeout() {
    let upstream = Upstream::echo().await;
    let streams = plugin_with("streams", json!({ "limits": { "timeout": "20ms", "call_timeout": "10ms" } }));
    let filters = json!([{ "plugin": "streams", "config": { "request": "upper" } }]);
    let gateway = Gateway::start(filtered(upstream.address(), json!([streams]), filters)).await;
    let mut client = Raw::connect(gateway.address()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").await;
    // However much longer it takes: it is the client's time.
    sleep(Duration::from_millis(100)).await;
    client.write("half").await;
    assert_eq!(client.answer_to("POST").await.json()["body"], "HALFHALF");
}

async fn quickest_exchange(client: &mut Client) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..TRIES {
        let start = Instant::now();
        assert_eq!(client.get("/plain/").await.status, 200);
        quickest = quickest.min(start.elapsed());
    }
    quickest
}

/// How long the harm took, without the time in which the machine had no CPU for it; the next request is answered well.
async fn harmed(gateway: &Stile, client: &mut Client, route: &str, header: &str, harm: &str) -> Duration {
    let path = format!("/{route}/");
    let (start, waited) = (Instant::now(), gateway.waited_for_cpu());
    let answer = client.send(with(&path, &[(header, harm)])).await;
    let time = start.elapsed().saturating_sub(gateway.waited_for_cpu() - waited);
    assert_refused(&answer);
    let good = client.get(&path).await;
    assert_eq!((good.status.as_u16(), good.header("x-hostile")), (200, "was here"), "after {harm}");
    time
}

fn assert_refused(answer: &Answer) {
    let problem = answer.json();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("x-hostile"), "", "the edits of a failed call are undone");
    assert_eq!((&problem["status"], &problem["detail"]), (&json!(503), &json!("a filter failed")));
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
}

fn counted(route: &str, cause: &str) -> String {
    format!("stile_plugin_overruns_total{{plugin=\"{route}\",route=\"{route}\",cause=\"{cause}\"}}")
}

/// Eight connections to the route without filters, which leave the machine time for something else.
fn neighbours(address: SocketAddr, requests: usize) -> stile_tests::load::Running {
    let load = Load { address, connections: 8, requests, pause: Duration::from_millis(2) };
    load.start(|| Probe {
        request: get("/plain/"),
        judge: |answer: &Answer| {
            let right = answer.status == 200 && answer.json()["target"] == "/plain/";
            if right { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
        },
    })
}
