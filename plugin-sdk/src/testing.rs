//! Tests of plugins without a gateway: run a phase on an exchange in memory and look at what came of it.
//!
//! The rules of the host hold: what it would refuse as an edit or as a reply is refused here. It alone
//! normalises paths, and bounds sizes and time.
//!
//! ```
//! use stile_sdk::prelude::*;
//! use stile_sdk::testing::{self, json};
//!
//! #[derive(Deserialize)]
//! struct Tag {
//!     value: HeaderValue,
//! }
//!
//! impl RequestFilter for Tag {
//!     fn on_request(&self, request: &mut Request) -> Result<Verdict> {
//!         request.set_header("x-tag", &self.value)?;
//!         request.keep(&self.value.as_str())?;
//!         Ok(Verdict::Proceed)
//!     }
//! }
//!
//! impl ResponseFilter for Tag {
//!     fn on_response(&self, response: &mut Response) -> Result<Verdict> {
//!         log::info!("{} had {:?}", response.request_path(), response.kept::<String>()?);
//!         Ok(Verdict::Proceed)
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let tag = testing::filter::<Tag>(json!({ "value": "blue" }))?;
//!
//! let (verdict, request) = tag.request(testing::request("GET", "/x?y=1").header("accept", "*/*"))?;
//! assert_eq!(verdict, Verdict::Proceed);
//! assert_eq!(request.header("x-tag").unwrap(), "blue");
//!
//! let (verdict, _) = tag.response(testing::response(200).to(request))?;
//! assert_eq!(verdict, Verdict::Proceed);
//! assert_eq!(testing::log(), [(log::Level::Info, "/x had Some(\"blue\")".to_string())]);
//! # Ok(()) }
//! ```

use crate::consumers::{Consumer, Presented};
use crate::{Plugin, Request, RequestFilter, Response, ResponseFilter, Result, Verdict, backend, logger, plugin};

pub use serde_json::{Value, json};

/// A configured plugin, made by [`filter`]; the [module](self) has an example.
#[derive(Debug)]
pub struct Filter<P>(P);

/// Configures the plugin as the host does, from JSON; `null` stands for a filter without `config`.
///
/// ```
/// use stile_sdk::testing::{self, json};
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Named {
///     name: String,
/// }
///
/// let error = testing::filter::<Named>(json!(null)).unwrap_err();
/// assert_eq!(error.to_string(), "missing field `name`");
/// ```
pub fn filter<P: Plugin>(config: Value) -> Result<Filter<P>> {
    logger::install();
    plugin::from_json(&config.to_string()).map(Filter)
}

impl<P: RequestFilter> Filter<P> {
    /// Runs the request phase; gives its verdict and the edited request.
    pub fn request(&self, request: RequestBuilder) -> Result<(Verdict, Request)> {
        let mut request = Request(request.0);
        let verdict = self.0.on_request(&mut request)?;
        checked(verdict, request)
    }
}

impl<P: ResponseFilter> Filter<P> {
    /// Runs the response phase; gives its verdict and the edited response.
    pub fn response(&self, response: ResponseBuilder) -> Result<(Verdict, Response)> {
        let mut response = Response(response.0);
        let verdict = self.0.on_response(&mut response)?;
        checked(verdict, response)
    }
}

fn checked<T>(verdict: Verdict, head: T) -> Result<(Verdict, T)> {
    verdict.reply().map_or(Ok(()), backend::check_reply)?;
    Ok((verdict, head))
}

/// A request in the making.
#[derive(Clone, Debug)]
pub struct RequestBuilder(backend::Request);

/// A request for a path, with or without a query; its authority is `localhost` unless it is given.
///
/// # Panics
///
/// If the method or the target is invalid.
///
/// ```
/// use stile_sdk::testing;
///
/// testing::request("GET", "/users?page=2").authority("api.example.com").header("accept", "text/html");
/// ```
pub fn request(method: &str, target: &str) -> RequestBuilder {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut request = backend::Request { authority: "localhost".into(), ..Default::default() };
    request.set_method(method).expect("a valid method");
    request.set_path(path).expect("a valid path");
    request.set_query(query).expect("a valid query");
    RequestBuilder(request)
}

impl RequestBuilder {
    /// Sets the host that the client asked for.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// Adds a header, as the network may bring it: also one that a plugin may not write.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.fields.receive(name, value.as_ref());
        self
    }
}

/// A response in the making.
#[derive(Clone, Debug)]
pub struct ResponseBuilder(backend::Response);

/// A response of this status, to `GET /` unless a request is given.
///
/// # Panics
///
/// If the status is invalid.
///
/// ```
/// use stile_sdk::testing;
///
/// testing::response(200).header("content-type", "text/html");
/// ```
pub fn response(status: u16) -> ResponseBuilder {
    let mut response = backend::Response { request: request("GET", "/").0, ..Default::default() };
    response.set_status(status).expect("a valid status");
    ResponseBuilder(response)
}

impl ResponseBuilder {
    /// Makes it the answer to this request, with what the request phase kept.
    #[must_use]
    pub fn to(mut self, request: Request) -> Self {
        self.0.request = request.0;
        self
    }

    /// Adds a header, as the network may bring it: also one that a plugin may not write.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.fields.receive(name, value.as_ref());
        self
    }
}

/// Makes a consumer known on this thread by exactly what is presented here; [`consumers`](crate::consumers) has an example.
pub fn known(presented: &Presented<'_>, consumer: &Consumer) {
    backend::know(presented, consumer.clone());
}

/// A consumer of this name, in no group, with a credential `test`.
#[must_use]
pub fn consumer(name: &str) -> Consumer {
    Consumer { name: name.into(), groups: Vec::new(), credential: "test".into() }
}

/// Takes the lines that were logged on this thread since the last call; every level counts as enabled.
///
/// ```
/// use stile_sdk::{log, testing};
///
/// # #[derive(serde::Deserialize)]
/// # struct Any {}
/// let _any = testing::filter::<Any>(testing::json!({})).unwrap();
/// log::warn!("careful");
/// assert_eq!(testing::log(), [(log::Level::Warn, "careful".to_string())]);
/// ```
pub fn log() -> Vec<(log::Level, String)> {
    backend::take_log()
}
