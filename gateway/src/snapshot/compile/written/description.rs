//! Routes of the description of a version, an OpenAPI document: one for each path, with the methods that it has there.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::config::schema::{ApiVersion, HostHeader, Import, Match, Rewrite, Route, default_timeout};

/// Those that a path item may have (OpenAPI 3.1 §4.8.9).
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// None without a description, or if none are to be made of it; or why there can be none.
pub(super) fn routes(version: &ApiVersion) -> Result<Vec<Route>, String> {
    let Some(description) = &version.openapi else {
        return match version.import {
            Some(_) => Err("there is no description that routes could be made of".to_owned()),
            None => Ok(Vec::new()),
        };
    };
    let paths = paths(description)?;
    let Some(Import { service, filters }) = &version.import else { return Ok(Vec::new()) };
    let mut names = HashSet::new();
    let route = |(path, item): (&String, &Value)| {
        if !path.starts_with('/') {
            return Err(format!("\"{}\" is no path: it does not begin with \"/\"", path.escape_debug()));
        }
        let item = item.as_object();
        let methods = METHODS.into_iter().filter(|method| item.is_some_and(|item| item.contains_key(*method)));
        let methods: Vec<String> = methods.map(str::to_uppercase).collect();
        let name = name(path, |name| names.insert(name.to_owned()));
        let matches = Match { path: Some(path.clone()), methods, ..Match::default() };
        Ok(Route {
            name,
            matches,
            filters: filters.clone(),
            service: service.clone(),
            rewrite: Rewrite::default(),
            host: HostHeader::default(),
            timeout: default_timeout(),
        })
    };
    let has_operations =
        |item: &&Value| item.as_object().is_some_and(|item| METHODS.iter().any(|it| item.contains_key(*it)));
    paths.iter().filter(|(_, item)| has_operations(item)).map(route).collect()
}

fn paths(description: &Value) -> Result<&Map<String, Value>, String> {
    let version = description["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        return Err("it is no OpenAPI document of version 3: \"openapi\" does not say 3.1.0 or the like".to_owned());
    }
    description["paths"].as_object().ok_or_else(|| "the OpenAPI document has no \"paths\"".to_owned())
}

/// Of the path's letters and digits, unlike those before.
fn name(path: &str, mut is_new: impl FnMut(&str) -> bool) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-");
    name.truncate(56);
    if name.is_empty() {
        name.push_str("root");
    }
    let plain = name.clone();
    let mut number = 1;
    while !is_new(&name) {
        number += 1;
        name = format!("{plain}-{number}");
    }
    name
}
