//! Bytes of a query that browsers and curl send and hyper refuses, since `http` has no place for them in a URI: `"`, `<`, `>`,
//! `#` and bytes that are not UTF-8. A stand-in replaces each before hyper sees it; its escape replaces the stand-in once the
//! head is parsed. It decides neither where a request line begins nor what becomes of a query that cannot be restored.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};
use memchr::memchr2;

/// The queries of the requests of one connection that hyper has not parsed yet.
#[derive(Debug, Default)]
pub(super) struct Queries {
    part: Part,
    /// The byte that each `STAND_IN` in these queries stands for, in their order; itself where the client sent it.
    originals: VecDeque<u8>,
    /// Stand-ins in the query that is being read.
    count: usize,
    /// A byte of that query was replaced.
    is_altered: bool,
}

/// Position in a request line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before the query.
    #[default]
    Target,
    Query,
    /// Behind the query, or in a fragment, which `http` drops.
    Rest,
}

/// Replaces bytes: hyper accepts it, and few clients send it.
const STAND_IN: u8 = b'!';

impl Queries {
    /// A line begins, which may be a request line.
    pub(super) fn begin(&mut self, may_be_request: bool) {
        self.part = if may_be_request { Part::Target } else { Part::Rest };
    }

    /// Replaces bytes in a piece of a request line.
    pub(super) fn replace(&mut self, piece: &mut [u8]) {
        let query = match self.part {
            Part::Rest => return,
            Part::Query => piece,
            Part::Target => {
                let Some(at) = memchr2(b'?', b'#', piece) else { return };
                if piece[at] == b'#' {
                    self.part = Part::Rest;
                    return;
                }
                self.part = Part::Query;
                &mut piece[at + 1..]
            }
        };
        let end = memchr2(b' ', b'\r', query);
        if end.is_some() {
            self.part = Part::Rest;
        }
        let length = end.unwrap_or(query.len());
        let query = &mut query[..length];
        // Without an early end the compiler looks at many bytes at a time.
        if query.iter().fold(false, |found, byte| found | (*byte == STAND_IN || is_refused(*byte))) {
            self.replace_query(query);
        }
    }

    fn replace_query(&mut self, query: &mut [u8]) {
        for byte in query.iter_mut().filter(|byte| **byte == STAND_IN || is_refused(**byte)) {
            self.is_altered |= *byte != STAND_IN;
            self.originals.push_back(mem::replace(byte, STAND_IN));
            self.count += 1;
        }
    }

    /// The request line ends. Returns the number of its stand-ins, 0 if no byte of it was replaced.
    pub(super) fn end(&mut self) -> usize {
        let count = mem::take(&mut self.count);
        if mem::take(&mut self.is_altered) {
            return count;
        }
        self.originals.truncate(self.originals.len() - count);
        self.give_back();
        0
    }

    /// Puts escapes in the place of the first `count` stand-ins. Returns false if the URI cannot have them: it would be too long.
    pub(super) fn restore(&mut self, count: usize, uri: &mut Uri) -> bool {
        let mut originals = self.originals.drain(..count);
        let restored = uri.path_and_query().and_then(|target| restored(target, originals.by_ref()));
        // What is left over would be of another query.
        let is_whole = originals.next().is_none();
        drop(originals);
        self.give_back();
        let Some(restored) = restored.filter(|_| is_whole) else { return false };
        let mut parts = mem::take(uri).into_parts();
        parts.path_and_query = Some(restored);
        *uri = Uri::from_parts(parts).unwrap_or_default();
        true
    }

    fn give_back(&mut self) {
        if self.originals.is_empty() {
            self.originals = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.originals.capacity()
    }
}

fn restored(target: &PathAndQuery, mut originals: impl Iterator<Item = u8>) -> Option<PathAndQuery> {
    let query = target.query()?;
    let mut text = Vec::with_capacity(target.as_str().len() + 64);
    text.extend_from_slice(target.path().as_bytes());
    text.push(b'?');
    for byte in query.bytes() {
        let original = if byte == STAND_IN { originals.next()? } else { byte };
        if is_refused(original) {
            let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
            text.extend([b'%', digit(original >> 4), digit(original & 15)]);
        } else {
            text.push(original);
        }
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
}

/// Says whether `http` refuses a byte in a query, where the query set of the URL standard escapes it. Valid UTF-8 would pass,
/// and is replaced too: a read may end in the middle of a character.
fn is_refused(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'#' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(line: &[u8], piece: usize) -> Option<String> {
        let mut queries = Queries::default();
        queries.begin(true);
        let mut seen = line.to_vec();
        seen.chunks_mut(piece).for_each(|piece| queries.replace(piece));
        let end = line.iter().rposition(|byte| *byte == b' ').expect("a version");
        assert_eq!(seen[end..], line[end..], "the version stays");
        let mut uri = Uri::try_from(&seen[4..end]).expect("hyper accepts it");
        let count = queries.end();
        if count > 0 && !queries.restore(count, &mut uri) {
            return None;
        }
        assert_eq!(queries.held(), 0);
        Some(uri.to_string())
    }

    #[test]
    fn bytes_that_hyper_refuses_become_escapes() {
        for piece in [1, 2, 6, 7, 24, 1000] {
            for (target, expected) in [
                (&b"/a?q={\"a\":1}"[..], "/a?q={%22a%22:1}"),
                (b"/?<a>#b", "/?%3Ca%3E%23b"),
                (b"/?\xe9=\xc3\xa9", "/?%E9=%C3%A9"),
                (b"/?!=\"!!\"", "/?!=%22!!%22"),
                (b"/?!!", "/?!!"),
                (b"/?[x]={y}|\\^`", "/?[x]={y}|\\^`"),
                (b"http://a/b?\"?", "http://a/b?%22?"),
                (b"/a", "/a"),
                (b"/?", "/?"),
                (b"/a#b?\"", "/a"),
            ] {
                let line = [&b"GET "[..], target, b" HTTP/1.1\r"].concat();
                assert_eq!(restore(&line, piece).as_deref(), Some(expected), "{piece}");
            }
        }
    }

    #[test]
    fn a_query_that_is_too_long_with_its_escapes_is_not_restored() {
        for (count, fits) in [(21_800, true), (21_900, false), (65_000, false)] {
            let line = format!("GET /?{} HTTP/1.1\r", "\"".repeat(count));
            assert_eq!(restore(line.as_bytes(), 4000).is_some(), fits, "{count}");
        }
    }

    #[test]
    fn another_uri_stays() {
        for other in ["/?b", "/", "/?!!!"] {
            let mut queries = Queries::default();
            let mut line = b"GET /?\"\" HTTP/1.1".to_vec();
            queries.replace(&mut line);
            let mut uri = Uri::from_static(other);
            let count = queries.end();
            assert!(!queries.restore(count, &mut uri));
            assert_eq!(uri, other);
        }
    }
}
