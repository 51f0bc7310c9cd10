//! An HTTP/2 client that writes any frame and reads what comes back, for what a well-behaved client would never send.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{client::HOST, wait::soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Identifier of the setting of a stream's first window.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection.
#[derive(Debug)]
pub struct Frames(pub TcpStream);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Opens a connection; each of its streams may be sent `window` bytes, the connection as many as there can be.
    pub async fn connect(address: SocketAddr, window: u32) -> Self {
        let mut frames = Self(TcpStream::connect(address).await.expect("the address accepts"));
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend(window.to_be_bytes());
        let mut hello = PREFACE.to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &setting));
        hello.extend(frame(WINDOW_UPDATE, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()));
        frames.write(&hello).await.expect("the peer reads");
        frames
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// The next frame; `None` at the end of the connection, however it came.
    pub async fn next(&mut self) -> Option<Frame> {
        soon("a frame", async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        })
        .await
    }

    /// Reads until a frame of this kind comes for this stream, and answers settings and pings on the way; `None` at the
    /// end of the connection.
    pub async fn until(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        loop {
            let next = self.next().await?;
            let answer = [SETTINGS, PING].contains(&next.kind) && next.flags & ACK == 0;
            if answer {
                let payload = if next.kind == PING { &next.payload[..] } else { &[] };
                self.write(&frame(next.kind, ACK, 0, payload)).await.ok()?;
            }
            if (next.kind, next.stream) == (kind, stream) {
                return Some(next);
            }
        }
    }

    /// Reads to the end of the connection and answers settings and pings on the way.
    pub async fn closed(&mut self) {
        // No frame of this kind has a stream.
        assert_eq!(self.until(PING, u32::MAX).await, None);
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The HEADERS frame of a whole request head.
pub fn head(stream: u32, method: &str, path: &str, ends: bool) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", HOST)];
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(&fields))
}

/// A header block in which no field is compressed (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "its length takes one byte");
            bytes.push(u8::try_from(text.len()).expect("it is short"));
            bytes.extend(text.bytes());
        }
    }
    bytes
}
