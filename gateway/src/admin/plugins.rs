//! Revisions of plugins: what there is, pushing one, going back to one.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, At, Sent, Whole},
};
use crate::{
    control::{Known, Push, Rollout},
    plugin::{Revision, Running, signature},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rolled {
    revision: u32,
    #[serde(default = "whole")]
    percent: u8,
    pin: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Share {
    #[serde(default = "whole")]
    percent: u8,
}

pub(super) async fn revisions(State(admin): State<Admin>, At(plugin): At<String>) -> Result<Json<Value>, Problem> {
    let Known { records, state, exchanges } = admin.control.revisions(&plugin).await?;
    let items: Vec<Value> = records
        .into_iter()
        .zip(exchanges)
        .map(|(record, exchanges)| {
            let mut item = json!(record);
            item["active"] = state.as_ref().is_some_and(|state| state.leading() == record.revision).into();
            item["percent"] = state.as_ref().map_or(0, |state| state.percent(record.revision)).into();
            item["exchanges"] = exchanges.into();
            item
        })
        .collect();
    let pinned = state.as_ref().is_some_and(|state| state.pinned);
    let taken_back = state.and_then(|state| state.taken_back);
    Ok(Json(json!({ "items": items, "pinned": pinned, "taken_back": taken_back })))
}

pub(super) async fn push(
    State(admin): State<Admin>,
    At(plugin): At<String>,
    Extension(actor): Extension<Actor>,
    Asked(share): Asked<Share>,
    headers: HeaderMap,
    Whole(module): Whole,
) -> Result<(StatusCode, Json<Value>), Problem> {
    check_percent(share.percent)?;
    let signature =
        headers.get(signature::FIELD).map(|signature| String::from_utf8_lossy(signature.as_bytes()).into_owned());
    let push = Push { module: module.into(), signature, percent: share.percent };
    let pushed = admin.control.push(&plugin, push, actor.name).await?;
    let status = if pushed.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(changed(&pushed.revision, pushed.percent))))
}

pub(super) async fn rollout(
    State(admin): State<Admin>,
    At(plugin): At<String>,
    Extension(actor): Extension<Actor>,
    Sent(Rolled { revision, percent, pin }): Sent<Rolled>,
) -> Result<Json<Value>, Problem> {
    check_percent(percent)?;
    let rollout = Rollout { revision, percent, pin };
    let (revision, percent) = admin.control.roll_to(&plugin, rollout, actor.name).await?;
    Ok(Json(changed(&revision, percent)))
}

fn check_percent(percent: u8) -> Result<(), Problem> {
    if percent <= whole() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("percent: {percent} is more than 100")))
}

fn whole() -> u8 {
    100
}

/// Adds what is active of a plugin to what is told of it.
pub(super) fn tell(told: &mut Value, running: Option<&Running>) {
    let active = running.map_or_else(|| json!({ "revision": null }), |running| describe(running.leading()));
    if let (Value::Object(told), Value::Object(active)) = (told, active) {
        told.extend(active);
    }
}

/// What a change has made of a revision.
fn changed(revision: &Revision, percent: u8) -> Value {
    let mut told = describe(revision);
    told["percent"] = percent.into();
    told
}

fn describe(revision: &Revision) -> Value {
    json!({
        "revision": revision.number,
        "sha256": revision.module.sha256().to_string(),
        "phases": revision.module.phases(),
        "imports": revision.module.imports(),
    })
}
