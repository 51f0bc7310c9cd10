//! Storage for tests that loses, in a crash, what was not synced: each write that was not may be there, be gone, or be torn.
//! It can also refuse to write, as a full disk does.

use std::{
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// What a disk writes whole.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(crate) struct Lossy(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// As it reads.
    now: Vec<u8>,
    /// As it was synced last.
    synced: Vec<u8>,
    since: Vec<Write>,
    full: bool,
    /// Syncs, and says that it could not.
    failing: bool,
}

#[derive(Debug, Clone)]
enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Lossy {
    /// Makes every write fail, or no longer.
    pub(crate) fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    /// Makes every sync say that it failed although it did not, or no longer.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.disk().failing = failing;
    }

    /// What a crash at this moment leaves behind.
    pub(crate) fn crash(&self, rng: &mut fastrand::Rng) -> Self {
        let disk = self.disk();
        let mut left = disk.synced.clone();
        for write in &disk.since {
            match write {
                _ if rng.bool() => {}
                Write::Length(length) => left.resize(*length, 0),
                Write::Bytes(at, bytes) => {
                    let whole = bytes.len().div_ceil(SECTOR);
                    let sectors = if rng.bool() { whole } else { rng.usize(0..=whole) };
                    put(&mut left, *at, &bytes[..bytes.len().min(sectors * SECTOR)]);
                }
            }
        }
        Self(Arc::new(Mutex::new(Disk { now: left.clone(), synced: left, ..Disk::default() })))
    }

    fn write_down(&self, write: Write) -> Result<(), Error> {
        let mut disk = self.disk();
        if disk.full {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        match &write {
            Write::Length(length) => disk.now.resize(*length, 0),
            Write::Bytes(at, bytes) => put(&mut disk.now, *at, bytes),
        }
        disk.since.push(write);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Lossy {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.disk().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let (disk, at) = (self.disk(), offset as usize);
        let read = disk.now.get(at..at + out.len()).ok_or_else(|| Error::from(ErrorKind::UnexpectedEof));
        out.copy_from_slice(read?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        self.write_down(Write::Length(length as usize))
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut disk = self.disk();
        if disk.full {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        disk.synced = disk.now.clone();
        disk.since.clear();
        if disk.failing { Err(Error::from(ErrorKind::TimedOut)) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_down(Write::Bytes(offset as usize, data.to_vec()))
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}
