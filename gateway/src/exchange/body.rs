//! The body of a message: none, bytes that the gateway has, a stream that it only hands on, or one that something on the way
//! changes.

use std::{
    error::Error as _,
    fmt,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use crate::progress::{Pace, Stalled, Watch};

use super::{Dropped, trailers::retain_allowed};

/// A body; never a copy of one.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// In a box: bodies are moved about, and most requests have none.
    Stream(Box<Stream>),
    /// Made of another body.
    Changed(Pin<Box<Changed>>),
}

/// A body as its sender sends it, who is held to a pace.
#[derive(Debug)]
pub struct Stream {
    incoming: Incoming,
    pace: Pace,
    /// Made when the sender lets us wait for the first time.
    watch: Option<Watch>,
    /// Of a request.
    transfer: Option<Arc<Transfer>>,
}

/// The body of a request on its way, for others than the one who reads it.
#[derive(Debug, Default)]
pub struct Transfer {
    bytes: AtomicU64,
    ended: OnceLock<Instant>,
    stalled: AtomicBool,
    dropped: Arc<Dropped>,
}

/// What a body may be made into on its way.
pub type Changed = dyn HttpBody<Data = Bytes, Error = BodyError> + Send;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its sender broke off.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Its sender did not send in time.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// Something on the way did.
    #[error(transparent)]
    Cut(Cut),
}

impl BodyError {
    /// The body's framing is wrong, or a line of its trailer section; its sender has not broken off.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Broken(error) if is_malformed(error))
    }
}

/// Why the body of a request did not come whole. Whoever reads it, it means the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    #[error("the client stopped sending its request: {0}")]
    Stalled(Stalled),
    #[error("the client broke off in the middle of its request")]
    BrokenOff,
    #[error("the body of the request is not in valid chunks")]
    Malformed,
    /// A filter failed.
    #[error(transparent)]
    Cut(Cut),
}

impl RequestError {
    pub fn of(error: &BodyError) -> Self {
        match error {
            BodyError::Cut(cut) => Self::Cut(cut.clone()),
            BodyError::Stalled(stalled) => Self::Stalled(*stalled),
            error if error.is_malformed() => Self::Malformed,
            BodyError::Broken(_) => Self::BrokenOff,
        }
    }
}

/// Says whether a connection failed because of what its peer sent, by hyper's judgement or by the socket's.
pub fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
}

/// A filter that failed in the middle of a body.
#[derive(Debug, Clone, thiserror::Error)]
#[error("filter \"{by}\" failed in the middle of a body: {message}")]
pub struct Cut {
    pub by: Arc<str>,
    /// One of few words, for metrics and logs.
    pub cause: &'static str,
    pub message: Arc<str>,
}

/// A body that is there as a whole.
#[derive(Debug, Default)]
pub struct Whole {
    pub bytes: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// Why a body could not be collected.
#[derive(Debug)]
pub enum Uncollected {
    /// It is larger than the bound; this is all of it, to be read from the start.
    TooLarge(Body),
    TooSlow,
    Broken(BodyError),
}

impl Body {
    /// The body of a request; `dropped` counts the trailers in which its client claims something about itself.
    pub fn of_client(incoming: Incoming, pace: Pace, dropped: &Arc<Dropped>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let transfer = Transfer { dropped: Arc::clone(dropped), ..Transfer::default() };
        Self::Stream(Box::new(Stream { incoming, pace, watch: None, transfer: Some(Arc::new(transfer)) }))
    }

    /// The body of a service's answer.
    pub fn of_service(incoming: Incoming, pace: Pace) -> Self {
        Self::Stream(Box::new(Stream { incoming, pace, watch: None, transfer: None }))
    }

    /// Something that a body was made into.
    pub fn changed(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Changed(Box::pin(body))
    }

    /// Nothing is to be sent, and that is known now.
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    /// The transfer of a request's body.
    pub fn transfer(&self) -> Option<Arc<Transfer>> {
        if let Self::Stream(stream) = self { stream.transfer.clone() } else { None }
    }

    /// Reads it to its end, up to so many bytes and within that time.
    pub async fn collect(mut self, bound: usize, limit: Duration) -> Result<Whole, Uncollected> {
        if let Self::Full(bytes) = &mut self
            && bytes.len() <= bound
        {
            return Ok(Whole { bytes: std::mem::take(bytes), trailers: None });
        }
        let size = self.size_hint();
        if size.lower() > bound as u64 {
            return Err(Uncollected::TooLarge(self));
        }
        let mut whole = Whole::default();
        let mut pieces = BytesMut::new();
        let reading = async {
            while let Some(frame) = self.frame().await {
                match frame.map_err(Uncollected::Broken)?.into_data() {
                    Ok(piece) if pieces.len() + piece.len() > bound => return Ok(Some(piece)),
                    // The usual case is one piece, which needs no copy.
                    Ok(piece) if pieces.is_empty() && self.is_end_stream() => whole.bytes = piece,
                    Ok(piece) => pieces.extend_from_slice(&piece),
                    Err(frame) => whole.trailers = frame.into_trailers().ok(),
                }
            }
            Ok(None)
        };
        let beyond = timeout(limit, reading).await.unwrap_or(Err(Uncollected::TooSlow))?;
        if let Some(beyond) = beyond {
            let read = [pieces.freeze(), beyond].map(Some);
            return Err(Uncollected::TooLarge(Self::changed(Resumed { read, next: 0, rest: self })));
        }
        if !pieces.is_empty() {
            whole.bytes = pieces.freeze();
        }
        Ok(whole)
    }
}

impl From<Whole> for Body {
    fn from(Whole { bytes, trailers }: Whole) -> Self {
        match trailers {
            Some(trailers) => Self::changed(Trailed { bytes: Some(bytes), trailers: Some(trailers) }),
            None => Self::Full(bytes),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.poll_frame(cx),
            Self::Changed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.incoming.is_end_stream(),
            Self::Changed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.incoming.size_hint(),
            Self::Changed(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Stream(_) => "Stream",
            Self::Changed(_) => "Changed",
        })
    }
}

impl Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let bytes = match &mut polled {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => data.len(),
                // HTTP/2 may have trailers behind a body whose length is known. HTTP/1.1 has no place for them (RFC 9112 §6.3).
                None if self.incoming.size_hint().exact().is_some() => return Poll::Ready(None),
                None => {
                    let claims = frame.trailers_mut().map_or(0, retain_allowed);
                    if let Some(transfer) = self.transfer.as_ref().filter(|_| claims > 0) {
                        transfer.dropped.claims.fetch_add(claims, Relaxed);
                    }
                    0
                }
            },
            Poll::Ready(_) => return polled.map_err(BodyError::Broken),
            Poll::Pending => {
                let watch = self.watch.get_or_insert_with(|| Watch::new(&self.pace));
                let stalled = ready!(watch.poll_stalled(cx, &self.pace));
                return self.give_up(stalled);
            }
        };
        if let Some(transfer) = &self.transfer {
            transfer.bytes.fetch_add(bytes as u64, Relaxed);
        }
        if let Some(watch) = &mut self.watch
            && let Err(stalled) = watch.progressed(bytes, &self.pace)
        {
            return self.give_up(stalled);
        }
        polled.map_err(BodyError::Broken)
    }

    fn give_up(&self, stalled: Stalled) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(transfer) = &self.transfer {
            transfer.stalled.store(true, Relaxed);
        }
        Poll::Ready(Some(Err(stalled.into())))
    }
}

impl Drop for Stream {
    /// Whoever reads a body lets it go at its end, or before if no more of it is wanted.
    fn drop(&mut self) {
        if let Some(transfer) = &self.transfer {
            let _ = transfer.ended.set(Instant::now());
        }
    }
}

impl Transfer {
    /// Bytes that have passed.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// When the last of it had been read; `None` while it is under way.
    pub fn ended(&self) -> Option<Instant> {
        self.ended.get().copied()
    }

    /// Whether it was given up because its sender did not send in time.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// Counts bytes that pass otherwise than by a body.
    pub fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

/// Media types of messages that may rest for long: their senders send when there is news.
const STREAMS: [&str; 4] =
    ["text/event-stream", "application/grpc", "application/x-ndjson", "multipart/x-mixed-replace"];

/// Whether a message may rest in the middle of its body, by its media type.
pub fn may_rest(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(CONTENT_TYPE) else { return false };
    let is_kind = |known: &str| {
        let start = media_type.as_bytes().get(..known.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
    };
    STREAMS.into_iter().any(is_kind)
}

/// A body of which the first pieces were read, and are to be read again.
struct Resumed {
    read: [Option<Bytes>; 2],
    next: usize,
    rest: Body,
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        while let Some(piece) = this.read.get_mut(this.next) {
            this.next += 1;
            if let Some(piece) = piece.take().filter(|piece| !piece.is_empty()) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Pin::new(&mut this.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.read.len() && self.rest.is_end_stream()
    }
}

/// Bytes and the fields after them. Its length is not told, since only a body of unknown length can have such fields.
struct Trailed {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for Trailed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty()).map(Frame::data);
        Poll::Ready(bytes.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that are always ready, then an end.
    struct Pieces(Vec<&'static str>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let next = (!self.0.is_empty()).then(|| Ok(Frame::data(Bytes::from(self.0.remove(0)))));
            Poll::Ready(next)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn text(body: Body) -> String {
        let collected = body.collect(1 << 20, SECOND).await.expect("it is small");
        String::from_utf8(collected.bytes.to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_the_bound_can_still_be_read_whole() {
        for bound in 0..6 {
            let body = Body::changed(Pieces(vec!["ab", "", "cd", "ef"]));
            let Err(Uncollected::TooLarge(again)) = body.collect(bound, SECOND).await else { panic!("{bound}") };
            assert_eq!(text(again).await, "abcdef", "{bound}");
        }
        assert_eq!(text(Body::changed(Pieces(vec!["ab", "", "cd", "ef"]))).await, "abcdef");
        let known = Body::from(Bytes::from_static(b"abcdef")).collect(5, SECOND).await;
        let Err(Uncollected::TooLarge(again)) = known else { panic!("{known:?}") };
        assert_eq!(text(again).await, "abcdef");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_in_time_is_given_up() {
        struct Never;
        impl HttpBody for Never {
            type Data = Bytes;
            type Error = BodyError;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                Poll::Pending
            }
        }
        assert!(matches!(Body::changed(Never).collect(9, SECOND).await, Err(Uncollected::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_stay_behind_the_bytes() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().expect("a value"))]);
        let body = Body::from(Whole { bytes: Bytes::from_static(b"ab"), trailers: Some(trailers.clone()) });
        assert_eq!(body.size_hint().exact(), None);
        let whole = body.collect(2, SECOND).await.expect("two bytes");
        assert_eq!((&whole.bytes[..], whole.trailers), (&b"ab"[..], Some(trailers)));
    }
}
