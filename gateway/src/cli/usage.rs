//! `stile usage`: how much each consumer has used each version of an API, by day.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Target, resource::items, table};

/// What is told of each, in capitals.
const COLUMNS: [&str; 9] = ["DAY", "API", "VERSION", "CONSUMER", "REQUESTS", "REFUSED", "FAILED", "RECEIVED", "SENT"];

#[derive(Debug, Args)]
pub struct Arguments {
    /// From this day on, such as 2026-01-31.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// To this day.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Of this API.
    #[arg(long)]
    api: Option<String>,
    /// Of this version.
    #[arg(long)]
    version: Option<String>,
    /// By this consumer.
    #[arg(long)]
    consumer: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Print `{"items":[…]}`.
    #[arg(long)]
    json: bool,
}

pub(super) fn usage(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { from, to, api, version, consumer, target, json } = arguments;
    let asked = [("from", from), ("to", to), ("api", api), ("version", version), ("consumer", consumer)];
    let asked = asked.into_iter().filter_map(|(key, value)| {
        let value = utf8_percent_encode(value.as_deref()?, NON_ALPHANUMERIC);
        Some(format!("{key}={value}"))
    });
    let path = format!("/v1/usage?{}", asked.collect::<Vec<_>>().join("&"));
    let items = super::runtime()?.block_on(items(target, &path))?;
    let cell = |item: &Value, column: &str| match &item[column.to_lowercase()] {
        // Whoever is not known has no name.
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    table::list(*json, &items, &COLUMNS, |item| COLUMNS.iter().map(|column| cell(item, column)).collect())?;
    Ok(ExitCode::SUCCESS)
}
