//! Revisions of plugins: what there is, pushing one, going back to one.

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, At, Sent, Whole},
};
use crate::plugin::Revision;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollout {
    revision: u32,
    #[serde(default = "whole")]
    percent: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Share {
    #[serde(default = "whole")]
    percent: u8,
}

pub(super) async fn revisions(State(admin): State<Admin>, At(plugin): At<String>) -> Result<Json<Value>, Problem> {
    let (records, active) = admin.control.revisions(&plugin).await?;
    let items: Vec<Value> = records
        .into_iter()
        .map(|record| {
            let mut item = json!(record);
            item["active"] = (Some(record.revision) == active).into();
            item
        })
        .collect();
    Ok(Json(json!({ "items": items })))
}

pub(super) async fn push(
    State(admin): State<Admin>,
    At(plugin): At<String>,
    Extension(actor): Extension<Actor>,
    Asked(share): Asked<Share>,
    Whole(module): Whole,
) -> Result<(StatusCode, Json<Value>), Problem> {
    check_whole(share.percent)?;
    let pushed = admin.control.push(&plugin, module.into(), actor.name).await?;
    let status = if pushed.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(describe(&pushed.revision))))
}

pub(super) async fn rollout(
    State(admin): State<Admin>,
    At(plugin): At<String>,
    Extension(actor): Extension<Actor>,
    Sent(rollout): Sent<Rollout>,
) -> Result<Json<Value>, Problem> {
    check_whole(rollout.percent)?;
    let revision = admin.control.roll_to(&plugin, rollout.revision, actor.name).await?;
    Ok(Json(describe(&revision)))
}

fn check_whole(percent: u8) -> Result<(), Problem> {
    if percent == whole() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "a rollout to a share of the traffic is not supported, only percent=100",
    ))
}

fn whole() -> u8 {
    100
}

/// Adds what is active of a plugin to what is told of it.
pub(super) fn tell(told: &mut Value, active: Option<&Revision>) {
    let active = active.map_or_else(|| json!({ "revision": null }), describe);
    if let (Value::Object(told), Value::Object(active)) = (told, active) {
        told.extend(active);
    }
}

fn describe(revision: &Revision) -> Value {
    json!({
        "revision": revision.number,
        "sha256": revision.module.sha256().to_string(),
        "phases": revision.module.phases(),
        "imports": revision.module.imports(),
    })
}
