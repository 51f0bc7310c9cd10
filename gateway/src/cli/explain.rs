//! `stile explain`: what a configuration makes of one request, and why no other route has it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::HOST};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::{
    app::environment,
    config::{Document, Errors, schema},
    control::explain::{Explanation, Outcome, Question, explain as explanation},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The request's method.
    #[arg(value_parser = method)]
    method: Method,
    /// `http://HOST/PATH`, or the path alone.
    #[arg(value_parser = url)]
    url: Url,
    /// A header field of the request, once for each.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Show every route that was passed over, not the nearest misses alone.
    #[arg(long)]
    all: bool,
    /// Print `{"route":…,"service":…,"filters":[…],…,"passed":[…],"pages":[…]}`.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Url {
    host: Option<HeaderValue>,
    target: String,
}

/// Routes passed over that are shown without `--all`.
const SHOWN: usize = 10;

/// 0 if a route or a page serves the request, 1 if none does.
pub(super) fn explain(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { file, method, url: Url { host, target }, headers: fields, all, json } = arguments;
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value);
    }
    // As clients do: a host that is asked for by name takes the place of the URL's.
    if let Some(host) = host.filter(|_| !headers.contains_key(HOST)) {
        headers.insert(HOST, host);
    }
    let question = Question { method, target, headers };
    let document = Document::read(&file.config, &environment);
    let explanation = match explanation(&document, question) {
        Ok(explanation) => explanation,
        Err(errors) => return refused(&errors, json),
    };
    let shown = if all { explanation.passed.len() } else { SHOWN.min(explanation.passed.len()) };
    if json {
        let mut told = in_json(&explanation, shown);
        if !explanation.pages.is_empty() {
            told["pages"] = explanation.pages.iter().map(|listener| Value::from(&**listener)).collect();
        }
        println!("{told}");
    } else {
        println!("{}", in_text(&explanation, shown));
    }
    let served = matches!(explanation.outcome, Outcome::Served { .. }) || !explanation.pages.is_empty();
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A configuration that cannot be explained is told of as `check` does.
fn refused(errors: &Errors, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(errors)?);
    } else {
        eprintln!("{errors}");
    }
    Ok(ExitCode::FAILURE)
}

fn in_text(explanation: &Explanation<'_>, shown: usize) -> String {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: &str| lines.push(format!("{key:<9}  {value}"));
    let path = &explanation.path;
    if !explanation.pages.is_empty() {
        line(
            "page",
            &format!("of the portal on {}; what follows is for other listeners", explanation.pages.join(", ")),
        );
    }
    match &explanation.outcome {
        Outcome::Served { route, filters, service, forwarded } => {
            line("route", route.as_ref().map_or("none: the path names the service", |route| route.name.as_str()));
            let filters: Vec<_> = filters.iter().map(|filter| filter.plugin.as_str()).collect();
            line("filters", &if filters.is_empty() { "none".to_owned() } else { filters.join(", ") });
            line("service", &format!("{}, {}", service.name, policy(service)));
            for endpoint in &service.endpoints {
                line("endpoint", &format!("{}, weight {}", endpoint.address, endpoint.weight));
            }
            if service.endpoints.is_empty() {
                line("endpoint", "none");
            }
            line("path", path);
            if forwarded != path {
                line("forwarded", forwarded);
            }
        }
        unserved => {
            line("route", "none");
            line("path", path);
            line("answer", &answer(unserved).unwrap_or_default());
        }
    }
    let widest = explanation.passed.iter().take(shown).map(|(route, _)| route.name.len()).max().unwrap_or_default();
    if shown > 0 {
        lines.push("\npassed over".to_owned());
    }
    let passed = explanation.passed.iter().take(shown);
    lines.extend(passed.map(|(route, reason)| format!("  {:<widest$}  {reason}", route.name)));
    if explanation.passed.len() > shown {
        lines.push(format!("  and {} more: --all shows them", explanation.passed.len() - shown));
    }
    lines.join("\n")
}

fn in_json(explanation: &Explanation<'_>, shown: usize) -> Value {
    let passed = explanation.passed.iter().take(shown);
    let passed: Vec<_> = passed.map(|(route, reason)| json!({ "route": route.name, "reason": reason })).collect();
    let left_out = explanation.passed.len() - shown;
    let (path, answer) = (&explanation.path, answer(&explanation.outcome));
    let Outcome::Served { route, filters, service, forwarded } = &explanation.outcome else {
        return json!({
            "route": null, "service": null, "balance": null, "filters": [], "endpoints": [],
            "path": path, "forwarded": null, "answer": answer, "passed": passed, "left_out": left_out,
        });
    };
    let filters: Vec<_> = filters.iter().map(|filter| json!({ "plugin": filter.plugin })).collect();
    let endpoints = service.endpoints.iter();
    let endpoints: Vec<_> =
        endpoints.map(|endpoint| json!({ "address": endpoint.address, "weight": endpoint.weight })).collect();
    json!({
        "route": route.as_ref().map(|route| &route.name), "service": service.name, "balance": service.balance, "filters": filters,
        "endpoints": endpoints, "path": path, "forwarded": forwarded, "answer": null, "passed": passed,
        "left_out": left_out,
    })
}

/// What the gateway answers by itself.
fn answer(outcome: &Outcome<'_>) -> Option<String> {
    let reason = match outcome {
        Outcome::Served { .. } => return None,
        Outcome::Refused(refusal) => refusal.to_string(),
        Outcome::EncodedSlash => "the path has an encoded slash, backslash or NUL".to_owned(),
        Outcome::NoRoute => "no route matches".to_owned(),
        Outcome::NoMethod(allowed) => format!(
            "the path has no such method; it has {}",
            allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
        ),
        Outcome::NoService(name) => format!("there is no service \"{}\"", name.escape_debug()),
    };
    outcome.status().map(|status| format!("{}, {reason}", status.as_u16()))
}

/// As it is written, if it is a word.
fn policy(service: &schema::Service) -> String {
    match json!(service.balance) {
        Value::String(policy) => policy,
        policy => policy.to_string(),
    }
}

fn method(text: &str) -> Result<Method, String> {
    text.parse().map_err(|_| "it is not a token such as GET".to_owned())
}

/// A target that is not valid is no wrong usage: the gateway's answer to it is.
fn url(text: &str) -> Result<Url, String> {
    if text.starts_with('/') || text == "*" {
        return Ok(Url { host: None, target: text.to_owned() });
    }
    let other = "it is neither a URL such as http://api.example.com/users nor a path such as /users";
    let (scheme, rest) = text.split_once("://").ok_or(other)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(other.to_owned());
    }
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = HeaderValue::from_str(authority).ok().filter(|host| !host.is_empty()).ok_or(other)?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok(Url { host: Some(host), target: format!("{slash}{target}") })
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("it is not NAME: VALUE")?;
    let name = name.parse().map_err(|_| format!("{name:?} is not a field name"))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("{value:?} is not a field value"))?;
    Ok((name, value))
}
