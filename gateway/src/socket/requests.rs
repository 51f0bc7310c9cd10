//! The requests of an HTTP/1.1 connection in the bytes that hyper reads: where each of them begins, and where its body ends. It
//! finds bare LFs in trailer sections (RFC 9112 §7.1.2), which hyper accepts, and has bytes of queries replaced (`query.rs`), which
//! hyper refuses. It keeps no body, and of a head only the parts that hyper has not parsed.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::Uri;
use memchr::{memchr, memchr3};

use super::{
    chunks::{Chunks, Progress},
    query::Queries,
};

/// Shared by the socket, which sees the bytes, and the service, which learns how hyper has parsed them.
#[derive(Debug, Default)]
pub struct Requests(Mutex<State>);

/// Framing of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Content-Length; 0 without a body.
    Length(u64),
    Chunked,
}

/// Verdict on a request whose head hyper has parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong so far; the socket follows the rest of the request.
    Sound,
    /// A line of the trailer section ends with a bare LF.
    BareLf,
    /// The request target is too long once its query is escaped.
    TooLong,
    /// hyper has found another request than the follower, so the end of this one is unknown: the connection must end with it.
    Unknown,
}

impl Verdict {
    /// Why the request is refused, if it is.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Sound | Self::Unknown => None,
            Self::BareLf => Some("a line of the trailer section ends with a bare LF"),
            Self::TooLong => Some("the request target is too long once its query is escaped"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    place: Place,
    /// The head that is being read.
    head: Head,
    /// Whole heads that hyper has not parsed, the oldest first: a read may have several.
    heads: VecDeque<Head>,
    queries: Queries,
    /// The request line of the oldest head that hyper has not parsed, up to `MAX_LINE` bytes; empty if hyper had an older one
    /// when that began.
    line: Vec<u8>,
    /// The head that is being read is the oldest one.
    keeps_line: bool,
    /// The beginning of a field that goes on in the next read, up to `MAX_FIELD` bytes.
    partial: Vec<u8>,
    /// A read has failed for a bare LF.
    is_broken: bool,
}

/// Position in the bytes of a connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a request line, or in the blank lines that may precede it (RFC 9112 §2.2).
    #[default]
    Start,
    RequestLine,
    Fields,
    /// Behind a whole head with which a read ended: hyper has to say which body follows.
    HeadEnd,
    /// Bytes of a body that are still to come.
    Body(u64),
    Chunks(Chunks),
    /// Nothing is followed any more.
    Lost,
}

/// A request's head, as far as it matters here.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    /// A line of its trailer section ends with a bare LF.
    is_broken: bool,
    stand_ins: usize,
}

/// Bytes of a request line that are kept for the log.
const MAX_LINE: usize = 8 << 10;
/// Bytes of a field that are kept until its line ends. A longer field can be no length.
const MAX_FIELD: usize = 256;
/// Larger buffers are given back once hyper has parsed what they are about.
const KEPT: usize = 512;

impl Requests {
    /// Sees what one read has put into hyper's buffer, and replaces bytes of queries in it.
    ///
    /// # Errors
    ///
    /// A line of a trailer section ends with a bare LF.
    pub(super) fn read(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.state().read(bytes)
    }

    /// hyper has parsed the next head, on the task that reads and before it reads again. Restores the query of the URI.
    pub fn began(&self, framing: Framing, uri: &mut Uri) -> Verdict {
        self.state().began(framing, uri)
    }

    /// Says whether a read has failed for a bare LF.
    pub fn is_broken(&self) -> bool {
        self.state().is_broken
    }

    /// The request line of a head that hyper could not parse; `None` if the head came in one read with an older one.
    pub fn unparsed_line(&self) -> Option<String> {
        let state = self.state();
        let line = str::from_utf8(state.line.trim_ascii_end()).ok()?;
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Nothing of the connection is HTTP/1.1 from now on.
    pub fn stop(&self) {
        *self.state() = State { place: Place::Lost, ..State::default() };
    }

    /// What comes from now on is of no request. The line of a head that hyper could not parse is kept.
    pub(super) fn shut_down(&self) {
        self.state().place = Place::Lost;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = match &mut self.place {
                Place::Lost => return Ok(()),
                Place::Start if self.heads.is_empty() && is_one_head(bytes) => {
                    self.one_head(bytes);
                    return Ok(());
                }
                Place::Start => self.start(bytes),
                // hyper reads no more before it has parsed the head.
                Place::HeadEnd => {
                    self.place = Place::Lost;
                    return Ok(());
                }
                Place::RequestLine => self.request_line(bytes),
                Place::Fields => self.fields(bytes),
                Place::Body(left) => {
                    // At most the length of `bytes`.
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.place = Place::Start;
                    }
                    here
                }
                Place::Chunks(chunks) => match chunks.advance(bytes) {
                    Progress::Inside => return Ok(()),
                    Progress::Ended(end) => {
                        self.place = Place::Start;
                        end
                    }
                    Progress::BareLf => return self.bare_lf(),
                },
            };
            bytes = &mut mem::take(&mut bytes)[passed..];
        }
        Ok(())
    }

    /// Takes a whole head that is all that was read, which is the usual case. Its fields need no look.
    fn one_head(&mut self, bytes: &mut [u8]) {
        // Most requests have no query.
        let Some(found) = memchr3(b'?', b'#', b'\n', bytes) else { return };
        let length = match bytes[found] {
            b'\n' => found,
            _ => found + memchr(b'\n', &bytes[found..]).unwrap_or(0),
        };
        let line = &mut bytes[..length];
        if found < length {
            self.queries.begin(true);
            self.queries.replace(line);
            self.head.stand_ins = self.queries.end();
        }
        keep(&mut self.line, line, MAX_LINE);
        self.place = Place::HeadEnd;
    }

    fn start(&mut self, bytes: &[u8]) -> usize {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if let Some(first) = bytes.get(blank) {
            self.place = Place::RequestLine;
            self.keeps_line = self.heads.is_empty();
            self.queries.begin(first.is_ascii_alphabetic());
        }
        blank
    }

    fn request_line(&mut self, bytes: &mut [u8]) -> usize {
        let end = memchr(b'\n', bytes);
        let length = end.unwrap_or(bytes.len());
        let piece = &mut bytes[..length];
        self.queries.replace(piece);
        if self.keeps_line {
            keep(&mut self.line, piece, MAX_LINE);
        }
        if end.is_none() {
            return length;
        }
        self.head.stand_ins = self.queries.end();
        self.place = Place::Fields;
        length + 1
    }

    fn fields(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &bytes[at..]) {
            let line = &bytes[at..at + length];
            at += length + 1;
            let is_blank = if self.partial.is_empty() {
                self.field(line)
            } else {
                let mut whole = mem::take(&mut self.partial);
                keep(&mut whole, line, MAX_FIELD);
                self.field(&whole)
            };
            if is_blank {
                self.end_head();
                return at;
            }
            if self.place == Place::Lost {
                break;
            }
        }
        if self.place == Place::Fields {
            keep(&mut self.partial, &bytes[at..], MAX_FIELD);
        }
        bytes.len()
    }

    /// Takes the line of a field without its LF; returns true for the blank line, which ends the head. hyper accepts a bare LF in
    /// a head (RFC 9112 §2.2), no space before a colon and no line that continues another.
    fn field(&mut self, line: &[u8]) -> bool {
        match line {
            [] | [b'\r'] => return true,
            [b't' | b'T', ..] if value(line, b"transfer-encoding").is_some() => self.head.is_chunked = true,
            [b'c' | b'C', ..] => match value(line, b"content-length").map(number) {
                None => {}
                // hyper accepts no second length that differs.
                Some(Some(length)) if line.len() < MAX_FIELD => self.head.length = Some(length),
                // hyper refuses all but the very long ones.
                Some(_) => self.place = Place::Lost,
            },
            _ => {}
        }
        false
    }

    fn end_head(&mut self) {
        let head = mem::take(&mut self.head);
        self.place = Place::behind(head.framing());
        self.heads.push_back(head);
    }

    /// A trailer section is not valid. Its request is refused once hyper has parsed the head; behind that, the read fails.
    fn bare_lf(&mut self) -> io::Result<()> {
        self.place = Place::Lost;
        if let Some(head) = self.heads.back_mut() {
            head.is_broken = true;
            return Ok(());
        }
        self.is_broken = true;
        Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the trailer section ends with a bare LF"))
    }

    fn began(&mut self, framing: Framing, uri: &mut Uri) -> Verdict {
        self.line.clear();
        if self.line.capacity() > KEPT {
            self.line = Vec::new();
        }
        let is_one = self.place == Place::HeadEnd;
        let head = if is_one { Some(mem::take(&mut self.head)) } else { self.heads.pop_front() };
        let Some(head) = head else {
            self.place = Place::Lost;
            return Verdict::Unknown;
        };
        if is_one {
            self.place = Place::behind(framing);
        } else if self.heads.is_empty() && self.heads.capacity() > KEPT / size_of::<Head>() {
            self.heads = VecDeque::new();
        }
        if head.stand_ins > 0 && !self.queries.restore(head.stand_ins, uri) {
            return Verdict::TooLong;
        }
        if !is_one && head.framing() != framing {
            self.place = Place::Lost;
            return Verdict::Unknown;
        }
        if head.is_broken { Verdict::BareLf } else { Verdict::Sound }
    }
}

impl Place {
    /// The place behind a head.
    fn behind(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Start,
            Framing::Length(length) => Self::Body(length),
            Framing::Chunked => Self::Chunks(Chunks::START),
        }
    }
}

impl Head {
    /// The framing of a request that hyper accepts: it refuses one whose last transfer coding is not `chunked`, and a coding
    /// counts before a length.
    fn framing(&self) -> Framing {
        if self.is_chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) }
    }
}

/// Says whether bytes at the beginning of a request are one whole head and no more.
fn is_one_head(bytes: &[u8]) -> bool {
    let blank = match bytes {
        [first, ..] if !first.is_ascii_alphabetic() => return false,
        [.., b'\n', b'\r', b'\n'] => 2,
        [.., b'\n', b'\n'] => 1,
        _ => return false,
    };
    !has_blank_line(&bytes[..bytes.len() - blank])
}

/// Says whether a blank line may end a head before its end: whether an LF has a CR or another LF behind it, or a control that
/// no line begins with. Each request is searched, so it goes by blocks whose bytes the compiler compares at once.
fn has_blank_line(head: &[u8]) -> bool {
    const BLOCK: usize = 32;
    // 0 for an LF and a byte from 8 to 15 behind it.
    let difference = |byte: u8, next: u8| (byte ^ b'\n') | ((next | 7) ^ 15);
    let Some((_, next)) = head.split_first() else { return false };
    let bytes = &head[..next.len()];
    let (Some(last), Some(last_next)) = (bytes.last_chunk::<BLOCK>(), next.last_chunk::<BLOCK>()) else {
        return bytes.iter().zip(next).any(|(byte, next)| difference(*byte, *next) == 0);
    };
    let mut least = [u8::MAX; BLOCK];
    let mut search = |bytes: &[u8; BLOCK], next: &[u8; BLOCK]| {
        for (least, (byte, next)) in least.iter_mut().zip(bytes.iter().zip(next)) {
            *least = (*least).min(difference(*byte, *next));
        }
    };
    bytes.as_chunks().0.iter().zip(next.as_chunks().0).for_each(|(bytes, next)| search(bytes, next));
    search(last, last_next);
    least.iter().fold(u8::MAX, |least, byte| least.min(*byte)) == 0
}

/// The value of a field, if the line has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// Adds bytes to a buffer of at most `most` bytes.
fn keep(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(buffer.len());
    buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET /?\" HTTP/1.1\r\nhost: a\r\n\r\n";
    const CHUNKED: &str = "POST /?\" HTTP/1.1\r\nHost: a?\"\r\nTransfer-Encoding: chunked \r\nx: /?\"\r\n\r\n";

    /// Feeds text in pieces; returns what hyper sees.
    fn read(requests: &Requests, text: &str, piece: usize) -> io::Result<String> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.chunks_mut(piece).try_for_each(|piece| requests.read(piece))?;
        Ok(String::from_utf8(bytes).expect("text"))
    }

    /// hyper parses a head whose target was `/?"`.
    fn assert_began(requests: &Requests, framing: Framing, expected: Verdict) {
        let mut uri = Uri::from_static("/?!");
        assert_eq!((requests.began(framing, &mut uri), uri.to_string().as_str()), (expected, "/?%22"));
    }

    /// Requests whose bodies look like requests.
    fn messages() -> Vec<(String, Framing)> {
        let body = GET.repeat(2);
        let length = body.len() as u64;
        let sized = |method: &str, name: &str| format!("{method} /?\" HTTP/1.1\r\n{name}: \t0{length} \r\n\r\n{body}");
        let chunks = format!("{:x};x=\"\r\n{body}\r\n0\r\nx: /?\"\r\n\r\n", body.len());
        vec![
            (GET.to_owned(), Framing::Length(0)),
            (format!("\r\n\n{GET}"), Framing::Length(0)),
            (GET.replace("\r\n", "\n"), Framing::Length(0)),
            (GET.replace("host", "content-length: 0\r\nhost"), Framing::Length(0)),
            (sized("POST", "Content-Length"), Framing::Length(length)),
            (sized("GET", "content-length"), Framing::Length(length)),
            (sized("HEAD", "CONTENT-LENGTH"), Framing::Length(length)),
            (format!("{CHUNKED}{chunks}"), Framing::Chunked),
            (CHUNKED.replace("Host", "content-length: 9\r\nhost") + "0\r\n\r\n", Framing::Chunked),
        ]
    }

    /// Bytes of a message up to the end of its head.
    fn head_length(message: &str) -> usize {
        let start = message.len() - message.trim_start().len();
        let end = |blank: &str| message[start..].find(blank).map(|at| start + at + blank.len());
        end("\r\n\r\n").or(end("\n\n")).expect("a head")
    }

    #[test]
    fn requests_are_followed_whatever_is_between_them_and_however_they_arrive() {
        let mut all = messages();
        all.extend(messages().into_iter().rev());
        let text: String = all.iter().map(|(message, _)| message.as_str()).collect();
        let expected: String = all.iter().map(|(message, _)| message.replacen('"', "!", 1)).collect();
        for piece in (1..200).chain([text.len()]) {
            let requests = Requests::default();
            let (mut seen, mut parsed, mut message_start) = (String::new(), 0, 0);
            for bytes in text.as_bytes().chunks(piece) {
                let bytes = str::from_utf8(bytes).expect("text");
                seen += &read(&requests, bytes, piece).expect("nothing is wrong");
                // hyper reads again once it has parsed all heads that it has.
                while let Some((message, framing)) = all.get(parsed)
                    && message_start + head_length(message) <= seen.len()
                {
                    assert_began(&requests, *framing, Verdict::Sound);
                    message_start += message.len();
                    parsed += 1;
                }
            }
            assert_eq!((seen == expected, parsed), (true, all.len()), "{piece}: {seen:?}");
        }
    }

    #[test]
    fn a_head_that_comes_alone_has_the_body_that_hyper_reads() {
        for (message, framing) in messages() {
            let expected = message.replacen('"', "!", 1);
            let end = head_length(&message);
            let requests = Requests::default();
            assert_eq!(read(&requests, &message[..end], end).expect("a head"), expected[..end]);
            assert_began(&requests, framing, Verdict::Sound);
            assert_eq!(read(&requests, &message[end..], 1000).expect("a body"), expected[end..]);
            assert_ne!(read(&requests, GET, 1000).expect("another request"), GET, "{message:?}");
            assert_began(&requests, Framing::Length(0), Verdict::Sound);
        }
        // hyper would have parsed the head before it reads again.
        let requests = Requests::default();
        read(&requests, &format!("{GET}{GET}"), GET.len()).expect("two heads");
        assert_eq!(requests.began(Framing::Length(0), &mut Uri::from_static("/?!")), Verdict::Unknown);
    }

    /// A client that does not wait for the answer to its upgrade may send frames, none of which begins with a letter.
    #[test]
    fn bytes_that_begin_with_no_method_stay() {
        for bytes in [&b"\x81\x05?\"\n\n"[..], b"\x02\x7e?<>", b"?\" HTTP/1.1\r\n\r\n", b"\x16\x03\x01?#"] {
            for piece in [1, 3, 100] {
                let (requests, mut seen) = (Requests::default(), bytes.to_vec());
                seen.chunks_mut(piece).for_each(|piece| requests.read(piece).expect("nothing is followed"));
                assert_eq!(seen, bytes);
            }
        }
    }

    #[test]
    fn a_read_is_one_head_only_if_its_one_blank_line_is_its_end() {
        let long = format!("GET / HTTP/1.1\r\n{}host: a\r\n\r\n", "x: y\r\n".repeat(20));
        for (text, expected) in [
            (GET, true),
            (&*GET.replace("\r\n", "\n"), true),
            ("G\n\n", true),
            (&*long, true),
            ("", false),
            ("\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n", false),
            (&*format!("\r\n{GET}"), false),
            (&*format!("{GET}\n"), false),
            (&*format!("{GET}\r\n"), false),
            (&*format!("{GET}{GET}"), false),
            (&*format!("{GET}a"), false),
            ("GET / HTTP/1.1\nhost: a\n\n\r\n", false),
            ("GET / HTTP/1.1\nhost: a\n\n\n", false),
        ] {
            assert_eq!(is_one_head(text.as_bytes()), expected, "{text:?}");
        }
        // Wherever a second blank line is.
        for end in 10..long.len() - 4 {
            for blank in ["\n\n", "\n\r\n"] {
                let mut text = long.clone();
                text.replace_range(end..end + 2, blank);
                assert!(!is_one_head(text.as_bytes()), "{text:?}");
            }
        }
    }

    #[test]
    fn a_bare_line_feed_is_found_before_hyper_parses_the_head_and_behind_that() {
        for end in ["0\r\n\n", "1\r\na\r\n0\r\nx: y\n\r\n"] {
            for before in [&[][..], &messages()[..]] {
                let requests = Requests::default();
                let ahead: String = before.iter().map(|(message, _)| message.as_str()).collect();
                read(&requests, &format!("{ahead}{CHUNKED}{end}{GET}"), 4000).expect("hyper has not parsed it");
                before.iter().for_each(|(_, framing)| assert_began(&requests, *framing, Verdict::Sound));
                assert_began(&requests, Framing::Chunked, Verdict::BareLf);
                assert!(!requests.is_broken());
            }
            let requests = Requests::default();
            read(&requests, CHUNKED, 7).expect("a head");
            assert_began(&requests, Framing::Chunked, Verdict::Sound);
            assert!(read(&requests, &format!("5\r\nab\ncd\r\n{end}"), 7).is_err() && requests.is_broken());
        }
    }

    #[test]
    fn where_hyper_sees_another_request_the_connection_ends() {
        for (text, framing) in [
            (GET.to_owned(), Framing::Length(1)),
            (GET.to_owned(), Framing::Chunked),
            (CHUNKED.to_owned(), Framing::Length(0)),
            (GET.replace("host", "content-length: x\r\nhost"), Framing::Length(0)),
            (GET.replace("host", &format!("content-length: {}\r\nhost", "0".repeat(300))), Framing::Length(0)),
            ("GET /?\" HTTP/1.1\r\nhost: a\r\n".to_owned(), Framing::Length(0)),
        ] {
            let requests = Requests::default();
            read(&requests, &text, 11).expect("nothing is known yet");
            assert_eq!(requests.began(framing, &mut Uri::from_static("/?!")), Verdict::Unknown, "{text:?}");
            assert_eq!(read(&requests, GET, 11).expect("nothing is followed"), GET);
        }
    }

    #[test]
    fn a_query_that_cannot_be_restored_is_refused() {
        let requests = Requests::default();
        let query = "\"".repeat(30_000);
        let seen = read(&requests, &format!("GET /?{query} HTTP/1.1\r\n\r\n"), 4000).expect("a head");
        let mut uri = seen.split(' ').nth(1).expect("a target").parse().expect("hyper accepts it");
        assert_eq!(requests.began(Framing::Length(0), &mut uri), Verdict::TooLong);
    }

    #[test]
    fn what_is_kept_of_a_head_is_small_and_no_more_than_hyper_has_to_parse() {
        let kept = |requests: &Requests| {
            let State { line, partial, heads, queries, .. } = &*requests.state();
            line.capacity() + partial.capacity() + heads.capacity() * size_of::<Head>() + queries.held()
        };
        let long = "\"".repeat(60 << 10);
        let requests = Requests::default();
        read(&requests, &format!("GET /?{long}"), 1000).expect("half a head");
        assert!(kept(&requests) < 3 * long.len(), "{} bytes of half a head", kept(&requests));
        let field = format!("x: {}\r\n", "y".repeat(60 << 10));
        read(&requests, &format!(" HTTP/1.1\r\n{field}\r\n{}", GET.repeat(1000)), 64 << 10).expect("heads");
        for _ in 0..1001 {
            requests.began(Framing::Length(0), &mut Uri::from_static("/?!"));
        }
        assert!(kept(&requests) < 2 * KEPT + MAX_FIELD, "{} bytes of an idle connection", kept(&requests));
    }

    #[test]
    fn the_line_of_a_head_that_cannot_be_parsed_is_known() {
        for (text, expected) in [
            ("GET /a?\"b HTTP/1.1\r\nhost a\r\n\r\nmore", Some("GET /a?!b HTTP/1.1")),
            ("\r\nPOST /a HTTP/1.1\r\ncontent-length: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n", Some("POST /a HTTP/1.1")),
            ("GET /a", Some("GET /a")),
            ("", None),
        ] {
            for piece in [1, 5, 1000] {
                let requests = Requests::default();
                read(&requests, GET, 5).expect("a head");
                assert_began(&requests, Framing::Length(0), Verdict::Sound);
                read(&requests, text, piece).expect("nothing is known yet");
                requests.shut_down();
                assert_eq!(requests.unparsed_line().as_deref(), expected, "{piece}");
            }
        }
        let requests = Requests::default();
        read(&requests, &format!("{GET}GET /b HTTP/1.1\r\nhost a\r\n\r\n"), 1000).expect("two heads");
        assert_began(&requests, Framing::Length(0), Verdict::Sound);
        assert_eq!(requests.unparsed_line(), None);
    }
}
