//! The body of a request as it passes.

use crate::{Plugin, Result, Stream};

/// A plugin that changes bodies of requests while they pass, whatever their length; [`Stream`] tells how.
///
/// The plugin's `deadline` begins anew with each piece that is read, and its instance serves nobody else until it is done.
///
/// ```
/// use std::io::Write;
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct AtMost {
///     bytes: u64,
/// }
///
/// impl RequestStream for AtMost {
///     fn on_request_stream(&self, body: &mut Stream) -> Result<()> {
///         let mut seen = 0;
///         while let Some(piece) = body.next_piece() {
///             seen += piece.len() as u64;
///             if seen > self.bytes {
///                 return Err(Error::new("more than it may be"));
///             }
///             body.write_all(&piece)?;
///         }
///         Ok(())
///     }
/// }
///
/// stile_sdk::export!(AtMost: request_stream);
/// ```
pub trait RequestStream: Plugin {
    /// Reads and writes until it is done; what it has not read by then passes as it is. An error ends the exchange.
    fn on_request_stream(&self, body: &mut Stream) -> Result<()>;
}

pub const fn implemented<P: RequestStream>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{RequestStream, Stream};
    use crate::backend::body;
    use crate::phase::Component;

    include!("../bindings/request_stream.rs");

    impl<C: Component<Plugin: RequestStream>> exports::stile::plugin::request_stream::Guest for C {
        fn on_request_stream(body: &body::BodyStream) -> Result<(), String> {
            let mut body = Stream::borrow(body);
            C::call(|plugin| plugin.on_request_stream(&mut body))?;
            body.finish();
            Ok(())
        }
    }
}
