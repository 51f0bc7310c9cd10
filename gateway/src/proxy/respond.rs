//! The answer to the client: the service's, a plugin's, or a problem document of the gateway (RFC 9457).

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Version,
    header::{
        ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
    },
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, ext::ReasonPhrase, upgrade::OnUpgrade};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Error, ending::Ending, upgrade::Tunnel};
use crate::{
    access::Denied,
    exchange::{Body, BodyError, Exchange, ResponseHead, body::may_rest, headers, id::X_REQUEST_ID},
    filter::{Chain, Instead},
    openapi::{Finding, Invalid, listed},
    plugin::{Answer, Caller},
    portal::Page,
    upstream::Lease,
};

/// The body on its way to the client, with what must live as long as it.
#[derive(Debug)]
pub struct Outgoing {
    body: Body,
    /// Given back with the body.
    lease: Option<Lease>,
    ending: Option<Box<Ending>>,
    tunnel: Option<Box<Tunnel>>,
    /// The service's words for its status, if they are not the usual ones.
    reason: Option<Box<(StatusCode, ReasonPhrase)>>,
    /// It may rest, by its media type.
    streams: bool,
    /// Why the body breaks off, at the next poll.
    broken: Option<Box<BodyError>>,
}

impl Outgoing {
    fn new(body: Body) -> Self {
        Self { body, lease: None, ending: None, tunnel: None, reason: None, streams: false, broken: None }
    }

    /// Whether it may rest for long.
    pub(crate) fn streams(&self) -> bool {
        self.streams
    }

    /// What its connection becomes once the head is sent, if that is asked for and agreed to.
    pub(crate) fn tunnel(&mut self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }
}

/// Passes the service's answer on.
pub(super) fn upstream(
    ending: &mut Ending,
    mut response: Response<Incoming>,
    lease: Lease,
    upgrade: Option<OnUpgrade>,
) -> Outgoing {
    ending.sent_to(lease.endpoint());
    let exchange = &mut ending.exchange;
    // One that was not asked for is an error of the service's.
    let agreed = upgrade.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
    let agreed = agreed.map(|client| (client, hyper::upgrade::on(&mut response)));
    let (mut parts, body) = response.into_parts();
    let reason = parts.extensions.remove::<ReasonPhrase>().map(|phrase| Box::new((parts.status, phrase)));
    if let Some((client, service)) = agreed {
        headers::remove_hop_by_hop(&mut parts.headers);
        exchange.response = ResponseHead { status: parts.status, headers: parts.headers };
        let tunnel = Tunnel::new(client, service, lease);
        let mut outgoing = Outgoing::new(Body::Empty);
        outgoing.tunnel = Some(Box::new(tunnel));
        outgoing.reason = reason;
        return outgoing;
    }
    match body.size_hint().exact() {
        Some(length) if length > 0 => headers::set_length(&mut parts.headers, length),
        // RFC 9112 §6.3: with both, the coding counts, and it ends here.
        _ if parts.headers.contains_key(TRANSFER_ENCODING) => drop(parts.headers.remove(CONTENT_LENGTH)),
        _ => {}
    }
    headers::remove_hop_by_hop(&mut parts.headers);
    exchange.response = ResponseHead { status: parts.status, headers: parts.headers };
    let streams = body.size_hint().exact().is_none() && may_rest(&exchange.response.headers);
    exchange.client.peer.set_streams(streams && exchange.request.version != Version::HTTP_2);
    let mut outgoing = Outgoing::new(Body::of_service(body, lease.progress().pace(streams)));
    outgoing.lease = Some(lease);
    outgoing.reason = reason;
    outgoing.streams = streams;
    outgoing
}

/// Puts a filter's answer, or the failure of a filter, in the place of what there was.
pub(super) fn instead(ending: &mut Ending, instead: Instead) -> Outgoing {
    match instead {
        Instead::Answer(answer) => own(&mut ending.exchange, *answer),
        Instead::Refused(refusal) => problem(ending, &Error::Denied(*refusal)),
        Instead::Failed(failed) => problem(ending, &failed.into()),
        Instead::Unread(unread) => problem(ending, &unread.into()),
    }
}

/// Answers with a page that is made already, or tells that the client has it.
pub(super) fn page(ending: &mut Ending, page: &Page) -> Outgoing {
    let exchange = &mut ending.exchange;
    let asked = exchange.request.headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let tag = page.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let is_known = asked.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    own(exchange, Answer { status, headers: page.headers.clone(), body: page.body.clone() })
}

/// Lets an answer meet the filters of a chain in reverse, the gateway's own answers too; one that answers instead is met in
/// its turn.
pub(super) async fn filtered(
    chain: &Chain,
    caller: Caller<'_>,
    ending: &mut Ending,
    first: usize,
    mut answer: Outgoing,
) -> Outgoing {
    let mut left = chain.filters().len();
    while let Some(by) = chain.response(caller, &mut ending.exchange, &mut answer.body, first, &mut left).await {
        answer = instead(ending, by);
    }
    answer
}

/// Answers an error, naming the request but nothing behind the gateway.
pub(super) fn problem(ending: &mut Ending, error: &Error) -> Outgoing {
    ending.failed(error);
    let (meaning, exchange) = (error.meaning(), &mut ending.exchange);
    let mut answer = problem_answer(exchange.id.as_str(), error);
    if meaning.retryable && meaning.status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    match error {
        Error::Denied(refusal) => {
            for challenge in &refusal.challenges {
                answer.headers.append(WWW_AUTHENTICATE, challenge.clone());
            }
        }
        Error::NotAdmitted(Denied::Unknown) => {
            answer.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"api\""));
        }
        Error::NotAdmitted(Denied::Exceeded(exceeded)) => {
            answer.headers.insert(RETRY_AFTER, exceeded.full.reset.into());
        }
        Error::Invalid(Invalid::NoMethod { allowed, .. }) => {
            answer.headers.extend(HeaderValue::from_str(&listed(allowed)).ok().map(|allowed| (ALLOW, allowed)));
        }
        _ => {}
    }
    own(exchange, answer)
}

/// The last step: the head as it goes out.
pub(super) fn finish(mut ending: Box<Ending>, mut body: Outgoing) -> Response<Outgoing> {
    let (is_told, is_logged) = (ending.listeners.is_some(), ending.has_access_log());
    let exchange = &mut ending.exchange;
    let (status, fields) = (exchange.response.status, &mut exchange.response.headers);
    // The log phase of filters sees both heads, the access log that of the request.
    let mut headers = if is_told { fields.clone() } else { mem::take(fields) };
    if !is_told && !is_logged {
        exchange.request.headers = HeaderMap::new();
    }
    headers.insert(X_REQUEST_ID, exchange.id.to_value());
    headers.extend(exchange.notices.drain(..));
    // RFC 9110 §6.4.1: these have no body, and only HTTP/1.1 would have it left out for us.
    if body.tunnel.is_some() {
        headers::set_websocket(&mut headers);
    } else if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
        body.body = Body::Empty;
    } else if status == StatusCode::RESET_CONTENT {
        // RFC 9110 §15.3.6: it has a length of 0, which is what is written for an empty body.
        headers.remove(CONTENT_LENGTH);
        body.body = Body::Empty;
    } else if exchange.head_only || status == StatusCode::NOT_MODIFIED {
        if let Some(length) = body.size_hint().exact().filter(|length| exchange.head_only && *length > 0) {
            headers.entry(CONTENT_LENGTH).or_insert(length.into());
        }
        body.body = Body::Empty;
    } else if body.is_end_stream() {
        headers.remove(CONTENT_LENGTH);
    }
    let ends_connection = exchange.request.version == Version::HTTP_10 && body.size_hint().exact().is_none();
    if ends_connection {
        // RFC 9112 §9.3: the end of the connection is that of the body. Until the body is whole it would be a reset.
        exchange.client.peer.set_reset(true);
    }
    ending.answered();
    match &mut body.tunnel {
        Some(tunnel) => tunnel.told_by(ending),
        None => body.ending = Some(ending),
    }
    let reason = body.reason.take().filter(|reason| reason.0 == status);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if ends_connection {
        // hyper keeps the connection of a client of HTTP/1.0 that asks for it, unless the response is of that version.
        *response.version_mut() = Version::HTTP_10;
    }
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason.1);
    }
    response
}

/// The answer of a worker whose code panicked: all that is left of the exchange is this.
pub(crate) fn panicked() -> Response<Outgoing> {
    let answer = problem_answer("", &Error::Panic);
    let mut response = Response::new(Outgoing::new(answer.body.into()));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

fn own(exchange: &mut Exchange, answer: Answer) -> Outgoing {
    exchange.response = ResponseHead { status: answer.status, headers: answer.headers };
    Outgoing::new(answer.body.into())
}

fn problem_answer(request: &str, error: &Error) -> Answer {
    let status = error.meaning().status;
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": error.detail(),
        "request_id": request,
    });
    if let Error::Invalid(Invalid::Findings(findings)) = error {
        body["errors"] = findings.iter().map(told).collect();
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Answer { status, headers, body: body.to_string().into() }
}

/// As an extension of a problem document has it (RFC 9457 §3).
fn told(Finding { place, name, message }: &Finding) -> Value {
    let key = if *place == "body" { "pointer" } else { "name" };
    json!({ "in": place, key: name, "detail": message })
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.broken.take() {
            Some(error) => Poll::Ready(Some(Err(*error))),
            None => match Pin::new(&mut self.body).poll_frame(cx) {
                // hyper drops what it has not written yet when a body fails, the head included. Between two polls it writes.
                Poll::Ready(Some(Err(error))) => {
                    self.broken = Some(Box::new(error));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                polled => polled,
            },
        };
        if let (Poll::Ready(frame), Some(ending)) = (&polled, &mut self.ending) {
            match frame {
                Some(Ok(frame)) => {
                    ending.sent(frame.data_ref().map_or(0, Bytes::len));
                    // Nothing comes after these, and nobody asks.
                    if frame.is_trailers() {
                        ending.whole();
                    }
                }
                Some(Err(error)) => ending.broke_off(error),
                // The end of a body in chunks is known only here.
                None => ending.whole(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let now = Instant::now();
        if let Some(lease) = self.lease.take() {
            lease.end(now);
        }
        if let Some(ending) = &mut self.ending {
            match &self.broken {
                Some(error) => ending.broke_off(error),
                None if self.body.is_end_stream() => ending.whole(),
                None => {}
            }
            ending.ended(now);
        }
    }
}
