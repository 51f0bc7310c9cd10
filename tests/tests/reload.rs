//! Changes of files while the gateway runs: included ones come and go, half-written ones wait, links are swapped.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use stile_tests::{
    client::fetch,
    gateway::{self, Gateway, plain, service},
    guest,
    process::Stile,
    upstream::Upstream,
    wait::until,
};
use tokio::time::{Instant, sleep};

/// Time between two steps of writing a file: shorter than the quiet that ends it, while all of them take longer.
const STEP: Duration = Duration::from_millis(10);

/// One service, and the routes that `include` adds.
fn including(upstream: &Upstream, include: &str) -> Value {
    json!({ "include": [include], "services": [service("echo", &[upstream.address()])] })
}

fn route(path: &str, service: &str) -> String {
    format!("routes:\n  - name: dropped\n    match: {{ path: {path} }}\n    service: {service}\n")
}

/// Writes a file at one stroke, as an editor does.
fn put(file: &Path, content: impl AsRef<[u8]>) {
    let draft = file.with_extension("draft");
    fs::write(&draft, content).and_then(|()| fs::rename(&draft, file)).expect("the folder is ours");
}

async fn until_status(gateway: &Gateway, path: &str, status: u16) {
    until(&format!("{path} is answered {status}"), async || (gateway.get(path).await.status == status).then_some(()))
        .await;
}

async fn until_refused(gateway: &Gateway, part: &str) -> String {
    until(&format!("{part:?} is told"), async || {
        let status = gateway.admin().status().await;
        status["last_error"]["message"].as_str().filter(|message| message.contains(part)).map(str::to_owned)
    })
    .await
}

async fn until_nothing_is_refused(gateway: &Gateway) {
    let right = async || gateway.app().control().last_refused().is_none().then_some(());
    until("nothing is refused any more", right).await;
}

#[tokio::test]
async fn a_file_dropped_into_a_folder_adds_changes_and_takes_away_a_route() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(including(&upstream, "conf.d/*.yaml")).await;
    assert_eq!(gateway.get("/a").await.status, 404);
    let folder = gateway.folder().join("conf.d");
    fs::create_dir(&folder).expect("the folder is ours");
    let file = folder.join("a.yaml");
    put(&file, route("/a", "echo"));
    until_status(&gateway, "/a", 200).await;
    put(&file, route("/b", "echo"));
    until_status(&gateway, "/b", 200).await;
    assert_eq!(gateway.get("/a").await.status, 404);

    let generation = gateway.generation();
    for (content, mistake) in [
        (route("/c", "ecko"), ":4:14: routes[0].service: there is no service \"ecko\"; did you mean \"echo\"?"),
        (String::new(), ":1:1: the file is empty"),
        ("admin: {}\n".to_owned(), ":1:1: admin: unknown key \"admin\""),
    ] {
        put(&file, content);
        until_refused(&gateway, &format!("{}{mistake}", file.display())).await;
        assert_eq!((gateway.generation(), gateway.get("/b").await.status.as_u16()), (generation, 200));
    }
    fs::remove_file(&file).expect("the folder is ours");
    until_status(&gateway, "/b", 404).await;
    until_nothing_is_refused(&gateway).await;
}

/// What is left of such a file is the running configuration.
#[tokio::test]
async fn a_mistake_is_refused_also_where_a_default_would_do() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    let gateway = Gateway::start(config.clone()).await;
    config["grace"] = json!(30);
    let told = gateway.rewrite_refused(config.clone()).await;
    assert!(told.contains("grace: expected a time") && told.lines().count() == 1, "{told}");
    config["grace"] = json!("31s");
    config["routes"][0]["timeout"] = json!(30);
    let told = gateway.rewrite_refused(config).await;
    for part in ["grace cannot change while the gateway runs", "routes[0].timeout: expected a time"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(gateway.generation(), 1);
}

#[tokio::test]
async fn a_plugin_of_an_included_file_lies_beside_it() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(including(&upstream, "conf.d/*.yaml")).await;
    let folder = gateway.folder().join("conf.d");
    fs::create_dir(&folder).expect("the folder is ours");
    put(&folder.join("stamp.wasm"), guest::stamp(1));
    let filters = "    filters: [{ plugin: stamp, config: { mark: a } }]\n";
    let text = format!("plugins: [{{ name: stamp, file: stamp.wasm }}]\n{}{filters}", route("/*", "echo"));
    put(&folder.join("stamp.yaml"), text);
    until_status(&gateway, "/", 200).await;
    assert_eq!(gateway.get("/").await.header("x-stamp"), "1/a");
    put(&folder.join("stamp.wasm"), guest::stamp(2));
    let changed = async || (gateway.get("/").await.header("x-stamp") == "2/a").then_some(());
    until("the changed plugin is live", changed).await;
}

#[tokio::test]
async fn a_file_that_is_written_in_steps_is_read_when_it_is_whole() {
    let upstream = Upstream::echo().await;
    let mut config = plain(upstream.address());
    config["routes"][0]["match"] = json!({ "path": "/before" });
    let gateway = Gateway::start(config).await;
    let file = gateway.folder().join("stile.yaml");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON");
    for attempt in 0.. {
        let path = format!("/whole/{attempt}");
        config["routes"][0]["match"] = json!({ "path": path });
        let text = serde_json::to_string_pretty(&config).expect("JSON");
        let generation = gateway.generation();
        let (mut refused, mut longest, mut last) = (None, Duration::ZERO, Instant::now());
        let mut file = File::create(&file).expect("the folder is ours");
        for line in text.split_inclusive('\n') {
            file.write_all(line.as_bytes()).expect("the folder is ours");
            sleep(STEP).await;
            refused = refused.or_else(|| gateway.app().control().last_refused());
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        until_status(&gateway, &path, 200).await;
        // On a busy machine a pause may have been so long that the file was rightly taken for written.
        if longest < 5 * STEP {
            assert!(refused.is_none(), "{refused:?}");
            assert_eq!(gateway.generation(), generation + 1);
            return;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_of_and_read_when_it_is_back() {
    let upstream = Upstream::echo().await;
    let config = plain(upstream.address());
    let gateway = Gateway::start(config.clone()).await;
    let file = gateway.folder().join("stile.yaml");
    let text = fs::read_to_string(&file).expect("a file");
    fs::remove_file(&file).expect("the folder is ours");
    until_refused(&gateway, &format!("{}:1:1: cannot read the file: ", file.display())).await;
    assert_eq!(gateway.get("/").await.status, 200);
    fs::write(&file, text.replace("\"service\":\"echo\"", "\"service\":\"echo\",\"match\":{\"path\":\"/back\"}"))
        .expect("the folder is ours");
    until_status(&gateway, "/back", 200).await;
    until_status(&gateway, "/", 404).await;
    until_nothing_is_refused(&gateway).await;
}

/// What a Kubernetes ConfigMap does: its files are links through `..data`, which is swapped; then links come and go.
#[tokio::test]
async fn a_config_map_that_is_swapped_is_read_again() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inside = |name: &str| folder.path().join(name);
    for (version, path) in [("..1", "/one"), ("..2", "/two")] {
        fs::create_dir(inside(version)).expect("the folder is ours");
        gateway::write(&inside(version), including(&upstream, "route-*.yaml"));
        fs::write(inside(version).join("route-a.yaml"), route(path, "echo")).expect("the folder is ours");
    }
    let more = route("/more", "echo").replace("dropped", "more");
    fs::write(inside("..2").join("route-b.yaml"), more).expect("the folder is ours");
    symlink("..1", inside("..data")).expect("a link");
    for name in ["stile.yaml", "route-a.yaml"] {
        symlink(format!("..data/{name}"), inside(name)).expect("a link");
    }
    let gateway = Stile::start(folder.path(), &[]).await;
    assert_eq!(fetch(gateway.address(), "/one").await.status, 200);
    symlink("..2", inside("..new")).expect("a link");
    fs::rename(inside("..new"), inside("..data")).expect("a rename");
    let answered = async |path: &str, status: u16| {
        until(path, async || (fetch(gateway.address(), path).await.status == status).then_some(())).await;
    };
    answered("/two", 200).await;
    answered("/one", 404).await;
    symlink("..data/route-b.yaml", inside("route-b.yaml")).expect("a link");
    answered("/more", 200).await;
    fs::remove_file(inside("route-a.yaml")).expect("the folder is ours");
    answered("/two", 404).await;
    assert_eq!(fetch(gateway.address(), "/more").await.status, 200);
}

#[tokio::test]
async fn a_hang_up_has_the_files_read_again() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = Stile::run(folder.path(), plain(upstream.address())).await;
    gateway::write(folder.path(), json!({ "routes": [{ "name": "a", "service": "gone" }] }));
    let refused = "stile_config_changes_total{outcome=\"refused\"}";
    let times = async |wanted: u64| {
        let told = async || (gateway.admin().metric(refused).await == wanted).then_some(());
        until(&format!("it is refused {wanted} times"), told).await;
    };
    times(1).await;
    // Nothing has changed since, so that a watch alone would not look.
    gateway.signal("-HUP").await;
    times(2).await;
}
