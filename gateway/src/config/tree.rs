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
    pub(super) findings: Vec<Finding>,
}

/// Where a value stands, and the spots inside it.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) at: Position,
    /// Where its key stands; a value without a key has its own position here.
    pub(super) key: Position,
    pub(super) source: Source,
    /// Something that may belong here could not be had; a finding says why.
    pub(super) partial: bool,
    inside: Inside,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Literal,
    /// Variables were put into this text. What they hold may be secret, so that messages show the text.
    Variables(String),
    /// The value could not be had and is not there or another stands in its place; a finding says why.
    Unreadable,
}

#[derive(Debug, Clone)]
enum Inside {
    Nothing,
    List(Vec<Spot>),
    Mapping(HashMap<String, Spot>),
}

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The last spot on the way that is in the text.
    pub(super) spot: &'a Spot,
    /// The path by the indices of its own file.
    pub(super) path: String,
    /// Whether the way ends at the spot.
    pub(super) ends: bool,
    /// Whether nothing on the way is unreadable.
    pub(super) readable: bool,
}

/// Reads the text of a file, the number of which is for its positions; `env` gives the value of a variable.
pub(super) fn read(text: &str, file: usize, env: &dyn Fn(&str) -> Option<String>) -> Tree {
    reader::read(text.strip_prefix('\u{feff}').unwrap_or(text), file, Some(env))
}

/// Reads a text in which `${` means nothing.
pub(super) fn read_plain(text: &str, file: usize) -> Tree {
    reader::read(text, file, None)
}

/// The path of what stands under a key, always one line.
pub(super) fn join(path: &str, key: &str) -> String {
    let separator = if path.is_empty() { "" } else { "." };
    format!("{path}{separator}{}", key.escape_debug())
}

impl Tree {
    /// A value that stands in no text.
    pub(super) fn of(value: Value) -> Self {
        let spot = Spot::new(Position::start_of(0), Source::Literal, Inside::Nothing);
        Self { value, spot, findings: Vec::new() }
    }

    /// What is left of a file that has no tree.
    pub(super) fn unreadable(file: usize, findings: Vec<Finding>) -> Self {
        let spot = Spot::new(Position::start_of(file), Source::Unreadable, Inside::Nothing);
        Self { value: Value::Null, spot, findings }
    }

    /// Adds the elements of a list of another file to the list of that name, after those that are there.
    pub(super) fn append(&mut self, list: &str, other: &mut Self) {
        let (Value::Object(values), Inside::Mapping(spots)) = (&mut self.value, &mut self.spot.inside) else { return };
        let missing = other.spot.source == Source::Unreadable;
        let Some(spot) = other.spot.take(list).or_else(|| missing.then(|| other.spot.clone())) else { return };
        let all = spots.entry(list.to_owned()).or_insert_with(|| Spot { inside: Inside::Nothing, ..spot.clone() });
        if all.source == Source::Unreadable || spot.source == Source::Unreadable {
            (all.source, all.partial) = (Source::Literal, true);
        }
        all.partial |= spot.partial;
        if !matches!(all.inside, Inside::List(_)) {
            all.inside = Inside::List(Vec::new());
        }
        if let (Inside::List(all), Inside::List(more)) = (&mut all.inside, spot.inside) {
            all.extend(more);
        }
        let elements = other.value.get_mut(list).map(Value::take);
        let all = values.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let (Some(all), Some(Value::Array(more))) = (all.as_array_mut(), elements) {
            all.extend(more);
        }
    }
}

impl Spot {
    fn new(at: Position, source: Source, inside: Inside) -> Self {
        Self { at, key: at, source, partial: false, inside }
    }

    /// What stands under a key, or under an index written in digits.
    pub(super) fn step(&self, step: &str) -> Option<&Self> {
        match &self.inside {
            Inside::Nothing => None,
            Inside::List(items) => items.get(step.parse::<usize>().ok()?),
            Inside::Mapping(members) => members.get(step),
        }
    }

    pub(super) fn step_mut(&mut self, step: &str) -> Option<&mut Self> {
        match &mut self.inside {
            Inside::Nothing => None,
            Inside::List(items) => items.get_mut(step.parse::<usize>().ok()?),
            Inside::Mapping(members) => members.get_mut(step),
        }
    }

    /// Notes that what stands, or should stand, under a step could not be had.
    pub(super) fn lose(&mut self, step: &str) {
        if let Some(spot) = self.step_mut(step) {
            spot.source = Source::Unreadable;
        } else if let Inside::Mapping(members) = &mut self.inside {
            members.insert(step.to_owned(), Self::new(self.at, Source::Unreadable, Inside::Nothing));
        }
    }

    /// The same for a key that is not there.
    pub(super) fn lose_if_absent(&mut self, key: &str) {
        if self.step(key).is_none() {
            self.lose(key);
        }
    }

    /// Follows a path such as `routes[0].match.path` as far as the text goes.
    pub(super) fn find(&self, path: &str) -> Found<'_> {
        let readable = self.source != Source::Unreadable;
        let mut found = Found { spot: self, path: String::new(), ends: true, readable };
        let mut rest = path;
        while !rest.is_empty() {
            let (step, after) = first_step(rest);
            let Some(spot) = found.spot.step(step) else {
                found.path.push_str(rest);
                found.ends = false;
                break;
            };
            found.path = match found.spot.own_index(step) {
                Some(index) => format!("{}[{index}]", found.path),
                None => join(&found.path, step),
            };
            found.spot = spot;
            found.readable &= spot.source != Source::Unreadable;
            rest = after;
        }
        found
    }

    /// Whether all at and below a path is as the file says.
    pub(super) fn has_all(&self, path: &str) -> bool {
        let found = self.find(path);
        found.readable && if found.ends { found.spot.is_whole() } else { !found.spot.partial }
    }

    /// Whether every name in a list is as the file says.
    pub(super) fn has_names(&self, list: &str) -> bool {
        let is_sure = |spot: &Self| !spot.partial && spot.source != Source::Unreadable;
        let Some(list) = self.step(list) else { return self.source != Source::Unreadable };
        let Inside::List(items) = &list.inside else { return is_sure(list) };
        let named = |item: &Self| item.source != Source::Unreadable && item.step("name").is_none_or(is_sure);
        is_sure(list) && items.iter().all(named)
    }

    fn is_whole(&self) -> bool {
        let below = match &self.inside {
            Inside::Nothing => true,
            Inside::List(items) => items.iter().all(Self::is_whole),
            Inside::Mapping(members) => members.values().all(Self::is_whole),
        };
        below && !self.partial && self.source != Source::Unreadable
    }

    /// An element's index in its own file; none if this is no list.
    fn own_index(&self, step: &str) -> Option<usize> {
        let Inside::List(items) = &self.inside else { return None };
        let index = step.parse::<usize>().ok()?;
        let file = items.get(index)?.at.file;
        Some(items[..index].iter().filter(|item| item.at.file == file).count())
    }

    fn take(&mut self, key: &str) -> Option<Self> {
        match &mut self.inside {
            Inside::Mapping(members) => members.remove(key),
            Inside::Nothing | Inside::List(_) => None,
        }
    }
}

/// The first step of a path, and what follows it.
fn first_step(path: &str) -> (&str, &str) {
    let indexed = path.strip_prefix('[').and_then(|path| path.split_once(']'));
    indexed.unwrap_or_else(|| {
        let path = path.strip_prefix('.').unwrap_or(path);
        path.split_at(path.find(['.', '[']).unwrap_or(path.len()))
    })
}
