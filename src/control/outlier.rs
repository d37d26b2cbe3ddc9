//! Takes backends out because of their answers, and back in by one real request; ends ramps.
//! It promises that a backend which has failed as often in a row as it may is out within milliseconds, that everything
//! else is looked at once a second, and that each change is said once, in the log and as an event. It sends no probes:
//! only what clients ask for is evidence.

pub mod sentences;
mod sweep;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::balance::WHOLE_SHARE;
use crate::lifecycle::clock;
use crate::runtime::backend::{Backend, BackendId};
use crate::runtime::group::{BackendSet, Group, Trials};
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::standing::{Admits, Reason};
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::{Moment, ServiceName};
use sentences::Sentences;
use sweep::{Because, Decision, Outlook, Phase, Presence, Verdict, View};
use window::{Counts, Window};

/// Between two sweeps that nobody asked for.
const EVERY: Duration = Duration::from_secs(1);
/// Between any two: a service that fails as a whole rings at each fifth failure of each backend.
const AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// A backend on probation waits so long for a request that can be repeated elsewhere; then any may be its trial, because
/// a service that takes nothing but POSTs would never get it back.
const TRIAL_PATIENCE: Duration = Duration::from_secs(10);
/// Ejections that are remembered: from 1 s to more than any `max` in 32 doublings.
const EJECTIONS_MAX: u32 = 32;

/// Watches what the answers of all backends tell.
#[derive(Debug)]
pub struct Outliers {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    sentences: Arc<Sentences>,
    histories: HashMap<BackendId, History>,
    services: HashMap<ServiceName, Known>,
}

/// What is remembered of a backend.
#[derive(Debug)]
struct History {
    backend: Weak<Backend>,
    window: Window,
    ejections: u32,
    calm_since: Moment,
    /// When its ejection ends.
    until: Moment,
    /// When its probation began.
    tried_since: Moment,
    /// Whether anything else kept requests from it when it was last looked at.
    presence: Presence,
}

/// How a service was when it was last looked at.
#[derive(Debug)]
struct Known {
    group: Weak<Group>,
    /// It had no sound backend, and requests went to the others.
    fails_open: bool,
    outlook: Outlook,
}

impl Outliers {
    /// Nothing is known yet.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, events: Arc<Events>) -> Self {
        let (histories, services) = (HashMap::new(), HashMap::new());
        Self { registry, metrics, events, sentences: Arc::default(), histories, services }
    }

    /// Tells people through `sentences` who is out.
    pub fn telling(self, sentences: Arc<Sentences>) -> Self {
        Self { sentences, ..self }
    }

    /// Sweeps for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.registry.decision_wanted() => {}
            }
            self.round(&store.load_full().services, clock::now());
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    }

    /// Looks at every backend of `services` once.
    fn round(&mut self, services: &[Arc<Service>], now: Moment) {
        for service in services {
            self.look_at(service, now);
        }
        self.histories.retain(|_, history| history.backend.strong_count() > 0);
        self.services.retain(|_, known| known.group.strong_count() > 0);
        let histories = &self.histories;
        self.sentences.retain(|id| {
            let backend = histories.get(&id).and_then(|history| history.backend.upgrade());
            backend.is_some_and(|backend| backend.standing.has(Reason::Ejected))
        });
    }

    fn look_at(&mut self, service: &Service, now: Moment) {
        let set = service.members();
        let views: Vec<View> = set.members.iter().map(|member| self.view(&member.backend, now)).collect();
        let before = std::mem::replace(&mut self.known(service).outlook, Outlook::of(&views));
        let decisions = match &service.policy.ejection {
            Some(policy) => sweep::sweep(&views, before, policy, now),
            None => restore_all(&views),
        };
        for Decision { idx, verdict } in decisions {
            self.carry_out(verdict, service, &set.members[idx].backend, now);
        }
        for member in &set.members {
            let standing = &member.backend.standing;
            if standing.has(Reason::Ramping) && standing.share(member.slow_start, now) >= WHOLE_SHARE {
                standing.remove(Reason::Ramping);
            }
        }
        service.group.offer_trials(self.trials(&set, now));
        self.note_openness(service, &set);
    }

    /// What is remembered of `service`. One that was taken out of the configuration and put back is another.
    fn known(&mut self, service: &Service) -> &mut Known {
        let group = &service.group;
        let is_same = |known: &Known| known.group.as_ptr() == Arc::as_ptr(group);
        if !self.services.get(&service.name).is_some_and(is_same) {
            let weak = Arc::downgrade(group);
            let read = move || weak.upgrade().map(|group| f64::from(u8::from(group.members().fails_open())));
            self.metrics.watch(Gauge::FailOpen, &[service.name.as_str()], read);
            let known = Known { group: Arc::downgrade(group), fails_open: false, outlook: Outlook::default() };
            self.services.insert(service.name.clone(), known);
        }
        self.services.get_mut(&service.name).expect("it was put in above, if it was missing")
    }

    fn view(&mut self, backend: &Arc<Backend>, now: Moment) -> View {
        let totals = totals(backend);
        let history = self.histories.entry(backend.id).or_insert_with(|| History::new(backend, now));
        history.window.note(totals, now);
        let standing = &backend.standing;
        let absent = [Reason::Unhealthy, Reason::Leaving, Reason::Drained].iter().any(|reason| standing.has(*reason));
        let presence = if absent { Presence::Absent } else { Presence::Present };
        if std::mem::replace(&mut history.presence, presence) != presence && presence == Presence::Present {
            // Its probes, or a person, say that what was wrong is mended: the rest of its time is for nothing.
            history.until = history.until.min(now);
        }
        let phase = if standing.has(Reason::Ejected) {
            Some(Phase::Ejected { until: history.until })
        } else {
            standing.has(Reason::Probation).then_some(Phase::Probation)
        };
        View {
            phase,
            presence,
            failures_in_a_row: backend.conduct.failures_in_a_row(),
            held_against_it: backend.conduct.failures_held_against_it(),
            window: history.window.sum(),
            trial: backend.conduct.take_trial(),
            ejections: history.ejections,
            calm_since: history.calm_since,
        }
    }

    fn carry_out(&mut self, verdict: Verdict, service: &Service, backend: &Arc<Backend>, now: Moment) {
        let history = self.histories.entry(backend.id).or_insert_with(|| History::new(backend, now));
        let standing = &backend.standing;
        // What keeps requests away is set before what it replaces is taken away: nobody slips in between.
        match verdict {
            Verdict::Eject { because, time } => {
                standing.add(Reason::Ejected);
                standing.remove(Reason::Probation);
                standing.remove(Reason::OnTrial);
                history.until = now.after(time);
                self.sentences.note(backend.id, &because.to_string(), history.until);
                history.ejections = (history.ejections + 1).min(EJECTIONS_MAX);
                service.metrics.ejected(because.cause());
                self.say_ejected(backend, because, time);
            }
            Verdict::Try => {
                history.tried_since = now;
                standing.add(Reason::Probation);
                standing.remove(Reason::Ejected);
                self.say("backend_on_probation", "backend on probation: its next request decides", backend);
            }
            Verdict::Restore => {
                history.window = Window::new(totals(backend), now);
                history.calm_since = now;
                backend.begin_anew(service.policy.slow_start, now);
                for reason in [Reason::Ejected, Reason::Probation, Reason::OnTrial] {
                    standing.remove(reason);
                }
                service.group.queue.notify();
                self.say("backend_restored", "backend takes requests again", backend);
            }
            Verdict::Pardon => {
                history.window = Window::new(totals(backend), now);
                backend.conduct.pardon(now);
            }
            Verdict::Forgive => {
                history.ejections -= 1;
                history.calm_since = now;
            }
        }
    }

    /// Which requests may be somebody's trial.
    fn trials(&self, set: &BackendSet, now: Moment) -> Trials {
        let waiting = set.members.iter().filter(|member| member.backend.standing.admits() == Admits::One);
        let since = waiting.filter_map(|member| self.histories.get(&member.backend.id)).map(|h| h.tried_since).min();
        match since {
            None => Trials::None,
            Some(since) if now.since(since) < TRIAL_PATIENCE => Trials::Repeatable,
            Some(_) => Trials::Any,
        }
    }

    fn note_openness(&mut self, service: &Service, set: &BackendSet) {
        // Addresses that the file names are there whether anything runs at them or not: at zero replicas nobody is ill.
        let intent = service.group.scale.intent();
        let is_at_zero = intent.generation > 0 && intent.desired == 0;
        let fails_open = set.fails_open() && !is_at_zero;
        let before = std::mem::replace(&mut self.known(service).fails_open, fails_open);
        let name = &service.name;
        match (before, fails_open) {
            (false, true) => {
                let message = "no backend is sound: requests go to those that may be ill";
                tracing::warn!(service = %name, "{message}");
                self.events.push("fail_open", message, &[("service", name)]);
            }
            (true, false) => {
                let message = "requests go to sound backends only, or to none";
                tracing::info!(service = %name, "{message}");
                self.events.push("fail_open_ended", message, &[("service", name)]);
            }
            _ => {}
        }
    }

    fn say_ejected(&self, backend: &Backend, because: Because, time: Duration) {
        let (service, name, for_secs) = (&backend.service, &backend.name, time.as_secs_f64());
        tracing::info!(%service, backend = %name, %because, for_secs, "backend ejected");
        let fields: [(&str, &dyn std::fmt::Display); 5] = [
            ("service", service),
            ("backend", name),
            ("cause", &because.cause().word()),
            ("because", &because),
            ("for_secs", &for_secs),
        ];
        self.events.push("backend_ejected", "backend ejected", &fields);
    }

    fn say(&self, kind: &'static str, message: &str, backend: &Backend) {
        tracing::info!(service = %backend.service, backend = %backend.name, "{message}");
        self.events.push(kind, message, &[("service", &backend.service), ("backend", &backend.name)]);
    }
}

impl History {
    fn new(backend: &Arc<Backend>, now: Moment) -> Self {
        Self {
            backend: Arc::downgrade(backend),
            window: Window::new(totals(backend), now),
            ejections: 0,
            calm_since: now,
            until: now,
            tried_since: now,
            presence: Presence::Present,
        }
    }
}

/// What was counted of a backend since the process began. Its good answers are those that its metrics count anyway.
fn totals(backend: &Backend) -> Counts {
    let faults = backend.conduct.faults();
    // A 429 is a complete answer below 500 there.
    let good = backend.metrics.successes().saturating_sub(faults.throttled);
    Counts { good, bad: faults.bad, throttled: faults.throttled }
}

/// Ejection was switched off by a reload.
fn restore_all(views: &[View]) -> Vec<Decision> {
    let out = views.iter().enumerate().filter(|(_, view)| view.phase.is_some());
    out.map(|(idx, _)| Decision { idx, verdict: Verdict::Restore }).collect()
}

#[cfg(test)]
mod tests;
