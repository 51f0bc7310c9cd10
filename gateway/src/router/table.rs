//! The paths of one host. A rank is a rule's place in the order of all rules, so that of two patterns of one sort that
//! match the smaller goes first. Knows nothing of the rules themselves.

use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::path::{Kind, OPEN_END, PART, Pattern};
use crate::exchange::path::segment_name;

#[derive(Debug, Default)]
pub(super) struct Table {
    exact: FxHashMap<String, Vec<usize>>,
    /// Exact paths that have parameters.
    exact_with_parameters: Vec<(usize, String)>,
    tree: Node,
    regexes: Vec<(usize, Regex)>,
    every: Vec<usize>,
}

/// What follows one segment. All ranks ascend.
#[derive(Debug, Default)]
struct Node {
    literals: FxHashMap<String, Self>,
    part: Option<Box<Self>>,
    /// Patterns that end here.
    closed: Vec<usize>,
    /// Patterns with an open end below.
    open: Vec<usize>,
}

impl Table {
    /// Ranks must come in ascending order.
    pub(super) fn insert(&mut self, rank: usize, pattern: &Pattern) {
        match &pattern.kind {
            Kind::Exact => {
                self.exact.entry(pattern.text.clone()).or_default().push(rank);
                if pattern.text.contains(';') {
                    self.exact_with_parameters.push((rank, pattern.text.clone()));
                }
            }
            Kind::Segments => self.tree.insert(rank, pattern),
            Kind::Regex(regex) => self.regexes.push((rank, regex.clone())),
            Kind::Every => self.every.push(rank),
        }
    }

    /// The admitted rank that goes first: of an exact path, then of templates and open ends, then of regexes, then of
    /// no path.
    pub(super) fn find(&self, path: &str, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let exact = self.exact.get(path).and_then(|ranks| ranks.iter().copied().find(|rank| admits(*rank)));
        if exact.is_some() {
            return exact;
        }
        if path.as_bytes().contains(&b';') {
            return self.find_with_parameters(path, &admits);
        }
        let regex =
            |(rank, regex): &(usize, Regex)| (admits(*rank) && regex.is_match(path.as_bytes())).then_some(*rank);
        self.tree
            .find::<false>(path.strip_prefix('/'), None, &admits)
            .or_else(|| self.regexes.iter().find_map(regex))
            .or_else(|| self.every.iter().copied().find(|rank| admits(*rank)))
    }

    /// Literal segments and regexes match a path whose parameters are taken off, unless they have a `;` themselves: servers
    /// that strip parameters would otherwise serve a path that another route protects.
    fn find_with_parameters(&self, path: &str, admits: &impl Fn(usize) -> bool) -> Option<usize> {
        let names = path.split('/').map(segment_name).collect::<Vec<_>>().join("/");
        let mut with_parameters = self.exact_with_parameters.iter().filter(|(_, pattern)| agree(pattern, path));
        let by_name = || self.exact.get(&names)?.iter().copied().find(|rank| admits(*rank));
        let regex = |(rank, regex): &(usize, Regex)| {
            let path = if regex.as_str().contains(';') { path } else { &names };
            (admits(*rank) && regex.is_match(path.as_bytes())).then_some(*rank)
        };
        with_parameters
            .find_map(|(rank, _)| admits(*rank).then_some(*rank))
            .or_else(by_name)
            .or_else(|| self.tree.find::<true>(path.strip_prefix('/'), None, admits))
            .or_else(|| self.regexes.iter().find_map(regex))
            .or_else(|| self.every.iter().copied().find(|rank| admits(*rank)))
    }
}

/// Says whether a path matches an exact pattern segment by segment, each with its parameters or without.
fn agree(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || wanted == segment_name(given) => {}
            _ => return false,
        }
    }
}

impl Node {
    fn insert(&mut self, rank: usize, pattern: &Pattern) {
        let mut node = self;
        for segment in pattern.segments() {
            node = match segment {
                OPEN_END => return node.open.push(rank),
                PART => node.part.get_or_insert_default(),
                literal => node.literals.entry(literal.to_owned()).or_default(),
            };
        }
        node.closed.push(rank);
    }

    /// The smallest admitted rank below `best`, or `best`. `rest` is what follows a slash, if one follows. With `PARAMETERS`
    /// a segment is looked up without its parameters as well.
    fn find<const PARAMETERS: bool>(
        &self,
        rest: Option<&str>,
        best: Option<usize>,
        admits: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let improve = |best: Option<usize>, ranks: &[usize]| {
            let mut better = ranks.iter().copied().take_while(|rank| best.is_none_or(|best| *rank < best));
            better.find(|rank| admits(*rank)).or(best)
        };
        let Some(rest) = rest else {
            return improve(improve(best, &self.closed), &self.open);
        };
        if self.literals.is_empty() && self.part.is_none() {
            return improve(best, &self.open);
        }
        let (segment, rest) = match rest.bytes().position(|byte| byte == b'/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        let literal = self.literals.get(segment);
        let name = Some(segment).filter(|segment| PARAMETERS && segment.contains(';')).map(segment_name);
        let named = name.and_then(|name| self.literals.get(name));
        let part = self.part.as_deref().filter(|_| !segment.is_empty());
        let nodes = [literal, named, part].into_iter().flatten();
        let best = nodes.fold(best, |best, node| node.find::<PARAMETERS>(rest, best, admits));
        improve(best, &self.open)
    }
}
