//! The log of a running gateway: a line is written to memory, and a thread brings it to standard error. Nobody waits for the reader of
//! that: lines without room are dropped and counted.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait until the configuration is read.
const BUFFER: usize = 1 << 20;
/// Pause before standard error is tried again where it takes nothing now and does not block.
const PAUSE: Duration = Duration::from_millis(10);

/// Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    written: Condvar,
}

struct Waiting {
    lines: Vec<u8>,
    /// Bytes of lines that may wait.
    buffer: usize,
    /// The thread is writing lines that it took.
    is_writing: bool,
    /// Lines that found no room or could not be written.
    dropped: u64,
}

/// Writes one line at a time.
#[derive(Debug)]
pub struct Line<'a>(&'a Log);

impl Log {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let waiting = Waiting { lines: Vec::new(), buffer: BUFFER, is_writing: false, dropped: 0 };
        let shared = Shared { waiting: Mutex::new(waiting), arrived: Condvar::new(), written: Condvar::new() };
        let log = Self(Arc::new(shared));
        let writer = Arc::clone(&log.0);
        thread::Builder::new().name("stile-log".to_owned()).spawn(move || writer.write(output))?;
        Ok(log)
    }

    /// Sets how many bytes of lines may wait.
    pub fn set_buffer(&self, bytes: usize) {
        self.0.waiting().buffer = bytes;
    }

    /// Returns the number of lines that found no room or could not be written.
    pub fn dropped(&self) -> u64 {
        self.0.waiting().dropped
    }

    /// Waits until all lines are written, no longer than `limit`. Blocks.
    pub fn flush(&self, limit: Duration) {
        let unwritten = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(self.0.written.wait_timeout_while(self.0.waiting(), limit, unwritten));
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines as they arrive, as long as the process runs.
    fn write(&self, mut output: impl Write) {
        let mut reported = 0;
        loop {
            let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty();
            let arrived = self.arrived.wait_while(self.waiting(), is_idle);
            let mut waiting = arrived.unwrap_or_else(PoisonError::into_inner);
            waiting.is_writing = true;
            let lines = mem::take(&mut waiting.lines);
            drop(waiting);
            let lost = append(&mut output, &lines);
            let mut waiting = self.waiting();
            waiting.is_writing = false;
            waiting.dropped += lost;
            let dropped = waiting.dropped;
            drop(waiting);
            self.written.notify_all();
            // Once something gets through again.
            if lost == 0 && dropped > reported {
                tracing::warn!(dropped, "lines of the log were dropped: standard error took them too slowly");
                reported = dropped;
            }
        }
    }
}

/// Returns the number of lines that could not be written.
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn append(output: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(0) => break,
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes a whole line, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shared = &self.0.0;
        let mut waiting = shared.waiting();
        if waiting.lines.len() + line.len() > waiting.buffer {
            waiting.dropped += 1;
        } else {
            waiting.lines.extend_from_slice(line);
            shared.arrived.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    const LINES: usize = 100_000;

    #[test]
    fn lines_without_room_are_dropped_and_counted_while_nobody_reads() {
        let (mut reader, output) = UnixStream::pair().expect("sockets");
        let log = Log::start(output).expect("a thread");
        for number in 0..LINES {
            let mut line = log.make_writer();
            line.write_all(format!("line {number:06} of a log that nobody reads\n").as_bytes())
                .expect("it never fails");
        }
        let dropped = usize::try_from(log.dropped()).expect("a number of lines");
        assert!(dropped > 0, "nobody reads");
        // It returns although nothing can be written.
        log.flush(Duration::from_millis(1));
        let mut read = vec![0; 64 << 10];
        let mut lines = 0;
        while lines + dropped < LINES {
            let length = reader.read(&mut read).expect("lines");
            lines += read[..length].iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(lines + dropped, LINES, "each line is written or counted");
        log.flush(Duration::from_secs(60));
    }

    #[test]
    fn lines_of_an_output_that_is_gone_are_counted() {
        let (reader, output) = UnixStream::pair().expect("sockets");
        drop(reader);
        let log = Log::start(output).expect("a thread");
        log.make_writer().write_all(b"one\n").expect("it never fails");
        log.flush(Duration::from_secs(60));
        assert_eq!(log.dropped(), 1);
    }
}
