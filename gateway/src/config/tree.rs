//! YAML text into a JSON value and, beside it, where each part of that value stands in the text.
//! One document of YAML 1.2 core scalars; anchors and aliases, but no tags and no merge keys. Knows no schema.

mod reader;
mod scalar;
mod syntax;

use std::collections::HashMap;

use serde_json::Value;

use super::error::{Finding, Position};

/// The largest text that is read, in bytes, and the most that its aliases may copy.
pub(super) const MAX_SIZE: usize = 16 << 20;

/// A text as read.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) spot: Spot,
    /// Mistakes that did not keep the rest from being read.
    pub(super) findings: Vec<Finding>,
}

/// Where a value stands, and the spots inside it.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) at: Position,
    /// Where its key stands; a value without a key has its own position here.
    pub(super) key: Position,
    pub(super) source: Source,
    inside: Inside,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Literal,
    /// Variables were put into this text. What they hold may be secret, so that messages show the text.
    Variables(String),
    /// The value could not be had and is null instead; a finding says why.
    Unreadable,
}

#[derive(Debug, Clone)]
enum Inside {
    Nothing,
    List(Vec<Spot>),
    Mapping(HashMap<String, Spot>),
}

/// Reads a text; `env` gives the value of a variable. Fails if there is no tree, with all that was found until then.
pub(super) fn read(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Tree, Vec<Finding>> {
    reader::read(text.strip_prefix('\u{feff}').unwrap_or(text), env)
}

/// The path of what stands under a key, always one line.
pub(super) fn join(path: &str, key: &str) -> String {
    let separator = if path.is_empty() { "" } else { "." };
    format!("{path}{separator}{}", key.escape_debug())
}

impl Spot {
    fn new(at: Position, source: Source, inside: Inside) -> Self {
        Self { at, key: at, source, inside }
    }

    /// What stands under a key, or under an index written in digits.
    pub(super) fn step(&self, step: &str) -> Option<&Self> {
        match &self.inside {
            Inside::Nothing => None,
            Inside::List(items) => items.get(step.parse::<usize>().ok()?),
            Inside::Mapping(members) => members.get(step),
        }
    }

    /// Follows a path such as `routes[0].match.path` as far as the text goes.
    pub(super) fn nearest(&self, path: &str) -> &Self {
        let mut nearest = self;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let Some(spot) = nearest.step(step) else { break };
            nearest = spot;
        }
        nearest
    }

    /// The path of what stands under `step`, if `path` is that of this spot.
    pub(super) fn path(&self, path: &str, step: &str) -> String {
        match &self.inside {
            Inside::List(_) => format!("{path}[{step}]"),
            Inside::Nothing | Inside::Mapping(_) => join(path, step),
        }
    }
}
