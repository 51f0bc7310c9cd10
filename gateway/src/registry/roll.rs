//! What is known of the endpoints of one service beside its configuration. Pure: the store's changes come in, a roster goes out.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::record::Record;
use crate::upstream::{Member, Roster};

#[derive(Debug, Default)]
pub(super) struct Roll {
    pub(super) registered: BTreeMap<Arc<str>, Record>,
    pub(super) drained: HashSet<Arc<str>>,
    /// What it is for requests; of the time of the last `enroll`.
    pub(super) roster: Arc<Roster>,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Registered,
    /// Registered again, as another.
    Changed,
    /// It has deregistered, or its lease has ended.
    Gone,
    Drained,
    /// It takes exchanges again.
    Restored,
}

impl Roll {
    /// None if it was so already.
    pub(super) fn set(&mut self, id: &str, record: Option<Record>) -> Option<Change> {
        match record {
            Some(record) => Some(match self.registered.insert(Arc::clone(&record.member.id), record) {
                Some(_) => Change::Changed,
                None => Change::Registered,
            }),
            None => self.registered.remove(id).map(|_| Change::Gone),
        }
    }

    /// None if it was so already.
    pub(super) fn drain(&mut self, id: &str, drained: bool) -> Option<Change> {
        if drained {
            self.drained.insert(id.into()).then_some(Change::Drained)
        } else {
            self.drained.remove(id).then_some(Change::Restored)
        }
    }

    /// Makes the roster of what is known now. Of two registrations with one address the newer counts: it is the server that is there.
    pub(super) fn enroll(&mut self) -> &Arc<Roster> {
        let mut newest: Vec<&Record> = self.registered.values().collect();
        newest.sort_by_key(|record| std::cmp::Reverse(record.revision));
        let members: Vec<Arc<Member>> = newest.into_iter().map(|record| Arc::clone(&record.member)).collect();
        self.roster = Arc::new(Roster { members, drained: self.drained.clone() });
        &self.roster
    }

    pub(super) fn is_empty(&self) -> bool {
        self.registered.is_empty() && self.drained.is_empty()
    }
}
