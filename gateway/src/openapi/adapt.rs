//! A document as requests are checked by it: OpenAPI's own words in its schemas as JSON Schema has them, and what requests need not
//! have taken out.

use serde_json::{Map, Value, json};

use super::document::Document;

/// Keys whose values have schemas by name.
const BY_NAME: [&str; 6] = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "schemas"];
/// Keys whose values are no schemas, whatever they look like.
const AS_WRITTEN: [&str; 5] = ["enum", "const", "default", "example", "examples"];

pub(super) fn adapted(document: &Document<'_>) -> Value {
    let mut root = document.root().clone();
    adapt(&mut root, document);
    root
}

fn adapt(value: &mut Value, document: &Document<'_>) {
    match value {
        Value::Array(parts) => parts.iter_mut().for_each(|part| adapt(part, document)),
        Value::Object(parts) => {
            for (key, part) in parts.iter_mut() {
                match part {
                    Value::Object(named) if BY_NAME.contains(&key.as_str()) => {
                        named.values_mut().for_each(|part| adapt(part, document));
                    }
                    _ if AS_WRITTEN.contains(&key.as_str()) => {}
                    _ => adapt(part, document),
                }
            }
            spare_read_only(parts, document);
            if document.old && parts.get("nullable") == Some(&Value::Bool(true)) {
                allow_null(value);
            }
        }
        _ => {}
    }
}

/// OpenAPI 3.0 §4.7.24: what is read only is required of answers alone.
fn spare_read_only(schema: &mut Map<String, Value>, document: &Document<'_>) {
    let Some(Value::Array(required)) = schema.get("required") else { return };
    let is_read_only = |name: &Value| {
        let property = name.as_str().and_then(|name| schema.get("properties")?.get(name));
        let named = property.and_then(|property| property["$ref"].as_str()?.strip_prefix('#'));
        let property = named.map_or(property, |pointer| document.root().pointer(pointer));
        property.is_some_and(|property| property["readOnly"] == true)
    };
    let left: Vec<_> = required.iter().filter(|name| !is_read_only(name)).cloned().collect();
    // Draft 4 knows no empty list of them.
    if left.is_empty() {
        schema.remove("required");
    } else {
        schema.insert("required".to_owned(), left.into());
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
