//! The body of a response as it passes.

use crate::{Plugin, Result, Stream};

/// A plugin that changes bodies of responses while they pass, whatever their length; [`Stream`] tells how.
///
/// The plugin's `deadline` begins anew with each piece that is read, and its instance serves nobody else until it is done.
///
/// ```
/// use std::io::Write;
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Preface {
///     text: String,
/// }
///
/// impl ResponseStream for Preface {
///     fn on_response_stream(&self, body: &mut Stream) -> Result<()> {
///         body.write_all(self.text.as_bytes())?;
///         Ok(()) // the rest passes unread
///     }
/// }
///
/// stile_sdk::export!(Preface: response_stream);
/// ```
pub trait ResponseStream: Plugin {
    /// Reads and writes until it is done; what it has not read by then passes as it is. The head of the response waits until this waits
    /// for a piece of the body, writes or returns: an error before that is answered as any failure of a plugin, a later one cuts the
    /// body off.
    fn on_response_stream(&self, body: &mut Stream) -> Result<()>;
}

pub const fn implemented<P: ResponseStream>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{ResponseStream, Stream};
    use crate::backend::body;
    use crate::phase::Component;

    include!("../bindings/response_stream.rs");

    impl<C: Component<Plugin: ResponseStream>> exports::stile::plugin::response_stream::Guest for C {
        fn on_response_stream(body: &body::BodyStream) -> Result<(), String> {
            let mut body = Stream::borrow(body);
            C::call(|plugin| plugin.on_response_stream(&mut body))?;
            body.finish();
            Ok(())
        }
    }
}
