//! Path patterns: how they are written, and which of two goes first when both match.
//! Looking a path up among many of them is `table`'s.

use std::cmp::Reverse;

use regex::bytes::Regex;
use thiserror::Error;

use super::text::{REGEX, RegexError, parse_regex};
use crate::exchange::path::{PathError, normalize_pattern};

/// A path pattern in its one form: `/users`, `/users/{}/*` (parts lose their names) or `~REGEX`.
/// Equal texts match the same paths.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Exact,
    /// With one-segment parts, an open end, or both.
    Segments,
    Regex(Regex),
    /// No path was written.
    Every,
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("path is empty")]
    Empty,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("path has a \"{0}\", but what follows one is not part of a path")]
    NotInPath(char),
    #[error("segment \"{0}\" has a \"*\", which can only be the whole last segment, as in /users/*")]
    Wildcard(String),
    #[error("segment \"{0}\" is neither plain nor one part such as {{id}}")]
    Part(String),
    #[error("path has more than {MAX_SEGMENTS} segments")]
    TooDeep,
    #[error(transparent)]
    Regex(#[from] RegexError),
}

/// Where a pattern stands among those of its sort; the smaller goes first. Fields in order:
/// more literal bytes (the `/*` of an open end not counted); a closed end before an open one; at the first segment
/// where they differ, a literal before a part; for a regex, the larger priority. Exact paths are all equal, and so is no path.
/// Two patterns with segments that match one path and compare as equal are the same.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    literal: Reverse<usize>,
    open: bool,
    parts: Vec<bool>,
    priority: Reverse<i32>,
}

pub(super) const PART: &str = "{}";
pub(super) const OPEN_END: &str = "*";

/// What no path is as well, but for its place.
const EVERY_PATH: &str = "/*";
/// Look-up recurses once per segment of a pattern.
const MAX_SEGMENTS: usize = 256;

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix(REGEX) {
            Some(source) => Ok(Self { text: text.to_owned(), kind: Kind::Regex(parse_regex(source)?) }),
            None => parse_segments(text),
        }
    }

    pub(super) fn every() -> Self {
        Self { text: EVERY_PATH.to_owned(), kind: Kind::Every }
    }

    /// The segments of a pattern that is no regex.
    pub(super) fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    pub(super) fn precedence(&self, priority: i32) -> Precedence {
        match self.kind {
            Kind::Exact | Kind::Every => Precedence::default(),
            Kind::Segments => {
                let open = self.text.ends_with(EVERY_PATH);
                let parts: Vec<_> = self.segments().map(|segment| segment == PART).collect();
                let in_parts = parts.iter().filter(|part| **part).count() * PART.len();
                let in_end = if open { EVERY_PATH.len() } else { 0 };
                let literal = Reverse(self.text.len() - in_parts - in_end);
                Precedence { literal, open, parts, ..Precedence::default() }
            }
            Kind::Regex(_) => Precedence { priority: Reverse(priority), ..Precedence::default() },
        }
    }
}

impl Precedence {
    /// What this has over another of its sort that comes after it.
    pub(super) fn over(&self, other: &Self) -> &'static str {
        if self.literal != other.literal {
            "more of its path is literal"
        } else if self.open != other.open {
            "its path has a closed end"
        } else if self.parts != other.parts {
            "its path is literal where the other has a part"
        } else {
            "its priority is larger"
        }
    }
}

fn parse_segments(text: &str) -> Result<Pattern, PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(PatternError::NotInPath(c));
    }
    let normal = normalize_pattern(text)?;
    let count = normal.split('/').skip(1).count();
    if count > MAX_SEGMENTS {
        return Err(PatternError::TooDeep);
    }
    let mut pattern = Pattern { text: String::with_capacity(normal.len()), kind: Kind::Exact };
    for (at, segment) in normal.split('/').skip(1).enumerate() {
        let segment = match segment {
            OPEN_END if at + 1 == count => OPEN_END,
            _ if is_part(segment) => PART,
            _ if segment.contains('*') => return Err(PatternError::Wildcard(segment.to_owned())),
            _ if segment.contains(['{', '}']) => return Err(PatternError::Part(segment.to_owned())),
            literal => literal,
        };
        if matches!(segment, OPEN_END | PART) {
            pattern.kind = Kind::Segments;
        }
        pattern.text.extend(["/", segment]);
    }
    Ok(pattern)
}

/// `{` a name of letters, digits and underscores `}`.
fn is_part(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
