//! What counts as in flight, as arrived and as ready.

use std::sync::Arc;

use super::*;
use crate::config::checked::Target;
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::runtime::backend::Backend;
use crate::runtime::group::{Stake, Wish};
use crate::runtime::registry::Registry;
use crate::runtime::service::{Lease, Service};
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::Metrics;
use crate::units::Weight;

struct Stage {
    service: Arc<Service>,
    registry: Registry,
}

impl Stage {
    fn new() -> Self {
        let yaml = "services: { web: { backends: [\"127.0.0.1:1\"] } }";
        let config = load::parse(yaml, "test", &ProcessEnvironment).unwrap().config;
        let metrics = Metrics::new();
        let service = Service::new(&config.services[0], metrics.service(&config.services[0].name));
        Self { service: service.into(), registry: Registry::new(metrics) }
    }

    fn join(&self, ports: &[u16]) -> Vec<Arc<Backend>> {
        let backend = |port: &u16| self.registry.backend(&self.service.name, ([127, 0, 0, 1], *port).into());
        let backends: Vec<_> = ports.iter().map(backend).collect();
        let weighed = backends.iter().map(|backend| (backend.clone(), Weight::ONE)).collect();
        self.service.set_members(weighed, vec![]);
        self.registry.retain(&self.service.name, &backends, Duration::from_secs(30));
        backends
    }

    /// A request at this backend.
    fn enter(&self, backend: &Backend) -> Lease {
        let members = self.service.members();
        let ids = members.members.iter().map(|member| member.backend.id);
        let tried: Vec<_> = ids.filter(|id| *id != backend.id).collect();
        let lease = self.service.acquire(&Wish { now: at(0), key: None, tried: &tried, stake: Stake::Once }).unwrap();
        assert_eq!(lease.backend.id, backend.id);
        lease
    }

    fn sources(&self) -> Sources<'_> {
        let Service { name, group, metrics, .. } = &*self.service;
        Sources { name, group, metrics, leaving: &self.registry.leaving }
    }

    fn ends(&self, took: Duration) {
        self.service.metrics.request_ended(200, took);
    }
}

fn at(millis: u64) -> Moment {
    Moment(1).after(Duration::from_millis(millis))
}

#[test]
fn whatever_waits_is_in_flight_and_what_is_at_those_that_left_is_not() {
    let stage = Stage::new();
    let mut meter = Meter::new(at(0), stage.sources());
    let backends = stage.join(&[1, 2]);
    let _open = [(); 3].map(|()| stage.enter(&backends[1]));
    let group = &stage.service.group;
    // Whoever is held stands in the line as well.
    let (_held, _waits) = (group.scale.hold(9).unwrap(), [(); 2].map(|()| group.queue.enter(9).unwrap()));
    let sample = meter.sample(at(100), stage.sources());
    assert_eq!((sample.in_flight, sample.leaving, sample.arrived), (5, 0, 5));
    stage.join(&[1]);
    let sample = meter.sample(at(200), stage.sources());
    assert_eq!((sample.in_flight, sample.leaving, sample.arrived), (2, 3, 0));
}

#[test]
fn a_request_arrives_once_however_long_it_stays_and_wherever_it_goes() {
    let stage = Stage::new();
    let backends = stage.join(&[1, 2]);
    stage.ends(Duration::ZERO);
    let mut meter = Meter::new(at(0), stage.sources());
    assert_eq!(meter.sample(at(50), stage.sources()).arrived, 0, "what was before is nobody's");
    let first = stage.enter(&backends[0]);
    assert_eq!(meter.sample(at(100), stage.sources()).arrived, 1);
    drop(first); // its first attempt has failed, and the next has not begun
    assert_eq!(meter.sample(at(150), stage.sources()).arrived, 0);
    let second = stage.enter(&backends[1]);
    assert_eq!(meter.sample(at(200), stage.sources()).arrived, 0);
    drop(second);
    stage.ends(Duration::from_millis(100));
    assert_eq!(meter.sample(at(250), stage.sources()).arrived, 0);
}

#[test]
fn a_refused_request_has_arrived() {
    let stage = Stage::new();
    let mut meter = Meter::new(at(0), stage.sources());
    stage.service.metrics.request_ended(503, Duration::ZERO);
    assert_eq!(meter.sample(at(10), stage.sources()).arrived, 1);
}

#[test]
fn a_rate_needs_time_and_loses_nothing() {
    let stage = Stage::new();
    let mut meter = Meter::new(at(0), stage.sources());
    stage.ends(Duration::ZERO);
    assert_eq!(meter.sample(at(1), stage.sources()).rps, None);
    stage.ends(Duration::ZERO);
    assert_eq!(meter.sample(at(100), stage.sources()).rps, Some(20.0));
    assert_eq!(meter.sample(at(200), stage.sources()).rps, Some(0.0));
}

#[test]
fn the_end_of_a_long_connection_is_no_hour_of_latency() {
    let stage = Stage::new();
    let mut meter = Meter::new(at(0), stage.sources());
    meter.set_target(Target::Latency(Duration::from_millis(200)));
    (0..99).for_each(|_| stage.ends(Duration::from_millis(100)));
    stage.ends(Duration::from_secs(3_600));
    let (mean, n) = meter.sample(at(200), stage.sources()).answers.unwrap();
    assert!(n == 100 && (100.0..140.0).contains(&mean), "{mean}");
    assert_eq!(meter.sample(at(400), stage.sources()).answers, None);
}

#[test]
fn people_are_told_the_last_seconds() {
    let stage = Stage::new();
    let mut meter = Meter::new(at(0), stage.sources());
    for second in 1..=20 {
        (0..10).for_each(|_| stage.ends(Duration::from_millis(30)));
        meter.sample(at(second * 1_000), stage.sources());
        let signals = meter.signals(at(second * 1_000), stage.sources());
        assert_eq!((signals.rps, signals.latency_ms), (10.0, Some(30.0)), "second {second}");
    }
    assert!(meter.lately.len() <= 7);
    meter.signals(at(25_000), stage.sources());
    let signals = meter.signals(at(31_000), stage.sources());
    assert_eq!((signals.rps, signals.latency_ms), (0.0, None));
}

#[test]
fn addresses_are_ready_when_they_take_requests_and_found_ones_when_they_are_there() {
    let stage = Stage::new();
    let backends = stage.join(&[1, 2, 3, 4]);
    backends[0].standing.add(Reason::Unhealthy);
    backends[1].standing.add(Reason::Ejected);
    assert_eq!(ready(Counted::Written, &stage.service.group, None), 2);
    assert_eq!(ready(Counted::Written, &stage.service.group, Some(4)), 2);
    assert_eq!(ready(Counted::Found, &stage.service.group, Some(9)), 4);
    assert_eq!(ready(Counted::Written, &stage.service.group, Some(9)), 9, "they are not the replicas");
}

#[test]
fn a_replica_that_has_just_become_ready_is_not_counted_as_starting_as_well() {
    let stage = Stage::new();
    let group = &stage.service.group;
    group.scale.state().starting = 1;
    stage.join(&[]);
    let running = |scene: Scene| (scene.ready, scene.starting);
    assert_eq!(running(scene(Counted::Found, group)), (0, 1));
    stage.join(&[1]);
    assert_eq!(running(scene(Counted::Found, group)), (1, 0));
    {
        let mut state = group.scale.state();
        (state.ready, state.starting) = (1, 1);
    }
    assert_eq!(running(scene(Counted::Found, group)), (1, 1));
}
