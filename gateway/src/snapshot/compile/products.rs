//! Versions of APIs and grants as they are written, into what decides who may use what.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue};

use super::{Compiler, parts, written::Of};
use crate::{
    access::{Grant, Product, Quotas},
    config::{
        Premise, Problem,
        scalar::{SCOPE, Timestamp, is_scope},
        schema::{self, ApiState, ApiVersion},
    },
    exchange::path::normalize_pattern,
    openapi::{Description, Mistake},
    snapshot::Validation,
};

/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// What is said to who writes a version `*`.
pub const EACH_VERSION: &str = "a grant of each version is one without a version";

pub(super) fn product(Of { api, version }: Of<'_>) -> Product {
    Product {
        api: api.name.as_str().into(),
        version: version.name.as_str().into(),
        retired: version.state == ApiState::Retired,
        anonymous: version.anonymous,
        scopes: version.scopes.iter().map(|scope| scope.as_str().into()).collect(),
    }
}

/// What every answer of a version says of its life.
pub(super) fn notices(version: &ApiVersion) -> Box<[(HeaderName, HeaderValue)]> {
    if version.state != ApiState::Deprecated {
        return Box::default();
    }
    let since = version.deprecated.map_or(0, |since| since.0);
    let deprecation = HeaderValue::from_str(&format!("@{since}")).ok();
    let sunset = version.sunset.and_then(|Timestamp(end)| {
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))?;
        HeaderValue::from_str(&httpdate::fmt_http_date(end)).ok()
    });
    let all = [(DEPRECATION, deprecation), (SUNSET, sunset)];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl<'a> Compiler<'a> {
    /// What versions say of their life, and what of grants for them.
    pub(super) fn versions(&mut self) {
        let config = self.input.config;
        for (a, api) in config.apis.iter().enumerate() {
            for (v, version) in api.versions.iter().enumerate() {
                let at = format!("apis[{a}].versions[{v}]");
                self.scopes(&at, &version.scopes);
                if let (Some(since), Some(end)) = (version.deprecated, version.sunset)
                    && end < since
                {
                    self.problem(format!("{at}.sunset"), format!("{end} is before it is deprecated, at {since}"));
                }
            }
        }
    }

    fn scopes(&mut self, at: &str, scopes: &[String]) {
        for (n, scope) in scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope)) {
            self.problem(format!("{at}.scopes[{n}]"), format!("\"{}\" is no scope: {SCOPE}", scope.escape_debug()));
        }
    }

    /// What requests of versions are held to, by the names of both. What a description is compiled to is carried over.
    pub(super) fn validations(&mut self) -> HashMap<(&'a str, &'a str), Arc<Validation>> {
        let (config, previous) = (self.input.config, self.input.previous);
        let mut before: HashMap<(&str, &str), &Arc<Description>> = HashMap::new();
        for route in previous.iter().flat_map(|previous| &*previous.routes) {
            if let (Some(product), Some(validation)) = (&route.product, &route.validation) {
                before.insert((&product.api, &product.version), &validation.description);
            }
        }
        let mut all = HashMap::new();
        for (a, api) in config.apis.iter().enumerate() {
            for (v, version) in api.versions.iter().enumerate() {
                let Some(schema::Validate { body, body_timeout }) = &version.validate else { continue };
                let at = format!("apis[{a}].versions[{v}]");
                let Some(written) = &version.openapi else {
                    self.problem(format!("{at}.validate"), "there is no description that requests could be held to");
                    continue;
                };
                let key = (&*api.name, &*version.name);
                let same = before.get(&key).filter(|before| before.is_of(written));
                let description =
                    match same.map_or_else(|| Description::compile(written).map(Arc::new), |it| Ok(Arc::clone(it))) {
                        Ok(description) => description,
                        Err(mistakes) => {
                            self.mistakes(&format!("{at}.openapi"), &mistakes);
                            continue;
                        }
                    };
                let (body, body_timeout) = (parts::size(*body), body_timeout.0);
                let prefix = version.select.path.as_deref().map_or(0, segments);
                all.insert(key, Arc::new(Validation { description, prefix, body, body_timeout }));
            }
        }
        all
    }

    /// Tells what has not been told where routes are made of the description.
    fn mistakes(&mut self, at: &str, mistakes: &[Mistake]) {
        for message in mistakes.iter().map(Mistake::to_string) {
            if !self.problems.iter().any(|known| known.path == at && known.message == message) {
                self.problem(at, message);
            }
        }
    }

    /// Grants of one holder, each of a version that there is and none twice.
    pub(super) fn grants(&mut self, at: &str, grants: &[schema::Grant]) -> Vec<Grant> {
        let config = self.input.config;
        let mut seen = HashSet::new();
        for (n, schema::Grant { api, version, scopes, .. }) in grants.iter().enumerate() {
            let path = format!("{at}[{n}]");
            self.scopes(&path, scopes);
            let Some(found) = config.apis.iter().find(|it| it.name == *api) else {
                let known = config.apis.iter().map(|it| &it.name);
                self.unknown(format!("{path}.api"), ("API", "apis"), api, known);
                continue;
            };
            let is_there = |version: &String| found.versions.iter().any(|it| it.name == *version);
            if let Some(version) = version.as_ref().filter(|version| !is_there(version)) {
                let known = found.versions.iter().map(|it| it.name.as_str());
                let message = match version.as_str() {
                    "*" => EACH_VERSION.to_owned(),
                    version => parts::unknown("version", version, known),
                };
                self.problems.push(Problem::new(format!("{path}.version"), message).given([Premise::Names("apis")]));
            }
            if !seen.insert((api, version)) {
                self.problem(path, "there is another grant for the same");
            }
        }
        grants.iter().map(grant).collect()
    }
}

/// Those of a pattern in its one form.
fn segments(pattern: &str) -> usize {
    let pattern = normalize_pattern(pattern).unwrap_or_default();
    pattern.split('/').filter(|segment| !segment.is_empty()).count()
}

/// A grant as it counts.
pub fn grant(grant: &schema::Grant) -> Grant {
    let schema::Quotas { second, minute, day, month } = grant.quotas;
    Grant {
        api: grant.api.as_str().into(),
        version: grant.version.as_deref().map(Arc::from),
        scopes: grant.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        quotas: Quotas([second, minute, day, month]),
    }
}
