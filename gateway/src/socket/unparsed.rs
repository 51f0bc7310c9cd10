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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;

    /// Returns the error of hyper's client for a server that sends these bytes and closes.
    async fn error_for(bytes: &str) -> hyper::Error {
        let (stream, mut server) = duplex(1 << 10);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a client");
        let serving = async move {
            server.read_u8().await.expect("a request");
            server.write_all(bytes.as_bytes()).await.expect("the client reads");
        };
        let exchange = async {
            let request = Request::new(Empty::<Bytes>::new());
            let (answer, _, ()) = tokio::join!(sender.send_request(request), connection, serving);
            answer
        };
        let answer = timeout(Duration::from_secs(120), exchange).await.expect("the exchange ends");
        answer.expect_err("no response")
    }

    #[tokio::test]
    async fn a_parse_error_without_a_reason_of_its_own_has_the_reason_other() {
        // hyper finds an invalid status in responses only: no error of a request has these words.
        for (bytes, reason) in
            [("HTTP/1.1 2x0 OK\r\n\r\n", Some("other")), ("HTTP/3.1 200 OK\r\n\r\n", Some("version")), ("", None)]
        {
            let expected = reason.map(|reason| Unparsed { status: StatusCode::BAD_REQUEST, reason });
            assert_eq!(Unparsed::of(&error_for(bytes).await), expected, "{bytes:?}");
        }
    }
}
