//! How messages name the values they are about, and what may have been meant instead.

use serde_json::Value;

/// The longest text that is shown whole, in characters.
const LONGEST: usize = 60;
/// The furthest apart that a mistyped name and the right one may be.
const TYPO: usize = 2;

/// The known name that an unknown one is probably a mistyped form of.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Measuring is slow, and there may be thousands of names.
    let near = known.into_iter().filter(|known| known.len().abs_diff(name.len()) <= 2 * TYPO);
    let distances = near.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let (distance, known) = distances.min()?;
    (distance <= TYPO.min(known.chars().count() / 2)).then_some(known)
}

/// Ends a message about a name that is not known.
pub fn did_you_mean(known: &str) -> String {
    format!("; did you mean \"{known}\"?")
}

/// A scalar as it would be written, else what it is.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// In quotes, without control characters, cut off if it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What a type is called, by the name that a JSON Schema gives it.
pub(super) fn type_name(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    }
}
