//! The fields after the body of a response.

use crate::{Plugin, Result, Trailers};

/// A plugin that reads or edits the fields after a response's body, where there are some.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Tidy {}
///
/// impl ResponseTrailers for Tidy {
///     fn on_response_trailers(&self, trailers: &mut Trailers) -> Result<()> {
///         trailers.remove_header("x-debug")?;
///         Ok(())
///     }
/// }
///
/// stile_sdk::export!(Tidy: response_trailers);
/// ```
pub trait ResponseTrailers: Plugin {
    /// Edits the fields. An error is answered by the filter's `on_error`.
    fn on_response_trailers(&self, trailers: &mut Trailers) -> Result<()>;
}

pub const fn implemented<P: ResponseTrailers>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{ResponseTrailers, Trailers};
    use crate::phase::Component;

    include!("../bindings/response_trailers.rs");

    type Fields = Vec<(String, Vec<u8>)>;

    impl<C: Component<Plugin: ResponseTrailers>> exports::stile::plugin::response_trailers::Guest for C {
        fn on_response_trailers(trailers: Fields) -> Result<Fields, String> {
            let mut trailers = Trailers(trailers);
            C::call(|plugin| plugin.on_response_trailers(&mut trailers))?;
            Ok(trailers.0)
        }
    }
}
