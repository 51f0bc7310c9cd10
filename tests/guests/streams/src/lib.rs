//! Changes bodies while they pass, as its configuration says.

use std::{
    io::{Read, Write},
    time::Duration,
};

use stile_sdk::{clock, prelude::*};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Streams {
    request: Option<Passing>,
    response: Option<Passing>,
    /// A field that is added after a body that has such fields.
    trailer: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Passing {
    Copy,
    Upper,
    /// Writes something before, and leaves the rest.
    Preface,
    /// Reads and writes one byte, and leaves the rest.
    First,
    /// Writes everything twice.
    Double,
    /// Writes nothing.
    Swallow,
    /// Fails before it has read anything.
    Early,
    /// The same after some ticks.
    Late,
    /// Fails at the first piece.
    Fail,
    Trap,
    Loop,
    /// Never stops writing.
    Flood,
    /// Writes nothing, again and again.
    Idle,
}

impl RequestFilter for Streams {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        request.keep(&request.header("x-kept").map(|value| value.to_string()))?;
        Ok(Verdict::Proceed)
    }
}

impl RequestStream for Streams {
    fn on_request_stream(&self, body: &mut Stream) -> Result<()> {
        self.request.map_or(Ok(()), |passing| passing.pass(body))
    }
}

impl ResponseStream for Streams {
    fn on_response_stream(&self, body: &mut Stream) -> Result<()> {
        self.response.map_or(Ok(()), |passing| passing.pass(body))
    }
}

impl Passing {
    fn pass(self, body: &mut Stream) -> Result<()> {
        match self {
            Self::Preface => {
                let kept = body.kept::<Option<String>>()?.flatten().unwrap_or_default();
                body.write_all(format!("[{kept}]").as_bytes())?;
                return Ok(());
            }
            Self::First => {
                let mut first = [0];
                body.read_exact(&mut first)?;
                body.write_all(&first.map(|byte| byte.to_ascii_uppercase()))?;
                return Ok(());
            }
            Self::Early => return Err(Error::new("it fails at once, as it was told")),
            Self::Late => {
                let began = clock::monotonic();
                while clock::monotonic() - began < Duration::from_millis(10) {}
                return Err(Error::new("it fails after some ticks, as it was told"));
            }
            Self::Flood => loop {
                body.write_all(&[b'x'; 1 << 16])?;
            },
            Self::Idle => loop {
                body.write_all(&[])?;
            },
            _ => {}
        }
        while let Some(piece) = body.next_piece() {
            match self {
                Self::Copy => body.write_all(&piece)?,
                Self::Upper => body.write_all(&piece.to_ascii_uppercase())?,
                Self::Double => {
                    body.write_all(&piece)?;
                    body.write_all(&piece)?;
                }
                Self::Fail => return Err(Error::new("it fails at a piece, as it was told")),
                Self::Trap => std::process::abort(),
                Self::Loop => loop {
                    std::hint::black_box(0);
                },
                _ => {}
            }
        }
        Ok(())
    }
}

impl RequestTrailers for Streams {
    fn on_request_trailers(&self, trailers: &mut Trailers) -> Result<()> {
        self.add(trailers)
    }
}

impl ResponseTrailers for Streams {
    fn on_response_trailers(&self, trailers: &mut Trailers) -> Result<()> {
        self.add(trailers)
    }
}

impl Streams {
    fn add(&self, trailers: &mut Trailers) -> Result<()> {
        let Some(name) = &self.trailer else { return Ok(()) };
        let seen = trailers.headers().len();
        Ok(trailers.set_header(name, seen.to_string())?)
    }
}

stile_sdk::export!(Streams: request, request_stream, request_trailers, response_stream, response_trailers);
