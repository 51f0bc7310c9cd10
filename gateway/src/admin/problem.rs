//! Errors of the Admin API as problem documents (RFC 9457).

use axum::{
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    config::{Errors, sent::Mistakes},
    control::{
        PluginError, StoreError, consumers::ConsumerError, history::HistoryError, resources::ResourceError,
        transfer::ImportError,
    },
    exchange::Refusal,
};

/// Mistakes that one sentence tells of.
const MOST_LISTED: usize = 10;

/// One error, as the client sees it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new() }
    }

    /// Each mistake with the key of its cause.
    pub(super) fn of_mistakes(mistakes: Mistakes) -> Self {
        let detail = listed(&mistakes);
        let errors = mistakes.into_iter().map(|(path, message)| json!({ "path": path, "message": message })).collect();
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, detail, errors }
    }

    fn of(status: StatusCode, detail: String, errors: Errors) -> Self {
        Self { status, detail, errors: errors.0.into_iter().map(|error| json!(error)).collect() }
    }
}

pub(super) fn listed(mistakes: &Mistakes) -> String {
    let shown = |(path, message): &(String, String)| match path.as_str() {
        "" => message.clone(),
        path => format!("{path}: {message}"),
    };
    let mut told = mistakes.iter().take(MOST_LISTED).map(shown).collect::<Vec<_>>().join("; ");
    if let Some(more) = mistakes.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
        told += &format!("; and {more} more");
    }
    told
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.to_string())
    }
}

impl From<PluginError> for Problem {
    fn from(error: PluginError) -> Self {
        let detail = error.to_string();
        let (status, errors) = match error {
            PluginError::UnknownPlugin(_) | PluginError::UnknownRevision(..) => (StatusCode::NOT_FOUND, Vec::new()),
            // The module may be right.
            PluginError::Load(error) if error.is_unavailable() => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
            PluginError::Artifact(_) | PluginError::Load(_) => (StatusCode::UNPROCESSABLE_ENTITY, Vec::new()),
            PluginError::Refused(errors) => (StatusCode::UNPROCESSABLE_ENTITY, errors.0),
            PluginError::Store(error) => return error.into(),
        };
        Self { status, detail, errors: errors.into_iter().map(|error| json!(error)).collect() }
    }
}

impl From<ConsumerError> for Problem {
    fn from(error: ConsumerError) -> Self {
        let detail = error.to_string();
        let status = match error {
            ConsumerError::Unknown(_)
            | ConsumerError::UnknownGroup(_)
            | ConsumerError::UnknownCredential(..)
            | ConsumerError::UnknownGrant(..) => StatusCode::NOT_FOUND,
            ConsumerError::OfFile(_) | ConsumerError::Conflict(_) => StatusCode::CONFLICT,
            ConsumerError::Condition(_) => StatusCode::PRECONDITION_FAILED,
            ConsumerError::Invalid(mistakes) => return Self::of_mistakes(mistakes),
            ConsumerError::Store(error) => return error.into(),
        };
        Self::new(status, detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<ResourceError> for Problem {
    fn from(error: ResourceError) -> Self {
        let detail = error.to_string();
        let (status, errors) = match error {
            ResourceError::Unknown(..) | ResourceError::UnknownVersion(..) => (StatusCode::NOT_FOUND, None),
            ResourceError::OfFile { .. } => (StatusCode::CONFLICT, None),
            ResourceError::Condition(..) => (StatusCode::PRECONDITION_FAILED, None),
            ResourceError::Invalid(errors) => (StatusCode::UNPROCESSABLE_ENTITY, Some(errors)),
            ResourceError::InUse(errors) => (StatusCode::CONFLICT, Some(errors)),
            ResourceError::Store(error) => return error.into(),
        };
        let errors = errors.into_iter().flat_map(|errors| errors.0).map(|error| json!(error)).collect();
        Self { status, detail, errors }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let detail = error.to_string();
        match error {
            HistoryError::Unknown(..) => Self::new(StatusCode::NOT_FOUND, detail),
            HistoryError::Forgotten(..) => Self::new(StatusCode::GONE, detail),
            HistoryError::Unsound(_, errors) => Self::of(StatusCode::CONFLICT, detail, errors),
            HistoryError::Revision(_, PluginError::Store(error)) | HistoryError::Store(error) => error.into(),
            HistoryError::Revision(..) => Self::new(StatusCode::CONFLICT, detail),
            HistoryError::Resource(error) => error.into(),
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Invalid(errors) => Self::of(StatusCode::UNPROCESSABLE_ENTITY, errors.to_string(), errors),
            ImportError::Resource(ResourceError::InUse(errors)) => {
                Self::of(StatusCode::CONFLICT, errors.to_string(), errors)
            }
            ImportError::Resource(error) => error.into(),
            ImportError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            body["errors"] = self.errors.into();
        }
        (self.status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such resource")
}

pub(super) async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource has no {method}"))
}
