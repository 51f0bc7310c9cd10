//! One worker: a thread with a runtime of its own that serves its share of every listener.

use std::{
    io,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    task::spawn_local,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{calls, ticks};
use crate::{
    exchange::Via,
    listener::{self, Share},
    monitor::health::Health,
    proxy::{Logs, Proxy},
    snapshot::{Reader, Snapshot},
    worker::WorkerId,
};

/// How often idle connections and instances are looked through, and free memory is given back to the system.
const SWEEP: Duration = Duration::from_secs(5);
/// Which worker does what is done once in the gateway.
const FIRST: WorkerId = WorkerId(0);

/// Which generation is live, and that it changes.
#[derive(Debug)]
pub(super) struct Generations {
    pub(super) live: Arc<ArcSwap<Snapshot>>,
    pub(super) changed: watch::Receiver<()>,
}

/// The end of a worker.
#[derive(Debug)]
pub(super) struct Shutdown {
    pub(super) stop: CancellationToken,
    /// Time for exchanges in flight.
    pub(super) grace: Duration,
}

#[derive(Debug)]
pub(super) struct Worker {
    cut: oneshot::Receiver<usize>,
}

impl Worker {
    /// Runs until `shutdown.stop`, then drains for at most `shutdown.grace`.
    pub(super) fn start(
        id: WorkerId,
        generations: Generations,
        shares: UnboundedReceiver<Share>,
        via: Via,
        shutdown: Shutdown,
        health: Arc<Health>,
        release: fn(),
    ) -> io::Result<Self> {
        let (began, beginning) = mpsc::channel();
        let (tell, cut) = oneshot::channel();
        thread::Builder::new().name(format!("stile-worker-{}", id.0)).spawn(move || {
            // Its tasks need no `LocalSet`, whose queue would be one more step on the way of every wake-up.
            let built = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let (runtime, result) = match built {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Who starts a worker waits for this.
            let _ = began.send(result);
            let Some(runtime) = runtime else { return };
            runtime.spawn_local({
                let health = Arc::clone(&health);
                async move { health.attend(id).await }
            });
            let left = runtime.block_on(serve(id, generations, shares, via, shutdown, release));
            health.ended(id);
            // Nobody listens if the gateway was dropped rather than stopped.
            let _ = tell.send(left);
        })?;
        beginning.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))?;
        Ok(Self { cut })
    }

    /// Waits for the end; the number is that of the connections that were cut off.
    pub(super) async fn ended(self) -> usize {
        self.cut.await.unwrap_or(0)
    }
}

async fn serve(
    id: WorkerId,
    Generations { live, mut changed }: Generations,
    mut shares: UnboundedReceiver<Share>,
    via: Via,
    Shutdown { stop, grace }: Shutdown,
    release: fn(),
) -> usize {
    let (outbound, calls) = calls::channel();
    let (logs, teller) = Logs::new();
    let proxy = Rc::new(Proxy::new(id, Reader::new(live, Some(Arc::new(outbound))), logs.clone(), via));
    let tasks = TaskTracker::new();
    spawn_local(calls.serve(id, Rc::clone(&proxy)));
    spawn_local(teller.serve(id));
    if id == FIRST {
        spawn_local(ticks::serve(id, Rc::clone(&proxy), changed.clone()));
    }
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(share) = shares.recv() => {
                tasks.spawn_local(listener::accept(share, Rc::clone(&proxy), tasks.clone()));
            }
            // An idle worker, too, lets go of the generation before.
            Ok(()) = changed.changed() => {
                proxy.snapshot();
            }
            _ = sweep.tick() => {
                proxy.snapshot().sweep(id);
                // A thread that has no more work would keep what its last exchanges have freed.
                release();
            }
            () = stop.cancelled() => break,
        }
    }
    tasks.close();
    let ended = async {
        tasks.wait().await;
        logs.finished().await;
    };
    match timeout(grace, ended).await {
        Ok(()) => 0,
        Err(_) => tasks.len(),
    }
}
