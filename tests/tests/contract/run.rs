//! `run`, `demo`, exit codes, and what is done about changes of the file.

use std::fs;

use serde_json::json;
use stile_tests::{
    admin::VIEWER,
    client::fetch,
    gateway::{self, plain},
    guest,
    process::Stile,
    upstream::Upstream,
    wait::until,
};

use super::{folder, stile};

#[tokio::test]
async fn wrong_usage_is_2_and_a_refusal_is_1() {
    let folder = folder();
    for args in
        [&["nothing"][..], &[], &["run"], &["check"], &["plugin"], &["run", "--config"], &["plugin", "push", "x"]]
    {
        let done = stile(folder.path(), &[], args).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(!done.err.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["plugin", "push", "--help"]] {
        assert_eq!(stile(folder.path(), &[], args).await.code, Some(0), "{args:?}");
    }
    let done = stile(folder.path(), &[], &["run", "--config", "none.yaml"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("none.yaml:1:1: cannot read the file: "), "{}", done.err);
}

#[tokio::test]
async fn run_tells_each_socket_once_it_accepts() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let mut config = plain(upstream.address());
    let listener = |name: &str| json!({ "name": name, "address": "127.0.0.1:0" });
    config["listeners"] = json!([listener("public"), listener("inner")]);
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(fetch(gateway.address_of("public"), "/").await.status, 200);
    assert_eq!(fetch(gateway.address_of("inner"), "/").await.status, 200);
    assert_eq!(fetch(gateway.address_of("admin"), "/readyz").await.status, 200);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_with_its_position() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    fs::write(folder.path().join("a.yaml"), format!("listeners:\n  - {{ name: a, address: \"{address}\" }}\n"))
        .expect("the folder is ours");
    let done = stile(folder.path(), &[], &["run", "--config", "a.yaml"]).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains(&format!("a.yaml:2:25: listeners[0].address: cannot listen on {address}")),
        "{}",
        done.err
    );
}

#[tokio::test]
async fn an_admin_address_in_use_does_not_hide_other_mistakes() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let text = format!("admin: {{ address: \"{address}\" }}\nroutes: [{{ name: a, service: b }}]\n");
    fs::write(folder.path().join("a.yaml"), text).expect("the folder is ours");
    let done = stile(folder.path(), &[], &["run", "--config", "a.yaml"]).await;
    let lines: Vec<&str> = done.err.lines().collect();
    assert_eq!((done.code, lines.len()), (Some(1), 2), "{}", done.err);
    assert!(lines[0].starts_with(&format!("a.yaml:1:19: admin.address: cannot listen on {address}: ")), "{}", done.err);
    assert!(lines[1].starts_with("a.yaml:2:30: routes[0].service: there is no service \"b\""), "{}", done.err);
}

#[tokio::test]
async fn a_change_of_the_file_is_applied_and_a_bad_one_refused() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let mut config = plain(upstream.address());
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(gateway.admin().generation().await, 1);
    config["routes"][0]["match"] = json!({ "path": "/new" });
    gateway::write(folder.path(), config.clone());
    until("the change is live", async || (gateway.admin().generation().await == 2).then_some(())).await;
    assert_eq!(fetch(gateway.address(), "/").await.status, 404);
    assert_eq!(fetch(gateway.address(), "/new").await.status, 200);

    config["routes"][0]["service"] = json!("gone");
    let file = gateway::write(folder.path(), config);
    let told = until("the change is refused", async || {
        gateway.admin().status().await["last_error"]["message"].as_str().map(str::to_owned)
    })
    .await;
    assert!(told.starts_with(&format!("{}:1:", file.display())), "{told}");
    assert!(told.contains("routes[0].service: there is no service \"gone\""), "{told}");
    assert_eq!(gateway.admin().generation().await, 2);
    assert_eq!(fetch(gateway.address(), "/new").await.status, 200);
}

#[tokio::test]
async fn a_variable_is_filled_in() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/${CARGO_PKG_NAME}" });
    let gateway = Stile::run(folder.path(), config).await;
    let path = format!("/{}", std::env::var("CARGO_PKG_NAME").expect("cargo runs the tests"));
    assert_eq!(fetch(gateway.address(), &path).await.status, 200);
}

#[tokio::test]
async fn a_viewer_reads_a_description_without_the_values_of_variables() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let mut config = plain(upstream.address());
    let info = json!({ "title": "${CARGO_PKG_NAME}", "version": "1" });
    let described = json!({ "openapi": "3.1.0", "info": info, "paths": { "/x": { "get": {} } } });
    let version = json!({ "name": "1", "state": "published", "openapi": described, "import": { "service": "echo" } });
    config["apis"] = json!([{ "name": "api", "versions": [version] }]);
    let gateway = Stile::run(folder.path(), config).await;
    let value = std::env::var("CARGO_PKG_NAME").expect("cargo runs the tests");
    let seen = gateway.admin().call("GET", "/v1/apis/api/versions/1/openapi", Some(VIEWER), "").await;
    assert_eq!((seen.status.as_u16(), &seen.json()["openapi"]), (200, &json!("3.1.0")));
    assert!(!seen.text().contains(&value), "{}", seen.text());
}

#[tokio::test]
async fn the_demo_checks_itself() {
    let target = guest::workspace().join("target/guests");
    let target = target.to_str().expect("a folder in UTF-8");
    let done = stile(folder().path(), &[("CARGO_TARGET_DIR", target)], &["demo", "--check"]).await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    for result in ["ok      refused", "ok      allowed", "ok      balanced", "ok      swapped"] {
        assert!(done.out.contains(result), "{}", done.out);
    }
}
