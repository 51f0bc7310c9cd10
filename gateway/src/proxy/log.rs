//! Exchanges that have ended, told to the filters that want to know: once each, after the end, by tasks of the worker.

use std::sync::Arc;

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};
use tokio_util::task::TaskTracker;

use crate::{
    exchange::Exchange,
    filter::{Chain, Filter},
    plugin::{Caller, Handles, Phase, Summary},
    worker::WorkerId,
};

/// Ended exchanges that may wait to be told of at one worker; of one more nobody is told, which is counted.
const WAITING: usize = 10_000;

/// Where ends are told.
#[derive(Debug, Clone)]
pub struct Logs(UnboundedSender<Message>);

/// What tells them on.
#[derive(Debug)]
pub struct Teller {
    messages: UnboundedReceiver<Message>,
    telling: TaskTracker,
}

#[derive(Debug)]
enum Message {
    Ended(Box<Ended>),
    /// To be answered once all before it are told.
    Finish(oneshot::Sender<()>),
}

/// Who is to be told of one exchange.
#[derive(Debug)]
pub(super) struct Listeners {
    /// With the slot of each.
    filters: Vec<(Arc<Filter>, usize)>,
    handles: Arc<Handles>,
    logs: Logs,
}

#[derive(Debug)]
struct Ended {
    listeners: Listeners,
    exchange: Exchange,
    summary: Summary,
}

impl Logs {
    pub fn new() -> (Self, Teller) {
        let (sender, messages) = unbounded_channel();
        (Self(sender), Teller { messages, telling: TaskTracker::new() })
    }

    /// Waits until all that has ended so far is told.
    pub async fn finished(&self) {
        let (answer, told) = oneshot::channel();
        if self.0.send(Message::Finish(answer)).is_ok() {
            let _ = told.await;
        }
    }

    /// Adds those of a chain whose filters find their slots from `first` on; what there is to be told is little.
    pub(super) fn join(
        &self,
        listeners: &mut Option<Box<Listeners>>,
        chain: &Chain,
        first: usize,
        handles: &Arc<Handles>,
    ) {
        let filters = (first..).zip(chain.filters()).filter(|(_, filter)| filter.has(Phase::Log));
        let filters = filters.map(|(slot, filter)| (Arc::clone(filter), slot));
        let none = || Box::new(Listeners { filters: Vec::new(), handles: Arc::clone(handles), logs: self.clone() });
        listeners.get_or_insert_with(none).filters.extend(filters);
    }
}

impl Listeners {
    pub(super) fn tell(self, exchange: Exchange, summary: Summary) {
        let logs = self.logs.clone();
        // Nobody is left to be told once the worker has ended.
        let _ = logs.0.send(Message::Ended(Box::new(Ended { listeners: self, exchange, summary })));
    }
}

impl Teller {
    /// Tells until nobody can have anything to tell.
    pub async fn serve(mut self, worker: WorkerId) {
        while let Some(message) = self.messages.recv().await {
            match message {
                Message::Ended(ended) if self.telling.len() < WAITING => {
                    drop(self.telling.spawn_local(ended.told(worker)))
                }
                Message::Ended(ended) => ended.untold(worker),
                Message::Finish(answer) => {
                    self.telling.close();
                    self.telling.wait().await;
                    self.telling.reopen();
                    let _ = answer.send(());
                }
            }
        }
    }
}

impl Ended {
    async fn told(self: Box<Self>, worker: WorkerId) {
        let Self { listeners: Listeners { filters, handles, .. }, mut exchange, summary } = *self;
        for (filter, slot) in filters {
            filter.log(Caller { worker, handles: &handles }, &mut exchange, slot, summary.clone()).await;
        }
    }

    fn untold(self: Box<Self>, worker: WorkerId) {
        for (filter, _) in &self.listeners.filters {
            filter.not_told(worker);
        }
    }
}
