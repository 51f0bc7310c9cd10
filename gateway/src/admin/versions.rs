//! `/v1/apis/{name}/versions`: versions of an API one by one.

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
    resources::{Standing, tagged},
};
use crate::{
    config::resource::Kind,
    control::resources::{Outcome, ResourceError},
};

pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At(api): At<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": versions(&admin, &actor, &api)? })))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((api, version)): At<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let found = versions(&admin, &actor, &api)?.into_iter().find(|it| it["name"] == version);
    found.map(Json).ok_or_else(|| ResourceError::UnknownVersion(api, version).into())
}

pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((api, version)): At<(String, String)>,
    Sent(mut new): Sent<Value>,
) -> Result<Response, Problem> {
    if let Some(said) = new.get("name").filter(|said| **said != version) {
        let detail = format!("name: this is {said}, the path is that of \"{}\"", version.escape_debug());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    new["name"] = version.as_str().into();
    let (status, revision) = match admin.control.change_version(&api, &version, Some(new), actor.name.clone()).await? {
        Outcome::Created(revision) => (StatusCode::CREATED, revision),
        Outcome::Changed(revision) => (StatusCode::OK, revision),
        Outcome::Deleted => return Err(ResourceError::UnknownVersion(api, version).into()),
    };
    let told = get(State(admin), Extension(actor), At((api, version))).await?;
    Ok(tagged((status, told).into_response(), revision))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((api, version)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.change_version(&api, &version, None, actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Those of an API, as whoever asks may see them.
fn versions(admin: &Admin, actor: &Actor, api: &str) -> Result<Vec<Value>, Problem> {
    let standing = Standing::of(admin);
    let told = standing.find(Kind::Api, api, actor.role)?;
    Ok(told["versions"].as_array().cloned().unwrap_or_default())
}

/// The description of a version.
pub(super) async fn openapi(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    At((api, version)): At<(String, String)>,
) -> Result<Json<Value>, Problem> {
    // Not what runs, in which variables of the file have their values.
    let mut versions = versions(&admin, &actor, &api)?;
    let found = versions.iter_mut().find(|it| it["name"] == version.as_str());
    let found = found.ok_or_else(|| ResourceError::UnknownVersion(api.clone(), version.clone()))?;
    match found["openapi"].take() {
        Value::Null => {
            let detail = format!("version \"{version}\" of API \"{api}\" has no description");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        description => Ok(Json(description)),
    }
}
