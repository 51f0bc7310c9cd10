//! JSON as schemas are checked against it: each look at a value is a step of the check.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde_json::{Map, Number, Value, map};

use super::steps::{of_number, of_text, take, take_to_match, through};

/// Steps that it takes to write an element in its one form, for each that it takes to go through it.
const TO_COMPARE: usize = 10;

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

    /// What follows is a match, of a pattern or a format.
    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        text.map_or_else(|| take(1), take_to_match);
        text.map(Cow::Borrowed)
    }

    fn string_length(&self) -> Option<u64> {
        let text = self.0.as_str();
        take(text.map_or(1, of_text));
        text.map(|text| text.chars().count() as u64)
    }

    fn as_number(&self) -> Option<&'a Number> {
        let number = self.0.as_number();
        take(number.map_or(1, of_number));
        number
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

    /// The whole of it may be looked at, by `const` and `enum` and by what tells of errors.
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
        // A pattern of `patternProperties` may be matched with it.
        take_to_match(name);
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

    fn is_unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.0.iter().all(|element| {
            take(TO_COMPARE * through(element));
            let mut form = String::new();
            write_one_form(element, &mut form);
            seen.insert(form)
        })
    }
}

/// Writes the same for values that are equal: whatever the order of members, and however a number is written.
fn write_one_form(value: &Value, form: &mut String) {
    match value {
        Value::Object(all) => {
            form.push('{');
            for (name, value) in all.iter().collect::<BTreeMap<_, _>>() {
                form.push_str(&Value::from(name.as_str()).to_string());
                write_one_form(value, form);
            }
            form.push('}');
        }
        Value::Array(all) => {
            form.push('[');
            for value in all {
                write_one_form(value, form);
                form.push(',');
            }
            form.push(']');
        }
        // One that is whole has no fraction and no exponent, as integers have none.
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 => form.push_str(&format!("{:.0}", whole + 0.0)),
            _ => form.push_str(&number.to_string()),
        },
        other => form.push_str(&other.to_string()),
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
