//! Modules on their way in: read from a file, fetched or pushed; of the digest that is wanted, and signed by whom it must be.
//! What comes through here may be compiled; nothing is known yet of what is in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response, StatusCode, Uri, header::LOCATION};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::{io, task::spawn_blocking, time::timeout};

use super::revisions::{Origin, module, records};
use crate::{
    client::{Client, causes, client},
    config::{Document, schema, signature_file},
    plugin::{
        Digest256, LoadError, Signature,
        loader::MAX_MODULE,
        signature::{self, SignatureError},
    },
    store::{Store, StoreError},
};

/// What is fetched has come whole by then.
const FETCH: Duration = Duration::from_secs(30);
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Bytes of a file with a signature.
const MAX_SIGNATURE: usize = 1 << 10;

/// A module that may be compiled.
#[derive(Debug)]
pub(super) struct Artifact {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: Digest256,
    pub(super) origin: Origin,
    pub(super) signature: Option<Signature>,
}

/// What the sources of plugins gave, by plugin; there is nothing of those that are pushed.
pub(super) type Artifacts = HashMap<String, Result<Artifact, ArtifactError>>;

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("cannot fetch {0}: {1}")]
    Fetch(String, String),
    #[error("what is there has the digest {0}")]
    Digest(Digest256),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads and fetches all that this configuration names; what the store has already is not fetched again.
pub(super) async fn bring(store: &Store, document: &Document) -> Artifacts {
    let brought = document.config.plugins.iter().map(async |plugin| {
        let artifact = match (&plugin.file, &plugin.url) {
            (Some(file), _) => Artifact::read(plugin, file).await,
            (None, Some(url)) => match known(store, plugin).await {
                Ok(Some(known)) => Ok(known),
                Ok(None) => Artifact::fetch(plugin, url).await,
                Err(error) => Err(error.into()),
            },
            (None, None) => return None,
        };
        Some((plugin.name.clone(), artifact))
    });
    join_all(brought).await.into_iter().flatten().collect()
}

impl Artifact {
    /// # Errors
    ///
    /// It is too large, or its plugin trusts keys and none of them has signed it.
    pub(super) fn new(
        plugin: &schema::Plugin,
        bytes: Vec<u8>,
        signature: Option<&str>,
        origin: Origin,
    ) -> Result<Self, ArtifactError> {
        too_large(bytes.len())?;
        let (sha256, signature) = (Digest256::of(&bytes), signature.map(str::parse).transpose()?);
        signature::check(&plugin.signed_by, sha256, signature.as_ref())?;
        Ok(Self { bytes, sha256, origin, signature })
    }

    async fn read(plugin: &schema::Plugin, file: &Path) -> Result<Self, ArtifactError> {
        let unread = |file: &Path| {
            let file = file.to_owned();
            move |error| ArtifactError::Read(file, error)
        };
        let size = tokio::fs::metadata(file).await.map_err(unread(file))?.len();
        too_large(usize::try_from(size).unwrap_or(usize::MAX))?;
        let bytes = tokio::fs::read(file).await.map_err(unread(file))?;
        let beside = signature_file(file);
        let signature = match plugin.signed_by.is_empty() {
            true => None,
            false => match tokio::fs::read_to_string(&beside).await {
                Ok(signature) => Some(signature),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(unread(&beside)(error)),
            },
        };
        Self::new(plugin, bytes, signature.as_deref(), Origin::File)
    }

    async fn fetch(plugin: &schema::Plugin, url: &str) -> Result<Self, ArtifactError> {
        // What is behind the path may be a secret.
        let failed = |url: &str| {
            let url = url.split('?').next().unwrap_or_default().to_owned();
            move |why: String| ArtifactError::Fetch(url, why)
        };
        let client = spawn_blocking(client).await.map_err(|error| failed(url)(error.to_string()))?;
        let bytes = fetch(&client, url, MAX_MODULE).await.map_err(failed(url))?;
        let bytes = bytes.ok_or_else(|| failed(url)(StatusCode::NOT_FOUND.to_string()))?;
        let signature = match plugin.signed_by.is_empty() {
            true => None,
            false => {
                let beside = signature_url(url);
                let signature = fetch(&client, &beside, MAX_SIGNATURE).await.map_err(failed(&beside))?;
                signature.map(|signature| String::from_utf8_lossy(&signature).into_owned())
            }
        };
        let found = Digest256::of(&bytes);
        if Some(found.to_string()) != plugin.sha256 {
            return Err(ArtifactError::Digest(found));
        }
        Self::new(plugin, bytes, signature.as_deref(), Origin::Url)
    }
}

/// In the same place, as that of a file is.
fn signature_url(url: &str) -> String {
    let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    format!("{path}.sig{query}")
}

fn too_large(bytes: usize) -> Result<(), LoadError> {
    if bytes > MAX_MODULE { Err(LoadError::TooLarge(bytes)) } else { Ok(()) }
}

/// What the store has of the digest that a plugin wants, if it trusts that.
async fn known(store: &Store, plugin: &schema::Plugin) -> Result<Option<Artifact>, StoreError> {
    let Some(digest) = &plugin.sha256 else { return Ok(None) };
    let records = records(store, &plugin.name).await?;
    let Some(record) = records.into_iter().find(|record| record.sha256 == *digest) else { return Ok(None) };
    let Some(bytes) = module(store, &plugin.name, digest).await? else { return Ok(None) };
    let (sha256, signature) = (Digest256::of(&bytes), record.signature);
    let trusted = signature::check(&plugin.signed_by, sha256, signature.as_ref()).is_ok();
    Ok(trusted.then_some(Artifact { bytes, sha256, origin: Origin::Url, signature }))
}

/// Nothing where there is nothing (404); at most so many bytes. Redirects are followed, but never from HTTPS to HTTP.
async fn fetch(client: &Client, url: &str, most: usize) -> Result<Option<Vec<u8>>, String> {
    let fetching = async {
        let mut uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        for _ in 0..=REDIRECTS {
            let request = Request::builder().method(Method::GET).uri(&uri).body(Full::new(Bytes::new()));
            let request = request.map_err(|error| error.to_string())?;
            let response = client.request(request).await.map_err(|error| causes(&error))?;
            match response.status() {
                StatusCode::OK => return body(response, most).await.map(Some),
                StatusCode::NOT_FOUND => return Ok(None),
                status if status.is_redirection() => uri = redirected(&uri, &response)?,
                status => return Err(status.to_string()),
            }
        }
        Err(format!("it is redirected more than {REDIRECTS} times"))
    };
    timeout(FETCH, fetching).await.unwrap_or_else(|_| Err(format!("nothing whole came within {} s", FETCH.as_secs())))
}

async fn body(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, String> {
    let body = Limited::new(response.into_body(), most).collect().await;
    body.map(|body| body.to_bytes().into()).map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            format!("it has more than {most} bytes")
        } else {
            causes(&*error)
        }
    })
}

/// Where a redirect leads: a whole URL, or a path on the same host.
fn redirected(from: &Uri, response: &Response<Incoming>) -> Result<Uri, String> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
    let nowhere = || format!("it is redirected to \"{}\"", location.escape_debug());
    let to: Uri = location.parse().map_err(|_| nowhere())?;
    let to = match (to.scheme(), to.path_and_query()) {
        (Some(_), _) => to,
        (None, Some(path)) if path.as_str().starts_with('/') => {
            let mut parts = from.clone().into_parts();
            parts.path_and_query = Some(path.clone());
            Uri::from_parts(parts).map_err(|_| nowhere())?
        }
        _ => return Err(nowhere()),
    };
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(to),
        _ => Err(nowhere()),
    }
}
