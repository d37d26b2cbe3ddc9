//! Discovery against the fake engine, as facts.
//! Promises real sockets and a real census. It starts no container.

use std::num::NonZeroU16;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::config::checked::{AddressFrom, DockerSource, LabelMatch, Reach};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::control::docker::fake::{FakeEngine, Mood};
use crate::lifecycle::readiness::Readiness;
use crate::runtime::backend::Backend;
use crate::runtime::snapshot::{Build, Snapshot};
use crate::telemetry::metrics::Metrics;

/// Longer than anything here takes, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);
const APP: (&str, &str) = ("app", "web");

/// A process with one service whose backends are the containers of a fake engine labelled `app=web`.
struct House {
    engine: FakeEngine,
    store: Arc<Store<()>>,
    retiring: Arc<Retiring>,
    notes: Arc<Notes>,
    events: Arc<Events>,
    readiness: Readiness,
    changes: watch::Receiver<()>,
    _task: JoinSet<()>,
}

impl House {
    fn begin(engine: FakeEngine) -> Self {
        let yaml = "services: { web: { backends: [\"127.0.0.1:1\"] } }";
        let mut config = load::parse(yaml, "test.yaml", &ProcessEnvironment).expect("a valid file").config;
        config.services[0].source = Source::Docker(DockerSource {
            label: LabelMatch { key: APP.0.to_owned(), value: Some(APP.1.to_owned()) },
            port: NonZeroU16::new(5000).unwrap(),
            reach: Reach { address: AddressFrom::Auto, network: None },
            endpoints: vec![engine.endpoint()],
        });
        let metrics = Metrics::new();
        let registry = Arc::new(Registry::new(metrics.clone()));
        let build =
            Build::<()> { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        let store = Arc::new(Store::new(Snapshot::build(config, &build)));
        let (events, retiring, notes) = (Arc::<Events>::default(), Arc::<Retiring>::default(), Arc::<Notes>::default());
        let readiness = Readiness::new();
        let parts = Parts {
            registry,
            hub: Arc::new(Hub::new(events.clone())),
            retiring: retiring.clone(),
            events: events.clone(),
            notes: notes.clone(),
            project: "test".to_owned(),
        };
        let changes = store.changes();
        let discovery = Discovery::new(parts, readiness.block("containers"));
        let mut task = JoinSet::new();
        task.spawn(discovery.run(store.clone()));
        Self { engine, store, retiring, notes, events, readiness, changes, _task: task }
    }

    fn service(&self) -> Arc<Service> {
        self.store.load().services[0].clone()
    }

    fn members(&self) -> Vec<Arc<Backend>> {
        self.service().members().members.iter().map(|member| member.backend.clone()).collect()
    }

    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> =
            self.members().iter().map(|backend| backend.instance.as_ref().unwrap().id.to_string()).collect();
        ids.sort();
        ids
    }

    async fn until(&mut self, expected: &[&str]) {
        let mut changes = self.changes.clone();
        let reached = async {
            while self.ids() != expected {
                changes.changed().await.expect("the store lives");
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            let (ids, notes) = (self.ids(), self.notes.of(&self.service().name));
            let (missing, notes) =
                (expected.iter().filter(|id| !ids.contains(&(**id).to_owned())), format!("{notes:?}"));
            let missing: Vec<_> = missing.take(5).collect();
            panic!("{} members and not {}: {missing:?}, {:.500}", ids.len(), expected.len(), notes);
        }
    }

    async fn until_noted(&self, container: &str, why: &str) {
        let name = self.service().name.clone();
        let expected = (container.to_owned(), why.to_owned());
        let noted = async {
            while !self.notes.of(&name).containers.contains(&expected) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let noted = timeout(PATIENCE, noted).await;
        assert!(noted.is_ok(), "people are told of {expected:?}: {:?}", self.notes.of(&name));
    }

    fn happened(&self, kind: &str) -> usize {
        self.events.all().iter().filter(|event| event.kind == kind).count()
    }
}

/// Something that listens, as a container does.
async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
    let port = listener.local_addr().expect("it has one").port();
    (listener, port)
}

#[tokio::test]
async fn containers_are_members_from_their_first_answer_to_the_first_word_of_their_end() {
    let engine = FakeEngine::start();
    let ((_a, first), (_b, second)) = (listen().await, listen().await);
    engine.run("a", APP, first);
    engine.run("other", ("app", "shop"), second);
    let mut house = House::begin(engine);
    assert!(!house.readiness.is_ready());
    house.until(&["a"]).await;
    house.engine.run("b", APP, second);
    house.until(&["a", "b"]).await;
    house.engine.tell("a", "kill", &json!({"signal": "1"}));
    house.engine.tell("a", "kill", &json!({"signal": "15"}));
    house.until(&["b"]).await;
    house.engine.tell("b", "pause", &json!({}));
    house.until(&[]).await;
    house.until_noted("name-b", "it is paused").await;
    house.engine.tell("b", "unpause", &json!({}));
    house.until(&["b"]).await;
    let noted = house.notes.of(&house.service().name).containers;
    assert!(noted.iter().all(|(container, _)| container != "name-b"), "{noted:?}");
    house.retiring.retire("b".into());
    house.until(&[]).await;
    house.retiring.forget("b");
    house.until(&["b"]).await;
    assert_eq!((house.happened("container_ready"), house.happened("container_left")), (4, 3));
    assert!(house.readiness.is_ready());
    let state = house.service().group.scale.state().clone();
    assert_eq!((state.ready, state.starting), (1, 0));
}

#[tokio::test]
async fn a_container_that_does_not_listen_yet_is_no_member_however_it_is_published() {
    let engine = FakeEngine::start();
    let (listener, port) = listen().await;
    // As Docker's proxy does for a container that does not listen.
    let closing = tokio::spawn(async move {
        for _ in 0..4 {
            drop(listener.accept().await);
        }
        listener
    });
    engine.run("a", APP, port);
    let mut house = House::begin(engine);
    let listener = timeout(PATIENCE, closing).await.expect("it is asked again and again").unwrap();
    assert_eq!(house.ids(), Vec::<String>::new());
    house.until(&["a"]).await;
    drop(listener);
}

#[tokio::test]
async fn an_engine_that_goes_away_takes_no_member_with_it() {
    let engine = FakeEngine::start();
    let (_listener, port) = listen().await;
    engine.run("a", APP, port);
    let mut house = House::begin(engine);
    house.until(&["a"]).await;
    let before = house.members()[0].id;
    house.engine.be(Mood::Away);
    let name = house.service().name.clone();
    let lost = async {
        while house.notes.of(&name).engines.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, lost).await.expect("people are told");
    assert_eq!(house.ids(), ["a"]);
    house.engine.be(Mood::Fine);
    let (_second, port) = listen().await;
    house.engine.run("b", APP, port);
    house.until(&["a", "b"]).await;
    assert_eq!(house.members().iter().filter(|backend| backend.id == before).count(), 1, "the same as before");
}

#[tokio::test]
async fn an_address_that_another_container_has_by_now_is_another_backend() {
    let engine = FakeEngine::start();
    let (_listener, port) = listen().await;
    engine.run("a", APP, port);
    let mut house = House::begin(engine);
    house.until(&["a"]).await;
    let before = house.members().remove(0);
    // Nothing is heard of the end of the first one.
    house.engine.forget_events(true);
    house.engine.remove("a");
    house.engine.forget_events(false);
    house.engine.run("b", APP, port);
    // Both are there until the list says that one is not: the younger one has the address.
    let replaced = async {
        while house.ids() != ["b"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, replaced).await.expect("the second one takes its place");
    assert!(before.is_retired());
    assert_ne!(house.members()[0].id, before.id);
    assert_eq!(house.members()[0].address, before.address);
}

#[tokio::test]
async fn a_container_whose_port_is_not_published_is_told_of() {
    let engine = FakeEngine::start();
    let (_listener, port) = listen().await;
    engine.run("a", APP, port);
    engine.change("a", |container| container["NetworkSettings"]["Ports"] = json!({"5000/tcp": null}));
    let house = House::begin(engine);
    let told = async {
        while house.happened("container_unreachable") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("an event");
    let notes = house.notes.of(&house.service().name);
    assert_eq!(notes.containers[0].0, "name-a");
    assert!(notes.containers[0].1.contains("is not published"), "{notes:?}");
    assert_eq!(house.ids(), Vec::<String>::new());
}

#[tokio::test]
async fn a_start_waits_two_seconds_for_an_engine_and_no_longer() {
    let engine = FakeEngine::start();
    engine.be(Mood::Frozen);
    let began = tokio::time::Instant::now();
    let house = House::begin(engine);
    let ready = async {
        while !house.readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ready).await.expect("it does not wait for ever");
    assert!(began.elapsed() >= START_PATIENCE, "{:?}", began.elapsed());
}

/// A port that is open on every address of loopback, for as long as the tests run and on a thread that is not measured.
fn listen_everywhere() -> u16 {
    let any = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = any.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        let mut open = std::collections::VecDeque::new();
        for stream in any.incoming().map_while(Result::ok) {
            open.push_back(stream);
            if open.len() > 100 {
                open.pop_front();
            }
        }
    });
    port
}

/// Time that this thread spent on a processor.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("its first number"))
}

#[tokio::test]
async fn five_hundred_containers_and_twenty_events_a_second_are_current_within_a_second() {
    const CONTAINERS: usize = 500;
    const EVENTS: u32 = 100;
    let engine = FakeEngine::start();
    let port = listen_everywhere();
    let publish = |id: usize| {
        move |container: &mut serde_json::Value| {
            let host = format!("127.7.{}.{}", id / 200, id % 200 + 1);
            container["NetworkSettings"]["Ports"] =
                json!({"5000/tcp": [{"HostIp": host, "HostPort": port.to_string()}]});
        }
    };
    for id in 0..CONTAINERS {
        engine.run(&format!("{id:03}"), APP, port);
        engine.change(&format!("{id:03}"), publish(id));
    }
    let mut house = House::begin(engine);
    let mut all: Vec<String> = (0..CONTAINERS).map(|id| format!("{id:03}")).collect();
    let expected: Vec<&str> = all.iter().map(String::as_str).collect();
    house.until(&expected).await;
    let (before, began) = (thread_time(), tokio::time::Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut slowest = Duration::ZERO;
    for n in 0..EVENTS {
        ticks.tick().await;
        let id = format!("{:03}", n * 7 % 350);
        let told = tokio::time::Instant::now();
        match all.iter().position(|known| *known == id) {
            Some(at) => {
                house.engine.tell(&id, "kill", &json!({"signal": "15"}));
                all.remove(at);
            }
            None => {
                house.engine.run(&id, APP, port);
                house.engine.change(&id, publish(id.parse().unwrap()));
                all.push(id);
                all.sort();
            }
        }
        let expected: Vec<&str> = all.iter().map(String::as_str).collect();
        house.until(&expected).await;
        slowest = slowest.max(told.elapsed());
    }
    let share = (thread_time() - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    println!("{CONTAINERS} containers, 20 events/s: {share:.1} % of a core, current within {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}
