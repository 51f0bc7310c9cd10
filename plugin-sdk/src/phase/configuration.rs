//! The configuration of an instance: every plugin exports it, and it comes before any phase.

use crate::backend;
use crate::phase::Component;
use crate::{logger, plugin};

pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    include!("../bindings/configuration.rs");
}

impl<C: Component> guest::exports::stile::plugin::configuration::Guest for C {
    fn configure(json: String) -> Result<(), String> {
        logger::install();
        // A panic aborts, which the host sees as a trap without a reason.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            backend::panicked(panic.payload_as_str().unwrap_or("a value that is not text"), &place);
        }));
        let plugin = plugin::from_json(&json)?;
        C::slot().with(|slot| slot.set(plugin)).map_err(|_| "configured twice".into())
    }
}
