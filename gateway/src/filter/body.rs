//! What a filter does with a body: decide on the whole of it, or change it, and the fields after it, while it passes.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Failed, Filter, Instead, OnError, Version};
use crate::{
    exchange::{
        Body, Exchange, RequestHead, RequestId, ResponseHead,
        body::{BodyError, Cut, RequestError, Uncollected, Whole},
        headers::set_length,
        representation::{content_changes, content_replaced},
        trailers::retain_allowed,
    },
    plugin::{Admission, Caller, Cause, Failure, Given, Handles, Outcome, Output, Passing, Phase, Verdict},
    worker::WorkerId,
};

/// The phases that a body meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    whole: Phase,
    stream: Phase,
    trailers: Phase,
}

pub(super) const REQUEST: Side =
    Side { whole: Phase::RequestBody, stream: Phase::RequestStream, trailers: Phase::RequestTrailers };
pub(super) const RESPONSE: Side =
    Side { whole: Phase::ResponseBody, stream: Phase::ResponseStream, trailers: Phase::ResponseTrailers };

impl Side {
    /// The head that its bodies belong to.
    fn headers<'a>(self, request: &'a mut RequestHead, response: &'a mut ResponseHead) -> &'a mut HeaderMap {
        if self.whole == Phase::RequestBody { &mut request.headers } else { &mut response.headers }
    }
}

/// A body that a filter wanted as a whole did not come, which is not the filter's doing.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("the body of the request did not come in time")]
    SlowRequest,
    #[error(transparent)]
    BrokenRequest(RequestError),
    #[error("the body of the response did not come in time")]
    SlowResponse,
    #[error("the service broke off in the middle of its answer: {0}")]
    BrokenResponse(BodyError),
    /// Another filter failed in the middle of the response.
    #[error(transparent)]
    CutResponse(Cut),
}

/// Why a filter stopped in the middle of a body.
enum Stop {
    /// The body did.
    Broken(BodyError),
    Failed(Failure),
}

/// What came of it, and what the filter left of the body.
type Passed = (Outcome, Option<Passing>);
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Filter {
    /// Runs its phases on a body: the one for the whole now, the others as it passes.
    pub(super) async fn body(
        self: &Arc<Self>,
        caller: Caller<'_>,
        side: Side,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Option<Instead> {
        let (version, _) = self.version(caller.worker, exchange, slot)?;
        let has = |phase| version.instances.has(phase);
        let (whole, stream) = (has(side.whole), has(side.stream));
        if !(whole || stream || has(side.trailers)) {
            return None;
        }
        if side.whole == Phase::ResponseBody && is_bodyless(exchange) {
            // RFC 9110 §8.6: a length tells what GET would have got, and nobody knows that now.
            let as_get = exchange.head_only || exchange.response.status == StatusCode::NOT_MODIFIED;
            if as_get && (whole || stream) {
                exchange.response.headers.remove(CONTENT_LENGTH);
                let changed = if whole { content_replaced } else { content_changes };
                changed(&mut exchange.response.headers, &exchange.filters[slot].described);
                // Otherwise the head would get the length of a body that the gateway made, before the filter.
                *body = Body::Empty;
            }
            return None;
        }
        if whole && let Some(instead) = Box::pin(self.decide(caller, side.whole, exchange, slot, body)).await {
            return Some(instead);
        }
        // A revision on trial that has failed at the whole body is not that of the rest.
        let (version, _) = self.version(caller.worker, exchange, slot)?;
        let has = |phase| version.instances.has(phase) && !body.is_empty();
        let (stream, trailers) = (has(side.stream), has(side.trailers));
        let mut admission = None;
        if stream {
            // Before the head goes on: a filter without room for the body can still be answered for.
            match Box::pin(version.instances.admit(caller.worker, exchange.single_client())).await {
                Ok(admitted) => admission = Some(admitted),
                Err(failure) => {
                    version.record.count(caller.worker, side.stream, Err(&failure));
                    if let Some(instead) = self.on_failure(side.stream, failure, &exchange.id) {
                        return Some(instead);
                    }
                }
            }
        }
        if let Some(admission) = admission {
            let kept = exchange.filters[slot].kept.clone();
            let part = Part::new(self, version, caller, side.stream, exchange);
            content_changes(
                side.headers(&mut exchange.request, &mut exchange.response),
                &exchange.filters[slot].described,
            );
            let mut streamed = Box::pin(Streamed::new(part, admission, kept, std::mem::take(body)));
            if side.stream == Phase::ResponseStream {
                exchange.response.headers.remove(CONTENT_LENGTH);
                // The head is not under way yet: a filter that fails before it waits for the body is answered for.
                if let Err(stop) = streamed.begin().await {
                    return Some(self.instead_of(stop, side.stream));
                }
            }
            *body = Body::Changed(streamed);
        }
        if trailers {
            let part = Part::new(self, version, caller, side.trailers, exchange);
            *body = Body::changed(Trailers { part, body: std::mem::take(body), work: None });
        }
        None
    }

    /// Collects a body and lets the filter decide on it.
    async fn decide(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Option<Instead> {
        let whole = match self.collect(caller, phase, exchange, slot, body).await {
            Ok(whole) => whole,
            Err(instead) => return instead,
        };
        let result = self.call(caller, phase, Given::Body(whole.bytes.clone()), exchange, slot).await;
        *body = whole.into();
        match result {
            Ok(Verdict::Replace(bytes)) => {
                let headers = match phase {
                    Phase::RequestBody => &mut exchange.request.headers,
                    _ => &mut exchange.response.headers,
                };
                content_replaced(headers, &exchange.filters[slot].described);
                set_length(headers, bytes.len() as u64);
                *body = Body::from(bytes);
                None
            }
            Ok(Verdict::Respond(answer)) => Some(Instead::Answer(answer)),
            Ok(_) => None,
            Err(failure) => self.on_failure(phase, failure, &exchange.id),
        }
    }

    /// Reads a body for the filter; without an answer in its place the exchange goes on without the filter.
    pub(super) async fn collect(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Result<Whole, Option<Instead>> {
        let Some((version, _)) = self.version(caller.worker, exchange, slot) else { return Err(None) };
        let limits = version.instances.limits();
        match std::mem::take(body).collect(limits.body, limits.body_timeout).await {
            Ok(whole) => Ok(whole),
            Err(Uncollected::TooLarge(unread)) => {
                let failure =
                    Failure::new(Cause::Body, format!("the body has more than {} bytes (limits.body)", limits.body));
                version.record.count(caller.worker, phase, Err(&failure));
                // If the exchange is answered otherwise, who answers finds what is left of it here.
                *body = unread;
                Err(self.on_failure(phase, failure, &exchange.id))
            }
            Err(uncollected) => Err(Some(Instead::Unread(unread(phase, uncollected)))),
        }
    }

    fn instead_of(&self, stop: Stop, phase: Phase) -> Instead {
        match stop {
            Stop::Broken(error) => Instead::Unread(unread(Phase::ResponseBody, Uncollected::Broken(error))),
            Stop::Failed(failure) => Instead::Failed(Failed { plugin: Arc::clone(&self.plugin), phase, failure }),
        }
    }

    fn cut(&self, failure: &Failure) -> BodyError {
        let (by, cause) = (Arc::clone(&self.plugin), failure.cause.as_str());
        BodyError::Cut(Cut { by, cause, message: failure.message.as_str().into() })
    }
}

/// RFC 9110 §6.4.1, §15.3.6: answers that have no body whatever their head says.
fn is_bodyless(exchange: &Exchange) -> bool {
    let status = exchange.response.status;
    let bodyless = matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    );
    exchange.head_only || bodyless
}

fn unread(phase: Phase, why: Uncollected) -> Unread {
    match (phase, why) {
        (Phase::ResponseBody, Uncollected::Broken(BodyError::Cut(cut))) => Unread::CutResponse(cut),
        (Phase::ResponseBody, Uncollected::Broken(BodyError::Stalled(_))) => Unread::SlowResponse,
        (Phase::ResponseBody, Uncollected::Broken(error)) => Unread::BrokenResponse(error),
        (Phase::ResponseBody, Uncollected::TooSlow | Uncollected::TooLarge(_)) => Unread::SlowResponse,
        (_, Uncollected::Broken(error)) => Unread::BrokenRequest(RequestError::of(&error)),
        (_, Uncollected::TooSlow | Uncollected::TooLarge(_)) => Unread::SlowRequest,
    }
}

/// The part of a filter in a body, which outlives the call that began it.
struct Part {
    filter: Arc<Filter>,
    version: Version,
    worker: WorkerId,
    handles: Arc<Handles>,
    phase: Phase,
    id: RequestId,
    via: Option<HeaderValue>,
}

impl Part {
    fn new(filter: &Arc<Filter>, version: &Version, caller: Caller<'_>, phase: Phase, exchange: &Exchange) -> Self {
        let (filter, handles) = (Arc::clone(filter), Arc::clone(caller.handles));
        let (version, id, via) = (version.clone(), exchange.id.clone(), exchange.via.clone());
        Self { filter, version, worker: caller.worker, handles, phase, id, via }
    }

    /// It is over; a failure is told.
    fn ended(&self, outcome: Outcome) -> Result<Verdict, Failure> {
        self.version.record.ended(self.worker, self.phase, &outcome);
        outcome.result.inspect_err(|failure| {
            self.filter.note(&self.version, failure);
            self.filter.tell(self.phase, failure, Some(&self.id));
        })
    }
}

/// A body in the hands of a filter: it runs whenever somebody wants the next piece, and not otherwise.
struct Streamed {
    part: Part,
    work: Option<Work<Passed>>,
    output: Output,
    /// Pieces went on.
    written: bool,
    /// What the filter has left, once it is done.
    piece: Bytes,
    rest: Body,
    trailers: Option<HeaderMap>,
}

impl Streamed {
    fn new(part: Part, admission: Admission, kept: Bytes, body: Body) -> Self {
        let output = Output::default();
        let passing = Passing::new(part.id.clone(), part.via.clone(), kept, body, output.clone());
        let (phase, handles) = (part.phase, Arc::clone(&part.handles));
        let work = async move { admission.pass(phase, passing, &handles).await };
        let (written, piece, rest, trailers) = Default::default();
        Self { part, work: Some(Box::pin(work)), output, written, piece, rest, trailers }
    }

    /// Runs the filter until it waits for the body, has written something or is done. A filter that computes, waits for an instance
    /// or makes a call is not there yet.
    async fn begin(&mut self) -> Result<(), Stop> {
        poll_fn(|cx| match self.turn(cx) {
            Poll::Pending if self.output.has_begun() => Poll::Ready(Ok(())),
            polled => polled,
        })
        .await
    }

    /// Lets the filter go on until it has to wait or is done.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let Some(work) = &mut self.work else { return Poll::Ready(Ok(())) };
        let (outcome, passing) = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(self.ended(outcome, passing))
    }

    /// The filter is done, one way or the other.
    fn ended(&mut self, outcome: Outcome, passing: Option<Passing>) -> Result<(), Stop> {
        let (mut begun, mut broken) = (true, None);
        if let Some(passing) = passing {
            (begun, broken) = (passing.begun, passing.broken);
            (self.piece, self.rest, self.trailers) = (passing.piece, passing.body, passing.trailers);
        }
        if let Some(broken) = broken {
            return Err(Stop::Broken(broken));
        }
        let Err(failure) = self.part.ended(outcome) else { return Ok(()) };
        // What was read or written cannot be taken back.
        if self.part.filter.on_error == OnError::Open && !begun && !self.written {
            return Ok(());
        }
        Err(Stop::Failed(failure))
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.output.take() {
                this.written = true;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.work.is_none() {
                break;
            }
            match this.turn(cx) {
                // It may have written before it had to wait.
                Poll::Pending if this.output.is_empty() => return Poll::Pending,
                Poll::Ready(Err(Stop::Broken(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Err(Stop::Failed(failure))) => {
                    return Poll::Ready(Some(Err(this.part.filter.cut(&failure))));
                }
                _ => {}
            }
        }
        if !this.piece.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.piece)))));
        }
        match this.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_left = self.output.is_empty() && self.piece.is_empty() && self.trailers.is_none();
        self.work.is_none() && nothing_left && self.rest.is_end_stream()
    }
}

/// A body whose last fields a filter sees.
struct Trailers {
    part: Part,
    body: Body,
    /// With the fields as they came.
    work: Option<(HeaderMap, Work<Outcome>)>,
}

impl Trailers {
    fn begin(&mut self, trailers: HeaderMap) {
        let Part { version, worker, handles, phase, id, via, .. } = &self.part;
        let (instances, handles, worker) = (Arc::clone(&version.instances), Arc::clone(handles), *worker);
        let (phase, id, via, given) = (*phase, id.clone(), via.clone(), Given::Trailers(trailers.clone().into()));
        let work = async move {
            let caller = Caller { worker, handles: &handles };
            instances.alone(caller, phase, given, Some(&id), via.as_ref()).await
        };
        self.work = Some((trailers, Box::pin(work)));
    }

    fn ended(&self, before: HeaderMap, outcome: Outcome) -> Result<HeaderMap, BodyError> {
        match self.part.ended(outcome) {
            Ok(Verdict::Trailers(mut after)) => {
                retain_allowed(&mut after);
                Ok(*after)
            }
            Ok(_) => Ok(before),
            Err(_) if self.part.filter.on_error == OnError::Open => Ok(before),
            Err(failure) => Err(self.part.filter.cut(&failure)),
        }
    }
}

impl HttpBody for Trailers {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some((_, work)) = &mut this.work {
                let outcome = ready!(work.as_mut().poll(cx));
                let before = this.work.take().map(|(before, _)| before).unwrap_or_default();
                return match this.ended(before, outcome) {
                    Ok(after) if after.is_empty() => Poll::Ready(None),
                    Ok(after) => Poll::Ready(Some(Ok(Frame::trailers(after)))),
                    Err(error) => Poll::Ready(Some(Err(error))),
                };
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => this.begin(frame.into_trailers().unwrap_or_default()),
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.work.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
