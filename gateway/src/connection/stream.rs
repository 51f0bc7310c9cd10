//! Streams of an HTTP/2 connection whose client takes nothing of an answer. hyper does not poll a body while the windows of its
//! stream are closed, so the task of the stream watches what its body does.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

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
    /// It gave a piece, or has one: the client has to take it. The answer may rest or not.
    Gave { streams: bool },
    /// It had nothing: the service owes a piece.
    Waits,
}

impl Report {
    /// The body gave so many bytes, or has some that find no room: the client has to take them. `streams` says whether the answer
    /// may rest.
    pub(super) fn gives(&self, bytes: usize, streams: bool) {
        let before = self.0.get();
        self.0.set(Polls { bytes: before.bytes + bytes, last: Some(Last::Gave { streams }) });
    }

    /// The body had nothing.
    pub(super) fn waits(&self) {
        self.0.set(Polls { last: Some(Last::Waits), ..self.0.get() });
    }
}

/// Runs a stream to its end, or until its client has taken nothing for too long: then it is reset.
pub(super) async fn run(stream: impl Future<Output = ()>, report: Report, peer: Arc<Peer>) {
    let is_stalled = {
        let mut stream = pin!(stream);
        let mut taking = Taking { watch: None, streams: None };
        let ended = poll_fn(|cx| {
            report.0.take();
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            taking.poll(report.0.get(), &peer, cx).map(Err)
        });
        let is_stalled = ended.await.is_err();
        if is_stalled {
            // The record of its exchange is dropped with it, and looks for the reason.
            peer.set_stalled(true);
        }
        is_stalled
    };
    // The other streams of the connection go on.
    if is_stalled {
        peer.set_stalled(false);
    }
}

/// Whether the client takes what there is for it.
struct Taking {
    watch: Option<Watch>,
    /// Set while it has to take something: whether the answer may rest.
    streams: Option<bool>,
}

impl Taking {
    fn poll(&mut self, polls: Polls, peer: &Peer, cx: &mut Context<'_>) -> Poll<Stalled> {
        if polls.bytes > 0
            && let (Some(watch), Some(streams)) = (&mut self.watch, self.streams)
            && let Err(stalled) = watch.progressed(polls.bytes, &peer.limits().pace(streams))
        {
            return Poll::Ready(stalled);
        }
        match polls.last {
            Some(Last::Gave { streams }) => self.streams = Some(streams),
            Some(Last::Waits) => {
                self.streams = None;
                self.watch.iter_mut().for_each(Watch::rest);
            }
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
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::progress::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    /// For how many seconds a stream runs whose client takes such pieces, each after a pause; `None` stands for a second without one.
    async fn lasts(pieces: Vec<Option<usize>>, pause: Duration) -> u64 {
        let report = Report::default();
        let body = report.clone();
        let stream = async move {
            for piece in pieces {
                match piece {
                    Some(size) => {
                        body.gives(size, false);
                        sleep(pause).await;
                    }
                    None => {
                        body.waits();
                        sleep(SECOND).await;
                    }
                }
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
