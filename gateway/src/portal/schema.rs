//! A schema as people read it, and a value that has its form. What has a name is shown once, in a place of its own, and linked to.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::text;
use crate::openapi::{At, Document};

/// Where a document has schemas with names.
const NAMED: &str = "#/components/schemas/";
/// Parts of a sample, and how deep they are.
const MOST_PARTS: usize = 200;
const MOST_DEPTH: usize = 8;

/// Keywords that are shown as they are written.
const BOUNDS: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
];

/// All that have a name.
pub(super) fn named(document: &Document<'_>) -> Markup {
    let all = document.at("/components/schemas");
    let names = all.iter().filter_map(|all| all.value.as_object()).flatten().map(|(name, _)| name);
    html! {
        @for (name, schema) in names.zip(all.iter().flat_map(At::values)) {
            section.schema id={ "schema-" (name) } {
                h3 { code { (name) } }
                (shown(&schema))
            }
        }
    }
}

/// One schema: what it is in a few words, then its parts.
pub(super) fn shown(schema: &At<'_>) -> Markup {
    html! {
        span.kind { (kind(schema)) }
        @if let Some(about) = schema.value["description"].as_str() { (text::prose(about)) }
        (parts(schema))
    }
}

/// In a few words.
pub(super) fn kind(schema: &At<'_>) -> Markup {
    let value = schema.value;
    if let Some(reference) = value["$ref"].as_str() {
        return match reference.strip_prefix(NAMED) {
            Some(name) => html! { a href={ "#schema-" (name) } { (name) } },
            None => html! { (reference) },
        };
    }
    let bounds = BOUNDS.into_iter().filter_map(|key| Some((key, value.get(key)?)));
    html! {
        (types(value))
        @if let Some(items) = schema.get("items") { " of " (kind(&items)) }
        @if let Some(format) = value["format"].as_str() { " (" (format) ")" }
        @if let Some(only) = value.get("const") { " " code { (only) } }
        @if let Some(known) = value["enum"].as_array() {
            " one of " @for (n, one) in known.iter().enumerate() { @if n > 0 { ", " } code { (one) } }
        }
        @for (key, bound) in bounds { " " span.bound { (key) " " code { (bound) } } }
    }
}

fn types(schema: &Value) -> String {
    let named = |name: &Value| if name == "array" { "list".to_owned() } else { name.as_str().unwrap_or("").to_owned() };
    match &schema["type"] {
        Value::Array(all) => all.iter().map(named).collect::<Vec<_>>().join(" or "),
        Value::String(_) => named(&schema["type"]),
        _ if schema["properties"].is_object() => "object".to_owned(),
        _ if ["allOf", "anyOf", "oneOf", "enum", "const"].iter().any(|key| schema.get(key).is_some()) => String::new(),
        _ => "anything".to_owned(),
    }
}

fn parts(schema: &At<'_>) -> Markup {
    let required = schema.value["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|it| it == name));
    let properties = schema.get("properties");
    let names = properties.iter().filter_map(|all| all.value.as_object()).flatten().map(|(name, _)| name);
    let properties: Vec<_> = names.zip(properties.iter().flat_map(At::values)).collect();
    let branches = [("allOf", "all of"), ("anyOf", "any of"), ("oneOf", "one of")];
    html! {
        @if !properties.is_empty() {
            ul.parts {
                @for (name, part) in &properties {
                    li {
                        code { (name) } " "
                        @if is_required(name) { span.badge { "required" } " " }
                        (shown(part))
                    }
                }
            }
        }
        @if let Some(items) = schema.get("items") { (parts(&items)) }
        @if let Some(others) = schema.get("additionalProperties").filter(|it| it.value.is_object()) {
            ul.parts { li { em { "any other name" } " " (shown(&others)) } }
        }
        @for (key, words) in branches {
            @if schema.get(key).is_some() {
                p.branches { (words) }
                ul.parts { @for branch in schema.key(key).each() { li { (shown(&branch)) } } }
            }
        }
    }
}

/// A value of the form of a schema, to begin with.
pub(super) fn sample(document: &Document<'_>, schema: &At<'_>) -> Value {
    Sampler { document, left: MOST_PARTS, within: Vec::new() }.value(schema).unwrap_or(Value::Null)
}

struct Sampler<'a> {
    document: &'a Document<'a>,
    left: usize,
    /// The schemas whose values it is making: one in itself has no end.
    within: Vec<String>,
}

impl Sampler<'_> {
    /// None where it would have no end, or is too large.
    fn value(&mut self, schema: &At<'_>) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let schema = self.document.resolve(schema.clone()).ok()?;
        if self.within.contains(&schema.pointer) || self.within.len() == MOST_DEPTH {
            return None;
        }
        self.within.push(schema.pointer.clone());
        let value = self.made(&schema);
        self.within.pop();
        value
    }

    fn made(&mut self, schema: &At<'_>) -> Option<Value> {
        let written = schema.value;
        let first = |key: &str| written[key].as_array().and_then(|all| all.first());
        let given = written.get("example").or_else(|| first("examples")).or_else(|| written.get("default"));
        if let Some(given) = given.or_else(|| written.get("const")).or_else(|| first("enum")) {
            return Some(given.clone());
        }
        let kind = written["type"].as_str().or_else(|| first("type").and_then(Value::as_str)).unwrap_or_default();
        Some(match kind {
            "string" => "".into(),
            "integer" | "number" => written.get("minimum").cloned().unwrap_or_else(|| 0.into()),
            "boolean" => true.into(),
            "array" => schema.get("items").and_then(|items| self.value(&items)).into_iter().collect(),
            _ if kind == "object" || written["properties"].is_object() || written["allOf"].is_array() => {
                self.object(schema)
            }
            _ => {
                let branch = ["oneOf", "anyOf"].iter().find_map(|key| schema.key(key).each().next());
                branch.map_or(Some(Value::Null), |branch| self.value(&branch))?
            }
        })
    }

    fn object(&mut self, schema: &At<'_>) -> Value {
        let mut object = Map::new();
        for part in schema.key("allOf").each() {
            if let Some(Value::Object(more)) = self.value(&part) {
                object.extend(more);
            }
        }
        let properties = schema.key("properties");
        for (name, property) in properties.value.as_object().into_iter().flatten() {
            if property["readOnly"] != true {
                object.extend(self.value(&properties.key(name)).map(|value| (name.clone(), value)));
            }
        }
        object.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{named, sample};
    use crate::openapi::Document;

    fn document(schema: &Value) -> Value {
        json!({ "openapi": "3.1.0", "paths": {}, "components": { "schemas": { "A": schema } } })
    }

    #[test]
    fn a_sample_has_the_form_of_its_schema_and_an_end() {
        let of = |schema: Value| {
            let written = document(&schema);
            let document = Document::read(&written).expect("a document");
            sample(&document, &document.at("/components/schemas/A").expect("a schema"))
        };
        let part = json!({ "type": "object", "properties": {
            "id": { "type": "string", "readOnly": true },
            "name": { "type": "string", "examples": ["ann"] },
            "age": { "type": ["integer", "null"], "minimum": 18 },
            "role": { "enum": ["user", "admin"] },
            "parent": { "$ref": "#/components/schemas/A" },
            "children": { "type": "array", "items": { "$ref": "#/components/schemas/A" } },
        } });
        assert_eq!(of(part.clone()), json!({ "name": "ann", "age": 18, "role": "user", "children": [] }));
        assert_eq!(of(json!({ "allOf": [part], "properties": { "more": { "oneOf": [{ "const": 1 }] } } }))["more"], 1);
        assert_eq!(of(json!({ "$ref": "#/components/schemas/A" })), Value::Null);
        let wide = (0..300).map(|n| (n.to_string(), json!({ "type": "boolean" }))).collect::<serde_json::Map<_, _>>();
        assert_eq!(of(json!({ "properties": wide })).as_object().expect("an object").len(), super::MOST_PARTS - 1);
    }

    #[test]
    fn what_has_a_name_is_linked_to_and_nothing_is_markup() {
        let written = document(&json!({
            "description": "<b>x</b>",
            "required": ["<i>"],
            "properties": { "<i>": { "type": "array", "items": { "$ref": "#/components/schemas/A" }, "maxItems": 2 } },
        }));
        let shown = named(&Document::read(&written).expect("a document")).into_string();
        let part = "<code>&lt;i&gt;</code> <span class=\"badge\">required</span> <span class=\"kind\">list of <a href=\"#schema-A\">A</a> \
                    <span class=\"bound\">maxItems <code>2</code></span></span>";
        assert!(shown.contains(part), "{shown}");
        assert!(shown.contains("&lt;b&gt;"), "{shown}");
        assert!(!shown.contains("<b>") && !shown.contains("<i>"), "{shown}");
    }
}
