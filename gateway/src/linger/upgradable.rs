//! An HTTP/1.1 connection whose client may ask for an upgrade. hyper hands such a connection over at its end, whether anybody has
//! agreed to the upgrade or not: what is left to write is dropped, and the socket is not closed in order.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

/// How far the upgrade of a connection has come.
#[derive(Debug, Clone, Default)]
pub struct Upgrade(Arc<AtomicU8>);

/// No request has asked for one.
const NONE: u8 = 0;
/// A request has asked for one.
const ASKED: u8 = 1;
/// The answer agrees to it, once the connection can be handed over.
const AGREED: u8 = 2;
/// The connection can be handed over.
const READY: u8 = 3;

/// hyper's connection `C`, which becomes a `U` if an upgrade is agreed to: a connection that hyper hands over at its end.
#[derive(Debug)]
pub struct Upgradable<C, U> {
    connection: Option<C>,
    upgraded: Option<U>,
    into_upgraded: fn(C) -> U,
    upgrade: Upgrade,
    /// The end of the connection, as hyper reported it before the rest was written.
    ended: Option<hyper::Result<()>>,
}

impl Upgrade {
    /// A request asks for an upgrade.
    pub fn asked(&self) {
        if self.get() == NONE {
            self.set(ASKED);
        }
    }

    /// Agrees to the upgrade. To be awaited before the answer is given.
    pub async fn agree(&self) {
        self.set(AGREED);
        poll_fn(|cx| {
            if self.get() == READY {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn get(&self) -> u8 {
        self.0.load(Relaxed)
    }

    fn set(&self, state: u8) {
        self.0.store(state, Relaxed);
    }
}

impl<C: Unpin, U> Upgradable<C, U> {
    pub fn new(connection: C, into_upgraded: fn(C) -> U, upgrade: Upgrade) -> Self {
        Self { connection: Some(connection), upgraded: None, into_upgraded, upgrade, ended: None }
    }

    /// The connection, unless it has been handed over.
    pub fn connection(&mut self) -> Option<Pin<&mut C>> {
        self.connection.as_mut().map(Pin::new)
    }
}

impl<C, U> Future for Upgradable<C, U>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
    U: Future<Output = hyper::Result<()>> + Unpin,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        if this.upgrade.get() == AGREED
            && let Some(connection) = this.connection.take()
        {
            this.upgraded = Some((this.into_upgraded)(connection));
            this.upgrade.set(READY);
        }
        if let Some(upgraded) = &mut this.upgraded {
            return Pin::new(upgraded).poll(cx);
        }
        let Some(connection) = &mut this.connection else { return Poll::Ready(Ok(())) };
        loop {
            let ended = ready!(Pin::new(&mut *connection).poll(cx));
            if let Some(before) = this.ended.take() {
                return Poll::Ready(before.and(ended));
            }
            let is_whole = ended.as_ref().err().is_none_or(hyper::Error::is_parse);
            if this.upgrade.get() != ASKED || !is_whole {
                return Poll::Ready(ended);
            }
            // It has let go of the upgrade. Polled again, it writes what is left and closes.
            this.ended = Some(ended);
        }
    }
}
