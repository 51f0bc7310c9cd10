//! The floor: what a hyper proxy costs that does nothing but pass messages on. One thread, and one connection to the
//! service for each client. It has no routes, no time-outs, no limits and no errors worth the name, on purpose.

use std::{
    convert::Infallible,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{Either, Empty};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, HeaderName, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;
type Outgoing = Either<Incoming, Empty<Bytes>>;

const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The connection to the service that belongs to one client, while no request is on it.
type Slot = Arc<Mutex<Option<SendRequest<Incoming>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let ports: Vec<u16> = std::env::args().skip(1).filter_map(|port| port.parse().ok()).collect();
    let [port, service] = ports[..] else { return Err("usage: floor PORT SERVICE_PORT".into()) };
    let service = SocketAddr::from((Ipv4Addr::LOCALHOST, service));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let slot = Slot::default();
            let handle = service_fn(|request| {
                let slot = Arc::clone(&slot);
                async move { Ok::<_, Infallible>(pass(request, &slot, service).await) }
            });
            // A client that breaks off is none of our business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await;
        });
    }
}

async fn pass(mut request: Request<Incoming>, slot: &Slot, service: SocketAddr) -> Response<Outgoing> {
    remove_hop_by_hop(request.headers_mut());
    match send(request, slot, service).await {
        Ok(mut response) => {
            remove_hop_by_hop(response.headers_mut());
            response.map(Either::Left)
        }
        Err(_) => {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn send(request: Request<Incoming>, slot: &Slot, service: SocketAddr) -> Result<Response<Incoming>, Failure> {
    let mut pooled = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(connection) = &mut pooled
        && connection.ready().await.is_err()
    {
        pooled = None;
    }
    let mut connection = match pooled {
        Some(connection) => connection,
        None => connect(service).await?,
    };
    let response = connection.send_request(request).await?;
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    Ok(response)
}

async fn connect(service: SocketAddr) -> Result<SendRequest<Incoming>, Failure> {
    let stream = TcpStream::connect(service).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
