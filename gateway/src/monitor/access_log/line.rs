//! One line of the access log: JSON, or a template. Whatever a client sends, a line stays one line.

use std::{
    borrow::Cow,
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderName, Version};
use thiserror::Error;

use super::Entry;
use crate::exchange::query::{octets, parameters};

/// What can be told of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    RequestId,
    TraceId,
    Client,
    Listener,
    Protocol,
    Method,
    Host,
    Path,
    Query,
    Status,
    Route,
    Service,
    Endpoint,
    ReceivedBytes,
    SentBytes,
    AnsweredMs,
    DurationMs,
    Blame,
    Cause,
    /// A field of the request as it was forwarded.
    Header(HeaderName),
}

/// Each by its name, in the order of a line that does not say otherwise.
const FIELDS: [(&str, Field); 20] = [
    ("time", Field::Time),
    ("request_id", Field::RequestId),
    ("trace_id", Field::TraceId),
    ("client", Field::Client),
    ("listener", Field::Listener),
    ("protocol", Field::Protocol),
    ("method", Field::Method),
    ("host", Field::Host),
    ("path", Field::Path),
    ("query", Field::Query),
    ("status", Field::Status),
    ("route", Field::Route),
    ("service", Field::Service),
    ("endpoint", Field::Endpoint),
    ("received_bytes", Field::ReceivedBytes),
    ("sent_bytes", Field::SentBytes),
    ("answered_ms", Field::AnsweredMs),
    ("duration_ms", Field::DurationMs),
    ("blame", Field::Blame),
    ("cause", Field::Cause),
];
const JSON: &str = "json";
const HEADER: &str = "header:";
const REDACTED: &str = "[redacted]";
/// Bytes that a line has room for before it grows.
const ROOM: usize = 640;

/// Why there is no such line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    #[error("there is no field \"{name}\"")]
    Unknown {
        name: String,
        /// Its place in the list of fields; none in a template.
        place: Option<usize>,
    },
    #[error("a \"{{\" is not closed")]
    Open,
    #[error("fields are for format json; a template names its own")]
    FieldsOfTemplate,
}

impl LineError {
    /// The names that a field may have, but for `header:NAME`.
    pub fn known() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
    }
}

impl Field {
    /// Says whether every exchange has it and it is text: in JSON, the text around it holds its quotes.
    fn is_quoted(&self) -> bool {
        use Field::{Client, Listener, Method, Path, Protocol, RequestId, Time};
        matches!(self, Time | RequestId | Client | Listener | Protocol | Method | Path)
    }
}

/// A line, taken apart: each field with the text before it, and the text after the last.
#[derive(Debug)]
pub(super) struct Line {
    parts: Vec<(String, Field)>,
    end: String,
    json: bool,
    redact: Vec<String>,
}

/// The time of a line; the text of its second is made once a second.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: u64,
    text: String,
    millis: u32,
}

impl Stamp {
    pub(super) fn set(&mut self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.millis = since.subsec_millis();
        if self.second != since.as_secs() {
            self.second = since.as_secs();
            self.text = humantime::format_rfc3339_seconds(now).to_string();
            self.text.pop();
        }
    }

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        push_padded(out, self.millis);
        out.push(b'Z');
    }
}

impl Line {
    pub(super) fn parse(format: &str, fields: &[String], redact: &[String]) -> Result<Self, Vec<LineError>> {
        let redact: Vec<String> = redact.iter().map(|name| name.to_ascii_lowercase()).collect();
        if format == JSON {
            return Self::json(fields, redact);
        }
        let mut line = Self { parts: Vec::new(), end: String::new(), json: false, redact };
        let mut errors: Vec<_> = (!fields.is_empty()).then_some(LineError::FieldsOfTemplate).into_iter().collect();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                errors.push(LineError::Open);
                break;
            };
            match field(name) {
                Some(field) => line.parts.push((before.to_owned(), field)),
                None => errors.push(LineError::Unknown { name: name.to_owned(), place: None }),
            }
            rest = after;
        }
        line.end = format!("{rest}\n");
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    fn json(fields: &[String], redact: Vec<String>) -> Result<Self, Vec<LineError>> {
        let all: Vec<String> = LineError::known().map(str::to_owned).collect();
        let fields = if fields.is_empty() { &all } else { fields };
        let (mut parts, mut errors) = (Vec::with_capacity(fields.len()), Vec::new());
        let mut end = "";
        for (place, name) in fields.iter().enumerate() {
            match field(name) {
                Some(field) => {
                    let (separator, quote) =
                        (if parts.is_empty() { "{" } else { "," }, if field.is_quoted() { "\"" } else { "" });
                    parts.push((format!("{end}{separator}{}:{quote}", serde_json::Value::from(name.as_str())), field));
                    end = quote;
                }
                None => errors.push(LineError::Unknown { name: name.clone(), place: Some(place) }),
            }
        }
        let line = Self { parts, end: format!("{end}}}\n"), json: true, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, stamp: &Stamp, entry: &Entry<'_>) {
        out.reserve(ROOM);
        for (before, field) in &self.parts {
            out.extend_from_slice(before.as_bytes());
            self.value(out, field, stamp, entry);
        }
        out.extend_from_slice(self.end.as_bytes());
    }

    fn value(&self, out: &mut Vec<u8>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) {
        let Entry { asked, exchange, .. } = entry;
        match field {
            Field::Time => stamp.push(out),
            Field::RequestId => self.text(out, exchange.id.as_str()),
            Field::TraceId => self.optional(out, exchange.trace_id()),
            Field::Client => push_address(out, exchange.client.address),
            Field::Listener => push(out, &exchange.client.listener),
            Field::Protocol => push(out, protocol(exchange.request.version)),
            Field::Method => push(out, asked.method.as_str()),
            Field::Host => self.optional(out, exchange.request.authority.as_ref().map(|host| host.as_str())),
            Field::Path => self.text(out, asked.target.path()),
            Field::Query => self.optional_text(out, asked.target.query().map(|query| self.redacted(query)).as_deref()),
            Field::Status => push_number(out, entry.status.into()),
            Field::Route => self.optional(out, entry.route),
            Field::Service => self.optional(out, entry.service),
            Field::Endpoint => match entry.endpoint {
                Some(endpoint) => {
                    push(out, self.quote());
                    push_address(out, endpoint);
                    push(out, self.quote());
                }
                None => self.optional(out, None),
            },
            Field::ReceivedBytes => push_number(out, entry.received),
            Field::SentBytes => push_number(out, entry.sent),
            Field::AnsweredMs => match entry.answered_after {
                Some(after) => push_millis(out, after),
                None => self.optional(out, None),
            },
            Field::DurationMs => push_millis(out, entry.after),
            Field::Blame => self.optional(out, entry.fault.map(|fault| fault.blame)),
            Field::Cause => self.optional(out, entry.fault.map(|fault| fault.cause)),
            Field::Header(name) if self.hides(name.as_str().bytes()) => {
                self.optional(out, exchange.request.headers.get(name).map(|_| REDACTED));
            }
            Field::Header(name) => {
                let value = exchange.request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
                self.optional_text(out, value.as_deref());
            }
        }
    }

    /// Text that came from outside, without its quotes.
    fn text(&self, out: &mut Vec<u8>, text: &str) {
        if !is_special(text) {
            return push(out, text);
        }
        if self.json {
            let quoted = serde_json::Value::from(text).to_string();
            return push(out, &quoted[1..quoted.len() - 1]);
        }
        for c in text.chars() {
            match c {
                '"' | '\\' => drop(write!(out, "\\{c}")),
                c if c.is_control() => drop(write!(out, "{}", c.escape_default())),
                c => drop(write!(out, "{c}")),
            }
        }
    }

    fn optional_text(&self, out: &mut Vec<u8>, text: Option<&str>) {
        match text {
            Some(text) if is_special(text) => {
                push(out, self.quote());
                self.text(out, text);
                push(out, self.quote());
            }
            text => self.optional(out, text),
        }
    }

    /// Text that needs no escape.
    fn optional(&self, out: &mut Vec<u8>, word: Option<&str>) {
        match word {
            Some(word) if self.json => {
                out.push(b'"');
                push(out, word);
                out.push(b'"');
            }
            Some(word) => push(out, word),
            None => push(out, if self.json { "null" } else { "-" }),
        }
    }

    fn quote(&self) -> &'static str {
        if self.json { "\"" } else { "" }
    }

    /// Names to hide are in lower case.
    fn hides(&self, name: impl Iterator<Item = u8> + Clone) -> bool {
        self.redact.iter().any(|hidden| name.clone().map(|octet| octet.to_ascii_lowercase()).eq(hidden.bytes()))
    }

    /// As it is, unless there is something to hide in it. Names are decoded, so that `%74oken` hides like `token`.
    fn redacted<'q>(&self, query: &'q str) -> Cow<'q, str> {
        if !parameters(query).any(|(name, _)| self.hides(octets(name))) {
            return Cow::Borrowed(query);
        }
        let shown = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if self.hides(octets(name)) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        });
        Cow::Owned(shown.collect::<Vec<_>>().join("&"))
    }
}

fn field(name: &str) -> Option<Field> {
    if let Some(header) = name.strip_prefix(HEADER) {
        return header.parse().ok().map(Field::Header);
    }
    FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// A quote would end a quoted field, a line break the line. Looked at to its end whatever is found, so that it is done
/// many bytes at a time.
fn is_special(text: &str) -> bool {
    text.bytes().fold(false, |seen, byte| seen | (byte < b' ' || byte == b'"' || byte == b'\\' || byte >= 0x7f))
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// As `Display` writes it.
fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(address) = address else {
        return drop(write!(out, "{address}"));
    };
    let (mut text, mut end) = (*b"255.255.255.255:65535", 0);
    let mut put = |byte: u8| {
        text[end] = byte;
        end += 1;
    };
    for (n, octet) in address.ip().octets().into_iter().enumerate() {
        if n > 0 {
            put(b'.');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
    }
    put(b':');
    out.extend_from_slice(&text[..end]);
    push_number(out, address.port().into());
}

fn push_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut Vec<u8>, time: Duration) {
    push_number(out, time.as_secs() * 1000 + u64::from(time.subsec_millis()));
    out.push(b'.');
    push_padded(out, time.subsec_micros() % 1000);
}

/// Three digits.
fn push_padded(out: &mut Vec<u8>, n: u32) {
    out.extend([100, 10, 1].map(|place| b'0' + (n / place % 10) as u8));
}
