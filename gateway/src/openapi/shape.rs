//! In which form a schema's values come as text, and the values that texts stand for. Whether they are good is not asked here.

use serde_json::{Map, Number, Value};

use super::{
    document::{At, Document},
    json,
};

/// Schemas that are looked at for one shape.
const MOST_SCHEMAS: usize = 500;
/// An object with its parts, and what those are lists of: texts have no more.
const MOST_DEPTH: usize = 2;

/// All that a value may be, whichever branch of its schema it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// What one text may stand for beside itself.
    number: bool,
    boolean: bool,
    null: bool,
    pub(super) list: Option<Box<Self>>,
    pub(super) object: Option<Object>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    properties: Vec<(String, Shape)>,
    /// Of other names, where the schema says something of them.
    others: Option<Box<Shape>>,
}

impl Shape {
    pub(super) fn of(document: &Document<'_>, schema: &At<'_>) -> Self {
        Self::within(document, schema, MOST_DEPTH, &mut { MOST_SCHEMAS })
    }

    fn within(document: &Document<'_>, schema: &At<'_>, depth: usize, left: &mut usize) -> Self {
        let mut shape = Self::default();
        shape.add(document, schema, depth, left);
        shape
    }

    /// Adds what a schema allows. What leads nowhere, or is beyond the bounds, adds nothing.
    fn add(&mut self, document: &Document<'_>, schema: &At<'_>, depth: usize, left: &mut usize) {
        let (Ok(schema), Some(less)) = (document.resolve(schema.clone()), left.checked_sub(1)) else { return };
        *left = less;
        let written = schema.value;
        let has = |kind: &str| match &written["type"] {
            Value::String(only) => only == kind,
            Value::Array(kinds) => kinds.iter().any(|it| it == kind),
            _ => false,
        };
        self.number |= has("number") || has("integer");
        self.boolean |= has("boolean");
        self.null |= has("null");
        for known in written["enum"].as_array().into_iter().flatten().chain(written.get("const")) {
            self.number |= known.is_number();
            self.boolean |= known.is_boolean();
            self.null |= known.is_null();
        }
        let deeper = depth.saturating_sub(1);
        if has("array") {
            let list = self.list.get_or_insert_default();
            if let Some(items) = schema.get("items").filter(|_| depth > 0) {
                list.add(document, &items, deeper, left);
            }
        }
        if has("object") || written["properties"].is_object() {
            let object = self.object.get_or_insert_default();
            let properties = schema.key("properties");
            let names = properties.value.as_object().into_iter().flatten().map(|(name, _)| name);
            for (name, property) in names.zip(properties.values()).filter(|_| depth > 1) {
                object.properties.push((name.clone(), Self::within(document, &property, deeper, left)));
            }
            if let Some(others) = schema.get("additionalProperties").filter(|it| depth > 1 && it.value.is_object()) {
                object.others = Some(Box::new(Self::within(document, &others, deeper, left)));
            }
        }
        for branches in ["anyOf", "oneOf", "allOf"] {
            schema.key(branches).each().for_each(|branch| self.add(document, &branch, depth, left));
        }
    }

    /// The value that one text stands for.
    pub(super) fn value(&self, text: &str) -> Value {
        match text {
            "true" | "false" if self.boolean => (text == "true").into(),
            "null" | "" if self.null => Value::Null,
            _ => {
                let number = self.number.then(|| text.parse::<Number>().ok()).flatten();
                number.map_or_else(|| text.into(), Value::Number)
            }
        }
    }

    /// The list that texts stand for.
    pub(super) fn list<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Value {
        let item = self.list.as_deref().unwrap_or(self);
        texts.map(|text| item.value(text)).collect()
    }

    /// The object that pairs of texts stand for; a name that is there more than once is a list if it may be one.
    ///
    /// # Errors
    ///
    /// The name that is there twice.
    pub(super) fn object(&self, pairs: impl Iterator<Item = (String, String)>) -> Result<Value, String> {
        let unknown = Object::default();
        let known = self.object.as_ref().unwrap_or(&unknown);
        let mut object = Map::new();
        for (name, text) in pairs {
            let list = known.shapes(&name).find_map(|shape| shape.list.as_deref());
            match (list, object.get_mut(&name)) {
                (Some(item), Some(Value::Array(list))) => list.push(item.value(&text)),
                (_, Some(_)) => return Err(name),
                (Some(item), None) => drop(object.insert(name, vec![item.value(&text)].into())),
                (None, None) => {
                    let value = known.value(&name, &text);
                    object.insert(name, value);
                }
            }
        }
        Ok(object.into())
    }
}

impl Object {
    pub(super) fn has(&self, name: &str) -> bool {
        self.properties.iter().any(|(it, _)| it == name)
    }

    /// What a part of this name may be; of several branches, of each.
    fn shapes(&self, name: &str) -> impl Iterator<Item = &Shape> {
        let others = self.others.as_deref().filter(|_| !self.has(name));
        self.properties.iter().filter(move |(it, _)| it == name).map(|(_, shape)| shape).chain(others)
    }

    /// An object in an object is JSON (OpenAPI 3.0 §4.7.15).
    fn value(&self, name: &str, text: &str) -> Value {
        for shape in self.shapes(name) {
            let object = shape.object.as_ref().and_then(|_| json::read(text.as_bytes()).ok());
            match object.unwrap_or_else(|| shape.value(text)) {
                Value::String(_) => {}
                other => return other,
            }
        }
        text.into()
    }
}
