//! The environment of guests built with WASI: empty. No files, no network, no arguments; what they print is logged.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    ResourceTable, WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::{Host, Identity, Level, log};
use crate::plugin::text::MAX_TEXT;

/// Bytes that a guest may print in one go.
const PERMIT: usize = 4096;

/// Random bytes that a guest may ask for in one call, which cannot be interrupted.
const MAX_RANDOM: u64 = 64 << 10;

/// Made at the first use: most guests never ask for it.
pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let identity = &self.identity;
        let wasi = self.wasi.get_or_insert_with(|| {
            let printed = |level| Printed { identity: Arc::clone(identity), level, line: Arc::default() };
            let context = WasiCtx::builder()
                .stdout(printed(Level::Info))
                .stderr(printed(Level::Warn))
                .max_random_size(MAX_RANDOM)
                .build();
            Box::new(Wasi { context, table: ResourceTable::new() })
        });
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// Standard output or error of one instance: each line of it is a line of the log.
#[derive(Clone)]
struct Printed {
    identity: Arc<Identity>,
    level: Level,
    /// What was printed since the last line's end.
    line: Arc<Mutex<Vec<u8>>>,
}

impl Printed {
    fn print(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte == b'\n' || line.len() == MAX_TEXT {
                log::write(&self.identity, None, self.level, &String::from_utf8_lossy(&line));
                line.clear();
            }
            if *byte != b'\n' {
                line.push(*byte);
            }
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
