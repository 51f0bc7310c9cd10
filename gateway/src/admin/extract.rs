//! Extractors for handlers. Their rejections are problem documents like any other error.

use std::{error::Error, iter::successors};

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        path::ErrorKind,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{Problem, problem::listed};
use crate::{config::sent, exchange::BodyError, json};

/// The parameters of a path.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

/// Those of a query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

/// Those of a query whose names are not known before.
#[derive(Debug)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

/// Bytes that a body may have, as an extension of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most(pub(super) usize);

/// The body, whatever it is.
#[derive(Debug)]
pub(super) struct Whole(pub(super) Bytes);

/// The body, a JSON object.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Path::from_request_parts(parts, state).await;
        found.map(|Path(found)| Self(found)).map_err(|error| Problem::new(error.status(), mistaken(error)))
    }
}

impl<S: Send + Sync, T: JsonSchema + DeserializeOwned + 'static> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Pairs(pairs) = Pairs::from_request_parts(parts, state).await?;
        sent::query(pairs).map(Self).map_err(|mistakes| Problem::new(StatusCode::BAD_REQUEST, listed(&mistakes)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found: Result<_, QueryRejection> = Query::from_request_parts(parts, state).await;
        found.map(|Query(pairs)| Self(pairs)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let most = request.extensions().get().map_or(0, |Most(bytes)| *bytes);
        let found = Bytes::from_request(request, state).await;
        found.map(Self).map_err(|error| match error.status() {
            _ if is_stalled(&error) => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "the client stopped sending its request")
            }
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(status, format!("the body may have {most} bytes here, no more"))
            }
            status => Problem::new(status, error.body_text()),
        })
    }
}

/// Whether a body did not come in time.
fn is_stalled(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.any(|error| matches!(error.downcast_ref(), Some(BodyError::Stalled(_))))
}

impl<S: Send + Sync, T: JsonSchema + DeserializeOwned + 'static> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, and say so: content-type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let Whole(body) = Whole::from_request(request, state).await?;
        let value = json::read_to_store(&body).map_err(|error| {
            let how = if error.is_data() { "refused" } else { "not JSON" };
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is {how}: {error}"))
        })?;
        if !value.is_object() {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is no JSON object"));
        }
        sent::body(value).map(Self).map_err(Problem::of_mistakes)
    }
}

/// Numbers are what a path may have wrong, beside its encoding.
fn mistaken(error: PathRejection) -> String {
    let said = error.body_text();
    let PathRejection::FailedToDeserializePathParams(error) = error else { return said };
    match error.into_kind() {
        ErrorKind::ParseErrorAtKey { value, .. }
        | ErrorKind::ParseErrorAtIndex { value, .. }
        | ErrorKind::ParseError { value, .. } => format!("\"{}\" is no number that it could be", value.escape_debug()),
        _ => said,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
