//! The whole body of a response, before the client sees anything of it.

use crate::{BodyVerdict, Plugin, Response, Result};

/// A plugin that decides on the whole body of a response, or puts another in its place.
///
/// The gateway collects it, up to the plugin's `limits.body` (1 MiB unless it is set), without holding an instance meanwhile.
/// A filter whose [`ResponseFilter`](crate::ResponseFilter) says [`PassBody`](crate::Verdict::PassBody) is not shown the body.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Shout {}
///
/// impl ResponseBody for Shout {
///     fn on_response_body(&self, _: &mut Response, body: Vec<u8>) -> Result<BodyVerdict> {
///         Ok(BodyVerdict::Replace(body.to_ascii_uppercase()))
///     }
/// }
///
/// stile_sdk::export!(Shout: response_body);
/// ```
pub trait ResponseBody: Plugin {
    /// `body` is empty where there is none. An error is answered by the filter's `on_error`.
    fn on_response_body(&self, response: &mut Response, body: Vec<u8>) -> Result<BodyVerdict>;
}

pub const fn implemented<P: ResponseBody>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{BodyVerdict, Response, ResponseBody};
    use crate::backend::exchange;
    use crate::phase::Component;

    include!("../bindings/response_body.rs");

    impl<C: Component<Plugin: ResponseBody>> exports::stile::plugin::response_body::Guest for C {
        fn on_response_body(response: &exchange::Response, body: Vec<u8>) -> Result<BodyVerdict, String> {
            C::call(|plugin| plugin.on_response_body(&mut Response::borrow(response), body))
        }
    }
}
