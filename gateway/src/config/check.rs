//! A value against the JSON Schema of the configuration's types, and then into those types.

mod explain;
mod place;
mod rules;

use jsonschema::Validator;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Config, error::Finding, scalar::FORMATS, tree::Spot};
use explain::Explain;

/// The JSON Schema of a configuration file.
pub fn json_schema() -> Value {
    schema_of::<Config>()
}

/// Every way in which a value is not a `T`.
pub(super) fn check<T: JsonSchema>(value: &Value, spot: &Spot) -> Vec<Finding> {
    let schema = schema_of::<T>();
    let validator = validator(&schema);
    let mut explain = Explain::new(&schema, spot);
    for error in validator.iter_errors(value) {
        explain.error(&error);
    }
    explain.findings
}

/// A value that `check` found nothing wrong with; an error is what the schema cannot say.
pub(super) fn deserialise<T: DeserializeOwned>(value: &Value, spot: &Spot) -> Result<T, Finding> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let position = spot.nearest(&path).at;
        Finding { position, path, message: error.into_inner().to_string() }
    })
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(bound));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Adds the limits of the integer types that schemars names but does not spell out.
fn bound(schema: &mut Schema) {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("uint32") => (u32::MIN.into(), u32::MAX.into()),
        Some("int64") => (i64::MIN.into(), i64::MAX.into()),
        Some("uint64") => (u64::MIN.into(), u64::MAX.into()),
        _ => return,
    };
    let schema = schema.ensure_object();
    schema.entry("minimum").or_insert(least);
    schema.entry("maximum").or_insert(most);
}

fn validator(schema: &Value) -> Validator {
    let options = jsonschema::options().should_validate_formats(true);
    let options = FORMATS.iter().fold(options, |options, format| options.with_format(format.name, format.holds));
    options.build(schema).expect("schemars makes valid schemas")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::tree;

    /// An enum whose variants are names or mappings of one key.
    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Choice {
        Plain,
        /// Documented, so that its schema has another form.
        Other,
        Keyed {
            size: u64,
        },
        Named(String),
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Holder {
        choice: Option<Choice>,
    }

    fn outcome(text: &str) -> Result<Holder, String> {
        let tree = tree::read(text, &|_| None).expect("a tree");
        let findings = check::<Holder>(&tree.value, &tree.spot);
        if findings.is_empty() {
            return deserialise(&tree.value, &tree.spot).map_err(|finding| finding.message);
        }
        let texts = findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message));
        Err(texts.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn accepts_each_form_of_a_choice() {
        for (text, choice) in [
            ("choice: plain", Some(Choice::Plain)),
            ("choice: other", Some(Choice::Other)),
            ("choice: { keyed: { size: 1e2 } }", Some(Choice::Keyed { size: 100 })),
            ("choice: { named: a }", Some(Choice::Named("a".to_owned()))),
            ("choice:", None),
        ] {
            assert_eq!(outcome(text), Ok(Holder { choice }), "{text}");
        }
    }

    #[test]
    fn tells_what_is_wrong_with_the_form_that_is_meant() {
        let options = "plain, other, { keyed: … }, { named: … }";
        for (text, expected) in [
            ("choice: plane", format!("choice: \"plane\" is none of {options}")),
            ("choice: keyed", format!("choice: \"keyed\" is none of {options}")),
            ("choice: [plain]", format!("choice: expected one of {options}, found a list")),
            ("choice: { plain: 1 }", format!("choice: expected one of {options}, found a mapping")),
            ("choice: { keyed: { size: x } }", "choice.keyed.size: expected a whole number, found \"x\"".to_owned()),
            ("choice: { named: 1 }", "choice.named: expected a string, found a number; put it in quotes".to_owned()),
            (
                "choice: { keyed: { size: -1 } }",
                "choice.keyed.size: -1 is out of range 0 to 18446744073709551615".to_owned(),
            ),
        ] {
            assert_eq!(outcome(text), Err(expected), "{text}");
        }
    }

    /// A new kind of rule in the types would be told in the validator's words.
    #[test]
    fn every_rule_of_the_schema_has_words() {
        const TOLD: [&str; 12] = [
            "type",
            "format",
            "pattern",
            "enum",
            "const",
            "minimum",
            "maximum",
            "minLength",
            "required",
            "additionalProperties",
            "anyOf",
            "oneOf",
        ];
        const SILENT: [&str; 8] =
            ["$schema", "$ref", "$defs", "title", "description", "default", "properties", "items"];

        fn walk(schema: &Value) {
            for (keyword, rule) in schema.as_object().into_iter().flatten() {
                assert!(TOLD.contains(&keyword.as_str()) || SILENT.contains(&keyword.as_str()), "{keyword}: {rule}");
                match (keyword.as_str(), rule) {
                    ("properties" | "$defs", Value::Object(parts)) => parts.values().for_each(walk),
                    ("anyOf" | "oneOf", Value::Array(branches)) => branches.iter().for_each(walk),
                    ("items" | "additionalProperties", part) => walk(part),
                    _ => {}
                }
            }
        }
        walk(&json_schema());
    }
}
