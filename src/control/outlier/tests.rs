//! Ejection from the attempts of requests to their effect on the next one, in time that the test makes.
//! Services come from YAML and places from the group, as they do in a process; nothing is sent.

use http::StatusCode;

use super::*;
use crate::config::checked::{Balance, Ejection, HashKey};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::runtime::conduct::{Grade, Trial};
use crate::runtime::group::{Stake, Unavailable, Wish};
use crate::runtime::service::Lease;
use crate::runtime::snapshot::{Build, Snapshot};
use crate::telemetry::metrics::Outcome;
use crate::units::Percent;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A service with its backends, who watches them, and a clock.
struct Scene {
    outliers: Outliers,
    service: Arc<Service>,
    now: Moment,
}

/// What differs from the defaults.
#[derive(Clone)]
struct Rules {
    balance: Balance,
    ejection: Ejection,
    slow_start: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { balance: Balance::RoundRobin, ejection: Ejection::default(), slow_start: Duration::ZERO }
    }
}

fn with(ejection: Ejection) -> Rules {
    Rules { ejection, ..Rules::default() }
}

impl Scene {
    fn new(n: usize, rules: &Rules) -> Self {
        let backends: Vec<String> = (1..=n).map(|n| format!("\"127.0.0.1:{n}\"")).collect();
        let yaml = format!("services: {{ web: {{ backends: [{}] }} }}", backends.join(", "));
        let mut config = load::parse(&yaml, "test.yaml", &ProcessEnvironment).expect("a valid file").config;
        let declared = &mut config.services[0];
        declared.balance = rules.balance.clone();
        declared.ejection = Some(rules.ejection);
        declared.slow_start = rules.slow_start;
        let metrics = Metrics::new();
        let registry = Arc::new(Registry::new(metrics.clone()));
        let build =
            Build::<()> { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        let service = Snapshot::build(config, &build).services[0].clone();
        let outliers = Outliers::new(registry, metrics, Arc::new(Events::new()));
        Self { outliers, service, now: Moment(0).after(secs(1_000)) }
    }

    fn backend(&self, idx: usize) -> Arc<Backend> {
        self.service.members().members[idx].backend.clone()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn sweep(&mut self) {
        self.outliers.round(std::slice::from_ref(&self.service), self.now);
    }

    /// An attempt at `idx` that begins now and is answered at once.
    fn answer(&self, idx: usize, status: u16) {
        record(&self.backend(idx), &self.service, status, self.now);
    }

    fn fail(&self, idx: usize, times: usize) {
        (0..times).for_each(|_| self.answer(idx, 500));
    }

    fn place(&self, stake: Stake) -> Result<Lease, Unavailable> {
        self.service.acquire(&Wish { now: self.now, key: Some(fastrand::u64(..)), tried: &[], stake })
    }

    fn events(&self) -> Vec<String> {
        self.outliers.events.all().into_iter().map(|event| event.kind).collect()
    }

    /// Ejects `idx` and waits until its probation begins.
    fn bring_to_probation(&mut self, idx: usize) {
        self.sweep();
        self.fail(idx, 5);
        self.sweep();
        assert!(self.backend(idx).standing.has(Reason::Ejected));
        self.pass(self.service.policy.ejection.unwrap().base);
        self.sweep();
        assert_eq!(self.backend(idx).standing.admits(), Admits::One);
    }
}

/// What `proxy::attempt` says of an attempt that is no trial.
fn record(backend: &Backend, service: &Service, status: u16, began: Moment) {
    let grade = Grade::of_status(StatusCode::from_u16(status).unwrap());
    let outcome = if status >= 500 { Outcome::ServerError } else { Outcome::Success };
    backend.metrics.attempt_ended(outcome, Duration::ZERO);
    backend.attempt_ended(grade, began, service.policy.ejection.as_ref());
}

#[test]
fn a_backend_that_fails_five_times_in_a_row_gets_no_request_for_ten_seconds() {
    let mut scene = Scene::new(3, &Rules::default());
    scene.sweep();
    scene.fail(1, 5);
    scene.sweep();
    let places: Vec<_> = (0..300).map(|_| scene.place(Stake::Repeatable).unwrap()).collect();
    assert!(places.iter().all(|place| place.backend.id != scene.backend(1).id));
    assert_eq!(scene.events(), ["backend_ejected"]);
    scene.pass(ms(9_999));
    scene.sweep();
    assert_eq!(scene.backend(1).standing.admits(), Admits::IfNoOther);
    scene.pass(ms(1));
    scene.sweep();
    assert_eq!(scene.events(), ["backend_ejected", "backend_on_probation"]);
}

/// Linkerd's reason for exact counts: an average that decays forgets the spread burst and trips on the tight one only.
#[test]
fn trap_a_burst_of_failures_must_trip_the_breaker_the_same_at_10_rps_and_at_10_000_rps() {
    let by_rate = with(Ejection { consecutive: None, success_rate: Percent::new(50), ..Ejection::default() });
    let in_a_row = with(Ejection { success_rate: None, ..Ejection::default() });
    for (rules, n_good, n_bad, trips) in [
        (&by_rate, 6, 4, false),
        (&by_rate, 4, 6, true),
        (&by_rate, 0, 4, false),
        (&in_a_row, 40, 4, false),
        (&in_a_row, 40, 5, true),
    ] {
        for pause in [Duration::from_micros(100), ms(100), ms(200)] {
            let mut scene = Scene::new(2, rules);
            scene.sweep();
            for status in std::iter::repeat_n(200, n_good).chain(std::iter::repeat_n(503, n_bad)) {
                assert!(!scene.backend(1).is_ejected() || status == 503);
                scene.answer(1, status);
                scene.sweep();
                scene.pass(pause);
            }
            assert_eq!(scene.backend(1).is_ejected(), trips, "{n_good} good, {n_bad} bad, one each {pause:?}");
        }
    }
}

#[test]
fn trap_probation_is_exactly_one_real_request() {
    let mut scene = Scene::new(3, &Rules::default());
    scene.bring_to_probation(1);
    let on_trial = |places: &[Lease]| places.iter().filter(|place| place.on_trial).count();
    let mut places: Vec<_> = (0..200).map(|_| scene.place(Stake::Repeatable).unwrap()).collect();
    assert!(places[0].on_trial, "the next request is the one, not some request by chance");
    assert_eq!(on_trial(&places), 1);
    assert_eq!(places.iter().filter(|place| place.backend.id == scene.backend(1).id).count(), 1);
    // Its client goes away: that decides nothing, and the next one may try.
    places.remove(0);
    scene.sweep();
    let mut again: Vec<_> = (0..200).map(|_| scene.place(Stake::Repeatable).unwrap()).collect();
    assert_eq!(on_trial(&again), 1);
    // It passes with its head: the stream that follows holds up nobody.
    again[0].on_trial = false; // as `Attempt::end_trial` does
    scene.backend(1).trial_ended(Trial::Passed);
    assert_eq!(scene.backend(1).standing.admits(), Admits::IfNoOther, "nobody else before the verdict is in effect");
    scene.sweep();
    assert!(scene.backend(1).standing.is_plain());
    assert_eq!(scene.events(), ["backend_ejected", "backend_on_probation", "backend_restored"]);
    drop(again);
    assert!(scene.backend(1).standing.is_plain());
}

#[test]
fn what_has_failed_elsewhere_or_cannot_be_repeated_is_no_trial_unless_nothing_else_comes() {
    let mut scene = Scene::new(3, &Rules::default());
    scene.bring_to_probation(1);
    assert!((0..50).all(|_| !scene.place(Stake::Once).unwrap().on_trial));
    let tried = [scene.backend(0).id];
    let wish = Wish { now: scene.now, key: None, tried: &tried, stake: Stake::Repeatable };
    assert!((0..50).all(|_| !scene.service.acquire(&wish).unwrap().on_trial));
    scene.pass(TRIAL_PATIENCE);
    scene.sweep();
    assert!(scene.place(Stake::Once).unwrap().on_trial);
}

#[test]
fn a_trial_that_fails_doubles_the_time() {
    let mut scene = Scene::new(2, &Rules::default());
    scene.bring_to_probation(1);
    for time in [secs(20), secs(40), secs(80), secs(160), secs(300), secs(300)] {
        let mut place = scene.place(Stake::Repeatable).unwrap();
        assert!(place.on_trial);
        place.on_trial = false;
        place.backend.trial_ended(Trial::Failed);
        drop(place);
        assert!(!scene.place(Stake::Repeatable).unwrap().on_trial, "the next one waits for the verdict");
        scene.sweep();
        scene.pass(time - ms(1));
        scene.sweep();
        assert!(scene.backend(1).standing.has(Reason::Ejected), "{time:?}");
        scene.pass(ms(1));
        scene.sweep();
        assert!(scene.backend(1).standing.has(Reason::Probation), "{time:?}");
    }
    let page = scene.outliers.metrics.render();
    for (cause, n) in [("consecutive", 1), ("success_rate", 0), ("trial", 6)] {
        let line = format!("portway_ejections_total{{service=\"web\",cause=\"{cause}\"}} {n}\n");
        assert!(page.contains(&line), "{page}");
    }
    assert!(page.contains("portway_backend_ejected{service=\"web\",backend=\"127.0.0.1:2\"} 1"), "{page}");
}

#[test]
fn the_window_is_empty_and_latency_forgotten_when_a_backend_is_back() {
    let rules = with(Ejection { success_rate: Percent::new(50), base: secs(1), ..Ejection::default() });
    let mut scene = Scene::new(2, &rules);
    scene.sweep();
    scene.fail(1, 50);
    scene.backend(1).latency.penalize(secs(5), scene.now);
    scene.sweep();
    scene.pass(secs(1));
    scene.sweep();
    scene.backend(1).trial_ended(Trial::Passed);
    scene.sweep();
    assert!(scene.backend(1).standing.is_plain());
    assert_eq!(scene.backend(1).latency.value(scene.now), None);
    // Fifty failures were within the last ten seconds.
    scene.fail(1, 4);
    scene.sweep();
    assert!(!scene.backend(1).is_ejected());
}

#[test]
fn timeouts_of_requests_from_before_its_ejection_do_not_eject_a_backend_that_is_back() {
    let mut scene = Scene::new(2, &Rules::default());
    let before = scene.now;
    scene.bring_to_probation(1);
    scene.backend(1).trial_ended(Trial::Passed);
    scene.sweep();
    (0..20).for_each(|_| record(&scene.backend(1), &scene.service, 504, before));
    scene.sweep();
    assert!(!scene.backend(1).is_ejected());
    scene.fail(1, 5);
    scene.sweep();
    assert!(scene.backend(1).is_ejected());
}

#[test]
fn a_service_whose_database_is_gone_keeps_all_its_backends() {
    for n in [1, 2, 3, 9] {
        let mut scene = Scene::new(n, &Rules::default());
        for _ in 0..100 {
            (0..n).for_each(|idx| scene.answer(idx, 500));
            scene.pass(ms(50));
            scene.sweep();
        }
        assert_eq!(scene.events(), [""; 0], "{n} backends");
    }
}

/// All backends hang, so that runs reach their limit one backend after the other, and come back one after the other.
#[test]
fn a_service_that_stalls_as_a_whole_has_all_its_backends_when_it_returns() {
    let mut scene = Scene::new(2, &Rules::default());
    for _ in 0..3 {
        for idx in [0, 1] {
            scene.answer(idx, 504);
        }
    }
    for _ in 0..20 {
        for idx in [0, 1] {
            scene.fail(idx, 5);
            scene.sweep();
        }
        scene.pass(ms(200));
    }
    let in_the_stall = scene.now;
    scene.pass(ms(900));
    (0..20).for_each(|_| record(&scene.backend(1), &scene.service, 504, in_the_stall));
    scene.answer(0, 200);
    scene.sweep();
    scene.pass(ms(10));
    (0..20).for_each(|_| record(&scene.backend(1), &scene.service, 504, in_the_stall));
    scene.sweep();
    assert_eq!(scene.events(), [""; 0]);
    scene.fail(1, 5);
    scene.sweep();
    assert!(scene.backend(1).is_ejected(), "it alone goes on to fail");
}

#[test]
fn two_bad_ones_of_three_are_not_both_ejected_and_the_last_one_never() {
    let mut scene = Scene::new(3, &Rules::default());
    for _ in 0..100 {
        [(0, 500), (1, 200), (2, 500)].into_iter().for_each(|(idx, status)| scene.answer(idx, status));
        scene.sweep();
    }
    assert_eq!((0..3).filter(|idx| scene.backend(*idx).is_ejected()).count(), 1);
    scene.backend(1).standing.add(Reason::Unhealthy);
    for _ in 0..100 {
        (0..3).for_each(|idx| scene.answer(idx, 500));
        scene.sweep();
    }
    assert_eq!((0..3).filter(|idx| scene.backend(*idx).is_ejected()).count(), 1);
    assert!(scene.place(Stake::Once).is_ok());
}

#[test]
fn without_a_sound_backend_requests_go_to_the_doubtful_and_it_is_said_once() {
    let mut scene = Scene::new(2, &Rules::default());
    scene.bring_to_probation(0);
    scene.backend(1).standing.add(Reason::Unhealthy);
    let gauge = |scene: &Scene, value| {
        let line = format!("portway_fail_open{{service=\"web\"}} {value}\n");
        assert!(scene.outliers.metrics.render().contains(&line));
    };
    gauge(&scene, 1);
    for _ in 0..3 {
        scene.sweep();
    }
    let places: Vec<_> = (0..100).map(|_| scene.place(Stake::Once).unwrap()).collect();
    assert!((0..2).all(|idx| places.iter().any(|place| place.backend.id == scene.backend(idx).id)));
    assert_eq!(scene.events(), ["backend_ejected", "backend_on_probation", "fail_open"]);
    scene.backend(1).standing.remove(Reason::Unhealthy);
    scene.sweep();
    gauge(&scene, 0);
    assert_eq!(scene.events().last().map(String::as_str), Some("fail_open_ended"));
}

#[test]
fn a_service_that_is_to_have_no_replica_has_nobody_who_is_ill() {
    let mut scene = Scene::new(2, &Rules::default());
    scene.service.group.scale.intend(0, "idle");
    assert!((0..2).all(|idx| scene.backend(idx).standing.add(Reason::Unhealthy)));
    scene.sweep();
    assert_eq!(scene.events(), [""; 0]);
    scene.service.group.scale.intend(1, "1 request held");
    scene.sweep();
    assert_eq!(scene.events(), ["fail_open"]);
}

#[test]
fn a_restored_backend_warms_up_and_its_ramp_ends() {
    let mut scene = Scene::new(2, &Rules { slow_start: secs(30), ..Rules::default() });
    scene.bring_to_probation(1);
    scene.backend(1).trial_ended(Trial::Passed);
    scene.sweep();
    assert!(scene.backend(1).standing.has(Reason::Ramping));
    scene.pass(secs(29));
    scene.sweep();
    assert!(scene.backend(1).standing.has(Reason::Ramping));
    scene.pass(secs(1));
    scene.sweep();
    assert!(scene.backend(1).standing.is_plain(), "a finished ramp costs requests nothing any more");
}

/// A container that was restarted is probed, and its probes fail and pass again: its trial need not wait for minutes.
#[test]
fn a_backend_whose_probes_pass_again_is_tried_at_once_and_one_whose_probes_passed_all_along_is_not() {
    let mut scene = Scene::new(3, &Rules::default());
    scene.sweep();
    for idx in [0, 1] {
        scene.fail(idx, 5);
        scene.sweep();
    }
    assert_eq!(scene.events(), ["backend_ejected"], "at most half of three");
    let backend = scene.backend(0);
    for (change, state) in [(None, Reason::Ejected), (Some(true), Reason::Ejected), (Some(false), Reason::Probation)] {
        match change {
            Some(true) => drop(backend.standing.add(Reason::Unhealthy)),
            Some(false) => drop(scene.service.readmit(&backend, Reason::Unhealthy, scene.now)),
            None => {}
        }
        scene.pass(ms(500));
        scene.sweep();
        assert!(backend.standing.has(state), "{change:?}: {:?}", backend.standing);
    }
}

#[test]
fn ejections_are_forgiven_one_by_one() {
    let mut scene = Scene::new(2, &Rules::default());
    scene.bring_to_probation(1);
    scene.backend(1).trial_ended(Trial::Passed);
    scene.sweep();
    let ejections = |scene: &Scene| scene.outliers.histories[&scene.backend(1).id].ejections;
    assert_eq!(ejections(&scene), 1);
    scene.pass(secs(9));
    scene.sweep();
    assert_eq!(ejections(&scene), 1);
    scene.pass(secs(1));
    scene.sweep();
    assert_eq!(ejections(&scene), 0);
}

#[test]
fn a_backend_that_left_is_forgotten() {
    let mut scene = Scene::new(2, &Rules::default());
    scene.sweep();
    assert_eq!(scene.outliers.histories.len(), 2);
    scene.service.set_members(vec![], vec![]);
    scene.outliers.registry.retain(&scene.service.name, &[], Duration::ZERO);
    scene.sweep();
    assert_eq!(scene.outliers.histories.len(), 0);
}

/// 1 of 10 returns fast 500s, at 2,000 requests per second: its share is at most 2 % after 5 s.
#[test]
fn a_backend_that_fails_fast_attracts_nothing_under_any_algorithm() {
    let hash = Balance::Hash(HashKey::Ip);
    for balance in [Balance::LeastRequests, Balance::PeakEwma, Balance::RoundRobin, Balance::Random, hash] {
        let mut scene = Scene::new(10, &Rules { balance: balance.clone(), ..Rules::default() });
        let bad = scene.backend(3).id;
        let mut open: std::collections::VecDeque<(Moment, Lease)> = std::collections::VecDeque::new();
        let (start, mut n_bad, mut n_all) = (scene.now, 0, 0);
        for step in 0..40_000_u64 {
            scene.pass(Duration::from_micros(500));
            while open.front().is_some_and(|(until, _)| *until <= scene.now) {
                let (_, lease) = open.pop_front().expect("it has a front");
                lease.backend.latency.observe(ms(20), scene.now);
                record(&lease.backend, &scene.service, 200, scene.now);
            }
            if step % 20 == 0 {
                scene.sweep();
            }
            let lease = scene.place(Stake::Repeatable).unwrap();
            let counts = scene.now.since(start) >= secs(5);
            n_all += u32::from(counts);
            if lease.backend.id != bad {
                open.push_back((scene.now.after(ms(20)), lease));
                continue;
            }
            n_bad += u32::from(counts);
            if lease.on_trial {
                lease.backend.trial_ended(Trial::Failed);
            }
            record(&lease.backend, &scene.service, 500, scene.now);
        }
        assert!(n_bad * 50 <= n_all, "{balance:?}: {n_bad} of {n_all}");
    }
}
