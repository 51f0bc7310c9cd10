//! The routing part of a configuration alone, to say why a request goes where it goes. Needs no plugin's module.

use std::collections::HashMap;

use super::{Compiler, Input, Parts, filters, rules};
use crate::{
    access::Credentials,
    config::{Config, Problem, schema},
    exchange::RequestHead,
    router::Explainer,
    snapshot::subject,
};

/// The routes of a configuration, compiled to explain.
#[derive(Debug)]
pub struct Routing<'a> {
    config: &'a Config,
    explainer: Explainer<'a, usize>,
}

/// Where a request goes, and why nowhere else.
#[derive(Debug)]
pub struct Explained<'a> {
    pub route: Option<&'a schema::Route>,
    /// Every other route with the reason, the nearest miss first.
    pub passed: Vec<(&'a schema::Route, String)>,
}

impl<'a> Routing<'a> {
    /// Compiles what matching takes, and checks that what follows from a match is there.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with that part, each with the key path of its cause.
    pub fn new(config: &'a Config) -> Result<Self, Vec<Problem>> {
        let revisions = HashMap::new();
        let mut compiler = Compiler::new(Input {
            config,
            revisions: &revisions,
            previous: None,
            workers: 1,
            generation: 1,
            stored: Credentials::default(),
        });
        compiler.names();
        compiler.plugins(&filters::uses(config));
        let services = compiler.services();
        let (instances, balancers, filters) = (HashMap::new(), HashMap::new(), HashMap::new());
        let parts = Parts { services: &services, instances: &instances, balancers, filters };
        compiler.routes(&parts);
        let explainer = compiler.matches(Explainer::compile(rules(config)));
        match explainer {
            Some(explainer) if compiler.problems.is_empty() => Ok(Self { config, explainer }),
            _ => Err(compiler.problems),
        }
    }

    pub fn explain(&self, head: &RequestHead) -> Explained<'a> {
        let explained = self.explainer.explain(&subject(head));
        let route = |index: &usize| &self.config.routes[*index];
        let passed = explained.passed.into_iter().map(|passed| (route(passed.target), passed.reason));
        Explained { route: explained.found.map(route), passed: passed.collect() }
    }
}
