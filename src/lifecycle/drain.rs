//! How work ends: announced, then no new work, then force.
//! Promises that phases only advance, that everybody sees each of them, and that force comes at the deadline or at the
//! second request, whichever is first. It closes nothing itself: listeners and connections watch and act.
//!
//! ```text
//! Running ──request──► Announced ──delay──► Closing ──all holds dropped──► done (Clean)
//!                      /readyz fails        listeners close,
//!                                           open work may finish ──deadline or second request──► Forced ──► done (Forced)
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far the drain is. Later phases compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Ordinary work.
    Running,
    /// Not ready any more, yet still taking work: whoever sends it needs a moment to notice.
    Announced,
    /// No new work; open work may finish.
    Closing,
    /// Whatever is still open is cut now.
    Forced,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Running, Phase::Announced, Phase::Closing, Phase::Forced];
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGTERM, SIGINT or SIGQUIT.
    Signal(&'static str),
    /// `POST /api/v1/drain`.
    Api,
    /// A part of the process that it cannot live without has ended.
    Failure,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Signal(name) => name,
            Reason::Api => "admin API",
            Reason::Failure => "failure",
        })
    }
}

/// How long each phase lasts: `shutdown` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From announced to closing.
    pub delay: Duration,
    /// From closing to forced.
    pub drain: Duration,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All work was finished.
    Clean,
    /// Work was cut: exit code 3.
    Forced,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    reason: Option<Reason>,
}

#[derive(Debug)]
struct Shared {
    state: watch::Sender<State>,
    /// Copy of the phase that costs one load to read.
    phase: AtomicU8,
    requests: AtomicUsize,
    requested: Notify,
    holds: AtomicUsize,
    released: Notify,
}

/// What begins and drives a drain. Clones are the same.
#[derive(Clone, Debug)]
pub struct Trigger {
    shared: Arc<Shared>,
}

/// A running process: what triggers its drain, and what sees it.
pub fn new() -> (Trigger, Watch) {
    let (state, receiver) = watch::channel(State { phase: Phase::Running, reason: None });
    let shared = Arc::new(Shared {
        state,
        phase: AtomicU8::new(Phase::Running as u8),
        requests: AtomicUsize::new(0),
        requested: Notify::new(),
        holds: AtomicUsize::new(0),
        released: Notify::new(),
    });
    (Trigger { shared: shared.clone() }, Watch { shared, state: receiver })
}

impl Trigger {
    /// Asks for the drain. The first request starts it, a second one means now. Any thread may call this.
    pub fn request(&self, reason: Reason) {
        self.shared.state.send_if_modified(|state| {
            state.reason.get_or_insert(reason);
            false
        });
        self.shared.requests.fetch_add(1, Ordering::AcqRel);
        self.shared.requested.notify_one();
    }

    /// Asks for the drain unless it was asked for already: for callers that may repeat themselves, like an API.
    pub fn request_once(&self, reason: Reason) {
        if self.shared.requests.load(Ordering::Acquire) == 0 {
            self.request(reason);
        }
    }

    /// Whether a drain was asked for.
    pub fn is_requested(&self) -> bool {
        self.shared.requests.load(Ordering::Acquire) > 0
    }

    /// A view of the phases.
    pub fn watch(&self) -> Watch {
        Watch { shared: self.shared.clone(), state: self.shared.state.subscribe() }
    }

    /// Open work: while the hold lives, the drain is not clean. A worker takes one for all its connections.
    pub fn hold(&self) -> Hold {
        self.shared.holds.fetch_add(1, Ordering::AcqRel);
        Hold { shared: self.shared.clone() }
    }

    /// Waits for the first request, then goes through the phases. Run it once, where timers run.
    /// `plan` is read when the drain begins, since a reload may have changed it.
    pub async fn drive(&self, plan: impl FnOnce() -> Plan) -> End {
        self.requests_reach(1).await;
        let plan = plan();
        self.enter(Phase::Announced);
        tokio::select! {
            () = tokio::time::sleep(plan.delay) => {}
            () = self.requests_reach(2) => {}
        }
        self.enter(Phase::Closing);
        tokio::select! {
            biased;
            () = self.released() => return End::Clean,
            () = tokio::time::sleep(plan.drain) => {}
            () = self.requests_reach(2) => {}
        }
        self.enter(Phase::Forced);
        End::Forced
    }

    /// Waits until all holds are dropped.
    pub async fn released(&self) {
        loop {
            let released = self.shared.released.notified();
            if self.shared.holds.load(Ordering::Acquire) == 0 {
                return;
            }
            released.await;
        }
    }

    async fn requests_reach(&self, n: usize) {
        loop {
            let requested = self.shared.requested.notified();
            if self.shared.requests.load(Ordering::Acquire) >= n {
                return;
            }
            requested.await;
        }
    }

    fn enter(&self, phase: Phase) {
        self.shared.phase.store(phase as u8, Ordering::Release);
        self.shared.state.send_modify(|state| state.phase = phase);
    }
}

/// Open work; see [`Trigger::hold`].
#[derive(Debug)]
#[must_use = "the drain does not wait for a hold that is dropped"]
pub struct Hold {
    shared: Arc<Shared>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.shared.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.released.notify_waiters();
        }
    }
}

/// Sees the phases. Each worker should wait on one of its own and tell its connections by its own means: every waiter of
/// a clone shares locks with all others.
#[derive(Clone, Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
}

impl Watch {
    /// The present phase: one atomic load.
    #[inline]
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.shared.phase.load(Ordering::Acquire))]
    }

    /// Who asked, once somebody did.
    pub fn reason(&self) -> Option<Reason> {
        self.state.borrow().reason
    }

    /// Waits for `phase` or a later one. Cancel-safe. Never ends if nothing that could drain is left.
    pub async fn reached(&mut self, phase: Phase) {
        if self.state.wait_for(|state| state.phase >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until no new work may be taken.
    pub async fn closing(&mut self) {
        self.reached(Phase::Closing).await;
    }

    /// Waits until open work must be cut.
    pub async fn forced(&mut self) {
        self.reached(Phase::Forced).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const PLAN: Plan = Plan { delay: Duration::from_secs(5), drain: Duration::from_secs(30) };

    fn driven(trigger: &Trigger) -> tokio::task::JoinHandle<End> {
        let trigger = trigger.clone();
        tokio::spawn(async move { trigger.drive(|| PLAN).await })
    }

    #[tokio::test(start_paused = true)]
    async fn the_phases_follow_the_plan() {
        let (trigger, mut watch) = new();
        let hold = trigger.hold();
        let end = driven(&trigger);
        let began_at = Instant::now();
        assert_eq!(watch.phase(), Phase::Running);
        trigger.request(Reason::Signal("SIGTERM"));
        watch.reached(Phase::Announced).await;
        assert_eq!(began_at.elapsed(), Duration::ZERO);
        assert_eq!(watch.reason(), Some(Reason::Signal("SIGTERM")));
        watch.closing().await;
        assert_eq!(began_at.elapsed(), PLAN.delay);
        watch.forced().await;
        assert_eq!(began_at.elapsed(), PLAN.delay + PLAN.drain);
        assert_eq!(watch.phase(), Phase::Forced);
        assert_eq!(end.await.unwrap(), End::Forced);
        drop(hold);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_clean_as_soon_as_the_last_hold_is_dropped() {
        let (trigger, mut watch) = new();
        let holds = [trigger.hold(), trigger.hold()];
        let end = driven(&trigger);
        trigger.request(Reason::Api);
        watch.closing().await;
        let closing_at = Instant::now();
        drop(holds);
        assert_eq!(end.await.unwrap(), End::Clean);
        assert_eq!(closing_at.elapsed(), Duration::ZERO);
        assert_eq!(watch.phase(), Phase::Closing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_means_now() {
        let (trigger, _watch) = new();
        let _hold = trigger.hold();
        let end = driven(&trigger);
        let began_at = Instant::now();
        trigger.request(Reason::Signal("SIGTERM"));
        trigger.request(Reason::Signal("SIGTERM"));
        assert_eq!(end.await.unwrap(), End::Forced);
        assert_eq!(began_at.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_call_that_is_repeated_cuts_nothing() {
        let (trigger, mut watch) = new();
        let hold = trigger.hold();
        let end = driven(&trigger);
        trigger.request_once(Reason::Api);
        trigger.request_once(Reason::Api);
        watch.closing().await;
        drop(hold);
        assert_eq!(end.await.unwrap(), End::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn without_open_work_the_delay_is_still_kept() {
        let (trigger, _watch) = new();
        let end = driven(&trigger);
        let began_at = Instant::now();
        trigger.request(Reason::Api);
        assert_eq!(end.await.unwrap(), End::Clean);
        assert_eq!(began_at.elapsed(), PLAN.delay);
    }

    #[test]
    fn runtimes_on_other_threads_see_the_drain() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (trigger, watch) = new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (mut watch, hold) = (watch.clone(), trigger.hold());
                std::thread::spawn(move || {
                    runtime().block_on(watch.closing());
                    drop(hold);
                })
            })
            .collect();
        trigger.request(Reason::Failure);
        let plan = Plan { delay: Duration::ZERO, drain: Duration::from_secs(60) };
        assert_eq!(runtime().block_on(trigger.drive(|| plan)), End::Clean);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }
}
