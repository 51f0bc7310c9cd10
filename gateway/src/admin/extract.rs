//! What handlers take of a request; what is wrong with it is a problem document like any other error.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Problem;

/// The parameters of a path.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

/// Those of a query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

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
        found.map(|Path(found)| Self(found)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Query::from_request_parts(parts, state).await;
        found.map(|Query(found)| Self(found)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let most = request.extensions().get().map_or(0, |Most(bytes)| *bytes);
        let found = Bytes::from_request(request, state).await;
        found.map(Self).map_err(|error| match error.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(status, format!("the body may have {most} bytes here, no more"))
            }
            status => Problem::new(status, error.body_text()),
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, and say so: content-type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let Whole(body) = Whole::from_request(request, state).await?;
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
        // Of a list, serde would take one item for each key.
        if !value.is_object() {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is no JSON object"));
        }
        serde_path_to_error::deserialize(value).map(Self).map_err(|error| {
            let (path, message) = (error.path().to_string(), without_value(&error.inner().to_string()));
            let detail = if path == "." { message } else { format!("{path}: {message}") };
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        })
    }
}

/// What serde says of a value that is not as it must be, without that value: it may be a secret.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((said, expected)) if said.starts_with("invalid ") => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
