//! The fields after the body of a request.

use crate::{Plugin, Result, Trailers};

/// A plugin that reads or edits the fields after a request's body, where there are some.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Tidy {}
///
/// impl RequestTrailers for Tidy {
///     fn on_request_trailers(&self, trailers: &mut Trailers) -> Result<()> {
///         trailers.remove_header("x-debug")?;
///         Ok(())
///     }
/// }
///
/// stile_sdk::export!(Tidy: request_trailers);
/// ```
pub trait RequestTrailers: Plugin {
    /// Edits the fields. An error is answered by the filter's `on_error`.
    fn on_request_trailers(&self, trailers: &mut Trailers) -> Result<()>;
}

pub const fn implemented<P: RequestTrailers>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{RequestTrailers, Trailers};
    use crate::phase::Component;

    include!("../bindings/request_trailers.rs");

    type Fields = Vec<(String, Vec<u8>)>;

    impl<C: Component<Plugin: RequestTrailers>> exports::stile::plugin::request_trailers::Guest for C {
        fn on_request_trailers(trailers: Fields) -> Result<Fields, String> {
            let mut trailers = Trailers(trailers);
            C::call(|plugin| plugin.on_request_trailers(&mut trailers))?;
            Ok(trailers.0)
        }
    }
}
