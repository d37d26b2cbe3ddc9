//! How many replicas each service should have: looks at what happens, decides, and says it to whoever starts and stops them.
//! Promises one writer per service, that a request which finds no replica is answered with a decision within
//! milliseconds, and that a reload leaves the windows of unchanged services alone. It starts and stops nothing itself,
//! but for telling hooks.
//!
//! ```text
//! requests ─► runtime ─► signals ─► decide (pure) ─► scale.intend ─┬─► control::replicas (container)
//!               ▲                                                  └─► hook: a URL, a command, a Swarm (whatever else)
//!               └── members change ◄── discovery ◄── replicas start and stop ◄─┘
//! ```

pub mod decide;
mod follow;
mod hook;
pub mod signals;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::follow::{Follower, Plan, Report, Ties};
use self::hook::{Courier, Office, Scaler};
use crate::config::checked::{Autoscale, Service as Declared};
use crate::lifecycle::clock;
use crate::lifecycle::readiness::Readiness;
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::units::ServiceName;

/// Changes announce themselves; this is for a task that ended by a bug of ours.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Follows every service that has `autoscale`.
#[derive(Debug)]
pub struct Autoscaler {
    registry: Arc<Registry>,
    events: Arc<Events>,
    /// Tells whether what ran before has been found.
    readiness: Readiness,
    /// When this process began, in seconds since 1970: intents count from 1 in each.
    started_unix: u64,
    followed: HashMap<ServiceName, Followed>,
}

/// The tasks of one service; they end with it.
#[derive(Debug)]
struct Followed {
    service: Arc<Service>,
    plan: watch::Sender<Plan>,
    reports: watch::Receiver<Report>,
    follower: JoinSet<()>,
    scaler: Option<Scaler>,
    courier: JoinSet<()>,
}

impl Autoscaler {
    /// Follows nobody yet.
    pub fn new(registry: Arc<Registry>, events: Arc<Events>, readiness: Readiness) -> Self {
        Self { registry, events, readiness, started_unix: clock::unix_now().as_secs(), followed: HashMap::new() }
    }

    /// Follows the configuration in effect for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        let mut changes = store.changes();
        loop {
            changes.mark_unchanged();
            self.look(&store.load_full(), &changes);
            tokio::select! {
                changed = changes.changed() => changed.expect("the store is ours"),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look<S>(&mut self, snapshot: &Snapshot<S>, changes: &watch::Receiver<()>) {
        self.followed.retain(|name, followed| {
            let stays = snapshot.declared(name).is_some_and(|(declared, service)| {
                declared.autoscale.is_some() && Arc::ptr_eq(&service.group, &followed.service.group)
            });
            if !stays {
                // Whoever turns autoscaling off and on again begins with the formula.
                followed.service.group.scale.state().pinned = None;
            }
            stays
        });
        for (declared, service) in snapshot.config.services.iter().zip(&snapshot.services) {
            if let Some(autoscale) = &declared.autoscale {
                self.follow(declared, autoscale, service, changes);
            }
        }
    }

    fn follow(
        &mut self,
        declared: &Declared,
        autoscale: &Autoscale,
        service: &Arc<Service>,
        changes: &watch::Receiver<()>,
    ) {
        let plan = Plan::new(declared, autoscale);
        let scaler = Scaler::of(declared, autoscale);
        let followed = self.followed.entry(declared.name.clone()).or_insert_with(|| Followed {
            service: service.clone(),
            plan: watch::Sender::new(plan.clone()),
            reports: watch::channel(Report::default()).1,
            follower: JoinSet::new(),
            scaler: None,
            courier: JoinSet::new(),
        });
        followed.plan.send_if_modified(|known| {
            let is_news = *known != plan;
            *known = plan;
            is_news
        });
        if is_idle(&mut followed.follower) {
            let (reporter, reports) = watch::channel(Report::default());
            let (leaving, events) = (self.registry.leaving.clone(), self.events.clone());
            let (plans, readiness) = (followed.plan.subscribe(), self.readiness.clone());
            let ties = Ties { plans, leaving, events, readiness, reporter };
            followed.follower.spawn(Follower::new(service, ties).run(changes.clone()));
            // A courier of before would read reports that nobody writes any more.
            (followed.reports, followed.courier) = (reports, JoinSet::new());
        }
        if followed.scaler != scaler || is_idle(&mut followed.courier) {
            followed.courier = JoinSet::new(); // the old one ends here, and what it was doing with it
            if let Some(scaler) = scaler.clone() {
                let (reports, events) = (followed.reports.clone(), self.events.clone());
                let office = Office { reports, events, started_unix: self.started_unix };
                followed.courier.spawn(Courier::new(service, scaler, office).run());
            }
            followed.scaler = scaler;
        }
    }
}

/// Whether the set has no task; it has at most one, which ends by a panic alone.
fn is_idle(tasks: &mut JoinSet<()>) -> bool {
    if let Some(Err(error)) = tasks.try_join_next() {
        tracing::error!(%error, "an autoscaling task ended: this is a bug of Portway; it begins anew");
    }
    tasks.is_empty()
}

#[cfg(test)]
mod tests;
