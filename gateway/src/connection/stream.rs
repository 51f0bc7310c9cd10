//! Streams of an HTTP/2 connection whose client takes nothing of an answer. hyper does not poll a body while the windows of its
//! stream are closed, so the task of the stream watches what its body does.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::progress::{Peer, Stalled, Watch};

/// What the body of a stream did while the task of the stream was polled. All streams of a connection run on one worker, one after
/// the other, so they share one report.
#[derive(Debug, Clone, Default)]
pub(super) struct Report(Rc<Cell<Polls>>);

#[derive(Debug, Clone, Copy, Default)]
struct Polls {
    /// Bytes that it gave.
    bytes: usize,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It gave a piece, which the client has to take. The answer may rest or not.
    Gave { streams: bool },
    /// It had nothing: the service owes a piece.
    Waits,
}

/// A body that reports what it does.
#[derive(Debug)]
pub(super) struct Reported<B> {
    body: B,
    streams: bool,
    report: Report,
}

impl<B> Reported<B> {
    /// `streams` says whether the answer may rest.
    pub(super) fn new(body: B, streams: bool, report: Report) -> Self {
        Self { body, streams, report }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Reported<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut polls = self.report.0.get();
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                polls.bytes += frame.data_ref().map_or(0, Bytes::len);
                polls.last = Some(Last::Gave { streams: self.streams });
            }
            Poll::Ready(_) => {}
            Poll::Pending => polls.last = Some(Last::Waits),
        }
        self.report.0.set(polls);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs a stream to its end, or until its client has taken nothing for too long: then it is reset.
pub(super) async fn run(stream: impl Future<Output = ()>, report: Report, peer: Arc<Peer>) {
    {
        let mut stream = pin!(stream);
        let mut taking = Taking { watch: None, streams: None };
        let ended = poll_fn(|cx| {
            report.0.take();
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            taking.poll(report.0.get(), &peer, cx).map(Err)
        });
        if ended.await.is_err() {
            // Whoever records the end of its exchange, which is here, looks for the reason.
            peer.set_stalled(true);
        }
    }
    peer.set_stalled(false);
}

/// Whether the client takes what there is for it.
struct Taking {
    watch: Option<Watch>,
    /// Set while it has to take something: whether the answer may rest.
    streams: Option<bool>,
}

impl Taking {
    fn poll(&mut self, polls: Polls, peer: &Peer, cx: &mut Context<'_>) -> Poll<Stalled> {
        if let (Some(watch), Some(streams), Some(_)) = (&mut self.watch, self.streams, polls.last)
            && let Err(stalled) = watch.progressed(polls.bytes, &peer.limits().pace(streams))
        {
            return Poll::Ready(stalled);
        }
        match polls.last {
            Some(Last::Gave { streams }) => self.streams = Some(streams),
            Some(Last::Waits) => self.streams = None,
            None => {}
        }
        let Some(streams) = self.streams else { return Poll::Pending };
        let pace = peer.limits().pace(streams);
        let watch = self.watch.get_or_insert_with(|| Watch::new(&pace));
        Poll::Ready(ready!(watch.poll_stalled(cx, &pace)))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, time::Duration};

    use http_body_util::BodyExt;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::progress::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gives pieces of so many bytes; `None` stands for a second without one.
    struct Pieces(VecDeque<Option<usize>>, Option<Pin<Box<tokio::time::Sleep>>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if let Some(pause) = &mut self.1 {
                ready!(pause.as_mut().poll(cx));
                self.1 = None;
            }
            match self.0.pop_front() {
                Some(Some(size)) => Poll::Ready(Some(Ok(Frame::data(vec![0; size].into())))),
                Some(None) => {
                    self.1 = Some(Box::pin(sleep(SECOND)));
                    self.poll_frame(cx)
                }
                None => Poll::Ready(None),
            }
        }
    }

    /// For how many seconds a stream runs whose client takes such pieces, each after a pause.
    async fn lasts(pieces: Vec<Option<usize>>, pause: Duration) -> u64 {
        let report = Report::default();
        let mut body = Reported::new(Pieces(pieces.into(), None), false, report.clone());
        let stream = async {
            while body.frame().await.is_some() {
                sleep(pause).await;
            }
        };
        let start = Instant::now();
        let running = run(stream, report, Arc::new(Peer::new(Limits::default())));
        timeout(100_000 * SECOND, running).await.expect("it ends");
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_ends() {
        assert_eq!(lasts(vec![Some(1000); 3], 90 * SECOND).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_pieces_steadily_has_all_the_time_it_needs() {
        assert_eq!(lasts(vec![Some(16 << 10); 50], 50 * SECOND).await, 2500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_too_little_is_behind() {
        assert!(lasts(vec![Some(100); 1000], SECOND).await < 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_service_is_not_its_clients_fault() {
        let drops: Vec<_> = [Some(1), None].into_iter().cycle().take(2000).collect();
        assert!(lasts(drops, Duration::ZERO).await >= 900);
    }
}
