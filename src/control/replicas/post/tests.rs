//! One service from look to look, with an engine whose list and answers are written by hand.

use super::*;
use crate::config::checked::{Config, Source};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::control::docker::engine::Publish;
use crate::control::docker::error::EngineErrorKind;
use crate::control::docker::facts::{ContainerHealth, ContainerState, LABEL_TEMPLATE};
use crate::control::replicas::birth::tests::source;
use crate::control::replicas::brake::PAUSE_MAX;
use crate::runtime::backend::{Instance, Located};
use crate::runtime::membership::Members;
use crate::runtime::registry::Registry;
use crate::runtime::scale::ScaleState;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

const A_SECOND: Duration = Duration::from_secs(1);

/// A service `thumbs` with containers on paper.
struct Stage {
    post: Post,
    common: Common,
    events: Arc<Events>,
    census: watch::Sender<Arc<Census>>,
    containers: Vec<ContainerFacts>,
    registry: Registry,
    config: Config,
    service: Arc<Service>,
    n_made: u32,
    /// What the engine says of the image of new containers.
    image_id: &'static str,
    /// What was fetched for new containers.
    fetched: Option<Arc<str>>,
    /// What is being made, by name.
    coming: Vec<Arc<str>>,
}

impl Stage {
    fn new(replicas: u32) -> Self {
        let text = "services: { thumbs: { backends: [\"127.0.0.1:1\"] } }";
        let mut config = load::parse(text, "portway.yaml", &ProcessEnvironment).expect("it is right").config;
        config.services[0].source = Source::Container(Box::new(source("acme/thumbs:1")));
        let metrics = Metrics::new();
        let service = Service::new(&config.services[0], metrics.service(&config.services[0].name)).into();
        let events = Arc::new(Events::new());
        let census = watch::Sender::new(Arc::default());
        let engine = Engine::open(&Endpoint::Unix("/nowhere/docker.sock".into()));
        let teller = Teller { events: events.clone() };
        let common = Common { project: "home".into(), retiring: Arc::default(), teller };
        let post = Post::new("thumbs".into(), engine, census.subscribe());
        let registry = Registry::new(metrics);
        let mut stage = Self {
            post,
            common,
            events,
            census,
            containers: vec![],
            registry,
            config,
            service,
            n_made: 0,
            image_id: "",
            fetched: None,
            coming: vec![],
        };
        stage.order("acme/thumbs:1", replicas);
        stage.post.image = Image::Looked;
        stage
    }

    fn order(&mut self, image: &str, replicas: u32) {
        let birth = Birth::new(self.service.name.clone(), source(image), Publish::LOOPBACK).into();
        self.post.follow(Some(Order { birth, service: self.service.clone(), replicas, intents: None }));
        self.post.image = Image::Looked;
    }

    fn connect(&self, connection: Connection) {
        let containers = self.containers.iter().cloned().map(Arc::new).collect();
        let mut census = Census::default();
        (census.containers, census.connection) = (containers, connection);
        self.census.send_replace(Arc::new(census));
    }

    /// What is decided now, in words; the engine has not done it yet. What is ours alone is done.
    fn decide(&mut self) -> Vec<String> {
        self.connect(Connection::Open);
        let (mut set, mut owners) = (JoinSet::new(), BTreeMap::new());
        let key = ("thumbs".into(), Endpoint::Default);
        let census = self.census.borrow().clone();
        let plan = self.post.decide(&census, &self.common, clock::now());
        let mut tasks = Tasks { set: &mut set, owners: &mut owners, key: &key };
        let mut words = Vec::new();
        for step in &plan.steps {
            words.push(match step {
                Step::Create => {
                    let name = self.post.create(&self.common, &mut tasks, clock::now()).expect("it is in the file");
                    self.coming.push(name.clone());
                    format!("create {name}")
                }
                _ => {
                    self.post.begin(step, &census, &self.common, &mut tasks);
                    match step {
                        Step::TakeBack(id) => format!("take back {id}"),
                        Step::Retire(id, _) => format!("retire {id}"),
                        Step::Stop(id, _) => format!("stop {id}"),
                        Step::Report(id) => format!("report {id}"),
                        Step::Remove(id) => format!("remove {id}"),
                        Step::GiveUp(id) => format!("give up {id}"),
                        Step::Create => unreachable!(),
                    }
                }
            });
        }
        words
    }

    /// The engine makes what is being made; their ids.
    fn make_all(&mut self) -> Vec<Arc<str>> {
        let names = std::mem::take(&mut self.coming);
        names.into_iter().map(|name| self.make(name)).collect()
    }

    fn make(&mut self, name: Arc<str>) -> Arc<str> {
        self.n_made += 1;
        let id: Arc<str> = format!("c{}", self.n_made).into();
        let mark = self.post.order.as_ref().expect("it is in the file").birth.mark.to_string();
        let ours = [(LABEL_SERVICE, "thumbs"), (LABEL_PROJECT, "home"), (LABEL_TEMPLATE, &mark)];
        self.containers.push(ContainerFacts {
            id: id.clone(),
            name: name.clone(),
            image: String::new(),
            image_id: self.image_id.to_owned(),
            labels: ours.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            state: ContainerState::Running,
            health: ContainerHealth::None,
            networks: BTreeMap::new(),
            published: BTreeMap::new(),
            created_unix: u64::from(self.n_made),
            exit_code: None,
        });
        let made = Made { id: id.clone(), image: self.fetched.clone() };
        self.finish(&name, Outcome::Made { result: Ok(made), took: Duration::ZERO });
        id
    }

    fn refuse_all(&mut self, words: &str, hope: Hope) {
        for name in std::mem::take(&mut self.coming) {
            let refusal = Refusal { words: words.to_owned(), hope };
            self.finish(&name, Outcome::Made { result: Err(refusal), took: Duration::ZERO });
        }
    }

    fn finish(&mut self, id: &str, what: Outcome) {
        self.post.finish(Done { id: id.into(), what }, &self.common);
    }

    /// Discovery lets these take requests, and no others.
    fn members(&mut self, ids: &[&str]) {
        let place = |id: &&str| {
            let port: u16 = id[1..].parse().expect("their ids are numbered");
            let instance = Instance { id: (*id).into(), name: (*id).into() };
            Located { address: ([127, 0, 0, 1], port).into(), instance: Some(instance) }
        };
        self.registry.note_found(&self.service.name, ids.iter().map(place).collect());
        Members::of(&self.config.services[0], &self.registry).install(&self.service, &self.registry);
    }

    /// The process of a container ends, and its words are read.
    fn crash(&mut self, id: &str, last_words: &str) {
        let container = self.containers.iter_mut().find(|container| *container.id == *id).expect("it is there");
        (container.state, container.exit_code) = (ContainerState::Exited, Some(3));
        let replica = container.name.clone();
        assert!(self.decide().contains(&format!("report {id}")));
        let death = Death { replica, exit_code: Some(3), last_words: vec![last_words.to_owned()] };
        let end = self.post.crew.end_of(id, self.post.order.as_ref().map(|order| &order.birth.mark), clock::now());
        self.finish(id, Outcome::Heard { end, death });
    }

    /// Waits until another replica is made.
    async fn until_it_tries(&mut self) {
        for _ in 0..600 {
            self.decide();
            if !self.coming.is_empty() {
                return;
            }
            tokio::time::advance(A_SECOND / 4).await;
        }
        panic!("it does not try again");
    }

    /// The engine has removed it.
    fn gone(&mut self, id: &str) {
        self.finish(id, Outcome::Removed(Ok(())));
        self.containers.retain(|container| *container.id != *id);
    }

    fn state(&self) -> ScaleState {
        self.service.group.scale.state().clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.events.all().into_iter().map(|event| event.kind).collect()
    }

    /// Replicas of the present template, so many, all of them members.
    fn settle(&mut self, n: usize) -> Vec<Arc<str>> {
        self.decide();
        let ids = self.make_all();
        assert_eq!(ids.len(), n);
        self.members(&ids.iter().map(|id| &**id).collect::<Vec<_>>());
        assert_eq!(self.decide(), [""; 0]);
        ids
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_are_made_until_as_many_as_wanted_take_requests() {
    let mut stage = Stage::new(2);
    assert_eq!(stage.decide().len(), 2);
    assert_eq!(stage.decide(), [""; 0]);
    assert_eq!(stage.make_all(), ["c1".into(), "c2".into()]);
    assert_eq!(stage.decide(), [""; 0]);
    assert_eq!((stage.state().starting, stage.state().ready), (2, 0));
    stage.members(&["c1", "c2"]);
    assert_eq!(stage.decide(), [""; 0]);
    assert_eq!((stage.state().starting, stage.state().ready), (0, 2));
    assert_eq!(stage.kinds(), ["replica_started", "replica_started", "replica_ready", "replica_ready"]);
}

#[tokio::test(start_paused = true)]
async fn containers_of_another_project_are_left_alone() {
    let mut stage = Stage::new(1);
    stage.settle(1);
    for (label, value) in [(LABEL_PROJECT, "theirs"), (LABEL_SERVICE, "other")] {
        let mut other = stage.containers[0].clone();
        (other.id, other.name) = (label.into(), label.into());
        other.labels.insert(label.to_owned(), value.to_owned());
        stage.containers.push(other);
    }
    stage.post.follow(None);
    assert_eq!(stage.decide(), ["retire c1"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_to_whoever_waits_and_tried_again_after_a_pause() {
    let mut stage = Stage::new(1);
    stage.decide();
    stage.refuse_all("no such network: back", Hope::Some);
    let failure = stage.state().failure.expect("it has failed");
    assert_eq!((&*failure.words, failure.n_in_a_row), ("no such network: back", 1));
    assert_eq!(stage.decide(), [""; 0]);
    tokio::time::advance(A_SECOND).await;
    assert_eq!(stage.decide().len(), 1);
    // What no further try can mend is hopeless at once.
    stage.refuse_all("no such image", Hope::None);
    assert!(stage.state().failure.is_some_and(|failure| failure.n_in_a_row == 3));
    tokio::time::advance(A_SECOND * 2).await;
    stage.settle(1);
    assert_eq!(stage.state().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_told_with_the_last_words_and_slows_down() {
    let mut stage = Stage::new(1);
    let began = clock::now();
    for n in 1..=9 {
        stage.until_it_tries().await;
        let id = stage.make_all().remove(0);
        stage.crash(&id, "no such table: users");
        let failure = stage.state().failure.expect("it has failed");
        assert_eq!(failure.n_in_a_row, n);
        assert_eq!(&*failure.words, "ended with exit code 3, last words: \"no such table: users\"");
        tokio::time::advance(A_SECOND).await;
        assert!(stage.decide().contains(&format!("remove {id}")));
        stage.gone(&id);
    }
    let waited = clock::now().since(began);
    assert!(waited > A_SECOND * 60, "{waited:?}");
    assert!(waited < PAUSE_MAX * 4, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_template_is_replaced_one_after_the_other_and_said_to_begin_and_to_end() {
    let mut stage = Stage::new(2);
    stage.settle(2);
    stage.order("acme/thumbs:2", 2);
    assert_eq!(stage.decide().len(), 1);
    assert_eq!(stage.make_all(), ["c3".into()]);
    assert_eq!(stage.decide(), [""; 0]);
    stage.members(&["c1", "c2", "c3"]);
    assert_eq!(stage.decide()[0], "retire c2");
    assert!(stage.common.retiring.is_retiring("c2"));
    assert_eq!(stage.make_all(), ["c4".into()]);
    stage.members(&["c1", "c3", "c4"]);
    assert_eq!(stage.decide(), ["retire c1"]);
    stage.members(&["c3", "c4"]);
    stage.decide();
    tokio::time::advance(A_SECOND).await;
    assert_eq!(stage.decide(), ["stop c1", "stop c2"].map(String::from));
    stage.gone("c1");
    stage.gone("c2");
    assert_eq!(stage.decide(), [""; 0]);
    assert!(!stage.common.retiring.is_retiring("c2"));
    let kinds: Vec<_> = stage.kinds().into_iter().filter(|kind| kind.starts_with("replacement")).collect();
    assert_eq!(kinds, ["replacement_began", "replacement_finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_cannot_run_leaves_the_old_replicas_and_fails_the_replacement() {
    let mut stage = Stage::new(2);
    stage.settle(2);
    stage.order("acme/thumbs:broken", 2);
    for _ in 0..3 {
        stage.until_it_tries().await;
        assert!(!stage.post.has_failed());
        let id = stage.make_all().remove(0);
        stage.crash(&id, "boom");
        stage.gone(&id);
        stage.decide();
    }
    assert!(stage.post.has_failed());
    let failed = stage.events.all().into_iter().find(|event| event.kind == "replacement_failed").expect("it is told");
    assert!(failed.fields.iter().any(|(name, value)| name == "why" && value.contains("boom")), "{failed:?}");
    assert_eq!(stage.state().ready, 2);
    assert!(!stage.kinds().contains(&"replica_retired".to_owned()));
    // Back to what runs: nothing is to be replaced any more.
    stage.order("acme/thumbs:1", 2);
    assert_eq!(stage.decide(), [""; 0]);
    assert!(!stage.post.has_failed());
    assert_eq!(stage.state().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_that_never_takes_requests_fails_the_replacement_and_is_removed() {
    let mut stage = Stage::new(1);
    stage.settle(1);
    stage.order("acme/thumbs:deaf", 1);
    stage.decide();
    stage.make_all();
    stage.decide();
    tokio::time::advance(READY_WITHIN).await;
    assert_eq!(stage.decide(), ["give up c2"]);
    stage.finish("c2", Outcome::GivenUp { words: vec!["listening on 127.0.0.1".to_owned()], result: Ok(()) });
    stage.containers.pop();
    stage.decide();
    assert!(stage.post.has_failed());
    let words = stage.state().failure.expect("it has failed").words;
    assert_eq!(&*words, "took no requests within 2m, last words: \"listening on 127.0.0.1\"");
    assert_eq!(stage.state().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_lets_its_replicas_finish_and_leaves_nothing() {
    let mut stage = Stage::new(1);
    stage.settle(1);
    stage.post.follow(None);
    assert_eq!(stage.decide(), ["retire c1"]);
    assert!(!stage.post.is_over());
    stage.members(&[]);
    stage.decide();
    tokio::time::advance(A_SECOND).await;
    assert_eq!(stage.decide(), ["stop c1"]);
    stage.gone("c1");
    stage.decide();
    assert!(stage.post.is_over());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_told_to_whoever_waits_until_it_is_back() {
    let mut stage = Stage::new(1);
    let place = stage.post.engine.place().clone();
    let error = EngineError { place, kind: EngineErrorKind::NoSocket, said: String::new() };
    let mut lost = Census::default();
    lost.connection = Connection::Lost(error);
    let look = |stage: &mut Stage| stage.post.decide(&lost, &stage.common, clock::now());
    assert_eq!(look(&mut stage), Plan::default());
    let failure = stage.state().failure.expect("it is told");
    assert!(failure.words.contains("no such socket") && failure.n_in_a_row == 1, "{failure:?}");
    tokio::time::advance(AWAY_MAX).await;
    assert_eq!(look(&mut stage), Plan::default());
    assert!(stage.state().failure.is_some_and(|failure| failure.n_in_a_row == 2));
    assert_eq!(stage.decide().len(), 1);
    assert_eq!(stage.state().failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_means_another_image_when_it_is_fetched_again_is_a_replacement() {
    let mut stage = Stage::new(2);
    (stage.image_id, stage.fetched) = ("sha256:one", Some("sha256:one".into()));
    stage.settle(2);
    let mark = stage.post.order.as_ref().expect("it is in the file").birth.mark.clone();
    let fetched = |image: &str| Outcome::Prepared { mark: mark.clone(), result: Ok(Some(image.into())) };
    stage.finish("thumbs", fetched("sha256:one"));
    assert_eq!(stage.decide(), [""; 0]);
    stage.finish("thumbs", fetched("sha256:two"));
    assert_eq!(stage.decide().len(), 1, "a new one beside the two");
    (stage.image_id, stage.fetched) = ("sha256:two", Some("sha256:two".into()));
    stage.make_all();
    stage.members(&["c1", "c2", "c3"]);
    assert_eq!(stage.decide()[0], "retire c2");
    stage.make_all();
    stage.members(&["c1", "c3", "c4"]);
    assert_eq!(stage.decide(), ["retire c1"]);
    stage.members(&["c3", "c4"]);
    stage.decide();
    let kinds: Vec<_> = stage.kinds().into_iter().filter(|kind| kind.starts_with("replacement")).collect();
    assert_eq!(kinds, ["replacement_began", "replacement_finished"]);
}

/// Else it would replace its replicas for ever.
#[tokio::test(start_paused = true)]
async fn an_engine_that_calls_the_image_of_a_new_replica_otherwise_is_not_judged_by_it() {
    let mut stage = Stage::new(1);
    (stage.image_id, stage.fetched) = ("sha256:manifest", Some("sha256:index".into()));
    stage.settle(1);
    assert_eq!(stage.decide(), [""; 0]);
    let mark = stage.post.order.as_ref().expect("it is in the file").birth.mark.clone();
    stage.finish("thumbs", Outcome::Prepared { mark, result: Ok(Some("sha256:index".into())) });
    assert_eq!(stage.decide(), [""; 0]);
}
