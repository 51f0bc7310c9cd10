//! Which endpoint of a service a request goes to: for the `balance` of a service.

use crate::{Plugin, Request, Result};

/// A plugin that chooses among the endpoints of a service.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Quietest {}
///
/// impl Balancer for Quietest {
///     fn choose(&self, _: &Request, candidates: &[Candidate]) -> Result<usize> {
///         let quietest = candidates.iter().enumerate().min_by_key(|(_, it)| it.in_flight);
///         Ok(quietest.map_or(0, |(number, _)| number))
///     }
/// }
///
/// stile_sdk::export!(Quietest: balance);
/// ```
pub trait Balancer: Plugin {
    /// The number of one of the candidates, of which there is at least one. An error, or a number that is none, is answered by
    /// the plugin's `on_error`: `open` leaves the choice to the gateway.
    fn choose(&self, request: &Request, candidates: &[Candidate]) -> Result<usize>;
}

/// An endpoint that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Address and port.
    pub address: String,
    /// As the configuration has it.
    pub weight: u16,
    /// Exchanges under way there, of this gateway.
    pub in_flight: u32,
    /// How long its answers took to begin of late, in microseconds; none before the first.
    pub latency: Option<u32>,
}

pub const fn implemented<P: Balancer>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{Balancer, Request};
    use crate::backend::exchange;
    use crate::phase::Component;
    use exports::stile::plugin::balancer as wit;

    include!("../bindings/balance.rs");

    impl<C: Component<Plugin: Balancer>> exports::stile::plugin::balancer::Guest for C {
        fn choose(request: &exchange::Request, candidates: Vec<wit::Candidate>) -> Result<u32, String> {
            let tell = |it: wit::Candidate| {
                let wit::Candidate { address, weight, in_flight, latency } = it;
                super::Candidate { address, weight, in_flight, latency }
            };
            let candidates: Vec<_> = candidates.into_iter().map(tell).collect();
            let chosen = C::call(|plugin| plugin.choose(&Request::borrow(request), &candidates))?;
            Ok(u32::try_from(chosen).unwrap_or(u32::MAX))
        }
    }
}
