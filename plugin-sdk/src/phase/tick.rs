//! Something to do from time to time, without an exchange.

use crate::{Plugin, Result};

/// A plugin that does something every `tick` of its entry in the configuration, once per configuration in the whole gateway.
///
/// Which instance is called is the gateway's choice: what others shall know goes through [`key_value`](crate::key_value).
///
/// ```
/// use stile_sdk::{key_value, prelude::*};
///
/// #[derive(Deserialize)]
/// struct Beat {}
///
/// impl Tick for Beat {
///     fn on_tick(&self) -> Result<()> {
///         key_value::increment("beats", 1, None)?;
///         Ok(())
///     }
/// }
///
/// stile_sdk::export!(Beat: tick);
/// ```
pub trait Tick: Plugin {
    /// An error is logged and counted, and the next tick comes all the same.
    fn on_tick(&self) -> Result<()>;
}

pub const fn implemented<P: Tick>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::Tick;
    use crate::phase::Component;

    include!("../bindings/tick.rs");

    impl<C: Component<Plugin: Tick>> exports::stile::plugin::tick::Guest for C {
        fn on_tick() -> Result<(), String> {
            C::call(|plugin| plugin.on_tick())
        }
    }
}
