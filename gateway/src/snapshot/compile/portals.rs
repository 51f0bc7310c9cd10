//! Pages of listeners that show APIs to those who call them.

use std::{collections::HashMap, sync::Arc};

use super::{Compiler, written::parameter};
use crate::{
    config::schema::{self, Api, ApiState, ApiVersion},
    exchange::path::normalize,
    portal::{self, Portal, Select, Shown, Version},
    snapshot::CALL,
};

impl Compiler<'_> {
    /// By listener. Pages that would be the same are carried over.
    pub(super) fn portals(&mut self) -> HashMap<Arc<str>, Arc<Portal>> {
        let config = self.input.config;
        let mut portals = HashMap::new();
        for (n, listener) in config.listeners.iter().enumerate() {
            let Some(written) = &listener.portal else { continue };
            let at = format!("listeners[{n}].portal");
            let is_normal = normalize(&written.path).is_ok_and(|normal| normal.path == written.path);
            if !is_normal || written.path.contains(['*', '%']) {
                let message = format!("\"{}\" is no plain path such as /developers", written.path.escape_debug());
                self.problem(format!("{at}.path"), message);
            }
            if listener.call && format!("{}/", written.path).starts_with(CALL) {
                self.problem(
                    format!("{at}.path"),
                    format!("what begins with {CALL} is for services: `call` is true here"),
                );
            }
            for (a, name) in written.apis.iter().enumerate() {
                if !config.apis.iter().any(|api| api.name == *name) {
                    let known = config.apis.iter().map(|api| &api.name);
                    self.unknown(format!("{at}.apis[{a}]"), ("API", "apis"), name, known);
                }
            }
            let shown = shown(written, &config.apis);
            let before = self.input.previous.and_then(|previous| previous.portals.get(&*listener.name));
            let same = before.filter(|before| before.is_of(&shown));
            let portal = same.map_or_else(|| Arc::new(Portal::new(&shown)), Arc::clone);
            portals.insert(listener.name.as_str().into(), portal);
        }
        portals
    }
}

fn shown<'a>(written: &'a schema::Portal, apis: &'a [Api]) -> Shown<'a> {
    let is_shown = |api: &&Api| written.apis.is_empty() || written.apis.contains(&api.name);
    let api = |api: &'a Api| portal::Api {
        name: &api.name,
        title: api.title.as_deref(),
        description: api.description.as_deref(),
        versions: api.versions.iter().rev().filter_map(version).collect(),
    };
    let apis = apis.iter().filter(is_shown).map(api).filter(|api| !api.versions.is_empty()).collect();
    Shown { prefix: &written.path, title: &written.title, apis }
}

/// None if it is not served.
fn version(version: &ApiVersion) -> Option<Version<'_>> {
    let deprecated = match version.state {
        ApiState::Draft | ApiState::Retired => return None,
        ApiState::Published => false,
        ApiState::Deprecated => true,
    };
    Some(Version {
        name: &version.name,
        deprecated,
        sunset: version.sunset.filter(|_| deprecated).map(|end| end.to_string()),
        anonymous: version.anonymous,
        scopes: &version.scopes,
        select: select(&version.select),
        description: version.openapi.as_ref(),
        routes: version
            .routes
            .iter()
            .map(|route| (route.matches.path.as_deref().unwrap_or("/*"), &*route.matches.methods))
            .collect(),
    })
}

fn select(select: &schema::Select) -> Select<'_> {
    let accept = select.accept.as_deref().and_then(parameter);
    let accept = accept.map(|(name, value)| ("Accept", format!("application/json;{name}={value}")));
    Select {
        path: select.path.as_deref().unwrap_or_default(),
        headers: select.headers.iter().map(|(name, value)| (&**name, value.clone())).chain(accept).collect(),
        query: select.query.iter().map(|(name, value)| (&**name, &**value)).collect(),
    }
}
