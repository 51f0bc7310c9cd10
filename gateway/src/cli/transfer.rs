//! `stile export` and `stile import`: what the store of a running gateway adds to its file, in the form of the file.

use std::{
    fmt::Write as _,
    io::{read_to_string, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::Target;
use crate::{app::environment, config};

#[derive(Debug, Args)]
pub struct Export {
    /// With the credentials of consumers and what is secret of them.
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON, on one line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A file in the form of the configuration file, with plugins, services, routes, APIs, consumers and groups alone; `-` reads
    /// the standard input.
    file: PathBuf,
    /// Only say what would come of it.
    #[arg(long)]
    dry_run: bool,
    /// Delete what the store has and the file has not.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    target: Target,
    /// Print `{"items":[…]}`.
    #[arg(long)]
    json: bool,
}

pub(super) fn export(Export { secrets, target, json }: Export) -> Result<ExitCode> {
    let path = if secrets { "/v1/export?secrets=true" } else { "/v1/export" };
    let bundle = super::runtime()?.block_on(target.call(Method::GET, path, Vec::new()))?;
    super::print(&if json { format!("{bundle}\n") } else { yaml(bundle)? })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(Import { file, dry_run, prune, target, json }: Import) -> Result<ExitCode> {
    let sent = if file == Path::new("-") {
        Some(read_to_string(stdin()).context("cannot read the standard input")?)
    } else {
        None
    };
    let bundle = config::bundle(&file, sent.as_deref(), &environment)?;
    let path = format!("/v1/import?dry_run={dry_run}&prune={prune}");
    let told = super::runtime()?.block_on(target.call(Method::POST, &path, bundle.to_string().into_bytes()))?;
    super::print(&if json { format!("{told}\n") } else { said(&told, dry_run) })?;
    Ok(ExitCode::SUCCESS)
}

fn said(told: &Value, dry_run: bool) -> String {
    let mut text = String::new();
    for item in told["items"].as_array().into_iter().flatten() {
        let [kind, name, action] = ["kind", "name", "action"].map(|key| item[key].as_str().unwrap_or_default());
        let done = if dry_run { format!("would be {action}d") } else { format!("{action}d") };
        let _ = writeln!(text, "{} {name} {}", kind.trim_end_matches('s'), done.replace("ee", "e"));
    }
    if text.is_empty() { "everything is like that already\n".to_owned() } else { text }
}

/// In the form of the file: without empty lists, and with `${` as the file writes it.
fn yaml(bundle: Value) -> Result<String> {
    let Value::Object(lists) = bundle else { anyhow::bail!("the gateway's answer is no export") };
    let mut lists: Map<String, Value> =
        lists.into_iter().filter(|(_, list)| list.as_array().is_none_or(|list| !list.is_empty())).collect();
    lists.values_mut().for_each(escape);
    if lists.is_empty() {
        return Ok("# The store adds nothing.\n{}\n".to_owned());
    }
    serde_saphyr::to_string(&lists).context("the answer cannot be written as YAML")
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("${") => *text = text.replace("${", "$${"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(members) => {
            let escaped = std::mem::take(members).into_iter().map(|(key, mut member)| {
                escape(&mut member);
                (key.replace("${", "$${"), member)
            });
            *members = escaped.collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Texts that YAML may take for something else, and any others.
    fn text() -> impl Strategy<Value = String> {
        const HARD: &[&str] = &[
            "",
            "~",
            "null",
            "yes",
            "no",
            "on",
            "0x1f",
            "1_000",
            "1e3",
            ".5",
            "0o7",
            "-",
            "- a",
            "a: b",
            "#",
            "a #b",
            "${A}",
            "$${A}",
            "$$",
            "*a",
            "&a",
            "!t",
            "|",
            ">",
            "%",
            "@",
            "`",
            " a",
            "a ",
            "\n",
            "a\n",
            "\ta",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "12:30:45",
            "2030-01-01T00:00:00Z",
            "---",
            "...",
            "é",
            "\u{1f600}",
            "\r\n",
            "\u{0}",
            "{",
            "[",
            "'",
            "\"",
            "?",
            "? a",
            "=",
            "<<",
            "true",
            "123",
            "+1",
            ".inf",
            ".nan",
        ];
        prop_oneof![prop::sample::select(HARD).prop_map(str::to_owned), any::<String>()]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_exported_is_read_as_it_was(config in value()) {
            let bundle = json!({
                "services": [],
                "routes": [{ "name": "a", "service": "s", "filters": [{ "plugin": "p", "config": config }] }],
            });
            let file = env::temp_dir().join(format!("stile-cli-transfer-{}.yaml", process::id()));
            fs::write(&file, yaml(bundle.clone()).expect("YAML")).expect("a file is written");
            let read = config::bundle(&file, None, &|_| None);
            let text = fs::read_to_string(&file).expect("it is there");
            fs::remove_file(&file).expect("the file is removed");
            let read = read.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            prop_assert_eq!(&read["routes"], &bundle["routes"], "{}", text);
        }
    }

    #[test]
    fn only_what_the_admin_api_takes_is_imported() {
        let file = env::temp_dir().join(format!("stile-cli-import-{}.yaml", process::id()));
        fs::write(&file, "grace: 5s\nroutes:\n  - { name: a, servce: b }\n").expect("a file is written");
        let errors = config::bundle(&file, None, &|_| None).expect_err("two mistakes").to_string();
        fs::remove_file(&file).expect("the file is removed");
        let errors = errors.replace(&file.display().to_string(), "FILE");
        let expected = [
            "FILE:1:8: grace: only plugins, services, routes, apis, consumers, groups are imported; \"grace\" is for the configuration file",
            "FILE:3:16: routes[0].servce: unknown key \"servce\"; did you mean \"service\"?",
        ];
        assert_eq!(errors, expected.join("\n"));
    }
}
