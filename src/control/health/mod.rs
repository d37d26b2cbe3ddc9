//! Active health checks: probes every backend of every service that has `health:`, whatever found it, at once and then
//! in its rhythm, and looks after backends that asked to be left alone.
//! Promises that a reload resets nothing, that what is probed is the object that requests see, and that at most
//! [`PROBES_MAX`] probes are on their way. It never ends an ejection: that is what answers to requests have caused, and
//! what they end.

pub mod findings;
pub mod probe;
pub mod roster;
pub mod target;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use self::findings::Findings;
use self::probe::Outcome;
use self::roster::{Job, News, Roster};
use crate::lifecycle::clock;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::{Limit, Metrics};

/// Probes on their way: a start with thousands of backends must not be a burst of as many connections. Enough for 500
/// backends of which half do not answer, probed every two seconds with a timeout of one.
pub const PROBES_MAX: usize = 256;
/// Changes announce themselves; this is for those that forget to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Probes for as long as the process lives.
#[derive(Debug)]
pub struct Prober {
    roster: Roster,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    on_their_way: JoinSet<(Job, Outcome)>,
    /// Said once per time that the limit holds probes back.
    is_held_back: bool,
}

impl Prober {
    /// A prober that knows nobody yet.
    pub fn new(metrics: Arc<Metrics>, events: Arc<Events>, findings: Arc<Findings>) -> Self {
        let roster = Roster::new(metrics.clone(), findings);
        Self { roster, metrics, events, on_their_way: JoinSet::new(), is_held_back: false }
    }

    /// Follows the configuration in effect and its members for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        let mut changes = store.changes();
        let mut looked = None;
        loop {
            if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_EVERY) {
                self.look(&store);
                looked = Some(Instant::now());
            }
            self.roster.wake(clock::now());
            self.start_due();
            self.tell();
            let next = self.roster.next().filter(|_| !self.is_held_back).map(clock::instant_at);
            let next_look = looked.expect("just set") + LOOK_EVERY;
            tokio::select! {
                changed = changes.changed() => {
                    changed.expect("the store is ours");
                    looked = None;
                }
                Some(done) = self.on_their_way.join_next() => {
                    // A probe that panicked is sent anew when it is overdue.
                    if let Ok((job, outcome)) = done {
                        self.roster.finish(&job, outcome, clock::now(), fastrand::u64(..));
                    }
                }
                () = tokio::time::sleep_until(next.map_or(next_look, |next| next.min(next_look))) => {}
            }
        }
    }

    fn look<S>(&mut self, store: &Store<S>) {
        let snapshot = store.load_full();
        self.roster.update(snapshot.config.services.iter().zip(&snapshot.services), clock::now());
    }

    fn start_due(&mut self) {
        let now = clock::now();
        while self.on_their_way.len() < PROBES_MAX {
            let Some(job) = self.roster.start(now) else {
                self.is_held_back = false;
                return;
            };
            self.on_their_way.spawn(async move {
                let outcome = probe::run(&job.target, job.backend.address).await;
                (job, outcome)
            });
        }
        let waits = self.roster.next().is_some_and(|next| next <= now);
        if waits && !self.is_held_back {
            self.metrics.limit_hit(Limit::Probes);
        }
        self.is_held_back = waits;
    }

    fn tell(&mut self) {
        for News { service, backend, what, why } in self.roster.take_news() {
            tracing::info!(%service, %backend, %why, "{}", what.message());
            self.events.push(
                what.kind(),
                what.message(),
                &[("service", &service), ("backend", &backend), ("why", &why)],
            );
        }
    }
}

#[cfg(test)]
mod tests;
