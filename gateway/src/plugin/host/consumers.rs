//! Who calls, as a guest may ask: it shows what a client presented and is told whose that is.

use std::{fmt, pin::Pin};

use crate::exchange::Consumer;

/// What a client presented, as a guest shows it.
#[derive(Clone)]
pub enum Presented {
    ApiKey(String),
    Basic { username: String, password: String },
    Hmac { key_id: String, message: Vec<u8>, signature: Vec<u8> },
    Jwt { issuer: String, subject: String },
    Certificate(String),
}

pub type Verified<'a> = Pin<Box<dyn Future<Output = Option<Consumer>> + Send + 'a>>;

/// Those who are known to a gateway.
pub trait Consumers: fmt::Debug + Send + Sync {
    fn verify(&self, presented: Presented) -> Verified<'_>;
}

impl fmt::Debug for Presented {
    /// Without what is secret of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "an API key",
            Self::Basic { .. } => "a password",
            Self::Hmac { .. } => "a signature",
            Self::Jwt { .. } => "a subject of a token",
            Self::Certificate(_) => "a subject of a certificate",
        })
    }
}
