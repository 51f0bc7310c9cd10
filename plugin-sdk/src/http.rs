//! Calls to services and hosts, in a straight line: the plugin waits, the gateway does not. The plugin's entry in the
//! configuration must allow `http-client`, and its `http` say whom it may call.
//!
//! ```
//! use stile_sdk::{http, prelude::*};
//!
//! #[derive(Deserialize)]
//! struct Ask {}
//!
//! impl RequestFilter for Ask {
//!     fn on_request(&self, request: &mut Request) -> Result<Verdict> {
//!         let answer = http::get("service://policy/may").header("x-path", request.path()).send()?;
//!         Ok(if answer.status == 200 { Verdict::Proceed } else { Reply::text(403, answer.text()).into() })
//!     }
//! }
//!
//! stile_sdk::export!(Ask: request);
//!
//! # fn main() -> Result<()> {
//! use stile_sdk::testing::{self, json};
//!
//! testing::answer_calls(|call| match call.url.as_str() {
//!     "service://policy/may" => Ok(http::Answer::new(403, "not today")),
//!     _ => Err(http::CallError::NotAllowed(call.url.clone())),
//! });
//! let filter = testing::filter::<Ask>(json!({}))?;
//! let (verdict, _) = filter.request(testing::request("GET", "/"))?;
//! assert_eq!(verdict.reply().unwrap().body, b"not today");
//! # Ok(()) }
//! ```
//!
//! Several calls may be under way at once:
//!
//! ```
//! # use stile_sdk::{http, testing, Result};
//! # fn main() -> Result<()> {
//! # testing::answer_calls(|call| Ok(http::Answer::new(200, call.url.clone())));
//! let (users, orders) = (http::get("service://users/7").start()?, http::get("service://orders/7").start()?);
//! let both = (users.wait()?.text(), orders.wait()?.text());
//! assert_eq!(both, ("service://users/7".to_string(), "service://orders/7".to_string()));
//! # Ok(()) }
//! ```

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Result, backend};

/// A call in the making: `service://NAME/PATH` for a service of the gateway, or `http://…`, `https://…` for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Call {
    /// The method.
    pub method: String,
    /// Whom, and where to.
    pub url: String,
    /// The header fields: name and value.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// How long it may take; no longer than the plugin's `limits.call_timeout`.
    pub timeout: Option<Duration>,
}

/// A call under way. Dropped, it is given up.
#[derive(Debug)]
#[must_use]
pub struct Pending(backend::Pending);

/// What came back. A redirect is an answer too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields: name in lower case, and value. Those of the connection and of the framing (`content-length`,
    /// `transfer-encoding` and so on) are not among them, so that a [`Reply`](crate::Reply) may have all of them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The URL, a field or the method is none.
    Invalid(String),
    /// The plugin's `http` names no such service or host.
    NotAllowed(String),
    /// More than the plugin's limits say: which one.
    Limit(String),
    /// There was no whole answer in time.
    Timeout,
    /// Nobody could be reached, or they broke off.
    Failed(String),
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::NotAllowed(text) => f.write_str(text),
            Self::Limit(name) => write!(f, "more than the plugin may: {name}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Failed(text) => write!(f, "the call failed: {text}"),
        }
    }
}

/// A call with GET.
pub fn get(url: impl Into<String>) -> Call {
    call("GET", url)
}

/// A call with POST.
pub fn post(url: impl Into<String>) -> Call {
    call("POST", url)
}

/// A call with this method.
pub fn call(method: impl Into<String>, url: impl Into<String>) -> Call {
    Call { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
}

impl Call {
    /// Adds a header field.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a body of JSON; fails if the value does.
    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Says how long it may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the call and waits for the answer.
    pub fn send(self) -> Result<Answer, CallError> {
        backend::send(self)
    }

    /// Begins the call and goes on.
    pub fn start(self) -> Result<Pending, CallError> {
        backend::start(self).map(Pending)
    }
}

impl Pending {
    /// Waits for the answer.
    pub fn wait(self) -> Result<Answer, CallError> {
        self.0.wait()
    }
}

impl Answer {
    /// An answer as a test may give it.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The first value of a header field, whose name is compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The body as text; what is none is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body from JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}
