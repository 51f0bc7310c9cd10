//! `/v1/export` and `/v1/import`: what the store adds to the file, as one document in the form of the file.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Admin, Problem,
    auth::Actor,
    extract::{Asked, Sent},
};
use crate::control::{Control, consumers::ConsumerError, transfer::Bundle};

/// Bytes of a document that is imported.
pub(super) const MAX_IMPORT: usize = 16 << 20;
/// Consumers that are read at once.
const AT_ONCE: usize = 1000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    /// Credentials come along, with what is secret of them.
    #[serde(default)]
    secrets: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
    /// What is not in the document is deleted.
    #[serde(default)]
    prune: bool,
}

pub(super) async fn export(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Asked(What { secrets }): Asked<What>,
) -> Result<Response, Problem> {
    if secrets {
        tracing::warn!(by = &*actor.name, "credentials are exported with their secrets");
    }
    // Before the answer begins: later there is no telling of an error but to break off.
    let first = admin.control.export_consumers(None, AT_ONCE, secrets).await?;
    let mut begun = json!(admin.control.export().await?).to_string();
    begun.truncate(begun.len() - 1);
    begun.push_str(",\"consumers\":[");
    let rest = Rest { control: admin.control, secrets, page: first, begun, ended: false };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(rest.stream())).into_response())
}

pub(super) async fn import(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    Asked(How { dry_run, prune }): Asked<How>,
    Sent(bundle): Sent<Bundle>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": admin.control.import(bundle, prune, dry_run, actor.name).await? })))
}

/// What is left to be sent of an export: there may be a million consumers.
struct Rest {
    control: Arc<Control>,
    secrets: bool,
    page: Vec<Value>,
    /// What goes before that page.
    begun: String,
    ended: bool,
}

impl Rest {
    fn stream(self) -> impl Stream<Item = Result<Bytes, ConsumerError>> {
        stream::try_unfold(self, async |mut rest| {
            if rest.ended {
                return Ok(None);
            }
            let mut text = std::mem::take(&mut rest.begun);
            for (n, consumer) in rest.page.iter().enumerate() {
                text.push_str(if n == 0 { "" } else { "," });
                text.push_str(&consumer.to_string());
            }
            if rest.page.len() < AT_ONCE {
                rest.ended = true;
                text.push_str("]}");
            } else {
                let after = rest.page.last().and_then(|last| last["name"].as_str());
                rest.page = rest.control.export_consumers(after, AT_ONCE, rest.secrets).await?;
                rest.begun.push_str(if rest.page.is_empty() { "" } else { "," });
            }
            Ok(Some((Bytes::from(text), rest)))
        })
    }
}
