//! One line of the access log: JSON, or a template. Whatever a client sends, a line stays one line.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    time::{Duration, SystemTime},
};

use http::{HeaderName, Version};
use thiserror::Error;
use tokio::time::Instant;

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
const BLOCK: usize = 32;
const SECOND: Duration = Duration::from_secs(1);

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

impl From<String> for Fixed {
    fn from(text: String) -> Self {
        let (before, last) = text.as_bytes().split_at(text.len().saturating_sub(BLOCK));
        let mut block = [0; BLOCK];
        block[..last.len()].copy_from_slice(last);
        Self { before: before.into(), block, length: last.len() }
    }
}

/// Writes into room that is there. What finds none is not written, and told of by `full`.
#[derive(Debug)]
pub(super) struct Pen<'a> {
    room: &'a mut [u8],
    at: usize,
    full: bool,
}

impl<'a> Pen<'a> {
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, at: 0, full: false }
    }

    /// What was written, if there was room for all of it.
    pub(super) fn written(self) -> Option<&'a [u8]> {
        if self.full { None } else { self.room.get(..self.at) }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.room.get_mut(self.at..self.at + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.full = true,
        }
    }

    fn fixed(&mut self, fixed: &Fixed) {
        if !fixed.before.is_empty() {
            self.bytes(&fixed.before);
        }
        match self.room.get_mut(self.at..self.at + BLOCK) {
            Some(room) => {
                room.copy_from_slice(&fixed.block);
                self.at += fixed.length;
            }
            None => self.full = true,
        }
    }
}

impl Write for Pen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// The time of a line. The wall clock is read once in each second, and its text made then; what has passed since is added.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    read_at: Option<Instant>,
    /// How far into its second the wall clock was then.
    into: Duration,
    text: String,
    millis: u32,
}

impl Stamp {
    pub(super) fn set(&mut self, now: Instant) {
        let passed = |read_at| self.into + now.saturating_duration_since(read_at);
        let into = match self.read_at.map(passed) {
            Some(into) if into < SECOND => into,
            _ => {
                let wall = SystemTime::now();
                self.read_at = Some(now);
                self.into = Duration::from_nanos(
                    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos().into(),
                );
                self.text = humantime::format_rfc3339_seconds(wall).to_string();
                self.text.pop();
                self.into
            }
        };
        self.millis = into.subsec_millis();
    }

    fn write(&self, pen: &mut Pen<'_>) {
        pen.text(&self.text);
        pen.bytes(b".");
        padded(pen, self.millis);
        pen.bytes(b"Z");
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
    pub(super) fn write(&self, pen: &mut Pen<'_>, stamp: &Stamp, entry: &Entry<'_>) {
        if self.json {
            pen.bytes(b"{");
        }
        for part in &self.parts {
            let start = pen.at;
            pen.fixed(&part.before);
            match (self.json, self.value(pen, &part.field, stamp, entry)) {
                (true, Some(())) if part.is_number => pen.bytes(b","),
                (true, Some(())) => pen.bytes(b"\","),
                (true, None) => pen.at = start,
                (false, Some(())) => {}
                (false, None) => pen.bytes(b"-"),
            }
        }
        // The comma after the last.
        if self.json && pen.at > 1 {
            pen.at -= 1;
        }
        pen.text(&self.end);
    }

    /// Writes a value without its quotes; none where there is none.
    fn value(&self, pen: &mut Pen<'_>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) -> Option<()> {
        let Entry { asked, exchange, .. } = entry;
        match field {
            Field::Time => stamp.write(pen),
            Field::RequestId => pen.text(exchange.id.as_str()),
            Field::TraceId => pen.text(exchange.trace_id()?),
            Field::Client => pen.text(exchange.client.text()),
            Field::Listener => pen.text(&exchange.client.listener),
            Field::Protocol => pen.text(protocol(exchange.request.version)),
            Field::Method => pen.text(asked.method.as_str()),
            Field::Host => pen.text(exchange.request.authority.as_ref()?.as_str()),
            Field::Path => self.escaped(pen, asked.target.path()),
            Field::Query => self.escaped(pen, &self.redacted(asked.target.query()?)),
            Field::Status => padded(pen, entry.status.into()),
            Field::Route => pen.text(entry.route?),
            Field::Service => pen.text(entry.service?),
            Field::Endpoint => pen.text(entry.endpoint?),
            Field::ReceivedBytes => number(pen, entry.received),
            Field::SentBytes => number(pen, entry.sent),
            Field::AnsweredMs => millis(pen, entry.answered_after?),
            Field::DurationMs => millis(pen, entry.after),
            Field::Blame => pen.text(entry.fault?.blame),
            Field::Cause => pen.text(entry.fault?.cause),
            Field::Header(name) => match exchange.request.headers.get(name)? {
                _ if self.hides(name.as_str().as_bytes()) => pen.text(REDACTED),
                value => self.escaped(pen, &String::from_utf8_lossy(value.as_bytes())),
            },
        }
        Some(())
    }

    /// Text that came from outside, without its quotes.
    fn escaped(&self, pen: &mut Pen<'_>, text: &str) {
        if !is_special(text) {
            return pen.text(text);
        }
        if self.json {
            let quoted = serde_json::Value::from(text).to_string();
            return pen.text(&quoted[1..quoted.len() - 1]);
        }
        for c in text.chars() {
            // A pen tells itself what found no room.
            let _ = match c {
                '"' | '\\' => write!(pen, "\\{c}"),
                c if c.is_control() => write!(pen, "{}", c.escape_default()),
                c => pen.write_char(c),
            };
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

fn number(pen: &mut Pen<'_>, n: u64) {
    if n < 10 {
        return pen.bytes(&[b'0' + n as u8]);
    }
    pen.bytes(itoa::Buffer::new().format(n).as_bytes());
}

/// Milliseconds with three decimals.
fn millis(pen: &mut Pen<'_>, time: Duration) {
    let micros = time.subsec_micros();
    number(pen, time.as_secs() * 1000 + u64::from(micros / 1000));
    pen.bytes(b".");
    padded(pen, micros % 1000);
}

/// Three digits.
fn padded(pen: &mut Pen<'_>, n: u32) {
    pen.bytes(&[100, 10, 1].map(|place| b'0' + (n / place % 10) as u8));
}
