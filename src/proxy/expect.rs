//! The wait for a backend's `100 Continue`, when the client waits for one. RFC 9110 §10.1.1.
//! It promises that the client is asked for its body when the backend wants it, and never waits for ever: backends that
//! know no 100 get the body after a second. It does not parse: hyper reports the informational response.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::time::Sleep;

/// RFC 9110 §10.1.1: a client "SHOULD NOT wait for an indefinite period"; curl waits as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says that the backend answered 100.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<SignalState>);

#[derive(Default)]
struct SignalState {
    given: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    pub(crate) fn give(&self) {
        self.0.given.store(true, Release);
        let waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The body's side of a [`Signal`].
pub(crate) struct Continue {
    signal: Signal,
    patience: Pin<Box<Sleep>>,
}

impl Continue {
    pub(crate) fn after(signal: Signal) -> Self {
        Self { signal, patience: Box::pin(tokio::time::sleep(PATIENCE)) }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *self.signal.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        if self.signal.0.given.load(Acquire) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}
