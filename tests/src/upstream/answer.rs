//! What an upstream may do with a request, right or wrong.

use std::{io, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{io::AsyncWriteExt, time::sleep};
use tokio_util::sync::CancellationToken;

use super::Received;
use crate::{pattern::Source, wire::Wire};

/// Opened by `cancel`, for good.
pub type Gate = CancellationToken;

#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with the request as JSON: name, method, target, headers (an array where a field came twice), body_length,
    /// body (its first 4 KiB), connection.
    Echo,
    /// A status, fields and a text.
    Reply(u16, Vec<(&'static str, String)>, String),
    /// These bytes, whatever they are; the connection stays open.
    Bytes(Vec<u8>),
    /// The same again and again, until the peer has left.
    BytesForever(Vec<u8>),
    /// The same, and then a proper end.
    BytesThenClose(Vec<u8>),
    /// The same, and then a reset.
    BytesThenReset(Vec<u8>),
    /// Sends these bytes, and then sends back each byte that comes.
    BytesThenMirror(Vec<u8>),
    /// The first bytes, and the others once the gate is open; the connection stays open.
    BytesInTwo(Vec<u8>, Gate, Vec<u8>),
    /// 200 with a `pattern` of this length.
    Pattern(u64),
    /// 200 in chunks, each after its pause.
    Chunks(Vec<(Duration, &'static str)>),
    /// Nothing, for as long as the peer stays.
    Silence,
    /// The other answer, once the gate is open.
    Behind(Gate, Box<Self>),
}

impl Answer {
    pub fn text(text: &str) -> Self {
        Self::Reply(200, Vec::new(), text.to_owned())
    }

    /// None if the connection is over.
    pub(super) async fn give(self, received: &Received, mut wire: Wire) -> io::Result<Option<Wire>> {
        match self {
            Self::Echo => {
                let body = echo(received).to_string();
                let fields = vec![("content-type", "application/json".to_owned())];
                wire.write(&reply(received, 200, &fields, &body)).await?;
            }
            Self::Reply(status, fields, body) => wire.write(&reply(received, status, &fields, &body)).await?,
            Self::Bytes(bytes) => wire.write(&bytes).await?,
            Self::BytesForever(bytes) => loop {
                wire.write(&bytes).await?;
            },
            Self::BytesThenClose(bytes) => {
                wire.write(&bytes).await?;
                wire.stream.shutdown().await?;
                return Ok(None);
            }
            Self::BytesThenReset(bytes) => {
                wire.write(&bytes).await?;
                wire.reset()?;
                return Ok(None);
            }
            Self::BytesThenMirror(bytes) => {
                wire.write(&bytes).await?;
                wire.mirror().await?;
                return Ok(None);
            }
            Self::BytesInTwo(first, gate, rest) => {
                wire.write(&first).await?;
                gate.cancelled().await;
                wire.write(&rest).await?;
            }
            Self::Pattern(length) => {
                wire.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await?;
                for block in Source::new(length) {
                    wire.write(&block).await?;
                }
            }
            Self::Chunks(chunks) => {
                wire.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                for (pause, text) in chunks {
                    sleep(pause).await;
                    wire.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
                }
                wire.write(b"0\r\n\r\n").await?;
            }
            Self::Silence => {
                wire.closed().await;
                return Ok(None);
            }
            Self::Behind(gate, answer) => {
                gate.cancelled().await;
                return Box::pin(answer.give(received, wire)).await;
            }
        }
        Ok(Some(wire))
    }
}

fn reply(received: &Received, status: u16, fields: &[(&str, String)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} whatever\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\n\r\n", body.len());
    if received.method() != "HEAD" {
        text += body;
    }
    text.into_bytes()
}

fn echo(received: &Received) -> Value {
    let mut headers = Map::new();
    for (name, value) in &received.head.fields {
        match headers.get_mut(name) {
            None => drop(headers.insert(name.clone(), json!(value))),
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(first) => *first = json!([first.clone(), value]),
        }
    }
    json!({
        "name": &*received.name,
        "method": received.method(),
        "target": received.target(),
        "version": received.head.word(2),
        "headers": headers,
        "body_length": received.body_length,
        "body": String::from_utf8_lossy(&received.body),
        "connection": received.connection,
    })
}
