//! One pick by policy and number of endpoints, all usable; and with one endpoint in ten usable.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stile_gateway::balance::{Balancer, Cursor, Policy};

fn pick(c: &mut Criterion) {
    for (name, one_in) in [("all usable", 1), ("one in ten usable", 10)] {
        let mut group = c.benchmark_group(name);
        for policy in [Policy::RoundRobin, Policy::Random, Policy::Weighted] {
            for count in [3_u16, 10, 1_000] {
                let weights: Vec<_> = (1..=count).collect();
                let balancer = Balancer::new(policy, &weights);
                let mut cursor = Cursor::new(1);
                group.bench_function(BenchmarkId::new(format!("{policy:?}"), count), |b| {
                    b.iter(|| balancer.pick(&mut cursor, |index| black_box(index) % one_in == 0));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
