//! A value against the JSON Schema of the configuration's types, and then into those types.

mod explain;
mod mend;
mod place;
mod rules;

use jsonschema::Validator;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Config, error::Finding, scalar::FORMATS, tree::Tree};
use explain::Explain;
use mend::Mend;
use rules::Rules;

/// The lists that an included file may add to.
pub(super) const SHARED: [&str; 7] = ["listeners", "plugins", "services", "routes", "apis", "consumers", "groups"];

/// The rules of one sort of file.
pub(super) struct Form {
    schema: Value,
    validator: Validator,
}

impl Form {
    pub(super) fn of_main() -> Self {
        Self::new(json_schema())
    }

    pub(super) fn of_included() -> Self {
        let mut schema = json_schema();
        if let Some(keys) = schema["properties"].as_object_mut() {
            keys.retain(|key, _| SHARED.contains(&key.as_str()));
        }
        Self::new(schema)
    }

    /// Of one resource by itself.
    pub(super) fn of<T: JsonSchema>() -> Self {
        Self::new(schema_of::<T>())
    }

    fn new(schema: Value) -> Self {
        Self { validator: validator(&schema), schema }
    }

    /// Finds every way in which a tree does not have this form, then mends it so that it has.
    pub(super) fn check(&self, tree: &mut Tree) {
        let Explain { findings, wrong, .. } = self.explain(tree, usize::MAX);
        tree.findings.extend(findings);
        if !tree.findings.is_empty() {
            Mend { schema: &self.schema, wrong }.root(&mut tree.value, &mut tree.spot);
        }
    }

    /// The first ways in which a tree does not have this form, so many at most.
    pub(super) fn findings(&self, tree: &Tree, most: usize) -> Vec<Finding> {
        self.explain(tree, most).findings
    }

    /// The type of what stands under a key, as a JSON Schema names it.
    pub(super) fn type_of(&self, key: &str) -> &str {
        Rules(&self.schema["properties"][key]).type_name()
    }

    fn explain<'a>(&'a self, tree: &'a Tree, most: usize) -> Explain<'a> {
        let mut explain = Explain::new(&self.schema, tree, most);
        for error in self.validator.iter_errors(&tree.value) {
            explain.error(&error);
            if explain.findings.len() >= most {
                break;
            }
        }
        explain
    }
}

/// The JSON Schema of a configuration file.
pub fn json_schema() -> Value {
    schema_of::<Config>()
}

/// The value of a tree that `Form::check` has mended; an error is what the schema cannot say.
pub(super) fn deserialise<T: DeserializeOwned>(tree: &Tree) -> Result<T, Finding> {
    serde_path_to_error::deserialize(&tree.value).map_err(|error| {
        let found = tree.spot.find(&error.path().to_string());
        Finding { position: found.spot.at, path: found.path, message: error.into_inner().to_string() }
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
        let mut tree = tree::read(text, 0, &|_| None);
        Form::new(schema_of::<Holder>()).check(&mut tree);
        let holder = deserialise(&tree).map_err(|finding| finding.message);
        if tree.findings.is_empty() {
            return holder;
        }
        assert_eq!(holder, Ok(Holder { choice: None }), "what is wrong is taken out");
        let texts = tree.findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message));
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
            ("choice: plane", format!("choice: \"plane\" is none of {options}; did you mean \"plain\"?")),
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
                    ("minimum" | "maximum", _) => {
                        assert!(schema.get("minimum").and(schema.get("maximum")).is_some(), "half a range: {schema}");
                    }
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
