//! The paths of one host. A rank is a rule's place in the order of all rules, so that of two patterns of one sort that
//! match the smaller goes first. Knows nothing of the rules themselves.

use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::path::{Kind, OPEN_END, PART, Pattern};

#[derive(Debug, Default)]
pub(super) struct Table {
    exact: FxHashMap<String, Vec<usize>>,
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
            Kind::Exact => self.exact.entry(pattern.text.clone()).or_default().push(rank),
            Kind::Segments => self.tree.insert(rank, pattern),
            Kind::Regex(regex) => self.regexes.push((rank, regex.clone())),
            Kind::Every => self.every.push(rank),
        }
    }

    /// The admitted rank that goes first: of an exact path, then of templates and open ends, then of regexes, then of
    /// no path.
    pub(super) fn find(&self, path: &str, admits: impl Fn(usize) -> bool) -> Option<usize> {
        let exact = || self.exact.get(path)?.iter().copied().find(|rank| admits(*rank));
        let regex =
            |(rank, regex): &(usize, Regex)| (admits(*rank) && regex.is_match(path.as_bytes())).then_some(*rank);
        exact()
            .or_else(|| self.tree.find(path.strip_prefix('/'), None, &admits))
            .or_else(|| self.regexes.iter().find_map(regex))
            .or_else(|| self.every.iter().copied().find(|rank| admits(*rank)))
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

    /// The smallest admitted rank below `best`, or `best`. `rest` is what follows a slash, if one follows.
    fn find(&self, rest: Option<&str>, best: Option<usize>, admits: &impl Fn(usize) -> bool) -> Option<usize> {
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
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        let literal = self.literals.get(segment);
        let part = self.part.as_deref().filter(|_| !segment.is_empty());
        let best = [literal, part].into_iter().flatten().fold(best, |best, node| node.find(rest, best, admits));
        improve(best, &self.open)
    }
}
