//! Routes of the description of a version, an OpenAPI document: one for each path, with the methods that it has there.

use std::collections::HashSet;

use crate::{
    config::schema::{ApiVersion, HostHeader, Import, Match, Rewrite, Route, default_timeout},
    openapi::{Document, Mistake, pattern},
};

/// None without a description, or if none are to be made of it; or why there can be none.
pub(super) fn routes(version: &ApiVersion) -> Result<Vec<Route>, String> {
    let Some(description) = &version.openapi else {
        return match version.import {
            Some(_) => Err("there is no description that routes could be made of".to_owned()),
            None => Ok(Vec::new()),
        };
    };
    let told = |mistake: Mistake| mistake.to_string();
    let document = Document::read(description).map_err(told)?;
    let Some(Import { service, filters }) = &version.import else { return Ok(Vec::new()) };
    let mut names = HashSet::new();
    let mut routes = Vec::new();
    for (path, item) in document.items() {
        let item = item.map_err(told)?;
        let mut methods: Vec<String> = document.operations(&item).map(|(method, _)| method.to_string()).collect();
        if methods.is_empty() {
            continue;
        }
        // RFC 9110 §9.3.2: what has GET has HEAD.
        if methods.iter().any(|method| method == "GET") && !methods.iter().any(|method| method == "HEAD") {
            methods.push("HEAD".to_owned());
        }
        let matches = Match { path: Some(pattern(path)), methods, ..Match::default() };
        routes.push(Route {
            name: name(path, |name| names.insert(name.to_owned())),
            matches,
            filters: filters.clone(),
            service: service.clone(),
            rewrite: Rewrite::default(),
            host: HostHeader::default(),
            timeout: default_timeout(),
        });
    }
    Ok(routes)
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
