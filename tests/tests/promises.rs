//! What Stile is for, point by point: each is told of in `gateway/docs/plugins.md` under its number.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, get, request, with},
    gateway::{Gateway, filtered, service},
    guest::{self, plugin, plugin_with},
    load::{Load, Probe},
    process::Stile,
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};

/// Routes `/a/*` and `/b/*` to one service, each with these filters.
fn two_routes(upstream: &Upstream, plugins: Value, a: Value, b: Value) -> Value {
    let route = |name: &str, filters: Value| json!({ "name": name, "match": { "path": format!("/{name}/*") }, "service": "echo", "filters": filters });
    json!({
        "plugins": plugins,
        "services": [service("echo", &[upstream.address()])],
        "routes": [route("a", a), route("b", b)],
    })
}

#[tokio::test]
async fn point_1_a_plugin_that_traps_loops_or_eats_memory_hurts_its_own_request_and_is_healed_at_once() {
    let upstream = Upstream::echo().await;
    let gateway =
        Gateway::start(two_routes(&upstream, json!([plugin("hostile")]), json!([{ "plugin": "hostile" }]), json!([])))
            .await;
    let mut client = Client::connect(gateway.address()).await;
    for harm in ["trap", "loop", "grow", "recurse", "flood"] {
        assert_eq!(client.send(with("/a/", &[("x-do", harm)])).await.status, 503, "{harm}");
        assert_eq!(client.get("/a/").await.status, 200, "healed after {harm}");
        assert_eq!(client.get("/b/").await.status, 200, "its neighbour after {harm}");
    }
}

#[tokio::test]
async fn point_2_a_cpu_deadline_and_a_memory_cap_are_held_and_visible() {
    let upstream = Upstream::echo().await;
    let limits = json!({ "limits": { "deadline": "20ms", "memory": "2MiB" } });
    let config =
        filtered(upstream.address(), json!([plugin_with("hostile", limits)]), json!([{ "plugin": "hostile" }]));
    let gateway = Gateway::start(config).await;
    let mut client = Client::connect(gateway.address()).await;
    for (harm, cause) in [("loop", "deadline"), ("grow", "memory")] {
        assert_eq!(client.send(with("/", &[("x-do", harm)])).await.status, 503);
        let metric = format!(r#"stile_plugin_overruns_total{{plugin="hostile",route="all",cause="{cause}"}}"#);
        assert_eq!(gateway.admin().metric(&metric).await, 1);
    }
    assert_eq!(client.get("/").await.status, 200);
    // Of one instance for each worker, once those that failed have given their memory back, which a thread of its own does.
    let line = r#"stile_plugin_memory_bytes{plugin="hostile",revision="1"}"#;
    until("memory is within its bound", async || {
        let memory = gateway.admin().metric(line).await;
        (64 << 10..=2 * (2 << 20)).contains(&memory).then_some(())
    })
    .await;
}

#[tokio::test]
async fn point_3_each_route_has_its_configuration_of_one_module_that_is_compiled_once() {
    let upstream = Upstream::echo().await;
    let stamp = |mark: &str| json!([{ "plugin": "stamp", "config": { "mark": mark } }]);
    let gateway = Gateway::start(two_routes(&upstream, json!([plugin("stamp")]), stamp("a"), stamp("b"))).await;
    let stamps = async || {
        (gateway.get("/a/").await.header("x-stamp").to_owned(), gateway.get("/b/").await.header("x-stamp").to_owned())
    };
    assert_eq!(stamps().await, ("0/a".to_owned(), "0/b".to_owned()));
    let pools = |gateway: &Gateway| {
        let live = gateway.app().control().live().load_full();
        let pool = |n: usize| live.routes[n].chain.filters()[0].version.as_ref().map(|it| Arc::clone(&it.instances));
        (pool(0).expect("a revision"), pool(1).expect("a revision"))
    };
    let before = pools(&gateway);
    gateway.rewrite(two_routes(&upstream, json!([plugin("stamp")]), stamp("a"), stamp("c"))).await;
    assert_eq!(stamps().await, ("0/a".to_owned(), "0/c".to_owned()));
    let after = pools(&gateway);
    assert!(Arc::ptr_eq(&before.0, &after.0), "what is as it was goes on, instances and all");
    assert_eq!(before.1.revision().number, after.1.revision().number, "the same module");
}

#[tokio::test]
async fn point_4_a_filter_calls_out_in_a_straight_line_while_the_worker_serves_others() {
    let gate = Gate::new();
    let behind = gate.clone();
    let (upstream, policy) = (
        Upstream::echo().await,
        Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(Answer::text("yes")))).await,
    );
    let reach = json!({ "allow": ["http-client"], "http": { "services": ["policy"] }, "limits": { "timeout": "30s", "call_timeout": "30s" } });
    let mut config = filtered(
        upstream.address(),
        json!([plugin_with("caller", reach)]),
        json!([{ "plugin": "caller", "config": {} }]),
    );
    config["workers"] = json!(1);
    config["services"] = json!([service("echo", &[upstream.address()]), service("policy", &[policy.address()])]);
    let gateway = Gateway::start(config).await;
    let mut asking = Client::connect(gateway.address()).await;
    let (answer, ()) = tokio::join!(asking.send(with("/", &[("x-call", "service://policy/")])), async {
        until("the policy is asked", async || (policy.open() == 1).then_some(())).await;
        for _ in 0..10 {
            assert_eq!(gateway.get("/").await.status, 200);
        }
        gate.cancel();
    });
    assert_eq!(answer.text(), "200 yes");
}

#[tokio::test]
async fn point_5_a_body_is_decided_on_before_the_service_is_contacted_and_large_ones_stream() {
    let upstream = Upstream::echo().await;
    let plugins = json!([plugin("bodies"), plugin("streams")]);
    let whole = json!([{ "plugin": "bodies", "config": { "request": "judge" } }]);
    let passing = json!([{ "plugin": "streams", "config": { "request": "upper" } }]);
    let gateway = Gateway::start(two_routes(&upstream, plugins, whole, passing)).await;
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(client.send(request("POST", "/a/", &[], "bad")).await.status, 422);
    assert_eq!(upstream.connections(), 0, "nobody was contacted");
    // The service has the first piece while the last is not sent yet.
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("POST /b/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    until("the service is contacted", async || (upstream.open() == 1).then_some(())).await;
    assert_eq!(raw.ask("3\r\ntwo\r\n0\r\n\r\n").await.json()["body"], "ONETWO");
}

#[tokio::test]
async fn point_6_a_plugin_chooses_the_route_the_service_or_the_endpoint() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let mut both = service("both", &[one.address(), two.address()]);
    both["balance"] = json!({ "plugin": "chooser", "config": {} });
    let porter = plugin_with("porter", json!({ "allow": ["consumers"] }));
    let gateway = Gateway::start(json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": [{ "plugin": "porter", "config": {} }] }],
        "plugins": [porter, plugin("chooser")],
        "services": [both, service("one", &[one.address()])],
        "routes": [
            { "name": "by-path", "match": { "path": "/both/*" }, "service": "both" },
            { "name": "by-name", "match": { "path": "/never/*" }, "service": "one" },
        ],
    }))
    .await;
    let ask = async |fields: &[(&str, &str)]| {
        Client::connect(gateway.address()).await.send(with("/both/", fields)).await.json()["name"].clone()
    };
    assert_eq!(ask(&[("x-to", "route:by-name")]).await, "one");
    assert_eq!(ask(&[("x-to", "service:one")]).await, "one");
    for (endpoint, name) in [(two.address(), "two"), (one.address(), "one"), (two.address(), "two")] {
        assert_eq!(ask(&[("x-endpoint", &endpoint.to_string())]).await, name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn point_7_code_is_replaced_under_load_rolled_out_by_percent_and_taken_back_by_itself() {
    let upstream = Upstream::echo().await;
    let plugin = json!({ "name": "p", "rollout": { "key": "header:x-user", "failures": 3, "within": "1h" } });
    let config = filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "p" }]));
    let gateway = Gateway::start(config).await;
    let admin = gateway.admin();
    admin.push("p", guest::module("keeper")).await;
    let load = Load { address: gateway.address(), connections: 8, requests: 100_000, pause: Duration::from_millis(5) };
    let running = load.start(|| Probe {
        request: get("/"),
        judge: |answer: &stile_tests::client::Answer| if answer.status == 200 { Ok(()) } else { Err(answer.text()) },
    });
    let push = async |percent: u8| {
        let path = format!("/v1/plugins/p/revisions?percent={percent}");
        admin.call("PUT", &path, Some(stile_tests::admin::SECRET), guest::module("hostile")).await.status.as_u16()
    };
    assert_eq!((push(50).await, push(100).await), (201, 200));
    let mut failed = 0;
    for user in 0..20 {
        let fields = [("x-do", "trap"), ("x-user", &*user.to_string())];
        failed += usize::from(Client::connect(gateway.address()).await.send(with("/", &fields)).await.status == 503);
    }
    assert_eq!(failed, 3, "as many as its budget has");
    until("it is taken back", async || {
        let told = admin.get("/v1/plugins/p/revisions").await.json();
        (told["taken_back"]["revision"] == 2 && told["items"][0]["active"] == true).then_some(())
    })
    .await;
    let tally = running.stop().await;
    assert_eq!((tally.wrong, tally.failed), (0, 0), "{:?}", tally.examples);
    assert!(tally.right > 100, "{tally:?}");
}

/// Many configurations of one plugin over two workers, and room for a few instances.
#[tokio::test]
async fn configurations_beyond_the_instances_that_there_may_be_take_turns() {
    const ROUTES: usize = 12;
    let upstream = Upstream::echo().await;
    let config = |routes: usize| {
        let route = |n: usize| {
            json!({ "name": format!("r{n}"), "match": { "path": format!("/{n}") }, "service": "echo",
                    "filters": [{ "plugin": "stamp", "config": { "mark": format!("m{n}") } }] })
        };
        json!({
            "wasm": { "instances": 3, "memory": "16MiB" },
            "plugins": [plugin("stamp")],
            "services": [service("echo", &[upstream.address()])],
            "routes": (0..routes).map(route).collect::<Vec<_>>(),
        })
    };
    let gateway = Gateway::start(config(ROUTES)).await;
    for routes in [ROUTES, 2 * ROUTES] {
        if routes > ROUTES {
            gateway.rewrite(config(routes)).await;
        }
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::connect(gateway.address()).await);
        }
        for round in 0..3 * routes {
            let client = &mut clients[round % 4];
            let answer = client.get(&format!("/{}", round % routes)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let admin = gateway.admin();
    assert_eq!(admin.metric("stile_plugin_instance_slots").await, 3);
    assert!(admin.metric("stile_plugin_instance_slots_used").await <= 3);
    assert!(admin.metric("stile_plugin_evictions_total").await >= ROUTES as u64);
}

/// On the built binary, so that this process does not count: what compiling took goes back to the system.
#[tokio::test]
async fn plugins_keep_little_memory_beside_their_code() {
    const ONE: u64 = 8 << 20;
    const ONE_RESIDENT: u64 = 16 << 20;
    const FURTHER: u64 = 3 << 20;
    let upstream = Upstream::echo().await;
    let memory = async |count: usize| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let plugin = |n: usize| {
            let file = folder.path().join(format!("{n}.wasm"));
            std::fs::write(&file, guest::stamp(u32::try_from(n).expect("a small number"))).expect("the folder is ours");
            json!({ "name": format!("p{n}"), "file": file })
        };
        let filter = |n: usize| json!({ "plugin": format!("p{n}"), "config": { "mark": "m" } });
        let plugins: Vec<_> = (0..count).map(plugin).collect();
        let filters: Vec<_> = (0..count).map(filter).collect();
        let mut config = filtered(upstream.address(), json!(plugins), json!(filters));
        config["workers"] = json!(1);
        let gateway = Stile::run(folder.path(), config).await;
        ["RssAnon", "VmRSS"].map(|kind| gateway.memory(kind))
    };
    let [none, one, eleven] = [memory(0).await, memory(1).await, memory(11).await];
    println!("anonymous and resident memory: {none:?} bytes, with a plugin {one:?}, with eleven {eleven:?}");
    assert!(one[0].saturating_sub(none[0]) < ONE, "{none:?}, {one:?}");
    assert!(one[1].saturating_sub(none[1]) < ONE_RESIDENT, "{none:?}, {one:?}");
    assert!(eleven[0].saturating_sub(one[0]) < 10 * FURTHER, "{one:?}, {eleven:?}");
}

#[tokio::test]
async fn point_8_cost_memory_and_traps_of_each_plugin_on_each_route_are_visible() {
    let upstream = Upstream::echo().await;
    let hostile = json!([{ "plugin": "hostile" }]);
    let gateway = Gateway::start(two_routes(&upstream, json!([plugin("hostile")]), hostile.clone(), hostile)).await;
    let mut client = Client::connect(gateway.address()).await;
    for path in ["/a/", "/a/", "/b/"] {
        client.send(with(path, &[("x-do", "trap")])).await;
        client.get(path).await;
    }
    let text = gateway.admin().get("/metrics").await.text();
    for line in [
        r#"stile_plugin_overruns_total{plugin="hostile",route="a",cause="trap"} 2"#,
        r#"stile_plugin_overruns_total{plugin="hostile",route="b",cause="trap"} 1"#,
        r#"stile_plugin_calls_total{plugin="hostile",revision="1",route="a",phase="request",outcome="proceed"} 2"#,
        r#"stile_plugin_call_seconds_count{plugin="hostile",phase="request"} 6"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    for gauge in ["stile_plugin_instances", "stile_plugin_memory_bytes"] {
        assert!(gateway.admin().metric(&format!(r#"{gauge}{{plugin="hostile",revision="1"}}"#)).await > 0, "{gauge}");
    }
    let filter = gateway.admin().status().await["routes"][0]["filters"][0].clone();
    assert_eq!((&filter["plugin"], &filter["failures"]), (&json!("hostile"), &json!({ "trap": 2 })));
    assert!(filter["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{filter}");
}
