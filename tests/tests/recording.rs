//! What is recorded of exchanges, however they end: metrics, the access log, the last errors.

use std::fs;

use serde_json::{Value, json};
use stile_tests::{
    admin::{SECRET, VIEWER},
    client::{Client, fetch, request},
    gateway::{Gateway, filtered, plain, service},
    guest,
    process::Stile,
    raw::Raw,
    upstream::{Answer, Upstream},
    wait::until,
};
use tokio::net::TcpListener;

/// A gateway with an access log `access.log`, its configuration besides being this.
async fn logging(mut config: Value, log: Value) -> Gateway {
    config["access_log"] = log;
    config["access_log"]["file"] = json!("access.log");
    Gateway::start(config).await
}

fn lines(gateway: &Gateway) -> Vec<String> {
    let text = fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits for so many lines.
async fn logged(gateway: &Gateway, count: usize) -> Vec<String> {
    until("the lines are written", async || Some(lines(gateway)).filter(|lines| lines.len() >= count)).await
}

/// A port where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port")
}

#[tokio::test]
async fn every_exchange_is_one_line_of_json() {
    let upstream = Upstream::echo().await;
    let gateway = logging(plain(upstream.address()), json!({})).await;
    let mut client = Client::connect(gateway.address()).await;
    let fields = [
        ("x-request-id", "id-7"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
    ];
    let answer = client.send(request("POST", "/a//b?%74oken=s3cret&x=%22", &fields, "hello")).await;
    // Trace context passes as it came.
    assert_eq!(answer.json()["headers"]["traceparent"], fields[1].1);
    assert_eq!(answer.json()["headers"]["tracestate"], "a=1");
    let line: Value = serde_json::from_str(&logged(&gateway, 1).await[0]).expect("a line is JSON");
    for (field, value) in [
        ("request_id", json!("id-7")),
        ("trace_id", json!("0af7651916cd43dd8448eb211c80319c")),
        ("listener", json!("public")),
        ("protocol", json!("HTTP/1.1")),
        ("method", json!("POST")),
        ("host", json!("stile.test")),
        ("path", json!("/a/b")),
        ("query", json!("%74oken=[redacted]&x=%22")),
        ("status", json!(200)),
        ("route", json!("all")),
        ("service", json!("echo")),
        ("endpoint", json!(upstream.address().to_string())),
        ("received_bytes", json!(5)),
        ("sent_bytes", json!(answer.body.len())),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line.get("blame").is_none() && line.get("cause").is_none(), "what there is not: {line}");
    assert_eq!((&line["client"], &line["peer"]), (&json!("127.0.0.1"), &json!("127.0.0.1")), "{line}");
    let time = line["time"].as_str().expect("a time");
    assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    let (answered, whole) = (line["answered_ms"].as_f64(), line["duration_ms"].as_f64());
    assert!(answered > Some(0.0) && answered <= whole, "{line}");
}

#[tokio::test]
async fn a_template_says_what_a_line_is_and_a_client_cannot_break_it() {
    let upstream = Upstream::echo().await;
    let format = "{method} {path} {status} \"{header:user-agent}\" {header:cookie} {route}";
    let gateway = logging(plain(upstream.address()), json!({ "format": format })).await;
    let mut client = Client::connect(gateway.address()).await;
    client.send(request("GET", "/a", &[("user-agent", "a\"b\tc"), ("cookie", "s=1")], "")).await;
    client.get("/b").await;
    // Longer than a line has room for at first, with and without what must be escaped.
    for agent in ["x".repeat(5000), "\"".repeat(9000)] {
        client.send(request("GET", "/c", &[("user-agent", &agent)], "")).await;
    }
    let lines = logged(&gateway, 4).await;
    assert_eq!(lines[..2], ["GET /a 200 \"a\\\"b\\tc\" [redacted] all", "GET /b 200 \"-\" - all"]);
    assert_eq!(lines[2], format!("GET /c 200 \"{}\" - all", "x".repeat(5000)));
    assert_eq!(lines[3], format!("GET /c 200 \"{}\" - all", "\\\"".repeat(9000)));
}

#[tokio::test]
async fn a_log_that_is_rotated_away_begins_anew() {
    let upstream = Upstream::echo().await;
    let gateway = logging(plain(upstream.address()), json!({ "format": "{path}" })).await;
    gateway.get("/one").await;
    assert_eq!(logged(&gateway, 1).await, ["/one"]);
    let (log, old) = (gateway.folder().join("access.log"), gateway.folder().join("access.log.1"));
    fs::rename(&log, &old).expect("the folder is ours");
    gateway.get("/two").await;
    assert_eq!(logged(&gateway, 1).await, ["/two"]);
    assert_eq!(fs::read_to_string(&old).expect("it is there"), "/one\n");
}

#[tokio::test]
async fn what_waits_at_the_end_is_written() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = plain(upstream.address());
    config["access_log"] = json!({ "format": "{path}", "file": "log" });
    let gateway = Stile::run(folder.path(), config).await;
    for n in 0..20 {
        fetch(gateway.address(), &format!("/{n}")).await;
    }
    gateway.terminate().await;
    assert_eq!(gateway.ended().await, Some(0));
    let text = fs::read_to_string(folder.path().join("log")).expect("it is there");
    assert_eq!(text.lines().count(), 20, "{text}");
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_a_mistake_of_the_configuration() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["access_log"] = json!({ "file": "nowhere/access.log" });
    let error = Gateway::try_start(config.clone()).await.expect_err("it is refused").to_string();
    assert!(error.contains("access_log.file: the file cannot be opened: "), "{error}");
    let gateway = Gateway::start(plain(upstream.address())).await;
    let reason = gateway.rewrite_refused(config).await;
    assert!(reason.contains("access_log.file: the file cannot be opened: "), "{reason}");
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_and_nobody_waits() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    // Opens, and has no room.
    config["access_log"] = json!({ "file": "/dev/full" });
    let gateway = Gateway::start(config).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    let dropped = async || Some(gateway.admin().metric("stile_access_log_dropped_total").await).filter(|n| *n == 5);
    until("every line is counted as lost", dropped).await;
}

#[tokio::test]
async fn lines_that_find_no_room_are_dropped_and_counted() {
    const REQUESTS: u64 = 500;
    let upstream = Upstream::echo().await;
    // Room for one line, until it is written.
    let gateway = logging(plain(upstream.address()), json!({ "buffer": "1B" })).await;
    let mut client = Client::connect(gateway.address()).await;
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").await.status, 200);
    }
    let dropped = until("every line is written or counted", async || {
        let dropped = gateway.admin().metric("stile_access_log_dropped_total").await;
        (lines(&gateway).len() as u64 + dropped == REQUESTS).then_some(dropped)
    });
    assert!(dropped.await > 0, "all were written");
}

#[tokio::test]
async fn an_error_has_its_blame_and_cause_everywhere() {
    let upstream = Upstream::start(|received| match received.target() {
        "/reset" => Answer::BytesThenReset(Vec::new()),
        "/cut" => Answer::BytesThenClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        "/late" => Answer::Silence,
        _ => Answer::Bytes(b"nonsense\r\n\r\n".to_vec()),
    })
    .await;
    let dead = nobody().await;
    let mut config = plain(upstream.address());
    config["services"] = json!([service("echo", &[upstream.address()]), service("dead", &[dead])]);
    config["routes"] = json!([
        { "name": "all", "service": "echo", "match": { "path": "/*" }, "timeout": "200ms" },
        { "name": "dead", "service": "dead", "match": { "path": "/dead" } },
    ]);
    let gateway = logging(config, json!({ "format": "{path} {status} {blame} {cause} {route}" })).await;
    for (path, status) in [("/reset", 502), ("/late", 504), ("/nonsense", 502), ("/dead", 502), ("/%zz", 400)] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
    let mut raw = Raw::connect(gateway.address()).await;
    raw.write("GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
    raw.closed().await;
    let expected = [
        ("/reset 502 upstream reset all", "all", "echo"),
        ("/late 504 upstream timeout all", "all", "echo"),
        ("/nonsense 502 upstream malformed all", "all", "echo"),
        ("/dead 502 upstream connect dead", "dead", "dead"),
        ("/%zz 400 client bad-request -", "", ""),
        ("/cut 200 upstream reset all", "all", "echo"),
    ];
    assert_eq!(sorted(logged(&gateway, 6).await), sorted(expected.map(|(line, ..)| line.to_owned()).to_vec()));
    let admin = gateway.admin();
    for (line, route, service) in expected {
        let words: Vec<&str> = line.split(' ').collect();
        let errors = admin.get(&format!("/v1/errors?route={route}")).await.json();
        let found = errors["items"].as_array().into_iter().flatten().find(|item| item["path"] == words[0]);
        let found = found.unwrap_or_else(|| panic!("no {} in {errors}", words[0]));
        assert_eq!((&found["blame"], &found["cause"]), (&json!(words[2]), &json!(words[3])), "{found}");
        assert_eq!((&found["route"], &found["service"]), (&json!(route), &json!(service)), "{found}");
        let labels = format!("route=\"{route}\",service=\"{service}\",blame=\"{}\",cause=\"{}\"", words[2], words[3]);
        assert!(admin.metric(&format!("stile_errors_total{{{labels}}}")).await > 0, "{labels}");
    }
    let all = admin.get("/v1/errors?limit=2").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["items"][0]["path"], "/cut", "the newest first");
    assert_eq!(admin.call("GET", "/v1/errors", None, "").await.status, 401);
    assert_eq!(admin.call("GET", "/v1/errors", Some(VIEWER), "").await.status, 200);
    assert_eq!(admin.call("GET", "/v1/errors?limit=x", Some(SECRET), "").await.status, 400);
    let attempts = |outcome: &str| format!("stile_upstream_attempts_total{{service=\"echo\",outcome=\"{outcome}\"}}");
    for (outcome, n) in [("answered", 1), ("timeout", 1), ("malformed", 1)] {
        assert_eq!(admin.metric(&attempts(outcome)).await, n, "{outcome}");
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_as_499_or_as_cut_off() {
    let upstream = Upstream::start(|received| match received.target() {
        "/silent" => Answer::Silence,
        _ => Answer::Pattern(64 << 20),
    })
    .await;
    let gateway = logging(plain(upstream.address()), json!({ "format": "{path} {status} {blame} {cause}" })).await;
    let mut silent = Raw::connect(gateway.address()).await;
    silent.write("GET /silent HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.received(1).await;
    drop(silent);
    assert_eq!(logged(&gateway, 1).await, ["/silent 499 client left"]);
    let mut halfway = Raw::connect(gateway.address()).await;
    halfway.write("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    halfway.head().await;
    drop(halfway);
    assert_eq!(logged(&gateway, 2).await[1], "/large 200 client left");
}

#[tokio::test]
async fn counts_outlive_reloads_and_revisions_and_what_is_too_many_is_other() {
    let upstream = Upstream::echo().await;
    let mut config = filtered(
        upstream.address(),
        json!([{ "name": "stamp" }]),
        json!([{ "plugin": "stamp", "config": { "mark": "a" } }]),
    );
    config["metrics"] = json!({ "label_sets": 3 });
    let gateway = Gateway::start(config.clone()).await;
    let admin = gateway.admin();
    let requests = "stile_requests_total{route=\"all\",service=\"echo\",code=\"200\"}";
    let calls = |revision: u32| {
        format!(
            "stile_plugin_calls_total{{plugin=\"stamp\",revision=\"{revision}\",route=\"all\",phase=\"request\",outcome=\"proceed\"}}"
        )
    };
    for number in [1, 2, 1] {
        admin.push("stamp", guest::stamp(number)).await;
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(admin.metric(requests).await, 3);
    assert_eq!(
        (admin.metric(&calls(1)).await, admin.metric(&calls(2)).await),
        (2, 1),
        "each revision goes on counting"
    );
    let route = |name: &str| json!({ "name": name, "service": "echo", "match": { "path": format!("/{name}") } });
    config["routes"] = json!([route("a"), route("b"), route("c"), route("d")]);
    gateway.rewrite(config).await;
    for path in ["/a", "/b", "/c", "/d"] {
        assert_eq!(gateway.get(path).await.status, 200);
    }
    assert_eq!(admin.metric(requests).await, 3, "counted before, and gone since");
    let others = admin.metric("stile_requests_total{route=\"other\",service=\"other\",code=\"200\"}").await;
    assert_eq!(others, 3, "there was room for the unrouted, the first route, and one more");
}

#[tokio::test]
async fn nothing_is_counted_where_that_is_wanted() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["metrics"] = json!({ "enabled": false });
    let gateway = Gateway::start(config).await;
    gateway.get("/").await;
    let text = gateway.admin().get("/metrics").await.text();
    assert!(text.contains("stile_generation 1\n") && !text.contains("stile_requests_total{"), "{text}");
}

#[tokio::test]
async fn histograms_are_whole() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(plain(upstream.address())).await;
    for _ in 0..3 {
        gateway.get("/").await;
    }
    let admin = gateway.admin();
    for (family, labels) in [
        ("stile_request_duration_seconds", "route=\"all\",service=\"echo\""),
        ("stile_upstream_duration_seconds", "service=\"echo\""),
    ] {
        assert_eq!(admin.metric(&format!("{family}_count{{{labels}}}")).await, 3);
        assert_eq!(admin.metric(&format!("{family}_bucket{{{labels},le=\"+Inf\"}}")).await, 3);
        assert_eq!(admin.metric(&format!("{family}_bucket{{{labels},le=\"10\"}}")).await, 3);
    }
    assert_eq!(admin.metric("stile_upstream_connections_total{service=\"echo\"}").await, upstream.connections() as u64);
    assert_eq!(admin.metric("stile_connections_accepted_total{listener=\"public\"}").await, 3);
}

/// By hand: it needs promtool (Debian's `prometheus`).
#[tokio::test]
#[ignore = "needs promtool"]
async fn promtool_has_nothing_to_say() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let gateway = logging(filtered(upstream.address(), json!([guest::plugin("stamp")]), filters), json!({})).await;
    gateway.get("/").await;
    gateway.get("/%zz").await;
    let file = gateway.folder().join("metrics");
    let text = gateway.admin().get("/metrics").await.text();
    fs::write(&file, &text).expect("the folder is ours");
    let input = fs::File::open(&file).expect("it is there");
    let mut promtool = tokio::process::Command::new("promtool");
    let told = promtool.args(["check", "metrics"]).stdin(input).output().await.expect("promtool runs");
    assert!(told.status.success() && told.stdout.is_empty() && told.stderr.is_empty(), "{told:?}\n{text}");
}

#[tokio::test]
async fn what_was_counted_is_told_by_route_service_and_plugin() {
    let upstream = Upstream::echo().await;
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "m" } }]);
    let mut config = filtered(upstream.address(), json!([guest::plugin("stamp")]), filters);
    config["routes"]
        .as_array_mut()
        .expect("routes")
        .push(json!({ "name": "down", "match": { "path": "/down" }, "service": "down" }));
    config["services"].as_array_mut().expect("services").push(service("down", &[nobody().await]));
    let gateway = Gateway::start(config).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(gateway.get("/down").await.status, 502);
    let stats = until("all four are counted", async || {
        let stats = gateway.admin().call("GET", "/v1/stats", Some(VIEWER), "").await.json();
        let routes = stats["routes"].as_array().expect("routes").clone();
        let counted: u64 = routes.iter().filter_map(|route| route["requests"]["count"].as_u64()).sum();
        (counted == 4).then_some(stats)
    })
    .await;
    let of = |list: &str, key: &str, name: &str| {
        let items = stats[list].as_array().expect("a list");
        items.iter().find(|item| item[key] == name).unwrap_or_else(|| panic!("no {name} in {stats}")).clone()
    };
    let all = of("routes", "route", "all");
    assert_eq!((&all["statuses"], &all["service"], &all["errors"]), (&json!({ "200": 3 }), &json!("echo"), &json!([])));
    assert!(all["sent_bytes"].as_u64().is_some_and(|bytes| bytes > 100), "{all}");
    let times = ["mean_seconds", "p50_seconds", "p99_seconds"].map(|key| all["requests"][key].as_f64());
    assert!(times.iter().all(|time| time.is_some_and(|time| time > 0.0 && time < 10.0)), "{all}");
    let down = of("routes", "route", "down");
    assert_eq!((&down["statuses"], &down["errors"][0]["count"]), (&json!({ "502": 1 }), &json!(1)));
    assert_eq!(of("services", "service", "echo")["outcomes"], json!({ "answered": 3 }));
    assert_eq!(of("services", "service", "down")["outcomes"], json!({ "refused": 1 }));
    assert_eq!(of("plugins", "plugin", "stamp")["calls"]["response"]["count"], 3);
}
