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
const ROOM: usize = 768;
const BLOCK: usize = 32;

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
    fn is_number(&self) -> bool {
        matches!(self, Self::Status | Self::ReceivedBytes | Self::SentBytes | Self::AnsweredMs | Self::DurationMs)
    }
}

/// A line, taken apart: each field with the text before it, and the text after the last.
#[derive(Debug)]
pub(super) struct Line {
    parts: Vec<Part>,
    end: String,
    json: bool,
    redact: Vec<String>,
}

#[derive(Debug)]
struct Part {
    before: Fixed,
    field: Field,
    is_number: bool,
}

impl Part {
    fn new(before: String, field: Field) -> Self {
        Self { before: before.into(), is_number: field.is_number(), field }
    }
}

/// A text that is often short: its last bytes lie in a block of a fixed size, which is copied without a call.
#[derive(Debug)]
struct Fixed {
    before: Box<[u8]>,
    block: [u8; BLOCK],
    /// Bytes of the block that are of the text.
    length: usize,
}

impl Fixed {
    fn push(&self, out: &mut Vec<u8>) {
        if !self.before.is_empty() {
            out.extend_from_slice(&self.before);
        }
        let end = out.len() + self.length;
        out.extend_from_slice(&self.block);
        out.truncate(end);
    }
}

impl From<String> for Fixed {
    fn from(text: String) -> Self {
        let (before, last) = text.as_bytes().split_at(text.len().saturating_sub(BLOCK));
        let mut block = [0; BLOCK];
        block[..last.len()].copy_from_slice(last);
        Self { before: before.into(), block, length: last.len() }
    }
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
        let redact = redact.to_vec();
        if format == JSON {
            return Self::json(fields, redact);
        }
        let mut parts = Vec::new();
        let mut errors: Vec<_> = (!fields.is_empty()).then_some(LineError::FieldsOfTemplate).into_iter().collect();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                errors.push(LineError::Open);
                break;
            };
            match field(name) {
                Some(field) => parts.push(Part::new(before.to_owned(), field)),
                None => errors.push(LineError::Unknown { name: name.to_owned(), place: None }),
            }
            rest = after;
        }
        let line = Self { parts, end: format!("{rest}\n"), json: false, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    fn json(fields: &[String], redact: Vec<String>) -> Result<Self, Vec<LineError>> {
        let all: Vec<String> = LineError::known().map(str::to_owned).collect();
        let fields = if fields.is_empty() { &all } else { fields };
        let (mut parts, mut errors) = (Vec::with_capacity(fields.len()), Vec::new());
        for (place, name) in fields.iter().enumerate() {
            match field(name) {
                Some(field) => {
                    let quote = if field.is_number() { "" } else { "\"" };
                    parts.push(Part::new(format!("{}:{quote}", serde_json::Value::from(name.as_str())), field));
                }
                None => errors.push(LineError::Unknown { name: name.clone(), place: Some(place) }),
            }
        }
        let line = Self { parts, end: "}\n".to_owned(), json: true, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    /// What an exchange does not have is left out of JSON, and `-` in a template.
    pub(super) fn write(&self, out: &mut Vec<u8>, stamp: &Stamp, entry: &Entry<'_>) {
        out.reserve(ROOM);
        if self.json {
            out.push(b'{');
        }
        for part in &self.parts {
            let start = out.len();
            part.before.push(out);
            match (self.json, self.value(out, &part.field, stamp, entry)) {
                (true, Some(())) if part.is_number => out.push(b','),
                (true, Some(())) => out.extend_from_slice(b"\","),
                (true, None) => out.truncate(start),
                (false, Some(())) => {}
                (false, None) => out.push(b'-'),
            }
        }
        if self.json && out.last() == Some(&b',') {
            out.pop();
        }
        push(out, &self.end);
    }

    /// Writes a value without its quotes; none where there is none.
    fn value(&self, out: &mut Vec<u8>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) -> Option<()> {
        let Entry { asked, exchange, .. } = entry;
        match field {
            Field::Time => stamp.push(out),
            Field::RequestId => push(out, exchange.id.as_str()),
            Field::TraceId => push(out, exchange.trace_id()?),
            Field::Client => push(out, exchange.client.text()),
            Field::Listener => push(out, &exchange.client.listener),
            Field::Protocol => push(out, protocol(exchange.request.version)),
            Field::Method => push(out, asked.method.as_str()),
            Field::Host => push(out, exchange.request.authority.as_ref()?.as_str()),
            Field::Path => self.text(out, asked.target.path()),
            Field::Query => self.text(out, &self.redacted(asked.target.query()?)),
            Field::Status => push_padded(out, entry.status.into()),
            Field::Route => push(out, entry.route?),
            Field::Service => push(out, entry.service?),
            Field::Endpoint => push_address(out, entry.endpoint?),
            Field::ReceivedBytes => push_number(out, entry.received),
            Field::SentBytes => push_number(out, entry.sent),
            Field::AnsweredMs => push_millis(out, entry.answered_after?),
            Field::DurationMs => push_millis(out, entry.after),
            Field::Blame => push(out, entry.fault?.blame),
            Field::Cause => push(out, entry.fault?.cause),
            Field::Header(name) => match exchange.request.headers.get(name)? {
                _ if self.hides(name.as_str().as_bytes()) => push(out, REDACTED),
                value => self.text(out, &String::from_utf8_lossy(value.as_bytes())),
            },
        }
        Some(())
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

    fn hides(&self, name: &[u8]) -> bool {
        self.redact.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
    }

    /// Names are decoded, so that `%74oken` hides like `token`.
    fn hides_parameter(&self, name: &str) -> bool {
        if name.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
            self.hides(&octets(name).collect::<Vec<_>>())
        } else {
            self.hides(name.as_bytes())
        }
    }

    /// As it is, unless there is something to hide in it.
    fn redacted<'q>(&self, query: &'q str) -> Cow<'q, str> {
        if !parameters(query).any(|(name, _)| self.hides_parameter(name)) {
            return Cow::Borrowed(query);
        }
        let shown = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if self.hides_parameter(name) => format!("{name}={REDACTED}"),
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
    if n < 10 {
        return out.push(b'0' + n as u8);
    }
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut Vec<u8>, time: Duration) {
    let micros = time.subsec_micros();
    push_number(out, time.as_secs() * 1000 + u64::from(micros / 1000));
    out.push(b'.');
    push_padded(out, micros % 1000);
}

/// Three digits.
fn push_padded(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&[100, 10, 1].map(|place| b'0' + (n / place % 10) as u8));
}
