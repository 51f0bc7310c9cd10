//! Is it alive, is it ready, and what is it doing: `/healthz`, `/readyz`, `/metrics`, `/v1/status`, `/v1/stats`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use serde_json::{Value, json};

use super::{Admin, Problem, auth::Actor};
use crate::{
    config::schema::Role,
    filter::Filter,
    monitor::{metrics, stats},
    plugin::Cause,
    worker::WorkerId,
};

/// Stands for the reason why a configuration was refused, where a viewer reads the status.
const UNTOLD: &str = "a configuration was refused; the role viewer does not see why";

/// Alive as long as the loop of every worker turns.
pub(super) async fn health(State(admin): State<Admin>) -> Result<&'static str, Problem> {
    let stalled = |(worker, since): (WorkerId, Duration)| {
        format!("worker {} (thread stile-worker-{0}) has not turned for {} s", worker.0, since.as_secs())
    };
    match admin.health.stalled().map(stalled).collect::<Vec<_>>() {
        stalled if stalled.is_empty() => Ok("ok\n"),
        stalled => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, stalled.join(", "))),
    }
}

/// The answer to all but `/healthz` until there is a first generation.
pub(super) async fn starting() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting: it compiles its plugins")
}

/// Ready from the first generation until the gateway stops.
pub(super) async fn ready(State(admin): State<Admin>) -> Result<&'static str, Problem> {
    if admin.stop.is_cancelled() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"));
    }
    Ok("ready\n")
}

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let text = metrics::render(&admin.control.live().load_full(), &admin.control.standing(admin.health.dropped()));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

pub(super) async fn stats(State(admin): State<Admin>) -> Json<Value> {
    Json(stats::stats(&admin.control.live().load_full()))
}

pub(super) async fn status(State(admin): State<Admin>, Extension(actor): Extension<Actor>) -> Json<Value> {
    let snapshot = admin.control.live().load_full();
    let refused = admin.control.last_refused().map(|refused| {
        let at = refused.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // It may quote the configuration of a filter, or what a variable of the file holds.
        let message = if actor.role == Role::Viewer { UNTOLD } else { &refused.message };
        json!({ "at": at, "message": message })
    });
    let routes: Vec<Value> = snapshot
        .routes
        .iter()
        .map(|route| {
            let filters: Vec<Value> = route.chain.filters().iter().map(|it| filter(it)).collect();
            json!({ "name": &*route.name, "service": &*route.service.name, "filters": filters })
        })
        .collect();
    let listeners = admin.control.listeners().addresses();
    let listeners: Vec<Value> =
        listeners.iter().map(|(name, address)| json!({ "name": &**name, "address": address.to_string() })).collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": snapshot.generation,
        "age_seconds": snapshot.since.elapsed().as_secs(),
        "last_error": refused,
        "listeners": listeners,
        "registrations": { "all": admin.control.registry().count(), "held": admin.control.registry().held() },
        "routes": routes,
    }))
}

fn filter(filter: &Filter) -> Value {
    let failures = Cause::ALL.into_iter().map(|cause| (cause.as_str(), filter.failures(cause)));
    let failures: BTreeMap<_, _> = failures.filter(|(_, n)| *n > 0).collect();
    let leading = filter.leading().map(|version| &version.instances);
    json!({
        "plugin": &*filter.plugin,
        "revision": leading.map(|instances| instances.revision().number),
        "instances": leading.map(|instances| instances.alive()),
        "memory_bytes": leading.map(|instances| instances.memory()),
        "failures": failures,
    })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use axum::{Router, body::Body, http::Request};
    use http_body_util::BodyExt;
    use tokio::time::{advance, pause, timeout};
    use tokio_util::sync::CancellationToken;
    use tower_service::Service;

    use super::*;
    use crate::{
        admin::router,
        config::Document,
        control::Control,
        listener::Listeners,
        monitor::health::Health,
        plugin::{Bounds, Engine},
    };

    async fn control() -> Arc<Control> {
        let bounds =
            Bounds { instances: 1, memory: 1 << 20, table_elements: 100, core_instances: 16, ..Bounds::default() };
        let engine = Engine::new(bounds).expect("an engine");
        let document = Document::parse(Path::new("stile.yaml"), "{}", &|_| None);
        let listeners = Listeners::new(Vec::new(), None, CancellationToken::new());
        Arc::new(Control::start(engine, document, listeners, 1).await.expect("a control plane"))
    }

    /// Returns the status and the body of `/healthz`.
    async fn healthz(api: &Router) -> (u16, String) {
        let request = Request::get("/healthz").body(Body::empty()).expect("a request");
        let answer = api.clone().call(request).await.expect("a router always answers");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("a text"))
    }

    /// Returns the detail of the problem that `/healthz` answers with.
    async fn failure(api: &Router) -> Value {
        let (status, body) = healthz(api).await;
        assert_eq!(status, 503, "{body}");
        let problem: Value = serde_json::from_str(&body).expect("a problem is JSON");
        problem["detail"].clone()
    }

    #[tokio::test]
    async fn healthz_names_the_workers_whose_loops_stand_still() {
        let control = control().await;
        pause();
        let health = Arc::new(Health::new(3, Duration::from_secs(10), None));
        let api = router(control, &[], CancellationToken::new(), Arc::clone(&health));
        advance(Duration::from_secs(9)).await;
        assert_eq!(healthz(&api).await, (200, "ok\n".to_owned()));
        let turns = |worker| timeout(Duration::from_secs(3), health.attend(WorkerId(worker)));
        let _ = turns(1).await;
        let named = "worker 0 (thread stile-worker-0) has not turned for 12 s, \
                     worker 2 (thread stile-worker-2) has not turned for 12 s";
        assert_eq!(failure(&api).await, named);
        let _ = turns(0).await;
        assert_eq!(failure(&api).await, "worker 2 (thread stile-worker-2) has not turned for 15 s");
        let _ = turns(2).await;
        assert_eq!(healthz(&api).await, (200, "ok\n".to_owned()));
    }
}
