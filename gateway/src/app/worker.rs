//! One worker: a thread with a runtime of its own that serves its share of every listener.

use std::{io, rc::Rc, thread, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    task::LocalSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    listener::{self, Share},
    proxy::Proxy,
    snapshot::Reader,
    worker::WorkerId,
};

/// How often idle connections and instances are looked through.
const SWEEP: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Worker {
    cut: oneshot::Receiver<usize>,
}

impl Worker {
    /// Runs until `stop`, then drains for at most `grace`.
    pub(super) fn start(
        id: WorkerId,
        reader: impl FnOnce() -> Reader + Send + 'static,
        shares: UnboundedReceiver<Share>,
        stop: CancellationToken,
        grace: Duration,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tell, cut) = oneshot::channel();
        thread::Builder::new().name(format!("stile-worker-{}", id.0)).spawn(move || {
            let tasks = LocalSet::new();
            let left = tasks.block_on(&runtime, serve(id, reader(), shares, stop, grace));
            // Nobody listens if the gateway was dropped rather than stopped.
            let _ = tell.send(left);
        })?;
        Ok(Self { cut })
    }

    /// Waits for the end; the number is that of the connections that were cut off.
    pub(super) async fn ended(self) -> usize {
        self.cut.await.unwrap_or(0)
    }
}

async fn serve(
    id: WorkerId,
    reader: Reader,
    mut shares: UnboundedReceiver<Share>,
    stop: CancellationToken,
    grace: Duration,
) -> usize {
    let proxy = Rc::new(Proxy::new(id, reader));
    let tasks = TaskTracker::new();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(share) = shares.recv() => {
                tasks.spawn_local(listener::accept(share, Rc::clone(&proxy), tasks.clone()));
            }
            _ = sweep.tick() => {
                proxy.snapshot().sweep(id);
            }
            () = stop.cancelled() => break,
        }
    }
    tasks.close();
    match timeout(grace, tasks.wait()).await {
        Ok(()) => 0,
        Err(_) => tasks.len(),
    }
}
