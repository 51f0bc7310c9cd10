//! A document as requests are checked by it: OpenAPI's own words in its schemas as JSON Schema has them, and what requests need not
//! have taken out.

use serde_json::{Map, Value, json};

use super::document::Document;

/// Keys whose values have schemas by name.
const BY_NAME: [&str; 6] = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "schemas"];
/// Keys whose values are no schemas, whatever they look like.
const AS_WRITTEN: [&str; 5] = ["enum", "const", "default", "example", "examples"];
/// Schemas that are looked at for what is read only in one.
const MOST_SCHEMAS: usize = 100;

pub(super) fn adapted(document: &Document<'_>) -> Value {
    let mut root = document.root().clone();
    adapt(&mut root, document, &[]);
    root
}

/// OpenAPI 3.0 §4.7.24: what is read only is required of answers alone; `spared` are such of what the schema is a part of.
fn adapt(value: &mut Value, document: &Document<'_>, spared: &[String]) {
    match value {
        Value::Array(parts) => parts.iter_mut().for_each(|part| adapt(part, document, &[])),
        Value::Object(parts) => {
            let mut names = spared.to_vec();
            add_read_only(parts, document, &mut names, &mut { MOST_SCHEMAS });
            for (key, part) in parts.iter_mut() {
                match part {
                    Value::Object(named) if BY_NAME.contains(&key.as_str()) => {
                        named.values_mut().for_each(|part| adapt(part, document, &[]));
                    }
                    Value::Array(branches) if key == "allOf" => {
                        branches.iter_mut().for_each(|part| adapt(part, document, &names));
                    }
                    _ if AS_WRITTEN.contains(&key.as_str()) => {}
                    _ => adapt(part, document, &[]),
                }
            }
            if let Some(Value::Array(required)) = parts.get_mut("required") {
                required.retain(|name| names.iter().all(|it| name != it));
                // Draft 4 knows no empty list of them.
                if required.is_empty() {
                    parts.remove("required");
                }
            }
            if document.old && parts.get("nullable") == Some(&Value::Bool(true)) {
                allow_null(value);
            }
        }
        _ => {}
    }
}

/// The names of properties that are read only, in the schema or a branch of its `allOf`.
fn add_read_only(schema: &Map<String, Value>, document: &Document<'_>, names: &mut Vec<String>, left: &mut usize) {
    let Some(less) = left.checked_sub(1) else { return };
    *left = less;
    let target = |schema: &Value| document.root().pointer(schema["$ref"].as_str()?.strip_prefix('#')?);
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if [Some(property), target(property)].into_iter().flatten().any(|it| it["readOnly"] == true) {
            names.push(name.clone());
        }
    }
    for branch in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        if let Some(branch) = target(branch).unwrap_or(branch).as_object() {
            add_read_only(branch, document, names, left);
        }
    }
}

/// `nullable`, which OpenAPI 3.0 has in the place of a type.
fn allow_null(schema: &mut Value) {
    match schema.get_mut("type") {
        Some(kind @ Value::String(_)) => *kind = json!([kind.take(), "null"]),
        Some(_) => {}
        None => *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] }),
    }
}
