//! An exchange that meets all phases of the guest `phases`.

use std::net::SocketAddr;

use crate::raw::Raw;

/// The phases that the guest counts, in the order in which an exchange meets them.
pub const PHASES: [&str; 12] = [
    "authenticate",
    "request",
    "request-body",
    "request-stream",
    "request-trailers",
    "route",
    "balance",
    "response",
    "response-body",
    "response-stream",
    "response-trailers",
    "log",
];

/// A POST with trailers.
const REQUEST: &str = "POST /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
    3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
/// An answer with trailers.
pub const ANSWER: &str =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";

/// Sends the request and reads what comes of it: a failure of a passing body cuts the answer short.
pub async fn send(address: SocketAddr) {
    let mut client = Raw::connect(address).await;
    client.write(REQUEST).await;
    let _ = client.try_answer_to("POST").await;
}
