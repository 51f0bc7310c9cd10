//! Bytes of response bodies that an HTTP/2 connection may hold until its client has taken them.
//!
//! hyper hands a body to HTTP/2 piece by piece, whatever the client's windows are: the budget bounds the pieces. Each stream has
//! a share of its own, so that streams whose windows are closed cannot starve the others; the rest is for any stream. As it knows
//! which streams hold bytes, it also checks them (`stream.rs`).

use std::{
    cell::{RefCell, RefMut},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep, sleep},
};

use super::{
    MAX_STREAMS,
    resets::Resets,
    stream::{Taking, Traffic},
};
use crate::{
    monitor::count::{Count, Workers},
    progress::{Limits, Peer},
    worker::WorkerId,
};

/// Bytes that each stream may hold whatever the others hold.
const SHARE: usize = 1 << 10;
/// Bytes of the largest piece: those of the largest DATA frame.
const PIECE: usize = 16 << 10;

/// The budget of one connection, and the streams that take from it.
#[derive(Debug)]
pub(super) struct Budget {
    state: RefCell<State>,
    gauge: Arc<Workers<Count>>,
    worker: WorkerId,
}

#[derive(Debug)]
struct State {
    /// Bytes that any stream may take.
    free: usize,
    /// Bytes that all streams hold.
    held: usize,
    streams: Vec<Holder>,
    /// Indices of `streams` that stand for no stream.
    vacant: Vec<usize>,
    /// Index of the stream that was opened last.
    newest: usize,
    /// Streams that need room, the first one first.
    waiting: VecDeque<usize>,
    traffic: Traffic,
    resets: Resets,
    /// The task of the connection, where it waits for bytes to be held or for resets.
    connection: Option<Waker>,
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
    /// The task that serves it.
    task: Option<AbortHandle>,
    /// Its response may rest, by its media type.
    streams: bool,
    taking: Taking,
    /// It ends because its client takes too little.
    is_stalled: bool,
}

/// An open stream of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    budget: Rc<Budget>,
    index: usize,
    is_answered: bool,
}

/// A part of a body on its way to the client. A copy, so that it keeps no larger buffer alive.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Box<[u8]>,
    /// Bytes that have gone to the socket.
    taken: usize,
    number: u64,
    budget: Rc<Budget>,
    stream: usize,
}

/// The time of the next check of a connection's streams. It runs while bytes are held.
#[derive(Debug, Default)]
pub(super) struct Clock {
    timer: Option<Pin<Box<Sleep>>>,
    /// The last check.
    last: Option<Instant>,
}

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("too many resets")]
    Resets,
    /// The stream cannot be reset, since its task has ended (`body.rs`).
    #[error("the client takes too little of a stream that has ended")]
    Stalled,
}

/// The result of a check.
#[derive(Debug, Default)]
struct Check {
    /// Tasks of stalled streams.
    stalled: Vec<AbortHandle>,
    /// A stream is stalled that has no task any more.
    is_stuck: bool,
    /// All that is held is of responses that may rest.
    may_rest: bool,
}

impl Budget {
    /// A budget of `bytes`, of which `gauge` shows those in use.
    pub(super) fn new(bytes: usize, resets: u32, gauge: Arc<Workers<Count>>, worker: WorkerId) -> Self {
        let free = bytes.saturating_sub(MAX_STREAMS as usize * SHARE);
        Self { state: RefCell::new(State::new(free, resets)), gauge, worker }
    }

    /// Whether a stream is open, or bytes of one that was are on their way.
    pub(super) fn is_in_use(&self) -> bool {
        self.state().in_use() > 0
    }

    pub(super) fn open(self: &Rc<Self>) -> Stream {
        Stream { budget: Rc::clone(self), index: self.state().open(), is_answered: false }
    }

    /// Sets the task that serves the stream that was opened last.
    pub(super) fn served_by(&self, task: AbortHandle) {
        let mut state = self.state();
        let newest = state.newest;
        state.streams[newest].task = Some(task);
    }

    /// Checks the streams of the client from time to time, and ends those whose client takes too little. Waits until the
    /// connection has to end; it may be waited for again then.
    pub(super) fn poll_excess(&self, clock: &mut Clock, peer: &Peer, cx: &mut Context<'_>) -> Poll<Excess> {
        if self.state().resets.take_excess() {
            return Poll::Ready(Excess::Resets);
        }
        let limits = peer.limits();
        let interval = limits.pace(false).check_interval().min(limits.pace(true).check_interval());
        loop {
            let mut state = self.state();
            if state.connection.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                state.connection = Some(cx.waker().clone());
            }
            if state.held == 0 {
                if clock.last.take().is_some() {
                    peer.set_streams(false);
                }
                return Poll::Pending;
            }
            drop(state);
            let timer = clock.timer.get_or_insert_with(|| Box::pin(sleep(interval)));
            let Some(last) = clock.last else {
                clock.last = Some(Instant::now());
                timer.as_mut().reset(Instant::now() + interval);
                continue;
            };
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            timer.as_mut().reset(now + interval);
            clock.last = Some(now);
            // A worker that was late itself is no fault of the client's.
            let time = (now - last).min(2 * interval);
            let check = self.state().check(time, peer.take_blocked(), limits);
            peer.set_streams(check.may_rest);
            check.stalled.iter().for_each(AbortHandle::abort);
            if check.is_stuck {
                return Poll::Ready(Excess::Stalled);
            }
        }
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl State {
    fn new(free: usize, resets: u32) -> Self {
        Self {
            free,
            held: 0,
            streams: Vec::new(),
            vacant: Vec::new(),
            newest: 0,
            waiting: VecDeque::new(),
            traffic: Traffic::default(),
            resets: Resets::new(resets),
            connection: None,
        }
    }

    /// Streams that are open or hold bytes.
    fn in_use(&self) -> usize {
        self.streams.len() - self.vacant.len()
    }

    fn open(&mut self) -> usize {
        self.resets.opened(self.in_use());
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.streams.push(Holder::default());
            self.streams.len() - 1
        });
        self.streams[index].is_open = true;
        self.newest = index;
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
        if holder.held == 0 {
            holder.taking.begin(&self.traffic);
        }
        self.free -= taken.saturating_sub(own);
        holder.held += taken;
        self.held += taken;
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
        self.held -= bytes;
        if holder.held == 0 {
            holder.taking.rest();
        }
        let waker = holder.waker.take();
        self.vacate(index);
        waker
    }

    /// Closes a stream. Returns the task of the connection if it has to look at the resets.
    fn close(&mut self, index: usize, is_answered: bool) -> Option<Waker> {
        let open = self.in_use();
        let holder = &mut self.streams[index];
        holder.is_open = false;
        holder.waker = None;
        holder.task = None;
        self.vacate(index);
        if is_answered {
            return None;
        }
        self.resets.reset(open);
        self.connection.clone()
    }

    /// Ends an interval of so much time; `is_blocked` says whether the socket was full in it.
    fn check(&mut self, time: Duration, is_blocked: bool, limits: &Limits) -> Check {
        let all = self.traffic.end_interval();
        let mut check = Check { may_rest: true, ..Check::default() };
        for holder in self.streams.iter_mut().filter(|holder| holder.held > 0) {
            check.may_rest &= holder.streams;
            // While the connection is the bound, the socket watches it.
            if is_blocked {
                holder.taking.end_interval();
                continue;
            }
            if holder.taking.check(time, all, &self.traffic, &limits.pace(holder.streams)).is_ok() {
                continue;
            }
            match &holder.task {
                Some(task) => {
                    holder.is_stalled = true;
                    check.stalled.push(task.clone());
                }
                None => {
                    holder.taking.forgive();
                    check.is_stuck = true;
                }
            }
        }
        check
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
    /// The answer of the stream begins; `streams` says whether it may rest.
    pub(super) fn answered(&mut self, streams: bool) {
        self.is_answered = true;
        self.budget.state().streams[self.index].streams = streams;
    }

    /// Moves a part of `rest` into a piece, once there is room.
    pub(super) fn poll_take(&self, rest: &mut Bytes, cx: &Context<'_>) -> Poll<Piece> {
        let mut state = self.budget.state();
        let is_first = state.held == 0;
        let taken = state.take(self.index, rest.len());
        if taken == 0 {
            state.wait(self.index, cx.waker());
            return Poll::Pending;
        }
        let number = state.traffic.next_piece();
        let next = state.next();
        // It is woken for the piece in any case, unless the windows are closed.
        let connection = state.connection.take_if(|_| is_first);
        drop(state);
        [next, connection].into_iter().flatten().for_each(Waker::wake);
        if let Some(gauge) = self.budget.gauge.of(self.budget.worker) {
            gauge.add(taken as u64);
        }
        let bytes = rest[..taken].into();
        rest.advance(taken);
        Poll::Ready(Piece { bytes, taken: 0, number, budget: Rc::clone(&self.budget), stream: self.index })
    }

    /// Waits until the client has taken all pieces.
    pub(super) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let holder = &mut self.budget.state().streams[self.index];
        if holder.held == 0 {
            return Poll::Ready(());
        }
        holder.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn holds(&self) -> bool {
        self.budget.state().streams[self.index].held > 0
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.budget.state().streams[self.index].is_stalled
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let connection = state.close(self.index, self.is_answered);
        // The turn may have been this stream's.
        let next = state.next();
        drop(state);
        [connection, next].into_iter().flatten().for_each(Waker::wake);
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn advance(&mut self, bytes: usize) {
        self.taken += bytes;
        let state = &mut *self.budget.state();
        state.streams[self.stream].taking.take(self.number, bytes, &mut state.traffic);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(free: usize) -> State {
        State::new(free, 0)
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
        state.close(ended, true);
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
        state.close(stream, true);
        assert_ne!(state.open(), stream, "its bytes are under way");
        state.give_back(stream, taken);
        assert_eq!(state.open(), stream);
    }
}
