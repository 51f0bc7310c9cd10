//! The router against a matcher that is too simple to be wrong, on rules, requests and orders that chance draws.

use std::collections::HashSet;

use proptest::{prelude::*, sample::subsequence};

use super::*;
use crate::exchange::path::segment_name;

/// A request as the reference sees it.
#[derive(Debug, Clone)]
struct Request {
    host: String,
    path: String,
    method: &'static str,
    /// Names and values as they are meant, each with a way of writing them.
    query: Vec<(String, String, bool)>,
    headers: Vec<(String, String)>,
    /// By Cookie field.
    cookies: Vec<Vec<(String, String)>>,
}

impl Request {
    fn query(&self) -> Option<String> {
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let written = self.query.iter().map(|(name, value, escape)| match escape {
            true => format!("{}={}", escaped(name), escaped(value)),
            false => format!("{name}={value}").replace(' ', "+"),
        });
        (!self.query.is_empty()).then(|| written.collect::<Vec<_>>().join("&"))
    }

    fn fields(&self) -> HeaderMap {
        let cookie = |field: &Vec<(String, String)>| {
            let pairs = field.iter().map(|(name, value)| format!("{name}={value}"));
            ("cookie".to_owned(), pairs.collect::<Vec<_>>().join("; "))
        };
        let lines: Vec<_> = self.headers.iter().cloned().chain(self.cookies.iter().map(cookie)).collect();
        fields(&lines.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>())
    }
}

/// The rules of matching as the user guide puts them, rule by rule and segment by segment.
fn reference<'a>(rules: &'a [Owned], request: &Request) -> Option<&'a str> {
    let matches = rules.iter().filter_map(|rule| {
        let host = host_rank(&rule.hosts, &request.host)?;
        let path = match &rule.path {
            Some(path) => path_rank(path, rule.priority, &request.path)?,
            None => (3, 0, false, vec![], 0),
        };
        let mut wanted = Vec::new();
        if !rule.methods.is_empty() {
            wanted.push(rule.methods.iter().any(|method| method == request.method));
        }
        for (name, text) in &rule.headers {
            wanted.push(request.headers.iter().any(|(given, value)| given == name && admits(text, value)));
        }
        for (name, text) in &rule.query {
            wanted.push(request.query.iter().any(|(given, value, _)| given == name && admits(text, value)));
        }
        for (name, text) in &rule.cookies {
            let mut given = request.cookies.iter().flatten();
            wanted.push(given.any(|(given, value)| given == name && admits(text, value)));
        }
        let more = 1000 - wanted.len();
        wanted.iter().all(|met| *met).then_some((host, path, more, &*rule.name))
    });
    matches.min().map(|(.., name)| name)
}

/// Knows of regexes only what the rules below use of them.
fn admits(text: &str, value: &str) -> bool {
    match text.strip_prefix('~').map(|source| (source, source.strip_prefix('^'), source.strip_suffix('$'))) {
        None => text == value,
        Some((_, Some(start), _)) => value.starts_with(start),
        Some((_, _, Some(end))) => value.ends_with(end),
        Some((part, ..)) => value.contains(part),
    }
}

fn host_rank(patterns: &[String], host: &str) -> Option<usize> {
    let rank = |pattern: &String| match pattern.strip_prefix('*') {
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then(|| 1000 - suffix.len()),
        None => (pattern == host).then_some(0),
    };
    if patterns.is_empty() { Some(1000) } else { patterns.iter().filter_map(rank).min() }
}

type PathRank = (u8, usize, bool, Vec<bool>, i32);

fn path_rank(pattern: &str, priority: i32, path: &str) -> Option<PathRank> {
    if pattern.starts_with('~') {
        let names: Vec<_> = path.split('/').map(segment_name).collect();
        return admits(pattern, &names.join("/")).then(|| (2, 0, false, vec![], -priority));
    }
    let closed = pattern.strip_suffix("/*");
    let is_part = |segment: &&str| segment.starts_with('{');
    let wanted: Vec<_> = closed.unwrap_or(pattern).split('/').collect();
    let given: Vec<_> = path.split('/').collect();
    let long_enough = if closed.is_some() { given.len() >= wanted.len() } else { given.len() == wanted.len() };
    let agree = |(wanted, given): (&&str, &&str)| match is_part(wanted) {
        true => !given.is_empty(),
        false => wanted == given || *wanted == segment_name(given),
    };
    if !long_enough || !wanted.iter().zip(&given).all(agree) {
        return None;
    }
    let literal =
        wanted.iter().filter(|segment| !is_part(segment)).map(|segment| segment.len()).sum::<usize>() + wanted.len();
    let exact = closed.is_none() && !wanted.iter().any(is_part);
    let parts = wanted.iter().map(is_part).collect();
    // An exact path that is written with the parameters of the path goes before one without.
    let nearness = if pattern == path { 0 } else { 2 - usize::from(pattern.contains(';')) };
    Some(if exact { (0, nearness, false, vec![], 0) } else { (1, 1000 - literal, closed.is_some(), parts, 0) })
}

const HOSTS: [&str; 5] = ["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

fn some_of(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(texts, 0..=2).prop_map(|texts| texts.into_iter().map(str::to_owned).collect())
}

/// Few names and values, so that they meet.
fn texts(names: &'static str, most: usize) -> impl Strategy<Value = Texts> {
    prop::collection::btree_map(names, "[12]|[12]|a b|a b|~(1|\\^a|2\\$)", 0..=most)
}

fn any_request() -> impl Strategy<Value = Request> {
    let pair = |names: &'static str| (names, "1|2|12|a b");
    let query = prop::collection::vec(("[xy]", "1|2|12|a b", any::<bool>()), 0..4);
    let headers = prop::collection::vec(pair("x-[xy]"), 0..4);
    let cookies = prop::collection::vec(prop::collection::vec(pair("[xy]"), 1..3), 0..3);
    let path = "(/(a|bb|c)(;v)?){0,4}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path });
    let parts = ("(([abc]\\.){0,3}com)?", path, prop::sample::select(&METHODS), query, headers, cookies);
    parts.prop_map(|(host, path, method, query, headers, cookies)| Request {
        host,
        path,
        method,
        query,
        headers,
        cookies,
    })
}

fn any_rules() -> impl Strategy<Value = Vec<Owned>> {
    let path = prop::option::weighted(0.9, "(/(a|a;v|bb|\\{x\\}|\\{y\\})){1,4}(/|/\\*)?|/|/\\*|~(\\^/a|bb|/\\$)");
    let named = (texts("x-[xy]", 2), texts("[xy]", 1), texts("[xy]", 1));
    let rule = (some_of(&HOSTS), path, some_of(&METHODS), named, -1..2);
    let rule = rule.prop_map(|(hosts, path, methods, (headers, query, cookies), priority)| Owned {
        name: String::new(),
        hosts,
        path,
        methods,
        headers,
        query,
        cookies,
        priority,
    });
    prop::collection::vec(rule, 0..24).prop_map(|mut rules| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("{}", (index * 7) % 24);
        }
        // Leave out what has the same match as an earlier one.
        while let Err(errors) = compile(&rules) {
            let refused: HashSet<_> = errors.iter().map(|error| error.rule).collect();
            let mut index = 0..;
            rules.retain(|_| !index.next().is_some_and(|index| refused.contains(&index)));
        }
        rules
    })
}

proptest! {
    #[test]
    fn agrees_with_the_reference_in_any_order(
        (rules, shuffled) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        requests in prop::collection::vec(any_request(), 30),
    ) {
        let router = compile(&rules).expect("valid rules");
        let other = Explainer::compile(shuffled.iter().map(|rule| (rule.rule(), rule))).expect("valid rules");
        for request in &requests {
            let expected = reference(&rules, request);
            let (method, query, headers) = (request.method.parse().expect("method"), request.query(), request.fields());
            let subject = Subject {
                host: &request.host,
                path: &request.path,
                method: &method,
                query: query.as_deref(),
                headers: &headers,
            };
            prop_assert_eq!(router.find(&subject).copied(), expected, "{:?}", request);
            let explanation = other.explain(&subject);
            prop_assert_eq!(explanation.found.map(|rule| &*rule.name), expected, "{:?}", request);
            for Passed { target, reason } in explanation.passed {
                let matches = reference(std::slice::from_ref(*target), request).is_some();
                prop_assert_eq!(reason.starts_with("matches too, but "), matches, "{}: {} {:?}", target.name, reason, request);
            }
        }
    }
}
