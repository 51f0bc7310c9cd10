//! `check` and `schema`, and the rules of the configuration file.

use std::fs;

use serde_json::{Value, json};
use stile_tests::guest;

use super::{Done, folder, stile};

async fn check(text: &str) -> Done {
    let folder = folder();
    fs::write(folder.path().join("stile.yaml"), text).expect("the folder is ours");
    stile(folder.path(), &[("STILE_ADMIN_TOKEN", "a-secret-token")], &["check", "--config", "stile.yaml"]).await
}

/// The lines on stderr of a configuration with mistakes.
async fn mistakes(text: &str) -> Vec<String> {
    let done = check(text).await;
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{}", done.err);
    done.err.lines().map(str::to_owned).collect()
}

const EVERYTHING: &str = r#"
workers: 2
grace: 10s
listeners:
  - name: public
    address: 0.0.0.0:8080
    trusted: [10.0.0.0/8]
    limits: { connections: 100, header_bytes: 32KiB, header_count: 50, header_timeout: 1m }
admin: { address: 127.0.0.1:9090, tokens: [{ name: ops, role: admin, secret: "${STILE_ADMIN_TOKEN}" }] }
store: { path: ./stile-data }
plugins:
  - name: stamp
    file: FILE
    allow: [log]
    limits: { deadline: 5ms, timeout: 1s, memory: 16MiB, instances: 1024, table_elements: 10000, instance_wait: 100ms }
    on_error: closed
    isolation: pooled
  - name: pushed
services:
  - name: users
    balance: round-robin
    endpoints: [{ address: 127.0.0.1:7001, weight: 1 }]
routes:
  - name: users
    match:
      { hosts: [api.example.com, "*.example.org"], path: /users/*, methods: [GET], headers: { x-env: prod },
        query: { v: "2" }, cookies: { beta: "~^1$" } }
    filters: [{ plugin: stamp, config: { mark: a } }, { plugin: pushed }]
    service: users
    rewrite: { strip_prefix: /users }
    host: upstream
    timeout: 5s
"#;

#[tokio::test]
async fn a_good_file_is_right() {
    let text = EVERYTHING.replace("FILE", &guest::file("stamp").display().to_string());
    let done = check(&text).await;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    let folder = folder();
    fs::write(folder.path().join("a.yaml"), "workers: 1\n").expect("the folder is ours");
    let done = stile(folder.path(), &[], &["check", "--json", "--config", "a.yaml"]).await;
    assert_eq!((done.code, done.json()), (Some(0), json!({ "errors": [] })));
}

#[tokio::test]
async fn a_version_that_nobody_can_use_is_warned_of() {
    let apis = |more: &str| {
        format!(
            "services: [{{ name: users }}]\napis: [{{ name: shop, versions: [{{ name: '1', state: published, {more}routes: \
             [{{ name: all, service: users }}] }}] }}]"
        )
    };
    let done = check(&apis("")).await;
    assert_eq!(done.code, Some(0));
    assert!(done.err.contains("nobody can use this version") && done.err.contains("shop"), "{}", done.err);
    let open = check(&apis("anonymous: true, ")).await;
    assert_eq!((open.code, open.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_time_out_of_calls_that_no_plugin_can_see_is_warned_of() {
    let with = |guest: &str, allow: &str, limits: &str| {
        let file = guest::file(guest).display().to_string();
        format!(
            "plugins: [{{ name: one, file: {file}, allow: [{allow}], limits: {{ {limits} }} }}]\n\
             services: [{{ name: s }}]\nroutes: [{{ name: all, service: s, filters: [{{ plugin: one, config: {{}} }}] }}]"
        )
    };
    for (guest, allow, limits, warned) in [
        ("caller", "http-client", "timeout: 1s, call_timeout: 2s", true),
        ("caller", "http-client", "timeout: 100ms", true),
        ("caller", "http-client", "timeout: 2s, call_timeout: 1s", false),
        ("caller", "http-client", "", false),
        ("editor", "", "timeout: 1s, call_timeout: 2s", false),
    ] {
        let done = check(&with(guest, allow, limits)).await;
        assert_eq!(done.code, Some(0), "{}", done.err);
        let told = done.err.contains("limits.call_timeout is not below limits.timeout") && done.err.contains("one");
        assert_eq!((told, done.err.is_empty()), (warned, !warned), "{guest} {limits}: {}", done.err);
    }
}

#[tokio::test]
async fn every_error_is_told_in_one_run_by_position() {
    let text = "workers: 0\nlistners: []\nservices:\n  - name: a\n    endpoints: [{ address: nowhere }]\n";
    let lines = mistakes(text).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, start) in lines.iter().zip([
        "stile.yaml:1:10: workers: ",
        "stile.yaml:2:1: listners: unknown key \"listners\"",
        "stile.yaml:5:28: services[0].endpoints[0].address: ",
    ]) {
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
    }
}

/// The file of the golden tests, which say what each line is.
#[tokio::test]
async fn twenty_mistakes_of_every_sort_are_twenty_errors() {
    let folder = guest::workspace().join("gateway/src/control/golden");
    let golden = fs::read_to_string(folder.join("twenty.txt")).expect("a golden file");
    assert_eq!(golden.lines().count(), 20);
    let done = stile(&folder, &[], &["check", "--json", "--config", "twenty.yaml"]).await;
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let errors = done.json()["errors"].as_array().expect("a list").clone();
    let line = |error: &Value| {
        let text = |key: &str| error[key].as_str().expect("a text").to_owned();
        format!("{}:{}:{}: {}: {}", text("file"), error["line"], error["column"], text("path"), text("message"))
    };
    assert_eq!(errors.iter().map(line).collect::<Vec<_>>(), golden.lines().collect::<Vec<_>>());
    let run = stile(&folder, &[], &["run", "--config", "twenty.yaml"]).await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", golden.as_str()), "run tells the same");
}

#[tokio::test]
async fn what_only_compiling_shows_is_told_as_well() {
    let text =
        "plugins: [{ name: p, file: x.wasm }]\nroutes:\n  - { name: r, service: b }\n  - { name: s, service: b }\n";
    let lines = mistakes(text).await.join("\n");
    for part in ["1:28: plugins[0].file: ", "3:25: routes[0].service: there is no service \"b\"", "routes[1].service: "]
    {
        assert!(lines.contains(part), "{part:?} is not in {lines}");
    }
    let folder = folder();
    fs::write(folder.path().join("stile.yaml"), text).expect("the folder is ours");
    let run = stile(folder.path(), &[], &["run", "--config", "stile.yaml"]).await;
    assert_eq!((run.code, run.err.trim_end()), (Some(1), lines.as_str()), "run tells the same");
}

#[tokio::test]
async fn errors_in_json_are_on_stdout() {
    let folder = folder();
    fs::write(folder.path().join("a.yaml"), "workers: no\n").expect("the folder is ours");
    let done = stile(folder.path(), &[], &["check", "--json", "--config", "a.yaml"]).await;
    assert_eq!(done.code, Some(1));
    let errors = done.json()["errors"].clone();
    assert_eq!((&errors[0]["file"], &errors[0]["path"]), (&json!("a.yaml"), &json!("workers")));
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&json!(1), &json!(10)));
    assert!(errors[0]["message"].is_string());
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_an_error() {
    let lines = mistakes("store: { path: \"${STILE_NO_SUCH_VARIABLE}\" }\n").await;
    assert_eq!(lines, ["stile.yaml:1:16: store.path: environment variable STILE_NO_SUCH_VARIABLE is not set"]);
}

#[tokio::test]
async fn two_identical_matches_are_an_error() {
    let route = |name: &str| format!("  - {{ name: {name}, match: {{ path: /a }}, service: s }}\n");
    let text = format!("services: [{{ name: s }}]\nroutes:\n{}{}", route("one"), route("two"));
    let lines = mistakes(&text).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("routes[1].match"), "{lines:?}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_an_error() {
    let folder = folder();
    let done = stile(folder.path(), &[], &["check", "--config", "none.yaml"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("none.yaml:1:1: cannot read the file: "), "{}", done.err);
}

#[tokio::test]
async fn schema_prints_what_the_documentation_has() {
    let done = stile(folder().path(), &[], &["schema"]).await;
    let file = guest::workspace().join("gateway/docs/configuration.schema.json");
    assert_eq!((done.code, done.out), (Some(0), fs::read_to_string(file).expect("a file")), "{}", done.err);
}
