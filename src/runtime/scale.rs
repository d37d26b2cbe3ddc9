//! How many replicas a service should have, has, and waits for: what both planes know of scaling.
//! It promises that the number wanted has one writer at a time, and that a request which waits for the first replica
//! rings for it. It decides nothing and starts nothing; a service without `autoscale` never touches it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::lifecycle::clock;
use crate::units::Moment;

/// A browser that was shown the waiting page counts as one that waits for so long: it asks again every two seconds, and
/// a phone in a pocket does not.
const PAGE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// What is known of the replicas of one service; lives as long as its group.
#[derive(Debug)]
pub struct Scale {
    held: AtomicU32,
    /// Until then somebody looks at the waiting page. A [`Moment`], like the next.
    page_until: AtomicU64,
    /// Until then whoever finds others held stands behind them as one of them.
    backlog_until: AtomicU64,
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
    /// When the first request began to wait for a replica, until one is ready or nobody waits any more.
    pub cold_since: Option<Moment>,
    /// The last cold start that ended well.
    pub cold_start: Option<ColdStart>,
}

/// From the first held request to the first ready replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdStart {
    /// Counts up from 1.
    pub number: u64,
    /// How long it took.
    pub took: Duration,
    /// Requests that waited at its end.
    pub held: u32,
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
    /// How often in a row. A failure that no further try can mend, such as an image that is not there, counts twice.
    pub n_in_a_row: u32,
    /// For people: what failed, and the container's last words.
    pub words: Arc<str>,
}

impl StartFailure {
    /// Whether requests are told instead of held on: one failure may be a hiccup that the next try mends.
    pub fn is_hopeless(&self) -> bool {
        self.n_in_a_row >= 2
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            held: AtomicU32::new(0),
            page_until: AtomicU64::new(0),
            backlog_until: AtomicU64::new(0),
            bell: Notify::new(),
            intent: watch::Sender::default(),
            state: Mutex::default(),
        }
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

    /// Requests that wait for a replica. Whoever looks at the waiting page counts as one.
    pub fn held(&self) -> u32 {
        let is_looked_at = clock::now().0 < self.page_until.load(Relaxed);
        self.n_held() + u32::from(is_looked_at)
    }

    /// Requests that are held, without those that are shown the waiting page.
    pub fn n_held(&self) -> u32 {
        self.held.load(Relaxed)
    }

    /// A browser is shown the waiting page at `now`: it wants a replica as much as a request that is held.
    pub fn show_page(&self, now: Moment) {
        self.begin_cold_start(now, self.n_held());
        self.page_until.fetch_max(now.after(PAGE_COUNTS_FOR).0, Relaxed);
        self.bell.notify_one();
    }

    /// A request that is held found no replica at `now`; whoever comes before `until` stands behind it.
    pub fn found_cold(&self, now: Moment, until: Moment) {
        self.backlog_until.fetch_max(until.0, Relaxed);
        self.begin_cold_start(now, self.n_held().saturating_sub(1));
    }

    /// Whether a newcomer stands behind requests that are held, with as much patience as they have. Not for ever: a service
    /// that cannot keep up long after its start is overloaded, and not cold.
    pub fn is_backlogged(&self, now: Moment) -> bool {
        self.n_held() > 0 && now.0 < self.backlog_until.load(Relaxed)
    }

    fn begin_cold_start(&self, now: Moment, others: u32) {
        let is_looked_at = now.0 < self.page_until.load(Relaxed);
        let mut state = self.state();
        // With nobody else waiting, an older start has ended without anybody to see it.
        if others == 0 && !is_looked_at {
            state.cold_since = Some(now);
        }
        state.cold_since.get_or_insert(now);
    }

    /// A replica is ready: gives how long the cold start took that ends with it, if there was one.
    pub fn end_cold_start(&self, now: Moment) -> Option<Duration> {
        let mut state = self.state();
        let took = now.since(state.cold_since.take()?);
        let number = state.cold_start.map_or(1, |before| before.number + 1);
        state.cold_start = Some(ColdStart { number, took, held: self.n_held() });
        Some(took)
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

    /// Whether there are to be no replicas: whoever comes now knows that it waits for the first one.
    pub fn is_at_zero(&self) -> bool {
        let intent = self.intent.borrow();
        intent.generation > 0 && intent.desired == 0
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
        if self.scale.held.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        let is_looked_at = clock::now().0 < self.scale.page_until.load(Relaxed);
        let mut state = self.scale.state();
        // Somebody else may have begun to wait in between.
        if self.scale.n_held() == 0 && !is_looked_at {
            state.cold_since = None;
        }
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

    fn secs(n: u64) -> Moment {
        Moment(n * 1_000_000_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_start_lasts_from_the_first_that_waits_to_the_first_replica() {
        let scale = Scale::default();
        let first = scale.hold(9);
        scale.found_cold(secs(10), secs(70));
        let second = scale.hold(9);
        scale.found_cold(secs(12), secs(72));
        assert!(scale.is_backlogged(secs(71)) && !scale.is_backlogged(secs(72)));
        assert_eq!(scale.end_cold_start(secs(13)), Some(Duration::from_secs(3)));
        assert_eq!(scale.end_cold_start(secs(14)), None, "it ends once");
        assert_eq!(scale.state().cold_start, Some(ColdStart { number: 1, took: Duration::from_secs(3), held: 2 }));
        drop((first, second));
        assert!(!scale.is_backlogged(secs(20)), "nobody is held");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_nobody_waits_for_any_more_is_none() {
        let scale = Scale::default();
        let held = scale.hold(9);
        scale.found_cold(secs(10), secs(70));
        drop(held);
        assert_eq!(scale.end_cold_start(secs(11)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_at_the_waiting_page_counts_until_it_would_have_asked_again() {
        let scale = Scale::default();
        scale.show_page(clock::now());
        assert_eq!((scale.held(), scale.n_held()), (1, 0));
        scale.wanted().await;
        tokio::time::advance(PAGE_COUNTS_FOR - Duration::from_secs(1)).await;
        scale.show_page(clock::now());
        assert_eq!(scale.end_cold_start(clock::now()), Some(PAGE_COUNTS_FOR - Duration::from_secs(1)));
        tokio::time::advance(PAGE_COUNTS_FOR).await;
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
