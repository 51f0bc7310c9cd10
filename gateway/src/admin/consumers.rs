//! `/v1/consumers`: clients known by name, and their credentials. A secret is in one answer, that of its making.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, ETAG},
    },
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, At, Sent},
    resources::{How, MAX_ITEMS, Page, condition, would},
};
use crate::{
    config::scalar,
    control::{
        consumers::{ConsumerError, Made, Stored, Told, Wanted, Wish},
        resources::Outcome,
    },
};

/// A consumer as it is sent; what is told of it beside may come back with it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Consumer {
    name: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(rename = "origin")]
    _origin: Option<String>,
    /// What a file has here, and is made one by one.
    credentials: Option<Value>,
    grants: Option<Value>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old secret goes on.
    overlap: Option<scalar::Duration>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(Page { limit, after }): Asked<Page>,
) -> Result<Json<Value>, Problem> {
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

pub(super) async fn get(State(admin): State<Admin>, At(name): At<String>) -> Result<Response, Problem> {
    Ok(shown(StatusCode::OK, &admin.control.consumer(&name).await?))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Asked(How { dry_run }): Asked<How>,
    headers: HeaderMap,
    Sent(Consumer { name: said, groups, credentials, grants, .. }): Sent<Consumer>,
) -> Result<Response, Problem> {
    let apart = [("credentials", credentials, "credential add"), ("grants", grants, "grant put")];
    let apart = apart.into_iter().filter(|(_, given, _)| given.is_some()).map(|(key, _, command)| {
        let message = format!(
            "they are made one by one, at /v1/consumers/{}/{key}: stile consumer {command}",
            name.escape_debug()
        );
        (key.to_owned(), message)
    });
    let apart: Vec<_> = apart.collect();
    if !apart.is_empty() {
        return Err(Problem::of_mistakes(apart));
    }
    if let Some(said) = said.filter(|said| *said != name) {
        let detail = format!("name: this is \"{}\", the path is that of \"{name}\"", said.escape_debug());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let (stored, condition) = (Some(Stored { groups: groups.clone() }), condition(&headers)?);
    let wish = Wish { name: name.clone(), stored, condition, by: actor.name };
    match admin.control.change_consumer(wish, dry_run).await? {
        outcome if dry_run => Ok(would(outcome)),
        // What was made, whatever others have made of it since.
        Outcome::Created(revision) => Ok(shown(StatusCode::CREATED, &Told { name, groups, revision: Some(revision) })),
        Outcome::Changed(revision) => Ok(shown(StatusCode::OK, &Told { name, groups, revision: Some(revision) })),
        Outcome::Deleted => Err(ConsumerError::Unknown(name).into()),
    }
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Asked(How { dry_run }): Asked<How>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wish = Wish { name, stored: None, condition: condition(&headers)?, by: actor.name };
    let outcome = admin.control.change_consumer(wish, dry_run).await?;
    Ok(if dry_run { would(outcome) } else { StatusCode::NO_CONTENT.into_response() })
}

pub(super) async fn credentials(State(admin): State<Admin>, At(name): At<String>) -> Result<Json<Value>, Problem> {
    let all = admin.control.credentials(&name).await?;
    let items: Vec<Value> = all.iter().map(|(id, kept)| kept.told(id)).collect();
    Ok(Json(json!({ "items": items })))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Sent(wanted): Sent<Wanted>,
) -> Result<Response, Problem> {
    Ok(made(admin.control.add_credential(name, wanted, actor.name).await?))
}

pub(super) async fn rotate(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((name, id)): At<(String, String)>,
    Sent(Rotation { overlap }): Sent<Rotation>,
) -> Result<Response, Problem> {
    let overlap = overlap.map_or(Duration::ZERO, |overlap| overlap.0);
    Ok(made(admin.control.rotate_credential(name, id, overlap, actor.name).await?))
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((name, id)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.remove_credential(name, id, actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(status: StatusCode, consumer: &Told) -> Response {
    let mut response = (status, Json(told(consumer))).into_response();
    if let Some(tag) = consumer.revision.and_then(|revision| HeaderValue::from_str(&format!("\"{revision}\"")).ok()) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
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
