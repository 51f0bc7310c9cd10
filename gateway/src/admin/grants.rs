//! `/v1/consumers/{name}/grants` and `/v1/groups/{name}/grants`: which versions of APIs they may use, and how often.

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{At, Sent},
};
use crate::{
    config::schema::Grant,
    control::{
        grants::{EACH, Terms, Whose, Wish},
        groups::Group,
    },
};

/// Makes of a name whose grants they are.
pub(super) type Of = fn(String) -> Whose;

/// Those that have grants or consumers, by name.
pub(super) async fn groups(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let groups = admin.control.groups().await?.into_iter();
    let items = groups
        .map(|(name, Group { consumers, grants })| json!({ "name": name, "consumers": consumers, "grants": grants }));
    Ok(Json(json!({ "items": items.collect::<Vec<_>>() })))
}

pub(super) async fn list(of: Of, State(admin): State<Admin>, At(name): At<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": admin.control.grants(&of(name)).await? })))
}

pub(super) async fn add(
    of: Of,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(name): At<String>,
    Sent(Grant { api, version, scopes, quotas }): Sent<Grant>,
) -> Result<Response, Problem> {
    change(&admin, Wish { whose: of(name), api, version, terms: Some(Terms { scopes, quotas }), by: actor.name }).await
}

pub(super) async fn put(
    of: Of,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((name, api, version)): At<(String, String, String)>,
    Sent(terms): Sent<Terms>,
) -> Result<Response, Problem> {
    let version = Some(version).filter(|version| version != EACH);
    change(&admin, Wish { whose: of(name), api, version, terms: Some(terms), by: actor.name }).await
}

pub(super) async fn remove(
    of: Of,
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((name, api, version)): At<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let version = Some(version).filter(|version| version != EACH);
    admin.control.change_grant(Wish { whose: of(name), api, version, terms: None, by: actor.name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(admin: &Admin, wish: Wish) -> Result<Response, Problem> {
    let Terms { scopes, quotas } = wish.terms.clone().unwrap_or_default();
    let told = Grant { api: wish.api.clone(), version: wish.version.clone(), scopes, quotas };
    let is_new = admin.control.change_grant(wish).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!(told))).into_response())
}
