//! Who is it that calls? A plugin shows the gateway what a client presented and is told whose that is. What proves it
//! (a hash, a secret) stays with the gateway.
//!
//! The plugin's entry in the configuration must allow `consumers`.
//!
//! ```
//! use stile_sdk::{consumers::{self, Presented}, prelude::*};
//!
//! #[derive(Deserialize)]
//! struct WhoIsIt {}
//!
//! impl RequestFilter for WhoIsIt {
//!     fn on_request(&self, request: &mut Request) -> Result<Verdict> {
//!         let key = request.header("x-api-key");
//!         let key = key.as_ref().and_then(|key| key.as_str());
//!         match key.and_then(|key| consumers::verify(&Presented::ApiKey(key))) {
//!             Some(consumer) => {
//!                 request.set_header("x-consumer", consumer.name)?;
//!                 Ok(Verdict::Proceed)
//!             }
//!             None => Ok(Reply::text(401, "who are you?").into()),
//!         }
//!     }
//! }
//!
//! stile_sdk::export!(WhoIsIt: request);
//!
//! # fn main() -> Result<()> {
//! use stile_sdk::testing::{self, json};
//!
//! let filter = testing::filter::<WhoIsIt>(json!({}))?;
//! testing::known(&Presented::ApiKey("secret"), &testing::consumer("mobile"));
//! let (_, request) = filter.request(testing::request("GET", "/").header("x-api-key", "secret"))?;
//! assert_eq!(request.header("x-consumer").unwrap(), "mobile");
//! let (verdict, _) = filter.request(testing::request("GET", "/").header("x-api-key", "other"))?;
//! assert_eq!(verdict.reply().unwrap().status, 401);
//! # Ok(()) }
//! ```

use crate::backend;

/// What a client presented.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presented<'a> {
    /// A secret text.
    ApiKey(&'a str),
    /// A name and a password. The check takes some milliseconds, on purpose.
    Basic {
        /// The name.
        username: &'a str,
        /// The password.
        password: &'a str,
    },
    /// HMAC-SHA-256 of a message with the secret that the id names.
    Hmac {
        /// What names the secret.
        key_id: &'a str,
        /// What was signed.
        message: &'a [u8],
        /// The 32 bytes of the signature.
        signature: &'a [u8],
    },
    /// Whom a token names, which the plugin has verified.
    Jwt {
        /// Who issued it.
        issuer: &'a str,
        /// Whom it names.
        subject: &'a str,
    },
    /// The subject of a client's certificate, which was verified.
    Certificate(&'a str),
}

/// A client that is known by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The name.
    pub name: String,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// The id of the credential that was presented.
    pub credential: String,
}

/// Whose it is that a client presented; none where it is nobody's, has expired, or is not proved.
///
/// To be called in a phase: while a plugin is configured there is nobody to ask for, and the call ends the instance.
#[must_use]
pub fn verify(presented: &Presented<'_>) -> Option<Consumer> {
    backend::verify(presented)
}

impl std::fmt::Debug for Presented<'_> {
    /// Without what is secret of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ApiKey(_) => f.write_str("ApiKey(…)"),
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, …)"),
            Self::Hmac { key_id, .. } => write!(f, "Hmac({key_id:?}, …)"),
            Self::Jwt { issuer, subject } => write!(f, "Jwt({issuer:?}, {subject:?})"),
            Self::Certificate(subject) => write!(f, "Certificate({subject:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_written_out() {
        let all = [
            Presented::ApiKey("hidden"),
            Presented::Basic { username: "ann", password: "hidden" },
            Presented::Hmac { key_id: "k", message: b"hidden", signature: b"hidden" },
        ];
        assert!(!format!("{all:?}").contains("hidden"));
    }
}
