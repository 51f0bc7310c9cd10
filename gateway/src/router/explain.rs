//! Why a request goes to one route and not to another: what finds a route is asked about each rule by itself.
//! Meant for people who wait, not for requests.

use std::cmp::Reverse;

use super::{
    Router, Rule, RuleError, Subject,
    candidate::{Candidate, Place},
    host::{Host, Hosts},
    path::Kind,
    table::Table,
};

/// A router that can say why. It keeps what finding does not need: the rules, as written.
#[derive(Debug)]
pub struct Explainer<'a, T> {
    router: Router<T>,
    /// By rank.
    places: Vec<Place<'a>>,
}

/// Which route a request is for, and why no other.
#[derive(Debug)]
pub struct Explanation<'r, T> {
    pub found: Option<&'r T>,
    /// Every other route, the nearest miss first.
    pub passed: Vec<Passed<'r, T>>,
}

#[derive(Debug)]
pub struct Passed<'r, T> {
    pub target: &'r T,
    pub reason: String,
}

/// What one rule makes of a request.
struct Verdict<'r> {
    rank: usize,
    /// The most specific host pattern that matches.
    host: Option<&'r Host>,
    path: bool,
    /// What is said of each condition that does not hold.
    unmet: Vec<String>,
}

/// Hosts that are named when none of a rule's matches.
const SHOWN_HOSTS: usize = 4;

impl<'a, T> Explainer<'a, T> {
    /// Compiles as `Router::compile` does.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the rules, by their order.
    pub fn compile(rules: impl IntoIterator<Item = (Rule<'a>, T)>) -> Result<Self, Vec<RuleError>> {
        let (router, places) = Router::of(Candidate::read_all(rules)?);
        Ok(Self { router, places })
    }

    pub fn explain(&self, subject: &Subject<'_>) -> Explanation<'_, T> {
        let found = self.router.rank(subject);
        let verdicts = (0..self.places.len()).map(|rank| self.verdict(rank, subject));
        let (first, mut others): (Vec<_>, Vec<_>) = verdicts.partition(|verdict| Some(verdict.rank) == found);
        others.sort_by_cached_key(|verdict| {
            let place = &self.places[verdict.rank];
            (verdict.misses(), verdict.host.is_none(), !verdict.path, Reverse(common(place, subject)), verdict.rank)
        });
        let passed = others.into_iter().map(|verdict| {
            let reason = match first.first() {
                Some(first) if verdict.misses() == 0 => self.goes_first(first, &verdict),
                _ => self.misses(&verdict, subject),
            };
            Passed { target: &self.router.routes[verdict.rank].target, reason }
        });
        Explanation { found: found.map(|rank| &self.router.routes[rank].target), passed: passed.collect() }
    }

    /// Each part is asked as if there were no other rule.
    fn verdict(&self, rank: usize, subject: &Subject<'_>) -> Verdict<'_> {
        let place = &self.places[rank];
        let mut hosts = Hosts::<Option<&Host>>::default();
        for (_, host) in &place.hosts {
            *hosts.entry(host) = Some(host);
        }
        let mut table = Table::default();
        table.insert(rank, &place.pattern);
        Verdict {
            rank,
            host: hosts.search(subject.host, |host| *host),
            path: table.find(subject.path, |_| true).is_some(),
            unmet: self.router.routes[rank].conditions.unmet(subject),
        }
    }

    fn misses(&self, verdict: &Verdict<'_>, subject: &Subject<'_>) -> String {
        let place = &self.places[verdict.rank];
        let mut reasons = Vec::new();
        if verdict.host.is_none() {
            let shown: Vec<_> = place.hosts.iter().take(SHOWN_HOSTS).map(|(_, host)| host.to_string()).collect();
            let more = match place.hosts.len().saturating_sub(SHOWN_HOSTS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let got = if subject.host.is_empty() { "none" } else { subject.host };
            reasons.push(format!("host differs: wants {}{more}, got {got}", shown.join(" or ")));
        }
        if !verdict.path {
            reasons.push(format!("path does not match {}", place.path.unwrap_or_default()));
        }
        reasons.extend(verdict.unmet.iter().cloned());
        reasons.join("; ")
    }

    /// In the order in which a router decides.
    fn goes_first(&self, first: &Verdict<'_>, second: &Verdict<'_>) -> String {
        let [a, b] = [first, second].map(|verdict| &self.places[verdict.rank]);
        let [conditions, fewer] = [first, second].map(|verdict| self.router.routes[verdict.rank].conditions.count());
        let because = match (first.host, second.host) {
            (Some(host), Some(other)) if host != other => format!("its host {host} is more specific than {other}"),
            _ if kind(a) != kind(b) => match &a.pattern.kind {
                Kind::Exact => "its path is exact".to_owned(),
                Kind::Segments if matches!(b.pattern.kind, Kind::Regex(_)) => "its path is no regex".to_owned(),
                Kind::Segments | Kind::Regex(_) | Kind::Every => "it has a path".to_owned(),
            },
            _ if a.precedence != b.precedence => a.precedence.over(&b.precedence).to_owned(),
            _ if conditions != fewer => "it has more conditions".to_owned(),
            _ => "its name comes first".to_owned(),
        };
        format!("matches too, but {} goes first: {because}", a.name)
    }
}

impl Verdict<'_> {
    fn misses(&self) -> usize {
        usize::from(self.host.is_none()) + usize::from(!self.path) + self.unmet.len()
    }
}

fn kind(place: &Place<'_>) -> std::mem::Discriminant<Kind> {
    std::mem::discriminant(&place.pattern.kind)
}

/// How many octets the path and the pattern have in common before they differ.
fn common(place: &Place<'_>, subject: &Subject<'_>) -> usize {
    subject.path.bytes().zip(place.pattern.text.bytes()).take_while(|(a, b)| a == b).count()
}
