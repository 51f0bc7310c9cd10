//! Which route is a request for: a compiled, immutable table. Look-up is pure: no I/O, no clock, no body, and no
//! allocation for a host in its usual form. The caller normalises the path first and forwards it as normalised.

mod host;
mod path;
mod predicate;
mod text;
mod values;
mod table;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use http::{HeaderMap, Method};
use thiserror::Error;

pub use self::{host::HostError, path::PatternError, predicate::ConditionError, text::RegexError};
use self::{
    host::{Host, Hosts},
    path::{Pattern, Precedence},
    predicate::Conditions,
    table::Table,
};

/// Routes by host, then path, then conditions. If none of a host's routes matches, the next less specific host is
/// asked: exact, then the longest wildcard, then none. Within a host: exact paths, then templates and open ends, then
/// regexes, then routes without a path; among these, see `Precedence`; then more conditions; then the name.
#[derive(Debug)]
pub struct Router<T> {
    hosts: Hosts<Table>,
    /// By rank.
    routes: Vec<Route<T>>,
}

/// One match as written, and the name of its route.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    pub name: &'a str,
    /// Empty is every host.
    pub hosts: &'a [String],
    /// Absent is every path, after all those that are written.
    pub path: Option<&'a str>,
    /// Empty is every method.
    pub methods: &'a [String],
    pub headers: &'a Texts,
    pub query: &'a Texts,
    pub cookies: &'a Texts,
    /// Among regexes, the larger is tried first.
    pub priority: i32,
}

/// Names, each with the text that one of its values must be, or with `~REGEX`.
pub type Texts = BTreeMap<String, String>;

/// What is known of a request when its route is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// As in `Host` or `:authority`, with or without a port; empty if there is none.
    pub host: &'a str,
    /// Normalised.
    pub path: &'a str,
    pub method: &'a Method,
    /// As the client wrote it.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

/// What is wrong with one rule. Displays as the cause alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{cause}")]
pub struct RuleError {
    /// Index of the rule.
    pub rule: usize,
    /// The key in it, such as `hosts[1]` or `path`; empty if it is the whole.
    pub key: String,
    pub cause: RuleCause,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleCause {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Path(#[from] PatternError),
    #[error(transparent)]
    Condition(#[from] ConditionError),
    #[error("host \"{0}\" is there twice")]
    RepeatedHost(String),
    #[error("routes \"{first}\" and \"{second}\" have the same match: host {host}, path {path}, equal conditions")]
    Duplicate { first: String, second: String, host: String, path: String },
}

#[derive(Debug)]
struct Route<T> {
    conditions: Conditions,
    target: T,
}

/// A rule read.
struct Candidate<'a, T> {
    rule: usize,
    name: &'a str,
    /// Each with its key.
    hosts: Vec<(String, Host)>,
    pattern: Pattern,
    precedence: Precedence,
    route: Route<T>,
}

impl Default for Rule<'_> {
    fn default() -> Self {
        static NONE: Texts = Texts::new();
        let (headers, query, cookies) = (&NONE, &NONE, &NONE);
        Self { name: "", hosts: &[], path: None, methods: &[], headers, query, cookies, priority: 0 }
    }
}

impl<T> Router<T> {
    /// Compiles rules, in any order, each with what `find` is to answer.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the rules, by their order.
    pub fn compile<'a>(rules: impl IntoIterator<Item = (Rule<'a>, T)>) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        let rules = rules.into_iter().enumerate();
        let mut candidates: Vec<_> =
            rules.filter_map(|(index, (rule, target))| Candidate::read(index, &rule, target, &mut errors)).collect();
        report_duplicates(&candidates, &mut errors);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.rule);
            return Err(errors);
        }
        candidates.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut hosts = Hosts::<Table>::default();
        for (rank, candidate) in candidates.iter().enumerate() {
            for (_, host) in &candidate.hosts {
                hosts.entry(host).insert(rank, &candidate.pattern);
            }
        }
        Ok(Self { hosts, routes: candidates.into_iter().map(|candidate| candidate.route).collect() })
    }

    /// What belongs to the route that `subject` is for.
    pub fn find(&self, subject: &Subject<'_>) -> Option<&T> {
        let admits = |rank: usize| self.routes[rank].conditions.hold(subject);
        let rank = self.hosts.search(subject.host, |table| table.find(subject.path, admits))?;
        Some(&self.routes[rank].target)
    }
}

impl<'a, T> Candidate<'a, T> {
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
        Some(Self { rule, name: text.name, hosts, pattern, precedence, route: Route { conditions, target } })
    }

    fn order(&self) -> impl Ord {
        (&self.precedence, Reverse(self.route.conditions.count()), self.name)
    }
}

#[expect(clippy::mutable_key_type, reason = "a regex compares and hashes as it is written")]
fn report_duplicates<T>(candidates: &[Candidate<'_, T>], errors: &mut Vec<RuleError>) {
    let mut seen = HashMap::new();
    for second in candidates {
        for (key, host) in &second.hosts {
            let same = (host, &second.pattern.text, &second.route.conditions);
            let Some(first) = seen.insert(same, second.name) else { continue };
            let cause = RuleCause::Duplicate {
                first: first.to_owned(),
                second: second.name.to_owned(),
                host: host.to_string(),
                path: second.pattern.text.clone(),
            };
            errors.push(RuleError { rule: second.rule, key: key.clone(), cause });
        }
    }
}
