//! Warnings about parts of a configuration that are valid and yet of no use.

use std::net::SocketAddr;

use tokio::sync::broadcast::error::RecvError;

use super::Control;
use crate::{
    descriptors,
    listener::reaches,
    registry::{Change, News},
    snapshot::Snapshot,
};

/// Logs the useless parts of a generation, unless the generation before had them too.
pub(super) fn warn(snapshot: &Snapshot, before: Option<&Snapshot>) {
    let promised = snapshot.promised_connections();
    if before.is_none_or(|before| before.promised_connections() != promised)
        && let Some(shortage) =
            descriptors::shortage(descriptors::limit(), snapshot.limits.reserved_descriptors, promised)
    {
        tracing::warn!("{shortage}");
    }
    let unusable = before.map(Snapshot::unusable).unwrap_or_default();
    for (api, version) in snapshot.unusable().difference(&unusable) {
        tracing::warn!(
            api,
            version,
            "nobody can use this version: it is not anonymous, and no filter on the way to it is an authenticator"
        );
    }
    let hidden = before.map(Snapshot::hidden_call_timeouts).unwrap_or_default();
    for plugin in snapshot.hidden_call_timeouts().difference(&hidden) {
        tracing::warn!(
            plugin,
            "limits.call_timeout is not below limits.timeout: the plugin is ended before it sees that a call took too long"
        );
    }
    let known = before.map(own_endpoints).unwrap_or_default();
    for (service, address) in own_endpoints(snapshot) {
        if !known.contains(&(service, address)) {
            own_endpoint(service, address);
        }
    }
}

impl Control {
    /// Warns of registrations and of endpoints in directories that are addresses of this gateway, for as long as this is awaited.
    pub async fn watch_endpoints(&self) {
        let mut news = self.registry.news();
        loop {
            let (service, member) = match news.recv().await {
                Ok(News { service, change: Change::Registered | Change::Changed, member: Some(member), .. }) => {
                    (service, member)
                }
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
            };
            if self.listeners.is_own(member.address) {
                own_endpoint(&service, member.address);
            }
        }
    }
}

fn own_endpoint(service: &str, address: SocketAddr) {
    tracing::warn!(service, %address, "this endpoint is an address of the gateway: its requests come back");
}

/// Endpoints of services that are addresses of listeners or the admin address, as far as the configuration says.
fn own_endpoints(snapshot: &Snapshot) -> Vec<(&str, SocketAddr)> {
    let is_own = |address| {
        let mut bound = snapshot.listeners.iter().map(|listener| listener.address).chain(snapshot.admin);
        bound.any(|bound| reaches(bound, address))
    };
    let endpoints = snapshot
        .services
        .values()
        .flat_map(|service| service.listed.fixed.iter().map(|member| (&*service.name, member.address)));
    endpoints.filter(|(_, address)| is_own(*address)).collect()
}
