//! One line of the access log: JSON, or a template. Whatever a client sends, a line stays one line.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use http::{HeaderName, Version};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    Entry,
    pen::{Fixed, Pen},
    redact::{REDACTED, Redact},
};

/// What can be told of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    RequestId,
    TraceId,
    Client,
    Peer,
    PeerPort,
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
const FIELDS: [(&str, Field); 22] = [
    ("time", Field::Time),
    ("request_id", Field::RequestId),
    ("trace_id", Field::TraceId),
    ("client", Field::Client),
    ("peer", Field::Peer),
    ("peer_port", Field::PeerPort),
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
        matches!(
            self,
            Self::PeerPort | Self::Status | Self::ReceivedBytes | Self::SentBytes | Self::AnsweredMs | Self::DurationMs
        )
    }

    /// Whether every exchange has it.
    fn is_always(&self) -> bool {
        match self {
            Self::Time | Self::RequestId | Self::Client | Self::Peer | Self::PeerPort | Self::Listener => true,
            Self::Protocol | Self::Method => true,
            Self::Path | Self::Status | Self::ReceivedBytes | Self::SentBytes | Self::DurationMs => true,
            Self::TraceId | Self::Host | Self::Query | Self::Route | Self::Service | Self::Endpoint => false,
            Self::AnsweredMs | Self::Blame | Self::Cause | Self::Header(_) => false,
        }
    }
}

/// A line, taken apart: each field with the text before it, and the text after the last.
#[derive(Debug)]
pub(super) struct Line {
    parts: Vec<Part>,
    end: String,
    json: bool,
    redact: Redact,
}

#[derive(Debug)]
struct Part {
    /// With the end of the field before, if every exchange has that.
    before: Fixed,
    /// Bytes of that end, which stays where there is no value.
    keeps: usize,
    field: Field,
    /// The end of this field, if not every exchange has it.
    after: &'static str,
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
        pen.three_digits(self.millis);
        pen.bytes(b"Z");
    }
}

impl Line {
    pub(super) fn parse(format: &str, fields: &[String], redact: &[String]) -> Result<Self, Vec<LineError>> {
        let redact = Redact::new(redact);
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
                Some(field) => parts.push(Part { before: before.to_owned().into(), keeps: 0, field, after: "" }),
                None => errors.push(LineError::Unknown { name: name.to_owned(), place: None }),
            }
            rest = after;
        }
        let line = Self { parts, end: format!("{rest}\n"), json: false, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    fn json(fields: &[String], redact: Redact) -> Result<Self, Vec<LineError>> {
        let all: Vec<String> = LineError::known().map(str::to_owned).collect();
        let fields = if fields.is_empty() { &all } else { fields };
        let (mut parts, mut errors) = (Vec::with_capacity(fields.len()), Vec::new());
        let mut open = "{";
        for (place, name) in fields.iter().enumerate() {
            let Some(field) = field(name) else {
                errors.push(LineError::Unknown { name: name.clone(), place: Some(place) });
                continue;
            };
            let (quote, end) = if field.is_number() { ("", ",") } else { ("\"", "\",") };
            let before = format!("{open}{}:{quote}", serde_json::Value::from(name.as_str())).into();
            let (after, then) = if field.is_always() { ("", end) } else { (end, "") };
            parts.push(Part { before, keeps: open.len(), field, after });
            open = then;
        }
        let line = Self { parts, end: format!("{}}}\n", open.trim_end_matches(',')), json: true, redact };
        if errors.is_empty() { Ok(line) } else { Err(errors) }
    }

    /// What an exchange does not have is left out of JSON, and `-` in a template.
    pub(super) fn write(&self, pen: &mut Pen<'_>, stamp: &Stamp, entry: &Entry<'_>) {
        for part in &self.parts {
            let start = pen.at();
            pen.fixed(&part.before);
            match self.value(pen, &part.field, stamp, entry) {
                Some(()) if part.after.is_empty() => {}
                Some(()) => pen.bytes(part.after.as_bytes()),
                None if self.json => pen.back_to(start + part.keeps),
                None => pen.bytes(b"-"),
            }
        }
        // The comma after the last field, unless that is one that every exchange has.
        if self.json && self.parts.last().is_some_and(|part| !part.field.is_always()) {
            pen.back_over(b',');
        }
        pen.bytes(self.end.as_bytes());
    }

    /// Writes a value without its quotes; none where there is none.
    fn value(&self, pen: &mut Pen<'_>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) -> Option<()> {
        let Entry { asked, exchange, .. } = entry;
        let text = match field {
            Field::RequestId => exchange.id.as_bytes(),
            Field::TraceId => exchange.trace_id()?.as_bytes(),
            Field::Client if exchange.forwarded_for.is_none() => exchange.client.peer_text(),
            Field::Peer => exchange.client.peer_text(),
            Field::Listener => exchange.client.listener.as_bytes(),
            Field::Protocol => protocol(exchange.request.version).as_bytes(),
            Field::Method => asked.method.as_str().as_bytes(),
            Field::Host => exchange.request.authority.as_ref()?.as_str().as_bytes(),
            Field::Route => entry.route?.as_bytes(),
            Field::Service => entry.service?.as_bytes(),
            Field::Endpoint => entry.endpoint?.as_bytes(),
            Field::Blame => entry.fault?.blame.as_bytes(),
            Field::Cause => entry.fault?.cause.as_bytes(),
            other => return self.other(pen, other, stamp, entry),
        };
        pen.bytes(text);
        Some(())
    }

    /// Writes what is not text that can be copied as it is.
    fn other(&self, pen: &mut Pen<'_>, field: &Field, stamp: &Stamp, entry: &Entry<'_>) -> Option<()> {
        let Entry { asked, exchange, .. } = entry;
        match field {
            Field::Time => stamp.write(pen),
            Field::Client => drop(write!(pen, "{}", exchange.client_address())),
            Field::PeerPort => pen.number(exchange.client.address.port().into()),
            Field::Path => self.escaped(pen, asked.target.path()),
            Field::Query => self.escaped(pen, &self.redact.query(asked.target.query()?)),
            Field::Status => pen.three_digits(entry.status.into()),
            Field::ReceivedBytes => pen.number(entry.received),
            Field::SentBytes => pen.number(entry.sent),
            Field::AnsweredMs => pen.millis(entry.answered_after?),
            Field::DurationMs => pen.millis(entry.after),
            Field::Header(name) => {
                let value = exchange.request.headers.get(name)?;
                let hidden = self.redact.hides(name.as_str().as_bytes());
                let shown = if hidden { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
                self.escaped(pen, &shown);
            }
            // Those are texts.
            _ => return None,
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

/// A quote would end a quoted field, a line break the line.
fn is_special(text: &str) -> bool {
    const SPECIAL: [bool; 256] = {
        let mut special = [false; 256];
        let mut byte = 0;
        while byte < special.len() {
            special[byte] = byte < b' ' as usize || byte == b'"' as usize || byte == b'\\' as usize || byte >= 0x7f;
            byte += 1;
        }
        special
    };
    text.bytes().any(|byte| SPECIAL[usize::from(byte)])
}
