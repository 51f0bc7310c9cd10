//! Modules on their way in: read from a file, fetched or pushed; of the digest that is wanted, and signed by whom it must be.
//! What comes through here may be compiled; nothing is known yet of what is in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Method, Request, Response, StatusCode, Uri, header::LOCATION, uri::PathAndQuery};
use http_body_util::Full;
use tokio::{io, sync::OnceCell, task::spawn_blocking, time::timeout};

use super::revisions::{Origin, module, records};
use crate::{
    client::{Client, causes, client, collect},
    config::{Document, schema, signature_file},
    plugin::{
        Digest256, Engine, LoadError, Signature,
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
    pub(super) bytes: Bytes,
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
}

/// Reads and fetches all modules that this configuration names; what the store has already is not fetched again.
pub(super) async fn bring(store: &Store, engine: &Engine, document: &Document) -> Result<Artifacts, StoreError> {
    let hosts = Hosts::default();
    let brought = document.config.plugins.iter().map(async |plugin| {
        let artifact = match (&plugin.file, &plugin.url) {
            (Some(file), _) => Artifact::read(plugin, file, engine).await,
            (None, Some(url)) => match known(store, plugin).await? {
                Some(known) => Ok(known),
                None => Artifact::fetch(plugin, url, &hosts, engine).await,
            },
            (None, None) => return Ok(None),
        };
        Ok(Some((plugin.name.clone(), artifact)))
    });
    try_join_all(brought).await.map(|brought| brought.into_iter().flatten().collect())
}

/// Whether some may be had another time.
pub(super) fn is_unfetched(artifacts: &Artifacts) -> bool {
    artifacts.values().any(|artifact| matches!(artifact, Err(ArtifactError::Fetch(..))))
}

impl Artifact {
    /// # Errors
    ///
    /// It is too large, or its plugin trusts keys and none of them has signed it.
    pub(super) fn new(
        plugin: &schema::Plugin,
        bytes: impl Into<Bytes>,
        signature: Option<&str>,
        origin: Origin,
        engine: &Engine,
    ) -> Result<Self, ArtifactError> {
        let artifact = Self::unchecked(bytes.into(), signature, origin, engine)?;
        artifact.check(plugin)?;
        Ok(artifact)
    }

    fn unchecked(
        bytes: Bytes,
        signature: Option<&str>,
        origin: Origin,
        engine: &Engine,
    ) -> Result<Self, ArtifactError> {
        engine.check_size(bytes.len())?;
        let signature = signature.map(str::parse).transpose()?;
        Ok(Self { sha256: Digest256::of(&bytes), bytes, origin, signature })
    }

    /// Whether a key that the plugin trusts has signed it, if it trusts any.
    pub(super) fn check(&self, plugin: &schema::Plugin) -> Result<(), ArtifactError> {
        Ok(signature::check(&plugin.signed_by, self.sha256, self.signature.as_ref())?)
    }

    async fn read(plugin: &schema::Plugin, file: &Path, engine: &Engine) -> Result<Self, ArtifactError> {
        let unread = |file: &Path| {
            let file = file.to_owned();
            move |error| ArtifactError::Read(file, error)
        };
        let size = tokio::fs::metadata(file).await.map_err(unread(file))?.len();
        engine.check_size(usize::try_from(size).unwrap_or(usize::MAX))?;
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
        Self::new(plugin, bytes, signature.as_deref(), Origin::File, engine)
    }

    async fn fetch(plugin: &schema::Plugin, url: &str, hosts: &Hosts, engine: &Engine) -> Result<Self, ArtifactError> {
        let bytes = hosts.get(url, engine.module_bytes()).await?;
        let bytes = bytes.ok_or_else(|| unfetched(url, StatusCode::NOT_FOUND.to_string()))?;
        let signature = match plugin.signed_by.is_empty() {
            true => None,
            false => {
                let signature = hosts.get(&signature_url(url)?, MAX_SIGNATURE).await?;
                signature.map(|signature| String::from_utf8_lossy(&signature).into_owned())
            }
        };
        let artifact = Self::unchecked(bytes, signature.as_deref(), Origin::Url, engine)?;
        if Some(artifact.sha256.to_string()) != plugin.sha256 {
            return Err(ArtifactError::Digest(artifact.sha256));
        }
        artifact.check(plugin)?;
        Ok(artifact)
    }
}

/// In the same place, as that of a file is.
fn signature_url(url: &str) -> Result<String, ArtifactError> {
    let beside = |url: &str| {
        let mut parts = url.parse::<Uri>().map_err(http::Error::from)?.into_parts();
        let target = parts.path_and_query.as_ref();
        let path = target.map_or("/", PathAndQuery::path);
        let query = target.and_then(PathAndQuery::query).map(|query| format!("?{query}")).unwrap_or_default();
        parts.path_and_query = Some(format!("{path}.sig{query}").parse()?);
        Ok::<_, http::Error>(Uri::from_parts(parts)?.to_string())
    };
    beside(url).map_err(|error| unfetched(url, error.to_string()))
}

fn unfetched(url: &str, why: String) -> ArtifactError {
    // What is behind the path may be a secret.
    ArtifactError::Fetch(url.split('?').next().unwrap_or_default().to_owned(), why)
}

/// What the store has of the digest that a plugin wants, if it trusts that.
async fn known(store: &Store, plugin: &schema::Plugin) -> Result<Option<Artifact>, StoreError> {
    let Some(digest) = &plugin.sha256 else { return Ok(None) };
    let records = records(store, &plugin.name).await?;
    let Some(record) = records.into_iter().find(|record| record.sha256 == *digest) else { return Ok(None) };
    let Some(bytes) = module(store, &plugin.name, digest).await? else { return Ok(None) };
    let (sha256, signature) = (Digest256::of(&bytes), record.signature);
    let trusted = signature::check(&plugin.signed_by, sha256, signature.as_ref()).is_ok();
    Ok(trusted.then_some(Artifact { bytes: bytes.into(), sha256, origin: Origin::Url, signature }))
}

/// Whoever modules are fetched from.
#[derive(Debug, Default)]
struct Hosts(OnceCell<Client>);

impl Hosts {
    /// Nothing where there is nothing (404); at most so many bytes.
    async fn get(&self, url: &str, most: usize) -> Result<Option<Bytes>, ArtifactError> {
        let make = async || spawn_blocking(client).await.map_err(|error| unfetched(url, error.to_string()));
        let client = self.0.get_or_try_init(make).await?;
        let got = timeout(FETCH, get(client, url, most)).await;
        let got = got.unwrap_or_else(|_| Err(format!("nothing whole came within {} s", FETCH.as_secs())));
        got.map_err(|why| unfetched(url, why))
    }
}

/// Redirects are followed, but never from HTTPS to HTTP.
async fn get(client: &Client, url: &str, most: usize) -> Result<Option<Bytes>, String> {
    let mut uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    for _ in 0..=REDIRECTS {
        let request = Request::builder().method(Method::GET).uri(&uri).body(Full::new(Bytes::new()));
        let request = request.map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| causes(&error))?;
        match response.status() {
            StatusCode::OK => {
                let body = collect(response.into_body(), most).await;
                return body.map(Some).map_err(|incomplete| incomplete.to_string());
            }
            StatusCode::NOT_FOUND => return Ok(None),
            status if status.is_redirection() => uri = redirected(&uri, &response)?,
            status => return Err(status.to_string()),
        }
    }
    Err(format!("it is redirected more than {REDIRECTS} times"))
}

/// Where a redirect leads: a whole URL, or a path on the same host.
fn redirected<B>(from: &Uri, response: &Response<B>) -> Result<Uri, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_a_url_is_on_the_same_host() {
        for (url, beside) in [
            ("https://host/a.wasm", "https://host/a.wasm.sig"),
            ("https://host/a.wasm?key=1", "https://host/a.wasm.sig?key=1"),
            ("https://host", "https://host/.sig"),
            ("http://host:81?key=1", "http://host:81/.sig?key=1"),
        ] {
            assert_eq!(signature_url(url).expect("a URL"), beside);
        }
    }
}
