//! Which route is a request for: a compiled, immutable table. Look-up is pure: no I/O, no clock, no body. It allocates
//! only for a host in an unusual form, and where a condition asks for a value that has escapes. The caller normalises the
//! path first and forwards it as normalised, with the parameters of segments (`;`), which matching passes over.

mod candidate;
mod host;
mod path;
mod predicate;
mod text;
mod values;
mod table;
mod explain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::{HeaderMap, Method};
use thiserror::Error;

use self::{
    candidate::{Candidate, Place},
    host::Hosts,
    predicate::Conditions,
    table::Table,
};
pub use self::{
    explain::{Explainer, Explanation, Passed},
    host::HostError,
    path::PatternError,
    predicate::ConditionError,
    text::RegexError,
    values::cookies,
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
        Candidate::read_all(rules).map(|candidates| Self::of(candidates).0)
    }

    /// What belongs to the route that `subject` is for.
    pub fn find(&self, subject: &Subject<'_>) -> Option<&T> {
        self.rank(subject).map(|rank| &self.routes[rank].target)
    }

    fn rank(&self, subject: &Subject<'_>) -> Option<usize> {
        let admits = |rank: usize| self.routes[rank].conditions.hold(subject);
        self.hosts.search(subject.host, |table| table.find(subject.path, admits))
    }

    /// From what is in order already; the places come back by rank.
    fn of(candidates: Vec<Candidate<'_, T>>) -> (Self, Vec<Place<'_>>) {
        let mut hosts = Hosts::<Table>::default();
        for (rank, Candidate { place, .. }) in candidates.iter().enumerate() {
            for (_, host) in &place.hosts {
                hosts.entry(host).insert(rank, &place.pattern);
            }
        }
        let (places, routes) = candidates.into_iter().map(|candidate| (candidate.place, candidate.route)).unzip();
        (Self { hosts, routes }, places)
    }
}
