//! Where a request goes: for the `filters` of a listener, before the routes' matches are looked at.

use crate::{Plugin, Reply, Request, Result};

/// A plugin that chooses where requests go.
///
/// ```
/// use stile_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct ByTenant {}
///
/// impl Router for ByTenant {
///     fn route(&self, request: &mut Request, _: Option<Vec<u8>>) -> Result<Destination> {
///         match request.header("x-tenant") {
///             Some(tenant) => Ok(Destination::Service(format!("orders-{tenant}"))),
///             None => Ok(Destination::Matched),
///         }
///     }
/// }
///
/// stile_sdk::export!(ByTenant: route);
/// ```
pub trait Router: Plugin {
    /// Says where the request goes; edits of it count for the routes' matches. `body` is there if it was asked for by
    /// [`Destination::WithBody`]. An error is answered by the filter's `on_error`.
    fn route(&self, request: &mut Request, body: Option<Vec<u8>>) -> Result<Destination>;
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Destination {
    /// Where the routes' matches lead, by the request as it is now.
    Matched,
    /// The route of this name, whatever its match; that there is none is a failure of the plugin.
    Route(String),
    /// The service of this name, without a route's filters; likewise.
    Service(String),
    /// Not known without the body: ask again with it. It may have what the plugin's `limits.body` says.
    WithBody,
    /// Nowhere: answer with this.
    Respond(Reply),
}

impl From<Reply> for Destination {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

pub const fn implemented<P: Router>() {}

#[cfg(target_arch = "wasm32")]
pub mod guest {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications, reason = "generated code")]
    use super::{Destination, Request, Router};
    use crate::backend::exchange;
    use crate::phase::Component;
    use exports::stile::plugin::router as wit;

    include!("../bindings/route.rs");

    impl<C: Component<Plugin: Router>> exports::stile::plugin::router::Guest for C {
        fn route(request: &exchange::Request, body: Option<Vec<u8>>) -> Result<wit::Destination, String> {
            let destination = C::call(|plugin| plugin.route(&mut Request::borrow(request), body))?;
            Ok(match destination {
                Destination::Matched => wit::Destination::Matched,
                Destination::Route(name) => wit::Destination::Route(name),
                Destination::Service(name) => wit::Destination::Service(name),
                Destination::WithBody => wit::Destination::WithBody,
                Destination::Respond(reply) => wit::Destination::Respond(reply),
            })
        }
    }
}
