//! One worker of a gateway with its client and its service, all on one thread: nothing that happens on a request waits
//! for another thread, so that a request takes the same instructions every time.

mod gateway;
mod wire;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

pub use gateway::{Filtered, Workload, client, via};
use wire::End;

/// What each bench does so many times; `run` divides by it.
pub const REPEATS: usize = 100;
/// By then connections are open, instances made and buffers grown.
const WARM_UP: usize = 20;

/// A client's open connection, and all that is behind it.
#[derive(Debug)]
pub struct Circuit {
    runtime: LocalRuntime,
    client: End,
}

impl Circuit {
    pub fn open(workload: Workload) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let service = wire::serve().await;
            let address = match workload {
                Workload::Alone => service,
                through => gateway::open(through, service).await,
            };
            End::connect(address).await
        });
        let mut circuit = Self { runtime, client };
        circuit.requests(WARM_UP);
        circuit
    }

    /// Asks one request after the other, each once the one before is answered.
    pub fn requests(&mut self, count: usize) {
        let Self { runtime, client } = self;
        runtime.block_on(async {
            for _ in 0..count {
                client.ask().await;
            }
        });
    }
}

/// A worker's runtime.
fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime")
}
