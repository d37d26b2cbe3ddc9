//! The roster with a clock of the test's: who is due when, what survives a reload, who comes back.

use std::time::Duration;

use ::http::StatusCode;

use super::*;
use crate::config::checked::{Health, Initial};
use crate::control::health::probe::Pass;
use crate::control::health::tests::{World, health};

const PASSED: Outcome = Ok(Pass::Status(StatusCode::OK));
const FAILED: Outcome = Err(Miss::Status(StatusCode::INTERNAL_SERVER_ERROR));
const NO_JITTER: u64 = u64::MAX / 2;

struct Ward {
    world: World,
    roster: Roster,
    now: Moment,
}

impl Ward {
    fn new(yaml: &str, change: impl Fn(&mut checked::Service)) -> Self {
        let world = World::new(yaml, change);
        let roster = Roster::new(world.metrics.clone(), Arc::default());
        let mut ward = Self { world, roster, now: Moment(1_000_000_000) };
        ward.look();
        ward
    }

    fn look(&mut self) {
        self.roster.update(self.world.services(), self.now);
    }

    fn pass_time(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.roster.wake(self.now);
    }

    /// Sends every probe that is due and ends each as `outcome` says; how many there were.
    fn probe(&mut self, outcome: impl Fn(&Job) -> Outcome) -> usize {
        let mut jobs = Vec::new();
        while let Some(job) = self.roster.start(self.now) {
            jobs.push(job);
        }
        for job in &jobs {
            self.roster.finish(job, outcome(job), self.now, NO_JITTER);
        }
        jobs.len()
    }

    /// The same until `n` probes per backend have ended.
    fn probe_times(&mut self, n: usize, outcome: Outcome) {
        for _ in 0..n {
            self.now = self.roster.next().unwrap_or(self.now).max(self.now);
            self.probe(|_| outcome);
        }
    }

    fn backend(&self, service_idx: usize) -> Arc<Backend> {
        self.world.snapshot.services[service_idx].members().members[0].backend.clone()
    }

    fn news(&mut self) -> Vec<What> {
        self.roster.take_news().into_iter().map(|news| news.what).collect()
    }
}

fn probed(service: &mut checked::Service) {
    service.health = Some(health());
}

fn waiting(service: &mut checked::Service) {
    service.health = Some(Health { initial: Initial::Down, ..health() });
    service.slow_start = Duration::from_secs(10);
}

const WEB: &str = "web: { backends: [\"10.0.0.1:80\"] }";

#[test]
fn trap_the_first_probe_is_at_once_and_the_next_in_the_rhythm() {
    let mut ward = Ward::new(WEB, probed);
    assert_eq!(ward.probe(|_| PASSED), 1);
    ward.pass_time(1_998);
    assert_eq!(ward.probe(|_| PASSED), 0);
    ward.pass_time(2);
    assert_eq!(ward.probe(|_| FAILED), 1);
    ward.pass_time(500); // in doubt
    assert_eq!(ward.probe(|_| FAILED), 1);
    assert!(ward.backend(0).standing.is_plain());
    ward.pass_time(500);
    assert_eq!(ward.probe(|_| FAILED), 1);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    assert_eq!(ward.news(), [What::Unhealthy]);
}

/// Traefik #13218: a reload reset what health checks had found.
#[test]
fn trap_a_reload_resets_neither_verdicts_nor_the_rhythm() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(3, FAILED);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    let due = ward.roster.next();
    // Another service is added: nothing about this one has changed.
    ward.world.reload(&format!("{WEB}, shop: {{ route: /shop, backends: [\"10.0.0.2:80\"] }}"), |service| {
        if service.name.as_str() == "web" {
            probed(service);
        }
    });
    ward.look();
    assert_eq!(ward.roster.next(), due);
    // Its timeout changes: another configuration of the same service, with the same probes.
    ward.world.reload(WEB, |service| {
        probed(service);
        service.timeout = Duration::from_secs(7);
    });
    ward.look();
    assert_eq!(ward.roster.next(), due);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    assert_eq!(ward.probe(|_| PASSED), 0);
}

#[test]
fn other_probes_keep_the_verdict_until_they_say_otherwise() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(3, FAILED);
    let late = {
        ward.now = ward.roster.next().unwrap();
        ward.roster.start(ward.now).unwrap()
    };
    ward.world.reload(WEB, |service| {
        service.health = Some(Health { probe: checked::Probe::Tcp, ..health() });
    });
    ward.look();
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    ward.roster.finish(&late, PASSED, ward.now, NO_JITTER); // it answers what nobody asks any more
    assert_eq!(ward.probe(|_| PASSED), 1);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    ward.probe_times(1, PASSED);
    assert!(ward.backend(0).standing.is_plain());
}

#[test]
fn a_service_that_is_not_probed_any_more_gets_its_backends_back() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(3, FAILED);
    assert!(ward.world.metrics.render().contains("portway_backend_healthy{"));
    ward.world.reload(WEB, |_| ());
    ward.look();
    assert!(ward.backend(0).standing.is_plain());
    assert_eq!(ward.roster.next(), None);
    assert!(!ward.world.metrics.render().contains("portway_backend_healthy{"));
}

/// Caddy #7870: two services that probed one address shared one health bit.
#[test]
fn trap_two_services_at_one_address_have_a_verdict_each() {
    let mut ward = Ward::new(&format!("{WEB}, api: {{ route: /api, backends: [\"10.0.0.1:80\"] }}"), probed);
    for _ in 0..3 {
        ward.probe(|job| if job.target.service.name.as_str() == "api" { FAILED } else { PASSED });
        ward.pass_time(2_000);
    }
    let [web, api] = [ward.backend(0), ward.backend(1)];
    assert_eq!((web.address, web.standing.is_plain()), (api.address, true));
    assert!(api.standing.has(Reason::Unhealthy));
}

#[test]
fn a_backend_that_waits_for_its_first_probe_takes_requests_after_it_on_a_ramp() {
    let mut ward = Ward::new(WEB, waiting);
    let backend = ward.backend(0);
    assert!(backend.standing.has(Reason::Unhealthy), "it is a member that nothing is known about");
    ward.probe_times(1, PASSED);
    assert!(!backend.standing.has(Reason::Unhealthy));
    assert!(backend.standing.has(Reason::Ramping));
    assert_eq!(ward.news(), [What::Healthy]);
}

#[test]
fn a_new_member_of_a_running_service_waits_as_well() {
    let mut ward = Ward::new(WEB, waiting);
    ward.probe_times(1, PASSED);
    ward.world.reload("web: { backends: [\"10.0.0.2:80\", \"10.0.0.1:80\"] }", waiting);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
    ward.look();
    assert_eq!(ward.probe(|_| PASSED), 1);
    assert!(!ward.backend(0).standing.has(Reason::Unhealthy));
}

#[test]
fn what_is_no_member_any_more_is_forgotten() {
    let mut ward = Ward::new(WEB, probed);
    let job = ward.roster.start(ward.now).unwrap();
    ward.world.reload("web: { backends: [\"10.0.0.2:80\"] }", probed);
    ward.look();
    ward.roster.finish(&job, FAILED, ward.now, NO_JITTER);
    assert_eq!(ward.roster.subjects.len(), 1);
    assert_eq!(ward.roster.due.len(), 1);
    assert_eq!(ward.roster.findings.of(job.backend.id), None);
}

#[test]
fn a_lack_of_descriptors_says_nothing_about_a_backend() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(10, Err(Miss::Ours));
    assert!(ward.backend(0).standing.is_plain());
    ward.probe_times(2, FAILED);
    ward.probe_times(1, Err(Miss::Ours));
    ward.probe_times(1, FAILED);
    assert!(ward.backend(0).standing.has(Reason::Unhealthy));
}

#[test]
fn a_backend_that_leaves_comes_back_when_its_probes_pass() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(1, PASSED);
    let backend = ward.backend(0);
    backend.standing.add(Reason::Leaving);
    ward.look();
    ward.look();
    assert_eq!(ward.news(), [What::Leaving]);
    ward.probe_times(1, PASSED);
    ward.probe_times(1, FAILED);
    ward.probe_times(1, PASSED);
    assert!(backend.standing.has(Reason::Leaving), "two in a row, since it left");
    ward.probe_times(1, PASSED);
    assert!(backend.standing.is_plain());
    assert_eq!(ward.news(), [What::Returned]);
}

#[test]
fn a_probe_that_is_told_to_leave_believes_it_at_once() {
    let mut ward = Ward::new(WEB, probed);
    ward.probe_times(1, PASSED);
    ward.probe_times(1, Err(Miss::Leaving));
    let backend = ward.backend(0);
    assert!(backend.standing.has(Reason::Leaving) && !backend.standing.has(Reason::Unhealthy));
    assert_eq!(ward.news(), [What::Leaving]);
    ward.probe_times(2, PASSED);
    assert!(backend.standing.is_plain());
}

#[test]
fn without_probes_a_backend_that_leaves_comes_back_after_ten_seconds() {
    let mut ward = Ward::new(WEB, |service| service.slow_start = Duration::from_secs(5));
    let backend = ward.backend(0);
    assert_eq!(ward.roster.next(), None);
    backend.standing.add(Reason::Leaving);
    ward.look();
    assert_eq!(ward.roster.next(), Some(ward.now.after(REST)));
    ward.pass_time(9_999);
    ward.look();
    assert!(backend.standing.has(Reason::Leaving));
    ward.pass_time(1);
    assert!(!backend.standing.has(Reason::Leaving));
    assert!(backend.standing.has(Reason::Ramping));
    assert_eq!(ward.news(), [What::Leaving, What::Returned]);
}

/// What probes and what answers found are different things: each takes back its own.
#[test]
fn a_passed_probe_ends_no_ejection() {
    let mut ward = Ward::new(WEB, probed);
    let backend = ward.backend(0);
    backend.standing.add(Reason::Ejected);
    backend.standing.add(Reason::Drained);
    ward.probe_times(3, FAILED);
    ward.probe_times(5, PASSED);
    assert!(backend.standing.has(Reason::Ejected) && backend.standing.has(Reason::Drained));
    assert!(!backend.standing.has(Reason::Unhealthy));
}

#[test]
fn a_probe_that_never_ends_is_sent_anew() {
    let mut ward = Ward::new(WEB, probed);
    let lost = ward.roster.start(ward.now).unwrap();
    assert!(ward.roster.start(ward.now).is_none());
    ward.pass_time(3_000);
    assert_eq!(ward.probe(|_| PASSED), 1);
    ward.roster.finish(&lost, FAILED, ward.now, NO_JITTER);
    assert!(ward.backend(0).standing.is_plain());
}
