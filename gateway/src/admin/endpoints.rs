//! `/v1/services/{name}/endpoints` and `…/discover`: servers that announce themselves, and finding one.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    extract::{At, Pairs, Sent},
};
use crate::{
    config::scalar,
    registry::{Announcement, Member, Policy, RegistryError, Source, Standing, Wanted},
};

pub(super) async fn list(State(admin): State<Admin>, At(service): At<String>) -> Result<Json<Value>, Problem> {
    let all = admin.control.registry().list(&service)?;
    Ok(Json(json!({ "items": all.iter().map(standing).collect::<Vec<_>>() })))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let all = admin.control.registry().list(&service)?;
    // One that registered under the address of one of the configuration is what is deleted and heard of by that id.
    let found = all.iter().filter(|it| *it.member.id == *id).max_by_key(|it| it.source == Source::Registration);
    found.map(|it| Json(standing(it))).ok_or_else(|| RegistryError::UnknownEndpoint(service, id).into())
}

pub(super) async fn discover(
    State(admin): State<Admin>,
    At(service): At<String>,
    Pairs(query): Pairs,
) -> Result<Json<Value>, Problem> {
    let wanted = wanted(query)?;
    Ok(Json(told(&*admin.control.registry().discover(&service, &wanted)?)))
}

pub(super) async fn register(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
    Sent(announcement): Sent<Announcement>,
) -> Result<Response, Problem> {
    let is_new = admin.control.register(&service, &id, &announcement).await?;
    let mut answer = json!(announcement);
    answer["id"] = id.into();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer)).into_response())
}

pub(super) async fn heartbeat(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.registry().heartbeat(&service, &id)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn deregister(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.registry().deregister(&service, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.registry().drain(&service, &id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restore(
    State(admin): State<Admin>,
    At((service, id)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.control.registry().drain(&service, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wanted(query: Vec<(String, String)>) -> Result<Wanted, Problem> {
    let mut wanted = Wanted::default();
    for (key, value) in query {
        if key == "policy" {
            if wanted.policy.replace(policy(&value)?).is_some() {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "policy: it is there more than once"));
            }
        } else if let Some(name) = key.strip_prefix("metadata.") {
            wanted.metadata.push((name.to_owned(), value));
        } else {
            let detail = format!("\"{}\" is not asked with: policy or metadata.KEY", key.escape_debug());
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
    }
    Ok(wanted)
}

fn policy(name: &str) -> Result<Policy, Problem> {
    match name {
        "round-robin" => Ok(Policy::RoundRobin),
        "random" => Ok(Policy::Random),
        "weighted" => Ok(Policy::Weighted),
        other => {
            let other = other.escape_debug();
            let detail = format!("there is no policy \"{other}\", only round-robin, random and weighted");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

pub(super) fn told(member: &Member) -> Value {
    json!({
        "id": &*member.id,
        "address": member.address,
        "weight": member.weight,
        "metadata": member.metadata.iter().collect::<BTreeMap<_, _>>(),
    })
}

fn standing(standing: &Standing) -> Value {
    let mut told = told(&standing.member);
    told["source"] = match standing.source {
        Source::Configuration => "configuration",
        Source::Registration => "registration",
        Source::File => "file",
        Source::Dns => "dns",
        Source::Consul => "consul",
    }
    .into();
    told["drained"] = standing.drained.into();
    told["health"] = match &standing.endpoint {
        Some(endpoint) if endpoint.is_up() => "up",
        Some(_) => "down",
        None => "unused",
    }
    .into();
    told["in_flight"] = standing.endpoint.as_ref().map_or(0, |endpoint| endpoint.in_flight()).into();
    if let Some((ttl, left)) = standing.lease {
        told["ttl"] = scalar::Duration(ttl).to_string().into();
        told["left"] = scalar::Duration(left).to_string().into();
    }
    told
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::UnknownService(_) | RegistryError::UnknownEndpoint(..) | RegistryError::Lapsed(..) => {
                Self::new(StatusCode::NOT_FOUND, detail)
            }
            RegistryError::NoneUsable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
            RegistryError::Full(..) | RegistryError::Busy(..) => Self::new(StatusCode::CONFLICT, detail),
            RegistryError::Invalid(mistakes) => Self::of_mistakes(mistakes),
            RegistryError::Store(error) => error.into(),
        }
    }
}
