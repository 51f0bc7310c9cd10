//! What the registry costs with a hundred thousand endpoints in a thousand services, on a store on disk: a heartbeat, a look for an
//! endpoint, and an endpoint that comes and goes. By HTTP, in memory and at a start: `tests/extended endpoints::`.

use criterion::{Criterion, SamplingMode};
use stile_gateway::{app, registry::Wanted};
use stile_tests::{
    gateway,
    population::{ENDPOINTS, announcement, config, fill, id, service},
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = gateway::write(folder.path(), config());
    let gateway = runtime.block_on(app::Gateway::start(gateway::engine_for, &file)).expect("it starts");
    let registry = gateway.control().registry();
    runtime.block_on(fill(registry));

    let mut group = criterion.benchmark_group("registry");
    // In an order in which no two that follow each other are neighbours.
    let mut next = 0;
    let mut another = move || {
        next = (next + 7919) % ENDPOINTS;
        next
    };
    let names: Vec<_> = (0..ENDPOINTS).map(|n| (service(n), id(n))).collect();
    group.bench_function("heartbeat", |bencher| {
        bencher.iter(|| {
            let (service, id) = &names[another()];
            registry.heartbeat(service, id).expect("it is registered");
        });
    });
    let any = Wanted::default();
    group.bench_function("discover", |bencher| {
        bencher.iter(|| registry.discover(&names[another()].0, &any).expect("there is one"));
    });
    // Each waits for the disk.
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    let one = announcement(ENDPOINTS);
    group.bench_function("register and deregister", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                registry.register("few-00", "one", &one).await.expect("it is right");
                registry.deregister("few-00", "one").await.expect("it is there");
            });
        });
    });
    group.finish();
    criterion.final_summary();
    runtime.block_on(gateway.stop());
}
