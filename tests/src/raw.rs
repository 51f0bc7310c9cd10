//! A client that writes any bytes and reads what comes back, for what a well-behaved client would never send.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{net::TcpStream, time::sleep};

use crate::{
    wait::soon,
    wire::{Framing, Head, Wire},
};

/// One connection.
#[derive(Debug)]
pub struct Raw(pub Wire);

/// A whole response.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(Wire::new(TcpStream::connect(address).await.expect("the address accepts")))
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.expect("the peer reads");
    }

    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write(bytes.as_ref()).await
    }

    /// The head of the next response.
    pub async fn head(&mut self) -> Head {
        soon("a head", self.0.head()).await.expect("a head").expect("no end before the head")
    }

    /// The next so many bytes, as text.
    pub async fn text(&mut self, length: u64) -> String {
        let mut bytes = Vec::new();
        let read = self.0.body(Framing::Length(length), |piece| bytes.extend_from_slice(piece));
        soon("bytes", read).await.expect("so many bytes");
        String::from_utf8(bytes).expect("text")
    }

    /// The next response, to a GET.
    pub async fn answer(&mut self) -> RawAnswer {
        self.answer_to("GET").await
    }

    /// The next response, to a request with this method.
    pub async fn answer_to(&mut self, method: &str) -> RawAnswer {
        self.try_answer_to(method).await.expect("a response").expect("no end before the response")
    }

    /// None if the peer closed instead.
    pub async fn try_answer_to(&mut self, method: &str) -> io::Result<Option<RawAnswer>> {
        soon("a response", async {
            let Some(head) = self.0.head().await? else { return Ok(None) };
            let mut body = Vec::new();
            self.0.body(head.framing_of_response(method), |piece| body.extend_from_slice(piece)).await?;
            Ok(Some(RawAnswer { head, body }))
        })
        .await
    }

    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> RawAnswer {
        self.write(bytes).await;
        self.answer().await
    }

    /// Sends a byte from time to time until the peer has closed the connection.
    ///
    /// # Panics
    ///
    /// If it is still open after 10 s.
    pub async fn trickle(&mut self) {
        for _ in 0..400 {
            if self.try_write("x").await.is_err() {
                return;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("the connection is still open");
    }

    /// Waits for the peer's end.
    pub async fn closed(&mut self) {
        soon("the peer closes", self.0.closed()).await;
    }
}

impl RawAnswer {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Writes bytes on a connection of their own and gives the first answer.
pub async fn ask(address: SocketAddr, bytes: impl AsRef<[u8]>) -> RawAnswer {
    Raw::connect(address).await.ask(bytes).await
}
