//! One timer per connection, armed for the earliest point in time that mattered so far and re-armed only when it fires.
//! It promises never to be late; in exchange it wakes its task once in vain per time-out span. Requests that end long
//! before their timeout, which is nearly all of them, never touch the runtime's timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one connection.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    armed: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll_deadline(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sleep) = &*armed
            && sleep.deadline() <= deadline
            && !sleep.is_elapsed()
        {
            return Poll::Pending; // it was polled when it was armed, and wakes the one task that there is
        }
        let sleep = armed.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                *armed = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Lets go of the runtime's timer: the connection rests.
    pub(crate) fn disarm(&self) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_met_whatever_was_armed_before() {
        let timer = Timer::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(30);
        let soon = start + Duration::from_secs(1);
        let polled = poll_fn(|cx| Poll::Ready(timer.poll_deadline(later, cx))).await;
        assert!(polled.is_pending());
        poll_fn(|cx| timer.poll_deadline(soon, cx)).await;
        assert_eq!(Instant::now(), soon);
        poll_fn(|cx| timer.poll_deadline(later, cx)).await;
        assert_eq!(Instant::now(), later);
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_firing_is_armed_again_without_being_reported() {
        let timer = Timer::default();
        let start = Instant::now();
        let polled = poll_fn(|cx| Poll::Ready(timer.poll_deadline(start + Duration::from_secs(1), cx))).await;
        assert!(polled.is_pending());
        let second = start + Duration::from_secs(5);
        poll_fn(|cx| timer.poll_deadline(second, cx)).await;
        assert_eq!(Instant::now(), second);
    }
}
