//! What follows a phase: going on, or an answer made by the plugin.

use serde::Serialize;

use crate::Result;

/// What follows a request or response phase.
///
/// ```
/// use stile_sdk::{Reply, Verdict};
///
/// let verdict = Verdict::from(Reply::new(204));
/// assert_eq!(verdict.reply().map(|reply| reply.status), Some(204));
/// assert_eq!(Verdict::Proceed.reply(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Go on with the next filter, and after the last one with the service.
    Proceed,
    /// Go on likewise, and let the body that belongs to this head pass this filter unseen. Saves collecting a body that does
    /// not matter.
    PassBody,
    /// Go on likewise, and let no later phase of this exchange call this filter, its
    /// [log phase](crate::ExchangeLog) included. Saves the call where a request phase knows that its response phase would do
    /// nothing.
    Done,
    /// Answer with this: in a request phase instead of contacting the service, in a response phase
    /// instead of its response.
    Respond(Reply),
}

impl Verdict {
    /// The answer, if this is one.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Proceed | Self::PassBody | Self::Done => None,
            Self::Respond(reply) => Some(reply),
        }
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

/// What follows once a filter has seen a whole body.
///
/// ```
/// use stile_sdk::{BodyVerdict, Reply};
///
/// assert_eq!(BodyVerdict::from(Reply::new(422)).reply().map(|reply| reply.status), Some(422));
/// assert_eq!(BodyVerdict::Replace(b"{}".to_vec()).reply(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum BodyVerdict {
    /// Go on with the body as it is.
    Proceed,
    /// Go on with this body in its place. The gateway sets its length, and takes `content-encoding`, `digest` and its kin,
    /// `content-md5` and `accept-ranges` off the head and makes a strong `etag` weak, but for those that this filter has written
    /// itself: a filter that encodes the new body sets `content-encoding`.
    Replace(Vec<u8>),
    /// Answer with this: in a request phase instead of contacting the service.
    Respond(Reply),
}

impl BodyVerdict {
    /// The answer, if this is one.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Proceed | Self::Replace(_) => None,
            Self::Respond(reply) => Some(reply),
        }
    }
}

impl From<Reply> for BodyVerdict {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

/// An answer made by a plugin. Its length is set by the gateway, which also checks the rest: a reply with an
/// invalid status (200 to 599 are valid) or header is a failure of the plugin.
///
/// ```
/// use stile_sdk::Reply;
///
/// let reply = Reply::new(401).header("www-authenticate", "Bearer").body("who are you?");
/// assert_eq!(reply.header_value("WWW-Authenticate"), Some(&b"Bearer"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers: name and value.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A reply without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A reply in plain text.
    ///
    /// ```
    /// assert_eq!(stile_sdk::Reply::text(403, "no").body, b"no");
    /// ```
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status).header("content-type", "text/plain; charset=utf-8").body(body.into())
    }

    /// A reply in JSON; fails if the value does, as a map does whose keys are no texts.
    ///
    /// ```
    /// # fn main() -> stile_sdk::Result<()> {
    /// assert_eq!(stile_sdk::Reply::json(200, &["a", "b"])?.body, br#"["a","b"]"#);
    /// # Ok(()) }
    /// ```
    pub fn json(status: u16, value: &impl Serialize) -> Result<Self> {
        Ok(Self::new(status).header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of a header, whose name is compared without regard to case.
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}
