//! WebSockets (RFC 6455): a request that asks for one meets route and filters as any other; once the service agrees, bytes
//! pass both ways, unread, until either side ends it. It holds no snapshot and no plugin, so that neither reload waits for
//! it.

use std::{cell::Cell, pin::pin, time::Duration};

use http::{Method, Request, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    time::{Instant, sleep_until},
};
use tokio_util::io::{InspectReader, InspectWriter};

use super::ending::Ending;
use crate::{exchange::headers::names_websocket, socket, upstream::Lease};

/// Both connections of a WebSocket, before they are that.
#[derive(Debug)]
pub struct Tunnel {
    client: OnUpgrade,
    service: OnUpgrade,
    /// It counts as under way at its endpoint.
    lease: Lease,
    ending: Option<Box<Ending>>,
}

pub(super) fn asked(request: &Request<impl Body>) -> bool {
    let may = request.version() == Version::HTTP_11 && request.method() == Method::GET;
    may && names_websocket(request.headers()) && request.body().is_end_stream()
}

impl Tunnel {
    pub(super) fn new(client: OnUpgrade, service: OnUpgrade, lease: Lease) -> Self {
        Self { client, service, lease, ending: None }
    }

    /// Its end is the end of the exchange.
    pub(super) fn told_by(&mut self, ending: Box<Ending>) {
        self.ending = Some(ending);
    }

    /// Runs until both directions have ended, or one has failed, or neither has passed a byte for `stream_idle_timeout`.
    pub(crate) async fn run(self: Box<Self>) {
        let Self { client, service, lease, ending: Some(mut ending) } = *self else { return };
        let peer = &ending.exchange.client.peer;
        peer.set_streams(true);
        let limit = peer.limits().stream_idle_timeout.min(lease.progress().stream_idle_timeout);
        // A client that has left before is told of by the end of its exchange.
        let Ok(client) = client.await.map(TokioIo::new) else { return };
        let mut service = match service.await {
            Ok(service) => TokioIo::new(service),
            Err(error) => return ending.broke_off(&error.into()),
        };
        // Either side may end it at any time, and by just leaving: that is nobody's fault.
        ending.whole();
        let received = ending.received();
        let last = Cell::new(Instant::now());
        let idle = pin!(idle(&last, limit));
        let ended = {
            let counted = InspectReader::new(client, |bytes: &[u8]| {
                received.count(bytes.len());
                last.set(Instant::now());
            });
            let mut client = InspectWriter::new(counted, |bytes: &[u8]| {
                ending.sent(bytes.len());
                last.set(Instant::now());
            });
            tokio::select! {
                copied = copy_bidirectional(&mut client, &mut service) => Some(copied),
                () = idle => None,
            }
        };
        match ended {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!("a WebSocket ended: {error}");
                ending.tunnel_broke_off(socket::stalled(&error));
            }
            None => ending.idle(limit),
        }
    }
}

/// Ends once nothing has passed for `limit`.
async fn idle(last: &Cell<Instant>, limit: Duration) {
    loop {
        let end = last.get() + limit;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}
