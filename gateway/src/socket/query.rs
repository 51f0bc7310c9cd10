//! Bytes of a query that browsers and curl send and hyper refuses, since `http` has no place for them in a URI: `"`, `<`, `>`,
//! `#` and bytes that are not UTF-8. Each is replaced before hyper sees it, and put back as its escape once the head is parsed.
//! Nothing is replaced where it is unknown whether the bytes belong to a request line.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::{Uri, uri::PathAndQuery};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's connection whose request lines are accepted as the URL standard has them.
#[derive(Debug)]
pub struct Lenient<S> {
    socket: S,
    queries: Arc<Queries>,
}

/// The requests of an HTTP/1.1 connection: shared by the socket, which reads them, and the service, which gets them parsed.
#[derive(Debug, Default)]
pub struct Queries(Mutex<Reading>);

#[derive(Debug, Default)]
struct Reading {
    place: Place,
    /// Bytes of the query so far.
    length: usize,
    /// The index in the query of each byte that was replaced, and that byte.
    replaced: Vec<(usize, u8)>,
    /// Line feeds since the last other byte of a head whose end is looked for.
    line_feeds: Option<u8>,
    /// Bytes behind the head in the read that had its end, if that was looked for.
    beyond: Option<u64>,
    /// Bytes of a body that are still to come.
    body: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The next byte begins a request.
    #[default]
    Start,
    /// Before the query.
    Line,
    Query,
    /// Behind the query, or unknown.
    Past,
}

/// Stands for a byte that was replaced: hyper accepts it, and the length of the head stays.
const STAND_IN: u8 = b'!';
/// Letters of the longest method that is looked for.
const MAX_METHOD: usize = 20;

impl<S> Lenient<S> {
    pub fn new(socket: S, queries: Arc<Queries>) -> Self {
        Self { socket, queries }
    }
}

impl Queries {
    /// A request's head has been parsed, by the task that reads and before it reads again. `body` is the length of the body,
    /// if that is known. The URI gets what was replaced in it.
    pub fn began(&self, uri: &mut Uri, body: Option<u64>) {
        let mut reading = self.reading();
        if !reading.replaced.is_empty() {
            reading.restore(uri);
        }
        reading.began(body);
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// Replaces bytes in what one read has put into hyper's buffer.
    fn read(&mut self, bytes: &mut [u8]) {
        let of_body = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
        self.body -= of_body as u64;
        let bytes = &mut bytes[of_body..];
        if bytes.is_empty() || self.place == Place::Past && self.line_feeds.is_none() {
            return;
        }
        if self.place == Place::Start {
            if !begins_request(bytes) {
                self.place = Place::Past;
                return;
            }
            self.place = Place::Line;
            // The end of a head counts where a body follows: that of GET and HEAD is not looked for.
            self.line_feeds = (!matches!(bytes[0], b'G' | b'H')).then_some(0);
        }
        self.find_end(bytes);
        self.replace(bytes);
    }

    fn find_end(&mut self, bytes: &[u8]) {
        let Some(line_feeds) = &mut self.line_feeds else { return };
        for (index, byte) in bytes.iter().enumerate() {
            *line_feeds = match byte {
                b'\n' => *line_feeds + 1,
                b'\r' => *line_feeds,
                _ => 0,
            };
            if *line_feeds == 2 {
                self.beyond = Some((bytes.len() - index - 1) as u64);
                self.line_feeds = None;
                return;
            }
        }
    }

    fn replace(&mut self, bytes: &mut [u8]) {
        let query = match self.place {
            Place::Past => return,
            Place::Query => bytes,
            Place::Start | Place::Line => {
                let Some(at) = bytes.iter().position(|byte| matches!(byte, b'?' | b'\n')) else { return };
                self.place = if bytes[at] == b'?' { Place::Query } else { Place::Past };
                &mut bytes[at + 1..]
            }
        };
        if self.place == Place::Past {
            return;
        }
        let end = query.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
        let here = end.unwrap_or(query.len());
        for (index, byte) in query[..here].iter_mut().enumerate() {
            if matches!(byte, b'"' | b'<' | b'>' | b'#' | 0x80..) {
                self.replaced.push((self.length + index, mem::replace(byte, STAND_IN)));
            }
        }
        self.length += here;
        if end.is_some() {
            self.place = Place::Past;
        }
    }

    fn began(&mut self, body: Option<u64>) {
        let (left, is_known) = match (body, self.beyond) {
            (Some(0), _) => (0, true),
            (Some(length), Some(beyond)) if beyond <= length => (length - beyond, true),
            _ => (0, false),
        };
        self.place = if is_known { Place::Start } else { Place::Past };
        self.body = left;
        self.length = 0;
        self.line_feeds = None;
        self.beyond = None;
    }

    /// Puts escapes in the place of bytes that were replaced. Nothing changes if the URI is not the one that was read.
    fn restore(&mut self, uri: &mut Uri) {
        let replaced = mem::take(&mut self.replaced);
        let restored = uri.path_and_query().and_then(|target| {
            let query = target.query().filter(|query| query.len() == self.length)?;
            let mut text = format!("{}?", target.path());
            let mut copied = 0;
            for (index, byte) in replaced {
                if query.as_bytes()[index] != STAND_IN {
                    return None;
                }
                text.push_str(&query[copied..index]);
                text.push_str(&format!("%{byte:02X}"));
                copied = index + 1;
            }
            text.push_str(&query[copied..]);
            PathAndQuery::try_from(text).ok()
        });
        let Some(restored) = restored else { return };
        let mut parts = mem::take(uri).into_parts();
        parts.path_and_query = Some(restored);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// Says whether bytes begin with a method and a target, as the first bytes of a request do.
fn begins_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(MAX_METHOD).position(|byte| !byte.is_ascii_uppercase()).unwrap_or(0);
    method > 0 && matches!(bytes[method..], [b' ', b'/' | b'h' | b'*', ..])
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = polled {
            self.queries.reading().read(&mut buffer.filled_mut()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: &mut Reading, text: &[u8], piece: usize) -> Vec<u8> {
        let mut bytes = text.to_vec();
        bytes.chunks_mut(piece).for_each(|piece| reading.read(piece));
        bytes
    }

    fn restored(target: &[u8], piece: usize) -> String {
        let head = [&b"GET "[..], target, b" HTTP/1.1\r\nhost: a?\"b\"\r\n\r\n"].concat();
        let mut reading = Reading::default();
        let seen = read(&mut reading, &head, piece);
        assert_eq!(seen[4 + target.len()..], head[4 + target.len()..], "the rest stays");
        let mut uri = Uri::try_from(&seen[4..4 + target.len()]).expect("hyper accepts it");
        reading.restore(&mut uri);
        uri.to_string()
    }

    #[test]
    fn bytes_that_hyper_refuses_become_escapes() {
        for piece in [6, 7, 24, 1000] {
            for (target, expected) in [
                (&b"/a?q={\"a\":1}"[..], "/a?q={%22a%22:1}"),
                (b"/?<a>#b", "/?%3Ca%3E%23b"),
                (b"/?\xe9=\xc3\xa9", "/?%E9=%C3%A9"),
                (b"/?!=\"", "/?!=%22"),
                (b"/?[x]={y}|\\^`", "/?[x]={y}|\\^`"),
                (b"http://a/b?\"", "http://a/b?%22"),
                (b"/a", "/a"),
                (b"/?", "/?"),
            ] {
                assert_eq!(restored(target, piece), expected, "{piece}");
            }
        }
    }

    #[test]
    fn bodies_and_what_may_be_one_stay() {
        let get = &b"GET /?\" HTTP/1.1\r\n\r\n"[..];
        for (method, body, left, is_known) in [
            ("POST", Some(get.len() as u64), get, true),
            ("POST", None, get, false),
            ("GET", Some(get.len() as u64), get, false),
            ("POST", Some(0), &b""[..], true),
        ] {
            for piece in [6, 24, 1000] {
                let mut reading = Reading::default();
                let head = format!("{method} / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\r\n");
                read(&mut reading, head.as_bytes(), piece);
                reading.began(body);
                assert_eq!(read(&mut reading, left, piece), left, "a body of {method}, {piece}");
                let next = read(&mut reading, get, 1000);
                assert_eq!(next != get, is_known, "the request behind it, {method} {body:?} {piece}");
            }
        }
        let mut reading = Reading::default();
        let whole = [&b"PUT / HTTP/1.1\r\n\r\n"[..], get].concat();
        assert_eq!(read(&mut reading, &whole, 1000), whole);
        reading.began(Some(get.len() as u64));
        assert_ne!(read(&mut reading, get, 1000), get, "the body came with its head");
    }

    #[test]
    fn what_is_no_request_line_stays() {
        let texts = ["x: GET /?\"\r\n", "get /?\"", "GET  /?\"", "GET/?\"", "{\"?\": \"<\"}", "?\""];
        for text in texts.into_iter().chain(["PRI * HTTP/2.0\r\n\r\nSM?\"\r\n"]) {
            assert_eq!(read(&mut Reading::default(), text.as_bytes(), 100), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn another_uri_stays() {
        let mut reading = Reading::default();
        read(&mut reading, b"GET /?\"a HTTP/1.1\r\n", 100);
        let mut uri = Uri::from_static("/?b");
        reading.restore(&mut uri);
        assert_eq!(uri, "/?b");
    }
}
