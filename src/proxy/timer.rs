//! One timer per connection, armed for the earliest point in time that mattered so far and re-armed only when it fires.
//! It promises never to be late; in exchange it wakes its task once in vain per time-out span. Requests that end long
//! before their timeout, which is nearly all of them, never touch the runtime's timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::lifecycle::clock;
use crate::units::Moment;

/// A timer that is armed for so much later than now has not fired, however late now was read.
const SURELY_LATER: Duration = Duration::from_secs(1);

/// The timer of one connection.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Where `armed` stands, or 0: read without the lock.
    armed_for: AtomicU64,
    armed: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Timer {
    /// Ready once `deadline` has passed. Whoever knows the present time says it: it often saves looking at the timer.
    pub(crate) fn poll_deadline(&self, deadline: Moment, now: Option<Moment>, cx: &mut Context<'_>) -> Poll<()> {
        let armed_for = self.armed_for.load(Relaxed);
        if armed_for <= deadline.0 && now.is_some_and(|now| armed_for > now.after(SURELY_LATER).0) {
            return Poll::Pending; // armed early enough, and not fired yet: it wakes the one task that there is
        }
        let deadline = clock::instant_at(deadline);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = armed.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                *armed = None;
                self.armed_for.store(0, Relaxed);
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        self.armed_for.store(clock::moment_at(sleep.deadline()).0, Relaxed);
        Poll::Pending
    }

    /// Lets go of the runtime's timer: the connection rests.
    pub(crate) fn disarm(&self) {
        self.armed_for.store(0, Relaxed);
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    async fn pending(timer: &Timer, deadline: Moment) {
        let polled = poll_fn(|cx| Poll::Ready(timer.poll_deadline(deadline, Some(clock::now()), cx))).await;
        assert!(polled.is_pending());
    }

    async fn wait(timer: &Timer, deadline: Moment) {
        let mut now = Some(clock::now());
        poll_fn(|cx| timer.poll_deadline(deadline, now.take(), cx)).await;
        // Timers have the resolution of a millisecond.
        assert!(clock::now().since(deadline) <= Duration::from_millis(1));
        assert!(clock::now() >= deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_met_whatever_was_armed_before() {
        let timer = Timer::default();
        let start = clock::now();
        let [soon, later] = [1, 30].map(|secs| start.after(Duration::from_secs(secs)));
        pending(&timer, later).await;
        wait(&timer, soon).await;
        wait(&timer, later).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_firing_is_armed_again_without_being_reported() {
        let timer = Timer::default();
        let start = clock::now();
        pending(&timer, start.after(Duration::from_secs(2))).await;
        wait(&timer, start.after(Duration::from_secs(5))).await;
    }
}
