//! Generates the Rust bindings of the contract that `stile-sdk` has in `src/bindings/`, one file for each world.
//! `STILE_BLESS=1 cargo test -p stile-bindings` writes them.

use std::path::{Path, PathBuf};

use wit_bindgen_core::{Files, WorldGenerator, wit_parser::Resolve};
use wit_bindgen_rust::{Opts, WithOption};

/// The phases: the module in `stile_sdk::phase`, its world, and the interface of the contract that it uses.
const PHASES: [(&str, &str, Option<&str>); 14] = [
    ("configuration", "takes-configuration", None),
    ("authenticate", "authenticates", Some("exchange")),
    ("request", "filters-requests", Some("exchange")),
    ("request_body", "decides-on-request-bodies", Some("exchange")),
    ("request_stream", "streams-request-bodies", Some("body")),
    ("request_trailers", "filters-request-trailers", Some("exchange")),
    ("route", "routes", Some("exchange")),
    ("balance", "balances", Some("exchange")),
    ("response", "filters-responses", Some("exchange")),
    ("response_body", "decides-on-response-bodies", Some("exchange")),
    ("response_stream", "streams-response-bodies", Some("body")),
    ("response_trailers", "filters-response-trailers", Some("exchange")),
    ("log", "logs", Some("exchange")),
    ("tick", "ticks", None),
];

/// Types of the contract that are the SDK's own.
const OWN: [(&str, &str); 11] = [
    ("exchange@0.1.0/edit-error", "crate::EditError"),
    ("exchange@0.1.0/reply", "crate::Reply"),
    ("exchange@0.1.0/verdict", "crate::Verdict"),
    ("exchange@0.1.0/body-verdict", "crate::BodyVerdict"),
    ("http-client@0.1.0/error", "crate::http::CallError"),
    ("http-client@0.1.0/response", "crate::http::Answer"),
    ("key-value@0.1.0/error", "crate::key_value::KeyValueError"),
    ("metrics@0.1.0/error", "crate::metrics::MetricError"),
    ("crypto@0.1.0/hash", "crate::crypto::Hash"),
    ("connection@0.1.0/facts", "crate::connection::Connection"),
    ("exchange@0.1.0/consumer", "crate::consumers::Consumer"),
];

/// The folder of the SDK.
#[must_use]
pub fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk")
}

/// The bindings: names of files and their texts.
///
/// # Panics
///
/// The contract cannot be read, or has no such world.
#[must_use]
pub fn bindings() -> Vec<(String, String)> {
    let own = OWN.map(|(name, path)| with(name, path)).to_vec();
    let host = ("host.rs".to_owned(), generated("host", Opts { with: own, generate_all: true, ..options() }));
    let phases = PHASES.map(|(phase, world, interface)| {
        let over = interface.map(|name| with(&format!("{name}@0.1.0"), &format!("crate::backend::{name}")));
        let module = format!("stile_sdk::phase::{phase}::guest");
        let exports = Opts { pub_export_macro: true, default_bindings_module: Some(module), ..options() };
        (format!("{phase}.rs"), generated(world, Opts { with: over.into_iter().collect(), ..exports }))
    });
    [host].into_iter().chain(phases).collect()
}

fn options() -> Opts {
    Opts { format: false, ..Opts::default() }
}

fn with(name: &str, path: &str) -> (String, WithOption) {
    (format!("stile:plugin/{name}"), WithOption::Path(path.to_owned()))
}

fn generated(world: &str, options: Opts) -> String {
    let mut contract = Resolve::default();
    let (package, _) = contract.push_path(sdk().join("wit")).expect("the contract is in the SDK");
    let world = contract.select_world(&[package], Some(world)).expect("the contract has this world");
    let mut files = Files::default();
    options.build().generate(&mut contract, world, &mut files).expect("its bindings can be generated");
    let (_, text) = files.iter().next().expect("the generator makes one file");
    String::from_utf8(text.to_vec()).expect("Rust is text")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs};

    use super::*;

    #[test]
    fn the_bindings_in_the_sdk_are_current() {
        let (folder, bless) = (sdk().join("src/bindings"), env::var_os("STILE_BLESS").is_some());
        let bindings = bindings();
        for (name, text) in &bindings {
            let file = folder.join(name);
            if bless {
                fs::write(&file, text).expect("the SDK is ours");
            }
            let there = fs::read_to_string(&file).unwrap_or_default();
            assert!(
                there == *text,
                "src/bindings/{name} is not current: STILE_BLESS=1 cargo test -p stile-bindings writes it"
            );
        }
        let known: BTreeSet<_> = bindings.iter().map(|(name, _)| name.clone()).collect();
        let there =
            fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("an entry").file_name());
        let there: BTreeSet<_> = there.map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(there, known);
    }
}
