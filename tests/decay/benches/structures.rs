//! The structures that each request goes through: router, path, headers, balancer.

#![expect(unused_qualifications, reason = "what the macros of gungraun write")]

use std::hint::black_box;

use gungraun::{Callgrind, prelude::*};
use http::{HeaderMap, HeaderValue, Method};
use stile_decay::{REPEATS, client, via};
use stile_gateway::{
    balance::{Balancer, Cursor, Policy},
    exchange::{
        RequestHead,
        headers::{Seen, remove_hop_by_hop, set_forwarded},
        path::normalize,
    },
    router::{Router, Rule, Subject},
};

const HOST: &str = "api.example.com";

/// The sorts of routes, each a third of a table.
#[derive(Clone, Copy)]
enum Sort {
    Literal,
    Prefix,
    Template,
}

/// Tables, and a path for each look-up in one of them.
type LookUps = (Vec<Router<usize>>, Vec<String>);

/// Look-ups of routes of one sort, in tables of so many routes. There are many small tables: each hashes in its own way,
/// and a collision that one of them happens to have would show.
fn look_ups((sort, count): (Sort, usize)) -> LookUps {
    let routes: Vec<_> = (0..count)
        .map(|index| match index % 3 {
            0 => (format!("route-{index}"), format!("/service-{index}/items/latest")),
            1 => (format!("route-{index}"), format!("/service-{index}/files/*")),
            _ => (format!("route-{index}"), format!("/service-{index}/users/{{id}}/orders")),
        })
        .collect();
    let below = match sort {
        Sort::Literal => "items/latest",
        Sort::Prefix => "files/2026/report.pdf",
        Sort::Template => "users/4711/orders",
    };
    let scattered = (0..REPEATS).map(|at| at.wrapping_mul(2_654_435_761) % (count / 3) * 3 + sort as usize);
    let tables = if count < REPEATS { REPEATS } else { 1 };
    let routers = (0..tables).map(|_| table(&routes)).collect();
    (routers, scattered.map(|index| format!("/service-{index}/{below}")).collect())
}

/// Compiles routes, each a name and a path.
fn table(routes: &[(String, String)]) -> Router<usize> {
    let hosts = [HOST.to_owned()];
    let rules = routes.iter().enumerate().map(|(index, (name, path))| {
        let rule = Rule { name, hosts: &hosts, path: Some(path), ..Rule::default() };
        (rule, index)
    });
    Router::compile(rules).expect("valid rules")
}

#[library_benchmark(setup = look_ups)]
#[bench::literal_10((Sort::Literal, 10))]
#[bench::literal_100000((Sort::Literal, 100_000))]
#[bench::prefix_10((Sort::Prefix, 10))]
#[bench::prefix_100000((Sort::Prefix, 100_000))]
#[bench::template_10((Sort::Template, 10))]
#[bench::template_100000((Sort::Template, 100_000))]
fn router((routers, paths): LookUps) -> LookUps {
    let headers = HeaderMap::new();
    for (router, path) in routers.iter().cycle().zip(&paths) {
        let path = black_box(path);
        let subject = Subject { host: HOST, path, method: &Method::GET, query: None, headers: &headers };
        assert!(black_box(router.find(&subject)).is_some());
    }
    (routers, paths)
}

#[library_benchmark]
#[bench::plain("/service-17/users/4711/orders")]
#[bench::escaped("/service-17/a%20b/orders")]
#[bench::rewritten("/service-17//users/./%34711/orders")]
fn path(path: &str) {
    for _ in 0..REPEATS {
        assert!(black_box(normalize(black_box(path))).is_ok());
    }
}

fn balancer(policy: Policy) -> (Balancer, Cursor) {
    (Balancer::new(policy, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), Cursor::new(1))
}

#[library_benchmark(setup = balancer)]
#[bench::round_robin(Policy::RoundRobin)]
#[bench::random(Policy::Random)]
#[bench::weighted(Policy::Weighted)]
fn balance((balancer, mut cursor): (Balancer, Cursor)) -> Balancer {
    for _ in 0..REPEATS {
        assert!(black_box(balancer.pick(&mut cursor, |index| black_box(index) < 10)).is_some());
    }
    balancer
}

/// Heads as they come from a client.
fn heads() -> Vec<RequestHead> {
    let mut head = RequestHead { authority: Some(HOST.parse().expect("a host")), ..RequestHead::default() };
    for (name, value) in [
        ("host", HOST),
        ("user-agent", "decay/1.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer 0123456789abcdef"),
        ("connection", "keep-alive"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    vec![head; REPEATS]
}

#[library_benchmark]
#[bench::forwarded(heads())]
fn headers(mut heads: Vec<RequestHead>) -> Vec<RequestHead> {
    let (client, via) = (client(), via());
    for head in &mut heads {
        remove_hop_by_hop(&mut head.headers);
        set_forwarded(head, &client, Seen::of(&head.headers), via.entry(head.version).clone());
    }
    black_box(heads)
}

library_benchmark_group!(name = structures, benchmarks = [router, path, balance, headers]);
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = structures
);
