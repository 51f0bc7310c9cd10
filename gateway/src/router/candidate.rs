//! From rules as written to routes in their order, or everything that is wrong with them.

use std::{cmp::Reverse, collections::HashMap};

use super::{
    Route, Rule, RuleCause, RuleError,
    host::Host,
    path::{Pattern, Precedence},
    predicate::Conditions,
};

/// A rule read, and what it leads to.
#[derive(Debug)]
pub(super) struct Candidate<'a, T> {
    rule: usize,
    pub(super) place: Place<'a>,
    pub(super) route: Route<T>,
}

/// Where a route is looked for, and its place among others that are found there.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    /// As written.
    pub(super) path: Option<&'a str>,
    /// Each with its key.
    pub(super) hosts: Vec<(String, Host)>,
    pub(super) pattern: Pattern,
    pub(super) precedence: Precedence,
}

impl<'a, T> Candidate<'a, T> {
    /// Reads rules; they come back in the order in which they are tried.
    pub(super) fn read_all(rules: impl IntoIterator<Item = (Rule<'a>, T)>) -> Result<Vec<Self>, Vec<RuleError>> {
        let mut errors = Vec::new();
        let rules = rules.into_iter().enumerate();
        let mut candidates: Vec<_> =
            rules.filter_map(|(index, (rule, target))| Self::read(index, &rule, target, &mut errors)).collect();
        report_duplicates(&candidates, &mut errors);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.rule);
            return Err(errors);
        }
        candidates.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(candidates)
    }

    /// Puts what is wrong into `errors`; a candidate comes back if enough is right to be compared with others.
    fn read(rule: usize, text: &Rule<'a>, target: T, errors: &mut Vec<RuleError>) -> Option<Self> {
        let mut report = |key: &str, cause| errors.push(RuleError { rule, key: key.to_owned(), cause });
        let mut hosts = Vec::with_capacity(text.hosts.len().max(1));
        for (index, host) in text.hosts.iter().enumerate() {
            let key = format!("hosts[{index}]");
            match Host::parse(host) {
                Ok(same) if hosts.iter().any(|(_, host)| *host == same) => {
                    report(&key, RuleCause::RepeatedHost(host.clone()));
                }
                Ok(host) => hosts.push((key, host)),
                Err(error) => report(&key, error.into()),
            }
        }
        if text.hosts.is_empty() {
            hosts.push((String::new(), Host::Any));
        }
        let conditions = Conditions::read(text, &mut report);
        let pattern = text.path.map_or_else(|| Ok(Pattern::every()), Pattern::parse);
        let pattern = pattern.map_err(|error| report("path", error.into())).ok()?;
        let conditions = conditions?;
        let precedence = pattern.precedence(text.priority);
        let place = Place { name: text.name, path: text.path, hosts, pattern, precedence };
        Some(Self { rule, place, route: Route { conditions, target } })
    }

    fn order(&self) -> impl Ord {
        (&self.place.precedence, Reverse(self.route.conditions.count()), self.place.name)
    }
}

#[expect(clippy::mutable_key_type, reason = "a regex compares and hashes as it is written")]
fn report_duplicates<T>(candidates: &[Candidate<'_, T>], errors: &mut Vec<RuleError>) {
    let mut seen = HashMap::new();
    for Candidate { rule, place, route } in candidates {
        for (key, host) in &place.hosts {
            let Some(first) = seen.insert((host, &place.pattern.text, &route.conditions), place.name) else { continue };
            let cause = RuleCause::Duplicate {
                first: first.to_owned(),
                second: place.name.to_owned(),
                host: host.to_string(),
                path: place.pattern.text.clone(),
            };
            errors.push(RuleError { rule: *rule, key: key.clone(), cause });
        }
    }
}
