//! `stile run`: a gateway until it is told to stop.

use std::{
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    app::{Gateway, StartError, engine},
    control::ApplyError,
};

pub(super) fn run(file: &Path, release: fn()) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        // Before anything accepts: a signal from here on is a stop, not a kill.
        let mut signals = Signals::new()?;
        let gateway = match Gateway::start(|config| Ok(engine(config)?.with_release(release)), file).await {
            Ok(gateway) => gateway,
            Err(StartError::Apply(ApplyError::Config(errors))) => {
                eprintln!("{errors}");
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        announce(&gateway)?;
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
    })
}

/// What a process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    /// A hang-up has the files read again, for those that live where changes cannot be watched.
    async fn reload_until_stop(&mut self, gateway: &Gateway) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => gateway.reload().await,
            }
        }
    }

    /// Waits for the one that ends a gateway.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// One line per socket, for people and for scripts that wait for it.
fn announce(gateway: &Gateway) -> std::io::Result<()> {
    let mut out = stdout().lock();
    for (name, address) in gateway.addresses() {
        writeln!(out, "listening {name} {address}")?;
    }
    out.flush()
}
