//! In which form a schema's values come as text, and the values that texts stand for. Whether they are good is not asked here.

use serde_json::{Map, Number, Value};

use super::{
    Mistake,
    document::{At, Document},
};

/// Schemas in schemas are looked at so deep.
const MOST_DEPTH: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// One text, which may stand for other than itself.
    One(Types),
    List(Box<Self>),
    Object(Vec<(String, Self)>),
}

/// What beside a text may be meant; nothing of it where a schema says nothing of types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Types {
    number: bool,
    boolean: bool,
    null: bool,
}

impl Shape {
    pub(super) fn of(document: &Document<'_>, schema: &At<'_>) -> Result<Self, Mistake> {
        Self::within(document, schema, MOST_DEPTH)
    }

    fn within(document: &Document<'_>, schema: &At<'_>, depth: usize) -> Result<Self, Mistake> {
        let Some(deeper) = depth.checked_sub(1) else { return Ok(Self::One(Types::default())) };
        let schema = &document.resolve(schema.clone())?;
        let has = |kind: &str| match &schema.value["type"] {
            Value::String(only) => only == kind,
            Value::Array(kinds) => kinds.iter().any(|it| it == kind),
            _ => false,
        };
        if has("array") {
            let items = schema.get("items").map(|items| Self::within(document, &items, deeper)).transpose()?;
            return Ok(Self::List(Box::new(items.unwrap_or(Self::One(Types::default())))));
        }
        if has("object") || schema.value["properties"].is_object() {
            let all = schema.key("properties");
            let names = all.value.as_object().into_iter().flatten().map(|(name, _)| name);
            let properties = names.map(|name| Ok((name.clone(), Self::within(document, &all.key(name), deeper)?)));
            return Ok(Self::Object(properties.collect::<Result<_, Mistake>>()?));
        }
        let numbers = has("number") || has("integer");
        let mut types = Types { number: numbers, boolean: has("boolean"), null: has("null") };
        let known = schema.value["enum"].as_array().into_iter().flatten().chain(schema.value.get("const"));
        if schema.value["type"].is_null() {
            known.for_each(|value| types.add_type_of(value));
        }
        for branches in ["anyOf", "oneOf", "allOf"] {
            for branch in schema.key(branches).each() {
                match Self::within(document, &branch, deeper)? {
                    Self::One(more) => types.add(more),
                    // The first that is more than one text says how they are told apart.
                    whole => return Ok(whole),
                }
            }
        }
        Ok(Self::One(types))
    }

    /// The value that one text stands for.
    pub(super) fn value(&self, text: &str) -> Value {
        let Self::One(types) = self else { return text.into() };
        match text {
            "true" | "false" if types.boolean => (text == "true").into(),
            "null" | "" if types.null => Value::Null,
            _ => {
                let number = types.number.then(|| text.parse::<Number>().ok()).flatten();
                number.map_or_else(|| text.into(), Value::Number)
            }
        }
    }

    /// The list that texts stand for.
    pub(super) fn list<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Value {
        let item = if let Self::List(item) = self { item } else { self };
        texts.map(|text| item.value(text)).collect()
    }

    /// The object that pairs of texts stand for; a name that is there more than once is a list if it may be one.
    ///
    /// # Errors
    ///
    /// The name that is there twice.
    pub(super) fn object(&self, pairs: impl Iterator<Item = (String, String)>) -> Result<Value, String> {
        let properties = if let Self::Object(properties) = self { &properties[..] } else { &[] };
        let mut object = Map::new();
        for (name, text) in pairs {
            let shape = properties.iter().find(|(it, _)| *it == name).map(|(_, shape)| shape);
            match (shape, object.get_mut(&name)) {
                (Some(Self::List(item)), Some(Value::Array(list))) => list.push(item.value(&text)),
                (_, Some(_)) => return Err(name),
                (Some(Self::List(item)), None) => drop(object.insert(name, vec![item.value(&text)].into())),
                (shape, None) => {
                    let value = shape.map_or_else(|| text.as_str().into(), |shape| shape.value(&text));
                    object.insert(name, value);
                }
            }
        }
        Ok(object.into())
    }
}

impl Types {
    fn add(&mut self, more: Self) {
        self.number |= more.number;
        self.boolean |= more.boolean;
        self.null |= more.null;
    }

    fn add_type_of(&mut self, value: &Value) {
        let more = Self { number: value.is_number(), boolean: value.is_boolean(), null: value.is_null() };
        self.add(more);
    }
}
