//! The shape of the sources: sizes, headers, and which module may use which.

mod source;

use source::Source;

const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 70;

/// Which modules of the gateway each may use: the arrows of the design, from left to right. A row stands for all that
/// is below its name and has no row of its own; a module may always use what is below the same top-level name.
const MAY_USE: [(&str, &[&str]); 38] = [
    // The command line.
    ("cli", &["app", "control", "config", "plugin", "descriptors", "monitor::log"]),
    // Data plane, in the order a request meets it.
    (
        "app",
        &[
            "admin",
            "control",
            "config",
            "listener",
            "proxy",
            "snapshot",
            "snapshot::compile",
            "filter",
            "upstream",
            "exchange",
            "plugin",
            "client",
            "worker",
            "monitor::health",
            "monitor::log",
        ],
    ),
    (
        "listener",
        &[
            "connection",
            "proxy",
            "snapshot",
            "exchange",
            "monitor::record",
            "monitor::count",
            "descriptors",
            "seldom",
            "socket",
        ],
    ),
    (
        "connection",
        &[
            "proxy",
            "snapshot",
            "exchange",
            "progress",
            "socket",
            "linger",
            "monitor::count",
            "monitor::record",
            "worker",
        ],
    ),
    (
        "proxy",
        &[
            "snapshot",
            "access",
            "openapi",
            "portal",
            "router",
            "filter",
            "upstream",
            "plugin",
            "exchange",
            "progress",
            "socket",
            "monitor::access_log",
            "monitor::record",
            "worker",
        ],
    ),
    (
        "snapshot",
        &[
            "access",
            "openapi",
            "portal",
            "router",
            "filter",
            "upstream",
            "plugin",
            "exchange",
            "progress",
            "linger",
            "monitor::access_log",
            "monitor::record",
            "monitor::records",
            "worker",
        ],
    ),
    ("access", &["worker"]),
    ("openapi", &["router", "exchange", "json"]),
    ("portal", &["openapi"]),
    ("filter", &["plugin", "seldom", "exchange", "monitor::record", "monitor::count", "worker"]),
    ("upstream", &["balance", "exchange", "monitor::record", "progress", "descriptors", "seldom", "socket", "worker"]),
    ("plugin", &["exchange", "monitor::count", "worker", "cpu"]),
    ("router", &["exchange"]),
    ("balance", &[]),
    // Control plane.
    (
        "admin",
        &[
            "control",
            "registry",
            "config",
            "json",
            "linger",
            "listener",
            "descriptors",
            "exchange",
            "progress",
            "socket",
            "snapshot",
            "filter",
            "plugin",
            "monitor::health",
            "monitor::metrics",
            "monitor::record",
            "monitor::stats",
            "worker",
        ],
    ),
    (
        "control",
        &[
            "access",
            "config",
            "store",
            "registry",
            "listener",
            "snapshot",
            "snapshot::compile",
            "plugin",
            "exchange",
            "client",
            "descriptors",
            "monitor::record",
        ],
    ),
    (
        "snapshot::compile",
        &[
            "access",
            "openapi",
            "portal",
            "config",
            "router",
            "filter",
            "upstream",
            "balance",
            "plugin",
            "exchange",
            "progress",
            "linger",
            "monitor::access_log",
            "monitor::record",
            "monitor::records",
            "worker",
        ],
    ),
    ("monitor::health", &["monitor::log", "worker"]),
    ("monitor::log", &[]),
    ("monitor::metrics", &["snapshot", "plugin"]),
    ("monitor::stats", &["snapshot", "plugin"]),
    ("monitor::records", &["filter"]),
    ("config", &[]),
    ("registry", &["store", "upstream", "balance", "client", "config"]),
    ("store", &[]),
    // Leaves for everybody.
    ("exchange", &["progress"]),
    ("client", &["progress", "socket"]),
    ("socket", &["monitor::record", "progress"]),
    ("progress", &[]),
    ("linger", &[]),
    ("descriptors", &[]),
    ("seldom", &[]),
    ("monitor::access_log", &["exchange", "worker"]),
    ("monitor::record", &["worker"]),
    ("monitor::count", &["worker"]),
    ("worker", &[]),
    ("cpu", &[]),
    ("json", &[]),
];

fn complain(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n{}", complaints.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let mut complaints = Vec::new();
    for source in Source::all() {
        let lines = source.without_tests().len();
        if lines > MAX_FILE {
            complaints.push(format!("{} has {lines} lines", source.path));
        }
        let long = source.functions().into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION);
        complaints.extend(long.map(|(name, lines)| format!("{}: {name} has {lines} lines", source.path)));
    }
    complain("too long", &complaints);
}

#[test]
fn every_file_says_what_it_owns() {
    let headless = Source::all().into_iter().filter(|source| !source.text.starts_with("//!"));
    complain("files without a //! header", &headless.map(|source| source.path).collect::<Vec<_>>());
}

#[test]
fn no_file_is_named_mod() {
    let named = Source::all().into_iter().filter(|source| source.path.ends_with("/mod.rs"));
    complain("foo.rs with foo/ instead of", &named.map(|source| source.path).collect::<Vec<_>>());
}

#[test]
fn wasmtime_is_named_in_the_plugin_host_only() {
    let mut complaints = Vec::new();
    for source in Source::gateway() {
        let module = source.module();
        if module != "plugin" && !module.starts_with("plugin::") && source.code().contains("wasmtime") {
            complaints.push(source.path);
        }
    }
    complain("wasmtime is named in", &complaints);
}

#[test]
fn imports_follow_the_arrows() {
    let mut complaints = Vec::new();
    for source in Source::gateway() {
        let from = source.module();
        for to in source.uses() {
            if let Err(why) = may_use(&from, &to) {
                complaints.push(format!("{}: crate::{to}: {why}", source.path));
            }
        }
    }
    complain("imports against the arrows", &complaints);
}

#[test]
fn the_arrows_say_what_they_should() {
    assert_eq!(may_use("snapshot::compile::parts", "config::schema::Match"), Ok(()));
    assert_eq!(may_use("proxy::accept", "snapshot::Reader"), Ok(()));
    assert_eq!(may_use("plugin::host::edit", "plugin::limits"), Ok(()));
    for (from, to) in [
        ("snapshot", "config::schema"),
        ("router", "filter::Chain"),
        ("proxy", "snapshot::compile::compile"),
        ("plugin", "router"),
    ] {
        may_use(from, to).expect_err(from);
    }
    may_use("new", "exchange").expect_err("a module without a row");
}

fn may_use(from: &str, to: &str) -> Result<(), String> {
    let top = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
    if top(from) == top(to) && row(to) != Some("snapshot::compile") {
        return Ok(());
    }
    let from_row = row(from).ok_or_else(|| format!("there is no row for {from}"))?;
    let to_row = row(to).ok_or_else(|| format!("there is no row for {to}"))?;
    let allowed = MAY_USE.iter().find(|(name, _)| *name == from_row).is_some_and(|(_, all)| all.contains(&to_row));
    if allowed { Ok(()) } else { Err(format!("{from_row} may not use {to_row}")) }
}

/// The longest name of a row that is this path or above it.
fn row(path: &str) -> Option<&'static str> {
    let above = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    MAY_USE.iter().map(|(name, _)| *name).filter(|name| above(name)).max_by_key(|name| name.len())
}
