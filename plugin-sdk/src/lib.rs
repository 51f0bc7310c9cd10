//! Write plugins for the Stile gateway: filters that read and edit requests and responses, in Rust.
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod export;
#[doc(hidden)]
pub mod phase;
mod plugin;

pub mod clock;
pub mod connection;
pub mod consumers;
pub mod crypto;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "most of it is checked by the gateway alone"))]
#[allow(unreachable_pub, reason = "the gateway includes it")]
mod edits;
mod error;
pub mod http;
pub mod key_value;
pub mod metrics;
pub mod random;
mod headers;
mod logger;
#[cfg(not(target_arch = "wasm32"))]
#[allow(dead_code, unreachable_pub, reason = "the gateway includes it, and uses more of it")]
mod path;
mod request;
mod response;
mod stream;
mod trailers;
mod verdict;

mod backend;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use error::{EditError, Error, Result};
pub use headers::{HeaderName, HeaderValue, Headers};
pub use phase::{
    authenticate::{Authenticator, Identity, Refusal},
    balance::{Balancer, Candidate},
    log::{ExchangeLog, Summary},
    request::RequestFilter,
    request_body::RequestBody,
    request_stream::RequestStream,
    request_trailers::RequestTrailers,
    response::ResponseFilter,
    response_body::ResponseBody,
    response_stream::ResponseStream,
    response_trailers::ResponseTrailers,
    route::{Destination, Router},
    tick::Tick,
};
pub use plugin::Plugin;
pub use request::Request;
pub use response::Response;
pub use stream::Stream;
pub use trailers::Trailers;
pub use verdict::{BodyVerdict, Reply, Verdict};

/// The `log` crate: what its macros write goes to the gateway's log, if the level is wanted there.
///
/// ```
/// stile_sdk::log::info!("refused a request for {}", "/admin");
/// ```
pub use log;

/// Everything that most plugins name: `use stile_sdk::prelude::*;`.
///
/// `Deserialize` and `Serialize` are serde's, which the plugin must have among its dependencies too.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// fn deny(request: &Request) -> Result<Verdict> {
///     log::debug!("denied {}", request.path());
///     Ok(Reply::text(403, "no").into())
/// }
/// ```
pub mod prelude {
    pub use crate::{
        Authenticator, Balancer, BodyVerdict, Candidate, Destination, EditError, Error, ExchangeLog, HeaderName,
        HeaderValue, Headers, Identity, Plugin, Refusal, Reply, Request, RequestBody, RequestFilter, RequestStream,
        RequestTrailers, Response, ResponseBody, ResponseFilter, ResponseStream, ResponseTrailers, Result, Router,
        Stream, Summary, Tick, Trailers, Verdict, log,
    };
    pub use serde::{Deserialize, Serialize};
}
