//! One value of the file, and the sentences that say what is wrong with it.

use serde_json::Value;

use super::super::{
    error::Finding,
    tree::{Source, Spot},
    words::{did_you_mean, nearest, quoted, shown},
};

pub(super) struct Place<'a> {
    pub(super) path: String,
    pub(super) spot: &'a Spot,
    pub(super) value: &'a Value,
}

impl Place<'_> {
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_object().into_iter().flat_map(|members| members.keys().map(String::as_str))
    }

    pub(super) fn finding(&self, message: String) -> Finding {
        Finding { position: self.spot.at, path: self.path.clone(), message }
    }

    /// The value as it stands in the file: what a variable holds is not told.
    pub(super) fn shown(&self) -> String {
        match &self.spot.source {
            Source::Variables(text) => format!("the value of {}", quoted(text)),
            Source::Literal | Source::Unreadable => shown(self.value),
        }
    }

    pub(super) fn is_not(&self, wanted: &str) -> String {
        let (found, hint) = match (wanted, self.value) {
            ("a string", Value::Bool(_)) => (self.shown(), "; put it in quotes"),
            // A token of digits is a number, and none of a message's business.
            ("a string", Value::Number(_)) => ("a number".to_owned(), "; put it in quotes"),
            // Nor is a text that stands for a whole part, such as a password for a credential.
            ("a mapping" | "a list", Value::String(_)) => ("a string".to_owned(), ""),
            ("a mapping" | "a list", Value::Number(_)) => ("a number".to_owned(), ""),
            _ => (self.shown(), ""),
        };
        format!("expected {wanted}, found {found}{hint}")
    }

    pub(super) fn is_none_of(&self, options: &[String]) -> String {
        let listed = options.join(", ");
        match self.value {
            Value::Null | Value::Array(_) | Value::Object(_) => {
                format!("expected one of {listed}, found {}", self.shown())
            }
            // What a variable holds is not hinted at either.
            Value::String(text) if self.spot.source == Source::Literal => {
                let meant = nearest(text, options.iter().map(String::as_str));
                format!("{} is none of {listed}{}", self.shown(), meant.map(did_you_mean).unwrap_or_default())
            }
            _ => format!("{} is none of {listed}", self.shown()),
        }
    }

    pub(super) fn is_out_of_range(&self, (least, most): (&Value, &Value)) -> String {
        match most {
            Value::Null => format!("{} is less than {least}", self.shown()),
            most => format!("{} is out of range {least} to {most}", self.shown()),
        }
    }

    pub(super) fn is_too_short(&self, least: u64) -> String {
        let length = self.value.as_str().unwrap_or_default().chars().count();
        format!("expected at least {least} characters, found {length}")
    }
}
