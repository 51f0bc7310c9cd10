//! Each example does what its README says, with its own `stile.yaml`.

mod data_sharing;

use std::{fs, path::Path};

use stile_tests::{admin::SECRET, client::fetch, guest, process::Stile, upstream::Upstream};

/// Copies an example's configuration into a folder, with free ports for its own and `upstream` for its service. Its plugins have
/// more time than the defaults give them: host code that is not optimised takes all of that on a busy machine.
fn configure(example: &str, folder: &Path, ports: &[&str], upstream: Option<&Upstream>) {
    let text = fs::read_to_string(guest::workspace().join("examples").join(example).join("stile.yaml"));
    let mut text = text.expect("an example has a configuration");
    if let Some(upstream) = upstream {
        text = text.replace("127.0.0.1:7001", &upstream.address().to_string());
    }
    // One is a mapping on one line, the other in a block.
    for (keys, separator) in [("allow: [consumers]", ", "), ("file: greeting.wasm", "\n    ")] {
        text = text.replace(keys, &format!("{keys}{separator}limits: {{ deadline: 1s, timeout: 30s }}"));
    }
    assert_eq!(text.matches("limits:").count(), 1, "{example} has one plugin");
    for port in ports {
        assert!(text.contains(port), "{example} no longer has {port}");
        text = text.replace(port, "127.0.0.1:0");
    }
    fs::write(folder.join("stile.yaml"), text).expect("the folder is ours");
}

#[test]
fn every_example_is_here() {
    let entries = fs::read_dir(guest::workspace().join("examples")).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["data-sharing", "greeting"], "a new example needs a test below");
}

#[tokio::test]
async fn greeting() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    configure("greeting", folder.path(), &["127.0.0.1:8080", "127.0.0.1:9090"], Some(&upstream));
    fs::copy(guest::file("greeting-v1"), folder.path().join("greeting.wasm")).expect("the folder is ours");
    let gateway = Stile::start(folder.path(), &[("STILE_TOKEN", SECRET)]).await;
    assert_eq!(fetch(gateway.address(), "/").await.header("x-greeting"), "hello, stile");
    let pushed = gateway.admin().push("greeting", guest::module("greeting-v2")).await;
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert_eq!(fetch(gateway.address(), "/").await.header("x-greeting"), "hello again, stile");
    gateway.kill().await;
    let gateway = Stile::start(folder.path(), &[("STILE_TOKEN", SECRET)]).await;
    assert_eq!(fetch(gateway.address(), "/").await.header("x-greeting"), "hello again, stile");
    let back = gateway.admin().call("POST", "/v1/plugins/greeting/rollout", Some(SECRET), r#"{"revision": 1}"#).await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(fetch(gateway.address(), "/").await.header("x-greeting"), "hello, stile");
}
