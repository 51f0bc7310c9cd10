//! `/v1/audit`: who changed what.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, resources::MAX_ITEMS};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "hundred")]
    limit: usize,
    /// The number of a change: the page has those before it.
    before: Option<u64>,
}

/// The newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Page { limit, before }) = page?;
    let changes = admin.control.audit(before, limit.clamp(1, MAX_ITEMS)).await?;
    Ok(Json(json!({ "items": changes })))
}

fn hundred() -> usize {
    100
}
