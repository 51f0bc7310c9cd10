//! The routing part of a configuration alone, to say why a request goes where it goes. Needs no plugin's module.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::Method;

use super::{Compiler, Input, Parts, filters, rules, written::written};
use crate::{
    access::Holdings,
    config::{Config, Problem, schema},
    exchange::RequestHead,
    router::{Explainer, Subject},
    snapshot::{METHODS, subject},
};

/// Where a request goes, and why nowhere else. Routes of APIs are as what selects their version makes them.
#[derive(Debug, Default)]
pub struct Explained<'a> {
    pub route: Option<Cow<'a, schema::Route>>,
    /// Every other route with the reason, the nearest miss first.
    pub passed: Vec<(Cow<'a, schema::Route>, String)>,
    /// Where there is none: the methods for which a version of an API has one.
    pub allowed: Vec<Method>,
    /// Listeners on which it is a page of their portal.
    pub pages: Vec<Arc<str>>,
}

/// Compiles what matching takes, checks that what follows from a match is there, and explains a request if there is one.
///
/// # Errors
///
/// Everything that is wrong with that part, each with the key path of its cause.
pub fn explain<'a>(config: &'a Config, head: Option<&RequestHead>) -> Result<Explained<'a>, Vec<Problem>> {
    let revisions = HashMap::new();
    let mut compiler = Compiler::new(Input {
        config,
        revisions: &revisions,
        previous: None,
        workers: 1,
        generation: 1,
        stored: Holdings::default(),
    });
    compiler.names();
    let (written, _) = written(config);
    compiler.plugins(&filters::uses(config, &written));
    let services = compiler.services();
    let (instances, balancers, filters) = (HashMap::new(), HashMap::new(), HashMap::new());
    let validations = compiler.validations();
    let portals = compiler.portals();
    compiler.routes(&Parts { services: &services, instances: &instances, balancers, filters, validations });
    let explainer = compiler.matches(Explainer::compile(rules(&written)));
    let Some(explainer) = explainer.filter(|_| compiler.problems.is_empty()) else { return Err(compiler.problems) };
    let Some(head) = head else { return Ok(Explained::default()) };
    let explained = explainer.explain(&subject(head));
    let is_of_api = |method: &Method| {
        let found = explainer.explain(&Subject { method, ..subject(head) }).found;
        let of = found.and_then(|index| written[*index].of);
        of.is_some_and(|of| of.version.state != schema::ApiState::Retired)
    };
    let allowed = if explained.found.is_some() { Vec::new() } else { METHODS.into_iter().filter(is_of_api).collect() };
    let is_read = [Method::GET, Method::HEAD].contains(&head.method);
    let pages = portals.into_iter().filter(|(_, portal)| is_read && portal.page(head.target.path()).is_some());
    let mut pages: Vec<_> = pages.map(|(listener, _)| listener).collect();
    pages.sort();
    let route = |index: &usize| written[*index].route.clone();
    let passed = explained.passed.into_iter().map(|passed| (route(passed.target), passed.reason));
    Ok(Explained { route: explained.found.map(route), passed: passed.collect(), allowed, pages })
}
