//! The response phase: before the client sees the head of the response.

use crate::{Plugin, Response, Result, Verdict};

/// A plugin that decides on responses before the client sees their head.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct NoSniff {}
///
/// impl ResponseFilter for NoSniff {
///     fn on_response(&self, response: &mut Response) -> Result<Verdict> {
///         response.set_header("x-content-type-options", "nosniff")?;
///         Ok(Verdict::Proceed)
///     }
/// }
///
/// stile_sdk::export!(NoSniff: response);
/// ```
pub trait ResponseFilter: Plugin {
    /// Reads and edits the response, and says what follows. An error is answered by the filter's
    /// `on_error`, and its edits are undone.
    fn on_response(&self, response: &mut Response) -> Result<Verdict>;
}

pub const fn implemented<P: ResponseFilter>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{Response, ResponseFilter, Verdict};
    use crate::backend::exchange;
    use crate::phase::Component;

    include!("../bindings/response.rs");

    impl<C: Component<Plugin: ResponseFilter>> exports::stile::plugin::response_filter::Guest for C {
        fn on_response(response: &exchange::Response) -> Result<Verdict, String> {
            C::call(|plugin| plugin.on_response(&mut Response::borrow(response)))
        }
    }
}
