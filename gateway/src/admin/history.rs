//! `/v1/generations`: what made each, what is otherwise now, and the way back.

use axum::{Extension, Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, At},
    resources::{How, MAX_ITEMS},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "twenty")]
    #[schemars(range(min = 1))]
    limit: usize,
    /// The page has the generations before this one.
    before: Option<u64>,
}

/// The newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(Page { limit, before }): Asked<Page>,
) -> Result<Json<Value>, Problem> {
    let generations = admin.control.generations(before, limit.clamp(1, MAX_ITEMS)).await?;
    Ok(Json(json!({ "items": generations })))
}

pub(super) async fn differences(State(admin): State<Admin>, At(generation): At<u64>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": admin.control.differences(generation).await? })))
}

pub(super) async fn restore(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(generation): At<u64>,
    Asked(How { dry_run }): Asked<How>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": admin.control.restore(generation, dry_run, actor.name).await? })))
}

fn twenty() -> usize {
    20
}
