//! `stile run`: a gateway until it is told to stop.

use std::{
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::{Gateway, StartError},
    control::ApplyError,
    plugin::{Bounds, Engine},
};

pub(super) fn run(file: &Path) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        // Before anything accepts: a signal from here on is a stop, not a kill.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let gateway = match Gateway::start(Engine::new(Bounds::default())?, file).await {
            Ok(gateway) => gateway,
            Err(StartError::Apply(ApplyError::Config(errors))) => {
                eprintln!("{errors}");
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        announce(&gateway)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new connections, those open may finish");
        let cut = gateway.stop().await;
        if cut > 0 {
            tracing::warn!("{cut} connections were cut off at the end of the grace period");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// One line per socket, for people and for scripts that wait for it.
fn announce(gateway: &Gateway) -> std::io::Result<()> {
    let mut out = stdout().lock();
    for (name, address) in gateway.addresses() {
        writeln!(out, "listening {name} {address}")?;
    }
    out.flush()
}
