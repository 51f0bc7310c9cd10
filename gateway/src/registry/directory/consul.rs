//! A Consul-compatible catalogue: the instances of a service that pass their checks, by blocking queries where it knows these.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderValue, Request, Uri};
use serde::Deserialize;
use tokio::time::timeout;

use super::Told;
use crate::{
    client::{Client, causes, client, collect},
    upstream::Member,
};

/// How long it may wait for a change, and how much longer an answer may take.
const WAIT: &str = "50s";
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions, also where each is answered at once.
const AT_LEAST: Duration = Duration::from_millis(100);
/// Between two to one that does not wait for changes.
const EVERY: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MOST: usize = 16 << 20;

pub(super) struct Consul {
    client: Client,
    /// With a query that more may be added to.
    url: String,
    token: Option<HeaderValue>,
    /// What it knew when it was asked last.
    index: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    /// Ids of instances are unique on their node only.
    #[serde(default)]
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: Box<str>,
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    meta: Option<BTreeMap<Box<str>, Box<str>>>,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u16,
}

impl Consul {
    pub(super) fn new(url: &str, service: &str, tag: Option<&str>, token: Option<&str>) -> Result<Self, String> {
        let tag = tag.map(|tag| format!("&tag={tag}")).unwrap_or_default();
        let url = format!("{}/v1/health/service/{service}?passing=true{tag}", url.trim_end_matches('/'));
        let token = token.map(HeaderValue::from_str).transpose();
        let mut token = token.map_err(|_| "the token is no field value".to_owned())?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        Ok(Self { client: client(), url, token, index: None })
    }

    pub(super) async fn next(&mut self) -> Result<Told, String> {
        let wait = self.index.map(|index| format!("&index={index}&wait={WAIT}")).unwrap_or_default();
        let uri: Uri = format!("{}{wait}", self.url).parse().map_err(|error| format!("{}: {error}", self.url))?;
        let mut request = Request::get(uri).body(Default::default()).map_err(|error| error.to_string())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert("x-consul-token", token.clone());
        }
        let asked = timeout(PATIENCE, async {
            let response = self.client.request(request).await.map_err(|error| causes(&error))?;
            let (head, body) = response.into_parts();
            let body = collect(body, MOST).await.map_err(|error| error.to_string())?;
            Ok((head, body))
        });
        let (head, body) = match asked.await {
            Ok(answer) => answer.map_err(|error: String| format!("{}: {error}", self.url))?,
            Err(_) => return Err(format!("{} gave no answer within {PATIENCE:?}", self.url)),
        };
        if !head.status.is_success() {
            return Err(format!("{} answered {}", self.url, head.status));
        }
        let instances: Vec<Instance> = serde_json::from_slice(&body)
            .map_err(|error| format!("{} answered what is no list of instances: {error}", self.url))?;
        let index = head.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
        // One that goes back is a new one's (Consul, "Blocking Queries").
        self.index = index.filter(|index| *index > 0 && self.index.is_none_or(|before| *index >= before));
        let wait = if self.index.is_some() { AT_LEAST } else { EVERY };
        Ok(Told { members: instances.into_iter().filter_map(member).collect(), wait })
    }
}

/// None if its address is a name.
fn member(Instance { node, service }: Instance) -> Option<Member> {
    let id = format!("{}:{}", node.node, service.id);
    let address = if service.address.is_empty() { node.address } else { service.address };
    let Ok(ip) = address.parse::<IpAddr>() else {
        tracing::warn!(id, "an instance is passed over: {address} is no IP address");
        return None;
    };
    let weight = service.weights.map_or(1, |weights| weights.passing);
    let metadata = service.meta.unwrap_or_default().into();
    Some(Member { id: id.into(), address: SocketAddr::new(ip, service.port), weight, metadata })
}
