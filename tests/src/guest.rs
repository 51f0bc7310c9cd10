//! The guests: all of them built by one cargo call, once per test run, from what is in the workspace.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bytes::Bytes;
use serde_json::{Value, json};
use stile_gateway::cli::toolchain::{self, Build};

/// Packages of the workspace, by the names that tests use.
const GUESTS: [(&str, &str); 24] = [
    ("require-token", "require-token"),
    ("add-headers", "add-headers"),
    ("greeting-v1", "greeting-v1"),
    ("greeting-v2", "greeting-v2"),
    ("api-key-auth", "api-key-auth"),
    ("canary-router", "canary-router"),
    ("composer", "composer"),
    ("hmac-signature", "hmac-signature"),
    ("jwt-auth", "jwt-auth"),
    ("hostile", "guest-hostile"),
    ("stamp", "guest-stamp"),
    ("keeper", "guest-keeper"),
    ("editor", "guest-editor"),
    ("doorkeeper", "guest-doorkeeper"),
    ("bodies", "guest-bodies"),
    ("streams", "guest-streams"),
    ("porter", "guest-porter"),
    ("toolbox", "guest-toolbox"),
    ("caller", "guest-caller"),
    ("chooser", "guest-chooser"),
    ("witness", "guest-witness"),
    ("header", "guest-header"),
    ("phases", "guest-phases"),
    ("edits", "guest-edits"),
];

/// Where the number stands that `stamp` tells, see there.
const MARK: &[u8] = b"stile-mark:";
const DIGITS: usize = 8;

static BUILT: OnceLock<HashMap<&'static str, PathBuf>> = OnceLock::new();

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a folder of the workspace")
}

/// The built file of a guest.
pub fn file(guest: &str) -> &'static Path {
    BUILT.get_or_init(build).get(guest).unwrap_or_else(|| panic!("there is no guest \"{guest}\""))
}

/// What is in it.
pub fn module(guest: &str) -> Bytes {
    fs::read(file(guest)).expect("the guest was built").into()
}

/// A revision of `stamp` that tells this number; each number makes a module with a digest of its own.
pub fn stamp(number: u32) -> Bytes {
    let mut module = module("stamp").to_vec();
    let found: Vec<usize> = (0..module.len()).filter(|at| module[*at..].starts_with(MARK)).collect();
    let [at] = found[..] else { panic!("the mark is {} times in the module of stamp", found.len()) };
    let digits = at + MARK.len()..at + MARK.len() + DIGITS;
    module[digits].copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
    module.into()
}

/// A guest as a plugin of the same name, loaded from its file, for a configuration.
pub fn plugin(guest: &str) -> Value {
    json!({ "name": guest, "file": file(guest) })
}

/// Gives a plugin more time than the defaults do, unless it says how much it has: host code that is not optimised takes much of the
/// default deadline, and all of it on a busy machine.
pub(crate) fn give_time(plugin: &mut Value) {
    let Some(plugin) = plugin.as_object_mut() else { return };
    let Some(limits) = plugin.entry("limits").or_insert_with(|| json!({})).as_object_mut() else { return };
    for (key, time) in [("deadline", "1s"), ("timeout", "30s"), ("call_timeout", "10s")] {
        limits.entry(key).or_insert_with(|| json!(time));
    }
}

/// The same with further keys.
pub fn plugin_with(guest: &str, keys: Value) -> Value {
    let mut plugin = plugin(guest);
    for (key, value) in keys.as_object().expect("keys are an object") {
        plugin[key] = value.clone();
    }
    plugin
}

/// A guest with the default deadline, for tests of harm that the deadline ends. Its time-outs, which count the time that a busy
/// machine has no CPU for it, are long.
pub fn plugin_with_default_deadline(guest: &str) -> Value {
    plugin_with(guest, json!({ "limits": { "deadline": "5ms", "timeout": "30s", "call_timeout": "10s" } }))
}

#[expect(clippy::print_stderr, reason = "what is installed on this machine must be seen")]
fn build() -> HashMap<&'static str, PathBuf> {
    let say = |text: &str| eprintln!("guests: {text}");
    let packages = GUESTS.map(|(_, package)| package);
    let built = toolchain::find_or_install(workspace(), &say).and_then(|toolchain| {
        // A folder of their own, or cargo would wait for any release build of the workspace.
        let target_dir = Some(Path::new("target/guests"));
        toolchain::build(toolchain, Build { dir: workspace(), packages: &packages, target_dir })
    });
    let files = built.unwrap_or_else(|error| panic!("the guests cannot be built: {error}"));
    GUESTS.iter().map(|(name, _)| *name).zip(files).collect()
}
