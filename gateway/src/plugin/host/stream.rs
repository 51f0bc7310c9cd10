//! A body that a guest passes on: what it reads is the message's, what it writes is what goes on.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;

use super::Host;
use crate::exchange::{
    RequestId,
    body::{Body, BodyError},
};

/// Bytes that a guest reads at once, so that it needs the same memory for every body.
const MAX_PIECE: usize = 64 << 10;

/// Both ends of a body in the hands of a guest.
pub struct Passing {
    pub id: RequestId,
    /// The `Via` of its exchange.
    pub via: Option<HeaderValue>,
    /// From an earlier phase of the same filter.
    pub kept: Bytes,
    /// What is not read yet: of the piece that came last, and of what comes.
    pub piece: Bytes,
    pub body: Body,
    /// Something was read.
    pub begun: bool,
    pub trailers: Option<HeaderMap>,
    /// The sender broke off, which ends the call.
    pub broken: Option<BodyError>,
    pub output: Output,
}

/// Room for one piece, from the guest to whoever sends it on. Both are of one task, which looks here after each turn of the
/// guest, so nobody need be woken.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Room>);

#[derive(Debug, Default)]
struct Room {
    piece: Mutex<Option<Bytes>>,
    /// The guest has waited for a piece of the message.
    has_waited: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
pub(in crate::plugin) enum NoPiece {
    #[error("called while no body passes")]
    NoBody,
    #[error("the sender of the body broke off")]
    Broken,
}

impl Passing {
    pub fn new(id: RequestId, via: Option<HeaderValue>, kept: Bytes, body: Body, output: Output) -> Self {
        Self { id, via, kept, piece: Bytes::new(), body, begun: false, trailers: None, broken: None, output }
    }
}

impl Output {
    /// What the guest has written.
    pub fn take(&self) -> Option<Bytes> {
        self.room().take()
    }

    pub fn is_empty(&self) -> bool {
        self.room().is_none()
    }

    /// Whether the guest has written something, or waited for a piece: from then on the head of the message need not wait for it.
    pub fn has_begun(&self) -> bool {
        self.0.has_waited.load(Relaxed) || !self.is_empty()
    }

    fn room(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.piece.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    pub(in crate::plugin) fn passing(&mut self) -> Result<&mut Passing, NoPiece> {
        self.passing.as_mut().ok_or(NoPiece::NoBody)
    }

    /// The next piece; none at the end. The guest's deadline begins anew with it.
    pub(in crate::plugin) async fn read_body(&mut self) -> Result<Option<Bytes>, NoPiece> {
        let clock = Arc::clone(&self.meter.clock);
        let passing = self.passing()?;
        while passing.trailers.is_none() {
            if !passing.piece.is_empty() {
                passing.begun = true;
                let piece = passing.piece.split_to(passing.piece.len().min(MAX_PIECE));
                self.meter.start_again();
                return Ok(Some(piece));
            }
            let frame = poll_fn(|cx| {
                let polled = Pin::new(&mut passing.body).poll_frame(cx);
                clock.set_waits_for_body(polled.is_pending());
                if polled.is_pending() {
                    passing.output.0.has_waited.store(true, Relaxed);
                }
                polled
            });
            match frame.await {
                None => return Ok(None),
                Some(Err(error)) => {
                    passing.broken = Some(error);
                    return Err(NoPiece::Broken);
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => passing.piece = piece,
                    Err(frame) => passing.trailers = frame.into_trailers().ok(),
                },
            }
        }
        Ok(None)
    }

    /// Waits until there is room. Nothing is not sent on: in the form of a chunk it would be the body's end.
    pub(in crate::plugin) async fn write_body(&mut self, piece: Bytes) -> Result<(), NoPiece> {
        let clock = Arc::clone(&self.meter.clock);
        let output = &self.passing()?.output;
        if piece.is_empty() {
            return Ok(());
        }
        let mut piece = Some(piece);
        poll_fn(|_| {
            let mut room = output.room();
            clock.set_waits_for_body(room.is_some());
            if room.is_some() {
                return Poll::Pending;
            }
            *room = piece.take();
            Poll::Ready(())
        })
        .await;
        Ok(())
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passing").field("id", &self.id).field("begun", &self.begun).finish_non_exhaustive()
    }
}
