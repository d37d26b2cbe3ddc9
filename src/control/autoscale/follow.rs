//! Follows one service: samples, decides, says what is wanted, and why.
//! Promises a decision at once when a request finds no replica, when a person speaks and when members change, and one
//! every second otherwise. It is the one writer of the service's intents. At the level `trace` it logs all that the formula
//! is given and gives, so that a course can be played again (`RUST_LOG=info,portway::control::autoscale=trace`).

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::decide::{self, Decision, Formula, Scene};
use super::signals::{self, Counted, Meter, Signals, Sources};
use crate::config::checked::{Autoscale, Service as Declared};
use crate::lifecycle::clock;
use crate::lifecycle::readiness::Readiness;
use crate::runtime::leaving::Leaving;
use crate::runtime::scale;
use crate::runtime::service::Service;
use crate::telemetry::events::Events;
use crate::units::Moment;

/// Samples per decision: five a second with the usual windows.
const SAMPLES_PER_STEP: u32 = 5;
/// A thousand requests that find no replica ring a thousand times.
const AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// After a start, engines are still being asked what runs, and addresses are being probed. A decision before that would be
/// made about nothing, and could take away what runs.
const SETTLE: Duration = Duration::from_secs(1);
/// An engine that is away does not keep requests waiting for longer.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// What the configuration says about following a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    autoscale: Autoscale,
    counted: Counted,
}

impl Plan {
    pub(super) fn new(declared: &Declared, autoscale: &Autoscale) -> Self {
        Self { autoscale: autoscale.clone(), counted: Counted::of(&declared.source) }
    }
}

/// What was last seen, for whoever tells a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Report {
    /// Replicas that take requests.
    pub(super) ready: u32,
    pub(super) signals: Signals,
}

/// What ties a follower to the others.
#[derive(Debug)]
pub(super) struct Ties {
    pub(super) plans: watch::Receiver<Plan>,
    pub(super) leaving: Arc<Leaving>,
    pub(super) events: Arc<Events>,
    /// Blocked while what ran before is being found.
    pub(super) readiness: Readiness,
    pub(super) reporter: watch::Sender<Report>,
}

/// Follows a service.
#[derive(Debug)]
pub(super) struct Follower {
    service: Arc<Service>,
    ties: Ties,
    plan: Plan,
    formula: Formula,
    meter: Meter,
    began: Moment,
    due_at: Moment,
}

impl Follower {
    pub(super) fn new(service: &Arc<Service>, mut ties: Ties) -> Self {
        let (now, plan) = (clock::now(), ties.plans.borrow_and_update().clone());
        let mut meter = Meter::new(now, sources(service, &ties.leaving));
        meter.set_target(plan.autoscale.target);
        let formula = Formula::new(plan.autoscale.clone());
        Self { service: service.clone(), ties, plan, formula, meter, began: now, due_at: now }
    }

    /// Follows the service for as long as somebody has an interest in it; `changes` tells of configurations, members, pins.
    pub(super) async fn run(mut self, mut changes: watch::Receiver<()>) {
        let group = self.service.group.clone();
        let mut ticks = ticks(&self.plan);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = clock::now();
                    self.sample(now);
                    if now >= self.due_at {
                        self.decide(now);
                    }
                }
                () = group.scale.wanted() => {
                    self.look();
                    tokio::time::sleep(AT_MOST_EVERY).await;
                }
                changed = changes.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => return,
                },
                changed = self.ties.plans.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.replan();
                    ticks = self::ticks(&self.plan);
                    self.look();
                }
            }
        }
    }

    fn replan(&mut self) {
        self.plan = self.ties.plans.borrow_and_update().clone();
        self.formula.set_policy(self.plan.autoscale.clone());
        self.meter.set_target(self.plan.autoscale.target);
    }

    fn look(&mut self) {
        let now = clock::now();
        self.sample(now);
        self.decide(now);
    }

    fn sample(&mut self, now: Moment) {
        let sample = self.meter.sample(now, sources(&self.service, &self.ties.leaving));
        let decide::Sample { in_flight, leaving, arrived, rps, answers } = sample;
        let (answer_ms, n_answers) = answers.unzip();
        let service = self.service.name.as_str();
        tracing::trace!(service, at_ns = now.0, in_flight, leaving, arrived, rps, answer_ms, n_answers, "sampled");
        self.formula.note(now, &sample);
    }

    fn decide(&mut self, now: Moment) {
        self.due_at = now.after(decide::step(&self.plan.autoscale));
        let scene = signals::scene(self.plan.counted, &self.service.group);
        let decision = self.formula.decide(now, &scene);
        let signals = self.meter.signals(now, sources(&self.service, &self.ties.leaving));
        self.ties.reporter.send_replace(Report { ready: scene.ready, signals });
        let is_early = self.is_too_early(now, &scene, &decision);
        let (Scene { ready, starting, waiting, intended, pinned }, desired) = (scene, decision.desired);
        let service = self.service.name.as_str();
        tracing::trace!(
            service,
            at_ns = now.0,
            ready,
            starting,
            waiting,
            intended,
            pinned,
            desired,
            is_early,
            "decided"
        );
        if !is_early {
            self.say(&scene, &decision, &signals);
        }
    }

    /// Nobody has decided yet, and what runs may not have been found. What is missing for sure is asked for even then, and
    /// what an engine says to run may stay, so that it is looked after.
    fn is_too_early(&self, now: Moment, scene: &Scene, decision: &Decision) -> bool {
        if scene.intended.is_some() || scene.pinned.is_some() {
            return false;
        }
        let age = now.since(self.began);
        if age < SETTLE || (age < SETTLE_MAX && !self.ties.readiness.is_ready()) {
            return true;
        }
        let running = scene.ready + scene.starting;
        let is_found = running > 0 && self.plan.counted == Counted::Found;
        self.formula.is_learning(now) && decision.desired <= running && !is_found
    }

    fn say(&self, scene: &Scene, decision: &Decision, signals: &Signals) {
        let (scale, to) = (&self.service.group.scale, decision.desired);
        let because = decision.trace.to_string();
        if !scale.intend(to, &because) {
            return;
        }
        let from = scene.intended.unwrap_or(scene.ready + scene.starting);
        let (kind, message) = match to {
            _ if to > from => ("scaling_up", "scaling up"),
            _ if to < from => ("scaling_down", "scaling down"),
            _ => return tracing::debug!(service = %self.service.name, replicas = to, because, "nothing to scale"),
        };
        let at_unix = clock::unix_now().as_secs();
        scale.state().decision = Some(scale::Decision { at_unix, from, to, because: because.as_str().into() });
        tracing::info!(service = %self.service.name, from, to, because, "{message}");
        let trace = &decision.trace;
        let latency_ms = signals.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        let rps = format!("{:.1}", signals.rps);
        let fields: [(&str, &dyn Display); 16] = [
            ("service", &self.service.name),
            ("from", &from),
            ("to", &to),
            ("because", &because),
            ("ready", &scene.ready),
            ("starting", &scene.starting),
            ("in_flight", &signals.in_flight),
            ("queue", &signals.queue),
            ("held", &signals.held),
            ("rps", &rps),
            ("latency_ms", &latency_ms),
            ("stable", &trace.stable),
            ("panic", &trace.panic),
            ("target", &trace.target),
            ("want_stable", &trace.want_stable),
            ("want_panic", &trace.want_panic),
        ];
        self.ties.events.push(kind, message, &fields);
    }
}

fn sources<'a>(service: &'a Service, leaving: &'a Leaving) -> Sources<'a> {
    Sources { name: &service.name, group: &service.group, metrics: &service.metrics, leaving }
}

fn ticks(plan: &Plan) -> Interval {
    let mut ticks = tokio::time::interval(decide::step(&plan.autoscale) / SAMPLES_PER_STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
