//! One part of a JSON Schema, as schemars writes it, asked what would have been right.

use serde_json::Value;

use super::{
    super::{
        scalar::FORMATS,
        words::{shown, type_name},
    },
    place::Place,
};

/// The furthest apart that a mistyped key and the right one may be.
const TYPO: usize = 2;

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
        let distances = self.keys().map(|known| (strsim::damerau_levenshtein(known, key), known));
        let (distance, known) = distances.min()?;
        (distance <= TYPO.min(known.len() / 2)).then_some(known)
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
        scalars.chain(self.keys().map(|key| format!("{{ {key}: … }}"))).collect()
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

    fn type_name(self) -> &'a str {
        let types = &self.0["type"];
        let mut several = types.as_array().into_iter().flatten().filter_map(Value::as_str);
        types.as_str().or_else(|| several.find(|name| *name != "null")).unwrap_or_default()
    }
}
