//! The response on its way to the client, as a plugin reads and edits it.

use serde::de::DeserializeOwned;

use crate::{EditError, HeaderValue, Result, backend};

/// The response on its way to the client; its headers are read and edited by [`Headers`](crate::Headers).
///
/// Edits become real when the call that made them returns without a failure.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// fn hide_failures(response: &mut Response) -> Result<Verdict> {
///     response.remove_header("server")?;
///     match response.status() {
///         500..=599 => Ok(Reply::text(502, "try again").into()),
///         _ => Ok(Verdict::Proceed),
///     }
/// }
/// ```
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone))]
pub struct Response(pub(crate) backend::Response);

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// A new status code, 200 to 599.
    pub fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        self.0.set_status(status)
    }

    /// What this filter's request phase [kept](crate::Request::keep), if anything.
    pub fn kept<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        match self.0.kept() {
            state if state.is_empty() => Ok(None),
            state => Ok(Some(serde_json::from_slice(&state)?)),
        }
    }

    /// The method of the request that this answers, as the request filters left it.
    pub fn request_method(&self) -> String {
        self.0.request_method()
    }

    /// The path of that request.
    pub fn request_path(&self) -> String {
        self.0.request_path()
    }

    /// The first value of a header of that request.
    pub fn request_header(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
        self.0.request_header(name.as_ref()).map(HeaderValue)
    }
}
