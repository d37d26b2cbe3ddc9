//! The rest of a connection between two requests: since when, and whether its backend disturbed it.
//! It promises that the backend's close is noted when the runtime hears of it, at the cost of no task, no timer and no
//! look at the socket: the socket wakes this instead of whoever used the connection last. It closes nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::time::Duration;

use crate::lifecycle::clock;
use crate::units::Moment;

/// What a connection, its socket and its pool share. One thread writes all of it; the atomics are for `Send`.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// A [`Moment`], or 0 while the connection is in use.
    began: AtomicU64,
    /// A [`Moment`], or 0 while nothing came.
    disturbed: AtomicU64,
    is_watched: AtomicBool,
    /// Of its pool: disturbances that it has not looked after yet.
    n_disturbed: OnceLock<Arc<AtomicU32>>,
}

impl Rest {
    /// The socket waits for the next byte, and will wake this.
    pub(crate) fn watch(&self) {
        self.is_watched.store(true, Relaxed);
    }

    /// The socket will wake somebody else, or nobody.
    pub(crate) fn leave(&self) {
        self.is_watched.store(false, Relaxed);
    }

    /// Whether a disturbance would be heard.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Relaxed)
    }

    /// Begins in a pool that counts disturbances in `n_disturbed`: the same one each time.
    pub(crate) fn begin(&self, now: Moment, n_disturbed: &Arc<AtomicU32>) {
        self.n_disturbed.get_or_init(|| n_disturbed.clone());
        self.disturbed.store(0, Relaxed);
        self.began.store(now.0, Relaxed);
    }

    /// The connection is used again.
    pub(crate) fn end(&self) {
        self.began.store(0, Relaxed);
    }

    /// How long it has lasted at `now`.
    pub(crate) fn lasted(&self, now: Moment) -> Duration {
        now.since(Moment(self.began.load(Relaxed)))
    }

    /// How long it had lasted when something came from the backend.
    pub(crate) fn undisturbed(&self) -> Option<Duration> {
        match self.disturbed.load(Relaxed) {
            0 => None,
            disturbed => Some(self.lasted(Moment(disturbed))),
        }
    }

    /// It was nothing: the rest goes on.
    pub(crate) fn settle(&self) {
        self.disturbed.store(0, Relaxed);
    }
}

impl Wake for Rest {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.leave();
        if self.began.load(Relaxed) == 0 || self.disturbed.load(Relaxed) != 0 {
            return;
        }
        self.disturbed.store(clock::now().0, Relaxed);
        if let Some(n_disturbed) = self.n_disturbed.get() {
            n_disturbed.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_disturbed_once_and_only_while_it_lasts() {
        let (rest, n_disturbed) = (Arc::new(Rest::default()), Arc::new(AtomicU32::new(0)));
        let waker = Waker::from(rest.clone());
        waker.wake_by_ref();
        assert_eq!((rest.undisturbed(), n_disturbed.load(Relaxed)), (None, 0));
        rest.begin(clock::now(), &n_disturbed);
        tokio::time::advance(Duration::from_millis(50)).await;
        waker.wake_by_ref();
        tokio::time::advance(Duration::from_millis(50)).await;
        waker.wake_by_ref();
        assert_eq!((rest.undisturbed(), n_disturbed.load(Relaxed)), (Some(Duration::from_millis(50)), 1));
        rest.end();
        rest.begin(clock::now(), &n_disturbed);
        assert_eq!(rest.undisturbed(), None);
    }
}
