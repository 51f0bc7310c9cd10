//! The Admin API: decodes a request, makes one call on `control`, encodes the answer. It holds no state of its own.

mod audit;
mod auth;
mod consumers;
mod endpoints;
mod errors;
mod events;
mod extract;
mod grants;
mod history;
mod openapi;
mod operations;
mod plugins;
mod problem;
mod resources;
mod serve;
mod status;
mod transfer;
mod usage;
mod versions;

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
    routing::get,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{config::schema, control::Control, monitor::health::Health};

pub(crate) use auth::Tokens;
use extract::Most;
use operations::Operation;
pub(crate) use problem::Problem;
pub use serve::{Address, serve};

/// What every handler may use.
#[derive(Debug, Clone)]
pub struct Admin {
    control: Arc<Control>,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
    health: Arc<Health>,
}

/// The API over one gateway. `stop` tells that it is going.
pub fn router(control: Arc<Control>, tokens: &[schema::Token], stop: CancellationToken, health: Arc<Health>) -> Router {
    let admin = Admin { control, tokens: Arc::new(Tokens::new(tokens)), stop, health };
    let mut router = Router::new();
    for Operation { path, needs, body, handler, .. } in operations::all() {
        let most = body.map_or(0, |body| body.most);
        let handler = handler.layer::<_, Infallible>(DefaultBodyLimit::max(most)).layer(Extension(Most(most)));
        let handler = match needs {
            Some(needs) => handler
                .route_layer(middleware::from_fn_with_state(admin.clone(), move |state, client, request, next| {
                    auth::check(needs, state, client, request, next)
                })),
            None => handler,
        };
        router = router.route(&path, handler);
    }
    router.fallback(problem::not_found).method_not_allowed_fallback(problem::method_not_allowed).with_state(admin)
}

/// Returns the answers of the admin address: those of `api` once it is set, until then those of a gateway that compiles its
/// first generation.
pub fn when_started(api: Arc<OnceLock<Router>>) -> Router {
    let starting = Router::new().route("/healthz", get(async || "ok\n")).fallback(status::starting);
    Router::new().fallback(move |request: Request| {
        // A router is always ready.
        api.get().unwrap_or(&starting).clone().call(request)
    })
}
