//! One part of a JSON Schema, as schemars writes it, asked what would have been right.

use serde_json::Value;

use super::{
    super::{
        scalar::FORMATS,
        words::{nearest, shown, type_name},
    },
    place::Place,
};

#[derive(Clone, Copy)]
pub(super) struct Rules<'a>(pub(super) &'a Value);

impl<'a> Rules<'a> {
    /// The keys that a mapping may have.
    pub(super) fn keys(self) -> impl Iterator<Item = &'a str> {
        self.0["properties"].as_object().into_iter().flat_map(|keys| keys.keys().map(String::as_str))
    }

    /// The key that an unknown one is a mistyped form of.
    pub(super) fn meant_by(self, key: &str) -> Option<&'a str> {
        if self.keys().any(|known| known == key) {
            return None;
        }
        nearest(key, self.keys())
    }

    /// Whether a mapping has keys with rules of their own.
    pub(super) fn has_members(self) -> bool {
        self.0["properties"].is_object() || self.0["additionalProperties"].is_object()
    }

    /// The rules of what stands under a key; none if it must not be there.
    pub(super) fn member(self, key: &str) -> Option<&'a Value> {
        const ANYTHING: &Value = &Value::Bool(true);
        let others = self.0.get("additionalProperties").unwrap_or(ANYTHING);
        self.0["properties"].get(key).or_else(|| (*others != Value::Bool(false)).then_some(others))
    }

    pub(super) fn required(self) -> impl Iterator<Item = &'a str> {
        self.0["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// The rules of a list's elements.
    pub(super) fn items(self) -> &'a Value {
        &self.0["items"]
    }

    /// The JSON Pointer that a reference holds.
    pub(super) fn reference(self) -> Option<&'a str> {
        self.0["$ref"].as_str()?.strip_prefix('#')
    }

    /// The one form that a value may have unless it is null.
    pub(super) fn sole_form(self) -> Option<Self> {
        let forms = self.branches("anyOf").into_iter().filter(|form| !form.is_null());
        let [form] = forms.collect::<Vec<_>>()[..] else { return None };
        Some(form)
    }

    /// The first of several forms.
    pub(super) fn first_form(self) -> Option<&'a Value> {
        ["oneOf", "anyOf"].iter().find_map(|keyword| self.0[*keyword].get(0))
    }

    /// A value that has no parts and the right form; none if it would have to be a mapping.
    pub(super) fn sample(self) -> Option<Value> {
        let first = |list: &Value| list.get(0).cloned();
        if let Some(value) = self.0.get("const").cloned().or_else(|| first(&self.0["enum"])) {
            return Some(value);
        }
        let format = FORMATS.iter().find(|format| self.0["format"] == format.name);
        match self.type_name() {
            "string" => Some(format.map_or("", |format| format.sample).into()),
            "integer" | "number" => Some(self.0.get("minimum").cloned().unwrap_or_else(|| 0.into())),
            "boolean" => Some(false.into()),
            "array" => Some(Value::Array(Vec::new())),
            "object" => None,
            _ => Some(Value::Null),
        }
    }

    /// What a value should be, in words.
    pub(super) fn wanted(self) -> &'static str {
        let format = FORMATS.iter().find(|format| self.0["format"] == format.name);
        format.map_or_else(|| type_name(self.type_name()), |format| format.means)
    }

    /// The values that it may have, as they would be written.
    pub(super) fn options(&self) -> Vec<String> {
        let one = |value: &Value| value.as_str().map_or_else(|| shown(value), str::to_owned);
        let consts = self.0.get("const").into_iter();
        let enums = self.0["enum"].as_array().into_iter().flatten();
        let scalars = consts.chain(enums).filter(|value| !value.is_null()).map(one);
        let keys: Vec<_> = self.keys().map(|key| format!("{key}: …")).collect();
        scalars.chain((!keys.is_empty()).then(|| format!("{{ {} }}", keys.join(", ")))).collect()
    }

    pub(super) fn range(self) -> (&'a Value, &'a Value) {
        (&self.0["minimum"], &self.0["maximum"])
    }

    /// The forms that `anyOf` or `oneOf` lists.
    pub(super) fn branches(self, keyword: &str) -> Vec<Self> {
        self.0[keyword].as_array().into_iter().flatten().map(Rules).collect()
    }

    pub(super) fn is_null(self) -> bool {
        self.0["type"] == "null"
    }

    /// Whether this is the form of an enum's variant whose name a mapping has as its key.
    pub(super) fn has_variant_of(self, place: &Place<'_>) -> bool {
        place
            .keys()
            .any(|present| self.0["required"].as_array().is_some_and(|keys| keys.iter().any(|key| key == present)))
    }

    pub(super) fn type_name(self) -> &'a str {
        let types = &self.0["type"];
        let mut several = types.as_array().into_iter().flatten().filter_map(Value::as_str);
        types.as_str().or_else(|| several.find(|name| *name != "null")).unwrap_or_default()
    }
}
