//! The last changes, kept in memory for who watches. A watcher reads at its own pace and is held by nobody: one that is
//! too slow is told that it missed something.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Event, Revision, StoreError};

/// How much is kept: events, and bytes of their values.
const EVENTS: usize = 65_536;
const BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct History {
    kept: Mutex<Kept>,
    /// The last commit.
    last: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    bytes: usize,
    /// Commits up to this one are forgotten.
    forgotten: Revision,
}

/// What changes, from one commit on.
#[derive(Debug)]
pub struct Watch {
    history: Arc<History>,
    prefix: Box<str>,
    after: Revision,
    last: watch::Receiver<Revision>,
}

/// What came after what was told before.
#[derive(Debug)]
pub struct Progress {
    /// In their order; none if the commits were about other entries.
    pub events: Vec<Event>,
    pub revision: Revision,
}

impl History {
    /// Begins after this commit.
    pub(super) fn new(last: Revision) -> Self {
        Self { kept: Mutex::new(Kept { forgotten: last, ..Kept::default() }), last: watch::Sender::new(last) }
    }

    pub(super) fn last(&self) -> Revision {
        *self.last.borrow()
    }

    /// Adds commits up to `last`, in their order.
    pub(super) fn add(&self, events: Vec<Event>, last: Revision) {
        self.kept().add(events, EVENTS, BYTES);
        self.last.send_replace(last);
    }

    /// Makes `last` the last commit. Unless it was that already, what led to it is not known, and all is forgotten.
    pub(super) fn resume(&self, last: Revision) {
        if last == self.last() {
            return;
        }
        *self.kept() = Kept { forgotten: last, ..Kept::default() };
        self.last.send_replace(last);
    }

    pub(super) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Watch {
        Watch { history: Arc::clone(self), prefix: prefix.into(), after, last: self.last.subscribe() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, events: Vec<Event>, most: usize, bytes: usize) {
        for event in events {
            self.bytes += size(&event);
            self.events.push_back(event);
        }
        while self.events.len() > most || self.bytes > bytes {
            let Some(old) = self.events.pop_front() else { return };
            self.bytes -= size(&old);
            // Commits are forgotten whole.
            self.forgotten = old.revision;
        }
        while self.events.front().is_some_and(|event| event.revision <= self.forgotten) {
            self.bytes -= self.events.pop_front().map_or(0, |event| size(&event));
        }
    }
}

impl Watch {
    /// Waits for commits and gives what they changed, together with the number of the last of them.
    ///
    /// # Errors
    ///
    /// `Forgotten` if changes came faster than they were asked for: list the entries, and watch from there.
    pub async fn next(&mut self) -> Result<Progress, StoreError> {
        loop {
            let last = *self.last.borrow_and_update();
            let events = self.since(last)?;
            if last > self.after {
                self.after = last;
                return Ok(Progress { events, revision: last });
            }
            self.last.changed().await.map_err(|_| StoreError::Ended)?;
        }
    }

    /// Changes after the last that were told, up to the commit `last`.
    fn since(&self, last: Revision) -> Result<Vec<Event>, StoreError> {
        let kept = self.history.kept();
        if self.after < kept.forgotten {
            return Err(StoreError::Forgotten(self.after));
        }
        let from = kept.events.partition_point(|event| event.revision <= self.after);
        let news = kept.events.range(from..).take_while(|event| event.revision <= last);
        Ok(news.filter(|event| event.key.starts_with(&*self.prefix)).cloned().collect())
    }
}

fn size(event: &Event) -> usize {
    event.key.len() + event.value.as_ref().map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: Revision, key: &str) -> Event {
        Event { revision, key: key.into(), value: Some(Arc::from(&b"12345678"[..])), lease: None }
    }

    #[test]
    fn forgets_whole_commits_by_number_and_by_size() {
        let revisions = |kept: &Kept| kept.events.iter().map(|event| event.revision).collect::<Vec<_>>();
        let mut kept = Kept::default();
        kept.add(vec![event(1, "a"), event(1, "b"), event(2, "c"), event(3, "d")], 3, 1000);
        assert_eq!((revisions(&kept), kept.forgotten), (vec![2, 3], 1));
        kept.add(vec![event(4, "e")], 3, 2 * 9);
        assert_eq!((revisions(&kept), kept.forgotten, kept.bytes), (vec![3, 4], 2, 18));
    }

    #[tokio::test]
    async fn a_watcher_is_told_when_it_missed_something() {
        let history = Arc::new(History::new(0));
        let mut watch = history.watch("", 0);
        history.add(vec![event(1, "a")], 1);
        history.resume(1);
        assert_eq!(watch.next().await.expect("nothing is missed").events.len(), 1);
        history.resume(3);
        assert!(matches!(watch.next().await, Err(StoreError::Forgotten(1))));
        history.add(vec![event(4, "b")], 4);
        assert_eq!(history.watch("", 3).next().await.expect("from there on it is known").events.len(), 1);
    }
}
