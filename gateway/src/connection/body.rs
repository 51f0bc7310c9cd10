//! The body of an HTTP/2 response, which takes from the budget of its connection what it gives to HTTP/2.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::budget::{Piece, Stream};
use crate::{exchange::BodyError, progress::Peer};

/// Bytes of a body that every client can take without opening a window, unless it has made its windows smaller than
/// RFC 9113 §6.9.2 has them.
const FIRST_WINDOW: u64 = 65_535;

/// The body of a stream. The end of a large one follows once the client has taken everything before it: the task of a stream ends
/// with its body, and only that task can reset the stream.
#[derive(Debug)]
pub(super) struct Budgeted<B> {
    /// `None` while `self` is dropped.
    body: Option<B>,
    /// The part of the last chunk that found no room yet.
    rest: Bytes,
    /// Bytes given so far.
    given: u64,
    /// Set at the end of the body: its trailers, if it has some.
    end: Option<Option<Frame<Piece>>>,
    stream: Stream,
    peer: Arc<Peer>,
}

impl<B> Budgeted<B> {
    /// The answer of a stream; `streams` says whether it may rest.
    pub(super) fn new(body: B, streams: bool, mut stream: Stream, peer: Arc<Peer>) -> Self {
        stream.answered(streams);
        Self { body: Some(body), rest: Bytes::new(), given: 0, end: None, stream, peer }
    }

    /// Whether the end has to wait.
    fn holds_end(&self) -> bool {
        self.given > FIRST_WINDOW && self.stream.holds()
    }
}

impl<B: HttpBody<Data = Bytes, Error = BodyError> + Unpin> HttpBody for Budgeted<B> {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = &mut *self;
        while this.rest.is_empty() && this.end.is_none() {
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => this.rest = chunk,
                    Err(frame) => this.end = Some(frame.into_trailers().ok().map(Frame::trailers)),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.end = Some(None),
            }
        }
        if !this.rest.is_empty() {
            let piece = ready!(this.stream.poll_take(&mut this.rest, cx));
            this.given += piece.remaining() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if this.given > FIRST_WINDOW {
            ready!(this.stream.poll_taken(cx));
        }
        Poll::Ready(this.end.replace(None).flatten().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        let is_last = match &self.end {
            Some(end) => end.is_none(),
            None => self.body.as_ref().is_none_or(HttpBody::is_end_stream),
        };
        self.rest.is_empty() && is_last && !self.holds_end()
    }

    fn size_hint(&self) -> SizeHint {
        let mut size = self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default();
        let rest = self.rest.len() as u64;
        if let Some(upper) = size.upper() {
            size.set_upper(upper + rest);
        }
        size.set_lower(size.lower() + rest);
        size
    }
}

impl<B> Drop for Budgeted<B> {
    fn drop(&mut self) {
        // The record of the exchange is dropped with the body, and looks for the reason.
        let is_stalled = self.stream.is_stalled();
        if is_stalled {
            self.peer.set_stalled(true);
        }
        self.body = None;
        if is_stalled {
            self.peer.set_stalled(false);
        }
    }
}
