//! The reference for users, written from the JSON Schema: one section for each key that has keys of its own.
//! The test holds what is in `docs/` to it.

use std::{collections::HashMap, fmt::Write, path::Path};

use serde_json::Value;

use super::{Document, json_schema};
use crate::golden;

const INTRO: &str = include_str!("reference/intro.md");

struct Reference {
    schema: Value,
    text: String,
    /// The path of the section that each type has.
    sections: HashMap<String, String>,
}

/// A type that has keys of its own, and the path of the key that has this type.
struct Section {
    path: String,
    meaning: String,
    definition: String,
}

impl Reference {
    fn write() -> String {
        let schema = json_schema();
        let mut reference = Self { text: INTRO.to_owned(), sections: HashMap::new(), schema: schema.clone() };
        reference.text += "\n## The file\n\n";
        for section in reference.table("", &schema) {
            reference.section(&section, 2);
        }
        reference.text
    }

    /// Those of a key's own keys follow it, one level deeper.
    fn section(&mut self, section: &Section, level: usize) {
        let Section { path, meaning, definition } = section;
        let _ = write!(self.text, "\n{} `{path}`\n\n{meaning}\n\n", "#".repeat(level));
        let rules = self.schema["$defs"][definition].clone();
        for inner in self.table(path, &rules) {
            self.section(&inner, 3);
        }
    }

    /// One row for each key; comes back with the sections that its rows refer to.
    fn table(&mut self, path: &str, rules: &Value) -> Vec<Section> {
        self.text += "| key | type | default | meaning |\n|---|---|---|---|\n";
        let mut sections = Vec::new();
        for (key, rules_of_key) in rules["properties"].as_object().into_iter().flatten() {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{key}");
            let required = rules["required"].as_array().is_some_and(|keys| keys.iter().any(|other| other == key));
            let default = if required { "**required**".to_owned() } else { default(rules_of_key) };
            let kind = self.kind(&path, rules_of_key, &mut sections);
            let meaning = self.meaning(rules_of_key);
            let _ = writeln!(self.text, "| `{key}` | {kind} | {default} | {} |", meaning.replace('|', "\\|"));
        }
        sections
    }

    fn kind(&mut self, path: &str, rules: &Value, sections: &mut Vec<Section>) -> String {
        if let Some(definition) = rules["$ref"].as_str().and_then(|pointer| pointer.strip_prefix("#/$defs/")) {
            return match definition {
                "Duration" => "time".to_owned(),
                "Size" => "size".to_owned(),
                "Address" => "address".to_owned(),
                _ => self.defined(path, definition, rules, sections),
            };
        }
        if let Some(forms) = rules["anyOf"].as_array().or_else(|| rules["oneOf"].as_array()) {
            let forms = forms.iter().filter(|form| form["type"] != "null");
            return forms.map(|form| self.form(path, form, rules, sections)).collect::<Vec<_>>().join(" or ");
        }
        let kind = rules["type"].as_str().or_else(|| rules["type"][0].as_str());
        match kind.unwrap_or_default() {
            "array" => {
                let elements = self.form(&format!("{path}[]"), &rules["items"], rules, sections);
                format!("list of {}", plural(&elements))
            }
            "object" if rules["additionalProperties"].is_object() => {
                let values = self.form(&format!("{path}.*"), &rules["additionalProperties"], rules, sections);
                format!("mapping of names to {}", plural(&values))
            }
            "object" => "mapping".to_owned(),
            "integer" => whole_number(rules),
            "boolean" => "`true` or `false`".to_owned(),
            "string" => options(rules).unwrap_or_else(|| "string".to_owned()),
            _ => "anything".to_owned(),
        }
    }

    /// One of the forms that a key may have: what it means is what the key means.
    fn form(&mut self, path: &str, form: &Value, key: &Value, sections: &mut Vec<Section>) -> String {
        let mut form = form.clone();
        if let Some(members) = form.as_object_mut() {
            members.insert("description".to_owned(), key["description"].clone());
        }
        self.kind(path, &form, sections)
    }

    fn defined(&mut self, path: &str, definition: &str, key: &Value, sections: &mut Vec<Section>) -> String {
        let rules = self.schema["$defs"][definition].clone();
        if !rules["properties"].is_object() || !rules["oneOf"].is_null() {
            return self.form(path, &rules, key, sections);
        }
        let known = self.sections.get(definition).cloned();
        let path = known.unwrap_or_else(|| {
            let (path, meaning) = (path.to_owned(), sentence(key));
            self.sections.insert(definition.to_owned(), path.clone());
            sections.push(Section { path: path.clone(), meaning, definition: definition.to_owned() });
            path
        });
        let anchor: String = path.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
        format!("[mapping](#{anchor})")
    }

    /// What a key means, and each of its values, if they are few.
    fn meaning(&self, rules: &Value) -> String {
        let mut meaning = sentence(rules);
        let definition = rules["$ref"].as_str().and_then(|pointer| self.schema.pointer(pointer.strip_prefix('#')?));
        for form in definition.and_then(|rules| rules["oneOf"].as_array()).into_iter().flatten() {
            if let (Some(value), Some(_)) = (form["const"].as_str(), form["description"].as_str()) {
                let _ = write!(meaning, " `{value}`: {}", sentence(form));
            }
        }
        meaning
    }
}

fn sentence(rules: &Value) -> String {
    rules["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn default(rules: &Value) -> String {
    match &rules["default"] {
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Object(members) if members.is_empty() => "none".to_owned(),
        Value::Object(_) => "as below".to_owned(),
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}

fn plural(kind: &str) -> String {
    kind.replace("string", "strings").replace("[mapping]", "[mappings]")
}

fn options(rules: &Value) -> Option<String> {
    let value = |value: &Value| value.as_str().map(|value| format!("`{value}`"));
    value(&rules["const"]).or_else(|| {
        let values = rules["enum"].as_array()?.iter().filter_map(value);
        Some(values.collect::<Vec<_>>().join(" or "))
    })
}

/// A limit that is that of the type alone is no limit to tell.
fn whole_number(rules: &Value) -> String {
    let least = rules["minimum"].as_i64().filter(|least| *least > i32::MIN.into());
    let most = rules["maximum"].as_u64().filter(|most| *most < i32::MAX.unsigned_abs().into());
    match (least, most) {
        (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
        (Some(least), None) if least > 0 => format!("whole number, at least {least}"),
        _ => "whole number".to_owned(),
    }
}

#[test]
fn the_golden_reference_is_current() {
    golden::same("docs/configuration.md", &Reference::write());
}

#[test]
fn the_golden_schema_for_editors_is_current() {
    let schema = serde_json::to_string_pretty(&json_schema()).expect("JSON");
    golden::same("docs/configuration.schema.json", &format!("{schema}\n"));
}

/// All of its examples but the one that includes files which are not there.
#[test]
fn the_examples_of_the_reference_are_right() {
    let examples = INTRO.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<_> = examples.filter(|text| !text.contains("include:") && !text.starts_with('#')).collect();
    assert_eq!(examples.len(), 1);
    for example in examples {
        let errors = Document::parse(Path::new("example.yaml"), example, &|_| None).errors(Vec::new());
        assert_eq!(errors.to_string(), "");
    }
}

#[test]
fn every_key_is_explained() {
    fn walk(name: &str, rules: &Value, silent: &mut Vec<String>) {
        for (key, rules) in rules["properties"].as_object().into_iter().flatten() {
            if sentence(rules).is_empty() {
                silent.push(format!("{name}.{key}"));
            }
        }
    }
    let (schema, mut silent) = (json_schema(), Vec::new());
    walk("Config", &schema, &mut silent);
    schema["$defs"].as_object().into_iter().flatten().for_each(|(name, rules)| walk(name, rules, &mut silent));
    assert!(silent.is_empty(), "{silent:?}");
}
