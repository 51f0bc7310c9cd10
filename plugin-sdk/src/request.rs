//! The request on its way to the service, as a plugin reads and edits it.

use serde::{Serialize, de::DeserializeOwned};

use crate::{EditError, Result, backend, consumers::Consumer};

/// The request on its way to the service; its headers are read and edited by [`Headers`](crate::Headers).
///
/// Edits become real when the call that made them returns without a failure.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// fn tidy(request: &mut Request) -> Result<Verdict> {
///     if let Some(rest) = request.path().strip_prefix("/old/") {
///         request.set_path(&format!("/new/{rest}"))?;
///     }
///     request.set_header("x-authority", request.authority())?;
///     Ok(Verdict::Proceed)
/// }
/// ```
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone))]
pub struct Request(pub(crate) backend::Request);

impl Request {
    /// The method, in upper case as on the wire.
    pub fn method(&self) -> String {
        self.0.method()
    }

    /// A new method.
    pub fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        self.0.set_method(method)
    }

    /// The path as the gateway matches and forwards it: normalised, without the query.
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// A new path, which the gateway normalises; the query stays.
    pub fn set_path(&mut self, path: &str) -> Result<(), EditError> {
        self.0.set_path(path)
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<String> {
        self.0.query()
    }

    /// A new query, without its question mark, or none.
    pub fn set_query(&mut self, query: Option<&str>) -> Result<(), EditError> {
        self.0.set_query(query)
    }

    /// The host that the client asked for, with the port where it named one.
    pub fn authority(&self) -> String {
        self.0.authority()
    }

    /// Whom it comes from, once an authenticator of the route has told.
    pub fn consumer(&self) -> Option<Consumer> {
        self.0.consumer()
    }

    /// Keeps a value for this filter's later phases of the same exchange: at most 4 KiB as JSON.
    ///
    /// ```
    /// use stile_sdk::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Asked {
    ///     locale: String,
    /// }
    ///
    /// fn on_request(request: &mut Request) -> Result<Verdict> {
    ///     request.keep(&Asked { locale: "de".into() })?;
    ///     Ok(Verdict::Proceed)
    /// }
    ///
    /// fn on_response(response: &mut Response) -> Result<Verdict> {
    ///     if let Some(Asked { locale }) = response.kept()? {
    ///         response.set_header("content-language", locale)?;
    ///     }
    ///     Ok(Verdict::Proceed)
    /// }
    /// ```
    pub fn keep(&mut self, state: &impl Serialize) -> Result<()> {
        Ok(self.0.keep(&serde_json::to_vec(state)?)?)
    }
    /// What an earlier phase of this filter has [kept](Request::keep), if anything.
    pub fn kept<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        match self.0.kept() {
            state if state.is_empty() => Ok(None),
            state => Ok(Some(serde_json::from_slice(&state)?)),
        }
    }
}
