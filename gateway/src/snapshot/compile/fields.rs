//! Rules of listeners for header fields, and the fields that the configuration reads.

use std::{collections::HashSet, sync::Arc};

use http::HeaderName;

use super::{Written, parts};
use crate::{
    config::{Config, Problem, schema},
    exchange::{Family, FieldRules, Underscores, via::is_token},
    filter::ShareKey,
    snapshot::Route,
};

pub(super) fn rules(listener: &schema::Listener) -> FieldRules {
    let family = match listener.proxy_headers {
        schema::ProxyHeaders::XForwarded => Family::XForwarded,
        schema::ProxyHeaders::Forwarded => Family::Forwarded,
    };
    let underscores = match listener.underscores {
        schema::Underscores::Reserved => Underscores::Reserved,
        schema::Underscores::Drop => Underscores::Drop,
        schema::Underscores::Allow => Underscores::Allow,
    };
    let trusted = listener.trusted.iter().filter_map(|text| parts::network(text)).collect();
    FieldRules { trusted, family, underscores }
}

/// A pseudonym that is no token.
pub(super) fn pseudonym(via: &schema::Via) -> Option<Problem> {
    let name = via.pseudonym.as_deref().filter(|name| !is_token(name))?;
    let message = format!("invalid name \"{}\": names hold letters, digits and !#$%&'*+-.^_`|~", name.escape_debug());
    Some(Problem::new("via.pseudonym", message))
}

/// The names that matches, rollouts and descriptions of APIs read.
pub(super) fn names_read(config: &Config, written: &[Written<'_>], routes: &[Arc<Route>]) -> HashSet<HeaderName> {
    let matches = written.iter().flat_map(|it| it.route.matches.headers.keys()).filter_map(|name| name.parse().ok());
    let rollouts = config.plugins.iter().filter_map(|plugin| match parts::share_key(&plugin.rollout.key)? {
        ShareKey::Header(name) => Some(name),
        ShareKey::Client => None,
    });
    let described = routes.iter().filter_map(|route| route.validation.as_ref());
    let described = described.flat_map(|validation| validation.description.header_names().cloned());
    matches.chain(rollouts).chain(described).collect()
}
