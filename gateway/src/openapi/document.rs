//! A document as it is written: where things are in it, and what its references lead to.

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::Mistake;

/// Those that a path may have (OpenAPI 3.1 §4.8.9).
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
/// References that lead on to references are followed so far.
const MOST_HOPS: usize = 16;

/// A document of version 3.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    root: &'a Value,
    /// Of OpenAPI 3.0, whose schemas are not JSON Schema's.
    pub(super) old: bool,
}

/// A place in a document.
#[derive(Debug, Clone)]
pub struct At<'a> {
    /// JSON Pointer, without `#`.
    pub pointer: String,
    pub value: &'a Value,
}

impl<'a> Document<'a> {
    /// # Errors
    ///
    /// It is no OpenAPI document of version 3, or has no paths.
    pub fn read(root: &'a Value) -> Result<Self, Mistake> {
        let version = root["openapi"].as_str().unwrap_or_default();
        let mistake = |key: &str, message: &str| Mistake { pointer: format!("/{key}"), message: message.to_owned() };
        if !version.starts_with("3.") {
            let message = "it is no OpenAPI document of version 3: \"openapi\" does not say 3.1.0 or the like";
            return Err(mistake("openapi", message));
        }
        if !root["paths"].is_object() {
            return Err(mistake("paths", "the OpenAPI document has no \"paths\""));
        }
        Ok(Self { root, old: version.starts_with("3.0") })
    }

    /// What a JSON Pointer leads to.
    pub fn at(&self, pointer: &str) -> Option<At<'a>> {
        Some(At { pointer: pointer.to_owned(), value: self.root.pointer(pointer)? })
    }

    pub(super) fn root(&self) -> &'a Value {
        self.root
    }

    pub(super) fn paths(&self) -> At<'a> {
        At { pointer: String::new(), value: self.root }.key("paths")
    }

    /// Every path with what it has, in the order of the document.
    pub fn items(&self) -> impl Iterator<Item = (&'a str, Result<At<'a>, Mistake>)> {
        let paths = self.paths();
        let keys = self.root["paths"].as_object().into_iter().flatten().map(|(path, _)| path.as_str());
        // Beside paths there may be extensions.
        keys.filter(|path| !path.starts_with("x-")).map(move |path| {
            let item = paths.key(path);
            if !path.starts_with('/') {
                let message = format!("\"{}\" is no path: it does not begin with \"/\"", path.escape_debug());
                return (path, Err(item.mistake(message)));
            }
            (path, self.resolve(item))
        })
    }

    /// The methods of a path.
    pub fn operations(&self, item: &At<'a>) -> impl Iterator<Item = (Method, At<'a>)> {
        METHODS.into_iter().filter_map(|name| {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).ok()?;
            Some((method, item.get(name)?))
        })
    }

    /// What a place is if it is a reference, or the place itself.
    ///
    /// # Errors
    ///
    /// The reference leads nowhere, or out of the document.
    pub fn resolve(&self, at: At<'a>) -> Result<At<'a>, Mistake> {
        let mut now = at.clone();
        for _ in 0..MOST_HOPS {
            let Some(reference) = now.value.get("$ref").and_then(Value::as_str) else { return Ok(now) };
            let Some(pointer) = reference.strip_prefix('#') else {
                let message = format!("\"{}\" is in another document, and none is fetched", reference.escape_debug());
                return Err(now.mistake(message));
            };
            let pointer = percent_decode_str(pointer).decode_utf8_lossy().into_owned();
            let Some(value) = self.root.pointer(&pointer) else {
                return Err(now.mistake(format!("there is nothing at \"{}\"", reference.escape_debug())));
            };
            now = At { pointer, value };
        }
        Err(at.mistake("its references lead round in circles".to_owned()))
    }
}

/// A path as routes are written: the names of its parts may have characters there that no part has here.
pub fn pattern(path: &str) -> String {
    let part = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) if !name.contains(['{', '}']) => {
            format!("{{{}}}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
        }
        _ => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

impl<'a> At<'a> {
    /// What is there under a key.
    pub fn get(&self, key: &str) -> Option<Self> {
        self.value.get(key)?;
        Some(self.key(key))
    }

    /// The same; null if there is nothing.
    pub fn key(&self, key: &str) -> Self {
        let pointer = format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"));
        Self { pointer, value: &self.value[key] }
    }

    /// Each of a list.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        let parts = self.value.as_array().into_iter().flatten().enumerate();
        parts.map(|(n, value)| Self { pointer: format!("{}/{n}", self.pointer), value })
    }

    /// Each of a mapping.
    pub fn values(&self) -> impl Iterator<Item = Self> {
        let keys = self.value.as_object().into_iter().flatten().map(|(key, _)| key);
        keys.map(|key| self.key(key))
    }

    /// The text under a key; empty if there is none.
    pub fn text(&self, key: &str) -> &'a str {
        self.value[key].as_str().unwrap_or_default()
    }

    pub(super) fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake { pointer: self.pointer.clone(), message: message.into() }
    }
}
