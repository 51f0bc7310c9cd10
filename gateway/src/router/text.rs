//! What a text must be: an exact text or a regex. Every regex of a match is compiled here, within its limits.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

/// What a value must be. Equal ones are written equally and match the same.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Exact(String),
    /// Found anywhere in the value, unless it is anchored. Matches octets: not every value is UTF-8.
    Regex(Regex),
}

/// Why a text is not a regex.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegexError {
    #[error("regex is empty")]
    Empty,
    #[error("regex is too large when compiled")]
    TooLarge,
    #[error("regex is invalid: {0}")]
    Invalid(String),
}

/// What a regex is written with.
pub(super) const REGEX: char = '~';

/// Bytes of one compiled regex, and of the cache it matches with.
const MAX_REGEX: usize = 1 << 20;

impl Text {
    pub(super) fn parse(text: &str) -> Result<Self, RegexError> {
        match text.strip_prefix(REGEX) {
            Some(source) => parse_regex(source).map(Self::Regex),
            None => Ok(Self::Exact(text.to_owned())),
        }
    }

    pub(super) fn admits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// Its sort, and how it is written.
    fn parts(&self) -> (bool, &str) {
        match self {
            Self::Exact(text) => (false, text),
            Self::Regex(regex) => (true, regex.as_str()),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Regex(regex) => write!(f, "{REGEX}{regex}"),
        }
    }
}

pub(super) fn parse_regex(source: &str) -> Result<Regex, RegexError> {
    if source.is_empty() {
        return Err(RegexError::Empty);
    }
    RegexBuilder::new(source).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => RegexError::TooLarge,
        // The text draws the regex over several lines; its last one says what is wrong.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            RegexError::Invalid(reason.strip_prefix("error: ").unwrap_or(reason).to_owned())
        }
    })
}
