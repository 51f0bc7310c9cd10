//! `/v1/errors`: the last exchanges that did not end well, by route, with whose doing it was and why.

use std::time::SystemTime;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, extract::Asked};
use crate::monitor::record::Mishap;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Empty is what no route matched.
    route: Option<String>,
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    limit: usize,
}

/// The newest first.
pub(super) async fn list(State(admin): State<Admin>, Asked(filter): Asked<Filter>) -> Result<Json<Value>, Problem> {
    let routes = admin.control.live().load_full().records.routes.all();
    let wanted = routes.iter().filter(|([route, _], _)| filter.route.as_ref().is_none_or(|wanted| **wanted == **route));
    let mut mishaps: Vec<_> = wanted
        .flat_map(|([route, service], record)| {
            record.errors.all().into_iter().map(move |mishap| (route, service, mishap))
        })
        .collect();
    mishaps.sort_by_key(|(.., mishap)| std::cmp::Reverse(mishap.at));
    let items: Vec<Value> =
        mishaps.iter().take(filter.limit).map(|(route, service, mishap)| item(route, service, mishap)).collect();
    Ok(Json(json!({ "items": items })))
}

fn item(route: &str, service: &str, mishap: &Mishap) -> Value {
    let at = mishap.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "time": humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + at).to_string(),
        "route": route,
        "service": service,
        "request_id": mishap.request_id,
        "client": mishap.client.to_string(),
        "peer": mishap.peer.ip().to_string(),
        "peer_port": mishap.peer.port(),
        "method": mishap.method,
        "path": mishap.path,
        "status": mishap.status,
        "blame": mishap.fault.blame,
        "cause": mishap.fault.cause,
        "endpoint": mishap.endpoint.as_deref(),
        "message": &*mishap.message,
        "duration_ms": mishap.after.as_secs_f64() * 1000.0,
    })
}

fn hundred() -> usize {
    100
}
