//! Every route of a configuration with where it stands: those written as such, and those of versions of APIs, which have what
//! selects their version added.

mod description;

use std::{borrow::Cow, collections::BTreeMap};

use crate::config::{
    Config, Problem,
    schema::{self, Api, ApiState, ApiVersion},
};

/// A route as it is to be compiled.
#[derive(Debug, Clone)]
pub(super) struct Written<'a> {
    /// Its key path.
    pub(super) at: String,
    pub(super) route: Cow<'a, schema::Route>,
    pub(super) of: Option<Of<'a>>,
}

/// The version of an API that a route belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) api: &'a Api,
    pub(super) version: &'a ApiVersion,
}

impl<'a> Of<'a> {
    /// The names of both.
    pub(super) fn key(self) -> (&'a str, &'a str) {
        (&self.api.name, &self.version.name)
    }
}

impl Written<'_> {
    /// Whether requests may find it.
    pub(super) fn is_live(&self) -> bool {
        self.of.is_none_or(|of| of.version.state != ApiState::Draft)
    }
}

/// All routes, those first that requests may find, and what is wrong with how versions are selected.
pub(super) fn written(config: &Config) -> (Vec<Written<'_>>, Vec<Problem>) {
    let mut problems = Vec::new();
    let plain = config.routes.iter().enumerate();
    let plain = plain.map(|(n, route)| Written { at: format!("routes[{n}]"), route: Cow::Borrowed(route), of: None });
    let mut all: Vec<Written<'_>> = plain.collect();
    for (a, api) in config.apis.iter().enumerate() {
        for (v, version) in api.versions.iter().enumerate() {
            let at = format!("apis[{a}].versions[{v}]");
            let selected = |route: &mut schema::Route, at: &str, problems: &mut Vec<Problem>| {
                if let Err((key, message)) = select(route, &version.select) {
                    problems.push(Problem::new(format!("{at}.{key}"), message));
                }
            };
            check(version, &at, &mut problems);
            let routes = version.routes.iter().enumerate();
            let routes = routes.map(|(r, route)| (format!("{at}.routes[{r}]"), route.clone()));
            let described = description::routes(version).unwrap_or_else(|message| {
                problems.push(Problem::new(format!("{at}.openapi"), message));
                Vec::new()
            });
            let described = described.into_iter().map(|route| (format!("{at}.import"), route));
            for (at, mut route) in routes.chain(described).collect::<Vec<_>>() {
                selected(&mut route, &at, &mut problems);
                // No route that is written as such has a name with a slash.
                route.name = format!("{}/{}/{}", api.name, version.name, route.name);
                all.push(Written { at, route: Cow::Owned(route), of: Some(Of { api, version }) });
            }
        }
    }
    all.sort_by_key(|it| !it.is_live());
    (all, problems)
}

/// What is wrong with a selection whatever the routes.
fn check(version: &ApiVersion, at: &str, problems: &mut Vec<Problem>) {
    let select = &version.select;
    if let Some(path) = select.path.as_deref().filter(|path| !is_prefix(path)) {
        let message = format!("\"{}\" is not what paths begin with, such as /v1", path.escape_debug());
        problems.push(Problem::new(format!("{at}.select.path"), message));
    }
    if let Some(accept) = select.accept.as_deref().filter(|accept| parameter(accept).is_none()) {
        let message = format!("\"{}\" is not NAME=VALUE", accept.escape_debug());
        problems.push(Problem::new(format!("{at}.select.accept"), message));
    }
}

fn is_prefix(path: &str) -> bool {
    path.starts_with('/') && path.len() > 1 && !path.contains('*')
}

/// Adds what selects a version to one of its routes. Gives the key of what cannot be added to, and why.
fn select(route: &mut schema::Route, select: &schema::Select) -> Result<(), (&'static str, String)> {
    if let Some(prefix) = select.path.as_deref().filter(|path| is_prefix(path)).map(|path| path.trim_end_matches('/')) {
        let path = route.matches.path.as_deref();
        if path.is_some_and(|path| path.starts_with('~')) {
            return Err((
                "match.path",
                "a regex has no beginning that the version's select.path could be put before".to_owned(),
            ));
        }
        route.matches.path = Some(format!("{prefix}{}", path.unwrap_or("/*")));
        let stripped = route.rewrite.strip_prefix.as_deref().unwrap_or_default();
        if stripped.is_empty() || stripped.starts_with('/') {
            route.rewrite.strip_prefix = Some(format!("{prefix}{}", stripped.trim_end_matches('/')));
        }
    }
    let accept = select.accept.as_deref().and_then(parameter).map(|(name, value)| {
        let (name, value) = (regex::escape(name), regex::escape(value));
        // RFC 9110 §12.4.2: what has the weight 0 is not accepted.
        let text = r#"[^;,"]*("([^"\\]|\\.)*")?[ \t]*"#;
        let others = format!(r#"([ \t]*;[ \t]*(q=(1|0\.0*[1-9]){text}|q[^=;," \t]{text}|[^q;," \t]{text})?)*"#);
        let this = format!(r#"[ \t]*;[ \t]*{name}="?{value}"?[ \t]*"#);
        ("accept".to_owned(), format!("~(?i)(^|,)[^;,]*{others}{this}{others}(,|$)"))
    });
    let headers = select.headers.iter().map(|(name, value)| (name.clone(), value.clone())).chain(accept);
    let query = select.query.iter().map(|(name, value)| (name.clone(), value.clone()));
    add(&mut route.matches.headers, headers, str::eq_ignore_ascii_case).map_err(|name| {
        ("match.headers", format!("the version is selected by \"{name}\" already: a route cannot ask for it again"))
    })?;
    add(&mut route.matches.query, query, |a, b| a == b).map_err(|name| {
        ("match.query", format!("the version is selected by \"{name}\" already: a route cannot ask for it again"))
    })
}

/// Fails with the name that is there already.
fn add(
    conditions: &mut BTreeMap<String, String>,
    more: impl Iterator<Item = (String, String)>,
    same: impl Fn(&str, &str) -> bool,
) -> Result<(), String> {
    for (name, value) in more {
        if conditions.keys().any(|known| same(known, &name)) {
            return Err(name);
        }
        conditions.insert(name, value);
    }
    Ok(())
}

/// Name and value of a parameter of a media type (RFC 9110 §5.6.6), without quotes.
pub(super) fn parameter(text: &str) -> Option<(&str, &str)> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    text.split_once('=').filter(|(name, value)| is_token(name) && is_token(value))
}
