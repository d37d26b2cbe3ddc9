//! Who is probed, who rests, and what their probes have said: the state of the prober, without its sockets and its clock.
//! Promises that it is kept by backend, so that neither a reload nor a new DNS answer resets it and two services at one
//! address share nothing. It sends no probe: [`Prober`](super::Prober) asks it what is due and tells it what came back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::findings::Findings;
use super::probe::{self, Miss, Outcome};
use super::target::Target;
use super::verdict::{Checkup, Turn, Verdict, pause};
use crate::config::checked;
use crate::runtime::backend::{Backend, BackendId};
use crate::runtime::service::Service;
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::{Moment, ServiceName};

/// How long a backend that asked to be left alone is, if no probe can tell that it is back: a container's restart.
pub const REST: Duration = Duration::from_secs(10);

/// All backends that are looked after.
#[derive(Debug)]
pub struct Roster {
    metrics: Arc<Metrics>,
    findings: Arc<Findings>,
    /// By service; a service that a reload did not touch keeps its own.
    targets: HashMap<ServiceName, Arc<Target>>,
    subjects: HashMap<BackendId, Subject>,
    /// Those of the subjects, in order.
    due: BTreeSet<(Moment, BackendId)>,
    resting: HashMap<BackendId, Resting>,
    news: Vec<News>,
    n_updates: u64,
}

/// A backend that is probed.
#[derive(Debug)]
struct Subject {
    backend: Arc<Shown>,
    target: Arc<Target>,
    verdict: Verdict,
    due: Moment,
    /// Whose result counts: an older one answers a question that nobody asks any more.
    ticket: u64,
    began: Moment,
    /// Probes passed since it asked to be left alone, while it does.
    passed_since_leaving: Option<u32>,
    seen_in: u64,
}

/// A backend whose health is a series of the metrics for as long as it is probed.
#[derive(Debug)]
struct Shown(Arc<Backend>);

/// A backend that asked to be left alone and that nobody probes.
#[derive(Debug)]
struct Resting {
    service: Arc<Service>,
    backend: Arc<Backend>,
    until: Moment,
}

/// A probe to be sent.
#[derive(Debug)]
pub struct Job {
    /// What to ask.
    pub target: Arc<Target>,
    /// Whom.
    pub backend: Arc<Backend>,
    /// To be handed back with the result.
    pub ticket: u64,
}

/// Something that an operator wants to know, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose backend.
    pub service: ServiceName,
    /// Its address.
    pub backend: Arc<str>,
    /// What became of it.
    pub what: What,
    /// What the probe found, or what it did.
    pub why: String,
}

/// What became of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its probes pass again, or for the first time.
    Healthy,
    /// Its probes fail.
    Unhealthy,
    /// It asked to be left alone.
    Leaving,
    /// It takes requests again after that.
    Returned,
}

impl What {
    /// The `kind` of its event.
    pub const fn kind(self) -> &'static str {
        match self {
            What::Healthy => "backend_healthy",
            What::Unhealthy => "backend_unhealthy",
            What::Leaving => "backend_leaving",
            What::Returned => "backend_returned",
        }
    }

    /// The same for people.
    pub const fn message(self) -> &'static str {
        match self {
            What::Healthy => "backend healthy",
            What::Unhealthy => "backend unhealthy",
            What::Leaving => "backend leaving",
            What::Returned => "backend returned",
        }
    }
}

impl Roster {
    /// Nobody yet. Counts in `metrics`, and leaves what was found in `findings`.
    pub fn new(metrics: Arc<Metrics>, findings: Arc<Findings>) -> Self {
        Self {
            metrics,
            findings,
            targets: HashMap::new(),
            subjects: HashMap::new(),
            due: BTreeSet::new(),
            resting: HashMap::new(),
            news: Vec::new(),
            n_updates: 0,
        }
    }

    /// Takes in which services and members there are now. New ones are due at once, known ones when they were.
    pub fn update<'a>(
        &mut self,
        services: impl Iterator<Item = (&'a checked::Service, &'a Arc<Service>)>,
        now: Moment,
    ) {
        self.n_updates += 1;
        let mut targets = HashMap::new();
        for (declared, service) in services {
            let target = self.target(declared, service);
            for member in &service.members().members {
                match &target {
                    Some(target) => self.attend(target, &member.backend, now),
                    None => self.leave_alone(service, &member.backend, now),
                }
            }
            targets.extend(target.map(|target| (service.name.clone(), target)));
        }
        self.targets = targets;
        self.forget_absent();
    }

    fn target(&self, declared: &checked::Service, service: &Arc<Service>) -> Option<Arc<Target>> {
        let known = self.targets.get(&service.name).filter(|known| Arc::ptr_eq(&known.service, service));
        known.cloned().or_else(|| {
            let health = declared.health.clone()?;
            Some(Arc::new(Target { service: service.clone(), health }))
        })
    }

    fn attend(&mut self, target: &Arc<Target>, backend: &Arc<Backend>, now: Moment) {
        self.resting.remove(&backend.id);
        let seen_in = self.n_updates;
        let Some(subject) = self.subjects.get_mut(&backend.id) else {
            let shown = Arc::new(Shown(backend.clone()));
            self.show(&shown);
            self.due.insert((now, backend.id));
            let verdict = if backend.standing.has(Reason::Unhealthy) {
                Verdict::presumed_unhealthy()
            } else {
                Verdict::presumed_healthy()
            };
            let (target, ticket, passed_since_leaving) = (target.clone(), 0, None);
            let subject = Subject {
                backend: shown,
                target,
                verdict,
                due: now,
                ticket,
                began: now,
                passed_since_leaving,
                seen_in,
            };
            self.subjects.insert(backend.id, subject);
            self.notice_leaving(backend);
            return;
        };
        subject.seen_in = seen_in;
        if !Arc::ptr_eq(&subject.target, target) {
            let asks_anew = subject.target.health != target.health;
            subject.target = target.clone();
            if asks_anew {
                subject.verdict.ask_anew();
                subject.ticket += 1;
                self.due.remove(&(subject.due, backend.id));
                subject.due = now;
                self.due.insert((now, backend.id));
            }
        }
        self.notice_leaving(backend);
    }

    fn show(&self, shown: &Arc<Shown>) {
        let weak = Arc::downgrade(shown);
        let read = move || weak.upgrade().map(|shown| f64::from(u8::from(!shown.0.standing.has(Reason::Unhealthy))));
        self.metrics.watch(Gauge::BackendHealthy, &[shown.0.service.as_str(), &shown.0.name], read);
    }

    fn notice_leaving(&mut self, backend: &Backend) {
        if !backend.standing.has(Reason::Leaving) {
            return;
        }
        let Some(subject) = self.subjects.get_mut(&backend.id) else { return };
        if subject.passed_since_leaving.is_none() {
            subject.passed_since_leaving = Some(0);
            self.news.push(news(backend, What::Leaving, "it answered 503 with x-portway-drain".to_owned()));
        }
    }

    /// A member of a service without probes: nobody would ever take back what a probe said before.
    fn leave_alone(&mut self, service: &Arc<Service>, backend: &Arc<Backend>, now: Moment) {
        if backend.standing.is_plain() {
            return;
        }
        service.readmit(backend, Reason::Unhealthy, now);
        if backend.standing.has(Reason::Leaving) && !self.resting.contains_key(&backend.id) {
            let until = now.after(REST);
            self.resting.insert(backend.id, Resting { service: service.clone(), backend: backend.clone(), until });
            self.news.push(news(backend, What::Leaving, "it answered 503 with x-portway-drain".to_owned()));
        }
    }

    fn forget_absent(&mut self) {
        let (due, findings, present) = (&mut self.due, &self.findings, self.n_updates);
        self.subjects.retain(|id, subject| {
            let stays = subject.seen_in == present;
            if !stays {
                due.remove(&(subject.due, *id));
                findings.forget(*id);
            }
            stays
        });
        self.resting.retain(|_, resting| !resting.backend.is_retired());
    }

    /// The next probe that is due by `now`, if there is one.
    pub fn start(&mut self, now: Moment) -> Option<Job> {
        let &(due, id) = self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.remove(&(due, id));
        let subject = self.subjects.get_mut(&id).expect("who is due is a subject");
        subject.ticket += 1;
        subject.began = now;
        // A probe that never comes back, because it met a bug of ours, is sent anew.
        let Target { health, .. } = &*subject.target;
        subject.due = now.after(health.timeout).after(health.every);
        self.due.insert((subject.due, id));
        Some(Job { target: subject.target.clone(), backend: subject.backend.0.clone(), ticket: subject.ticket })
    }

    /// Takes in what a probe found. `random` spreads the next one.
    pub fn finish(&mut self, job: &Job, outcome: Outcome, now: Moment, random: u64) {
        job.target.service.metrics.probed(probe::result_word(&outcome));
        let id = job.backend.id;
        let Some(subject) = self.subjects.get_mut(&id).filter(|subject| subject.ticket == job.ticket) else { return };
        self.findings.note(id, &subject.target, outcome);
        if outcome == Err(Miss::Leaving) {
            job.backend.standing.add(Reason::Leaving);
        }
        subject.judge(outcome, now, &mut self.news);
        self.due.remove(&(subject.due, id));
        subject.due = subject.began.after(pause(&subject.target.health, &subject.verdict, random)).max(now);
        self.due.insert((subject.due, id));
        self.notice_leaving(&job.backend);
    }

    /// Takes back those who have rested.
    pub fn wake(&mut self, now: Moment) {
        let news_of = &mut self.news;
        self.resting.retain(|_, resting| {
            if now < resting.until {
                return true;
            }
            if resting.service.readmit(&resting.backend, Reason::Leaving, now) {
                news_of.push(news(&resting.backend, What::Returned, format!("{} s have passed", REST.as_secs())));
            }
            false
        });
    }

    /// When there is something to do, if nothing else happens.
    pub fn next(&self) -> Option<Moment> {
        let rested = self.resting.values().map(|resting| resting.until).min();
        self.due.first().map(|(due, _)| *due).into_iter().chain(rested).min()
    }

    /// What happened since it was last asked.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

impl Subject {
    /// Makes of a result what follows from it for the standing.
    fn judge(&mut self, outcome: Outcome, now: Moment, all_news: &mut Vec<News>) {
        let Self { backend, target, verdict, passed_since_leaving, .. } = self;
        let backend = &backend.0;
        let checkup = match outcome {
            Ok(_) => Checkup::Passed,
            Err(Miss::Ours) => return,
            Err(_) => Checkup::Failed,
        };
        let why = || probe::describe(target, &outcome);
        match verdict.record(checkup, &target.health) {
            Some(Turn::Unhealthy) => {
                backend.standing.add(Reason::Unhealthy);
                all_news.push(news(backend, What::Unhealthy, why()));
            }
            Some(Turn::Healthy) => {
                target.service.readmit(backend, Reason::Unhealthy, now);
                all_news.push(news(backend, What::Healthy, why()));
            }
            None => {}
        }
        let Some(n_passed) = *passed_since_leaving else { return };
        let n_passed = if checkup == Checkup::Passed { n_passed + 1 } else { 0 };
        *passed_since_leaving = Some(n_passed).filter(|n| *n < target.health.healthy_after.get());
        if passed_since_leaving.is_none() && target.service.readmit(backend, Reason::Leaving, now) {
            all_news.push(news(backend, What::Returned, why()));
        }
    }
}

fn news(backend: &Backend, what: What, why: String) -> News {
    News { service: backend.service.clone(), backend: backend.name.clone(), what, why }
}

#[cfg(test)]
mod tests;
