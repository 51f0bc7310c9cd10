//! Modules that were made for another host: which one, and what their author can do. It only reads names.

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

/// Packages of WASI that components may import.
const WASI: [&str; 6] = ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/", "wasi:filesystem/", "wasi:sockets/"];

/// What to do with a module that is no plugin yet.
const ANEW: &str = "a plugin exports phases of the package stile:plugin, as stile-sdk does";

/// Says for which other host a core module was made, if its names show that.
pub(super) fn of_core_module(bytes: &[u8]) -> Option<String> {
    let Names { imports, exports } = Names::of(bytes);
    let imported = |name: &str| imports.iter().any(|(module, _)| module == name);
    if let Some(export) = exports.iter().find(|name| name.starts_with("proxy_abi_version_")) {
        return Some(format!("this is a filter for proxy-wasm hosts, it exports {export}: {ANEW}, so write it anew"));
    }
    if let Some((_, function)) = imports.iter().find(|(module, name)| module == "env" && name.starts_with("proxy_")) {
        return Some(format!("this is a filter for proxy-wasm hosts, it imports {function}: {ANEW}, so write it anew"));
    }
    let preview = ["wasi_snapshot_preview1", "wasi_unstable"].into_iter().find(|name| imported(name));
    if let Some(preview) = preview {
        if exports.contains("_start") {
            return Some(format!(
                "this is a program for WASI preview 1, it imports {preview} and exports _start: {ANEW}, and has no main; \
                 build a library"
            ));
        }
        return Some(format!(
            "this is a module for WASI preview 1, it imports {preview}: build it for wasm32-unknown-unknown or \
             wasm32-wasip2, or make it a component with `wasm-tools component new --adapt {preview}.reactor.wasm`"
        ));
    }
    if let Some(bindgen) = ["wbg", "__wbindgen_placeholder__"].into_iter().find(|name| imported(name)) {
        return Some(format!("this is a module for JavaScript hosts by wasm-bindgen, it imports {bindgen}: {ANEW}"));
    }
    if imports.iter().any(|(module, name)| module == "env" && name.starts_with("emscripten_")) {
        return Some(format!("this is a module for JavaScript hosts by Emscripten: {ANEW}"));
    }
    let modules: BTreeSet<&str> = imports.iter().map(|(module, _)| module.as_str()).collect();
    let modules: Vec<&str> = modules.into_iter().collect();
    let needs = "the gateway gives a core module only what its component type names";
    (!modules.is_empty() && !has_component_type(bytes))
        .then(|| format!("this is a core module for another host, it imports {}: {needs}; {ANEW}", modules.join(", ")))
}

/// Says for which other host a component was made that exports no phase, if its names show that.
pub(super) fn of_component(exports: &[String]) -> Option<String> {
    let of = |prefix: &str| exports.iter().find(|name| name.starts_with(prefix));
    if let Some(name) = of("wasi:http/") {
        return Some(format!(
            "this is a component for hosts of wasi:http, it exports {name}: {ANEW}, so write it anew"
        ));
    }
    of("wasi:cli/run").map(|name| format!("this is a program, it exports {name}: {ANEW}, and has no main"))
}

/// The imports of a component that are of no package that the gateway has.
pub(super) fn unknown_imports(imports: &[String]) -> Vec<&str> {
    let is_known =
        |name: &&str| name.starts_with("stile:plugin/") || WASI.iter().any(|package| name.starts_with(package));
    imports.iter().map(String::as_str).filter(|name| !is_known(name)).collect()
}

/// Names that a core module imports and exports.
#[derive(Default)]
struct Names {
    imports: BTreeSet<(String, String)>,
    exports: BTreeSet<String>,
}

impl Names {
    /// What cannot be read is left out: validation reports it.
    fn of(bytes: &[u8]) -> Self {
        let mut names = Self::default();
        for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
            match payload {
                Payload::ImportSection(section) => {
                    for import in section.into_imports().map_while(Result::ok) {
                        names.imports.insert((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::ExportSection(section) => {
                    names.exports.extend(section.into_iter().map_while(Result::ok).map(|it| it.name.to_owned()));
                }
                _ => {}
            }
        }
        names
    }
}

/// Whether bindings of the component model were compiled into it.
fn has_component_type(bytes: &[u8]) -> bool {
    let mut payloads = Parser::new(0).parse_all(bytes).map_while(Result::ok);
    payloads.any(|payload| matches!(payload, Payload::CustomSection(it) if it.name().starts_with("component-type")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<String> {
        of_core_module(&wat::parse_str(text).expect("a module"))
    }

    #[test]
    fn a_module_for_another_host_is_named_with_what_to_do() {
        for (module, expected) in [
            (
                r#"(module (import "env" "proxy_log" (func)) (func (export "proxy_abi_version_0_2_1")))"#,
                "a filter for proxy-wasm hosts, it exports proxy_abi_version_0_2_1: ",
            ),
            (r#"(module (import "env" "proxy_log" (func)))"#, "a filter for proxy-wasm hosts, it imports proxy_log: "),
            (
                r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#,
                "a module for WASI preview 1, it imports wasi_snapshot_preview1: build it for wasm32-unknown-unknown",
            ),
            (
                r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#,
                "a program for WASI preview 1, it imports wasi_snapshot_preview1 and exports _start: ",
            ),
            (r#"(module (import "wbg" "__wbg_new" (func)))"#, "a module for JavaScript hosts by wasm-bindgen"),
            (r#"(module (import "env" "emscripten_resize_heap" (func)))"#, "by Emscripten"),
            (r#"(module (import "a" "b" (func)) (import "c" "d" (func)))"#, "for another host, it imports a, c: "),
        ] {
            let kind = kind(module).expect("it is for another host");
            assert!(kind.contains(expected), "{kind}");
        }
        assert_eq!(kind(r#"(module (func (export "f")))"#), None);
        assert_eq!(
            kind(r#"(module (@custom "component-type:a" "") (import "stile:plugin/log@0.1.0" "log" (func)))"#),
            None
        );
    }

    #[test]
    fn a_component_for_another_host_is_named() {
        let named = |name: &str| of_component(&[name.to_owned()]);
        assert!(named("wasi:http/incoming-handler@0.2.3").is_some_and(|it| it.contains("wasi:http")));
        assert!(named("wasi:cli/run@0.2.3").is_some_and(|it| it.starts_with("this is a program")));
        assert_eq!(named("other:package/interface"), None);
        let imports =
            ["wasi:io/poll@0.2.3", "wasi:http/types@0.2.3", "stile:plugin/log@0.1.0", "a:b/c"].map(str::to_owned);
        assert_eq!(unknown_imports(&imports), ["wasi:http/types@0.2.3", "a:b/c"]);
    }
}
