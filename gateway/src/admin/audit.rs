//! `/v1/audit`: who changed what.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, extract::Asked, resources::MAX_ITEMS};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    limit: usize,
    /// The number of a change: the page has those before it.
    before: Option<u64>,
}

/// The newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(Page { limit, before }): Asked<Page>,
) -> Result<Json<Value>, Problem> {
    let changes = admin.control.audit(before, limit.clamp(1, MAX_ITEMS)).await?;
    Ok(Json(json!({ "items": changes })))
}

fn hundred() -> usize {
    100
}
