//! The schemas that requests are held to, compiled together: what several refer to is there once.

use std::sync::{Arc, OnceLock};

use jsonschema::{Draft, PatternOptions, Registry, ValidationError, Validator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{
    MOST_FINDINGS, Mistake,
    counted::{Counted, Seen},
    document::{At, Document},
    steps,
};

/// What references in the document are relative to.
const BASE: &str = "json-schema:///description";
/// What a pointer may have in a fragment.
const IN_FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'~').remove(b'-').remove(b'.').remove(b'_');
/// Places that a pattern of a schema may go back to on one text.
const MOST_BACK: usize = 4_000;
/// A message names parts of what was sent, which may be long.
const MOST_MESSAGE: usize = 300;
/// Steps that the check of one value may take: so many, and more for each that it takes to go through it once.
const STEPS: usize = 50_000;
const STEPS_FOR_EACH: usize = 1_000;
const MOST_STEPS: usize = 10_000_000;
/// Where what is wrong is in a value is looked for if it takes no more steps to go through it, and no place in it is longer.
const MOST_TOLD: usize = 2_000;
const LONGEST_TOLD: usize = 1_000;
/// So many mistakes of a document are told: each takes a while to find.
const MOST_MISTAKES: usize = 16;

/// What is asked of a value.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    all: Arc<OnceLock<Compiled>>,
    /// What a value of it is called in what all are checked with.
    name: String,
}

/// What is wrong with a value: where in it, as a JSON Pointer, and what.
pub(super) type Wrong = (String, String);

/// Those of one document.
pub(super) struct Schemas<'a> {
    document: Document<'a>,
    wanted: Vec<At<'a>>,
    all: Arc<OnceLock<Compiled>>,
}

/// What all are checked with.
#[derive(Debug)]
struct Compiled {
    validator: Validator<Counted>,
    /// Some of their patterns look around or back, which takes as long as a text lets it.
    goes_back: bool,
}

impl<'a> Schemas<'a> {
    /// Of a document that is adapted.
    pub(super) fn new(document: &Document<'a>) -> Self {
        Self { document: *document, wanted: Vec::new(), all: Arc::default() }
    }

    /// The schema at a place. It can be asked once all are compiled.
    pub(super) fn at(&mut self, at: At<'a>) -> Result<Schema, Mistake> {
        // One that is only a reference is what that leads to; in OpenAPI 3.0 each is.
        let says_more = |key: &String| !["$ref", "summary", "description"].contains(&key.as_str());
        let is_more = !self.document.old && at.value.as_object().is_some_and(|keys| keys.keys().any(says_more));
        let at = if is_more { at } else { self.document.resolve(at)? };
        let known = self.wanted.iter().position(|wanted| wanted.pointer == at.pointer);
        let number = known.unwrap_or(self.wanted.len());
        if known.is_none() {
            self.wanted.push(at);
        }
        Ok(Schema { all: Arc::clone(&self.all), name: number.to_string() })
    }

    /// Compiles all that were asked for.
    ///
    /// # Errors
    ///
    /// Each that is no schema.
    pub(super) fn compile(self) -> Result<(), Vec<Mistake>> {
        let draft = if self.document.old { Draft::Draft4 } else { Draft::Draft202012 };
        let registry = Registry::new().draft(draft).add(BASE, self.document.root()).and_then(|it| it.prepare());
        let registry = registry.map_err(|error| {
            vec![Mistake { pointer: String::new(), message: format!("its schemas cannot be read: {error}") }]
        })?;
        let options = || {
            let options = jsonschema::options_for::<Counted>().with_draft(draft).with_registry(&registry);
            // To read what a text says as a pattern takes longer than it is worth.
            options.should_validate_formats(true).with_format("regex", |_: &str| true).offline()
        };
        let plain = options().with_pattern_options(PatternOptions::regex());
        let going_back = options().with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MOST_BACK));
        let reference = |at: &At<'_>| {
            let pointer = utf8_percent_encode(&at.pointer, IN_FRAGMENT);
            json!({ "$ref": format!("{BASE}#{pointer}") })
        };
        let named = self.wanted.iter().enumerate().map(|(n, at)| (n.to_string(), reference(at)));
        let all = json!({ "properties": named.collect::<Map<_, _>>() });
        let built = plain.build(&all).map(|validator| (validator, false));
        let error = match built.or_else(|_| going_back.build(&all).map(|validator| (validator, true))) {
            Ok((validator, goes_back)) => {
                let _ = self.all.set(Compiled { validator, goes_back });
                return Ok(());
            }
            Err(error) => error,
        };
        let mistake = |at: &At<'_>| {
            let error = going_back.build(&reference(at)).err()?;
            Some(at.mistake(format!("this is no schema: {error}")))
        };
        let mistakes: Vec<_> = self.wanted.iter().filter_map(mistake).take(MOST_MISTAKES).collect();
        if mistakes.is_empty() {
            return Err(vec![Mistake { pointer: String::new(), message: error.to_string() }]);
        }
        Err(mistakes)
    }
}

impl Schema {
    /// What is wrong with a value, some of it; it is given back.
    pub(super) fn check(&self, value: Value) -> (Value, Vec<Wrong>) {
        let through = steps::through(&value);
        let mut named = Value::Object(Map::from_iter([(self.name.clone(), value)]));
        let most = MOST_STEPS.min(STEPS + STEPS_FOR_EACH * through);
        let wrong = self.all.get().map_or_else(Vec::new, |all| self.wrong(all, Seen(&named), most, through));
        (named[&self.name].take(), wrong)
    }

    fn wrong(&self, all: &Compiled, seen: Seen<'_>, most: usize, through: usize) -> Vec<Wrong> {
        let whole = |message: &str| vec![(String::new(), message.to_owned())];
        match steps::within(most, all.goes_back, || all.validator.is_valid(seen)) {
            Some(true) => return Vec::new(),
            None => return whole("takes too long to check"),
            Some(false) => {}
        }
        // Each error has its place with it, and they are all there before the first is told.
        if through > MOST_TOLD || longest_place(seen.0) > LONGEST_TOLD {
            return whole("is not what its schema says, and too large to tell where");
        }
        let told = || all.validator.iter_errors(seen).take(MOST_FINDINGS).map(|it| self.told(&it)).collect();
        let told = steps::within(STEPS, all.goes_back, told);
        told.unwrap_or_else(|| whole("is not what its schema says"))
    }

    fn told(&self, error: &ValidationError<'_>) -> Wrong {
        let mut message = error.masked_with("the value").to_string();
        if message.len() > MOST_MESSAGE {
            message.truncate(message.floor_char_boundary(MOST_MESSAGE));
            message.push('…');
        }
        let pointer = error.instance_path().as_str();
        let below = pointer.get(self.name.len() + 1..).unwrap_or_default();
        (below.to_owned(), message)
    }
}

/// Bytes of the longest pointer to a part of a value.
fn longest_place(value: &Value) -> usize {
    match value {
        Value::Array(all) => all.iter().map(|value| 8 + longest_place(value)).max().unwrap_or(0),
        Value::Object(all) => all.iter().map(|(name, value)| 1 + name.len() + longest_place(value)).max().unwrap_or(0),
        _ => 0,
    }
}
