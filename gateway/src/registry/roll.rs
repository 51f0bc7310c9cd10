//! What is known of the endpoints of one service beside its configuration. Pure: the store's changes come in, a roster goes out.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{directory::Directory, record::Record};
use crate::upstream::{Member, Roster};

#[derive(Debug, Default)]
pub(super) struct Roll {
    pub(super) registered: BTreeMap<Arc<str>, Record>,
    pub(super) drained: HashSet<Arc<str>>,
    /// What others know of.
    pub(super) found: BTreeMap<Directory, Vec<Arc<Member>>>,
    /// What it is for requests; of the time of the last `enroll`.
    pub(super) roster: Arc<Roster>,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Registered,
    /// Registered again, as another.
    Changed,
    Deregistered,
    /// Its lease has ended.
    Lapsed,
    /// A directory has it no more.
    Unlisted,
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
            None => self.registered.remove(id).map(|_| Change::Deregistered),
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

    /// What became of endpoints when an directory tells that it knows these; nothing if it told the same before.
    pub(super) fn find(&mut self, directory: &Directory, members: Vec<Arc<Member>>) -> Vec<(Arc<Member>, Change)> {
        let before = self.found.get(directory).map_or(&[][..], |before| before);
        if *before == *members {
            return Vec::new();
        }
        let by_id = |list: &[Arc<Member>]| -> HashMap<Arc<str>, Arc<Member>> {
            list.iter().map(|member| (Arc::clone(&member.id), Arc::clone(member))).collect()
        };
        let (old, new) = (by_id(before), by_id(&members));
        let mut changes = Vec::new();
        for member in &members {
            match old.get(&member.id) {
                Some(old) if old == member => {}
                Some(_) => changes.push((Arc::clone(member), Change::Changed)),
                None => changes.push((Arc::clone(member), Change::Registered)),
            }
        }
        let gone = before.iter().filter(|old| !new.contains_key(&old.id));
        changes.extend(gone.map(|old| (Arc::clone(old), Change::Unlisted)));
        if members.is_empty() {
            self.found.remove(directory);
        } else if !changes.is_empty() {
            self.found.insert(directory.clone(), members);
        }
        changes
    }

    /// Makes the roster of what is known now. Of two registrations with one address the newer counts: it is the server that is there.
    pub(super) fn enroll(&mut self) -> &Arc<Roster> {
        let mut newest: Vec<&Record> = self.registered.values().collect();
        newest.sort_by_key(|record| std::cmp::Reverse(record.revision));
        let registered = newest.into_iter().map(|record| &record.member);
        let members: Vec<Arc<Member>> = registered.chain(self.found.values().flatten()).cloned().collect();
        self.roster = Arc::new(Roster { members, drained: self.drained.clone() });
        &self.roster
    }

    pub(super) fn is_empty(&self) -> bool {
        self.registered.is_empty() && self.drained.is_empty() && self.found.is_empty()
    }
}
