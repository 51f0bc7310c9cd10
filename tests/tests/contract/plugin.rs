//! `plugin new`, `build`, `check` and `push`.

use std::{fs, path::Path};

use serde_json::json;
use stile_tests::{
    admin::{SECRET, VIEWER},
    client::fetch,
    gateway::{filtered, plain},
    guest,
    process::Stile,
    upstream::Upstream,
};
use wit_parser::Resolve;

use super::{folder, stile};

#[tokio::test]
async fn a_new_plugin_of_each_kind_builds_checks_and_runs() {
    let folder = folder();
    let sdk = guest::workspace().join("plugin-sdk").display().to_string();
    for (kind, phase, keys) in [
        (
            "filter",
            "request",
            json!({ "routes": [{ "name": "all", "service": "s", "filters": [
            { "plugin": "my-filter", "config": { "header": "x-stamp", "value": "seen" } }] }] }),
        ),
        (
            "auth",
            "authenticate",
            json!({ "routes": [{ "name": "all", "service": "s", "filters": [
            { "plugin": "my-auth", "config": { "header": "x-api-key" } }] }] }),
        ),
        (
            "router",
            "route",
            json!({ "listeners": [{ "name": "public", "address": "127.0.0.1:0", "filters": [
            { "plugin": "my-router", "config": { "header": "x-beta", "service": "s" } }] }] }),
        ),
        (
            "balancer",
            "balance",
            json!({ "services": [{ "name": "s", "balance": {
            "plugin": "my-balancer", "config": { "most": 100 } } }] }),
        ),
    ] {
        let name = format!("my-{kind}");
        let made = stile(folder.path(), &[], &["plugin", "new", &name, "--kind", kind, "--sdk", &sdk]).await;
        assert_eq!(made.code, Some(0), "{}", made.err);
        let file = built(folder.path(), &name).await;
        let checked = stile(folder.path(), &[], &["plugin", "check", &file, "--json"]).await;
        assert_eq!((checked.code, &checked.json()["phases"]), (Some(0), &json!([phase])), "{}", checked.err);
        // Where its README says that it belongs.
        let mut config = json!({ "services": [{ "name": "s" }] });
        config["plugins"] = json!([{ "name": name, "file": file, "allow": ["consumers"] }]);
        config.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
        fs::write(folder.path().join("stile.yaml"), config.to_string()).expect("the folder is ours");
        let sound = stile(folder.path(), &[], &["check", "--config", "stile.yaml"]).await;
        assert_eq!(sound.code, Some(0), "{}", sound.err);
    }
}

/// Builds a plugin, has it tested as its README says, and gives the module's file.
async fn built(folder: &Path, name: &str) -> String {
    // With the versions that are here already nothing is fetched.
    fs::copy(guest::workspace().join("Cargo.lock"), folder.join(name).join("Cargo.lock")).expect("a lock file");
    let target = guest::workspace().join("target/guests");
    let environment = [("CARGO_NET_OFFLINE", "true"), ("CARGO_TARGET_DIR", target.to_str().expect("UTF-8"))];
    let built = stile(folder, &environment, &["plugin", "build", name, "--json"]).await;
    assert_eq!(built.code, Some(0), "{}", built.err);
    let file = built.json()["file"].as_str().expect("a file").to_owned();
    assert_eq!(built.json()["bytes"], fs::metadata(&file).expect("it is there").len());
    let mut command = tokio::process::Command::new("cargo");
    command.args(["test", "--offline"]).current_dir(folder.join(name));
    command.env("CARGO_TARGET_DIR", target).env_remove("RUSTUP_TOOLCHAIN").kill_on_drop(true);
    let tested = command.output().await.expect("cargo runs");
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    assert!(String::from_utf8_lossy(&tested.stdout).contains("2 passed"), "{tested:?}");
    file
}

/// What the compiler says of mistakes that are easily made says what to do.
#[tokio::test]
async fn mistakes_in_a_plugin_are_explained() {
    let (folder, sdk) = (folder(), guest::workspace().join("plugin-sdk").display().to_string());
    let made = stile(folder.path(), &[], &["plugin", "new", "wrong", "--sdk", &sdk]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let plugin = folder.path().join("wrong");
    fs::copy(guest::workspace().join("Cargo.lock"), plugin.join("Cargo.lock")).expect("a lock file");
    let filter =
        "impl RequestFilter for P { fn on_request(&self, _: &mut Request) -> Result<Verdict> { Ok(Verdict::Done) } }";
    let export = "stile_sdk::export!(P: request);";
    for (code, explanation) in [
        (
            format!("#[derive(Deserialize)] struct P {{}} {filter} stile_sdk::export!(P: requst_body);"),
            "there is no phase `requst_body`: the phases are authenticate, request, request_body,",
        ),
        (
            format!("#[derive(Deserialize)] struct P {{}} {filter} {export} {export}"),
            "`export_stands_once_and_names_all_phases` is defined multiple times",
        ),
        (
            format!(
                "#[derive(Deserialize)] struct P {{}} {filter} {export}\n\
                 impl Plugin for P {{ type Config = (); fn configure(_: ()) -> Result<Self> {{ Ok(P {{}}) }} }}"
            ),
            "EitherDeriveDeserializeOrImplementPlugin",
        ),
        (format!("struct P {{}} {filter} {export}"), "derive `Deserialize` for it, or implement `Plugin`"),
    ] {
        fs::write(plugin.join("src/lib.rs"), format!("use stile_sdk::prelude::*;\n{code}\n"))
            .expect("the folder is ours");
        let mut command = tokio::process::Command::new("cargo");
        command.args(["test", "--offline", "--no-run"]).current_dir(&plugin).kill_on_drop(true);
        command.env("CARGO_TARGET_DIR", guest::workspace().join("target/guests")).env_remove("RUSTUP_TOOLCHAIN");
        let output = command.output().await.expect("cargo runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(explanation), "{code}: {told}");
    }
}

#[tokio::test]
async fn the_packaged_sdk_has_all_that_a_plugin_needs() {
    let folder = folder();
    let cargo = async |args: &[&str]| {
        let mut command = tokio::process::Command::new("cargo");
        command.args(args).current_dir(guest::workspace()).env_remove("RUSTUP_TOOLCHAIN").kill_on_drop(true);
        let output = command.output().await.expect("cargo runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !told.contains("warning"), "{told}");
    };
    let target = folder.path().to_str().expect("UTF-8");
    cargo(&["package", "-p", "stile-sdk", "--offline", "--allow-dirty", "--no-verify", "--target-dir", target]).await;
    let packages = folder.path().join("package");
    let version = env!("CARGO_PKG_VERSION");
    let unpacked = tokio::process::Command::new("tar")
        .arg("xzf")
        .arg(packages.join(format!("stile-sdk-{version}.crate")))
        .current_dir(&packages)
        .status()
        .await;
    assert!(unpacked.expect("tar runs").success());
    let sdk = packages.join(format!("stile-sdk-{version}")).display().to_string();
    let made = stile(folder.path(), &[], &["plugin", "new", "packaged", "--sdk", &sdk]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    built(folder.path(), "packaged").await;
}

#[tokio::test]
async fn the_contract_is_printed_as_one_package() {
    let printed = stile(folder().path(), &[], &["plugin", "wit"]).await;
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    let mut contract = Resolve::default();
    let package = contract.push_str("stile.wit", &printed.out).expect("it is WIT");
    assert_eq!(contract.packages[package].name.to_string(), "stile:plugin@0.1.0");
    for world in ["host", "filter", "routes"] {
        contract.select_world(&[package], Some(world)).expect(world);
    }
}

#[tokio::test]
async fn what_new_cannot_make_it_refuses() {
    let folder = folder();
    fs::create_dir(folder.path().join("taken")).expect("the folder is ours");
    for args in [&["plugin", "new", "UPPER"][..], &["plugin", "new", "../x"], &["plugin", "new", "taken"]] {
        let done = stile(folder.path(), &[], args).await;
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{args:?}");
    }
    assert_eq!(stile(folder.path(), &[], &["plugin", "new", "x", "--kind", "nothing"]).await.code, Some(2));
    let done = stile(folder.path(), &[], &["plugin", "build", "taken"]).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("has no Cargo.toml"), "{}", done.err);
}

#[tokio::test]
async fn check_lists_phases_and_imports_and_refuses_what_is_no_plugin() {
    let folder = folder();
    let stamp = guest::file("stamp").to_str().expect("UTF-8");
    let done = stile(folder.path(), &[], &["plugin", "check", stamp, "--json"]).await;
    assert_eq!((done.code, &done.json()["phases"]), (Some(0), &json!(["request", "response"])), "{}", done.err);
    assert_eq!(done.json()["sha256"].as_str().map(str::len), Some(64));
    let text = stile(folder.path(), &[], &["plugin", "check", stamp]).await.out;
    assert!(text.contains("request, response") && text.contains("stile:plugin/exchange@"), "{text}");
    let module = guest::module("stamp");
    for (name, bytes) in [("text", &b"text"[..]), ("cut", &module[..5000]), ("empty", b"")] {
        fs::write(folder.path().join(name), bytes).expect("the folder is ours");
        let done = stile(folder.path(), &[], &["plugin", "check", name]).await;
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{name}: {}", done.err);
        assert!(done.err.starts_with(&format!("stile: {name}: ")), "{}", done.err);
    }
}

/// A component of two others, the second of which passes a text to the first at each tick.
const COMPOSED: &str = r#"(component
    (component $callee
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "f") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "text" string)
            (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
    (component $caller
        (import "f" (func $f (param "text" string)))
        (core module $libc
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
        (core instance $libc (instantiate $libc))
        (core func $f (canon lower (func $f)
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core module $m
            (import "" "f" (func $f (param i32 i32)))
            (func (export "tick") (result i32) i32.const 0 i32.const 4 call $f i32.const 2048))
        (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
        (func (export "tick") (result (result (error string)))
            (canon lift (core func $i "tick") (memory (core memory $libc "memory")))))
    (instance $callee (instantiate $callee))
    (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
    (instance $tick (export "on-tick" (func $caller "tick")))
    (export "stile:plugin/tick@0.1.0" (instance $tick)))"#;

#[tokio::test]
async fn check_accepts_a_composed_component_and_refuses_a_broken_one_with_a_reason() {
    let folder = folder();
    let sound = wat::parse_str(COMPOSED).expect("it is well formed");
    fs::write(folder.path().join("sound.wasm"), &sound).expect("the folder is ours");
    let done = stile(folder.path(), &[], &["plugin", "check", "sound.wasm", "--json"]).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!((&done.json()["phases"], &done.json()["imports"]), (&json!(["tick"]), &json!([])));

    let invalid = "the module is not valid: ";
    let with = |part: &str, other: &str| {
        assert!(COMPOSED.contains(part), "{part}");
        wat::parse_str(COMPOSED.replacen(part, other, 1)).expect("it is well formed")
    };
    let mut broken = vec![
        (invalid, with(r#"$f (param "text" string)"#, r#"$f (param "text" (list u8))"#)),
        (invalid, with(r#" (realloc (core func $i "realloc"))"#, "")),
        (invalid, with(r#" (with "f" (func $callee "f"))"#, "")),
    ];
    // A cut between two sections leaves a component that is valid and exports no phase.
    broken.extend((1..8).map(|eighths| ("", sound[..sound.len() * eighths / 8].to_vec())));
    for (n, (reason, bytes)) in broken.into_iter().enumerate() {
        fs::write(folder.path().join("broken.wasm"), bytes).expect("the folder is ours");
        let done = stile(folder.path(), &[], &["plugin", "check", "broken.wasm"]).await;
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{n}: {}", done.err);
        assert!(done.err.starts_with(&format!("stile: broken.wasm: {reason}")), "{n}: {}", done.err);
        assert!(!done.err.contains("panicked"), "{n}: {}", done.err);
    }
}

#[tokio::test]
async fn push_makes_the_next_revision_live() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let config = filtered(upstream.address(), json!([{ "name": "stamp" }]), filters);
    let gateway = Stile::run(folder.path(), config).await;
    let url = format!("http://{}", gateway.admin().0);
    for number in 1..=2 {
        fs::write(folder.path().join("new.wasm"), guest::stamp(number)).expect("the folder is ours");
        let args = ["plugin", "push", "stamp", "new.wasm", "--admin", &url, "--token", SECRET, "--json"];
        let done = stile(folder.path(), &[], &args).await;
        assert_eq!((done.code, &done.json()["revision"]), (Some(0), &json!(number)), "{}", done.err);
        assert_eq!(fetch(gateway.address(), "/").await.header("x-stamp"), format!("{number}/a"));
    }
    let args = ["plugin", "push", "stamp", "new.wasm", "--admin", &url];
    let done = stile(folder.path(), &[("STILE_TOKEN", SECRET)], &args).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let done = stile(folder.path(), &[("STILE_TOKEN", VIEWER)], &args).await;
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("(403)"), "{}", done.err);
    fs::write(folder.path().join("new.wasm"), "text").expect("the folder is ours");
    let done = stile(folder.path(), &[("STILE_TOKEN", SECRET)], &args).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("(422): this is neither a WebAssembly module nor a component"), "{}", done.err);
    assert_eq!(fetch(gateway.address(), "/").await.header("x-stamp"), "2/a");
}

#[tokio::test]
async fn a_rollout_goes_by_shares_and_revisions_tell_it() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let filters = json!([{ "plugin": "stamp", "config": { "mark": "a" } }]);
    let config = filtered(upstream.address(), json!([{ "name": "stamp" }]), filters);
    let gateway = Stile::run(folder.path(), config).await;
    let url = format!("http://{}", gateway.admin().0);
    let said = async |args: &[&str]| {
        let args = [&["plugin"], args, &["--admin", &url, "--token", SECRET]].concat();
        let done = stile(folder.path(), &[], &args).await;
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.err);
        done.out
    };
    for number in 1..=3 {
        fs::write(folder.path().join(format!("{number}.wasm")), guest::stamp(number)).expect("the folder is ours");
    }
    assert_eq!(said(&["push", "stamp", "1.wasm"]).await, "stamp revision 1 is live\n");
    assert_eq!(
        said(&["push", "stamp", "2.wasm", "--percent", "10"]).await,
        "stamp revision 2 is for 10 % of exchanges\n"
    );
    let rows = async || {
        let text = said(&["revisions", "stamp"]).await;
        let row = |line: &str| line.split_whitespace().take(4).map(str::to_owned).collect::<Vec<_>>().join(" ");
        text.lines().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows().await, ["REVISION PERCENT EXCHANGES ORIGIN", "1 90 0 push", "2 10 0 push"]);
    assert_eq!(
        said(&["rollout", "stamp", "2", "--percent", "50"]).await,
        "stamp revision 2 is for 50 % of exchanges\n"
    );
    assert_eq!(rows().await[1..], ["1 50 0 push", "2 50 0 push"]);
    assert_eq!(said(&["rollout", "stamp", "2", "--pin"]).await, "stamp revision 2 is live\n");
    assert_eq!(said(&["push", "stamp", "3.wasm"]).await, "stamp revision 3 is stored, and not live\n");
    assert_eq!(rows().await[1..], ["1 0 0 push", "2 100 0 push", "3 0 0 push"], "it is pinned");
    assert_eq!(fetch(gateway.address(), "/").await.header("x-stamp"), "2/a");
    said(&["rollout", "stamp", "3", "--unpin"]).await;
    assert_eq!(fetch(gateway.address(), "/").await.header("x-stamp"), "3/a");

    let unknown = ["plugin", "rollout", "stamp", "9", "--admin", &url, "--token", SECRET];
    let done = stile(folder.path(), &[], &unknown).await;
    assert!(done.code == Some(1) && done.err.contains("(404): plugin \"stamp\" has no revision 9"), "{}", done.err);
    let beyond = ["plugin", "push", "stamp", "1.wasm", "--percent", "101", "--admin", &url, "--token", SECRET];
    assert_eq!(stile(folder.path(), &[], &beyond).await.code, Some(2));
}

#[tokio::test]
async fn push_says_what_is_wrong_with_its_arguments() {
    let upstream = Upstream::echo().await;
    let folder = folder();
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    let url = format!("http://{}", gateway.admin().0);
    fs::write(folder.path().join("new.wasm"), guest::stamp(1)).expect("the folder is ours");
    for (name, admin, message) in [
        (
            "stamp",
            url.as_str(),
            "(404): there is no plugin \"stamp\": name it under plugins in the configuration first",
        ),
        ("a/b", &url, "\"a/b\" is no name of a plugin"),
        ("stamp", "127.0.0.1:9090", "is not a URL such as http://127.0.0.1:9090"),
        ("stamp", "ftp://127.0.0.1", "is not a URL such as http://127.0.0.1:9090"),
    ] {
        let done =
            stile(folder.path(), &[("STILE_TOKEN", SECRET)], &["plugin", "push", name, "new.wasm", "--admin", admin])
                .await;
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{name} {admin}");
        assert!(done.err.contains(message), "{}", done.err);
    }
    let done = stile(folder.path(), &[("STILE_TOKEN", "")], &["plugin", "push", "stamp", "new.wasm"]).await;
    assert_eq!(done.code, Some(2), "an empty token: {}", done.err);
}
