//! The replicas of one service on one engine: what is known of them, what the file says, and what is under way.
//! Promises that a service which is gone from the file lets its replicas finish, and that nothing is begun twice. It
//! begins steps and takes in their ends; what is due is decided by [`plan`](super::plan).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::act::{self, Hope, Refusal};
use super::birth::Birth;
use super::crew::{Crew, EndOf, News, Seen, Sight, What};
use super::fetched::{Fetched, Made};
use super::plan::{Pace, Phase, Plan, Replica, Rest, Scene, Step, Terms, Vintage, plan};
use super::replacement::{Replacement, Starts, Turn};
use super::tell::{Aim, Death, Teller, note_failure, quoted};
use crate::config::checked::{Endpoint, Pull};
use crate::config::quantity::spell_duration;
use crate::control::docker::census::{Census, Connection};
use crate::control::docker::engine::Engine;
use crate::control::docker::error::EngineError;
use crate::control::docker::facts::{ContainerFacts, LABEL_PROJECT, LABEL_SERVICE};
use crate::control::docker::retiring::Retiring;
use crate::lifecycle::clock;
use crate::runtime::backend::Backend;
use crate::runtime::scale::Intent;
use crate::runtime::service::Service;
use crate::units::Moment;

/// A replica that runs and takes no requests for so long has failed: it is removed, and another one made.
pub const READY_WITHIN: Duration = Duration::from_secs(120);
/// An engine that is away for so long is told to whoever waits: shorter is its restart.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// What replicas of a service may take whose words are not known any more.
const DRAIN_OF_ORPHANS: Duration = Duration::from_secs(30);
/// The same from SIGTERM to SIGKILL.
const STOP_OF_ORPHANS: Duration = Duration::from_secs(10);

/// Why an orphan goes.
const GONE: &str = "its service is gone from the file";

/// What all services share.
#[derive(Debug)]
pub(super) struct Common {
    /// The value of [`LABEL_PROJECT`].
    pub(super) project: Arc<str>,
    pub(super) retiring: Arc<Retiring>,
    pub(super) teller: Teller,
}

/// The replicas of one service on one engine.
#[derive(Debug)]
pub(super) struct Post {
    /// The value of [`LABEL_SERVICE`].
    pub(super) service: Arc<str>,
    engine: Engine,
    pub(super) census: watch::Receiver<Arc<Census>>,
    /// What the file says; `None` for a service that is gone from it.
    order: Option<Order>,
    /// What holds of the service when it is gone.
    terms: Terms,
    stop_timeout: Duration,
    crew: Crew,
    replacement: Replacement,
    /// How many starts of the present template have failed in a row, as far as their last words are known.
    n_failed: u32,
    /// Whether one of them ran all its time without taking requests.
    timed_out: bool,
    image: Image,
    /// What its name means.
    fetched: Fetched,
    away_since: Option<Moment>,
    /// Whether the engine was spoken to when it was last looked at.
    is_open: bool,
}

/// What the file says of a service.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) birth: Arc<Birth>,
    pub(super) service: Arc<Service>,
    /// So many, unless `intents` say.
    pub(super) replicas: u32,
    /// What the autoscaler wants, if there is one.
    pub(super) intents: Option<watch::Receiver<Intent>>,
}

/// What is known of the image of the present template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    /// Nobody has looked.
    Unknown,
    /// It is being fetched, before anybody waits for it.
    Fetching,
    /// A start will tell.
    Looked,
}

/// Where the steps of one service run.
pub(super) struct Tasks<'a> {
    pub(super) set: &'a mut JoinSet<Done>,
    pub(super) owners: &'a mut BTreeMap<Id, (Arc<str>, Endpoint)>,
    pub(super) key: &'a (Arc<str>, Endpoint),
}

impl Tasks<'_> {
    fn spawn(&mut self, step: impl Future<Output = Done> + Send + 'static) {
        let id = self.set.spawn(step).id();
        self.owners.insert(id, self.key.clone());
    }
}

/// A step that came to its end.
#[derive(Debug)]
pub(super) struct Done {
    /// The container; for one that was to be made, its name.
    pub(super) id: Arc<str>,
    pub(super) what: Outcome,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A replica was made, or not.
    Made { result: Result<Made, Refusal>, took: Duration },
    /// The image was looked for.
    Prepared { mark: Arc<str>, result: Result<Option<Arc<str>>, Refusal> },
    /// An ended one was heard.
    Heard { end: EndOf, death: Death },
    /// It is gone, or stays.
    Removed(Result<(), EngineError>),
    /// The same of one that did not get ready.
    GivenUp { words: Vec<String>, result: Result<(), EngineError> },
}

impl Post {
    pub(super) fn new(service: Arc<str>, engine: Engine, census: watch::Receiver<Arc<Census>>) -> Self {
        Self {
            service,
            engine,
            census,
            order: None,
            terms: Terms { drain: DRAIN_OF_ORPHANS, ready_within: READY_WITHIN },
            stop_timeout: STOP_OF_ORPHANS,
            crew: Crew::default(),
            replacement: Replacement::default(),
            n_failed: 0,
            timed_out: false,
            image: Image::Unknown,
            fetched: Fetched::default(),
            away_since: None,
            is_open: false,
        }
    }

    /// Takes in what the file says; `None`: nothing any more.
    pub(super) fn follow(&mut self, order: Option<Order>) {
        let mark = |order: &Option<Order>| order.as_ref().map(|order| order.birth.mark.clone());
        if mark(&self.order) != mark(&order) {
            // What failed was made from something else.
            self.crew.brake = Default::default();
            (self.n_failed, self.timed_out, self.image) = (0, false, Image::Unknown);
            self.fetched = Fetched::default();
            if let Some(order) = order.as_ref().filter(|_| self.order.is_some()) {
                order.service.group.scale.state().failure = None;
            }
        }
        if let Some(order) = &order {
            if order.birth.source.pull == Pull::Always {
                self.image = Image::Unknown;
            } else {
                self.fetched = Fetched::default();
            }
            self.terms.drain = order.service.policy.drain;
            self.stop_timeout = order.birth.source.stop_timeout;
        } else {
            self.replacement = Replacement::default();
        }
        self.order = order;
    }

    pub(super) fn order_mut(&mut self) -> Option<&mut Order> {
        self.order.as_mut()
    }

    /// Whether nothing is left to do here.
    pub(super) fn is_over(&self) -> bool {
        self.order.is_none() && self.crew.is_empty()
    }

    /// Whether the file's present replacement of it has failed so far.
    pub(super) fn has_failed(&self) -> bool {
        self.replacement.has_failed()
    }

    /// Looks, decides and begins what is due; gives when to look again.
    pub(super) fn round(&mut self, common: &Common, tasks: &mut Tasks<'_>, now: Moment) -> Option<Moment> {
        let census = self.census.borrow_and_update().clone();
        let Plan { steps, next } = self.decide(&census, common, now);
        for step in steps {
            self.begin(&step, &census, common, tasks);
        }
        self.prepare(tasks);
        next
    }

    /// Looks and decides.
    fn decide(&mut self, census: &Census, common: &Common, now: Moment) -> Plan {
        if !self.can_see(census, now) {
            return Plan::default();
        }
        let containers = self.own(census, common);
        let members = self.members();
        let seen = self.look(&containers, &members, now);
        let aim = self.aim();
        self.tell(&seen.news, common);
        self.turn(&seen.replicas, aim.as_ref(), common);
        let pace = if self.image == Image::Fetching { Pace::Halted } else { self.crew.brake.pace() };
        let wanted = aim.as_ref().map(|aim| aim.wanted);
        let scene = Scene { replicas: &seen.replicas, wanted, pace, terms: self.terms, now };
        self.show(&seen.replicas);
        plan(&scene)
    }

    /// Whether what the engine shows can be decided by. What was known of one that is away stays, and nothing is begun
    /// that it would have to do; whoever waits for a start is told.
    fn can_see(&mut self, census: &Census, now: Moment) -> bool {
        self.is_open = census.connection == Connection::Open;
        let Connection::Lost(error) = &census.connection else {
            if self.away_since.take().is_some()
                && let Some(order) = &self.order
            {
                order.service.group.scale.state().failure = None;
            }
            return self.is_open;
        };
        let is_news = self.away_since.is_none();
        let n = if now.since(*self.away_since.get_or_insert(now)) < AWAY_MAX { 1 } else { 2 };
        if let Some(order) = &self.order {
            let known = order.service.group.scale.state().failure.as_ref().map(|failure| failure.n_in_a_row);
            if is_news || known != Some(n) {
                note_failure(&order.service, &Refusal { words: error.to_string(), hope: Hope::Some }, n, now);
            }
        }
        false
    }

    /// The containers of the service that are ours.
    fn own<'a>(&self, census: &'a Census, common: &Common) -> Vec<&'a ContainerFacts> {
        let is_own = |container: &&ContainerFacts| {
            let label = |name| container.labels.get(name).map(String::as_str);
            label(LABEL_PROJECT) == Some(&*common.project) && label(LABEL_SERVICE) == Some(&*self.service)
        };
        census.containers.iter().map(|container| &**container).filter(is_own).collect()
    }

    fn members(&self) -> HashMap<Arc<str>, Arc<Backend>> {
        let set = self.order.as_ref().map(|order| order.service.members());
        let members = set.iter().flat_map(|set| &set.members);
        members
            .filter_map(|member| Some((member.backend.instance.as_ref()?.id.clone(), member.backend.clone())))
            .collect()
    }

    fn look(&mut self, containers: &[&ContainerFacts], members: &HashMap<Arc<str>, Arc<Backend>>, now: Moment) -> Seen {
        let (mark, slow_start) = match &self.order {
            Some(order) => (Some(&order.birth.mark), order.service.policy.slow_start),
            None => (None, Duration::ZERO),
        };
        self.fetched.check(containers);
        let image = self.fetched.image();
        self.crew.look(&Sight { containers, members, mark, image, slow_start, now, random: fastrand::u64(..) })
    }

    /// How many there are to be, and why; `None` while nobody has said.
    fn aim(&mut self) -> Option<Aim> {
        let Some(order) = &mut self.order else {
            return Some(Aim { wanted: 0, because: GONE.into() });
        };
        match &mut order.intents {
            Some(intents) => {
                let intent = intents.borrow_and_update();
                (intent.generation > 0).then(|| Aim { wanted: intent.desired, because: intent.reason.clone() })
            }
            None => {
                let pinned = order.service.group.scale.state().pinned;
                let because = if pinned.is_some() { "pinned by hand" } else { "the file says so" };
                Some(Aim { wanted: pinned.unwrap_or(order.replicas), because: because.into() })
            }
        }
    }

    fn tell(&mut self, news: &[News], common: &Common) {
        for News { id, name, what } in news {
            match what {
                What::Adopted => common.teller.adopted(&self.service, name),
                What::Ready(took) => {
                    common.teller.ready(&self.service, name, *took);
                    self.timed_out = false;
                    if let Some(order) = &self.order {
                        order.service.group.scale.state().failure = None;
                    }
                }
                // Told with its last words, which the plan has read.
                What::Ended => tracing::debug!(service = &*self.service, replica = &**name, container = &**id, "ended"),
            }
        }
    }

    /// Tells where the replacement stands.
    fn turn(&mut self, replicas: &[Replica], aim: Option<&Aim>, common: &Common) {
        let (Some(order), Some(aim)) = (&self.order, aim) else { return };
        let n_failed = self.n_failed.min(self.crew.brake.n_in_a_row());
        let starts = Starts { n_failed, timed_out: self.timed_out };
        let image = &order.birth.source.template.image;
        match self.replacement.look(&order.birth.mark, replicas, aim.wanted, starts) {
            Some(Turn::Began) => {
                let is_old = |replica: &&Replica| replica.vintage == Vintage::Old && replica.is_present();
                let n_old = replicas.iter().filter(is_old).count();
                common.teller.replacement_began(&self.service, image, n_old);
            }
            Some(Turn::Finished) => common.teller.replacement_finished(&self.service, image),
            Some(Turn::Failed) => {
                let failure = order.service.group.scale.state().failure.clone();
                let why = failure.map_or_else(|| "its replicas do not get ready".into(), |failure| failure.words);
                common.teller.replacement_failed(&self.service, image, &why);
            }
            None => {}
        }
    }

    /// Fetches the image of a service that has no replica before somebody waits for one, and beside those that run one
    /// that is always fetched: its name may mean another by now.
    fn prepare(&mut self, tasks: &mut Tasks<'_>) {
        let is_wanted = self.aim().is_some_and(|aim| aim.wanted > 0);
        let Some(order) = self.order.as_ref().filter(|_| self.image == Image::Unknown && self.is_open) else { return };
        // The first start does it, if there is one now.
        self.image = if is_wanted { Image::Looked } else { Image::Fetching };
        if is_wanted && !(order.birth.source.pull == Pull::Always && self.crew.has_replicas()) {
            return;
        }
        let (engine, birth) = (self.engine.clone(), order.birth.clone());
        tasks.spawn(async move {
            let (id, mark) = (birth.service.as_str().into(), birth.mark.clone());
            Done { id, what: Outcome::Prepared { mark, result: act::prepare(&engine, &birth).await } }
        });
    }

    fn begin(&mut self, step: &Step, census: &Census, common: &Common, tasks: &mut Tasks<'_>) {
        let now = clock::now();
        let mark = self.order.as_ref().map(|order| order.birth.mark.clone());
        let (engine, patience) = (self.engine.clone(), self.stop_timeout);
        match step {
            Step::Create => _ = self.create(common, tasks, now),
            Step::TakeBack(id) => {
                self.crew.taken_back(id, now);
                common.retiring.forget(id);
                common.teller.taken_back(&self.service, &self.name(id));
            }
            Step::Retire(id, why) => {
                let because = if self.order.is_some() { why.words() } else { GONE };
                common.teller.retired(&self.service, &self.name(id), because, self.crew.in_flight(id));
                self.crew.retired(id, now);
                common.retiring.retire(id.clone());
            }
            Step::Stop(id, rest) => {
                if *rest == Rest::Overdue && self.crew.in_flight(id) > 0 {
                    common.teller.cut(&self.service, &self.name(id), self.crew.in_flight(id));
                }
                self.crew.at_work(id);
                let id = id.clone();
                tasks.spawn(async move {
                    let what = Outcome::Removed(act::end(&engine, &id, patience).await);
                    Done { id, what }
                });
            }
            Step::Report(id) => {
                let end = self.crew.end_of(id, mark.as_ref(), now);
                let exit_code = census.container(id).and_then(|container| container.exit_code);
                let (id, replica) = (id.clone(), self.name(id));
                self.crew.at_work(&id);
                tasks.spawn(async move {
                    let last_words = act::last_words(&engine, &id).await;
                    Done { id, what: Outcome::Heard { end, death: Death { replica, exit_code, last_words } } }
                });
            }
            Step::Remove(id) => {
                self.crew.at_work(id);
                let id = id.clone();
                tasks.spawn(async move {
                    let what = Outcome::Removed(engine.remove(&id).await);
                    Done { id, what }
                });
            }
            Step::GiveUp(id) => {
                self.crew.gave_up(id, mark.as_ref(), now, fastrand::u64(..));
                self.crew.retired(id, now);
                self.crew.at_work(id);
                common.retiring.retire(id.clone());
                let id = id.clone();
                tasks.spawn(async move {
                    let words = act::last_words(&engine, &id).await;
                    let what = Outcome::GivenUp { words, result: act::end(&engine, &id, patience).await };
                    Done { id, what }
                });
            }
        }
    }

    /// Begins to make one; its name.
    fn create(&mut self, common: &Common, tasks: &mut Tasks<'_>, now: Moment) -> Option<Arc<str>> {
        let order = self.order.as_ref()?;
        let (engine, birth, project) = (self.engine.clone(), order.birth.clone(), common.project.clone());
        let name = birth.name(fastrand::u64(..));
        self.crew.making(name.clone(), birth.mark.clone(), now, clock::unix_now().as_secs());
        let id = name.clone();
        tasks.spawn(async move {
            let result = act::make(&engine, &birth, &id, &project).await;
            Done { id, what: Outcome::Made { result, took: clock::now().since(now) } }
        });
        Some(name)
    }

    /// Takes in the end of a step.
    pub(super) fn finish(&mut self, Done { id, what }: Done, common: &Common) {
        let now = clock::now();
        let mark = self.order.as_ref().map(|order| order.birth.mark.clone());
        match what {
            Outcome::Made { result: Ok(made), took } => {
                if mark == self.crew.mark_of_coming(&id) {
                    self.fetched.made(&made);
                }
                self.crew.made(&id, made.id, now);
                let aim = self.aim();
                common.teller.started(&self.service, &id, took, aim.as_ref());
            }
            Outcome::Made { result: Err(refusal), .. } => {
                let n = self.crew.not_made(&id, mark.as_ref(), now, fastrand::u64(..));
                self.failed(&id, &refusal, n.unwrap_or(1), common);
            }
            Outcome::Prepared { mark: of, result } => {
                if mark == Some(of) {
                    self.image = Image::Looked;
                    match result {
                        Ok(image) => image.iter().for_each(|image| self.fetched.note(image)),
                        Err(refusal) => common.teller.image_missing(&self.service, &refusal.words),
                    }
                }
            }
            Outcome::Heard { end, death } => {
                self.crew.work_done(&id);
                self.crew.told(&id);
                match end {
                    EndOf::Leftover => common.teller.leftover(&self.service, &death),
                    EndOf::Steady => common.teller.ended(&self.service, &death),
                    EndOf::Start => {
                        let refusal = Refusal { words: death.words(), hope: Hope::Some };
                        self.failed(&death.replica, &refusal, self.crew.brake.n_in_a_row(), common);
                    }
                }
            }
            Outcome::Removed(result) => self.removed(&id, result, common),
            Outcome::GivenUp { words, result } => {
                let after = spell_duration(self.terms.ready_within);
                let words = format!("took no requests within {after}, {}", quoted(&words));
                let refusal = Refusal { words, hope: Hope::Some };
                self.timed_out = true;
                self.failed(&self.name(&id), &refusal, self.crew.brake.n_in_a_row(), common);
                self.removed(&id, result, common);
            }
        }
    }

    fn removed(&mut self, id: &str, result: Result<(), EngineError>, common: &Common) {
        match result {
            Ok(()) => {
                common.teller.removed(&self.service, &self.name(id));
                self.crew.removed(id);
                common.retiring.forget(id);
            }
            Err(error) => {
                tracing::warn!(service = &*self.service, replica = &*self.name(id), %error, "replica not removed");
                self.crew.work_failed(id, clock::now());
            }
        }
    }

    fn failed(&mut self, replica: &str, refusal: &Refusal, n: u32, common: &Common) {
        self.n_failed = n;
        common.teller.failed(&self.service, replica, &refusal.words, n);
        if let Some(order) = &self.order {
            note_failure(&order.service, refusal, n, clock::now());
        }
    }

    fn name(&self, id: &str) -> Arc<str> {
        self.crew.name(id).unwrap_or_else(|| id.into())
    }

    /// Shows people how many do what.
    fn show(&self, replicas: &[Replica]) {
        let Some(order) = &self.order else { return };
        let count = |fits: fn(&Phase) -> bool| {
            u32::try_from(replicas.iter().filter(|replica| fits(&replica.phase)).count()).unwrap_or(u32::MAX)
        };
        let mut state = order.service.group.scale.state();
        state.ready = count(|phase| matches!(phase, Phase::Ready(_)));
        state.starting = count(|phase| matches!(phase, Phase::Coming | Phase::Starting { .. }));
        state.draining = count(|phase| matches!(phase, Phase::Retiring { .. }));
    }
}

#[cfg(test)]
mod tests;
