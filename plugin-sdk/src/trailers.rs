//! The fields after a body.

use crate::{EditError, HeaderName, HeaderValue, Headers};

/// The fields after a body, read and edited by [`Headers`] as those of a head are.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// fn status(trailers: &Trailers) -> Option<HeaderValue> {
///     trailers.header("grpc-status")
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trailers(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers for Trailers {
    fn header(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: impl AsRef<str>) -> Vec<HeaderValue> {
        let same = |(known, _): &&(String, Vec<u8>)| known.eq_ignore_ascii_case(name.as_ref());
        self.0.iter().filter(same).map(|(_, value)| HeaderValue(value.clone())).collect()
    }

    fn headers(&self) -> Vec<(String, HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.clone(), HeaderValue(value.clone()))).collect()
    }

    fn set_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        let value = HeaderValue::new(value.as_ref())?;
        self.remove_header(name.as_ref())?;
        self.add_header(name, value.0)
    }

    fn add_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        let (name, value) = (HeaderName::new(name.as_ref())?, HeaderValue::new(value.as_ref())?);
        self.0.push((name.into(), value.0));
        Ok(())
    }

    fn remove_header(&mut self, name: impl AsRef<str>) -> Result<(), EditError> {
        let name = String::from(HeaderName::new(name.as_ref())?);
        self.0.retain(|(known, _)| *known != name);
        Ok(())
    }
}
