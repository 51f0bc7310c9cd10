//! The whole body of a request, before the service is contacted.

use crate::{BodyVerdict, Plugin, Request, Result};

/// A plugin that decides on the whole body of a request, or puts another in its place.
///
/// The gateway collects it, up to the plugin's `limits.body` (1 MiB unless it is set), without holding an instance meanwhile.
/// A filter whose [`RequestFilter`](crate::RequestFilter) says [`PassBody`](crate::Verdict::PassBody) is not shown the body.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct OnlyJson {}
///
/// impl RequestBody for OnlyJson {
///     fn on_request_body(&self, _: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
///         match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
///             Ok(_) => Ok(BodyVerdict::Proceed),
///             Err(error) => Ok(Reply::text(422, error.to_string()).into()),
///         }
///     }
/// }
///
/// stile_sdk::export!(OnlyJson: request_body);
/// ```
pub trait RequestBody: Plugin {
    /// `body` is empty where there is none. An error is answered by the filter's `on_error`.
    fn on_request_body(&self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict>;
}

pub const fn implemented<P: RequestBody>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{BodyVerdict, Request, RequestBody};
    use crate::backend::exchange;
    use crate::phase::Component;

    include!("../bindings/request_body.rs");

    impl<C: Component<Plugin: RequestBody>> exports::stile::plugin::request_body::Guest for C {
        fn on_request_body(request: &exchange::Request, body: Vec<u8>) -> Result<BodyVerdict, String> {
            C::call(|plugin| plugin.on_request_body(&mut Request::borrow(request), body))
        }
    }
}
