//! What goes wrong: refused edits, and failures of a plugin.

use std::fmt;

use crate::edits::Refused;

/// `std`'s `Result` with [`Error`] for the error where none is named.
///
/// ```
/// use stile_sdk::{Request, Result, Verdict};
///
/// fn on_request(request: &mut Request) -> Result<Verdict> {
///     request.set_path("/v2")?;
///     Ok(Verdict::Proceed)
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the plugin, or a refused configuration: a text for the operator.
///
/// Any `std` error becomes one by `?`. A failure is not a refusal of the request (that is a
/// [`Reply`](crate::Reply)): it is answered by the filter's `on_error` and counted against the plugin.
///
/// ```
/// use stile_sdk::{Error, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     match text.parse()? {
///         0 => Err(Error::new("port is 0")),
///         port => Ok(port),
///     }
/// }
///
/// assert_eq!(port("0").unwrap_err().to_string(), "port is 0");
/// assert_eq!(port("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error of this text: lower case, no full stop, naming the thing.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// `Error` is no `std` error itself, so that every one of those can become one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.0
    }
}

/// Why an edit was refused. A refused edit changes nothing.
///
/// ```
/// use stile_sdk::{EditError, HeaderName};
///
/// let error = HeaderName::new("Connection").unwrap_err();
/// assert_eq!(error, EditError::Forbidden("connection".into()));
/// assert_eq!(error.to_string(), "header connection is the gateway's to write");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The text is not what the edit takes: says what it is not.
    Invalid(String),
    /// The header belongs to the connection (framing, hop-by-hop) and is the gateway's to write.
    Forbidden(String),
    /// A bound of the gateway would be passed: which one.
    Limit(String),
}

impl std::error::Error for EditError {}

impl From<Refused> for EditError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(text) => Self::Invalid(text),
            Refused::Forbidden(name) => Self::Forbidden(name),
            Refused::Limit(name) => Self::Limit(name.into()),
        }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => f.write_str(text),
            Self::Forbidden(name) => write!(f, "header {name} is the gateway's to write"),
            Self::Limit(name) => write!(f, "more than the gateway allows: {name}"),
        }
    }
}
