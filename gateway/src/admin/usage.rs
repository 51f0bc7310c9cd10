//! `/v1/usage`: how much each consumer has used each version of an API, by day.

use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, extract, resources::MAX_ITEMS};
use crate::control::usage::{Asked, Told};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    from: Option<String>,
    to: Option<String>,
    api: Option<String>,
    version: Option<String>,
    consumer: Option<String>,
    after: Option<String>,
    #[serde(default = "most")]
    #[schemars(range(min = 1))]
    limit: usize,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    extract::Asked(query): extract::Asked<Query>,
) -> Result<Json<Value>, Problem> {
    let Query { from, to, api, version, consumer, after, limit } = query;
    for (key, day) in [("from", &from), ("to", &to)] {
        if let Some(day) = day.as_ref().filter(|day| !is_day(day)) {
            let detail = format!("{key}: \"{}\" is no day such as 2026-01-31", day.escape_debug());
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
    }
    if let (Some(from), Some(to)) = (&from, &to)
        && to < from
    {
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("to: {to} is before {from}")));
    }
    let asked = Asked { from, to, api, version, consumer, after, limit: limit.clamp(1, MAX_ITEMS) };
    let Told { items, next } = admin.control.usage(&asked).await?;
    let mut answer = json!({ "items": items });
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(Json(answer))
}

fn is_day(text: &str) -> bool {
    humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok()
}

fn most() -> usize {
    MAX_ITEMS
}
