//! `/v1/consumers`: clients known by name, and their credentials. A secret is in one answer, that of its making.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, ETAG},
    },
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    resources::{MAX_ITEMS, Page, condition},
};
use crate::{
    config::scalar,
    control::consumers::{Made, Stored, Told, Wanted},
};

/// A consumer as it is sent; what is told of it beside may come back with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    name: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(rename = "origin")]
    _origin: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old secret goes on.
    overlap: Option<scalar::Duration>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Page { limit, after }) = page?;
    let limit = limit.clamp(1, MAX_ITEMS);
    let mut all = admin.control.consumers(after.as_deref(), limit + 1).await?;
    let more = all.len() > limit;
    all.truncate(limit);
    let items: Vec<Value> = all.iter().map(told).collect();
    let mut answer = json!({ "items": items });
    if more {
        answer["next"] = answer["items"][limit - 1]["name"].clone();
    }
    Ok(Json(answer))
}

pub(super) async fn get(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Problem> {
    shown(&admin, &name, StatusCode::OK).await
}

pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Json<Sent>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(Sent { name: said, groups, .. }) = body?;
    if let Some(said) = said.filter(|said| *said != name) {
        let detail = format!("name: this is \"{}\", the path is that of \"{name}\"", said.escape_debug());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let stored = Stored { groups };
    let new = admin.control.put_consumer(name.clone(), stored, condition(&headers)?, actor.name).await?;
    shown(&admin, &name, if new { StatusCode::CREATED } else { StatusCode::OK }).await
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    admin.control.delete_consumer(name, condition(&headers)?, actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn credentials(State(admin): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let all = admin.control.credentials(&name).await?;
    let items: Vec<Value> = all.iter().map(|(id, kept)| kept.told(id)).collect();
    Ok(Json(json!({ "items": items })))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(wanted) = body?;
    Ok(made(admin.control.add_credential(name, wanted, actor.name).await?))
}

pub(super) async fn rotate(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path((name, id)): Path<(String, String)>,
    body: Result<Json<Rotation>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(Rotation { overlap }) = body?;
    let overlap = overlap.map_or(Duration::ZERO, |overlap| overlap.0);
    Ok(made(admin.control.rotate_credential(name, id, overlap, actor.name).await?))
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.remove_credential(name, id, actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn shown(admin: &Admin, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let consumer = admin.control.consumer(name).await?;
    let mut response = (status, Json(told(&consumer))).into_response();
    if let Some(tag) = consumer.revision.and_then(|revision| HeaderValue::from_str(&format!("\"{revision}\"")).ok()) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

fn told(Told { name, groups, revision }: &Told) -> Value {
    let origin = if revision.is_some() { "store" } else { "file" };
    json!({ "name": name, "groups": groups, "origin": origin })
}

/// The one answer that has the secret; nobody on the way may keep it.
fn made(Made { id, kept, secret }: Made) -> Response {
    let mut told = kept.told(&id);
    if let Some(secret) = secret {
        told["secret"] = secret.into();
    }
    (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(told)).into_response()
}
