//! Whether services are followed as configurations come and go, and decisions come when they are due.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::config::checked::{Config, Target};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::runtime::group::{Stake, Wish};
use crate::runtime::scale::Scale;
use crate::runtime::service::Lease;
use crate::runtime::snapshot::Build;
use crate::runtime::standing::Reason;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::Metrics;

struct Stage {
    store: Arc<Store<()>>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    _tasks: JoinSet<()>,
}

fn policy() -> Autoscale {
    let max = NonZeroU32::new(4).unwrap();
    Autoscale { min: 0, target: Target::InFlight(2.0), ..Autoscale::up_to(max) }
}

const FOUR: &str = "web: { backends: [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\", \"127.0.0.1:4\"] }";

fn config(yaml: &str, autoscale: Option<Autoscale>) -> Config {
    let text = format!("services: {{ {yaml} }}");
    let mut config = load::parse(&text, "test", &ProcessEnvironment).unwrap().config;
    config.services[0].autoscale = autoscale;
    config
}

impl Stage {
    /// Four addresses of which the first `n_ready` answer.
    fn new(autoscale: Autoscale, n_ready: usize) -> Self {
        let metrics = Metrics::new();
        let (registry, events) = (Arc::new(Registry::new(metrics.clone())), Arc::<Events>::default());
        let build = Build { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        let store = Arc::new(Store::new(Snapshot::build(config(FOUR, Some(autoscale)), &build)));
        let mut tasks = JoinSet::new();
        let autoscaler = Autoscaler::new(registry.clone(), events.clone(), Readiness::new());
        tasks.spawn(autoscaler.run(store.clone()));
        let stage = Self { store, registry, metrics, events, _tasks: tasks };
        stage.ready(n_ready);
        stage
    }

    fn reload(&self, yaml: &str, autoscale: Option<Autoscale>) {
        let (registry, metrics) = (&self.registry, &self.metrics);
        let previous = self.store.load_full();
        let build = Build { generation: 2, registry, metrics, stack: &|_| None, previous: Some(&previous) };
        self.store.publish(Snapshot::build(config(yaml, autoscale), &build));
    }

    fn ready(&self, n: usize) {
        for (idx, member) in self.service().members().members.iter().enumerate() {
            match idx < n {
                true => member.backend.standing.remove(Reason::Unhealthy),
                false => member.backend.standing.add(Reason::Unhealthy),
            };
        }
        self.store.note_change();
    }

    fn service(&self) -> Arc<Service> {
        self.store.load().services[0].clone()
    }

    fn open(&self, n: usize) -> Vec<Lease> {
        let wish = Wish { now: clock::now(), key: None, tried: &[], stake: Stake::Once };
        (0..n).map(|_| self.service().acquire(&wish).unwrap()).collect()
    }

    fn intended(&self) -> Option<u32> {
        signals::intended(&self.service().group.scale)
    }

    /// Scaling events since the start: from, to, why.
    fn steps(&self) -> Vec<(String, String, String)> {
        let field = |event: &Event, idx: usize| event.fields[idx].1.clone();
        let steps = self.events.all().into_iter().filter(|event| event.kind.starts_with("scaling_"));
        steps.map(|event| (field(&event, 1), field(&event, 2), field(&event, 3))).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn step(from: &str, to: &str, why: &str) -> (String, String, String) {
    (from.to_owned(), to.to_owned(), why.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_replica_gets_a_decision_within_milliseconds() {
    let stage = Stage::new(policy(), 0);
    pass(5).await;
    assert_eq!(stage.intended(), None, "nobody has asked, and nobody knows yet what runs");
    let (service, began_at) = (stage.service(), Instant::now());
    let mut intents = service.group.scale.intents();
    let held = service.group.scale.hold(9);
    intents.changed().await.unwrap();
    assert!(began_at.elapsed() < Duration::from_millis(5), "{:?}", began_at.elapsed());
    assert_eq!(stage.intended(), Some(1));
    assert_eq!(stage.steps(), [step("0", "1", "1 request held")]);
    assert_eq!(service.group.scale.state().decision.as_ref().map(|decision| decision.to), Some(1));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_before_it_is_known_what_runs() {
    let stage = Stage::new(policy(), 0);
    let service = stage.service();
    let _held = service.group.scale.hold(9);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.ready(3); // their first probes
    pass(2).await;
    assert_eq!(stage.intended(), None, "those that run are enough");
    pass(30).await;
    assert_eq!(stage.intended(), None);
    pass(60).await;
    assert_eq!(stage.intended(), Some(1), "{:?}", stage.steps());
}

#[tokio::test(start_paused = true)]
async fn load_is_followed_up_and_down_and_to_zero() {
    let stage = Stage::new(policy(), 1);
    let leases = stage.open(7);
    pass(2).await;
    assert_eq!(stage.intended(), Some(4), "{:?}", stage.steps());
    stage.ready(4);
    drop(leases);
    pass(150).await;
    assert_eq!(stage.intended(), Some(2));
    stage.ready(2);
    pass(149).await;
    assert_eq!(stage.intended(), Some(1));
    stage.ready(1);
    pass(2).await;
    assert_eq!(stage.intended(), Some(0));
    let steps = stage.steps();
    assert_eq!(steps[0], step("1", "4", "stable 7 / 2 = 4"));
    assert_eq!(steps.last(), Some(&step("1", "0", "idle 5m")));
}

#[tokio::test(start_paused = true)]
async fn a_pin_acts_at_once_and_ends_with_its_release() {
    let stage = Stage::new(policy(), 1);
    pass(2).await;
    let pin = |pinned: Option<u32>| {
        stage.service().group.scale.state().pinned = pinned;
        stage.store.note_change();
    };
    pin(Some(3));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(stage.intended(), Some(3));
    pass(400).await;
    assert_eq!(stage.intended(), Some(3));
    pin(None);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(stage.intended(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_windows_and_the_intent() {
    let stage = Stage::new(policy(), 1);
    let _leases = stage.open(7);
    pass(100).await;
    let generation = stage.service().group.scale.intent().generation;
    stage.reload(&FOUR.replace("{", "{ timeout: 9s,"), Some(policy()));
    stage.reload(&FOUR.replace("{", "{ timeout: 8s,"), Some(Autoscale { idle: Duration::from_secs(9), ..policy() }));
    pass(5).await;
    assert_eq!(stage.service().group.scale.intent().generation, generation);
    stage.reload(FOUR, Some(Autoscale { max: NonZeroU32::new(2).unwrap(), ..policy() }));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(stage.intended(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn autoscaling_that_is_turned_off_decides_no_more_and_forgets_the_pin() {
    let stage = Stage::new(policy(), 1);
    pass(2).await;
    stage.service().group.scale.state().pinned = Some(3);
    stage.store.note_change();
    pass(1).await;
    stage.reload(FOUR, None);
    pass(1).await;
    assert_eq!(stage.service().group.scale.state().pinned, None);
    let service = stage.service();
    let _held = service.group.scale.hold(9);
    pass(1_000).await;
    assert_eq!(stage.intended(), Some(3));
    // And on again.
    stage.reload(FOUR, Some(policy()));
    pass(100).await;
    assert_eq!(stage.intended(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn every_number_that_led_to_a_decision_is_in_its_event() {
    let stage = Stage::new(policy(), 1);
    let _leases = stage.open(7);
    pass(2).await;
    let events = stage.events.all();
    let event = events.iter().find(|event| event.kind == "scaling_up").expect("one");
    let names: Vec<&str> = event.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "service",
            "from",
            "to",
            "because",
            "ready",
            "starting",
            "in_flight",
            "queue",
            "held",
            "rps",
            "latency_ms",
            "stable",
            "panic",
            "target",
            "want_stable",
            "want_panic"
        ]
    );
    assert_eq!(event.fields[6], ("in_flight".to_owned(), "7".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_that_find_no_replica_are_a_handful_of_looks() {
    let stage = Stage::new(policy(), 0);
    pass(5).await;
    let service = stage.service();
    let scale: &Scale = &service.group.scale;
    let held: Vec<_> = (0..1_000).filter_map(|_| scale.hold(1_000)).collect();
    pass(1).await;
    assert_eq!(stage.intended(), Some(4));
    assert_eq!(held.len(), 1_000);
    assert_eq!(stage.steps(), [step("0", "4", "1000 requests held, stable 1000 / 2 = 500, at most 4 (max)")]);
}
