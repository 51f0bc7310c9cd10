//! The end of an exchange, however it comes: it is counted, timed and logged once, when the last of it is let go.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use http::Version;
use tokio::time::Instant;

use super::{
    Error,
    error::{Blame, DESCRIPTORS, REFUSALS},
    log::Listeners,
};
use crate::{
    access::{Usage, Used},
    exchange::{Asked, BodyError, Exchange, body::Transfer},
    monitor::{
        access_log::{AccessLog, Entry},
        record::{Fault, Mishap, RouteRecord},
    },
    plugin::{Summary, one_line},
    progress::Stalled,
    snapshot::{Route, Snapshot},
    worker::WorkerId,
};

/// What metrics and logs show for an exchange whose client left before there was an answer, as is the habit of the field.
const CLIENT_LEFT: u16 = 499;
const LEFT: Fault = Fault { blame: "client", cause: "left" };
const BROKE_OFF: Fault = Fault { blame: "upstream", cause: "reset" };
/// A client that did not send its request, or take its answer, in time.
pub(super) const SLOW_CLIENT: Fault = Fault { blame: "client", cause: "slow-client" };
/// A service that did not send its answer, or take the request, in time.
const STALLED: Fault = Fault { blame: "upstream", cause: "stalled" };
/// A WebSocket that neither side has used for long.
const IDLE: Fault = Fault { blame: "client", cause: "idle" };
const PANIC: Fault = Fault { blame: "gateway", cause: "panic" };

/// An exchange and what is to be told of it. It holds no snapshot and no route, so that a long download keeps no old
/// generation alive.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) exchange: Exchange,
    asked: Asked,
    worker: WorkerId,
    started: Instant,
    record: Arc<RouteRecord>,
    log: Option<Arc<AccessLog>>,
    /// Names of route and service, for the log.
    names: Option<(Arc<str>, Arc<str>)>,
    endpoint: Option<Arc<str>>,
    /// How far it has come.
    answered_after: Option<Duration>,
    /// When the last of it was let go; `None` where nobody has looked at the clock.
    ended: Option<Instant>,
    whole: bool,
    fault: Option<(Fault, Arc<str>)>,
    /// The failed filter has a line of its own in the log.
    is_logged: bool,
    received: Option<Arc<Transfer>>,
    sent: u64,
    /// Of the consumer and the version of an API.
    usage: Option<Arc<Usage>>,
    /// Filters that want to know.
    pub(super) listeners: Option<Box<Listeners>>,
}

impl Ending {
    /// Watches an exchange from its first moment; until it has a route it is counted as having none.
    pub(super) fn of(
        exchange: Exchange,
        received: Option<Arc<Transfer>>,
        worker: WorkerId,
        snapshot: &Snapshot,
    ) -> Box<Self> {
        let asked = Asked { method: exchange.request.method.clone(), target: exchange.request.target.clone() };
        Box::new(Self {
            exchange,
            asked,
            worker,
            started: Instant::now(),
            record: Arc::clone(&snapshot.unrouted),
            log: snapshot.access_log.clone(),
            names: None,
            endpoint: None,
            answered_after: None,
            ended: None,
            whole: false,
            fault: None,
            is_logged: false,
            received,
            sent: 0,
            usage: None,
            listeners: None,
        })
    }

    pub(super) fn routed(&mut self, route: &Route) {
        self.record = Arc::clone(&route.record);
        if self.log.is_some() || self.listeners.is_some() {
            self.names = Some((Arc::clone(&route.name), Arc::clone(&route.service.name)));
        }
    }

    pub(super) fn sent_to(&mut self, endpoint: &Arc<str>) {
        self.endpoint = Some(Arc::clone(endpoint));
    }

    pub(super) fn has_access_log(&self) -> bool {
        self.log.is_some()
    }

    /// It is use of a version of an API.
    pub(super) fn used(&mut self, usage: Arc<Usage>) {
        self.usage = Some(usage);
    }

    pub(super) fn failed(&mut self, error: &Error) {
        if let Error::Upstream(error) = error {
            self.endpoint = error.endpoint().map(|address| address.to_string().into());
        }
        self.is_logged = matches!(error, Error::Filter(_));
        self.fault = Some((error.meaning().fault(), one_line(&error.to_string()).into()));
    }

    /// The head goes out.
    pub(super) fn answered(&mut self) {
        self.answered_after = Some(self.started.elapsed());
    }

    /// A piece of the body goes out.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The transfer of what the client sends.
    pub(super) fn received(&mut self) -> Arc<Transfer> {
        Arc::clone(self.received.get_or_insert_default())
    }

    /// The transfer of the request's body, if it has one.
    pub(super) fn transfer(&self) -> Option<Arc<Transfer>> {
        self.received.clone()
    }

    pub(super) fn whole(&mut self) {
        self.whole = true;
        if self.exchange.request.version == Version::HTTP_10 {
            self.exchange.client.peer.set_reset(false);
        }
    }

    /// The exchange ends at `now`.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// The answer ended in the middle.
    pub(super) fn broke_off(&mut self, error: &BodyError) {
        self.fault = Some(match error {
            // The service had no request to answer.
            BodyError::Broken(_) if self.is_request_stalled() => {
                (SLOW_CLIENT, "the client stopped in the middle of its request".into())
            }
            BodyError::Broken(error) => {
                (BROKE_OFF, format!("the service broke off in the middle of its answer: {error}").into())
            }
            BodyError::Stalled(stalled) => {
                (STALLED, format!("the service stopped in the middle of its answer: {stalled}").into())
            }
            BodyError::Cut(cut) => {
                self.is_logged = true;
                (Fault { blame: Blame::Plugin.as_str(), cause: cut.cause }, cut.to_string().into())
            }
        });
    }

    /// A tunnel failed; `stalled` if one side took no bytes.
    pub(super) fn tunnel_broke_off(&mut self, stalled: Option<Stalled>) {
        let Some(stalled) = stalled else { return };
        self.fault = Some(if self.exchange.client.peer.is_stalled() {
            (SLOW_CLIENT, format!("the client stopped reading: {stalled}").into())
        } else {
            (STALLED, format!("the service stopped reading: {stalled}").into())
        });
    }

    /// A tunnel passed nothing for so long.
    pub(super) fn idle(&mut self, limit: Duration) {
        self.fault = Some((IDLE, format!("nothing passed for {limit:?}").into()));
    }

    fn is_request_stalled(&self) -> bool {
        self.received.as_ref().is_some_and(|transfer| transfer.is_stalled())
    }

    /// What is told of an end that nobody has explained.
    fn cut_short(&self) -> Option<(Fault, Arc<str>)> {
        match self.answered_after {
            Some(_) if self.exchange.client.peer.is_stalled() => {
                Some((SLOW_CLIENT, "the client stopped in the middle of its answer".into()))
            }
            None if thread::panicking() => Some((PANIC, "the gateway failed".into())),
            None => Some((LEFT, "the client left before there was an answer".into())),
            Some(_) if !self.whole => Some((LEFT, "the client left in the middle of its answer".into())),
            Some(_) => None,
        }
    }

    fn status(&self) -> u16 {
        match self.answered_after {
            Some(_) => self.exchange.response.status.as_u16(),
            None if thread::panicking() => 500,
            None => CLIENT_LEFT,
        }
    }

    fn tell(&self, status: u16, fault: Fault, message: &Arc<str>, after: Duration) {
        let Exchange { id, client: peer, .. } = &self.exchange;
        let (method, path) = (self.asked.method.as_str(), self.asked.target.path());
        // What a client does wrong, it can do a thousand times a second.
        if fault.blame == LEFT.blame || fault.cause == DESCRIPTORS || self.is_logged {
            tracing::debug!(request = id.as_str(), method, path, status, fault.blame, fault.cause, "{message}");
        } else {
            tracing::info!(request = id.as_str(), method, path, status, fault.blame, fault.cause, "{message}");
        }
        let mishap = Mishap {
            at: SystemTime::now(),
            request_id: id.as_str().to_owned(),
            client: self.exchange.client_address(),
            peer: peer.address,
            method: method.to_owned(),
            path: path.chars().take(MAX_PATH).collect(),
            status,
            fault,
            endpoint: self.endpoint.clone(),
            message: Arc::clone(message),
            after,
        };
        self.record.mishap(self.worker, mishap);
    }
}

/// Characters of a path that are remembered with an error.
const MAX_PATH: usize = 200;

impl Drop for Ending {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        let (after, status) = (now - self.started, self.status());
        let received = self.received.as_ref().map_or(0, |received| received.bytes());
        if let Some(counts) = self.record.counts.of(self.worker) {
            counts.statuses.add(status);
            counts.times.add(after);
            counts.received.add(received);
            counts.sent.add(self.sent);
        }
        if let Some(usage) = &self.usage {
            let refused = matches!(&self.fault, Some((fault, _)) if REFUSALS.contains(&fault.cause));
            let (refused, failed) = (refused.into(), (status >= 500).into());
            usage.add(&Used { requests: 1, refused, failed, received, sent: self.sent });
        }
        let fault = self.fault.take().or_else(|| self.cut_short());
        if let Some((fault, message)) = &fault {
            self.tell(status, *fault, message, after);
        }
        if let Some(log) = &self.log {
            log.write(
                self.worker,
                &Entry {
                    asked: &self.asked,
                    exchange: &self.exchange,
                    status,
                    route: self.names.as_ref().map(|(route, _)| &**route),
                    service: self.names.as_ref().map(|(_, service)| &**service),
                    endpoint: self.endpoint.as_deref(),
                    received,
                    sent: self.sent,
                    answered_after: self.answered_after,
                    now,
                    after,
                    fault: fault.as_ref().map(|(fault, _)| *fault),
                },
            );
        }
        if let Some(listeners) = self.listeners.take() {
            let (route, service) = self.names.take().unwrap_or_default();
            let summary = Summary {
                status,
                route: route.to_string(),
                service: service.to_string(),
                endpoint: self.endpoint.as_deref().map(str::to_owned),
                received,
                sent: self.sent,
                answered: self.answered_after.map(micros),
                duration: micros(after),
                blame: fault.as_ref().map(|(fault, _)| fault.blame.to_owned()),
                cause: fault.as_ref().map(|(fault, _)| fault.cause.to_owned()),
            };
            listeners.tell(self.exchange.take(), summary);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
