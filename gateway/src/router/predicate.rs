//! Conditions of a match beside host and path. A new sort of condition is a case of `Condition` and nothing else.

use http::Method;
use thiserror::Error;

use super::Subject;

/// What a request must meet, all of it. Equal sets of conditions are equal values.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Conditions(Vec<Condition>);

#[derive(Debug, PartialEq, Eq, Hash)]
enum Condition {
    /// Any of these; sorted, each once.
    Method(Vec<Method>),
}

/// Why a text is not a method.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MethodError {
    #[error("method \"{0}\" is not a token")]
    Invalid(String),
    #[error("method \"{0}\" is not in upper case, and methods are case-sensitive")]
    LowerCase(String),
}

impl Conditions {
    /// More of them go before fewer.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds that the method is one of these, if there are any.
    pub(super) fn any_method(&mut self, mut methods: Vec<Method>) {
        methods.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        if !methods.is_empty() {
            self.0.push(Condition::Method(methods));
        }
    }

    pub(super) fn hold(&self, subject: &Subject<'_>) -> bool {
        self.0.iter().all(|condition| condition.holds(subject))
    }
}

impl Condition {
    fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Method(methods) => methods.contains(subject.method),
        }
    }
}

/// Reads a method as the configuration names it.
pub(super) fn parse_method(text: &str) -> Result<Method, MethodError> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(MethodError::LowerCase(text.to_owned()));
    }
    text.parse().map_err(|_| MethodError::Invalid(text.to_owned()))
}
