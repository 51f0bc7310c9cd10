//! What must outlive the process: entries under text keys, in one file, each commit synced to disk.
//! It knows no resource; who keeps what under which key is the owner's affair.

use std::{fmt, path::Path, sync::Arc};

use redb::{Database, ReadableDatabase, TableDefinition, backends::InMemoryBackend};

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// The form of what is stored; a store of another form is refused.
const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &str = "format";
const FILE: &str = "stile.redb";

/// A store. Cheap to clone. Its calls block: run them where that is no harm.
#[derive(Clone)]
pub struct Store(Arc<Database>);

/// One entry to be written or removed.
#[derive(Debug)]
pub enum Change {
    Put(String, Vec<u8>),
    Delete(String),
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the folder {0}: {1}")]
    Folder(String, std::io::Error),
    #[error("the store {0} is in use by another process")]
    InUse(String),
    #[error("the store {0} has format {1}, this gateway reads 1")]
    Format(String, String),
    #[error("the store cannot be opened: {0}")]
    Open(redb::DatabaseError),
    #[error("the store failed: {0}")]
    Failed(redb::Error),
    #[error("the store's entry \"{0}\" is corrupt: {1}")]
    Corrupt(String, String),
    #[error("the store's thread failed")]
    Lost,
}

impl Store {
    /// Opens the store in this folder and makes either if it is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let shown = folder.display().to_string();
        std::fs::create_dir_all(folder).map_err(|error| StoreError::Folder(shown.clone(), error))?;
        match Database::create(folder.join(FILE)) {
            Ok(database) => Self::prepare(database, &shown),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(shown)),
            Err(error) => Err(StoreError::Open(error)),
        }
    }

    /// A store that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).map_err(StoreError::Open)?;
        Self::prepare(database, "in memory")
    }

    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.0.begin_read()?;
        let table = read.open_table(ENTRIES)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    /// The entries whose keys start with `prefix`, by key.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let read = self.0.begin_read()?;
        let table = read.open_table(ENTRIES)?;
        let mut entries = Vec::new();
        for entry in table.range(prefix..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            entries.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(entries)
    }

    /// Makes all changes or none; when it returns they are on disk.
    pub fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(ENTRIES)?;
            for change in changes {
                match change {
                    Change::Put(key, value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    Change::Delete(key) => drop(table.remove(key.as_str())?),
                }
            }
        }
        Ok(write.commit()?)
    }

    fn prepare(database: Database, shown: &str) -> Result<Self, StoreError> {
        let store = Self(Arc::new(database));
        // Makes the table too, which a reader needs.
        store.commit(&[])?;
        match store.get(FORMAT_KEY)? {
            None => store.commit(&[Change::Put(FORMAT_KEY.to_owned(), FORMAT.to_vec())])?,
            Some(format) if format == FORMAT => {}
            Some(format) => {
                return Err(StoreError::Format(shown.to_owned(), String::from_utf8_lossy(&format).into_owned()));
            }
        }
        Ok(store)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put(key.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn gives_back_what_was_committed() {
        let store = Store::in_memory().expect("store");
        store.commit(&[put("a/1", "x"), put("a/2", "y"), put("b/1", "z")]).expect("commit");
        store.commit(&[Change::Delete("a/1".to_owned()), put("a/3", "w")]).expect("commit");
        assert_eq!(store.get("b/1").expect("get").as_deref(), Some(&b"z"[..]));
        assert_eq!(store.get("a/1").expect("get"), None);
        let keys: Vec<_> = store.list("a/").expect("list").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a/2", "a/3"]);
    }

    #[test]
    fn outlives_its_process_and_is_used_by_one() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        store.commit(&[put("key", "value")]).expect("commit");
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
        drop(store);
        let store = Store::open(folder.path()).expect("store again");
        assert_eq!(store.get("key").expect("get").as_deref(), Some(&b"value"[..]));
    }

    #[test]
    fn refuses_a_store_of_another_form() {
        let folder = tempfile::tempdir().expect("folder");
        Store::open(folder.path()).expect("store").commit(&[put(FORMAT_KEY, "2")]).expect("commit");
        let error = Store::open(folder.path()).expect_err("refused");
        assert!(error.to_string().ends_with("has format 2, this gateway reads 1"), "{error}");
    }
}
