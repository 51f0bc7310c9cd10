//! A bound on what a check may take. Schemas that refer to one another may be tried in more ways than anybody can wait for, so each
//! look at a value is a step, and who has no steps left is stopped where it is.

use std::{
    borrow::Cow,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde_json::{Map, Number, Value, map};

/// So much of a text is looked at in one step.
const BYTES: usize = 64;

thread_local! {
    /// A check runs from its beginning to its end on one thread, and the validator has no place for it.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Stops a check from within, wherever it is.
struct Exhausted;

/// What a check comes to; nothing if it takes more steps.
pub(super) fn within<T>(steps: usize, check: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(steps);
    // It reads what nobody writes, and what it has made so far is dropped.
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<Exhausted>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Steps that it takes to look at a value and all in it once.
pub(super) fn through(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(through).sum::<usize>(),
        Value::Object(all) => 1 + all.iter().map(|(name, value)| of_text(name) + through(value)).sum::<usize>(),
        Value::String(text) => of_text(text),
        _ => 1,
    }
}

fn of_text(text: &str) -> usize {
    1 + text.len() / BYTES
}

fn take(steps: usize) {
    match LEFT.get().checked_sub(steps) {
        Some(left) => LEFT.set(left),
        None => resume_unwind(Box::new(Exhausted)),
    }
}

/// JSON of which each look is counted.
pub(super) struct Counted;

/// One value of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a>(pub(super) &'a Value);

#[derive(Debug)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

#[derive(Debug)]
pub(super) struct Elements<'a>(&'a [Value]);

impl Json for Counted {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Seen<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Seen(buffer))
    }
}

impl<'a> Node<'a, Counted> for Seen<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        take(1);
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        take(1);
        self.0.as_array().map(|all| Elements(all))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        take(text.map_or(1, of_text));
        text.map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        take(1);
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        take(1);
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        take(1);
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        take(1);
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    /// The whole of it may be looked at: by `const`, `enum` and `uniqueItems`, and by what tells of errors.
    fn to_value(&self) -> Cow<'a, Value> {
        take(through(self.0));
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(self.0) as usize))
    }
}

impl<'a> Object<'a, Counted> for Members<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = Named<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        take(1);
        self.0.get(key).map(Seen)
    }

    fn members(&self) -> Named<'a> {
        Named(self.0.iter())
    }
}

/// The members of an object, one after the other.
#[derive(Debug)]
pub(super) struct Named<'a>(map::Iter<'a>);

impl<'a> Iterator for Named<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        take(of_text(name));
        Some((name, Seen(value)))
    }
}

impl<'a> Array<'a, Counted> for Elements<'a> {
    type Node = Seen<'a>;
    type ElementsIter = Listed<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Listed<'a> {
        Listed(self.0.iter())
    }
}

/// The elements of an array, one after the other.
#[derive(Debug)]
pub(super) struct Listed<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for Listed<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        take(1);
        self.0.next().map(Seen)
    }
}
