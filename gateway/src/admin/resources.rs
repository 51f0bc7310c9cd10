//! `/v1/{plugins,services,routes}`: the resources of the file, and those that are put, changed and deleted here.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ETAG, IF_MATCH, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, At, Whole},
    plugins,
};
use crate::{
    config::{
        layers::Origin,
        resource::{Kind, Resource, Stored},
        schema::Role,
    },
    control::{
        View,
        resources::{Condition, Outcome, ResourceError, Wish},
    },
};

/// Stands for what a viewer is not told.
const REDACTED: &str = "[redacted]";
/// Resources that one answer lists.
pub(super) const MAX_ITEMS: usize = 1000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "all")]
    #[schemars(range(min = 1))]
    pub(super) limit: usize,
    /// The name after which the page begins.
    pub(super) after: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    pub(super) dry_run: bool,
}

pub(super) async fn list(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Asked(Page { limit, after }): Asked<Page>,
) -> Result<Json<Value>, Problem> {
    let limit = limit.clamp(1, MAX_ITEMS);
    let standing = Standing::of(&admin);
    let all = standing.0.layers.list(kind);
    let mut left = all.iter().filter(|(name, _)| after.as_deref().is_none_or(|after| **name > after));
    let items: Vec<Value> =
        left.by_ref().take(limit).map(|(name, resource)| standing.told(kind, name, resource, actor.role)).collect();
    let mut answer = json!({ "items": items });
    if left.next().is_some() {
        answer["next"] = answer["items"][limit - 1]["name"].clone();
    }
    Ok(Json(answer))
}

pub(super) async fn get(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
) -> Result<Response, Problem> {
    let standing = Standing::of(&admin);
    let response = Json(standing.find(kind, &name, actor.role)?).into_response();
    Ok(match standing.0.layers.origin(kind, &name) {
        Some(Origin::Store(kept)) => tagged(response, kept.revision),
        _ => response,
    })
}

pub(super) async fn put(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Asked(how): Asked<How>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let text = std::str::from_utf8(&body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body is not UTF-8: {error}")))?;
    let condition = condition(&headers)?;
    let stored = Arc::new(Stored::parse(kind, &name, text).map_err(ResourceError::Invalid)?);
    let wish = Wish { kind, name: name.clone(), stored: Some(Arc::clone(&stored)), condition, by: actor.name };
    if how.dry_run {
        return Ok(would(admin.control.try_change(wish).await?));
    }
    let (status, revision) = match admin.control.change(wish).await? {
        Outcome::Created(revision) => (StatusCode::CREATED, revision),
        Outcome::Changed(revision) => (StatusCode::OK, revision),
        Outcome::Deleted => return Err(ResourceError::Unknown(kind, name).into()),
    };
    // What was made, whatever others have made of it since.
    let told = Standing::of(&admin).tell(kind, &name, stored.resource.to_value(), "store");
    Ok(tagged((status, Json(told)).into_response(), revision))
}

pub(super) async fn delete(
    kind: Kind,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Asked(how): Asked<How>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wish = Wish { kind, name, stored: None, condition: condition(&headers)?, by: actor.name };
    if how.dry_run {
        return Ok(would(admin.control.try_change(wish).await?));
    }
    admin.control.change(wish).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is, with what is told of each resource beside its own form.
pub(super) struct Standing(Arc<View>);

impl Standing {
    pub(super) fn of(admin: &Admin) -> Self {
        Self(admin.control.view())
    }

    /// One of this name, as whoever has this role may see it.
    pub(super) fn find(&self, kind: Kind, name: &str, role: Role) -> Result<Value, ResourceError> {
        let all = self.0.layers.list(kind);
        let found = all.get(name).ok_or_else(|| ResourceError::Unknown(kind, name.to_owned()))?;
        Ok(self.told(kind, name, found, role))
    }

    /// A resource as whoever has this role may see it.
    fn told(&self, kind: Kind, name: &str, resource: &Resource, role: Role) -> Value {
        let mut value = resource.to_value();
        let origin = match self.0.layers.origin(kind, name) {
            Some(Origin::Store(_)) => "store",
            _ => {
                // What a variable holds is no business of the Admin API.
                self.0.layers.with_variables(kind, name, &mut value);
                "file"
            }
        };
        if role == Role::Viewer {
            redact(&mut value);
        }
        self.tell(kind, name, value, origin)
    }

    fn tell(&self, kind: Kind, name: &str, mut told: Value, origin: &str) -> Value {
        told["origin"] = origin.into();
        if kind == Kind::Plugin {
            plugins::tell(&mut told, self.0.revisions.get(name));
        }
        told
    }
}

/// Hides the configuration of each filter and balancer, wherever it stands, since plugins are configured with secrets, too; and
/// the tokens of sources.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            let of_plugin = fields.contains_key("plugin");
            for (name, value) in fields {
                match name.as_str() {
                    "config" if of_plugin => *value = REDACTED.into(),
                    "consul" => {
                        if let Some(token) = value.get_mut("token").filter(|token| !token.is_null()) {
                            *token = REDACTED.into();
                        }
                    }
                    // A description is public, and so are conditions; their parts may have any name.
                    "openapi" | "match" | "select" => {}
                    _ => redact(value),
                }
            }
        }
        _ => {}
    }
}

pub(super) fn tagged(mut response: Response, revision: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

pub(super) fn would(outcome: Outcome) -> Response {
    let would = match outcome {
        Outcome::Created(_) => "create",
        Outcome::Changed(_) => "change",
        Outcome::Deleted => "delete",
    };
    Json(json!({ "would": would })).into_response()
}

/// What is there and cannot be one of our tags matches nothing; only `*` can be excluded.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let values =
        |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect::<Vec<_>>();
    let (matching, none_matching) = (values(IF_MATCH), values(IF_NONE_MATCH));
    match (matching.as_slice(), none_matching.as_slice()) {
        ([], []) => Ok(Condition::Any),
        ([], ["*"]) => Ok(Condition::Absent),
        (["*"], []) => Ok(Condition::Present),
        (tags, []) => {
            let tags = tags.iter().flat_map(|line| line.split(','));
            let revision = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
            Ok(Condition::At(tags.filter_map(revision).filter(|revision| *revision > 0).collect()))
        }
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "If-None-Match takes `*`, and goes without If-Match")),
    }
}

fn all() -> usize {
    MAX_ITEMS
}
