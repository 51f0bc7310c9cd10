//! Warnings about parts of a configuration, and about endpoints, that are valid and yet of no use.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::broadcast::error::RecvError, time::sleep};

use super::Control;
use crate::{descriptors, listener::reaches, registry::Source, snapshot::Snapshot};

/// Time between two looks at all endpoints.
const REST: Duration = Duration::from_secs(1);

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
    let known = before.map(own_fixed).unwrap_or_default();
    for (service, address) in own_fixed(snapshot) {
        if !known.contains(&(service, address)) {
            warn_of_own(service, address);
        }
    }
}

impl Control {
    /// Warns of endpoints that are registered or in a directory and are addresses of this gateway, for as long as this is awaited.
    pub async fn watch_endpoints(&self) {
        let (mut news, mut changed) = (self.registry.news(), self.changed());
        let mut known = HashSet::new();
        loop {
            let own = self.own_learnt();
            for (service, address) in own.difference(&known) {
                warn_of_own(service, *address);
            }
            known = own;
            tokio::select! {
                heard = news.recv() => if let Err(RecvError::Closed) = heard { return },
                changed = changed.changed() => if changed.is_err() { return },
            }
            // Thousands of endpoints may change at once: one look is for all of them.
            sleep(REST).await;
            news = news.resubscribe();
        }
    }

    /// Endpoints that are addresses of this gateway, as far as servers and directories say.
    fn own_learnt(&self) -> HashSet<(Arc<str>, SocketAddr)> {
        let mut own = HashSet::new();
        for service in self.live.load().services.keys() {
            let all = self.registry.list(service).unwrap_or_default().into_iter();
            let learnt = all.filter(|it| it.source != Source::Configuration).map(|it| it.member.address);
            own.extend(learnt.filter(|it| self.listeners.is_own(*it)).map(|it| (Arc::clone(service), it)));
        }
        own
    }
}

fn warn_of_own(service: &str, address: SocketAddr) {
    tracing::warn!(service, %address, "this endpoint is an address of the gateway: its requests come back");
}

/// Endpoints of services that are addresses of listeners or the admin address, as far as the configuration says.
fn own_fixed(snapshot: &Snapshot) -> Vec<(&str, SocketAddr)> {
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
