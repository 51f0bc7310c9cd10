//! Where modules come from: a file, a URL with its digest, a push; and whose signature they must have.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};
use stile_gateway::plugin::{Digest256, signature::SigningKey};
use stile_tests::{
    admin::{Admin, SECRET},
    client::{self, Client, request},
    gateway::{Gateway, filtered},
    guest,
    process::{Stile, stile},
    raw::Raw,
    upstream::{Answer, Gate, Upstream},
    wait::until,
};

const PUSHES: &str = "/v1/plugins/stamp/revisions";
const READY: &str = "GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n";

fn config(upstream: &Upstream, plugin: Value) -> Value {
    filtered(upstream.address(), json!([plugin]), json!([{ "plugin": "stamp", "config": { "mark": "m" } }]))
}

fn signature(key: &SigningKey, module: &[u8]) -> String {
    key.sign(Digest256::of(module)).to_string()
}

fn author() -> SigningKey {
    SigningKey::generate().expect("chance").0
}

async fn push(gateway: &Gateway, module: &[u8], signature: Option<&str>) -> client::Answer {
    let bearer = format!("Bearer {SECRET}");
    let mut fields = vec![("authorization", bearer.as_str())];
    fields.extend(signature.map(|signature| ("stile-signature", signature)));
    let request = request("PUT", PUSHES, &fields, module.to_vec());
    Client::connect(gateway.address_of("admin")).await.send(request).await
}

async fn revisions(gateway: &Gateway) -> Vec<Value> {
    let list = gateway.admin().get(PUSHES).await.json();
    list["items"].as_array().expect("a list").clone()
}

/// Which module runs, as it marks answers.
async fn runs(address: SocketAddr) -> String {
    client::fetch(address, "/").await.header("x-stamp").to_owned()
}

async fn until_runs(gateway: &Gateway, module: &str) {
    until(&format!("{module} runs"), async || (runs(gateway.address()).await == module).then_some(())).await;
}

async fn until_refused(gateway: &Gateway, reason: &str) {
    let refused = async || gateway.app().control().last_refused().filter(|refused| refused.message.ends_with(reason));
    until(reason, refused).await;
}

/// Says that no other revision is to be gone back to.
async fn settle(gateway: &Gateway, revision: u32) {
    let rolled = gateway.admin().send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": revision })).await;
    assert_eq!(rolled.status, 200, "{}", rolled.text());
}

/// Writes a file at one stroke, as an editor does.
fn put(file: &Path, content: impl AsRef<[u8]>) {
    let draft = file.with_extension("draft");
    fs::write(&draft, content).and_then(|()| fs::rename(&draft, file)).expect("the folder is ours");
}

#[tokio::test]
async fn only_what_a_trusted_key_has_signed_is_pushed() {
    let upstream = Upstream::echo().await;
    let (ours, theirs) = (author(), author());
    let trusting = |keys: Value| config(&upstream, json!({ "name": "stamp", "signed_by": keys }));
    let gateway = Gateway::start(trusting(json!([ours.public()]))).await;
    let (first, second) = (guest::stamp(1), guest::stamp(2));
    for (signature, reason) in [
        (None, "it is not signed, and only what a key in signed_by has signed may run"),
        (Some("aGVsbG8=".to_owned()), "its signature is not 64 bytes in base64"),
        (Some(signature(&theirs, &first)), "its signature is by none of the keys in signed_by"),
        (Some(signature(&ours, &second)), "its signature is by none of the keys in signed_by"),
    ] {
        let answer = push(&gateway, &first, signature.as_deref()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["detail"]), (422, &json!(reason)));
    }
    assert!(revisions(&gateway).await.is_empty(), "nothing is kept of what is refused");
    let made = signature(&ours, &first);
    assert_eq!(push(&gateway, &first, Some(&made)).await.status, 201);
    assert_eq!(runs(gateway.address()).await, "1/m");
    assert_eq!(revisions(&gateway).await[0]["signature"], json!(made));

    // A key that is trusted no more takes what it has signed along, unless that runs.
    let refused = gateway.rewrite_refused(trusting(json!([theirs.public()]))).await;
    let expected = "plugins[0].signed_by: revision 1 runs, or may be gone back to: its signature is by none of the keys in signed_by";
    assert!(refused.ends_with(expected), "{refused}");
    gateway.rewrite(trusting(json!([theirs.public(), ours.public()]))).await;
    assert_eq!(push(&gateway, &first, Some(&signature(&theirs, &first))).await.status, 200, "it is signed again");
    gateway.rewrite(trusting(json!([theirs.public()]))).await;
    assert_eq!(push(&gateway, &second, Some(&signature(&theirs, &second))).await.status, 201);
    assert_eq!(runs(gateway.address()).await, "2/m");
}

#[tokio::test]
async fn what_is_not_signed_is_not_gone_back_to() {
    let upstream = Upstream::echo().await;
    let ours = author();
    let gateway = Gateway::start(config(&upstream, json!({ "name": "stamp" }))).await;
    let (first, second) = (guest::stamp(1), guest::stamp(2));
    assert_eq!(push(&gateway, &first, None).await.status, 201);
    assert_eq!(push(&gateway, &second, Some("?")).await.status, 422, "a signature that is none, whoever is trusted");
    // Whose it is matters only once somebody is trusted.
    assert_eq!(push(&gateway, &second, Some(&signature(&ours, &second))).await.status, 201);
    let trusting = config(&upstream, json!({ "name": "stamp", "signed_by": [ours.public()] }));
    let refused = gateway.rewrite_refused(trusting).await;
    assert!(refused.contains("revision 1 runs, or may be gone back to: it is not signed"), "{refused}");
    settle(&gateway, 2).await;
    gateway.app().reload().await;
    assert!(gateway.app().control().last_refused().is_none());
    let back = gateway.admin().send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": 1 })).await;
    let detail = back.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(
        back.status == 422 && detail.contains("revision 1 runs, or may be gone back to: it is not signed"),
        "{detail}"
    );
    assert_eq!(runs(gateway.address()).await, "2/m");
}

#[tokio::test]
async fn the_signature_of_a_file_is_beside_it() {
    let upstream = Upstream::echo().await;
    let (ours, theirs) = (author(), author());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, beside) = (folder.path().join("stamp.wasm"), folder.path().join("stamp.wasm.sig"));
    let trusting =
        |key: &SigningKey| config(&upstream, json!({ "name": "stamp", "file": file, "signed_by": [key.public()] }));
    put(&file, guest::stamp(1));
    let refused = Gateway::try_start(trusting(&ours)).await.expect_err("it is not signed").to_string();
    assert!(refused.contains("plugins[0].file: it is not signed"), "{refused}");
    put(&beside, signature(&ours, &guest::stamp(1)));
    let gateway = Gateway::start(trusting(&ours)).await;
    assert_eq!(runs(gateway.address()).await, "1/m");

    // Whichever of the two comes first, the new module runs once both are there.
    put(&file, guest::stamp(2));
    until_refused(&gateway, "plugins[0].file: its signature is by none of the keys in signed_by").await;
    assert_eq!(runs(gateway.address()).await, "1/m");
    put(&beside, signature(&ours, &guest::stamp(2)));
    until_runs(&gateway, "2/m").await;

    settle(&gateway, 2).await;
    // The same module signed by somebody else, who is trusted from now on.
    put(&beside, signature(&theirs, &guest::stamp(2)));
    until_refused(&gateway, "plugins[0].file: its signature is by none of the keys in signed_by").await;
    gateway.rewrite(trusting(&theirs)).await;
    assert_eq!((runs(gateway.address()).await.as_str(), revisions(&gateway).await.len()), ("2/m", 2));
}

#[tokio::test]
async fn a_signed_plugin_from_the_commands() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, module) = (path("key.pem"), path("stamp.wasm"));
    let made = stile(&["plugin", "keygen", &key, "--json"]).await;
    let public = serde_json::from_slice::<Value>(&made.stdout).expect("JSON")["public"].clone();
    assert!(!stile(&["plugin", "keygen", &key]).await.status.success(), "a key is never overwritten");
    fs::write(&module, guest::stamp(1)).expect("the folder is ours");
    assert!(stile(&["plugin", "sign", &module, "--key", &key]).await.status.success());

    let gateway = Gateway::start(config(&upstream, json!({ "name": "stamp", "signed_by": [public] }))).await;
    let admin = format!("http://{}", gateway.address_of("admin"));
    let push = ["plugin", "push", "stamp", &module, "--admin", &admin, "--token", SECRET];
    let pushed = stile(&push).await;
    assert_eq!(String::from_utf8_lossy(&pushed.stdout), "stamp revision 1 is live\n");
    fs::write(&module, guest::stamp(2)).expect("the folder is ours");
    let refused = stile(&push).await;
    let reason = "stile: the gateway refused it (422): its signature is by none of the keys in signed_by\n";
    assert_eq!(String::from_utf8_lossy(&refused.stderr), reason);
    assert_eq!(runs(gateway.address()).await, "1/m");
}

/// Files by their path.
async fn registry(files: Vec<(&'static str, Vec<u8>)>) -> Upstream {
    Upstream::start(move |request| {
        let found = files.iter().find(|(path, _)| *path == request.target());
        let Some((_, content)) = found else {
            return match request.target().strip_prefix("/moved/") {
                Some(to) => Answer::Reply(302, vec![("location", format!("/{to}"))], String::new()),
                None => Answer::Reply(404, Vec::new(), "nothing here".to_owned()),
            };
        };
        module(content)
    })
    .await
}

fn module(content: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
    Answer::Bytes([head.as_bytes(), content].concat())
}

fn fetched(registry: &Upstream, path: &str, module: &[u8]) -> Value {
    json!({
        "name": "stamp",
        "url": format!("http://{}{path}", registry.address()),
        "sha256": Digest256::of(module).to_string(),
    })
}

#[tokio::test]
async fn a_url_gives_the_module_of_the_digest_or_nothing() {
    let upstream = Upstream::echo().await;
    let (first, second) = (guest::stamp(1), guest::stamp(2));
    let registry = registry(vec![("/1.wasm", first.to_vec()), ("/2.wasm", second.to_vec())]).await;
    let gateway = Gateway::start(config(&upstream, fetched(&registry, "/moved/1.wasm", &first))).await;
    assert_eq!(runs(gateway.address()).await, "1/m");
    assert_eq!(revisions(&gateway).await[0]["origin"], json!("url"));

    // What is refused, and what cannot be had, leaves what runs.
    for (plugin, reason) in [
        (fetched(&registry, "/2.wasm", b"other"), format!("what is there has the digest {}", Digest256::of(&second))),
        (
            fetched(&registry, "/3.wasm", b"other"),
            format!("cannot fetch http://{}/3.wasm: 404 Not Found", registry.address()),
        ),
        (
            fetched(&registry, "/moved/moved/moved/moved/moved/moved/1.wasm", b"other"),
            "it is redirected more than 5 times".to_owned(),
        ),
    ] {
        let faults = gateway.rewrite_with_faults(config(&upstream, plugin)).await;
        assert!(faults.contains("plugins[0].url: ") && faults.contains(&reason), "{faults}");
        assert_eq!(runs(gateway.address()).await, "1/m");
    }
    gateway.rewrite(config(&upstream, fetched(&registry, "/2.wasm", &second))).await;
    assert_eq!(runs(gateway.address()).await, "2/m");

    // What is known is not fetched again, and does not undo a later push.
    let count = registry.count();
    assert_eq!(push(&gateway, &guest::stamp(3), None).await.status, 201);
    gateway.app().reload().await;
    assert_eq!((runs(gateway.address()).await.as_str(), registry.count()), ("3/m", count));
}

#[tokio::test]
async fn what_cannot_be_fetched_is_asked_for_again() {
    let upstream = Upstream::echo().await;
    let (first, asked) = (guest::stamp(1), AtomicUsize::new(0));
    let content = first.to_vec();
    let registry = Upstream::start(move |_| match asked.fetch_add(1, Relaxed) {
        0 => Answer::Reply(503, Vec::new(), "not now".to_owned()),
        _ => module(&content),
    })
    .await;
    let gateway = Gateway::start(filtered(upstream.address(), json!([]), json!([]))).await;
    let wanted = config(&upstream, fetched(&registry, "/1.wasm", &first));
    let refused = gateway.rewrite_refused(wanted).await;
    assert!(refused.ends_with("/1.wasm: 503 Service Unavailable"), "{refused}");
    until_runs(&gateway, "1/m").await;
    assert_eq!((registry.count(), gateway.app().control().is_unfetched()), (2, false));
}

#[tokio::test]
async fn a_url_has_its_digest_and_may_have_its_signature() {
    let upstream = Upstream::echo().await;
    let (ours, first) = (author(), guest::stamp(1));
    let signed = signature(&ours, &first).into_bytes();
    let registry =
        registry(vec![("/1.wasm?v=1", first.to_vec()), ("/1.wasm.sig?v=1", signed), ("/2.wasm", first.to_vec())]).await;
    let with = |plugin: Value, keys: Value| {
        let mut plugin = plugin;
        plugin.as_object_mut().expect("an object").extend(keys.as_object().expect("an object").clone());
        config(&upstream, plugin)
    };
    let keys = json!({ "signed_by": [ours.public()] });
    for (config, reason) in [
        (with(fetched(&registry, "/2.wasm", &first), keys.clone()), "plugins[0].url: it is not signed, and only what"),
        (
            with(fetched(&registry, "/2.wasm", &first), json!({ "sha256": null })),
            "plugins[0].url: what is fetched needs its digest: sha256 is missing",
        ),
        (
            with(json!({ "name": "stamp" }), json!({ "sha256": Digest256::of(&first).to_string() })),
            "plugins[0].sha256: it is the digest of what a url gives, and there is none",
        ),
        (
            with(fetched(&registry, "/2.wasm", &first), json!({ "file": guest::file("stamp") })),
            "plugins[0].url: a plugin has a file or a url, not both",
        ),
        (
            with(fetched(&registry, "/2.wasm", &first), json!({ "url": "ftp://host/x" })),
            "plugins[0].url: expected a URL",
        ),
    ] {
        let refused = Gateway::try_start(config).await.expect_err(reason).to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let gateway = Gateway::start(with(fetched(&registry, "/1.wasm?v=1", &first), keys)).await;
    assert_eq!(runs(gateway.address()).await, "1/m");
}

#[tokio::test]
async fn what_was_fetched_is_there_after_a_restart() {
    let upstream = Upstream::echo().await;
    let first = guest::stamp(1);
    let registry = registry(vec![("/1.wasm", first.to_vec())]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(&upstream, fetched(&registry, "/1.wasm", &first));
    config["store"] = json!({ "path": "store" });
    let gateway = Stile::run(folder.path(), config.clone()).await;
    assert_eq!(runs(gateway.address()).await, "1/m");
    gateway.kill().await;
    drop(registry);
    let gateway = Stile::run(folder.path(), config).await;
    assert_eq!(runs(gateway.address()).await, "1/m");
    gateway.kill().await;
}

#[tokio::test]
async fn another_key_with_another_module_takes_the_place_of_what_is_trusted_no_more() {
    let upstream = Upstream::echo().await;
    let (ours, theirs) = (author(), author());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, beside) = (folder.path().join("stamp.wasm"), folder.path().join("stamp.wasm.sig"));
    let trusting = |key: &SigningKey| {
        let mut config = config(&upstream, json!({ "name": "stamp", "file": file, "signed_by": [key.public()] }));
        config["store"] = json!({ "path": "store" });
        config
    };
    put(&file, guest::stamp(1));
    put(&beside, signature(&ours, &guest::stamp(1)));
    let gateway = Stile::run(folder.path(), trusting(&ours)).await;
    assert_eq!(runs(gateway.address()).await, "1/m");
    gateway.kill().await;
    put(&file, guest::stamp(2));
    put(&beside, signature(&theirs, &guest::stamp(2)));
    let gateway = Stile::run(folder.path(), trusting(&theirs)).await;
    assert_eq!(runs(gateway.address()).await, "2/m");
    gateway.kill().await;
}

/// The address between two texts of a log, once it is there.
async fn logged(log: &Path, before: &str, after: &str) -> SocketAddr {
    let found = async || {
        let text = fs::read_to_string(log).ok()?;
        text.split_once(before)?.1.split_once(after)?.0.parse().ok()
    };
    until("the log names the address", found).await
}

/// A plugin may take a minute to fetch or to compile.
#[tokio::test]
async fn sockets_are_open_before_plugins_are_there() {
    let upstream = Upstream::echo().await;
    let (gate, first) = (Gate::new(), guest::stamp(1));
    let (behind, content) = (gate.clone(), first.clone());
    let registry = Upstream::start(move |_| Answer::Behind(behind.clone(), Box::new(module(&content)))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let config = config(&upstream, fetched(&registry, "/1.wasm", &first));
    let (gateway, (admin, mut kept, mut early)) =
        tokio::join!(Stile::run_logging(folder.path(), config, &log), async {
            let admin = Admin(logged(&log, "admin address ", " answers").await);
            let mut early = Raw::connect(logged(&log, "bound listener=\"public\" address=", "\n").await).await;
            early.write("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
            until("the module is asked for", async || (registry.count() == 1).then_some(())).await;
            assert_eq!(admin.get("/healthz").await.status, 200);
            for path in ["/readyz", "/metrics", "/v1/status"] {
                let answer = admin.get(path).await;
                assert_eq!(answer.status, 503, "{path}");
                assert_eq!(answer.json()["detail"], "the gateway is starting: it compiles its plugins", "{path}");
            }
            let mut kept = Raw::connect(admin.0).await;
            assert_eq!(kept.ask(READY).await.status(), 503);
            gate.cancel();
            (admin, kept, early)
        });
    assert_eq!(gateway.admin().0, admin.0, "it stays where it is");
    // No connection is lost when it becomes ready, and no request is answered with 503 after it has printed its addresses.
    assert_eq!(kept.ask(READY).await.status(), 200);
    assert_eq!(early.answer().await.status(), 200, "the early connection has waited");
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(runs(gateway.address()).await.split('/').next(), Some("1"));
}
