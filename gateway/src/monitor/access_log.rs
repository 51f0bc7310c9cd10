//! The access log: one line per exchange, written to memory by the worker that served it and to the file by a thread.
//! A worker never waits for the disk: what finds no room is dropped and counted.

mod line;
mod output;
mod pen;
mod redact;

use std::{
    fmt, io, mem,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::time::Instant;

pub use self::line::LineError;
use self::{
    line::{Line, Stamp},
    output::Output,
    pen::Pen,
};
use crate::{
    exchange::{Asked, Exchange},
    monitor::record::Fault,
    worker::{PerWorker, WorkerId},
};

/// How often what workers have written goes to the file.
const FLUSH: Duration = Duration::from_millis(100);
/// Bytes that the waiting lines of one worker have room for at first.
const ROOM: usize = 64 << 10;

/// What is written, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// None is standard output.
    pub file: Option<PathBuf>,
    /// `json`, or a text with `{FIELD}` in it.
    pub format: String,
    /// Of JSON lines.
    pub fields: Vec<String>,
    /// Query parameters and header fields whose values are left out.
    pub redact: Vec<String>,
    /// Bytes of lines that one worker may have waiting.
    pub buffer: usize,
}

/// An open access log.
pub struct AccessLog {
    spec: Spec,
    line: Line,
    shared: Arc<Shared>,
    writer: OnceLock<Thread>,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct Entry<'a> {
    /// As the client asked.
    pub asked: &'a Asked,
    pub exchange: &'a Exchange,
    pub status: u16,
    pub route: Option<&'a str>,
    pub service: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    /// Bytes of the bodies.
    pub received: u64,
    pub sent: u64,
    pub answered_after: Option<Duration>,
    /// When it ended, and how long it took.
    pub now: Instant,
    pub after: Duration,
    pub fault: Option<Fault>,
}

struct Shared {
    buffers: PerWorker<Buffer>,
    output: Output,
    dropped: AtomicU64,
    ended: AtomicBool,
}

/// What one worker has waiting.
#[derive(Default)]
struct Buffer {
    /// All of it may be written to; the lines are at its beginning.
    room: Vec<u8>,
    filled: usize,
    stamp: Stamp,
}

impl AccessLog {
    /// Reads the specification; nothing is opened yet.
    ///
    /// # Errors
    ///
    /// Every field that there is not.
    pub fn new(spec: Spec, workers: usize) -> Result<Self, Vec<LineError>> {
        let line = Line::parse(&spec.format, &spec.fields, &spec.redact)?;
        let shared = Shared {
            buffers: PerWorker::new(workers, |_| Buffer { room: vec![0; ROOM], ..Buffer::default() }),
            output: Output::new(spec.file.clone()),
            dropped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        };
        Ok(Self { spec, line, shared: Arc::new(shared), writer: OnceLock::new() })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Opens the file for appending, makes it if it is missing, and begins to write; once is enough.
    pub fn open(&self) -> io::Result<()> {
        if self.writer.get().is_some() {
            return Ok(());
        }
        self.shared.output.open()?;
        let shared = Arc::clone(&self.shared);
        let writer = thread::Builder::new().name("stile-access-log".to_owned()).spawn(move || {
            let mut ended = false;
            while !ended {
                // Looked at before the lines are: once it is set, nobody writes another.
                ended = shared.ended.load(Acquire);
                if !ended {
                    thread::park_timeout(FLUSH);
                }
                shared.drain();
            }
        })?;
        let _ = self.writer.set(writer.thread().clone());
        Ok(())
    }

    pub fn write(&self, worker: WorkerId, entry: &Entry<'_>) {
        let mut buffer = self.shared.buffers.of(worker);
        let Buffer { room, filled, stamp } = &mut *buffer;
        if *filled >= self.spec.buffer {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        stamp.set(entry.now);
        loop {
            let mut pen = Pen::new(&mut room[*filled..]);
            self.line.write(&mut pen, stamp, entry);
            match pen.written() {
                Some(length) => return *filled += length,
                // More lines than ever waited, or a longer one.
                None => room.resize(2 * room.len(), 0),
            }
        }
    }

    /// Lines that found no room, or that could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Writes what is waiting; blocks.
    pub fn flush(&self) {
        self.shared.drain();
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // The thread writes what is left: this may be a worker, with the last exchange of an old generation.
        self.shared.ended.store(true, Release);
        self.writer.get().inspect(|writer| writer.unpark());
    }
}

impl Shared {
    /// Each worker's lines by themselves: the file is in order but for lines of the same moment.
    fn drain(&self) {
        let lost = self.output.append(self.buffers.all().map(|mut buffer| {
            if buffer.filled == 0 {
                return Vec::new();
            }
            // As large as the one before, which comes zeroed from the kernel.
            let room = vec![0; buffer.room.len()];
            let mut lines = mem::replace(&mut buffer.room, room);
            lines.truncate(mem::take(&mut buffer.filled));
            lines
        }));
        self.dropped.fetch_add(lost, Relaxed);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("spec", &self.spec).finish_non_exhaustive()
    }
}
