//! What has become of an exchange: once it has ended, however it did.

use crate::{Plugin, Request, Response, Result};

/// A plugin that is called once for each exchange after its end.
///
/// The call comes however the exchange ended: also where an earlier filter answered, where the client left, and where no other
/// phase of this filter ran or one of them failed. Only [`Verdict::Done`](crate::Verdict::Done) of an earlier phase of this
/// filter keeps it away.
///
/// ```
/// use stile_sdk::{metrics, prelude::*};
///
/// #[derive(Deserialize)]
/// struct CountFaults {}
///
/// impl ExchangeLog for CountFaults {
///     fn on_log(&self, _: &Request, _: &Response, summary: &Summary) -> Result<()> {
///         if let Some(cause) = &summary.cause {
///             metrics::add("faults", &[("cause", cause)], 1)?;
///         }
///         Ok(())
///     }
/// }
///
/// stile_sdk::export!(CountFaults: log);
/// ```
pub trait ExchangeLog: Plugin {
    /// The heads are as they were at the end.
    fn on_log(&self, request: &Request, response: &Response, summary: &Summary) -> Result<()>;
}

/// What has become of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// 499 where the client left before there was an answer.
    pub status: u16,
    /// Empty where none matched.
    pub route: String,
    /// Likewise.
    pub service: String,
    /// Who answered.
    pub endpoint: Option<String>,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
    /// Microseconds from the head of the request to that of the response.
    pub answered: Option<u64>,
    /// Microseconds to the end.
    pub duration: u64,
    /// Whose doing it was that it did not end well: `client`, `plugin`, `upstream` or `gateway`.
    pub blame: Option<String>,
    /// Why, in a word.
    pub cause: Option<String>,
}

pub const fn implemented<P: ExchangeLog>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{ExchangeLog, Request, Response};
    use crate::backend::exchange;
    use crate::phase::Component;
    use exports::stile::plugin::exchange_log as wit;

    include!("../bindings/log.rs");

    impl<C: Component<Plugin: ExchangeLog>> exports::stile::plugin::exchange_log::Guest for C {
        fn on_log(
            request: &exchange::Request,
            response: &exchange::Response,
            summary: wit::Summary,
        ) -> Result<(), String> {
            let wit::Summary { status, route, service, endpoint, received, sent, answered, duration, blame, cause } =
                summary;
            let summary =
                super::Summary { status, route, service, endpoint, received, sent, answered, duration, blame, cause };
            C::call(|plugin| plugin.on_log(&Request::borrow(request), &Response::borrow(response), &summary))
        }
    }
}
