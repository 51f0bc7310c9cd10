//! The Admin API: decodes a request, makes one call on `control`, encodes the answer. It holds no state of its own.

mod auth;
mod errors;
mod plugins;
mod problem;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post, put},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{config::schema, control::Control, plugin::loader::MAX_MODULE};

pub(crate) use auth::Tokens;
pub(crate) use problem::Problem;

/// What every handler may use.
#[derive(Debug, Clone)]
pub struct Admin {
    control: Arc<Control>,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
}

/// The API over one gateway. `stop` tells that it is going.
pub fn router(control: Arc<Control>, tokens: &[schema::Token], stop: CancellationToken) -> Router {
    let admin = Admin { control, tokens: Arc::new(Tokens::new(tokens)), stop };
    let protected = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/errors", get(errors::list))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{plugin}", get(plugins::get))
        .route("/v1/plugins/{plugin}/revisions", get(plugins::revisions).merge(put(plugins::push)))
        .route("/v1/plugins/{plugin}/rollout", post(plugins::rollout))
        .layer(DefaultBodyLimit::max(MAX_MODULE))
        .route_layer(middleware::from_fn_with_state(admin.clone(), auth::check));
    Router::new()
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .merge(protected)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(admin)
}

/// Serves until stopped.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("the admin address is no longer served: {error}");
    }
}
