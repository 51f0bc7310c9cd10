//! `stile run`: a gateway until a signal stops it, which standard output, standard error and disks that hang cannot prevent.

use std::{
    io::{Write, stderr, stdout},
    panic::{PanicHookInfo, set_hook},
    path::Path,
    pin::pin,
    process::{ExitCode, exit},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use rustix::process::{Signal, getpid, kill_process};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    app::{Gateway, StartError, engine},
    config::Config,
    control::ApplyError,
    descriptors,
    monitor::log::Log,
};

/// What a process that was stopped at once may still take, and one that was stopped before it served.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) fn run(file: &Path, release: fn()) -> Result<ExitCode> {
    let log = Log::start(stderr())?;
    super::log_to(log.clone());
    set_hook(Box::new(log_panic));
    let runtime = super::runtime()?;
    let done = runtime.block_on(serve(file, &log, release));
    // What still runs on its threads may wait for a disk.
    runtime.shutdown_background();
    log.flush(AT_ONCE);
    done
}

async fn serve(file: &Path, log: &Log, release: fn()) -> Result<ExitCode> {
    let limit = descriptors::raise();
    // Before anything accepts: a signal from here on is a stop, not a kill.
    let mut signals = Signals::new()?;
    let engine = |config: &Config| Ok(engine(config)?.with_release(release));
    let started = tokio::select! {
        started = Gateway::start_logging(engine, file, Some(log.clone())) => started,
        () = signals.stop() => return Ok(ExitCode::SUCCESS),
    };
    let gateway = match started {
        Ok(gateway) => gateway,
        Err(StartError::Apply(ApplyError::Config(errors))) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    signals.bound(gateway.longest_stop() + AT_ONCE);
    announce(&gateway)?;
    tracing::info!("{limit} files may be open");
    signals.reload_until_stop(&gateway).await;
    tracing::info!("stopping: no new connections, those open may finish; another signal ends them");
    tokio::select! {
        cut = gateway.stop() => {
            if cut > 0 {
                tracing::warn!("{cut} connections were cut off at the end of the grace period");
            }
            Ok(ExitCode::SUCCESS)
        }
        () = signals.stop() => {
            tracing::warn!("stopped at once: connections may have been cut off");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The standard hook writes to standard error, and so waits for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let place = panic.location().map(ToString::to_string);
    let thread = thread::current();
    tracing::error!(place, thread = thread.name(), "panic: {message}");
}

/// The signals of the process. A thread of its own receives them, which nothing can hold up: it ends the process where that does not
/// end in time.
struct Signals {
    received: UnboundedReceiver<Received>,
    /// Milliseconds that stopping may take.
    bound: Arc<AtomicU64>,
}

enum Received {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (sender, received) = unbounded_channel();
        let bound = Arc::new(AtomicU64::new(millis(AT_ONCE)));
        let (began, beginning) = mpsc::channel();
        let longest = Arc::clone(&bound);
        thread::Builder::new().name("stile-signals".to_owned()).spawn(move || {
            let ended = receive(&sender, &longest, &began);
            // A failure after the beginning has nobody to hear of it.
            let _ = began.send(ended);
        })?;
        beginning.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread for signals has ended")))?;
        Ok(Self { received, bound })
    }

    /// Sets how long stopping may take from the first signal on.
    fn bound(&self, longest: Duration) {
        self.bound.store(millis(longest), Relaxed);
    }

    /// A hang-up has the files read again, for those that live where changes cannot be watched.
    async fn reload_until_stop(&mut self, gateway: &Gateway) {
        let mut again = false;
        loop {
            if !again && !matches!(self.received.recv().await, Some(Received::Reload)) {
                return;
            }
            again = false;
            let mut reload = pin!(gateway.reload());
            loop {
                tokio::select! {
                    () = &mut reload => break,
                    received = self.received.recv() => match received {
                        Some(Received::Reload) => again = true,
                        Some(Received::Stop) | None => return,
                    },
                }
            }
        }
    }

    /// Waits for the one that ends a gateway.
    async fn stop(&mut self) {
        while let Some(Received::Reload) = self.received.recv().await {}
    }
}

fn receive(
    sender: &UnboundedSender<Received>,
    bound: &AtomicU64,
    began: &mpsc::Sender<std::io::Result<()>>,
) -> std::io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let _ = began.send(Ok(()));
        let mut is_stopping = false;
        loop {
            let received = tokio::select! {
                _ = terminate.recv() => Received::Stop,
                _ = interrupt.recv() => Received::Stop,
                _ = hangup.recv() => Received::Reload,
            };
            if matches!(received, Received::Stop) {
                let limit = if is_stopping { AT_ONCE } else { Duration::from_millis(bound.load(Relaxed)) };
                is_stopping = true;
                end_after(limit)?;
            }
            let _ = sender.send(received);
        }
    })
}

/// Ends the process if it still runs then.
#[expect(clippy::disallowed_methods, reason = "threads of their own, which nothing holds up")]
fn end_after(limit: Duration) -> std::io::Result<()> {
    thread::Builder::new().name("stile-end".to_owned()).spawn(move || {
        thread::sleep(limit);
        // An ordinary exit may wait for standard output, too.
        let killing = thread::Builder::new().spawn(|| {
            thread::sleep(AT_ONCE);
            kill_process(getpid(), Signal::KILL)
        });
        if killing.is_err() {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        exit(1);
    })?;
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line per socket, for people and for scripts that wait for it.
fn announce(gateway: &Gateway) -> std::io::Result<()> {
    let mut out = stdout().lock();
    for (name, address) in gateway.addresses() {
        writeln!(out, "listening {name} {address}")?;
    }
    out.flush()
}
