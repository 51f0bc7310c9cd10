//! The validator's errors as findings: our words, and the position of what is wrong.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, error::ValidationErrorKind as Kind};
use serde_json::Value;

use super::{
    super::{
        error::Finding,
        tree::{Source, Spot, Tree, join},
        words::{did_you_mean, quoted},
    },
    place::Place,
    rules::Rules,
};

pub(super) struct Explain<'a> {
    schema: &'a Value,
    tree: &'a Tree,
    /// So many are told.
    most: usize,
    pub(super) findings: Vec<Finding>,
    /// JSON Pointers to values that are wrong as a whole.
    pub(super) wrong: BTreeSet<String>,
}

impl<'a> Explain<'a> {
    pub(super) fn new(schema: &'a Value, tree: &'a Tree, most: usize) -> Self {
        Self { schema, tree, most, findings: Vec::new(), wrong: BTreeSet::new() }
    }

    pub(super) fn error(&mut self, error: &ValidationError<'_>) {
        let (path, spot) = self.follow(error.instance_path().as_str());
        if spot.source == Source::Unreadable {
            return;
        }
        let pointer = error.schema_path().as_str();
        let (pointer, keyword) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        let rules = Rules(self.schema.pointer(pointer).unwrap_or(self.schema));
        let place = Place { path, spot, value: error.instance() };
        let message = match error.kind() {
            Kind::AdditionalProperties { unexpected } => return self.unknown(&place, rules, unexpected),
            Kind::Required { property } => return self.missing(&place, rules, property),
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                if rules.sole_form().is_none() {
                    self.wrong.insert(error.instance_path().as_str().to_owned());
                }
                return self.no_branch(&place, &rules.branches(keyword), context);
            }
            Kind::Type { .. } | Kind::Format { .. } | Kind::Pattern { .. } => place.is_not(rules.wanted()),
            Kind::Enum { .. } | Kind::Constant { .. } => place.is_none_of(&rules.options()),
            Kind::Minimum { .. } | Kind::Maximum { .. } => place.is_out_of_range(rules.range()),
            Kind::MinLength { limit } => place.is_too_short(*limit),
            _ => error.masked_with(place.shown()).to_string(),
        };
        self.findings.push(place.finding(message));
        self.wrong.insert(error.instance_path().as_str().to_owned());
    }

    /// What a JSON Pointer points to: its path and its spot.
    fn follow(&self, pointer: &str) -> (String, &'a Spot) {
        let (mut path, mut spot, mut value) = (String::new(), &self.tree.spot, &self.tree.value);
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            (path, value) = match value {
                Value::Array(items) => {
                    let item = step.parse::<usize>().ok().and_then(|index| items.get(index));
                    (format!("{path}[{step}]"), item.unwrap_or(&Value::Null))
                }
                members => (join(&path, &step), &members[step.as_str()]),
            };
            spot = spot.step(&step).unwrap_or(spot);
        }
        (path, spot)
    }

    fn unknown(&mut self, place: &Place<'_>, rules: Rules<'_>, unexpected: &[String]) {
        for key in unexpected.iter().take(self.most - self.findings.len()) {
            let hint = match rules.meant_by(key) {
                Some(known) => did_you_mean(known),
                None => format!("; known here: {}", rules.keys().collect::<Vec<_>>().join(", ")),
            };
            let position = place.spot.step(key).unwrap_or(place.spot).key;
            let path = join(&place.path, key);
            self.findings.push(Finding { position, path, message: format!("unknown key {}{hint}", quoted(key)) });
        }
    }

    fn missing(&mut self, place: &Place<'_>, rules: Rules<'_>, key: &Value) {
        let key = key.as_str().unwrap_or_default();
        // One mistake, one error: a key that could not be read may be this one, an unknown one may be meant to be.
        if place.spot.partial || place.keys().any(|present| rules.meant_by(present) == Some(key)) {
            return;
        }
        let path = join(&place.path, key);
        self.findings.push(Finding { position: place.spot.at, path, message: format!("missing key {key:?}") });
    }

    /// Where a value may have several forms: what is wrong with the one it is meant to have, if that can be told.
    fn no_branch(&mut self, place: &Place<'_>, branches: &[Rules<'_>], errors: &[Vec<ValidationError<'static>>]) {
        let forms = || branches.iter().zip(errors).filter(|(branch, _)| !branch.is_null());
        let mut meant: Vec<_> = forms().filter(|(branch, _)| branch.has_variant_of(place)).collect();
        if forms().count() == 1 {
            meant = forms().collect();
        }
        if let [(_, errors)] = meant[..] {
            return errors.iter().for_each(|error| self.error(error));
        }
        let options: Vec<_> = branches.iter().flat_map(Rules::options).collect();
        self.findings.push(place.finding(place.is_none_of(&options)));
    }
}
