//! The page of a version: what it takes to call it, then its operations.

use std::borrow::Cow;

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::{Api, Shown, Version, badges, frame, operation, schema, text};
use crate::openapi::{At, Document};

pub(super) fn page(shown: &Shown<'_>, prefix: &str, api: &Api<'_>, version: &Version<'_>) -> Markup {
    let title = format!("{} {}", api.title.unwrap_or(api.name), version.name);
    let written = version.description.map_or_else(|| Cow::Owned(of_routes(version)), Cow::Borrowed);
    let about = written["info"]["description"].as_str().or(api.description);
    let schemes = Document::read(&written).map(|document| schemes(&document)).unwrap_or_default();
    let main = html! {
        h1 { (title) " " (badges(version)) }
        @if let Some(about) = about { (text::prose(about)) }
        (asked(version, &schemes))
        @if version.description.is_some() {
            p { a href={ (prefix) "/" (api.name) "/" (version.name) "/openapi.json" } { "OpenAPI document" } }
        }
        @match Document::read(&written) {
            Ok(document) => {
                @for (path, item) in document.items() {
                    @if let Ok(item) = item { (operation::all(&document, version, path, &item)) }
                }
                @if document.at("/components/schemas").is_some() {
                    h2 { "Schemas" }
                    (schema::named(&document))
                }
            },
            Err(mistake) => p { "The description of this version cannot be read: " (mistake) },
        }
    };
    frame(shown, prefix, &title, &main)
}

/// What every call has.
fn asked(version: &Version<'_>, schemes: &[Scheme]) -> Markup {
    let select = &version.select;
    let field = schemes.iter().find_map(|scheme| scheme.field.as_deref()).unwrap_or("Authorization");
    html! {
        section.asked {
            h2 { "Calling it" }
            ul {
                @if !select.path.is_empty() { li { "Paths begin with " code { (select.path) } "." } }
                @for (name, value) in &select.headers { li { "The field " code { (name) ": " (value) } "." } }
                @for (name, value) in &select.query { li { "The query parameter " code { (name) "=" (value) } "." } }
                @if version.anonymous {
                    li { "Anybody may call it." }
                } @else {
                    li { "Those may call it who have a grant; credentials tell who calls." }
                }
                @for scheme in schemes {
                    li { "Credentials: " (scheme.told) (text::prose(&scheme.description)) }
                }
                @if !version.scopes.is_empty() {
                    li {
                        "A grant needs the scopes "
                        @for (n, scope) in version.scopes.iter().enumerate() { @if n > 0 { ", " } code { (scope) } } "."
                    }
                }
            }
            p.credentials {
                label { "Credentials in the field " input #credential-name value=(field) autocomplete="off"; }
                label { "value " input #credential type="password" autocomplete="off"; }
            }
        }
    }
}

/// How its description says that callers prove who they are.
struct Scheme {
    told: Markup,
    description: String,
    /// The field that it is in, if it is in one.
    field: Option<String>,
}

fn schemes(document: &Document<'_>) -> Vec<Scheme> {
    let all = document.at("/components/securitySchemes");
    let all = all.iter().flat_map(|all| all.values().collect::<Vec<_>>());
    all.filter_map(|scheme| document.resolve(scheme).ok()).map(|scheme| Scheme::of(&scheme)).collect()
}

impl Scheme {
    /// By OpenAPI 3.1 §4.8.27.
    fn of(scheme: &At<'_>) -> Self {
        let (name, place) = (scheme.text("name"), scheme.text("in"));
        let (told, field) = match (scheme.text("type"), scheme.text("scheme").to_lowercase().as_str()) {
            ("apiKey", _) if place == "header" => (html! { "a key in the field " code { (name) } "." }, Some(name)),
            ("apiKey", _) => (html! { "a key in the " (place) ", named " code { (name) } "." }, None),
            ("http", "bearer") => {
                (html! { "a token in the field " code { "Authorization: Bearer …" } "." }, Some("Authorization"))
            }
            ("http", "basic") => (
                html! { "name and password in the field " code { "Authorization: Basic …" } "." },
                Some("Authorization"),
            ),
            ("http", other) => (
                html! { "the scheme " code { (other) } " in the field " code { "Authorization" } "." },
                Some("Authorization"),
            ),
            (other, _) => (html! { code { (other) } "." }, (other != "mutualTLS").then_some("Authorization")),
        };
        Self { told, description: scheme.text("description").to_owned(), field: field.map(str::to_owned) }
    }
}

/// A document that says as much as routes do.
fn of_routes(version: &Version<'_>) -> Value {
    let mut paths = Map::new();
    for (path, methods) in version.routes.iter().filter(|(path, _)| path.starts_with('/')) {
        let parts = path.split('/').filter_map(|part| match part {
            "*" => Some("*"),
            part => part.strip_prefix('{')?.strip_suffix('}'),
        });
        let parameter =
            |name: &str| json!({ "name": name, "in": "path", "required": name != "*", "schema": { "type": "string" } });
        let operation = json!({ "parameters": parts.map(parameter).collect::<Vec<_>>() });
        let methods = if methods.is_empty() {
            vec!["get".to_owned()]
        } else {
            methods.iter().map(|it| it.to_lowercase()).collect()
        };
        let item = paths.entry(*path).or_insert_with(|| json!({}));
        methods.into_iter().for_each(|method| item[method] = operation.clone());
    }
    json!({ "openapi": "3.1.0", "paths": paths })
}
