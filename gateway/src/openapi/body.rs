//! The body of an operation: of which media types it may be, and what is asked of those that can be read here, JSON and forms.

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
    valid,
};

#[derive(Debug)]
pub(super) struct Body {
    required: bool,
    /// The most exact first.
    kinds: Vec<(Mime, Option<Content>)>,
}

/// What a body that can be read is held to.
#[derive(Debug)]
pub struct Content {
    form: bool,
    schema: Schema,
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
            let form = kind.essence_str() == mime::APPLICATION_WWW_FORM_URLENCODED.essence_str();
            let schema = media.get("schema").filter(|_| form || is_json(&kind));
            let schema = schema.map(|schema| schemas.at(schema)).transpose()?;
            kinds.push((kind, schema.map(|schema| Content { form, schema })));
        }
        kinds.sort_by_key(|(kind, _)| (kind.type_() == mime::STAR, kind.subtype() == mime::STAR));
        Ok(Self { required: at.value["required"] == true, kinds })
    }

    /// What is wrong if there is none.
    pub(super) fn missing(&self) -> Option<Finding> {
        self.required.then(|| finding(String::new(), "is required".to_owned()))
    }

    /// What one of the media type that the head tells is held to.
    pub(super) fn of(&self, headers: &HeaderMap) -> Result<Option<&Content>, Invalid> {
        let mut told = headers.get_all(CONTENT_TYPE).iter();
        let kind = match (told.next(), told.next()) {
            (None, _) => return Err(self.unsupported("the body has no Content-Type")),
            (Some(_), Some(_)) => return Err(self.unsupported("the body has more than one Content-Type")),
            (Some(text), None) => text.to_str().unwrap_or_default().parse::<Mime>(),
        };
        let kind = kind.map_err(|_| self.unsupported("the Content-Type is no media type"))?;
        let found = self.kinds.iter().find(|(range, _)| is_in(&kind, range));
        let content = found.ok_or_else(|| self.unsupported(&format!("the body is {}", kind.essence_str())))?.1.as_ref();
        if content.is_none() {
            return Ok(None);
        }
        // What is read here must be what the service will read.
        let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            return Err(Invalid::MediaType(
                "the body has a Content-Encoding, and the API does not take any".to_owned(),
            ));
        }
        if kind.get_param(mime::CHARSET).is_some_and(|charset| charset != mime::UTF_8) {
            return Err(Invalid::MediaType("the body is not in UTF-8".to_owned()));
        }
        Ok(content)
    }

    fn unsupported(&self, what: &str) -> Invalid {
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, _)| kind.essence_str()).collect();
        Invalid::MediaType(format!("{what}; the API takes {}", kinds.join(", ")))
    }
}

impl Content {
    /// Checks a body.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not what the document says.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Invalid> {
        let refused = |message: String| Invalid::Findings(vec![finding(String::new(), message)]);
        let value: Value = if self.form {
            let text = std::str::from_utf8(bytes).map_err(|_| refused("is not UTF-8".to_owned()))?;
            let named = |name: String| refused(format!("has \"{}\" more than once", name.escape_debug()));
            self.schema.shape.object(pairs(text).into_iter()).map_err(named)?
        } else {
            json::read(bytes).map_err(|error| refused(format!("is no JSON: {error}")))?
        };
        if self.schema.allows(&value) {
            return Ok(());
        }
        valid(self.schema.findings(&value).into_iter().map(|(pointer, message)| finding(pointer, message)).collect())
    }
}

fn finding(pointer: String, message: String) -> Finding {
    Finding { place: "body", name: format!("#{pointer}"), message }
}

fn is_json(kind: &Mime) -> bool {
    kind.subtype() == mime::JSON || kind.suffix() == Some(mime::JSON)
}

fn is_in(kind: &Mime, range: &Mime) -> bool {
    let one = range.type_() == mime::STAR || range.type_() == kind.type_();
    let same = || range.subtype() == kind.subtype() && range.suffix() == kind.suffix();
    one && (range.subtype() == mime::STAR || same())
}
