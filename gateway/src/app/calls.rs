//! Calls of plugins, made by the worker that they come from: to services as requests of clients are sent, to other hosts by a
//! client of their own. Who may call whom was decided before.

use std::{error::Error, rc::Rc};

use bytes::Bytes;
use http::{
    Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRAILER, VIA},
    response::Parts,
    uri::Authority,
};
use http_body::Body as HttpBody;
use http_body_util::Full;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::spawn_local,
    time::timeout,
};

use crate::{
    client::{Client, Incomplete, causes, client, collect},
    exchange::{Body, RequestHead, framing::check_response, headers::remove_hop_by_hop},
    plugin::{CallAnswer, CallError, CallOut, CallTarget, Called, Origin, Outbound},
    proxy::Proxy,
    upstream::{self, HostHeader, Sending},
    worker::WorkerId,
};

type Job = (CallOut, oneshot::Sender<Called>);

/// What plugins hold, on whatever thread.
#[derive(Debug)]
pub(super) struct Sender(UnboundedSender<Job>);

/// What the worker holds.
#[derive(Debug)]
pub(super) struct Calls(UnboundedReceiver<Job>);

pub(super) fn channel() -> (Sender, Calls) {
    let (sender, receiver) = unbounded_channel();
    (Sender(sender), Calls(receiver))
}

impl Outbound for Sender {
    /// How many there are is bounded where they come from.
    fn send(&self, call: CallOut) -> oneshot::Receiver<Called> {
        let (answer, receiver) = oneshot::channel();
        // After its end nobody answers, which the receiver tells.
        let _ = self.0.send((call, answer));
        receiver
    }
}

impl Calls {
    /// Makes calls until nobody can ask for any.
    pub(super) async fn serve(mut self, worker: WorkerId, proxy: Rc<Proxy>) {
        let mut hosts = None;
        while let Some((mut call, mut answer)) = self.0.recv().await {
            call.headers.insert(VIA, proxy.via(call.via.as_ref(), Version::HTTP_11));
            let (proxy, hosts) = (Rc::clone(&proxy), hosts.get_or_insert_with(client).clone());
            spawn_local(async move {
                let limit = call.timeout;
                let making = async {
                    match &call.to {
                        CallTarget::Service(_) => to_service(worker, &proxy, call).await,
                        CallTarget::Host(_) => to_host(hosts, call).await,
                    }
                };
                tokio::select! {
                    called = timeout(limit, making) => {
                        let _ = answer.send(called.unwrap_or(Err(CallError::Timeout)));
                    }
                    // Whoever asked has given it up.
                    () = answer.closed() => {}
                }
            });
        }
    }
}

async fn to_service(worker: WorkerId, proxy: &Proxy, call: CallOut) -> Called {
    let CallOut { to: CallTarget::Service(name), method, path, headers, body, timeout, max_body, .. } = call else {
        return Err(CallError::Failed("it is to no service".to_owned()));
    };
    let service = proxy.snapshot().services.get(name.as_str()).cloned();
    let service = service.ok_or_else(|| CallError::Failed(format!("there is no service \"{name}\"")))?;
    let head = RequestHead { method, target: path, headers, ..RequestHead::default() };
    let sending = Sending { worker, head: &head, host: HostHeader::Endpoint, timeout, transfer: None };
    let sent = service.send(&sending, Body::from(body), None, &|| proxy.longest_idle()).await;
    let (response, lease) = sent.map_err(|error| match error {
        upstream::Error::Timeout(..) => CallError::Timeout,
        error => CallError::Failed(error.to_string()),
    })?;
    let answer = answered(response, max_body).await;
    drop(lease);
    answer
}

async fn to_host(hosts: Client, call: CallOut) -> Called {
    let CallOut { to: CallTarget::Host(origin), method, path, headers, body, max_body, .. } = call else {
        return Err(CallError::Failed("it is to no host".to_owned()));
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = uri(&origin, path.as_str()).map_err(|error| CallError::Invalid(error.to_string()))?;
    debug_assert!(!request.headers().contains_key(HOST), "it is the gateway's to write");
    let method = request.method().clone();
    let mut response = hosts.request(request).await.map_err(|error| CallError::Failed(causes(&error)))?;
    check_response(&mut response, &method, false)
        .map_err(|unsound| CallError::Failed(format!("the host sent a response that is not valid: {unsound}")))?;
    answered(response, max_body).await
}

fn uri(origin: &Origin, path: &str) -> Result<Uri, http::Error> {
    let usual = origin.port == if origin.tls { 443 } else { 80 };
    let authority = if usual { origin.host.clone() } else { format!("{}:{}", origin.host, origin.port) };
    let scheme = if origin.tls { "https" } else { "http" };
    Uri::builder().scheme(scheme).authority(authority.parse::<Authority>()?).path_and_query(path).build()
}

async fn answered<B>(response: Response<B>, max_body: usize) -> Called
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (Parts { status, mut headers, .. }, body) = response.into_parts();
    let body = collect(body, max_body).await.map_err(|incomplete| match incomplete {
        Incomplete::TooLarge(most) => CallError::Limit(format!("an answer of {most} bytes (limits.call_body)")),
        Incomplete::Broken(why) => CallError::Failed(why),
    })?;
    // Framing and fields of the connection are about a message that has ended here. A reply may not have them.
    remove_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    Ok(CallAnswer { status, headers, body })
}
