//! `stile generation list|diff|restore`: what made each generation of a running gateway, and the way back to one.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::{Target, resource::say, table};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the generations and what made them, the newest first.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Those before this one.
        #[arg(long, value_name = "GENERATION")]
        before: Option<u64>,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Say what is otherwise now than it was then.
    Diff {
        /// Its number.
        generation: u64,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Make what was stored then live again, as a new generation. The file, consumers and credentials stay as they are.
    Restore {
        /// Its number.
        generation: u64,
        /// Only say what would come of it.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn generation(command: Command) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        match command {
            Command::List { limit, before, target, json } => {
                let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
                let path = format!("/v1/generations?limit={limit}{before}");
                let told = target.call(Method::GET, &path, Vec::new()).await?;
                if json {
                    return super::print(&format!("{told}\n"));
                }
                let rows: Vec<_> = items(&told).flat_map(rows).collect();
                super::print(&table::text(&["GENERATION", "AT", "BY", "ACTION", "KIND", "NAME"], &rows))
            }
            Command::Diff { generation, target, json } => {
                let path = format!("/v1/generations/{generation}/diff");
                let told = target.call(Method::GET, &path, Vec::new()).await?;
                say(json, &told, || differences(&told))
            }
            Command::Restore { generation, dry_run, target, json } => {
                let path = format!("/v1/generations/{generation}/restore?dry_run={dry_run}");
                let told = target.call(Method::POST, &path, Vec::new()).await?;
                say(json, &told, || match items(&told).count() {
                    0 => format!("everything is as in generation {generation} already"),
                    _ if dry_run => format!("{}\nwould be as in generation {generation}", differences(&told)),
                    _ => format!("{}\nis as in generation {generation} again", differences(&told)),
                })
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn items(told: &Value) -> impl Iterator<Item = &Value> {
    told["items"].as_array().into_iter().flatten()
}

/// A row for each change of a generation, which only the first one names.
fn rows(generation: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let changes = generation["changes"].as_array().into_iter().flatten().enumerate();
    let row = |(n, change): (usize, &Value)| {
        let mut row = vec![String::new(); 2];
        if n == 0 {
            row = vec![text(&generation["generation"]), text(&generation["at"])];
        }
        row.extend(["by", "action", "kind", "name"].map(|key| text(&change[key])));
        row
    };
    changes.map(row).collect()
}

/// What is now after `+`, what was then after `-`.
fn differences(told: &Value) -> String {
    let mut lines = Vec::new();
    for item in items(told) {
        let [kind, name] = ["kind", "name"].map(|key| item[key].as_str().unwrap_or_default());
        lines.push(format!("{} {name}", kind.trim_end_matches('s')));
        for (sign, value) in [('-', &item["then"]), ('+', &item["now"])] {
            if *value != Value::Null {
                lines.extend(format!("{value:#}").lines().map(|line| format!("  {sign} {line}")));
            }
        }
    }
    if lines.is_empty() { "nothing is otherwise".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_told_line_by_line() {
        let item = json!({ "kind": "routes", "name": "a", "now": { "service": "new" }, "then": null });
        let told = json!({ "items": [item] });
        assert_eq!(differences(&told), "route a\n  + {\n  +   \"service\": \"new\"\n  + }");
        assert_eq!(differences(&json!({ "items": [] })), "nothing is otherwise");
    }
}
