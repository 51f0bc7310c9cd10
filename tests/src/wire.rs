//! HTTP/1.1 as bytes on a socket, read strictly and without any help of the gateway's own libraries.

use std::io::{self, ErrorKind};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Largest head that is read.
const MAX_HEAD: usize = 1 << 20;

/// A socket and what was read from it ahead.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    buffer: BytesMut,
}

/// The first line and the fields of a message, as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClosed,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        // A peer that is gone already; reading will tell.
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: BytesMut::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head; None if the peer closed before it.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = self.buffer.split_to(end + 4);
                return Head::parse(&text).map(Some);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(bad("a head without end"));
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body to its end, each piece as it arrives.
    pub async fn body(&mut self, framing: Framing, mut piece: impl FnMut(&[u8])) -> io::Result<()> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.exactly(length, &mut piece).await,
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = u64::from_str_radix(&line, 16).map_err(|_| bad(&format!("{line:?} is no chunk size")))?;
                self.exactly(size, &mut piece).await?;
                let mut rest = self.line().await?;
                if size == 0 {
                    // Trailers end with an empty line, too.
                    while !rest.is_empty() {
                        rest = self.line().await?;
                    }
                    return Ok(());
                }
                if !rest.is_empty() {
                    return Err(bad("a chunk is longer than its size"));
                }
            },
            Framing::UntilClosed => loop {
                piece(&self.buffer);
                self.buffer.clear();
                if !self.fill().await? {
                    return Ok(());
                }
            },
        }
    }

    /// Sends back whatever comes, until the peer has sent its last.
    pub async fn mirror(&mut self) -> io::Result<()> {
        loop {
            let came = self.buffer.split();
            self.stream.write_all(&came).await?;
            if !self.fill().await? {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Waits until the peer has closed or reset; whatever still comes is dropped.
    pub async fn closed(&mut self) {
        while self.fill().await.unwrap_or(false) {
            self.buffer.clear();
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    async fn exactly(&mut self, length: u64, piece: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let size = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            piece(&self.buffer[..size]);
            self.buffer.advance(size);
            left -= size as u64;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// False at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(64 << 10);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

impl Head {
    fn parse(text: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.take_while(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&format!("{line:?} is no field")))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self { line, fields: fields.collect::<io::Result<_>>()? })
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The word of the first line with this number.
    pub fn word(&self, number: usize) -> &str {
        self.line.split(' ').nth(number).unwrap_or_default()
    }

    /// The status, if this is the head of a response.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub fn framing_of_request(&self) -> Framing {
        self.framing().unwrap_or(Framing::None)
    }

    /// RFC 9112 §6.3; `method` is that of the request.
    pub fn framing_of_response(&self, method: &str) -> Framing {
        if method == "HEAD" || self.status() < 200 || [204, 304].contains(&self.status()) {
            return Framing::None;
        }
        self.framing().unwrap_or(Framing::UntilClosed)
    }

    fn framing(&self) -> Option<Framing> {
        if self.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        self.get("content-length").and_then(|value| value.parse().ok()).map(Framing::Length)
    }
}

fn bad(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}
