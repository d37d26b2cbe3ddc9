//! The wait for a backend's `100 Continue`, when the client waits for one. RFC 9110 §10.1.1.
//! It promises that the client is asked for its body when the backend wants it, and never waits for ever: backends that
//! know no 100 get the body after a second. It does not parse: who reads the answer says that the 100 came.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// RFC 9110 §10.1.1: a client "SHOULD NOT wait for an indefinite period"; curl waits as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A wait that has begun.
pub(crate) struct Continue {
    patience: Pin<Box<Sleep>>,
}

impl Continue {
    /// Begins to wait.
    pub(crate) fn awaited() -> Self {
        Self { patience: Box::pin(tokio::time::sleep(PATIENCE)) }
    }

    /// Ready when nobody has to wait any longer, although no 100 came.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.patience.as_mut().poll(cx)
    }
}
