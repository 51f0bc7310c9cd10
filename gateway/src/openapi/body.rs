//! The body of an operation: of which media types it may be, and what is asked of those that can be read here, JSON and forms.

use std::{cmp::Reverse, sync::Arc};

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use mime::Mime;
use serde_json::Value;

use super::{
    Finding, Invalid, Mistake,
    document::{At, Document},
    json,
    parameter::pairs,
    schema::{Schema, Schemas},
    shape::Shape,
    steps::take_to_read,
    valid,
};

/// The body of an operation.
#[derive(Debug)]
pub struct Body {
    required: bool,
    /// The most exact first.
    kinds: Vec<(Mime, Option<Arc<Content>>)>,
}

/// What bodies that can be read are held to.
#[derive(Debug)]
struct Content {
    schema: Schema,
    /// Of forms, unless the document says how their parts are encoded.
    form: Option<Shape>,
}

impl Body {
    pub(super) fn compile<'a>(
        document: &Document<'a>,
        schemas: &mut Schemas<'a>,
        at: &At<'a>,
    ) -> Result<Self, Mistake> {
        let at = document.resolve(at.clone())?;
        let content = at.key("content");
        let mut kinds = Vec::new();
        for (name, _) in content.value.as_object().into_iter().flatten() {
            let media = content.key(name);
            let kind = name.parse::<Mime>();
            let kind = kind.map_err(|_| media.mistake(format!("\"{}\" is no media type", name.escape_debug())))?;
            let is_form = is_in(&mime::APPLICATION_WWW_FORM_URLENCODED, &kind);
            let is_read = is_form || is_json(&kind) || kind.subtype() == mime::STAR;
            let held = media.get("schema").filter(|_| is_read).map(|schema| {
                let form = (is_form && media.get("encoding").is_none()).then(|| Shape::of(document, &schema));
                Ok(Arc::new(Content { schema: schemas.at(schema)?, form }))
            });
            kinds.push((kind, held.transpose()?));
        }
        kinds.sort_by_key(|(kind, _)| {
            (kind.type_() == mime::STAR, kind.subtype() == mime::STAR, Reverse(kind.params().count()))
        });
        Ok(Self { required: at.value["required"] == true, kinds })
    }

    /// Whether there may be none.
    ///
    /// # Errors
    ///
    /// It is required.
    pub fn none(&self) -> Result<(), Invalid> {
        valid(self.required.then(|| finding(String::new(), "is required".to_owned())).into_iter().collect())
    }

    /// What one of the media type that the head tells is held to; nothing if it is not to be read.
    ///
    /// # Errors
    ///
    /// The document has none of the kind, or it could not be read.
    pub fn of(&self, headers: &HeaderMap) -> Result<Option<Held>, Invalid> {
        let mut told = headers.get_all(CONTENT_TYPE).iter();
        let kind = match (told.next(), told.next()) {
            (None, _) => return Err(self.unsupported("the body has no Content-Type")),
            (Some(_), Some(_)) => return Err(self.unsupported("the body has more than one Content-Type")),
            (Some(text), None) => text.to_str().unwrap_or_default().parse::<Mime>(),
        };
        let kind = kind.map_err(|_| self.unsupported("the Content-Type is no media type"))?;
        let found = self.kinds.iter().find(|(range, _)| is_in(&kind, range));
        let content = found.ok_or_else(|| self.unsupported(&format!("the body is {kind}")))?.1.as_ref();
        let is_form = is_in(&kind, &mime::APPLICATION_WWW_FORM_URLENCODED);
        let is_read = |content: &&Arc<Content>| is_json(&kind) || (is_form && content.form.is_some());
        let Some(content) = content.filter(is_read) else { return Ok(None) };
        // What is read here must be what the service will read.
        let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            return Err(Invalid::MediaType(
                "the body has a Content-Encoding, and the API does not take any".to_owned(),
            ));
        }
        let mut charsets = kind.params().filter(|(name, _)| *name == mime::CHARSET);
        if !charsets.all(|(_, charset)| charset == mime::UTF_8 || charset == "utf8") {
            return Err(Invalid::MediaType("the body is not in UTF-8".to_owned()));
        }
        Ok(Some(Held { content: Arc::clone(content), is_form: !is_json(&kind) }))
    }

    fn unsupported(&self, what: &str) -> Invalid {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, _)| kind.as_ref()).collect();
        Invalid::MediaType(format!("{what}; the API takes {}", kinds.join(", ")))
    }
}

/// The content that one body must have. Cheap to clone, and for any thread.
#[derive(Debug, Clone)]
pub struct Held {
    content: Arc<Content>,
    is_form: bool,
}

impl Held {
    /// Checks a body.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not what the document says.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Invalid> {
        take_to_read(bytes);
        let refused = |message: String| Invalid::Findings(vec![finding(String::new(), message)]);
        let value: Value = match self.content.form.as_ref().filter(|_| self.is_form) {
            Some(shape) => {
                let text = std::str::from_utf8(bytes).map_err(|_| refused("is not UTF-8".to_owned()))?;
                let named = |name: String| refused(format!("has \"{}\" more than once", name.escape_debug()));
                shape.object(pairs(text).into_iter()).map_err(named)?
            }
            None => json::read(bytes).map_err(|error| refused(format!("is no JSON: {error}")))?,
        };
        let (_, wrong) = self.content.schema.check(value);
        valid(wrong.into_iter().map(|(pointer, message)| finding(pointer, message)).collect())
    }
}

fn finding(pointer: String, message: String) -> Finding {
    Finding { place: "body", name: format!("#{pointer}"), message }
}

pub(super) fn is_json(kind: &Mime) -> bool {
    kind.subtype() == mime::JSON || kind.suffix() == Some(mime::JSON)
}

/// Whether it is of a range, with all parameters of that but the charset.
fn is_in(kind: &Mime, range: &Mime) -> bool {
    let one = range.type_() == mime::STAR || range.type_() == kind.type_();
    let same_suffix = range.suffix() == kind.suffix();
    let other = match range.subtype() {
        mime::STAR => range.suffix().is_none() || same_suffix,
        exact => exact == kind.subtype() && same_suffix,
    };
    let mut asked = range.params().filter(|(name, _)| *name != mime::CHARSET);
    one && other && asked.all(|(name, value)| kind.get_param(name) == Some(value))
}
