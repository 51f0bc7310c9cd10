//! From what a client sent to an exchange: its head gets its one form, what belongs to its connection is taken off.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Uri, Version, uri::PathAndQuery};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{task::spawn_local, time::timeout};

use super::{Proxy, upgrade};
use crate::{
    exchange::{
        Body, Client, Exchange, Refusal, RequestHead, RequestId, ResponseHead, TRACEPARENT,
        body::may_rest,
        canonical::{canonical, check_coding, servable},
        headers::{self, Seen},
        id::X_REQUEST_ID,
        path::strip_prefix,
    },
    snapshot::Snapshot,
};

/// How much of an unwanted body is read, and for how long.
const DISCARD_BYTES: usize = 256 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Always an exchange, since a refusal needs one to be answered on; with why it is refused, if it is.
pub(super) fn exchange(
    mut request: Request<Incoming>,
    client: Arc<Client>,
    proxy: &Proxy,
    snapshot: &Snapshot,
) -> (Exchange, Body, Option<OnUpgrade>, Option<Refusal>) {
    // The streams of HTTP/2 are of one peer: its budget knows which of them may rest.
    if request.version() != Version::HTTP_2 {
        client.peer.set_streams(false);
    }
    let seen = Seen::of(request.headers());
    let websocket = seen.hop_by_hop && upgrade::asked(&request);
    let upgrade = websocket.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let unframed = parts.extensions.remove::<Refusal>().map_or(Ok(()), Err);
    let own_id = seen.request_id.then(|| RequestId::from_client(&parts.headers)).flatten();
    let id = own_id.unwrap_or_else(|| proxy.ids.borrow_mut().draw());
    let trace = seen.trace.then(|| parts.headers.get(TRACEPARENT).cloned()).flatten();
    // Neither a stream nor a body before trailers has a known length.
    let has_trailers = body.size_hint().exact().is_none();
    let streams = has_trailers && may_rest(&parts.headers);
    let body = Body::of_client(body, client.peer.limits().pace(streams), &client.dropped);
    let names_a_path = parts.uri.path_and_query().is_some();
    let head_only = parts.method == Method::HEAD;
    let mut head = RequestHead {
        method: parts.method,
        target: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        authority: parts.uri.authority().cloned(),
        version: parts.version,
        websocket,
        streams,
        guard: None,
        headers: parts.headers,
    };
    let sound = unframed
        .and_then(|()| servable(&head, names_a_path))
        .and_then(|()| if seen.hop_by_hop { check_coding(&head.headers) } else { Ok(()) })
        .and_then(|()| canonical(&mut head, &mut proxy.last_host.borrow_mut()));
    let (encoded_slash, mut refused) = match sound {
        // Of HTTP/1.1 hyper counts them; crumbs of a cookie are one field.
        Ok(_) if head.headers.len() > client.header_count => (false, Some(Refusal::TooManyFields(client.header_count))),
        Ok(encoded_slash) => (encoded_slash, None),
        Err(error) => (false, Some(error)),
    };
    if seen.length && body.is_end_stream() {
        headers::set_length(&mut head.headers, 0);
    }
    if seen.via && proxy.via.is_loop(&head.headers) {
        refused = Some(Refusal::Loop(proxy.via.max_passes()));
    }
    // Entries of strangers stay: without them a loop over several gateways would be invisible.
    let via = seen.via.then(|| proxy.via.with_entry(&head.headers, head.version));
    if seen.hop_by_hop {
        headers::remove_hop_by_hop(&mut head.headers);
    }
    if seen.underscored || has_trailers {
        client.guard_names(&mut head, has_trailers, |name| snapshot.names_read.contains(name));
    }
    let entries = via.clone().unwrap_or_else(|| proxy.via.entry(head.version).clone());
    let forwarded_for = headers::set_forwarded(&mut head, &client, seen, entries);
    head.headers.insert(X_REQUEST_ID, id.to_value());
    let mut exchange = begun(id, client, head);
    exchange.forwarded_for = forwarded_for;
    exchange.via = via;
    exchange.trace = trace;
    exchange.head_only = head_only;
    exchange.encoded_slash = encoded_slash;
    (exchange, body, upgrade, refused)
}

/// The exchange of a request that could not be parsed: what its first line says, as far as that is a request line.
pub(super) fn unparsed(client: Arc<Client>, line: Option<&str>, proxy: &Proxy) -> Exchange {
    let mut head = RequestHead::default();
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    if let [method, target, version] = words[..]
        && version.starts_with("HTTP/")
        && let Ok(method) = method.parse()
        && let Some(target) = target.parse::<Uri>().ok().and_then(|uri| uri.path_and_query().cloned())
    {
        head.method = method;
        head.target = target;
    }
    begun(proxy.ids.borrow_mut().draw(), client, head)
}

fn begun(id: RequestId, client: Arc<Client>, request: RequestHead) -> Exchange {
    Exchange {
        id,
        client,
        forwarded_for: None,
        via: None,
        trace: None,
        request,
        head_only: false,
        encoded_slash: false,
        response: ResponseHead::default(),
        consumer: None,
        destination: None,
        filters: Vec::new(),
        notices: Vec::new(),
    }
}

/// Reads the rest of a body that nobody wants, within bounds, so that its connection can be used again: hyper closes one whose request
/// was not read to its end. `linger.rs` sees to it that the client gets its answer before a connection closes.
pub(super) fn discard(mut body: Body) {
    if body.is_empty() {
        return;
    }
    spawn_local(timeout(DISCARD_TIME, async move {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }));
}

/// Takes a route's prefix off the path, whole segments only; a path without it stays.
pub(super) fn rewrite(head: &mut RequestHead, prefix: Option<&str>) {
    let Some(stripped) = prefix.and_then(|prefix| strip_prefix(head.target.as_str(), prefix)) else { return };
    if let Ok(target) = PathAndQuery::from_maybe_shared(Bytes::from(stripped)) {
        head.target = target;
    }
}
