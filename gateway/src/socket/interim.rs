//! Interim responses of services (RFC 9110 §15.2), which hyper drops without a count. It follows them from status line to status line,
//! and nothing else: of a usual response it looks at one byte.

use std::io;

/// Position in what a service sends on one connection.
#[derive(Debug)]
pub(super) struct Interim {
    at: At,
    /// Interim responses to the last request.
    count: u32,
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes into a status line.
    Status(u8),
    /// Behind the first digit of an interim response's status; the second digit, 0 before it.
    Second(u8),
    Line,
    LineStart,
    LineCr,
    /// Behind the status of the final response, or of one that switches protocols.
    Final,
}

/// Bytes of a status line before the status: `HTTP/1.1 `.
const BEFORE: u8 = 9;

impl Interim {
    pub(super) fn new(limit: u32) -> Self {
        Self { at: At::Status(0), count: 0, limit }
    }

    /// A part of a request goes out. If a response has ended, or has at least begun, the next status line is another's.
    pub(super) fn requested(&mut self) {
        if self.at == At::Final {
            (self.at, self.count) = (At::Status(0), 0);
        }
    }

    /// # Errors
    ///
    /// There are more interim responses than the limit.
    pub(super) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at == At::Status(0) && bytes.first() == Some(&b'H') {
            match bytes.get(usize::from(BEFORE)) {
                Some(b'1') | None => {}
                Some(_) => self.at = At::Final,
            }
        }
        for byte in bytes {
            self.at = match (self.at, *byte) {
                (At::Final, _) => return Ok(()),
                // hyper passes over empty lines before a status line.
                (At::Status(0), b'\r' | b'\n') => At::Status(0),
                (At::Status(BEFORE), b'1') => At::Second(0),
                (At::Status(BEFORE), _) => At::Final,
                (At::Status(at), _) => At::Status(at + 1),
                (At::Second(0), digit) => At::Second(digit),
                (At::Second(b'0'), b'1') => At::Final,
                (At::Second(_), _) => self.another()?,
                (At::LineStart | At::LineCr, b'\n') => At::Status(0),
                (_, b'\n') => At::LineStart,
                (At::LineStart, b'\r') => At::LineCr,
                (At::Line | At::LineStart | At::LineCr, _) => At::Line,
            };
        }
        Ok(())
    }

    fn another(&mut self) -> io::Result<At> {
        self.count += 1;
        if self.count > self.limit {
            let message = format!("more than {} interim responses", self.limit);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(At::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: <HTTP/1.1 100>\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n";

    fn read(interim: &mut Interim, text: &str, piece: usize) -> io::Result<()> {
        text.as_bytes().chunks(piece).try_for_each(|bytes| interim.read(bytes))
    }

    #[test]
    fn counts_the_interim_responses_of_each_exchange() {
        for piece in [1, 2, 3, 7, 1000] {
            let mut interim = Interim::new(3);
            for count in [3, 0, 1, 3] {
                read(&mut interim, &format!("{}\r\n{FINAL}{}", HINTS.repeat(count), HINTS.repeat(9)), piece)
                    .expect("few");
                interim.requested();
            }
            for flood in [HINTS, "HTTP/1.0 100 \n\n", "\r\n\nHTTP/1.1 199 X\nlink: x\r\n\n"] {
                let mut interim = Interim::new(3);
                read(&mut interim, &flood.repeat(3), piece).expect("few");
                // A request that still goes out does not begin another count.
                interim.requested();
                assert!(read(&mut interim, flood, piece).is_err(), "{flood:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_follows_a_switch_of_protocols_is_not_looked_at() {
        let mut interim = Interim::new(1);
        let switch = format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n{}", HINTS.repeat(5));
        read(&mut interim, &switch, 5).expect("no interim response");
    }
}
