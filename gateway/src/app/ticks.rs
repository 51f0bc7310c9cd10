//! Plugins that do something from time to time: their time comes on one worker of the gateway.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_local,
    time::{Instant, sleep_until},
};

use crate::{
    filter::Filter,
    plugin::Caller,
    proxy::Proxy,
    snapshot::{Snapshot, Ticking},
    worker::WorkerId,
};

/// When to look again if nothing is due.
const REST: Duration = Duration::from_secs(3600);

struct Clock {
    filter: Arc<Filter>,
    every: Duration,
    next: Instant,
    /// The last call has not ended: the next has to wait for its turn.
    busy: Rc<Cell<bool>>,
}

/// Runs as long as the worker.
pub(super) async fn serve(worker: WorkerId, proxy: Rc<Proxy>, mut changed: watch::Receiver<()>) {
    let mut clocks = Vec::new();
    loop {
        clocks = of(&proxy.snapshot(), clocks);
        let now = Instant::now();
        for clock in clocks.iter_mut().filter(|clock| clock.next <= now) {
            clock.next = now + clock.every;
            if !clock.busy.replace(true) {
                let (filter, busy, proxy) = (Arc::clone(&clock.filter), Rc::clone(&clock.busy), Rc::clone(&proxy));
                spawn_local(async move {
                    let snapshot = proxy.snapshot();
                    filter.tick(Caller { worker, handles: snapshot.handles() }).await;
                    busy.set(false);
                });
            }
        }
        let next = clocks.iter().map(|clock| clock.next).min().unwrap_or(now + REST);
        tokio::select! {
            () = sleep_until(next) => {}
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

/// Those of a generation. What was there before goes on as it was; what is new is due at once.
fn of(snapshot: &Snapshot, before: Vec<Clock>) -> Vec<Clock> {
    let now = Instant::now();
    let clock = |ticking: &Ticking| {
        let same = before.iter().find(|clock| clock.filter.is_same(&ticking.filter));
        let (next, busy) = same.map_or_else(|| (now, Rc::default()), |clock| (clock.next, Rc::clone(&clock.busy)));
        // A plugin may be given no time at all to rest, but not to keep a worker from all else.
        let every = ticking.every.max(Duration::from_millis(1));
        Clock { filter: Arc::clone(&ticking.filter), every, next: next.min(now + every), busy }
    };
    snapshot.ticks.iter().map(clock).collect()
}
