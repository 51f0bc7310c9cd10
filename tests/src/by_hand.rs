//! Guests in WebAssembly text, for what no compiler would write: core modules with the contract's names, made components by the
//! gateway as any other.

use std::path::Path;

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// A core module of this text, which is said to import and export these interfaces of the contract.
///
/// # Panics
///
/// If the text is no module.
pub fn module(imports: &[&str], exports: &[&str], text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/wit");
    resolve.push_path(contract).expect("the contract");
    let line = |word: &str, name: &&str| format!("    {word} stile:plugin/{name}@0.1.0;\n");
    let imports: String = imports.iter().map(|name| line("import", name)).collect();
    let exports: String = exports.iter().map(|name| line("export", name)).collect();
    let world = format!("package by:hand;\nworld guest {{\n{imports}{exports}}}\n");
    let package = resolve.push_str("guest.wit", &world).expect("a world");
    let world = resolve.select_world(&[package], Some("guest")).expect("it has a world");
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("its types");
    module
}

/// A filter whose request phase is this, with a memory of 64 KiB, room for one text at a time, and these
/// imports. The phase takes the request's
/// handle and gives where its verdict stands; at 1024 stands one to proceed.
pub fn request_filter(imports: &[&str], parts: &str, phase: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {parts}
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
            (func (export "stile:plugin/request-filter@0.1.0#on-request") (param $request i32) (result i32)
                {phase}))"#
    );
    module(&[&["exchange"], imports].concat(), &["request-filter"], &text)
}

/// The import by which a handle of a request is given back, as `$drop`.
pub const DROP: &str = r#"(import "stile:plugin/exchange@0.1.0" "[resource-drop]request" (func $drop (param i32)))"#;
