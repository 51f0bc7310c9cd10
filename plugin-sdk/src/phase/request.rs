//! The request phase: before the service is contacted.

use crate::{Plugin, Request, Result, Verdict};

/// A plugin that decides on requests before the service is contacted.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct ReadOnly {}
///
/// impl RequestFilter for ReadOnly {
///     fn on_request(&self, request: &mut Request) -> Result<Verdict> {
///         match request.method().as_str() {
///             "GET" | "HEAD" => Ok(Verdict::Proceed),
///             _ => Ok(Reply::new(405).header("allow", "GET, HEAD").into()),
///         }
///     }
/// }
///
/// stile_sdk::export!(ReadOnly: request);
/// ```
pub trait RequestFilter: Plugin {
    /// Reads and edits the request, and says what follows. An error is answered by the filter's
    /// `on_error`, and its edits are undone.
    fn on_request(&self, request: &mut Request) -> Result<Verdict>;
}

pub const fn implemented<P: RequestFilter>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{Request, RequestFilter, Verdict};
    use crate::backend::exchange;
    use crate::phase::Component;

    include!("../bindings/request.rs");

    impl<C: Component<Plugin: RequestFilter>> exports::stile::plugin::request_filter::Guest for C {
        fn on_request(request: &exchange::Request) -> Result<Verdict, String> {
            C::call(|plugin| plugin.on_request(&mut Request::borrow(request)))
        }
    }
}
