//! One line of the access log: JSON, or a template. Whatever a client sends, a line stays one line.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use http::{HeaderName, Version};
use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::Entry;

/// What can be told of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
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

/// A line, taken apart.
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
        for (place, name) in fields.iter().enumerate() {
            match field(name) {
                Some(field) => {
                    let before = if parts.is_empty() { '{' } else { ',' };
                    parts.push((format!("{before}{}:", serde_json::Value::from(name.as_str())), field));
                }
                None => errors.push(LineError::Unknown { name: name.clone(), place: Some(place) }),
            }
        }
        let line = Self { parts, end: "}\n".to_owned(), json: true, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, stamp: &Stamp, entry: &Entry<'_>) {
        for (before, field) in &self.parts {
            out.extend_from_slice(before.as_bytes());
            self.value(out, field, stamp, entry);
        }
        out.extend_from_slice(self.end.as_bytes());
    }

    fn value(&self, out: &mut Vec<u8>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) {
        let Entry { asked, exchange, .. } = entry;
        match field {
            Field::Time => self.plain(out, |out| {
                out.extend_from_slice(stamp.text.as_bytes());
                out.push(b'.');
                push_padded(out, stamp.millis);
                out.push(b'Z');
            }),
            Field::RequestId => self.text(out, Some(exchange.id.as_str())),
            Field::TraceId => self.text(out, exchange.trace_id()),
            Field::Client => self.plain(out, |out| drop(write!(out, "{}", exchange.client.address))),
            Field::Listener => self.text(out, Some(&exchange.client.listener)),
            Field::Protocol => self.text(out, Some(protocol(exchange.request.version))),
            Field::Method => self.text(out, Some(asked.method.as_str())),
            Field::Host => self.text(out, exchange.request.authority.as_ref().map(|host| host.as_str())),
            Field::Path => self.text(out, Some(asked.target.path())),
            Field::Query => match asked.target.query() {
                Some(query) => self.text(out, Some(&self.redacted(query))),
                None => self.text(out, None),
            },
            Field::Status => push_number(out, entry.status.into()),
            Field::Route => self.text(out, entry.route),
            Field::Service => self.text(out, entry.service),
            Field::Endpoint => match entry.endpoint {
                Some(endpoint) => self.plain(out, |out| drop(write!(out, "{endpoint}"))),
                None => self.text(out, None),
            },
            Field::ReceivedBytes => push_number(out, entry.received),
            Field::SentBytes => push_number(out, entry.sent),
            Field::AnsweredMs => match entry.answered_after {
                Some(after) => push_millis(out, after),
                None => self.text(out, None),
            },
            Field::DurationMs => push_millis(out, entry.after),
            Field::Blame => self.text(out, entry.fault.map(|fault| fault.blame)),
            Field::Cause => self.text(out, entry.fault.map(|fault| fault.cause)),
            Field::Header(name) if self.hides(name.as_str()) => {
                self.text(out, exchange.request.headers.get(name).map(|_| REDACTED));
            }
            Field::Header(name) => {
                let value = exchange.request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
                self.text(out, value.as_deref());
            }
        }
    }

    /// Text that came from outside.
    fn text(&self, out: &mut Vec<u8>, text: Option<&str>) {
        match text {
            None => out.extend_from_slice(if self.json { b"null" } else { b"-" }),
            Some(text) if self.json && text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') => {
                self.plain(out, |out| out.extend_from_slice(text.as_bytes()));
            }
            Some(text) if self.json => drop(serde_json::to_writer(out, text)),
            // A quote would end a quoted field, a line break the line.
            Some(text) => {
                for c in text.chars() {
                    match c {
                        '"' | '\\' => drop(write!(out, "\\{c}")),
                        c if c.is_control() => drop(write!(out, "{}", c.escape_default())),
                        c => drop(write!(out, "{c}")),
                    }
                }
            }
        }
    }

    /// Text that needs no escape.
    fn plain(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.json {
            out.push(b'"');
            write(out);
            out.push(b'"');
        } else {
            write(out);
        }
    }

    fn hides(&self, name: &str) -> bool {
        self.redact.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    fn redacted(&self, query: &str) -> String {
        let shown = query.split('&').map(|pair| match pair.split_once('=') {
            // Decoded, so that `%74oken` hides like `token`.
            Some((name, _)) if self.hides(&percent_decode_str(name).decode_utf8_lossy()) => {
                format!("{name}={REDACTED}")
            }
            _ => pair.to_owned(),
        });
        shown.collect::<Vec<_>>().join("&")
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

fn push_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    out.push(b'.');
    push_padded(out, (micros % 1000) as u32);
}

/// Three digits.
fn push_padded(out: &mut Vec<u8>, n: u32) {
    out.extend([100, 10, 1].map(|place| b'0' + (n / place % 10) as u8));
}
