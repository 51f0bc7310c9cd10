//! Who calls: before the other phases of the same filter.

use crate::{Plugin, Request, Result, consumers::Consumer};

/// A plugin that tells who calls, by what the client presents.
///
/// It is not asked where another filter of the exchange has told already.
///
/// ```
/// use stile_sdk::{consumers::{self, Presented}, prelude::*};
///
/// #[derive(Deserialize)]
/// struct ByKey {}
///
/// impl Authenticator for ByKey {
///     fn authenticate(&self, request: &mut Request) -> Result<Identity> {
///         let Some(key) = request.header("x-api-key") else { return Ok(Identity::Unknown) };
///         match key.as_str().and_then(|key| consumers::verify(&Presented::ApiKey(key))) {
///             Some(consumer) => Ok(Identity::Known(consumer)),
///             None => Ok(Refusal::unauthorized("ApiKey", "this key is nobody's").into()),
///         }
///     }
/// }
///
/// stile_sdk::export!(ByKey: authenticate);
/// ```
pub trait Authenticator: Plugin {
    /// Says whom the request comes from. An error is answered by the filter's `on_error`.
    fn authenticate(&self, request: &mut Request) -> Result<Identity>;
}

/// Whom a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Identity {
    /// Somebody whom [`consumers::verify`](crate::consumers::verify) has told of in this call; anybody else is a failure of
    /// the plugin.
    Known(Consumer),
    /// Nobody who is known; other filters may tell.
    Unknown,
    /// Whoever it is, it is not let through.
    Refused(Refusal),
}

/// Why a request is not let through. The gateway answers with a problem document (RFC 9457).
///
/// ```
/// use stile_sdk::Refusal;
///
/// let refusal = Refusal::unauthorized("Bearer realm=\"orders\"", "the token has expired");
/// assert_eq!((refusal.status, refusal.challenges.len()), (401, 1));
/// assert_eq!(Refusal::new(403, "not on Sundays").challenges.len(), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400 to 499.
    pub status: u16,
    /// What the client may present (`WWW-Authenticate`, RFC 9110 §11.6.1); 401 needs one.
    pub challenges: Vec<String>,
    /// What the client is told.
    pub detail: String,
}

impl Refusal {
    /// A refusal without a challenge.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, challenges: Vec::new(), detail: detail.into() }
    }

    /// 401 with what the client may present.
    pub fn unauthorized(challenge: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { challenges: vec![challenge.into()], ..Self::new(401, detail) }
    }
}

impl From<Refusal> for Identity {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub const fn implemented<P: Authenticator>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{Authenticator, Request};
    use crate::backend::exchange;
    use crate::phase::Component;
    use exports::stile::plugin::authenticator as wit;

    include!("../bindings/authenticate.rs");

    impl<C: Component<Plugin: Authenticator>> exports::stile::plugin::authenticator::Guest for C {
        fn authenticate(request: &exchange::Request) -> Result<wit::Identity, String> {
            let identity = C::call(|plugin| plugin.authenticate(&mut Request::borrow(request)))?;
            Ok(match identity {
                super::Identity::Known(consumer) => wit::Identity::Known(consumer),
                super::Identity::Unknown => wit::Identity::Unknown,
                super::Identity::Refused(super::Refusal { status, challenges, detail }) => {
                    wit::Identity::Refused(wit::Refusal { status, challenges, detail })
                }
            })
        }
    }
}
