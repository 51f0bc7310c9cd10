//! Headers: what a request and a response have in common, and names and values that are known to be valid.

use std::fmt;

use serde::Deserialize;

use crate::{EditError, Request, Response, edits};

/// The headers of a request or a response, so that a function can edit either.
///
/// Names are compared without regard to case and handed out in lower case.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// fn anonymise(head: &mut impl Headers) -> Result<(), EditError> {
///     head.remove_header("x-user")?;
///     head.set_header("x-anonymous", "yes")
/// }
/// ```
pub trait Headers {
    /// The first value of a header.
    fn header(&self, name: impl AsRef<str>) -> Option<HeaderValue>;

    /// Every value of a header, in order.
    fn header_values(&self, name: impl AsRef<str>) -> Vec<HeaderValue>;

    /// Every header, the values of one name in order.
    fn headers(&self) -> Vec<(String, HeaderValue)>;

    /// Replaces every value of the header by this one.
    fn set_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError>;

    /// Adds one value after those there are.
    fn add_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError>;

    /// Removes every value of the header; one that is not there is no error.
    fn remove_header(&mut self, name: impl AsRef<str>) -> Result<(), EditError>;

    /// The codings of the body (`Content-Encoding`, RFC 9110 §8.4) in lower case and in the order in which they were applied;
    /// empty if the body is what its media type says. A filter that reads bodies must decode such a body, or let it pass.
    ///
    /// ```
    /// use stile_sdk::prelude::*;
    ///
    /// /// Only bodies that can be read as they are.
    /// fn on_response(response: &mut Response) -> Result<Verdict> {
    ///     Ok(if response.content_codings().is_empty() { Verdict::Proceed } else { Verdict::PassBody })
    /// }
    ///
    /// let gzip = stile_sdk::testing::response(200).header("content-encoding", "GZIP, identity");
    /// # #[derive(Deserialize)]
    /// # struct Any {}
    /// # impl ResponseFilter for Any {
    /// #     fn on_response(&self, response: &mut Response) -> Result<Verdict> {
    /// #         assert_eq!(response.content_codings(), ["gzip"]);
    /// #         on_response(response)
    /// #     }
    /// # }
    /// # let any = stile_sdk::testing::filter::<Any>(stile_sdk::testing::json!({})).unwrap();
    /// assert_eq!(any.response(gzip).unwrap().0, Verdict::PassBody);
    /// ```
    fn content_codings(&self) -> Vec<String> {
        let values = self.header_values("content-encoding");
        let lists = values.iter().filter_map(HeaderValue::as_str);
        let codings = lists.flat_map(|list| list.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
        codings.filter(|coding| !coding.is_empty() && coding != "identity").collect()
    }
}

macro_rules! impl_headers {
    ($head:ty) => {
        impl Headers for $head {
            fn header(&self, name: impl AsRef<str>) -> Option<HeaderValue> {
                self.0.header(name.as_ref()).map(HeaderValue)
            }

            fn header_values(&self, name: impl AsRef<str>) -> Vec<HeaderValue> {
                self.0.header_values(name.as_ref()).into_iter().map(HeaderValue).collect()
            }

            fn headers(&self) -> Vec<(String, HeaderValue)> {
                self.0.headers().into_iter().map(|(name, value)| (name, HeaderValue(value))).collect()
            }

            fn set_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError> {
                self.0.set_header(name.as_ref(), value.as_ref())
            }

            fn add_header(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<(), EditError> {
                self.0.add_header(name.as_ref(), value.as_ref())
            }

            fn remove_header(&mut self, name: impl AsRef<str>) -> Result<(), EditError> {
                self.0.remove_header(name.as_ref())
            }
        }
    };
}

impl_headers!(Request);
impl_headers!(Response);

/// The name of a header that a plugin may edit: valid, in lower case, not the gateway's own.
///
/// In a configuration it refuses what is not such a name before the first request comes.
///
/// ```
/// use stile_sdk::HeaderName;
///
/// assert_eq!(HeaderName::new("X-User").unwrap().as_ref(), "x-user");
/// assert!(HeaderName::new("transfer-encoding").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderName(String);

impl HeaderName {
    /// Checks the name and puts it into lower case.
    pub fn new(name: impl Into<String>) -> Result<Self, EditError> {
        let mut name = name.into();
        if !edits::is_token(&name) {
            return Err(edits::not_a_field_name(&name).into());
        }
        name.make_ascii_lowercase();
        if edits::is_reserved(&name) {
            return Err(EditError::Forbidden(name));
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for HeaderName {
    type Error = EditError;

    fn try_from(name: String) -> Result<Self, EditError> {
        Self::new(name)
    }
}

impl AsRef<str> for HeaderName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> Self {
        name.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a header: valid, and not always text.
///
/// ```
/// use stile_sdk::HeaderValue;
///
/// let value = HeaderValue::new("Bearer abc").unwrap();
/// assert_eq!(value, "Bearer abc");
/// assert_eq!(value.as_str().and_then(|text| text.strip_prefix("Bearer ")), Some("abc"));
/// assert!(HeaderValue::new("two\r\nlines").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderValue(pub(crate) Vec<u8>);

impl HeaderValue {
    /// Checks the value: no control characters but the tab.
    pub fn new(value: impl Into<Vec<u8>>) -> Result<Self, EditError> {
        let value = Self(value.into());
        if edits::is_field_value(&value.0) {
            Ok(value)
        } else {
            Err(EditError::Invalid(format!("{value:?} is not a field value")))
        }
    }

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// A field of these, as an edit has it.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn field(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), EditError> {
    let name = HeaderName::new(name)?;
    let value = HeaderValue::new(value).map_err(|_| edits::not_a_field_value(name.as_ref()))?;
    Ok((name, value))
}

impl TryFrom<String> for HeaderValue {
    type Error = EditError;

    fn try_from(value: String) -> Result<Self, EditError> {
        Self::new(value)
    }
}

impl AsRef<[u8]> for HeaderValue {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for HeaderValue {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for HeaderValue {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

/// What is not UTF-8 is shown as replacement characters.
impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}
