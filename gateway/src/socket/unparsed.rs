//! Requests that hyper answers itself, since it cannot parse them: what is wrong, in the words of metrics.

use http::StatusCode;

/// A request without an exchange.
#[derive(Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// The status that hyper has answered with, if it could still answer.
    pub status: StatusCode,
    /// A label of metrics and logs: one of few.
    pub reason: &'static str,
}

/// hyper's own words, as far as they differ in what they mean for a client. A test asks for each of them over a socket.
const REASONS: [(&str, StatusCode, &str); 9] = [
    ("invalid HTTP method", StatusCode::BAD_REQUEST, "method"),
    ("invalid HTTP version", StatusCode::BAD_REQUEST, "version"),
    ("invalid URI", StatusCode::BAD_REQUEST, "target"),
    ("URI too long", StatusCode::URI_TOO_LONG, "target-too-long"),
    ("invalid HTTP header", StatusCode::BAD_REQUEST, "header"),
    ("invalid content-length", StatusCode::BAD_REQUEST, "content-length"),
    ("invalid transfer-encoding", StatusCode::BAD_REQUEST, "transfer-encoding"),
    ("unexpected transfer-encoding", StatusCode::BAD_REQUEST, "transfer-encoding"),
    ("message head is too large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-large"),
];

impl Unparsed {
    /// `None` if the connection ended for another reason.
    pub fn of(error: &hyper::Error) -> Option<Self> {
        if !error.is_parse() {
            return None;
        }
        let text = error.to_string();
        let known = REASONS.iter().find(|(start, ..)| text.starts_with(start));
        let (status, reason) =
            known.map_or((StatusCode::BAD_REQUEST, "other"), |(_, status, reason)| (*status, *reason));
        Some(Self { status, reason })
    }
}
