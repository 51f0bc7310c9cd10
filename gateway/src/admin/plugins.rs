//! `/v1/plugins`: what is loaded, pushing a revision, going back to one.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, JsonRejection, QueryRejection},
    },
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::{
    control::PluginError,
    plugin::{Revision, loader::MAX_MODULE},
};

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

pub(super) async fn list(State(admin): State<Admin>) -> Json<Value> {
    let plugins = admin.control.plugins().await;
    let items: Vec<Value> = plugins.iter().map(|(name, active)| summary(name, active.as_ref())).collect();
    Json(json!({ "items": items }))
}

pub(super) async fn get(State(admin): State<Admin>, Path(plugin): Path<String>) -> Result<Json<Value>, Problem> {
    let plugins = admin.control.plugins().await;
    let found = plugins.iter().find(|(name, _)| *name == plugin);
    let (name, active) = found.ok_or_else(|| unknown(&plugin))?;
    Ok(Json(summary(name, active.as_ref())))
}

pub(super) async fn revisions(State(admin): State<Admin>, Path(plugin): Path<String>) -> Result<Json<Value>, Problem> {
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
    Path(plugin): Path<String>,
    share: Result<Query<Share>, QueryRejection>,
    module: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Query(share) = share.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    check_whole(share.percent)?;
    let module = module.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a module may have {MAX_MODULE} bytes, no more"))
        }
        status => Problem::new(status, error.body_text()),
    })?;
    let pushed = admin.control.push(&plugin, module.into()).await?;
    let status = if pushed.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(describe(&pushed.revision))))
}

pub(super) async fn rollout(
    State(admin): State<Admin>,
    Path(plugin): Path<String>,
    rollout: Result<Json<Rollout>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(rollout) = rollout.map_err(|error| match error {
        JsonRejection::MissingJsonContentType(_) => {
            Problem::new(error.status(), "the body must be JSON, and say so: content-type: application/json")
        }
        error => Problem::new(error.status(), error.body_text()),
    })?;
    check_whole(rollout.percent)?;
    let revision = admin.control.roll_to(&plugin, rollout.revision).await?;
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

fn summary(name: &str, active: Option<&Revision>) -> Value {
    let mut summary = active.map_or_else(|| json!({ "revision": null }), describe);
    summary["name"] = name.into();
    summary
}

fn describe(revision: &Revision) -> Value {
    json!({
        "revision": revision.number,
        "sha256": revision.module.sha256().to_string(),
        "phases": revision.module.phases(),
        "imports": revision.module.imports(),
    })
}

fn unknown(plugin: &str) -> Problem {
    PluginError::UnknownPlugin(plugin.to_owned()).into()
}
