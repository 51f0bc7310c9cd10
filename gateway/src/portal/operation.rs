//! One operation: what it takes, what it answers, and a form to try it.

use http::Method;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::{Version, schema, text};
use crate::openapi::{At, Document, may_be_list};

/// All methods of a path.
pub(super) fn all(document: &Document<'_>, version: &Version<'_>, path: &str, item: &At<'_>) -> Markup {
    html! {
        @for (method, operation) in document.operations(item) {
            (one(document, version, path, item, &method, &operation))
        }
    }
}

fn one(
    document: &Document<'_>,
    version: &Version<'_>,
    path: &str,
    item: &At<'_>,
    method: &Method,
    operation: &At<'_>,
) -> Markup {
    let parameters = parameters(document, item, operation);
    let body = operation.get("requestBody").and_then(|body| document.resolve(body).ok());
    let whole = format!("{}{path}", version.select.path.trim_end_matches('/'));
    html! {
        details.operation {
            summary {
                span.method.(method.as_str().to_lowercase()) { (method) } " " code { (whole) } " "
                (operation.text("summary"))
                @if operation.value["deprecated"] == true { " " span.badge.deprecated { "deprecated" } }
            }
            (text::prose(operation.text("description")))
            @if !parameters.is_empty() { (table(&parameters)) }
            @if let Some(body) = &body {
                h4 { "Body" @if body.value["required"] == true { " " span.badge { "required" } } }
                (text::prose(body.text("description")))
                (contents(body))
            }
            (answers(document, operation))
            (form(document, version, method, &whole, &parameters, body.as_ref()))
        }
    }
}

/// Those of an operation, with those of its path that it does not have itself.
fn parameters<'a>(document: &Document<'a>, item: &At<'a>, operation: &At<'a>) -> Vec<At<'a>> {
    let mut all: Vec<At<'a>> = Vec::new();
    for written in operation.key("parameters").each().chain(item.key("parameters").each()) {
        let Ok(new) = document.resolve(written) else { continue };
        if !all.iter().any(|it| it.value["name"] == new.value["name"] && it.value["in"] == new.value["in"]) {
            all.push(new);
        }
    }
    all
}

/// The schema of a parameter, which may be that of what it contains.
fn schema_of<'a>(parameter: &At<'a>) -> At<'a> {
    let content = parameter.get("content").and_then(|content| content.values().next());
    content.unwrap_or_else(|| parameter.clone()).key("schema")
}

fn table(parameters: &[At<'_>]) -> Markup {
    html! {
        table {
            thead { tr { th { "Parameter" } th { "in" } th { "is" } th { "" } } }
            tbody {
                @for parameter in parameters {
                    tr {
                        td { code { (parameter.text("name")) } }
                        td { (parameter.text("in")) }
                        td {
                            (schema::kind(&schema_of(parameter)))
                            @if parameter.value["required"] == true { " " span.badge { "required" } }
                        }
                        td { (text::prose(parameter.text("description"))) }
                    }
                }
            }
        }
    }
}

fn answers(document: &Document<'_>, operation: &At<'_>) -> Markup {
    let responses = operation.key("responses");
    let statuses = responses.value.as_object().into_iter().flatten().map(|(status, _)| status);
    let answers: Vec<_> = statuses
        .zip(responses.values())
        .filter_map(|(status, answer)| Some((status, document.resolve(answer).ok()?)))
        .collect();
    html! {
        @if !answers.is_empty() {
            h4 { "Answers" }
            dl.answers {
                @for (status, answer) in &answers {
                    dt { code { (status) } }
                    dd { (text::prose(answer.text("description"))) (contents(answer)) }
                }
            }
        }
    }
}

/// What a body may be, by media type.
fn contents(of: &At<'_>) -> Markup {
    let content = of.key("content");
    let kinds = content.value.as_object().into_iter().flatten().map(|(kind, _)| kind);
    html! {
        @for (kind, media) in kinds.zip(content.values()) {
            p.media { code { (kind) } }
            @if let Some(schema) = media.get("schema") { (schema::shown(&schema)) }
        }
    }
}

/// What the script makes a request of: data of the form say what every call of the version has.
fn form(
    document: &Document<'_>,
    version: &Version<'_>,
    method: &Method,
    path: &str,
    parameters: &[At<'_>],
    body: Option<&At<'_>>,
) -> Markup {
    // Who is selected by a pattern must be told what to send.
    let is_plain = |value: &str| !value.starts_with('~');
    let select = &version.select;
    let headers = select.headers.iter().filter(|(_, value)| is_plain(value));
    let headers: Map<String, Value> =
        headers.map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    let query = select.query.iter().filter(|(_, value)| is_plain(value));
    let query: Map<String, Value> = query.map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    html! {
        form.try data-method=(method) data-path=(path) data-headers=(Value::from(headers)) data-query=(Value::from(query)) {
            h4 { "Try it" }
            @for parameter in parameters { (input(document, parameter)) }
            @if let Some(body) = body { (body_input(document, body)) }
            button { "Send" }
            pre.command hidden {}
            output hidden { p.status {} pre.headers {} pre.body {} }
        }
    }
}

fn input(document: &Document<'_>, parameter: &At<'_>) -> Markup {
    let (name, place) = (parameter.text("name"), parameter.text("in"));
    let required = parameter.value["required"] == true;
    let schema = document.resolve(schema_of(parameter)).ok();
    let may_be_list = schema.as_ref().is_some_and(|schema| may_be_list(document, schema));
    let written = schema.as_ref().map_or(&Value::Null, |schema| schema.value);
    let is_form = matches!(parameter.text("style"), "" | "form");
    let is_list = may_be_list && is_form && parameter.value["explode"] != false && place == "query";
    let style = if is_list { "each" } else { parameter.text("style") };
    let known: Vec<String> = match &written["enum"] {
        Value::Array(known) => {
            known.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect()
        }
        _ if written["type"] == "boolean" => vec!["true".to_owned(), "false".to_owned()],
        _ => Vec::new(),
    };
    html! {
        label {
            (name) " " small { (place) @if is_list { ", with commas" } } " "
            @if known.is_empty() {
                input data-name=(name) data-in=(place) data-style=(style) required[required] autocomplete="off";
            } @else {
                select data-name=(name) data-in=(place) data-style=(style) required[required] {
                    @if !required { option {} }
                    @for one in &known { option { (one) } }
                }
            }
        }
    }
}

fn body_input(document: &Document<'_>, body: &At<'_>) -> Markup {
    let content = body.key("content");
    let kinds: Vec<_> = content.value.as_object().into_iter().flatten().map(|(kind, _)| kind).collect();
    let sample = kinds.iter().find(|kind| kind.contains("json")).and_then(|kind| {
        let media = content.key(kind);
        let given = media.get("example").map(|given| given.value.clone());
        given.or_else(|| Some(schema::sample(document, &media.get("schema")?)))
    });
    let text = sample.and_then(|sample| serde_json::to_string_pretty(&sample).ok()).unwrap_or_default();
    html! {
        label { "Content-Type " select data-in="media" { @for kind in &kinds { option { (kind) } } } }
        label { "Body " textarea data-in="body" rows="8" spellcheck="false" { (text) } }
    }
}
