//! How many replicas a service should have, has, and waits for: what both planes know of scaling.
//! It promises that the number wanted has one writer at a time, and that a request which waits for the first replica
//! rings for it. It decides nothing and starts nothing; a service without `autoscale` never touches it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::units::Moment;

/// What is known of the replicas of one service; lives as long as its group.
#[derive(Debug)]
pub struct Scale {
    held: AtomicU32,
    /// Rung by a request that finds no replica.
    bell: Notify,
    intent: watch::Sender<Intent>,
    state: Mutex<ScaleState>,
}

/// How many replicas there should be, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// Counts up from 1; 0 is no intent yet.
    pub generation: u64,
    /// So many.
    pub desired: u32,
    /// For people: `2 requests held`.
    pub reason: Arc<str>,
}

/// What the control plane found out about the replicas; for people, and for requests that wait.
#[derive(Clone, Debug, Default)]
pub struct ScaleState {
    /// A person's word, above the formula's.
    pub pinned: Option<u32>,
    /// Replicas that take requests.
    pub ready: u32,
    /// Replicas that were started and have not answered yet.
    pub starting: u32,
    /// Replicas that finish what they have.
    pub draining: u32,
    /// The last change of the number wanted.
    pub decision: Option<Decision>,
    /// What the last intent failed with, until one succeeds.
    pub failure: Option<StartFailure>,
    /// When the first request began to wait, if any waits.
    pub cold_since: Option<Moment>,
}

/// A change of the number wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Seconds since 1970.
    pub at_unix: u64,
    /// How many there were to be before.
    pub from: u32,
    /// And after.
    pub to: u32,
    /// For people.
    pub because: Arc<str>,
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// When.
    pub at: Moment,
    /// How often in a row.
    pub n_in_a_row: u32,
    /// For people: what failed, and the container's last words.
    pub words: Arc<str>,
}

impl Default for Scale {
    fn default() -> Self {
        Self { held: AtomicU32::new(0), bell: Notify::new(), intent: watch::Sender::default(), state: Mutex::default() }
    }
}

impl Scale {
    /// A request begins to wait for a replica; `None` if `max` others do. The guard ends the wait.
    pub fn hold(&self, max: u32) -> Option<Held<'_>> {
        let room = |held: u32| (held < max).then_some(held + 1);
        self.held.fetch_update(SeqCst, SeqCst, room).ok()?;
        self.bell.notify_one();
        Some(Held { scale: self })
    }

    /// Requests that wait for a replica.
    pub fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    /// Waits until a request waits for a replica.
    pub async fn wanted(&self) {
        self.bell.notified().await;
    }

    /// Says how many replicas there should be: the autoscaler, and nobody else. Returns whether the number is new.
    pub fn intend(&self, desired: u32, reason: &str) -> bool {
        self.intent.send_if_modified(|intent| {
            let is_new = intent.generation == 0 || intent.desired != desired;
            if is_new {
                *intent = Intent { generation: intent.generation + 1, desired, reason: reason.into() };
            }
            is_new
        })
    }

    /// The newest intent, and a bell for the next ones: for whoever carries them out.
    pub fn intents(&self) -> watch::Receiver<Intent> {
        self.intent.subscribe()
    }

    /// The newest intent.
    pub fn intent(&self) -> Intent {
        self.intent.borrow().clone()
    }

    /// What is known; not to be kept across an `.await`.
    pub fn state(&self) -> MutexGuard<'_, ScaleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a replica; ends on drop.
#[derive(Debug)]
pub struct Held<'a> {
    scale: &'a Scale,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.scale.held.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_may_and_each_leaves_its_place() {
        let scale = Scale::default();
        let first = scale.hold(2).unwrap();
        let second = scale.hold(2).unwrap();
        assert!(scale.hold(2).is_none());
        assert_eq!(scale.held(), 2);
        drop(first);
        assert!(scale.hold(2).is_some());
        drop(second);
        assert_eq!(scale.held(), 0);
    }

    #[test]
    fn an_intent_of_the_same_number_is_no_new_one() {
        let scale = Scale::default();
        assert!(scale.intend(0, "at the start"));
        assert!(scale.intend(2, "load"));
        assert!(!scale.intend(2, "still load"));
        assert_eq!(scale.intent().generation, 2);
        assert_eq!(&*scale.intent().reason, "load");
    }
}
