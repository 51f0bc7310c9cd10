//! Requests end to end over loopback sockets: what is between client and service, and what both cost alone.

#![expect(unused_qualifications, reason = "what the macros of gungraun write")]

use std::hint::black_box;

use gungraun::{Callgrind, prelude::*};
use stile_decay::{Circuit, Filtered, REPEATS, Workload};

#[library_benchmark]
#[bench::alone(args = (Workload::Alone), setup = Circuit::open)]
#[bench::plain(args = (Workload::Plain), setup = Circuit::open)]
#[bench::uncounted(args = (Workload::Uncounted), setup = Circuit::open)]
#[bench::access_log(args = (Workload::AccessLog), setup = Circuit::open)]
#[bench::header_filter(args = (Workload::HeaderFilter), setup = Circuit::open)]
fn request(mut circuit: Circuit) -> Circuit {
    circuit.requests(REPEATS);
    black_box(circuit)
}

#[library_benchmark]
#[bench::request_phase(Filtered::ready())]
fn filter(mut filtered: Filtered) -> Filtered {
    filtered.calls(REPEATS);
    black_box(filtered)
}

library_benchmark_group!(name = path, benchmarks = [request, filter]);
main!(
    config = LibraryBenchmarkConfig::default()
        .pass_through_env("STILE_DECAY_PLUGIN")
        .tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = path
);
