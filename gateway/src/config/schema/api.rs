//! APIs: published products over routes, in versions with a life cycle. It has no behaviour.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Filter, Route};
use crate::config::scalar::{Duration, Size, Timestamp};

/// What is offered to consumers under one name.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Unique among APIs.
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Each with routes of its own.
    #[serde(default)]
    pub versions: Vec<ApiVersion>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiVersion {
    /// Unique among the versions of its API, such as `1` or `2026-01`.
    pub name: String,
    /// Where it is in its life.
    #[serde(default)]
    pub state: ApiState,
    /// Since when it is deprecated, told in the field `Deprecation` while the state is `deprecated`; without it, 1970.
    #[serde(default)]
    pub deprecated: Option<Timestamp>,
    /// When it will be retired, told in the field `Sunset` while the state is `deprecated`.
    #[serde(default)]
    pub sunset: Option<Timestamp>,
    /// What a request has that is for this version, beside what each of its routes says.
    #[serde(default)]
    pub select: Select,
    /// Its routes; a name is unique in its version, and the route is `API/VERSION/NAME` in metrics and logs.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Its description, an OpenAPI document, served at `/v1/apis/API/versions/VERSION/openapi`.
    #[serde(default)]
    pub openapi: Option<Value>,
    /// Makes a route of each path of that description, for the methods that it has there and HEAD with GET, beside those in `routes`.
    #[serde(default)]
    pub import: Option<Import>,
    /// Holds requests to that description: one that is not what it says is refused before the service sees it.
    #[serde(default)]
    pub validate: Option<Validate>,
    /// Whether it may be used without a grant. Otherwise an authenticator tells who calls, and that consumer, or a group of it,
    /// has a grant.
    #[serde(default)]
    pub anonymous: bool,
    /// What a grant for it must have among its scopes, all of them.
    #[serde(default)]
    pub scopes: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiState {
    /// Nobody is served, and what its routes match need not go together with others yet.
    #[default]
    Draft,
    /// Served.
    Published,
    /// Served, and every answer says so.
    Deprecated,
    /// Answered 410.
    Retired,
}

/// What routes have that are made of a description.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The service that answers.
    pub service: String,
    /// In the order they run on a request.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// How requests are held to a description.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Validate {
    /// A body that is described, JSON or a form; a larger one is answered 413.
    pub body: Size,
    /// Time such a body may take to come.
    pub body_timeout: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// What paths begin with, such as `/v1`; services see them without it.
    pub path: Option<String>,
    /// Names of header fields, each with a value or `~REGEX`.
    pub headers: BTreeMap<String, String>,
    /// A parameter of a media type that the client accepts, such as `version=1`.
    pub accept: Option<String>,
    /// Names of query parameters, each with a value or `~REGEX`.
    pub query: BTreeMap<String, String>,
}

/// What a consumer, or each one of a group, may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Of this API.
    pub api: String,
    /// This version; without it, each.
    #[serde(default)]
    pub version: Option<String>,
    /// What it allows beyond that, as versions name it.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How often.
    #[serde(default)]
    pub quotas: Quotas,
}

/// Requests in windows of UTC; without a number, any. Of several, each must have room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// In each second.
    pub second: Option<u32>,
    /// In each minute.
    pub minute: Option<u32>,
    /// In each day.
    pub day: Option<u32>,
    /// In each month.
    pub month: Option<u32>,
}

/// Grants that each consumer of a group has.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// As consumers name it among their groups; unique among groups.
    pub name: String,
    /// What its consumers may use.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

impl Default for Validate {
    fn default() -> Self {
        Self { body: Size::mib(1), body_timeout: Duration::from_secs(30) }
    }
}
