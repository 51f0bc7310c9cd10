//! What plugins cost. At the end stands a table: calls as multiples of an empty call on a fiber, the least that wasmtime can do,
//! measured in the same run; the rest in time, which means something on a quiet machine only.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{fs, hint::black_box, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, SamplingMode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stile_gateway::exchange::Body;
use stile_tests::{
    called::{Called, exchange, pieces},
    gateway::{Gateway, filtered},
    guest,
};
use tokio::{runtime::Runtime, time::Instant};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    component::{Component, Linker, Resource},
};
use wit_component::ComponentEncoder;

mod bare;

/// Exchanges that are made at once, before the time is taken.
const BATCH: u64 = 64;
/// Pieces of one body, so that what a body costs beside them is little.
const PIECES: usize = 1000;
/// Bytes of a piece. Copying takes long enough to drown the rest where libc does it by `rep movsb`, which is slow at the guest's
/// addresses on some processors.
const LENGTHS: [(&str, usize); 3] = [("1 B", 1), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10)];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A component with one function that does nothing.
const EMPTY: &str = r#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func (export "f") (canon lift (core func $i "f"))))"#;

fn main() {
    let folder = guest::workspace().join("target/criterion");
    let mut criterion = Criterion::default().output_directory(&folder).configure_from_args();
    // The table is of one run.
    let _ = fs::remove_dir_all(folder.join("plugin"));
    let runtime = Runtime::new().expect("a runtime");
    // Gateways end on it.
    let _entered = runtime.enter();
    empty_call(&mut criterion, &runtime);
    bare_filter(&mut criterion, &runtime);
    filters(&mut criterion, &runtime);
    bodies(&mut criterion, &runtime);
    lives(&mut criterion, &runtime);
    criterion.final_summary();
    table(&Seen(folder.join("plugin")));
}

/// An engine with the gateway's settings.
fn engine() -> Engine {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1).total_core_instances(4).total_stacks(1);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .concurrency_support(false);
    Engine::new(&config).expect("an engine")
}

/// On a store of its own.
fn empty_call(criterion: &mut Criterion, runtime: &Runtime) {
    let engine = engine();
    let component = Component::new(&engine, wat::parse_str(EMPTY).expect("a component")).expect("a component");
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1);
    let linker = Linker::new(&engine);
    let instance = runtime.block_on(linker.instantiate_async(&mut store, &component)).expect("an instance");
    let empty = instance.get_typed_func::<(), ()>(&mut store, "f").expect("its function");
    criterion.benchmark_group("plugin").bench_function("empty call", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..count {
                    empty.call_async(&mut store, ()).await.expect("it does nothing");
                }
                start.elapsed()
            })
        });
    });
}

/// The calls of the header filter, from and to the same module, on wasmtime alone: no pool, no limits, no exchange, and host
/// functions that do nothing but look a field up and set one.
fn bare_filter(criterion: &mut Criterion, runtime: &Runtime) {
    let engine = engine();
    let encoder = ComponentEncoder::default().module(&guest::module("header")).expect("it has types");
    let bytes = encoder.validate(true).encode().expect("a component");
    let component = Component::new(&engine, bytes).expect("a component");
    let mut store = Store::new(&engine, bare::head());
    store.set_epoch_deadline(1);
    let linker = bare::linker(&engine, &component).expect("what it imports");
    let instance = runtime.block_on(linker.instantiate_async(&mut store, &component)).expect("an instance");
    let export = |store: &mut Store<_>, interface: &str, name: &str| {
        let interface = format!("stile:plugin/{interface}@0.1.0");
        let interface = instance.get_export_index(&mut *store, None, &interface).expect("an interface");
        instance.get_export_index(&mut *store, Some(&interface), name).expect("a function")
    };
    let configure = export(&mut store, "configuration", "configure");
    let configure = instance.get_typed_func::<(&str,), (Result<(), String>,)>(&mut store, configure).expect("its type");
    let config = json!({ "read": "accept", "set": "x-seen" }).to_string();
    let (configured,) = runtime.block_on(configure.call_async(&mut store, (&config,))).expect("it does not trap");
    configured.expect("it takes it");
    let on_request = export(&mut store, "request-filter", "on-request");
    let on_request = instance.get_typed_func::<_, (Result<bare::Verdict, String>,)>(&mut store, on_request);
    let on_request = on_request.expect("its type");
    criterion.benchmark_group("plugin").bench_function("bare header filter", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..count {
                    store.data_mut().remove("x-seen");
                    let called = on_request.call_async(&mut store, (Resource::<bare::Request>::new_borrow(0),)).await;
                    let (verdict,) = called.expect("it does not trap");
                    assert!(matches!(verdict, Ok(bare::Verdict::Proceed)));
                }
                start.elapsed()
            })
        });
    });
    assert_eq!(store.data()["x-seen"], "yes");
}

/// The request phase of a route's one filter: an instance is taken, called and put back, or made and ended.
fn filters(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("plugin");
    let config = json!({ "read": "accept", "set": "x-seen" });
    for (name, isolation, config) in [
        ("empty filter", "pooled", &json!({})),
        ("header filter", "pooled", &config),
        ("fresh instance", "request", &config),
    ] {
        let plugin = guest::plugin_with("header", json!({ "isolation": isolation }));
        let filter = json!({ "plugin": "header", "config": config });
        let route = runtime.block_on(Called::start(plugin, filter, None));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let (mut left, mut spent) = (count, Duration::ZERO);
                    while left > 0 {
                        let mut exchanges: Vec<_> = (0..left.min(BATCH)).map(|_| exchange(&[])).collect();
                        left -= exchanges.len() as u64;
                        let start = Instant::now();
                        for exchange in &mut exchanges {
                            assert!(route.request(exchange, &mut Body::Empty).await.is_none());
                        }
                        spent += start.elapsed();
                    }
                    spent
                })
            });
        });
    }
}

/// A body that passes unchanged, in pieces; and what copying a large piece into a guest and out of it takes.
fn bodies(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("plugin");
    let filter = json!({ "plugin": "streams", "config": { "request": "copy" } });
    let route = runtime.block_on(Called::start(guest::plugin("streams"), filter, None));
    for (name, length) in LENGTHS {
        let piece = Bytes::from(vec![b'x'; length]);
        group.bench_function(format!("pieces of {name}"), |bencher| {
            bencher.iter_custom(|count| {
                let mut exchange = exchange(&[]);
                runtime.block_on(async {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        let mut body = pieces(vec![piece.clone(); PIECES]);
                        let start = Instant::now();
                        assert!(route.request(&mut exchange, &mut body).await.is_none());
                        let mut passed = 0;
                        while let Some(frame) = body.frame().await {
                            passed += frame.expect("it passes").data_ref().map_or(0, Bytes::len);
                        }
                        spent += start.elapsed();
                        assert_eq!(passed, PIECES * length);
                    }
                    spent
                })
            });
        });
        // Its allocator gives a guest addresses that are multiples of 8, which copying is slower to and from than of pages.
        let (from, mut memory) = (vec![b'x'; length], vec![0; length + 8]);
        let guest = &mut memory[8..];
        group.bench_function(format!("copies of {name}"), |bencher| {
            bencher.iter(|| {
                black_box(&mut *guest).copy_from_slice(black_box(&from));
                // Out of the guest it goes into memory of its own.
                black_box(Bytes::copy_from_slice(black_box(guest)))
            });
        });
    }
}

/// From a push over the Admin API to the answer that the revision is live, with a store on disk; compiled first, then with what
/// was compiled before.
fn lives(criterion: &mut Criterion, runtime: &Runtime) {
    let store = tempfile::tempdir().expect("a temporary folder");
    let mut config = filtered(
        nowhere(),
        json!([{ "name": "stamp", "rollout": { "keep": 1000 } }]),
        json!([{ "plugin": "stamp", "config": { "mark": "m" } }]),
    );
    config["store"] = json!({ "path": store.path() });
    let gateway = runtime.block_on(Gateway::start(config));
    let admin = gateway.admin();
    let mut group = criterion.benchmark_group("plugin");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut last = 0;
    group.bench_function("live after push", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    last += 1;
                    let module = guest::stamp(last);
                    let start = Instant::now();
                    let pushed = admin.push("stamp", module).await;
                    spent += start.elapsed();
                    assert_eq!(pushed.status, 201, "{}", pushed.text());
                }
                spent
            })
        });
    });
    // One that runs is in memory, so it is another each time.
    let mut revisions = (1..=3).cycle();
    group.bench_function("live from the cache", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let revision = revisions.next();
                    let start = Instant::now();
                    let rolled = admin.send("POST", "/v1/plugins/stamp/rollout", json!({ "revision": revision })).await;
                    spent += start.elapsed();
                    assert_eq!(rolled.status, 200, "{}", rolled.text());
                }
                spent
            })
        });
    });
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// What criterion has written.
struct Seen(PathBuf);

impl Seen {
    /// The mean of the last run, in nanoseconds; none if it did not run.
    fn mean(&self, name: &str) -> Option<f64> {
        let estimates = fs::read(self.0.join(name.replace(' ', "_")).join("new/estimates.json"));
        let estimates = estimates.or_else(|_| fs::read(self.0.join(name).join("new/estimates.json"))).ok()?;
        serde_json::from_slice::<Value>(&estimates).ok()?["mean"]["point_estimate"].as_f64()
    }
}

fn table(seen: &Seen) {
    let Some(empty) = seen.mean("empty call") else { return };
    let pieces = PIECES as f64;
    let of = |name: &str, part: f64| seen.mean(name).map(|mean| mean / part);
    let times = |name: &str, mean: Option<f64>, most: String| {
        if let Some(mean) = mean {
            println!("{name:<40} {:>8.2} × an empty call{most}", mean / empty);
        }
    };
    let most = |most: u32| format!("   at most {most}");
    println!("{:<40} {empty:>8.0} ns", "an empty call on a fiber");
    times("a filter that does nothing", of("empty filter", 1.0), String::new());
    times("bare header filter", of("bare header filter", 1.0), String::new());
    if let Some((filter, bare)) = of("header filter", 1.0).zip(of("bare header filter", 1.0)) {
        println!("{:<40} {:>8.2} × the same on bare wasmtime   at most 1.5", "header filter", filter / bare);
    }
    for (name, _) in LENGTHS {
        let piece = of(&format!("pieces of {name}"), pieces).zip(of(&format!("copies of {name}"), 1.0));
        let passed = piece.map(|(piece, copies)| piece - copies);
        times(&format!("a piece of {name}, without its copies"), passed, most(4));
    }
    for (name, most, unit, ns) in [
        ("fresh instance", 40.0, "µs", 1e3),
        ("live after push", 250.0, "ms", 1e6),
        ("live from the cache", 10.0, "ms", 1e6),
    ] {
        if let Some(mean) = of(name, ns) {
            println!("{name:<40} {mean:>8.2} {unit}              at most {most}");
        }
    }
}
