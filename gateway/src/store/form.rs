//! The form in which the embedded store keeps entries in its file, and how files of older forms are brought to it.

use redb::{
    Database, MultimapTable, MultimapTableDefinition, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, TableError, TableHandle, WriteTransaction,
};

use super::{Change, Commit, Event, Expect, LeaseId, Revision, StoreError};

/// The newest form; files of all older ones are read.
pub(super) const FORMAT: u64 = 2;

/// The commit that wrote it, the lease it ends with (0 is none), the value.
pub(super) const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries-2");
/// The time to live of each lease, in milliseconds.
pub(super) const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// The keys that end with a lease.
const LEASED: MultimapTableDefinition<'_, u64, &str> = MultimapTableDefinition::new("leased");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const FORMAT_KEY: &str = "format";
const REVISION: &str = "revision";
const LAST_LEASE: &str = "last-lease";

/// What form 1 had: values alone, and its form among them.
const ENTRIES_1: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");

/// Brings a file to the newest form, in one transaction, and gives the last commit.
pub(super) fn prepare(database: &Database, shown: &str) -> Result<Revision, StoreError> {
    let write = database.begin_write()?;
    let found = found(database)?;
    match found {
        None => {}
        Some(1) => from_1(&write)?,
        Some(FORMAT) => {}
        Some(other) => return Err(StoreError::Format(shown.to_owned(), other.to_string())),
    }
    let revision = {
        let mut tables = Tables::open(&write)?;
        if found != Some(FORMAT) {
            tables.numbers.insert(FORMAT_KEY, FORMAT)?;
        }
        tables.revision()?
    };
    write.commit()?;
    Ok(revision)
}

/// The last commit that a transaction sees.
pub(super) fn revision(read: &ReadTransaction) -> Result<Revision, StoreError> {
    Ok(read.open_table(NUMBERS)?.get(REVISION)?.map_or(0, |revision| revision.value()))
}

/// The form of a file; none if it is new.
fn found(database: &Database) -> Result<Option<u64>, StoreError> {
    let read = database.begin_read()?;
    match read.open_table(NUMBERS) {
        Ok(numbers) => return Ok(numbers.get(FORMAT_KEY)?.map(|format| format.value())),
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let is_first = read.list_tables()?.any(|table| table.name() == ENTRIES_1.name());
    Ok(is_first.then_some(1))
}

fn from_1(write: &WriteTransaction) -> Result<(), StoreError> {
    {
        let (old, mut new) = (write.open_table(ENTRIES_1)?, write.open_table(ENTRIES)?);
        for entry in old.iter()? {
            let (key, value) = entry?;
            if key.value() != FORMAT_KEY {
                new.insert(key.value(), (1, 0, value.value()))?;
            }
        }
        write.open_table(NUMBERS)?.insert(REVISION, 1)?;
    }
    write.delete_table(ENTRIES_1)?;
    Ok(())
}

/// The tables of one writing transaction.
pub(super) struct Tables<'t> {
    entries: Table<'t, &'static str, (u64, u64, &'static [u8])>,
    leases: Table<'t, u64, u64>,
    leased: MultimapTable<'t, u64, &'static str>,
    numbers: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(write: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            entries: write.open_table(ENTRIES)?,
            leases: write.open_table(LEASES)?,
            leased: write.open_multimap_table(LEASED)?,
            numbers: write.open_table(NUMBERS)?,
        })
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        self.number(REVISION)
    }

    pub(super) fn set_revision(&mut self, revision: Revision) -> Result<(), StoreError> {
        self.numbers.insert(REVISION, revision)?;
        Ok(())
    }

    /// Says why a commit cannot be made, before anything of it is.
    pub(super) fn check(&self, commit: &Commit) -> Result<Result<(), StoreError>, StoreError> {
        for (key, expect) in &commit.expected {
            let found = self.entries.get(key.as_str())?.map(|entry| entry.value().0);
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::At(revision) => found == Some(*revision),
            };
            if !holds {
                return Ok(Err(StoreError::Conflict { key: key.clone(), found }));
            }
        }
        for change in &commit.changes {
            if let Change::Put { lease: Some(LeaseId(lease)), .. } = change
                && self.leases.get(lease)?.is_none()
            {
                return Ok(Err(StoreError::NoLease));
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn make(
        &mut self,
        commit: Commit,
        revision: Revision,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        for change in commit.changes {
            match change {
                Change::Put { key, value, lease: given } => {
                    let lease = given.map_or(0, |LeaseId(lease)| lease);
                    let before = self.entries.insert(key.as_str(), (revision, lease, value.as_slice()))?;
                    let before = before.map_or(0, |entry| entry.value().1);
                    if before != 0 && before != lease {
                        self.leased.remove(before, key.as_str())?;
                    }
                    if lease != 0 {
                        self.leased.insert(lease, key.as_str())?;
                    }
                    events.push(Event { revision, key: key.into(), value: Some(value.into()), lease: given });
                }
                Change::Delete { key } => self.delete(key, revision, events)?,
            }
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, ttl_millis: u64) -> Result<LeaseId, StoreError> {
        let lease = self.number(LAST_LEASE)? + 1;
        self.numbers.insert(LAST_LEASE, lease)?;
        self.leases.insert(lease, ttl_millis)?;
        Ok(LeaseId(lease))
    }

    pub(super) fn revoke(
        &mut self,
        LeaseId(lease): LeaseId,
        revision: Revision,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        self.leases.remove(lease)?;
        let keys = self.leased.remove_all(lease)?.map(|key| key.map(|key| key.value().to_owned()));
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            self.delete(key, revision, events)?;
        }
        Ok(())
    }

    fn delete(&mut self, key: String, revision: Revision, events: &mut Vec<Event>) -> Result<(), StoreError> {
        let Some(lease) = self.entries.remove(key.as_str())?.map(|entry| entry.value().1) else { return Ok(()) };
        if lease != 0 {
            self.leased.remove(lease, key.as_str())?;
        }
        let ended = (lease != 0).then_some(LeaseId(lease));
        events.push(Event { revision, key: key.into(), value: None, lease: ended });
        Ok(())
    }

    fn number(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.numbers.get(name)?.map_or(0, |number| number.value()))
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database")
    }

    #[test]
    fn brings_a_file_of_form_1_to_the_newest() {
        let database = database();
        let write = database.begin_write().expect("a transaction");
        {
            let mut entries = write.open_table(ENTRIES_1).expect("a table");
            for (key, value) in [(FORMAT_KEY, "1"), ("plugin/a/state", "{}"), ("plugin/b/state", "[]")] {
                entries.insert(key, value.as_bytes()).expect("room");
            }
        }
        write.commit().expect("a commit");
        for _ in 0..2 {
            assert_eq!(prepare(&database, "here").expect("it is known"), 1);
        }
        let read = database.begin_read().expect("a transaction");
        let entries = read.open_table(ENTRIES).expect("a table");
        let all: Vec<_> = entries.iter().expect("entries").map(|entry| entry.expect("an entry")).collect();
        let all: Vec<_> = all.iter().map(|(key, entry)| (key.value(), entry.value())).collect();
        assert_eq!(all, [("plugin/a/state", (1, 0, &b"{}"[..])), ("plugin/b/state", (1, 0, &b"[]"[..]))]);
        assert!(read.open_table(ENTRIES_1).is_err(), "the old form is gone");
    }

    #[test]
    fn refuses_a_file_of_a_later_form_and_leaves_it_alone() {
        let database = database();
        let write = database.begin_write().expect("a transaction");
        write.open_table(NUMBERS).expect("a table").insert(FORMAT_KEY, FORMAT + 1).expect("room");
        write.commit().expect("a commit");
        for _ in 0..2 {
            let error = prepare(&database, "here").expect_err("it is not known");
            assert_eq!(error.to_string(), "the store here has format 3, this gateway reads up to 2");
        }
    }
}
