//! Makes the containers that engines run the members of their services: those that run, are wanted and answer.
//! Promises that a container takes requests only once a probe on the way of requests has passed, that one which is told to
//! end, paused or to be removed takes none from that moment on, and that an engine which is away changes nothing. It starts
//! and stops no container.

pub mod candidates;
mod finding;
pub mod notes;
mod readiness;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::candidates::{Candidates, Job, News};
use self::notes::Notes;
use self::readiness::Answer;
use self::wanted::Wanted;
use crate::config::checked::{self, Config, Endpoint, Source, SwarmSource};
use crate::control::docker::census::{Census, Connection};
use crate::control::docker::own::OwnId;
use crate::control::docker::retiring::Retiring;
use crate::control::docker::tasks::{self, Tasks};
use crate::control::docker::watch::Hub;
use crate::lifecycle::clock;
use crate::lifecycle::readiness::Block;
use crate::runtime::membership::Members;
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::units::{Moment, ServiceName};

/// Containers that are asked at the same time: a host that comes up starts all of them at once.
const ASKED_AT_ONCE: usize = 64;
/// How long a start waits for engines and for the containers that run on them already.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// For what nobody announces: requests that end at containers which left.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Finds the members of the services whose backends are containers, for as long as the process lives.
#[derive(Debug)]
pub struct Discovery {
    parts: Parts,
    changes: Changes,
    own: Option<OwnId>,
    censuses: HashMap<Endpoint, watch::Receiver<Arc<Census>>>,
    /// Of Swarm services, on other nodes than those whose engines are in `censuses`.
    tasks: Tasks,
    candidates: Candidates,
    asked: JoinSet<(Job, Answer)>,
    /// Of the configuration that was looked at last.
    generation: u64,
    /// Keeps the process from being ready while it starts.
    block: Option<(Block, Moment)>,
}

/// What discovery works with.
#[derive(Debug)]
pub struct Parts {
    /// Takes what is found.
    pub registry: Arc<Registry>,
    /// Tells what runs.
    pub hub: Arc<Hub>,
    /// Who is to be removed.
    pub retiring: Arc<Retiring>,
    /// Takes what happens.
    pub events: Arc<Events>,
    /// Takes what people should know of containers that are no members.
    pub notes: Arc<Notes>,
    /// Whose containers ours are: see [`project`](crate::control::docker::project).
    pub project: String,
}

/// What wakes it.
#[derive(Debug)]
struct Changes {
    engines: watch::Receiver<()>,
    retiring: watch::Receiver<()>,
    tasks: watch::Receiver<()>,
}

impl Discovery {
    /// Knows nobody yet. `block` is dropped once what runs already is found, or two seconds have passed.
    pub fn new(parts: Parts, block: Block) -> Self {
        let tasks = Tasks::default();
        let changes =
            Changes { engines: parts.hub.changes(), retiring: parts.retiring.changes(), tasks: tasks.changes() };
        Self {
            parts,
            changes,
            own: OwnId::find(),
            censuses: HashMap::new(),
            tasks,
            candidates: Candidates::default(),
            asked: JoinSet::new(),
            generation: 0,
            block: Some((block, clock::now().after(START_PATIENCE))),
        }
    }

    /// Follows the configuration in effect and the engines that it names for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        let mut configured = store.changes();
        let mut looked = None;
        loop {
            let now = clock::now();
            if store.load().generation != self.generation || looked.is_none_or(|at: Moment| now >= at.after(LOOK_EVERY))
            {
                looked = None;
            }
            if looked.is_none() {
                self.look(&store, now);
                looked = Some(now);
            }
            self.install(&store, now);
            self.ask(&store, now);
            self.unblock(now);
            let next_look = looked.expect("just set").after(LOOK_EVERY);
            let wake = self.candidates.next().filter(|_| self.asked.len() < ASKED_AT_ONCE).into_iter();
            let wake = wake.chain(self.block.as_ref().map(|(_, until)| *until)).chain([next_look]).min();
            tokio::select! {
                changed = configured.changed() => changed.expect("the store is ours"),
                changed = self.changes.engines.changed() => {
                    changed.expect("the hub is ours");
                    looked = None;
                }
                changed = self.changes.retiring.changed() => {
                    changed.expect("who retires is ours");
                    looked = None;
                }
                changed = self.changes.tasks.changed() => {
                    changed.expect("who asks for tasks is ours");
                    looked = None;
                }
                Some(done) = self.asked.join_next() => {
                    // One that panicked is asked anew when it is overdue.
                    if let Ok((job, answer)) = done {
                        self.candidates.answered(&job, &answer, clock::now());
                    }
                }
                () = tokio::time::sleep_until(clock::instant_at(wake.expect("there is a next look"))) => {}
            }
        }
    }

    /// Takes in what runs and what is wanted.
    fn look<S>(&mut self, store: &Store<S>, now: Moment) {
        let snapshot = store.load_full();
        self.generation = snapshot.generation;
        self.watch_engines(&snapshot.config);
        self.tasks.retain(snapshot.config.services.iter().filter_map(swarm_of));
        let censuses: Censuses =
            self.censuses.iter().map(|(endpoint, census)| (endpoint.clone(), census.borrow().clone())).collect();
        let mut services = HashSet::new();
        for declared in &snapshot.config.services {
            let with_tasks = self.with_tasks(declared, &censuses);
            let Some(wanted) = Wanted::of(declared, &self.parts.project) else { continue };
            let censuses = with_tasks.as_ref().unwrap_or(&censuses);
            let found = wanted.among(censuses, self.own.as_ref(), &self.parts.retiring);
            services.insert(declared.name.clone());
            self.candidates.update(&declared.name, found, now);
        }
        self.candidates.retain(&services);
        self.parts.registry.retain_found(&services);
        self.parts.notes.retain(&services);
    }

    /// What is known where the tasks of `declared` are, those of other nodes included; `None` if it has no tasks.
    fn with_tasks(&mut self, declared: &checked::Service, censuses: &Censuses) -> Option<Censuses> {
        let source = swarm_of(declared)?;
        let mut census = Census::clone(censuses.get(&source.endpoint)?);
        tasks::join(&mut census.containers, &self.tasks.of(source));
        Some(HashMap::from([(source.endpoint.clone(), Arc::new(census))]))
    }

    fn watch_engines(&mut self, config: &Config) {
        let needed: HashSet<&Endpoint> = config.services.iter().flat_map(endpoints).collect();
        self.censuses.retain(|endpoint, _| needed.contains(endpoint));
        for endpoint in needed {
            if !self.censuses.contains_key(endpoint) {
                self.censuses.insert(endpoint.clone(), self.parts.hub.census(endpoint));
            }
        }
    }

    /// Puts into effect who is a member and who is not any more.
    fn install<S>(&mut self, store: &Store<S>, now: Moment) {
        let changed = self.candidates.take_changed();
        let snapshot = store.load_full();
        let mut is_news = false;
        for (declared, service) in snapshot.config.services.iter().zip(&snapshot.services) {
            if !self.candidates.knows(&service.name) {
                continue;
            }
            if changed.contains(&service.name) {
                self.parts.registry.note_found(&service.name, self.candidates.ready(&service.name));
                is_news |= Members::of(declared, &self.parts.registry).install(service, &self.parts.registry);
            }
            // Of those that Portway makes, whoever makes them knows more: also those that do not run yet.
            if !matches!(declared.source, Source::Container(_)) {
                self.count(service);
            }
            let engines = endpoints(declared).filter_map(|endpoint| self.censuses.get(endpoint));
            let lost = engines.filter_map(|census| match &census.borrow().connection {
                Connection::Lost(error) => Some(error.to_string()),
                Connection::Opening | Connection::Open => None,
            });
            self.parts.notes.note(&service.name, lost.collect(), self.candidates.notes(&service.name, now));
        }
        self.tell();
        if is_news {
            store.note_change();
        }
    }

    fn count(&self, service: &Service) {
        let (ready, starting) = self.candidates.count(&service.name);
        let draining = self.parts.registry.leaving.busy(&service.name);
        let mut state = service.group.scale.state();
        (state.ready, state.starting, state.draining) = (ready, starting, draining);
    }

    fn ask<S>(&mut self, store: &Store<S>, now: Moment) {
        while self.asked.len() < ASKED_AT_ONCE {
            let Some(job) = self.candidates.start(now) else { return };
            let snapshot = store.load();
            let mut services = snapshot.config.services.iter().zip(&snapshot.services);
            let Some((declared, service)) = services.find(|(declared, _)| declared.name == job.service) else {
                continue;
            };
            let question = readiness::Question::of(declared, service, &job);
            self.asked.spawn(async move {
                let answer = question.ask().await;
                (job, answer)
            });
        }
    }

    /// The process need not wait any longer once every engine has been heard or is away, and every container was asked.
    fn unblock(&mut self, now: Moment) {
        let Some((_, until)) = &self.block else { return };
        let is_heard = |census: &watch::Receiver<Arc<Census>>| census.borrow().connection != Connection::Opening;
        if now >= *until || (self.censuses.values().all(is_heard) && self.candidates.were_all_asked()) {
            self.block = None;
        }
    }

    fn tell(&mut self) {
        for news in self.candidates.take_news() {
            news.tell(&self.parts.events);
        }
    }
}

fn swarm_of(service: &checked::Service) -> Option<&SwarmSource> {
    match &service.source {
        Source::Swarm(source) => Some(source),
        Source::Backends(_) | Source::Docker(_) | Source::Container(_) => None,
    }
}

/// The engines that a service needs.
fn endpoints(service: &checked::Service) -> impl Iterator<Item = &Endpoint> {
    let (one, many) = match &service.source {
        Source::Docker(source) => (None, source.endpoints.as_slice()),
        Source::Container(source) => (Some(&source.endpoint), [].as_slice()),
        Source::Swarm(source) => (Some(&source.endpoint), [].as_slice()),
        Source::Backends(_) => (None, [].as_slice()),
    };
    one.into_iter().chain(many)
}

impl News {
    fn tell(&self, events: &Events) {
        let Self { service, container, what } = self;
        match what {
            candidates::What::Ready { address, after } => {
                let after = checked_spelling(*after);
                tracing::info!(%service, %container, %address, %after, "container ready");
                events.push(
                    "container_ready",
                    "container ready",
                    &[("service", service), ("container", container), ("address", address), ("after", &after)],
                );
            }
            candidates::What::Left { address, why } => {
                tracing::info!(%service, %container, %address, %why, "container left");
                events.push(
                    "container_left",
                    "container left",
                    &[("service", service), ("container", container), ("address", address), ("why", why)],
                );
            }
            candidates::What::Unreachable { why } => {
                tracing::warn!(%service, %container, %why, "container cannot be reached");
                events.push(
                    "container_unreachable",
                    "container cannot be reached",
                    &[("service", service), ("container", container), ("why", why)],
                );
            }
            candidates::What::Slow { since, why } => {
                let since = checked_spelling(*since);
                tracing::warn!(%service, %container, %since, %why, "container not ready yet");
                events.push(
                    "container_slow",
                    "container not ready yet",
                    &[("service", service), ("container", container), ("since", &since), ("why", why)],
                );
            }
        }
    }
}

/// Milliseconds are enough for people.
fn checked_spelling(duration: Duration) -> String {
    crate::config::quantity::spell_duration(Duration::from_millis(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1),
    ))
}

/// What is known of the containers of a service by now, of all its engines.
type Found = HashMap<Arc<str>, finding::Finding>;

/// What is known of the engines by now.
type Censuses = HashMap<Endpoint, Arc<Census>>;

/// Of whom something is known.
type Services = HashSet<ServiceName>;

#[cfg(test)]
mod tests;
