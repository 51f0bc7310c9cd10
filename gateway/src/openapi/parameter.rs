//! Parameters of an operation: where a request has them, in which style they are written (OpenAPI 3.1 §4.8.12), and whether their
//! values are good.

use http::{HeaderMap, HeaderName};
use mime::Mime;
use percent_encoding::{percent_decode, percent_decode_str};
use serde_json::Value;

use super::{
    Finding, Mistake,
    body::is_json,
    document::{At, Document},
    json,
    schema::{Schema, Schemas},
    shape::Shape,
};
use crate::{
    exchange::{RequestHead, query},
    router::cookies,
};

/// Header fields that are described elsewhere in a document.
const NOT_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

#[derive(Debug)]
pub(super) struct Parameter {
    name: String,
    place: Place,
    required: bool,
    /// A query may name it without a value.
    may_be_empty: bool,
    style: Style,
    schema: Schema,
    shape: Shape,
}

#[derive(Debug)]
enum Place {
    /// Which segment of the path.
    Path(usize),
    Query,
    Header(HeaderName),
    Cookie,
}

/// How a value that has parts is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The parts in one text, with this between them.
    Joined(char),
    /// Under the name, once for each part; an object's by their own names.
    Each,
    /// `NAME[PART]`.
    Deep,
    /// JSON.
    Json,
    /// One text, as it is.
    Whole,
}

/// What of a request is looked at.
pub(super) struct Sent<'a> {
    path: &'a str,
    query: Vec<(String, String)>,
    cookies: Vec<(String, String)>,
    headers: &'a HeaderMap,
}

impl<'a> Sent<'a> {
    pub(super) fn new(head: &'a RequestHead, path: &'a str) -> Self {
        let query = head.target.query().unwrap_or_default();
        let text = |octets: &[u8]| percent_decode(octets).decode_utf8_lossy().into_owned();
        let cookies = cookies(&head.headers).map(|(name, value)| (text(name), text(value))).collect();
        Self { path, query: pairs(query), cookies, headers: &head.headers }
    }
}

/// Names and values of a query, or of a form, with what is no UTF-8 in them replaced.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text| String::from_utf8_lossy(&query::octets(text).collect::<Vec<_>>()).into_owned();
    let named = query::parameters(text).filter(|(name, value)| !(name.is_empty() && value.is_empty()));
    named.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

impl Parameter {
    /// Those of an operation: what it says of one goes before what its path says.
    pub(super) fn compile<'a>(
        document: &Document<'a>,
        schemas: &mut Schemas<'a>,
        path: &str,
        item: &At<'a>,
        operation: &At<'a>,
    ) -> Result<Vec<Self>, Mistake> {
        let mut all: Vec<Self> = Vec::new();
        for written in operation.key("parameters").each().chain(item.key("parameters").each()) {
            let Some(new) = Self::one(document, schemas, path, &document.resolve(written)?)? else { continue };
            if !all.iter().any(|it| it.name == new.name && it.place() == new.place()) {
                all.push(new);
            }
        }
        Ok(all)
    }

    /// Nothing if it is one that parameters do not describe.
    fn one<'a>(
        document: &Document<'a>,
        schemas: &mut Schemas<'a>,
        path: &str,
        at: &At<'a>,
    ) -> Result<Option<Self>, Mistake> {
        let name = at.text("name").to_owned();
        let flag = |key: &str, default: bool| at.value[key].as_bool().unwrap_or(default);
        let place = match at.text("in") {
            "path" => match path.split('/').position(|part| part == format!("{{{name}}}")) {
                Some(segment) => Place::Path(segment),
                None => return Err(at.mistake(format!("no segment of \"{path}\" is {{{name}}}"))),
            },
            "query" => Place::Query,
            "header" if NOT_PARAMETERS.iter().any(|it| name.eq_ignore_ascii_case(it)) => return Ok(None),
            "header" => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(field) => Place::Header(field),
                Err(_) => return Err(at.mistake(format!("\"{}\" is no name of a header field", name.escape_debug()))),
            },
            "cookie" => Place::Cookie,
            other => {
                return Err(at.mistake(format!("a parameter is in path, query, header or cookie, not in \"{other}\"")));
            }
        };
        let content = at.key("content");
        let kind = content.value.as_object().and_then(|kinds| kinds.keys().next());
        let schema = kind.map_or_else(|| at.clone(), |kind| content.key(kind)).get("schema");
        let schema = schema.ok_or_else(|| at.mistake("it has no schema"))?;
        let shape = Shape::of(document, &schema);
        let style = match kind {
            Some(kind) if kind.parse::<Mime>().is_ok_and(|kind| is_json(&kind)) => Style::Json,
            Some(_) => Style::Whole,
            None => Style::of(at, &place, &shape)?,
        };
        Ok(Some(Self {
            required: flag("required", false) || matches!(place, Place::Path(_)),
            may_be_empty: flag("allowEmptyValue", false),
            style,
            schema: schemas.at(schema)?,
            shape,
            name,
            place,
        }))
    }

    /// What is wrong with it in a request.
    pub(super) fn check(&self, sent: &Sent<'_>) -> Vec<Finding> {
        let found = match self.read(sent) {
            Ok(None) if self.required => Some("is required".to_owned()),
            Ok(None) => None,
            Ok(Some((value, text))) => {
                let (value, wrong) = self.schema.check(value);
                // What may be a number or a list may be a text as well.
                let other = text.filter(|text| value.as_str() != Some(text));
                let is_good = || other.is_some_and(|text| self.schema.check(text.into()).1.is_empty());
                if wrong.is_empty() || is_good() {
                    return Vec::new();
                }
                return wrong.into_iter().map(|(_, message)| self.finding(message)).collect();
            }
            Err(message) => Some(message),
        };
        found.map(|message| self.finding(message)).into_iter().collect()
    }

    fn finding(&self, message: String) -> Finding {
        Finding { place: self.place(), name: self.name.clone(), message }
    }

    fn place(&self) -> &'static str {
        match self.place {
            Place::Path(_) => "path",
            Place::Query => "query",
            Place::Header(_) => "header",
            Place::Cookie => "cookie",
        }
    }

    /// Its value, and the text if it is of one that may as well stand for itself; nothing if it is not there.
    fn read(&self, sent: &Sent<'_>) -> Result<Option<(Value, Option<String>)>, String> {
        let (is_list, is_object) = (self.shape.list.is_some(), self.shape.object.is_some());
        if self.style == Style::Deep || (self.style == Style::Each && is_object) {
            let pairs = self.parts(sent);
            if !pairs.is_empty() {
                return Ok(Some((self.object(pairs.into_iter())?, None)));
            }
        }
        let texts = self.texts(sent)?;
        let Some(text) = texts.first() else { return Ok(None) };
        if self.style == Style::Each && is_list {
            let only = (texts.len() == 1).then(|| text.clone());
            return Ok(Some((self.shape.list(texts.iter().map(String::as_str)), only)));
        }
        if texts.len() > 1 {
            return Err("is there more than once".to_owned());
        }
        if text.is_empty() && self.may_be_empty {
            return Ok(None);
        }
        let value = match self.style {
            Style::Json => {
                let value = json::read(text.as_bytes()).map_err(|error| format!("is no JSON: {error}"))?;
                return Ok(Some((value, None)));
            }
            Style::Joined(between) if is_list => {
                self.shape.list(text.split(between).map(str::trim).filter(|_| !text.is_empty()))
            }
            Style::Joined(between) if is_object => {
                let parts: Vec<_> = text.split(between).map(|part| part.trim().to_owned()).collect();
                if !parts.len().is_multiple_of(2) {
                    return Err("is not NAME,VALUE,NAME,VALUE".to_owned());
                }
                self.object(parts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())))?
            }
            _ => self.shape.value(text),
        };
        Ok(Some((value, Some(text.clone()))))
    }

    /// The field that it is read from, if it is read from one.
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Header(name) => Some(name),
            Place::Path(_) | Place::Query | Place::Cookie => None,
        }
    }

    /// Every text under its name.
    fn texts(&self, sent: &Sent<'_>) -> Result<Vec<String>, String> {
        match &self.place {
            Place::Path(segment) => {
                let Some(text) = sent.path.split('/').nth(*segment) else { return Ok(Vec::new()) };
                let text = percent_decode_str(text).decode_utf8().map_err(|_| "is not UTF-8".to_owned())?;
                Ok(vec![text.into_owned()])
            }
            Place::Header(name) => {
                let values = sent.headers.get_all(name).iter().map(|value| value.to_str());
                let values: Vec<_> = values.collect::<Result<_, _>>().map_err(|_| "is not ASCII".to_owned())?;
                // RFC 9110 §5.3: fields of one name are one list.
                Ok(if values.is_empty() { Vec::new() } else { vec![values.join(", ")] })
            }
            Place::Query | Place::Cookie => {
                let named = self.named(sent).iter().filter(|(name, _)| *name == self.name);
                Ok(named.map(|(_, value)| value.clone()).collect())
            }
        }
    }

    /// What has names of its own.
    fn named<'s>(&self, sent: &'s Sent<'_>) -> &'s [(String, String)] {
        match self.place {
            Place::Query => &sent.query,
            Place::Cookie => &sent.cookies,
            Place::Path(_) | Place::Header(_) => &[],
        }
    }

    /// An object whose parts have names of their own.
    fn parts(&self, sent: &Sent<'_>) -> Vec<(String, String)> {
        let own = |name: &str| match self.style {
            Style::Deep => {
                let part = name.strip_prefix(&*self.name)?.strip_prefix('[')?.strip_suffix(']')?;
                Some(part.to_owned())
            }
            _ => self.shape.object.as_ref().is_some_and(|it| it.has(name)).then(|| name.to_owned()),
        };
        self.named(sent).iter().filter_map(|(name, value)| Some((own(name)?, value.clone()))).collect()
    }

    fn object(&self, pairs: impl Iterator<Item = (String, String)>) -> Result<Value, String> {
        self.shape.object(pairs).map_err(|name| format!("has \"{}\" more than once", name.escape_debug()))
    }
}

impl Style {
    fn of(at: &At<'_>, place: &Place, shape: &Shape) -> Result<Self, Mistake> {
        let default = if matches!(place, Place::Query | Place::Cookie) { "form" } else { "simple" };
        let style = at.value["style"].as_str().unwrap_or(default);
        let explode = at.value["explode"].as_bool().unwrap_or(style == "form");
        match (place, style) {
            (Place::Query | Place::Cookie, "form") if explode => Ok(Self::Each),
            (Place::Query | Place::Cookie, "form") => Ok(Self::Joined(',')),
            // Only of an object's parts it makes a difference.
            (Place::Path(_) | Place::Header(_), "simple") if !explode || shape.object.is_none() => {
                Ok(Self::Joined(','))
            }
            (Place::Query, "spaceDelimited" | "pipeDelimited") if explode => Ok(Self::Each),
            (Place::Query, "spaceDelimited") => Ok(Self::Joined(' ')),
            (Place::Query, "pipeDelimited") => Ok(Self::Joined('|')),
            (Place::Query, "deepObject") => Ok(Self::Deep),
            _ => {
                let exploded = if explode { " with explode" } else { "" };
                Err(at
                    .mistake(format!("style \"{style}\"{exploded} is not known for a parameter in {}", at.text("in"))))
            }
        }
    }
}
