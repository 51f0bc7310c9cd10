//! Bytes of response bodies that an HTTP/2 connection may hold until its client has taken them.
//!
//! hyper hands a body to HTTP/2 piece by piece, whatever the client's windows are: the budget bounds the pieces. Each stream has
//! a share of its own, so that streams whose windows are closed cannot starve the others; the rest is for any stream.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{MAX_STREAMS, stream::Report};
use crate::{
    exchange::BodyError,
    monitor::count::{Count, Workers},
    worker::WorkerId,
};

/// Bytes that each stream may hold whatever the others hold.
const SHARE: usize = 1 << 10;
/// Bytes of the largest piece: those of the largest DATA frame.
const PIECE: usize = 16 << 10;

/// The budget of one connection. All of its streams run on one worker, so its lock is never waited for.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    gauge: Arc<Workers<Count>>,
    worker: WorkerId,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that any stream may take.
    free: usize,
    streams: Vec<Holder>,
    /// Indices of `streams` that stand for no stream.
    vacant: Vec<usize>,
    /// Streams that need room, the first one first.
    waiting: VecDeque<usize>,
    /// The client has taken bytes since the last check.
    has_moved: bool,
}

/// A stream and its pieces.
#[derive(Debug, Default)]
struct Holder {
    /// Bytes of its pieces.
    held: usize,
    is_open: bool,
    /// Its index is in `waiting`, perhaps for the stream that had it before.
    is_queued: bool,
    waker: Option<Waker>,
}

/// An open stream of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    budget: Arc<Budget>,
    index: usize,
}

/// A part of a body on its way to the client. A copy, so that it keeps no larger buffer alive.
#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    budget: Arc<Budget>,
    stream: usize,
}

/// A body that takes from the budget of its connection what it gives to HTTP/2.
#[derive(Debug)]
pub(super) struct Budgeted<B> {
    body: B,
    /// The part of the last chunk that found no room yet.
    rest: Bytes,
    stream: Stream,
    report: Report,
    /// It may rest, by its media type.
    streams: bool,
}

impl Budget {
    /// A budget of `bytes`, of which `gauge` shows those in use.
    pub(super) fn new(bytes: usize, gauge: Arc<Workers<Count>>, worker: WorkerId) -> Self {
        let free = bytes.saturating_sub(MAX_STREAMS as usize * SHARE);
        Self { state: Mutex::new(State { free, ..State::default() }), gauge, worker }
    }

    /// Whether a stream is open, or the client has taken bytes since the last check: a stream whose whole body waits in HTTP/2 is
    /// open no more.
    pub(super) fn is_in_use(&self) -> bool {
        let mut state = self.state();
        mem::take(&mut state.has_moved) || state.streams.iter().any(|holder| holder.is_open)
    }

    pub(super) fn open(self: &Arc<Self>) -> Stream {
        Stream { budget: Arc::clone(self), index: self.state().open() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&mut self) -> usize {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.streams.push(Holder::default());
            self.streams.len() - 1
        });
        self.streams[index].is_open = true;
        index
    }

    /// Takes up to `wanted` bytes for a stream; 0 if it has to wait.
    fn take(&mut self, index: usize, wanted: usize) -> usize {
        let holder = &mut self.streams[index];
        let own = SHARE.saturating_sub(holder.held);
        let taken = wanted.min(own + self.free).min(PIECE);
        // Crumbs cost more than they are worth.
        if taken < wanted.min(SHARE) {
            return 0;
        }
        self.free -= taken.saturating_sub(own);
        holder.held += taken;
        taken
    }

    /// Lets a stream wait for room.
    fn wait(&mut self, index: usize, waker: &Waker) {
        let holder = &mut self.streams[index];
        holder.waker = Some(waker.clone());
        if !holder.is_queued {
            holder.is_queued = true;
            self.waiting.push_back(index);
        }
    }

    /// Gives bytes of a stream back. Returns the waker of that stream, since its own share has room.
    fn give_back(&mut self, index: usize, bytes: usize) -> Option<Waker> {
        let holder = &mut self.streams[index];
        let beyond = holder.held.saturating_sub(SHARE);
        holder.held -= bytes;
        self.free += beyond - holder.held.saturating_sub(SHARE);
        self.has_moved = true;
        let waker = holder.waker.take();
        self.vacate(index);
        waker
    }

    fn close(&mut self, index: usize) {
        let holder = &mut self.streams[index];
        holder.is_open = false;
        holder.waker = None;
        self.vacate(index);
    }

    fn vacate(&mut self, index: usize) {
        let holder = &mut self.streams[index];
        if !holder.is_open && holder.held == 0 {
            *holder = Holder { is_queued: holder.is_queued, ..Holder::default() };
            self.vacant.push(index);
        }
    }

    /// The waker of the first stream that waits, if there is room for it. A stream that takes room passes the turn on.
    fn next(&mut self) -> Option<Waker> {
        while self.free >= SHARE {
            let holder = &mut self.streams[self.waiting.pop_front()?];
            holder.is_queued = false;
            // A stream that has been woken, or has ended, has none.
            if let Some(waker) = holder.waker.take() {
                return Some(waker);
            }
        }
        None
    }
}

impl Stream {
    /// Moves a part of `rest` into a piece, once there is room.
    fn poll_take(&self, rest: &mut Bytes, cx: &Context<'_>) -> Poll<Bytes> {
        let mut state = self.budget.state();
        let taken = state.take(self.index, rest.len());
        if taken == 0 {
            state.wait(self.index, cx.waker());
            return Poll::Pending;
        }
        let next = state.next();
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
        if let Some(gauge) = self.budget.gauge.of(self.budget.worker) {
            gauge.add(taken as u64);
        }
        let bytes = rest[..taken].into();
        rest.advance(taken);
        Poll::Ready(Bytes::from_owner(Piece { bytes, budget: Arc::clone(&self.budget), stream: self.index }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.close(self.index);
        // The turn may have been this stream's.
        let next = state.next();
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(gauge) = self.budget.gauge.of(self.budget.worker) {
            gauge.subtract(self.bytes.len() as u64);
        }
        let mut state = self.budget.state();
        let woken = [state.give_back(self.stream, self.bytes.len()), state.next()];
        drop(state);
        woken.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<B> Budgeted<B> {
    /// `streams` says whether the body may rest.
    pub(super) fn new(body: B, streams: bool, stream: Stream, report: Report) -> Self {
        Self { body, rest: Bytes::new(), stream, report, streams }
    }
}

impl<B: HttpBody<Data = Bytes, Error = BodyError> + Unpin> HttpBody for Budgeted<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            let Poll::Ready(polled) = Pin::new(&mut this.body).poll_frame(cx) else {
                this.report.waits();
                return Poll::Pending;
            };
            match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => this.rest = chunk,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        // Also while there is no room, which its client could make.
        this.report.gives(0, this.streams);
        let piece = ready!(this.stream.poll_take(&mut this.rest, cx));
        this.report.gives(piece.len(), this.streams);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut size, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = size.upper() {
            size.set_upper(upper + rest);
        }
        size.set_lower(size.lower() + rest);
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(free: usize) -> State {
        State { free, ..State::default() }
    }

    #[test]
    fn one_stream_may_take_all_that_is_free_and_its_share() {
        let mut state = state(100 << 10);
        let stream = state.open();
        let mut taken = 0;
        loop {
            match state.take(stream, 1 << 20) {
                0 => break,
                bytes => taken += bytes,
            }
        }
        assert_eq!(taken, (100 << 10) + SHARE);
        state.give_back(stream, taken);
        assert_eq!(state.free, 100 << 10);
    }

    #[test]
    fn a_stream_has_its_share_where_others_have_taken_all_the_rest() {
        let mut state = state(PIECE);
        let [greedy, late] = [state.open(), state.open()];
        while state.take(greedy, PIECE) > 0 {}
        assert_eq!((state.take(late, PIECE), state.take(late, PIECE)), (SHARE, 0));
        state.give_back(late, SHARE);
        assert_eq!((state.take(late, PIECE), state.free), (SHARE, 0));
    }

    #[test]
    fn room_wakes_the_stream_that_waits_longest_and_no_stream_that_has_ended() {
        let mut state = state(PIECE);
        let [greedy, ended, first, second] = [state.open(), state.open(), state.open(), state.open()];
        while state.take(greedy, PIECE) > 0 {}
        for stream in [ended, first, second, first] {
            state.wait(stream, Waker::noop());
        }
        state.close(ended);
        assert!(state.next().is_none(), "there is no room");
        state.give_back(greedy, PIECE);
        assert!(state.next().is_some());
        assert!(state.streams[first].waker.is_none() && state.streams[second].waker.is_some());
        assert_eq!(state.waiting, [second]);
    }

    #[test]
    fn the_place_of_a_stream_is_free_once_it_has_ended_and_holds_nothing() {
        let mut state = state(PIECE);
        let stream = state.open();
        let taken = state.take(stream, PIECE);
        state.close(stream);
        assert_ne!(state.open(), stream, "its bytes are under way");
        state.give_back(stream, taken);
        assert_eq!(state.open(), stream);
    }
}
