//! `/v1/{plugins,services,routes}`: the resources of the file, and those that are put, changed and deleted here.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ETAG, IF_MATCH, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, auth::Actor, plugins};
use crate::{
    config::{
        Layers,
        layers::Origin,
        resource::{Kind, Resource, Stored},
    },
    control::resources::{Condition, Outcome, ResourceError, Wish},
    plugin::Revision,
};

/// Bytes of a resource.
pub(super) const MAX_RESOURCE: usize = 1 << 20;
/// Resources that one answer lists.
pub(super) const MAX_ITEMS: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "all")]
    pub(super) limit: usize,
    /// The name after which the page begins.
    pub(super) after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn list(
    kind: Kind,
    State(admin): State<Admin>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Page { limit, after }) = page?;
    let limit = limit.clamp(1, MAX_ITEMS);
    let standing = Standing::of(&admin).await;
    let all = standing.layers.list(kind);
    let mut left = all.iter().filter(|(name, _)| after.as_deref().is_none_or(|after| **name > after));
    let items: Vec<Value> =
        left.by_ref().take(limit).map(|(name, resource)| standing.told(kind, name, resource)).collect();
    let mut answer = json!({ "items": items });
    if left.next().is_some() {
        answer["next"] = answer["items"][limit - 1]["name"].clone();
    }
    Ok(Json(answer))
}

pub(super) async fn get(kind: Kind, State(admin): State<Admin>, Path(name): Path<String>) -> Result<Response, Problem> {
    shown(kind, &admin, &name, StatusCode::OK).await
}

pub(super) async fn put(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (Query(how), body) = (how?, body?);
    let text = std::str::from_utf8(&body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body is not UTF-8: {error}")))?;
    let stored = Stored::parse(kind, &name, text).map_err(ResourceError::Invalid)?;
    let condition = condition(&headers);
    let wish = Wish { kind, name: name.clone(), stored: Some(Arc::new(stored)), condition, by: actor.name };
    if how.dry_run {
        return Ok(would(admin.control.try_change(wish).await?));
    }
    let status = match admin.control.change(wish).await? {
        Outcome::Created(_) => StatusCode::CREATED,
        Outcome::Changed(_) | Outcome::Deleted => StatusCode::OK,
    };
    shown(kind, &admin, &name, status).await
}

pub(super) async fn delete(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(how) = how?;
    let wish = Wish { kind, name, stored: None, condition: condition(&headers), by: actor.name };
    if how.dry_run {
        return Ok(would(admin.control.try_change(wish).await?));
    }
    admin.control.change(wish).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is, with what is told of each resource beside its own form.
struct Standing {
    layers: Layers,
    /// The active revisions of plugins.
    revisions: HashMap<Arc<str>, Revision>,
}

impl Standing {
    async fn of(admin: &Admin) -> Self {
        let (layers, revisions) = admin.control.layers().await;
        Self { layers, revisions }
    }

    fn told(&self, kind: Kind, name: &str, resource: &Resource) -> Value {
        let mut told = resource.to_value();
        let origin = match self.layers.origin(kind, name) {
            Some(Origin::Store(_)) => "store",
            _ => "file",
        };
        told["origin"] = origin.into();
        if kind == Kind::Plugin {
            plugins::tell(&mut told, self.revisions.get(name));
        }
        told
    }
}

async fn shown(kind: Kind, admin: &Admin, name: &str, status: StatusCode) -> Result<Response, Problem> {
    let standing = Standing::of(admin).await;
    let all = standing.layers.list(kind);
    let resource = all.get(name).ok_or_else(|| ResourceError::Unknown(kind, name.to_owned()))?;
    let mut response = (status, Json(standing.told(kind, name, resource))).into_response();
    if let Some(Origin::Store(kept)) = standing.layers.origin(kind, name)
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", kept.revision))
    {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

fn would(outcome: Outcome) -> Response {
    let would = match outcome {
        Outcome::Created(_) => "create",
        Outcome::Changed(_) => "change",
        Outcome::Deleted => "delete",
    };
    Json(json!({ "would": would })).into_response()
}

/// A tag that none of ours can be matches nothing.
pub(super) fn condition(headers: &HeaderMap) -> Condition {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    match (value(IF_MATCH), value(IF_NONE_MATCH)) {
        (Some("*"), _) => Condition::Present,
        (Some(tags), _) => {
            Condition::At(tags.split(',').filter_map(|tag| tag.trim().trim_matches('"').parse().ok()).collect())
        }
        (None, Some("*")) => Condition::Absent,
        (None, _) => Condition::Any,
    }
}

fn all() -> usize {
    MAX_ITEMS
}
