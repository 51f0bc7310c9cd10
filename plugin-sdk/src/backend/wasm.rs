//! The back end inside the gateway: the host's functions, generated from the contract.
#![allow(missing_docs, unreachable_pub, unsafe_code, reason = "generated code, and handles moved out of it")]

use log::Level;

use crate::consumers::{Consumer, Presented};

wit_bindgen::generate!({
    path: "wit",
    world: "host",
    with: {
        "stile:plugin/exchange@0.1.0/edit-error": crate::EditError,
        "stile:plugin/exchange@0.1.0/reply": crate::Reply,
        "stile:plugin/exchange@0.1.0/verdict": crate::Verdict,
        "stile:plugin/exchange@0.1.0/body-verdict": crate::BodyVerdict,
        "stile:plugin/exchange@0.1.0/consumer": crate::consumers::Consumer,
    },
    generate_all,
});

pub(crate) use exchange::{Request, Response};
use stile::plugin::{consumers as directory, log as host};

/// The contract's `exchange` as the worlds of the phases use it: resources from above, values from the SDK.
pub mod exchange {
    pub use super::stile::plugin::exchange::{Header, Request, Response};
    pub use crate::{BodyVerdict, Reply, Verdict};
}

/// The contract's `body`, likewise.
pub mod body {
    pub use super::stile::plugin::body::BodyStream;
}

pub(crate) use body::BodyStream as Stream;

impl crate::Stream {
    pub(crate) fn borrow(body: &Stream) -> Self {
        // SAFETY: as below.
        Self::new(unsafe { Stream::from_handle(body.take_handle()) })
    }
}

impl crate::Request {
    pub(crate) fn borrow(request: &Request) -> Self {
        // SAFETY: the handle moves: `take_handle` leaves an empty one behind, which drops nothing.
        Self(unsafe { Request::from_handle(request.take_handle()) })
    }
}

impl crate::Response {
    pub(crate) fn borrow(response: &Response) -> Self {
        // SAFETY: as above.
        Self(unsafe { Response::from_handle(response.take_handle()) })
    }
}

pub(crate) fn log_enabled(level: Level) -> bool {
    host::enabled(level.into())
}

pub(crate) fn log_write(level: Level, message: &str) {
    host::write(level.into(), message);
}

pub(crate) fn verify(presented: &Presented<'_>) -> Option<Consumer> {
    let presented = match *presented {
        Presented::ApiKey(key) => directory::Presented::ApiKey(key.into()),
        Presented::Basic { username, password } => {
            directory::Presented::Basic(directory::Password { username: username.into(), password: password.into() })
        }
        Presented::Hmac { key_id, message, signature } => directory::Presented::Hmac(directory::Signature {
            key_id: key_id.into(),
            message: message.into(),
            signature: signature.into(),
        }),
        Presented::Jwt { issuer, subject } => {
            directory::Presented::Jwt(directory::Subject { issuer: issuer.into(), subject: subject.into() })
        }
        Presented::Certificate(subject) => directory::Presented::Certificate(subject.into()),
    };
    directory::verify(&presented)
}

impl From<Level> for host::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}
