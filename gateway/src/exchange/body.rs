//! The body of a message: none, bytes that the gateway has, or a stream that it only hands on.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

/// A body; never a copy of one.
#[derive(Debug, Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// Where its bytes are counted on their way, with their number so far.
    Stream(Incoming, Option<Arc<AtomicU64>>),
}

impl Body {
    /// A client's, which passes out of sight and is counted on its way.
    pub fn counted(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Stream(body, Some(Arc::default())) }
    }

    /// Nothing is to be sent, and that is known now.
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    /// How many bytes have passed, for who looks later.
    pub fn passed(&self) -> Option<Arc<AtomicU64>> {
        if let Self::Stream(_, passed) = self { passed.clone() } else { None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(incoming, passed) => {
                let polled = Pin::new(incoming).poll_frame(cx);
                if let (Poll::Ready(Some(Ok(frame))), Some(passed)) = (&polled, passed) {
                    passed.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Relaxed);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(incoming, _) => incoming.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}
