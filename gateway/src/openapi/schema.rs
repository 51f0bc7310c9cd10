//! The schemas of a document, compiled when something asks for them, each once.

use std::{collections::HashMap, sync::Arc};

use jsonschema::{Draft, PatternOptions, Registry, ValidationError, Validator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    MOST_FINDINGS, Mistake,
    document::{At, Document},
    shape::Shape,
};

/// What references in the document are relative to.
const BASE: &str = "json-schema:///description";
/// What a pointer may have in a fragment.
const IN_FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'~').remove(b'-').remove(b'.').remove(b'_');
/// Steps back that a pattern of a schema may take on one text.
const MOST_STEPS_BACK: usize = 10_000;
/// A message names parts of what was sent, which may be long.
const MOST_MESSAGE: usize = 300;

/// What is asked of a value, and in which form it comes as text.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    validator: Arc<Validator>,
    pub(super) shape: Arc<Shape>,
}

/// Where schemas come from.
pub(super) struct Schemas<'a> {
    document: Document<'a>,
    registry: Registry<'a>,
    draft: Draft,
    made: HashMap<String, Schema>,
}

impl<'a> Schemas<'a> {
    /// `root` is the document as `Document::for_schemas` has it.
    pub(super) fn new(document: &Document<'a>, root: &'a Value) -> Result<Self, Mistake> {
        let draft = if document.old { Draft::Draft4 } else { Draft::Draft202012 };
        let registry = Registry::new().draft(draft).add(BASE, root).and_then(|it| it.prepare());
        let registry = registry.map_err(|error| Mistake {
            pointer: String::new(),
            message: format!("its schemas cannot be read: {error}"),
        })?;
        Ok(Self { document: *document, registry, draft, made: HashMap::new() })
    }

    /// The schema at a place.
    pub(super) fn at(&mut self, at: At<'a>) -> Result<Schema, Mistake> {
        // One that is only a reference is what that leads to.
        let is_reference = at.value.as_object().is_some_and(|keys| keys.len() == 1);
        let at = if is_reference { self.document.resolve(at)? } else { at };
        if let Some(made) = self.made.get(&at.pointer) {
            return Ok(made.clone());
        }
        let reference = format!("{BASE}#{}", utf8_percent_encode(&at.pointer, IN_FRAGMENT));
        let options = jsonschema::options()
            .with_draft(self.draft)
            .with_registry(&self.registry)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MOST_STEPS_BACK))
            .should_validate_formats(true)
            .offline();
        let validator = options.build(&json!({ "$ref": reference }));
        let validator = validator.map_err(|error| at.mistake(format!("this is no schema: {error}")))?;
        let shape = Shape::of(&self.document, &at)?;
        let schema = Schema { validator: Arc::new(validator), shape: Arc::new(shape) };
        self.made.insert(at.pointer, schema.clone());
        Ok(schema)
    }
}

impl Schema {
    pub(super) fn allows(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// What is wrong with a value: where in it, as a JSON Pointer, and what.
    pub(super) fn findings(&self, value: &Value) -> Vec<(String, String)> {
        let told = |error: ValidationError<'_>| {
            let mut message = error.masked_with("the value").to_string();
            if message.len() > MOST_MESSAGE {
                message.truncate(message.floor_char_boundary(MOST_MESSAGE));
                message.push('…');
            }
            (error.instance_path().as_str().to_owned(), message)
        };
        self.validator.iter_errors(value).take(MOST_FINDINGS).map(told).collect()
    }
}
