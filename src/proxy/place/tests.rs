//! Who waits, for what, how long, and in which order; the clock is tokio's, paused.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::checked::{
    self, AddressFrom, Autoscale, Config, DockerSource, Endpoint, Hold as HoldPolicy, LabelMatch, Reach, Source,
    Target, WaitingPage,
};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::runtime::backend::{Instance, Located};
use crate::runtime::group::Stake;
use crate::runtime::membership::Members;
use crate::runtime::registry::Registry;
use crate::runtime::scale::StartFailure;
use crate::runtime::snapshot::{Build, Snapshot};
use crate::telemetry::metrics::Metrics;
use crate::units::HostPort;

const HOLD: HoldPolicy = HoldPolicy { timeout: Duration::from_secs(60), max: 3, page: WaitingPage::Off };
const A_SECOND: Duration = Duration::from_secs(1);

/// A service that has no container yet.
struct Scene {
    metrics: Arc<Metrics>,
    registry: Registry,
    snapshot: Snapshot<()>,
}

impl Scene {
    fn new() -> Self {
        Self::with(config("max_in_flight: 1, timeout: 300s", HOLD))
    }

    fn with(config: Config) -> Self {
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let build = Build { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        let snapshot = Snapshot::build(config, &build);
        Self { metrics, registry, snapshot }
    }

    /// A reload; what was there before goes.
    fn reload(&mut self, config: Config) {
        let previous = Some(&self.snapshot);
        let (registry, metrics) = (&self.registry, &*self.metrics);
        let build = Build { generation: 2, registry, metrics, stack: &|_| None, previous };
        self.snapshot = Snapshot::build(config, &build);
    }

    fn service(&self) -> &Arc<Service> {
        &self.snapshot.services[0]
    }

    /// Discovery finds containers at these ports, and no others.
    fn find(&self, ports: &[u16]) {
        let located = |port: &u16| Located {
            address: ([127, 0, 0, 1], *port).into(),
            instance: Some(Instance { id: format!("c{port}").into(), name: "thumbs-1".into() }),
        };
        let service = self.service();
        self.registry.note_found(&service.name, ports.iter().map(located).collect());
        Members::of(&self.snapshot.config.services[0], &self.registry).install(service, &self.registry);
    }

    /// A request that finds no place at once, or the place.
    fn ask(&self) -> JoinHandle<(Arc<Service>, Turn)> {
        self.ask_within(Duration::from_secs(300))
    }

    fn ask_within(&self, timeout: Duration) -> JoinHandle<(Arc<Service>, Turn)> {
        let service = self.service().clone();
        let deadline = clock::now().after(timeout);
        tokio::spawn(async move {
            let wish = Wish { now: clock::now(), key: None, tried: &[], stake: Stake::Repeatable };
            let turn = match take_now(&service, &wish) {
                Ok(lease) => Turn { lease: Ok(lease), held: None },
                Err(because) => wait_in_line(&service, &wish, Wait { because, deadline }).await,
            };
            (service, turn)
        })
    }

    fn fail(&self, n_in_a_row: u32) {
        let failure = StartFailure { at: clock::now(), n_in_a_row, words: "exit code 3: no such table".into() };
        self.service().group.scale.state().failure = Some(failure);
        self.service().group.queue.notify();
    }
}

fn config(keys: &str, hold: HoldPolicy) -> Config {
    let yaml = format!("services: {{ thumbs: {{ backends: [\"127.0.0.1:1\"], {keys} }} }}");
    let mut config = load::parse(&yaml, "test.yaml", &ProcessEnvironment).expect("a valid file").config;
    config.services[0].source = Source::Docker(DockerSource {
        label: LabelMatch { key: "app".into(), value: Some("thumbs".into()) },
        port: NonZeroU16::new(5000).unwrap(),
        reach: Reach { address: AddressFrom::Auto, network: None },
        endpoints: vec![Endpoint::Default],
    });
    config.services[0].autoscale = Some(autoscale(hold));
    config
}

fn autoscale(hold: HoldPolicy) -> Autoscale {
    Autoscale {
        min: 0,
        max: NonZeroU32::new(10).unwrap(),
        target: Target::InFlight(1.0),
        stable: Duration::from_secs(60),
        panic: Duration::from_secs(6),
        up_at_once: 1000.0,
        down_at_once: 2.0,
        idle: Duration::from_secs(300),
        hold,
        hook: None,
    }
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// What a request that waits in vain is told.
async fn told(asking: JoinHandle<(Arc<Service>, Turn)>) -> FailureKind {
    asking.await.unwrap().1.lease.expect_err("there is no place").kind
}

fn is_done(asking: &JoinHandle<(Arc<Service>, Turn)>) -> bool {
    asking.is_finished()
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_replica_are_held_and_released_in_their_order_as_far_as_there_is_room() {
    let scene = Scene::with(config("max_in_flight: 2, timeout: 300s", HoldPolicy { max: 9, ..HOLD }));
    let mut asking = Vec::new();
    for n in 1..=5 {
        asking.push(scene.ask());
        settle().await;
        assert_eq!((scene.service().group.scale.held(), scene.service().group.queue.len()), (n, n));
    }
    scene.service().group.scale.wanted().await;
    tokio::time::advance(10 * A_SECOND).await;
    scene.find(&[5000]);
    settle().await;
    assert_eq!(asking.iter().map(is_done).collect::<Vec<_>>(), [true, true, false, false, false]);
    // The patience of the queue is one second; that of whoever was held is not.
    tokio::time::advance(5 * A_SECOND).await;
    settle().await;
    assert!(!asking[2].is_finished());
    let mut turns = Vec::new();
    for idx in 0..5 {
        assert!(asking[idx].is_finished(), "{idx}");
        let (_, turn) = (&mut asking[idx]).await.unwrap();
        assert!(turn.held >= Some(10 * A_SECOND));
        turns.push(turn);
        if idx > 0 {
            turns.remove(0); // a place is free: for the next, and for nobody else
            settle().await;
        }
        let n_done = asking.iter().filter(|asking| asking.is_finished()).count();
        assert_eq!(n_done, (idx + 2).min(5));
    }
    assert_eq!(scene.service().group.scale.held(), 0);
    assert!(scene.service().group.queue.is_empty());
    let cold_starts = scene.service().metrics.cold_starts();
    assert_eq!((cold_starts.count(), cold_starts.sum()), (1, 10 * A_SECOND));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_held_than_may_and_whoever_goes_makes_room() {
    let scene = Scene::new();
    let held: Vec<_> = (0..3).map(|_| scene.ask()).collect();
    settle().await;
    assert_eq!(told(scene.ask()).await, FailureKind::HoldFull);
    held[1].abort();
    settle().await;
    assert_eq!((scene.service().group.scale.held(), scene.service().group.queue.len()), (2, 2));
    let last = scene.ask();
    settle().await;
    assert_eq!(scene.service().group.scale.held(), 3);
    assert!(!last.is_finished());
}

#[tokio::test(start_paused = true)]
async fn patience_ends_with_the_hold_or_the_deadline_and_says_what_used_it_up() {
    let scene = Scene::new();
    for (timeout, secs) in [(Duration::from_secs(300), 60), (Duration::from_secs(10), 10)] {
        let began = clock::now();
        assert_eq!(told(scene.ask_within(timeout)).await, FailureKind::ColdStartTimeout);
        assert_eq!(clock::now().since(began).as_secs(), secs);
    }
    assert_eq!(scene.service().group.scale.state().cold_since, None);
}

#[tokio::test(start_paused = true)]
async fn one_failed_start_is_waited_out_and_the_second_is_told_to_all() {
    let scene = Scene::new();
    let asking = [scene.ask(), scene.ask()];
    tokio::time::advance(A_SECOND).await;
    scene.fail(1);
    settle().await;
    assert_eq!(asking.iter().filter(|asking| asking.is_finished()).count(), 0);
    tokio::time::advance(A_SECOND).await;
    scene.fail(2);
    for asking in asking {
        assert_eq!(told(asking).await, FailureKind::ColdStartFailed);
    }
    assert_eq!(told(scene.ask()).await, FailureKind::ColdStartFailed, "it is told at once");
    tokio::time::advance(HOLD.timeout).await;
    let asking = scene.ask();
    settle().await;
    assert!(!asking.is_finished(), "what failed a minute ago may be mended");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_failed_once_and_never_succeeded_is_a_failed_start() {
    let scene = Scene::new();
    let asking = scene.ask();
    tokio::time::advance(A_SECOND).await;
    scene.fail(1);
    assert_eq!(told(asking).await, FailureKind::ColdStartFailed);
}

/// sablier-traefik-plugin #24: what could not be started was answered with 200.
#[tokio::test(start_paused = true)]
async fn trap_a_failed_start_is_a_5xx_and_never_a_200() {
    for n_in_a_row in [1, 2, 10] {
        let scene = Scene::new();
        let asking = scene.ask();
        settle().await;
        scene.fail(n_in_a_row);
        let kind = told(asking).await;
        assert!(kind.status().is_server_error(), "{kind:?} after {n_in_a_row}");
    }
    let scene = Scene::new(); // nobody says that it failed, and nothing comes
    let kind = told(scene.ask()).await;
    assert!(kind.status().is_server_error(), "{kind:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_a_person_has_pinned_to_zero_holds_nobody() {
    let scene = Scene::new();
    let asking = scene.ask();
    settle().await;
    scene.service().group.scale.state().pinned = Some(0);
    assert_eq!(told(asking).await, FailureKind::NoHealthyBackend);
    assert_eq!(told(scene.ask()).await, FailureKind::NoHealthyBackend);
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_number_is_nobodys_business_holds_nobody() {
    let mut config = config("max_in_flight: 1", HOLD);
    config.services[0].autoscale = None;
    let scene = Scene::with(config);
    assert_eq!(told(scene.ask()).await, FailureKind::NoHealthyBackend);
}

/// sablier-traefik-plugin #43, caddy #4442: it went to where the container had been when the request came.
#[tokio::test(start_paused = true)]
async fn trap_a_held_request_goes_to_the_address_that_was_found_after_it_came() {
    let scene = Scene::new();
    scene.find(&[5000]);
    scene.find(&[]);
    let asking = scene.ask();
    settle().await;
    assert!(!is_done(&asking));
    scene.find(&[5001]);
    let lease = asking.await.unwrap().1.lease.expect("there is a container");
    assert_eq!(lease.backend.address.port(), 5001);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_held_goes_on_under_the_configuration_of_that_moment() {
    let mut scene = Scene::new();
    let asking = scene.ask();
    settle().await;
    scene.reload(config("max_in_flight: 1, timeout: 7s, retries: 5", HOLD));
    scene.find(&[5000]);
    let (before, turn) = asking.await.unwrap();
    let lease = turn.lease.expect("there is a container");
    assert!(!Arc::ptr_eq(&before, &lease.service) && Arc::ptr_eq(&lease.service, scene.service()));
    assert_eq!((lease.service.policy.timeout, lease.service.policy.retries.attempts), (7 * A_SECOND, 5));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_taken_out_meanwhile_is_told_at_once() {
    let scene = Scene::new();
    let asking = [scene.ask(), scene.ask()];
    settle().await;
    scene.service().group.disown();
    let began = clock::now();
    for asking in asking {
        assert_eq!(told(asking).await, FailureKind::ServiceRemoved);
    }
    assert_eq!(clock::now(), began);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_others_are_held_stands_behind_them_with_their_patience_but_not_for_ever() {
    let scene = Scene::new();
    let first = scene.ask();
    let second = scene.ask();
    settle().await;
    scene.find(&[5000]);
    let (_, first) = first.await.unwrap();
    assert!(first.lease.is_ok());
    // The replica is busy, somebody is held: a newcomer is held, too.
    let third = scene.ask();
    settle().await;
    assert_eq!((scene.service().group.scale.held(), scene.service().metrics.cold_starts().count()), (2, 1));
    tokio::time::advance(5 * A_SECOND).await;
    settle().await;
    assert!(!second.is_finished() && !third.is_finished());
    // Long after the start the service is overloaded, and not cold: the queue has its say.
    tokio::time::advance(54 * A_SECOND).await;
    let late = scene.ask();
    settle().await;
    assert_eq!(scene.service().group.scale.held(), 3);
    tokio::time::advance(A_SECOND).await;
    assert_eq!(told(second).await, FailureKind::QueueTimeout, "there was a replica");
    assert_eq!(told(third).await, FailureKind::QueueTimeout);
    let latest = scene.ask();
    settle().await;
    assert_eq!(scene.service().group.scale.held(), 1);
    assert_eq!(told(latest).await, FailureKind::QueueTimeout);
    assert!(!late.is_finished());
}

#[tokio::test(start_paused = true)]
async fn whose_service_loses_its_last_replica_while_it_stands_in_line_is_held_where_it_stands() {
    let scene = Scene::new();
    scene.find(&[5000]);
    let (_, first) = scene.ask().await.unwrap();
    let second = scene.ask();
    settle().await;
    assert_eq!(scene.service().group.scale.held(), 0);
    scene.find(&[]);
    drop(first);
    let third = scene.ask();
    settle().await;
    assert_eq!(scene.service().group.scale.held(), 2);
    tokio::time::advance(10 * A_SECOND).await;
    scene.find(&[5001]);
    let (_, second) = second.await.unwrap();
    assert_eq!(second.lease.as_ref().expect("the new container").backend.address.port(), 5001);
    settle().await;
    assert!(!third.is_finished(), "it came later");
}

/// The first requests of a burst fill it before any of them is refused.
#[tokio::test(start_paused = true)]
async fn who_finds_a_declared_backend_full_is_held_if_nothing_is_to_run() {
    let mut config = config("max_in_flight: 1, timeout: 300s, queue: { size: 1 }", HOLD);
    let address = HostPort { host: "127.0.0.1".into(), port: 1 };
    let weight = crate::units::Weight::ONE;
    config.services[0].source = Source::Backends(vec![checked::BackendAddress { address, weight, zone: None }]);
    let scene = Scene::with(config);
    scene.service().group.scale.intend(0, "idle");
    let (_, tries) = scene.ask().await.unwrap();
    let held = [scene.ask(), scene.ask()];
    settle().await;
    assert!(tries.lease.is_ok());
    assert_eq!(scene.service().group.scale.held(), 2);
    scene.service().group.scale.intend(1, "2 requests held");
    let newcomer = scene.ask();
    settle().await;
    assert_eq!((scene.service().group.scale.held(), newcomer.is_finished()), (3, false));
    drop(held);
}

#[tokio::test]
async fn a_backend_that_refused_is_asked_whether_it_listens_before_it_gets_the_request() {
    let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = probe.local_addr().unwrap();
    drop(probe);
    let mut config = config("timeout: 300s", HoldPolicy { timeout: Duration::from_secs(10), ..HOLD });
    let declared = checked::BackendAddress {
        address: HostPort { host: "127.0.0.1".into(), port: address.port() },
        weight: crate::units::Weight::ONE,
        zone: None,
    };
    config.services[0].source = Source::Backends(vec![declared]);
    let scene = Scene::with(config);
    scene.service().members().members[0].backend.conduct.bad(clock::now());
    let service = scene.service().clone();
    let held = tokio::spawn(async move {
        let wish = Wish { now: clock::now(), key: None, tried: &[], stake: Stake::Once };
        let wait = Wait { because: Unavailable::Empty, deadline: clock::now().after(Duration::from_secs(20)) };
        wait_in_line(&service, &wish, wait).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!held.is_finished());
    assert_eq!(scene.service().members().members[0].backend.in_flight(), 0);
    let listener = TcpListener::bind(address).await.unwrap();
    let knocked = listener.accept().await.unwrap();
    let turn = held.await.unwrap();
    assert!(turn.lease.is_ok() && turn.held >= Some(Duration::from_millis(100)));
    drop(knocked);
}
