//! Look-up by number of routes: a third of them exact, a third with open ends, a third templates, all of one host.
//! Look-ups go round up to 4096 scattered routes of one sort; their paths are normal and not normalised again.
//!
//! Conditions: one path with five routes, of which all but the last have a condition, so that all are tried for `none`.
//! The request has twelve fields, two cookies among them, and a query of three parameters. Seen: four conditions that
//! fail (`none`) take twice as long again as finding a path that has but one route and no condition (`alone`).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, Method};
use stile_gateway::{
    exchange::path::normalize,
    router::{Router, Rule, Subject, Texts},
};

const HOST: &str = "api.example.com";
const SUBJECTS: usize = 4096;

fn router(count: usize) -> Router<usize> {
    let hosts = [HOST.to_owned()];
    let routes: Vec<_> = (0..count)
        .map(|index| match index % 3 {
            0 => (format!("route-{index}"), format!("/service-{index}/items/latest")),
            1 => (format!("route-{index}"), format!("/service-{index}/files/*")),
            _ => (format!("route-{index}"), format!("/service-{index}/users/{{id}}/orders")),
        })
        .collect();
    let rules = routes
        .iter()
        .enumerate()
        .map(|(index, (name, path))| (Rule { name, hosts: &hosts, path: Some(path), ..Rule::default() }, index));
    Router::compile(rules).expect("valid rules")
}

/// Paths of every route of one sort (`sort` modulo 3), scattered.
fn paths(count: usize, sort: usize, below: &str) -> Vec<String> {
    let scattered = (0..SUBJECTS).map(|at| at.wrapping_mul(2_654_435_761) % (count / 3) * 3 + sort);
    scattered.map(|index| format!("/service-{index}/{below}")).collect()
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("router");
    for count in [10, 1_000, 100_000] {
        let router = router(count);
        let shapes = [
            ("literal", 0, "items/latest", true),
            ("prefix", 1, "files/2026/report.pdf", true),
            ("template", 2, "users/4711/orders", true),
            ("miss", 2, "users/4711/invoices", false),
        ];
        for (shape, sort, below, hit) in shapes {
            let paths = paths(count, sort, below);
            let headers = HeaderMap::new();
            let subject = |path| Subject { host: HOST, path, method: &Method::GET, query: None, headers: &headers };
            assert!(paths.iter().all(|path| router.find(&subject(path)).is_some() == hit));
            let mut next = paths.iter().cycle();
            group.bench_function(BenchmarkId::new(shape, count), |b| {
                b.iter(|| next.next().map(|path| router.find(black_box(&subject(path)))));
            });
        }
    }
    group.finish();
}

fn conditions(c: &mut Criterion) {
    let one = |name: &str, text: &str| Texts::from([(name.to_owned(), text.to_owned())]);
    let (header, query, cookie, regex) =
        (one("x-env", "prod"), one("v", "2"), one("beta", "1"), one("accept", "~xml$"));
    let plain = Rule { path: Some("/users/7"), ..Rule::default() };
    let rules = [
        Rule { name: "header", headers: &header, ..plain },
        Rule { name: "query", query: &query, ..plain },
        Rule { name: "cookie", cookies: &cookie, ..plain },
        Rule { name: "regex", headers: &regex, ..plain },
        Rule { name: "none", ..plain },
    ];
    let router = Router::compile(rules.map(|rule| (rule, rule.name))).expect("valid rules");
    let alone = Router::compile([(plain, "alone")]).expect("a valid rule");
    let mut group = c.benchmark_group("conditions");
    for (name, field, value, query) in [
        ("header", "x-env", "prod", "page=3&sort=name&v=1"),
        ("query", "x-env", "test", "page=3&sort=name&v=2"),
        ("query", "x-env", "test", "page=3&sort=name&v=%32"),
        ("cookie", "cookie", "theme=dark; beta=1", "page=3&sort=name&v=1"),
        ("regex", "accept", "text/xml", "page=3&sort=name&v=1"),
        ("none", "x-env", "test", "page=3&sort=name&v=1"),
        ("alone", "x-env", "test", "page=3&sort=name&v=1"),
    ] {
        let mut headers: HeaderMap = (0..10)
            .map(|n| {
                (format!("x-field-{n}").parse::<HeaderName>().expect("a name"), "some value".parse().expect("a value"))
            })
            .collect();
        headers.append("cookie", "session=4f1c2a90b7; beta=0".parse().expect("a value"));
        headers.append(field, value.parse().expect("a value"));
        let subject =
            Subject { host: HOST, path: "/users/7", method: &Method::GET, query: Some(query), headers: &headers };
        let router = if name == "alone" { &alone } else { &router };
        assert_eq!(router.find(&subject), Some(&name));
        let id = if query.contains('%') { "query-escaped" } else { name };
        group.bench_function(id, |b| b.iter(|| router.find(black_box(&subject))));
    }
    group.finish();
}

fn normalise(c: &mut Criterion) {
    let mut group = c.benchmark_group("normalize");
    for (name, path) in [
        ("plain", "/service-17/users/4711/orders"),
        ("escaped", "/service-17/a%20b/orders"),
        ("rewritten", "/service-17//users/./%34711/orders"),
    ] {
        group.bench_function(name, |b| b.iter(|| normalize(black_box(path)).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, find, conditions, normalise);
criterion_main!(benches);
