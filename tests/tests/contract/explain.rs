//! `explain`: what is told of a request, and that the gateway does what is told.

use std::{fs, path::Path};

use serde_json::{Value, json};
use stile_tests::{
    client::{Client, request},
    gateway::plain,
    process::Stile,
    upstream::Upstream,
};

use super::{Done, folder, stile};

/// The plugins' modules are not there, and nothing listens anywhere.
const CONFIG: &str = r#"
plugins:
  - { name: api-key, file: nowhere/api_key.wasm }
  - { name: stamp }
services:
  - name: users
    balance: weighted
    endpoints: [{ address: 127.0.0.1:7001, weight: 3 }, { address: 127.0.0.1:7002 }]
  - { name: empty }
routes:
  - name: users
    match: { hosts: [api.example.com], path: /users/*, methods: [GET] }
    filters: [{ plugin: stamp, config: { mark: secret-mark } }, { plugin: api-key }]
    service: users
    rewrite: { strip_prefix: /users }
  - name: users-of-prod
    match: { hosts: [api.example.com], path: /users/*, methods: [GET], headers: { x-env: prod } }
    service: users
  - { name: orders, match: { hosts: [api.example.com], path: /orders/* }, service: users }
  - { name: elsewhere, match: { hosts: [other.example.com], path: "/users/{id}" }, service: users }
  - { name: slashes, match: { path: /files/*, allow_encoded_slash: true }, service: empty }
  - { name: rest, match: { methods: [GET] }, service: empty }
"#;

async fn explain(arguments: &[&str]) -> Done {
    let folder = folder();
    fs::write(folder.path().join("a.yaml"), CONFIG).expect("the folder is ours");
    explain_in(folder.path(), "a.yaml", arguments).await
}

async fn explain_in(folder: &Path, file: &str, arguments: &[&str]) -> Done {
    stile(folder, &[], &[&["explain", "--config", file], arguments].concat()).await
}

#[tokio::test]
async fn a_request_that_is_served() {
    let done = explain(&["GET", "http://api.example.com//users/%37?x=1"]).await;
    let expected = "\
route      users
filters    stamp, api-key
service    users, weighted
endpoint   127.0.0.1:7001, weight 3
endpoint   127.0.0.1:7002, weight 1
path       /users/7
forwarded  /7

passed over
  rest           matches too, but users goes first: its host api.example.com is more specific than *
  users-of-prod  header x-env: wants prod, got none
  orders         path does not match /orders/*
  slashes        path does not match /files/*
  elsewhere      host differs: wants other.example.com, got api.example.com
";
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), expected, ""));
}

#[tokio::test]
async fn fields_are_part_of_the_request() {
    let fields = ["-H", "host: API.example.com:8080", "-H", "X-Env:test", "--header", "x-env: prod"];
    let done = explain(&[&["GET", "/users/7", "--json"][..], &fields].concat()).await;
    assert_eq!(done.code, Some(0));
    let users = "matches too, but users-of-prod goes first: it has more conditions";
    let told = done.json();
    assert_eq!((&told["route"], &told["forwarded"]), (&json!("users-of-prod"), &json!("/users/7")));
    assert_eq!(told["passed"][0], json!({ "route": "users", "reason": users }));
}

#[tokio::test]
async fn a_host_by_name_takes_the_place_of_the_urls() {
    let done = explain(&["GET", "http://127.0.0.1:8080/users/7", "-H", "host: api.example.com"]).await;
    assert!(done.out.starts_with("route      users\n"), "{}", done.out);
    let told = explain(&["GET", "HTTPS://api.example.com?x", "--json"]).await.json();
    assert_eq!((&told["route"], &told["path"]), (&json!("rest"), &json!("/")));
}

#[tokio::test]
async fn the_same_in_json() {
    let done = explain(&["--json", "GET", "http://api.example.com/users/7?x=1"]).await;
    let mut told = done.json();
    let passed = told.as_object_mut().and_then(|members| members.remove("passed")).expect("what was passed over");
    assert_eq!(done.code, Some(0));
    assert_eq!(
        told,
        json!({
            "route": "users",
            "service": "users",
            "balance": "weighted",
            "filters": [{ "plugin": "stamp" }, { "plugin": "api-key" }],
            "endpoints": [{ "address": "127.0.0.1:7001", "weight": 3 }, { "address": "127.0.0.1:7002", "weight": 1 }],
            "path": "/users/7",
            "forwarded": "/7",
            "answer": null,
            "left_out": 0,
        })
    );
    let routes: Vec<_> = passed.as_array().expect("a list").iter().map(|passed| passed["route"].clone()).collect();
    assert_eq!(routes, ["rest", "users-of-prod", "orders", "slashes", "elsewhere"]);
    assert_eq!(passed[1]["reason"], "header x-env: wants prod, got none");
}

#[tokio::test]
async fn a_request_that_no_route_serves_is_1() {
    let done = explain(&["POST", "/users/7"]).await;
    let expected = "\
route      none
path       /users/7
answer     404, no route matches

passed over
  rest           method: wants GET, got POST
  slashes        path does not match /files/*
";
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    assert!(done.out.starts_with(expected), "{}", done.out);
    let told = explain(&["POST", "/users/7", "--json"]).await;
    assert_eq!((told.code, told.json()["route"].clone()), (Some(1), Value::Null));
    assert_eq!(told.json()["passed"].as_array().map(Vec::len), Some(6));
}

#[tokio::test]
async fn pages_and_methods_that_a_version_has_are_told() {
    let text = r#"
listeners:
  - { name: public, address: 127.0.0.1:8080, portal: {} }
  - { name: inner, address: 127.0.0.1:8081 }
services: [{ name: users }]
apis:
  - name: shop
    versions: [{ name: "1", state: published, routes: [{ name: x, match: { path: /x, methods: [GET, PUT] }, service: users }] }]
"#;
    let folder = folder();
    fs::write(folder.path().join("b.yaml"), text).expect("the folder is ours");
    let page = explain_in(folder.path(), "b.yaml", &["GET", "/developers/shop/1"]).await;
    let expected = "\
page       of the portal on public; what follows is for other listeners
route      none
path       /developers/shop/1
answer     404, no route matches
";
    assert!(page.code == Some(0) && page.out.starts_with(expected), "{}", page.out);
    let page = explain_in(folder.path(), "b.yaml", &["GET", "/developers", "--json"]).await;
    assert_eq!(page.json()["pages"], json!(["public"]));
    let method = explain_in(folder.path(), "b.yaml", &["POST", "/x"]).await;
    assert!(method.out.contains("answer     405, the path has no such method; it has GET, PUT\n"), "{}", method.out);
    let clash = text.replace("portal: {}", "call: true, portal: { path: /call/docs }");
    fs::write(folder.path().join("b.yaml"), clash).expect("the folder is ours");
    let refused = explain_in(folder.path(), "b.yaml", &["GET", "/x"]).await;
    assert!(
        refused.err.contains("b.yaml:3:74: listeners[0].portal.path: what begins with /call/ is for"),
        "{}",
        refused.err
    );
}

#[tokio::test]
async fn a_request_that_is_refused_is_1() {
    for (arguments, path, answer) in [
        (&["GET", "/a/%zz"][..], "/a/%zz", "400, \"%\" in path is not followed by two hexadecimal digits"),
        (&["GET", "/a b?c"], "/a b", "400, the path is not valid: invalid uri character"),
        (&["GET", "*"], "*", "400, the request line names no path"),
        (&["CONNECT", "/"], "/", "501, this gateway does not serve CONNECT"),
        (&["GET", "/", "-H", "host: a", "-H", "host: a"], "/", "400, there is more than one Host field"),
        (&["GET", "http://a b/x"], "/x", "400, the Host field is not a host and port"),
        (&["GET", "http://user@a/x"], "/x", "400, the host has a user name in it"),
        (&["GET", "/a%2fb"], "/a%2Fb", "400, the path has an encoded slash, backslash or NUL"),
    ] {
        let done = explain(&[arguments, &["--json"]].concat()).await;
        assert_eq!(done.code, Some(1), "{arguments:?}");
        let told = done.json();
        assert_eq!((&told["route"], &told["path"], &told["answer"]), (&Value::Null, &json!(path), &json!(answer)));
    }
    let done = explain(&["GET", "/a%2fb"]).await;
    let reason = "  rest           matches, but does not allow an encoded slash, backslash or NUL";
    assert_eq!(done.out.lines().nth(5), Some(reason), "{}", done.out);
    assert_eq!(explain(&["GET", "/files/a%2fb"]).await.code, Some(0));
    assert_eq!(explain(&["GET", "/files/a?q={\"a\":<1>}&é"]).await.code, Some(0), "what the gateway escapes is served");
}

#[tokio::test]
async fn wrong_usage_is_2() {
    for arguments in [
        &["GET"][..],
        &["G T", "/"],
        &["GET", "users/7"],
        &["GET", "ftp://a/b"],
        &["GET", "http:///b"],
        &["GET", "/", "-H", "x-env"],
        &["GET", "/", "-H", "x env: prod"],
        &["GET", "/", "/"],
    ] {
        let done = explain(arguments).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_configuration_with_mistakes_is_refused_with_them() {
    let folder = folder();
    let text = "routes:\n  - { name: a, match: { path: a }, filters: [{ plugin: p }], service: s }\n";
    fs::write(folder.path().join("a.yaml"), text).expect("the folder is ours");
    let done = explain_in(folder.path(), "a.yaml", &["GET", "/"]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    for part in ["a.yaml:2:31: routes[0].match.path: ", "routes[0].filters[0].plugin: ", "routes[0].service: "] {
        assert!(done.err.contains(part), "{part:?} is not in {}", done.err);
    }
    let done = explain_in(folder.path(), "a.yaml", &["GET", "/", "--json"]).await;
    assert_eq!(done.json()["errors"].as_array().map(Vec::len), Some(3));
    assert!(
        explain_in(folder.path(), "b.yaml", &["GET", "/"]).await.err.starts_with("b.yaml:1:1: cannot read the file: ")
    );
}

#[tokio::test]
async fn of_many_routes_the_nearest_misses_are_shown() {
    let route = |n: usize| format!("  - {{ name: r{n}, match: {{ path: /r{n}/x }}, service: s }}\n");
    let text = format!("services: [{{ name: s }}]\nroutes:\n{}", (0..30).map(route).collect::<String>());
    let folder = folder();
    fs::write(folder.path().join("a.yaml"), text).expect("the folder is ours");
    let done = explain_in(folder.path(), "a.yaml", &["GET", "/r17/y"]).await;
    let lines: Vec<_> = done.out.lines().collect();
    assert_eq!(lines[5], "  r17  path does not match /r17/x", "{}", done.out);
    assert_eq!((lines.len(), lines[15]), (16, "  and 20 more: --all shows them"));
    let json = explain_in(folder.path(), "a.yaml", &["GET", "/r17/y", "--json"]).await.json();
    assert_eq!((json["passed"].as_array().map(Vec::len), &json["left_out"]), (Some(10), &json!(20)));
    let all = explain_in(folder.path(), "a.yaml", &["GET", "/r17/y", "--all"]).await.out;
    assert_eq!(all.lines().count(), 35, "{all}");
}

#[tokio::test]
async fn the_gateway_does_what_is_told() {
    let (one, two) = (Upstream::named("one").await, Upstream::named("two").await);
    let mut config = plain(one.address());
    config["services"] = json!([
        { "name": "one", "endpoints": [{ "address": one.address() }] },
        { "name": "two", "endpoints": [{ "address": two.address() }] },
    ]);
    config["routes"] = json!([
        { "name": "a", "match": { "path": "/a/*" }, "service": "one", "rewrite": { "strip_prefix": "/a" } },
        { "name": "b", "match": { "path": "/a/*", "headers": { "x-env": "prod" } }, "service": "two" },
        { "name": "c", "match": { "path": "/a/*", "query": { "v": "~^[23]$" } }, "service": "two" },
        { "name": "d", "match": { "path": "/a/*", "cookies": { "beta": "1" } }, "service": "two" },
        { "name": "e", "match": { "hosts": ["e.test"], "methods": ["POST"] }, "service": "two" },
        { "name": "f", "match": { "hosts": ["e.test"], "path": "~x" }, "service": "one" },
    ]);
    let folder = folder();
    let gateway = Stile::run(folder.path(), config).await;
    for (method, target, fields) in [
        ("GET", "/a/b//c?x=1", &[("host", "x")][..]),
        ("GET", "/a/b", &[("host", "x"), ("x-env", "prod")]),
        ("GET", "/a/b", &[("host", "x"), ("x-env", "prod"), ("connection", "x-env")]),
        ("GET", "/a?v=1&v=%32", &[("host", "x")]),
        ("GET", "/a?v=23", &[("host", "x")]),
        ("GET", "/a", &[("host", "x"), ("cookie", "a=1;beta=1")]),
        ("POST", "/y", &[("host", "e.test:80")]),
        ("POST", "/x", &[("host", "E.test")]),
        ("GET", "/y", &[("host", "e.test")]),
        ("GET", "/a/%2f", &[("host", "x")]),
        ("GET", "/a/%", &[("host", "x")]),
        ("GET", "/b", &[("host", "x")]),
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let arguments = fields.iter().flat_map(|field| ["-H", field.as_str()]);
        let arguments: Vec<_> = ["--json", method, target].into_iter().chain(arguments).collect();
        let told = explain_in(folder.path(), "stile.yaml", &arguments).await.json();
        let fields: Vec<_> = fields.iter().filter_map(|field| field.split_once(": ")).collect();
        let answer = Client::connect(gateway.address()).await.send(request(method, target, &fields, "")).await;
        if told["route"].is_null() {
            let status = answer.status.as_str();
            assert!(told["answer"].as_str().is_some_and(|told| told.starts_with(status)), "{arguments:?}: {told}");
            continue;
        }
        let echo = answer.json();
        assert_eq!(echo["name"], told["service"], "{arguments:?}");
        let path = echo["target"].as_str().and_then(|target| target.split('?').next());
        assert_eq!(path, told["forwarded"].as_str(), "{arguments:?}");
    }
}
