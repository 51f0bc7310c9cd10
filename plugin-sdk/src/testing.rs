//! Tests of plugins without a gateway: run a phase on an exchange in memory and look at what came of it.
//!
//! The rules of the host hold, by the same code: what it would refuse as an edit or as a reply is refused here, and paths get
//! their normal form. It alone bounds time.
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

use std::time::Duration;

use crate::connection::Connection;
use crate::consumers::{Consumer, Presented};
use crate::http::{Answer, Call, CallError};
use crate::{
    Authenticator, Balancer, BodyVerdict, Candidate, Destination, ExchangeLog, Identity, Plugin, Request, RequestBody,
    RequestFilter, RequestStream, RequestTrailers, Response, ResponseBody, ResponseFilter, ResponseStream,
    ResponseTrailers, Result, Router, Stream, Summary, Tick, Trailers, Verdict, backend, logger, plugin,
};

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
    backend::collect_log();
    plugin::from_json(&config.to_string()).map(Filter)
}

impl<P: RequestFilter> Filter<P> {
    /// Runs the request phase; gives its verdict and the edited request.
    pub fn request(&self, request: RequestBuilder) -> Result<(Verdict, Request)> {
        self.request_of(Request(request.0))
    }

    /// Runs it on a request that another phase of this filter has seen.
    pub fn request_of(&self, mut request: Request) -> Result<(Verdict, Request)> {
        request.0.begin_call();
        let verdict = self.0.on_request(&mut request)?;
        checked(verdict, request)
    }
}

impl<P: ResponseFilter> Filter<P> {
    /// Runs the response phase; gives its verdict and the edited response.
    pub fn response(&self, response: ResponseBuilder) -> Result<(Verdict, Response)> {
        let mut response = Response(response.0);
        response.0.begin_call();
        let verdict = self.0.on_response(&mut response)?;
        checked(verdict, response)
    }
}

impl<P: RequestBody> Filter<P> {
    /// Shows it the whole body of a request; gives its verdict and the edited request.
    ///
    /// ```
    /// use stile_sdk::prelude::*;
    /// use stile_sdk::testing::{self, json};
    ///
    /// #[derive(Deserialize)]
    /// struct NotEmpty {}
    ///
    /// impl RequestBody for NotEmpty {
    ///     fn on_request_body(&self, _: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
    ///         Ok(if body.is_empty() { Reply::new(400).into() } else { BodyVerdict::Proceed })
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let filter = testing::filter::<NotEmpty>(json!({}))?;
    /// let (verdict, _) = filter.request_body(testing::request("POST", "/"), b"")?;
    /// assert_eq!(verdict.reply().unwrap().status, 400);
    /// # Ok(()) }
    /// ```
    pub fn request_body(&self, request: RequestBuilder, body: &[u8]) -> Result<(BodyVerdict, Request)> {
        self.request_body_of(Request(request.0), body)
    }

    /// Runs it on a request that another phase of this filter has seen.
    pub fn request_body_of(&self, mut request: Request, body: &[u8]) -> Result<(BodyVerdict, Request)> {
        request.0.begin_call();
        let verdict = self.0.on_request_body(&mut request, body.to_vec())?;
        verdict.reply().map_or(Ok(()), backend::check_reply)?;
        Ok((verdict, request))
    }
}

impl<P: ResponseBody> Filter<P> {
    /// Shows it the whole body of a response; gives its verdict and the edited response.
    pub fn response_body(&self, response: ResponseBuilder, body: &[u8]) -> Result<(BodyVerdict, Response)> {
        let mut response = Response(response.0);
        response.0.begin_call();
        let verdict = self.0.on_response_body(&mut response, body.to_vec())?;
        verdict.reply().map_or(Ok(()), backend::check_reply)?;
        Ok((verdict, response))
    }
}

impl<P: RequestStream> Filter<P> {
    /// Passes a body of these pieces through it; gives what goes on.
    pub fn request_stream(&self, pieces: &[&str]) -> Result<Vec<u8>> {
        streamed(pieces, |body| self.0.on_request_stream(body))
    }
}

impl<P: ResponseStream> Filter<P> {
    /// Passes a body of these pieces through it; gives what goes on.
    ///
    /// ```
    /// use std::io::Write;
    /// use stile_sdk::prelude::*;
    /// use stile_sdk::testing::{self, json};
    ///
    /// #[derive(Deserialize)]
    /// struct Framed {}
    ///
    /// impl ResponseStream for Framed {
    ///     fn on_response_stream(&self, body: &mut Stream) -> Result<()> {
    ///         while let Some(piece) = body.next_piece() {
    ///             body.write_all(&[b"<", &piece[..], b">"].concat())?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let filter = testing::filter::<Framed>(json!({}))?;
    /// assert_eq!(filter.response_stream(&["a", "bc"])?, b"<a><bc>");
    /// # Ok(()) }
    /// ```
    pub fn response_stream(&self, pieces: &[&str]) -> Result<Vec<u8>> {
        streamed(pieces, |body| self.0.on_response_stream(body))
    }
}

impl<P: RequestTrailers> Filter<P> {
    /// Shows it the fields after a request's body and returns what it makes of them. The gateway drops those that no trailer may be.
    pub fn request_trailers(&self, fields: &[(&str, &str)]) -> Result<Trailers> {
        let mut trailers = trailers(fields);
        self.0.on_request_trailers(&mut trailers)?;
        Ok(trailers)
    }
}

impl<P: ResponseTrailers> Filter<P> {
    /// Shows it the fields after a response's body and returns what it makes of them. The gateway drops those that no trailer may be.
    pub fn response_trailers(&self, fields: &[(&str, &str)]) -> Result<Trailers> {
        let mut trailers = trailers(fields);
        self.0.on_response_trailers(&mut trailers)?;
        Ok(trailers)
    }
}

impl<P: Authenticator> Filter<P> {
    /// Asks it who calls; gives the edited request too. Somebody whom [`verify`](crate::consumers::verify) has not told of is
    /// refused by the gateway alone.
    pub fn authenticate(&self, request: RequestBuilder) -> Result<(Identity, Request)> {
        let mut request = Request(request.0);
        request.0.begin_call();
        let identity = self.0.authenticate(&mut request)?;
        if let Identity::Refused(refusal) = &identity
            && (!(400..500).contains(&refusal.status) || (refusal.status == 401 && refusal.challenges.is_empty()))
        {
            return Err(crate::Error::new("a refusal has a status from 400 to 499, and 401 a challenge"));
        }
        Ok((identity, request))
    }
}

impl<P: Router> Filter<P> {
    /// Asks it where a request goes, with its body if it wants that.
    pub fn route(&self, request: RequestBuilder, body: &[u8]) -> Result<(Destination, Request)> {
        let mut request = Request(request.0);
        let mut route = |body| {
            request.0.begin_call();
            self.0.route(&mut request, body)
        };
        let destination = match route(None)? {
            Destination::WithBody => route(Some(body.to_vec()))?,
            other => other,
        };
        Ok((destination, request))
    }
}

impl<P: Balancer> Filter<P> {
    /// Has it choose among endpoints.
    pub fn choose(&self, request: RequestBuilder, candidates: &[Candidate]) -> Result<usize> {
        self.0.choose(&Request(request.0), candidates)
    }
}

impl<P: ExchangeLog> Filter<P> {
    /// Tells it of an exchange that has ended.
    pub fn log(&self, response: ResponseBuilder, summary: &Summary) -> Result<()> {
        let response = Response(response.0);
        self.0.on_log(&Request(response.0.request.clone()), &response, summary)
    }
}

impl<P: Tick> Filter<P> {
    /// Has its time come.
    pub fn tick(&self) -> Result<()> {
        self.0.on_tick()
    }
}

fn streamed(pieces: &[&str], pass: impl FnOnce(&mut Stream) -> Result<()>) -> Result<Vec<u8>> {
    let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
    let mut body = Stream::new(backend::Stream { pieces, ..Default::default() });
    pass(&mut body)?;
    body.finish();
    let rest = std::iter::from_fn(|| body.next_piece()).collect::<Vec<_>>().concat();
    Ok([body.into_backend().written, rest].concat())
}

fn trailers(fields: &[(&str, &str)]) -> Trailers {
    Trailers(fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes().to_vec())).collect())
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

    /// Says whom it comes from, as an authenticator would.
    #[must_use]
    pub fn consumer(mut self, consumer: &Consumer) -> Self {
        self.0.consumer = Some(consumer.clone());
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

/// Sets the time on this thread, as time since 1970; from then on it stands still.
///
/// ```
/// use std::time::Duration;
/// use stile_sdk::{clock, testing};
///
/// testing::set_time(Duration::from_secs(1_700_000_000));
/// assert_eq!(clock::now().as_secs(), 1_700_000_000);
/// ```
pub fn set_time(time: Duration) {
    backend::set_time(time);
}

/// Answers the calls that are made on this thread from now on; [`http`](crate::http) has an example.
pub fn answer_calls(answers: impl Fn(&Call) -> Result<Answer, CallError> + 'static) {
    backend::answer_calls(std::rc::Rc::new(answers));
}

/// Says on this thread what connection exchanges come on; without it, one from 127.0.0.1.
pub fn set_connection(connection: Connection) {
    backend::set_connection(connection);
}

/// The value of a metric that was recorded on this thread: the sum of a counter or of a histogram's seconds, or a gauge.
#[must_use]
pub fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    backend::metric(name, labels)
}

/// Takes the lines that were logged on this thread since the last call, or since its first filter was made. Every level
/// counts as enabled.
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
