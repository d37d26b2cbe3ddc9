//! The traps of autoscaling, each by its name; the formula against its slow twin over random histories.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::oracle::Oracle;
use super::*;

const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Autoscale {
    let max = NonZeroU32::new(10).unwrap();
    Autoscale { min: 0, target: Target::InFlight(6.0), ..Autoscale::up_to(max) }
}

/// A service whose replicas are there when they are wanted, or a while later.
struct Stage {
    formula: Formula,
    now: Moment,
    start_takes: Duration,
    ready: u32,
    intended: Option<u32>,
    /// When those that are missing will be there.
    due: Option<Moment>,
    pinned: Option<u32>,
    /// Every number that was wanted, with when.
    wanted: Vec<(Duration, u32)>,
    decision: Option<Decision>,
}

impl Stage {
    fn new(policy: Autoscale) -> Self {
        Self {
            formula: Formula::new(policy),
            now: Moment(1),
            start_takes: Duration::ZERO,
            ready: 0,
            intended: None,
            due: None,
            pinned: None,
            wanted: vec![],
            decision: None,
        }
    }

    fn running(policy: Autoscale, ready: u32) -> Self {
        Self { ready, ..Self::new(policy) }
    }

    /// One sample and one decision, after which replicas follow.
    fn step(&mut self, after: Duration, sample: Sample) -> u32 {
        self.now = self.now.after(after);
        self.formula.note(self.now, &sample);
        self.decide(if self.ready == 0 { sample.in_flight } else { 0 })
    }

    fn decide(&mut self, waiting: u32) -> u32 {
        let starting = self.intended.unwrap_or(self.ready).saturating_sub(self.ready);
        let Self { ready, intended, pinned, .. } = *self;
        let decision = self.formula.decide(self.now, &Scene { ready, starting, waiting, intended, pinned });
        let desired = decision.desired;
        self.decision = Some(decision);
        if self.intended != Some(desired) {
            self.wanted.push((self.now.since(Moment(0)), desired));
            self.intended = Some(desired);
        }
        if desired <= self.ready || *self.due.get_or_insert(self.now.after(self.start_takes)) <= self.now {
            (self.ready, self.due) = (desired, None);
        }
        desired
    }

    /// So much in flight for so long.
    fn load(&mut self, in_flight: u32, time: Duration) -> u32 {
        self.load_of(time, |_| in_flight)
    }

    fn load_of(&mut self, time: Duration, in_flight: impl Fn(Moment) -> u32) -> u32 {
        let end = self.now.after(time);
        let mut desired = self.intended.unwrap_or(0);
        while self.now < end {
            let in_flight = in_flight(self.now.after(SAMPLE_EVERY));
            desired = self.step(SAMPLE_EVERY, Sample { in_flight, ..Sample::default() });
        }
        desired
    }

    fn why(&self) -> String {
        self.decision.expect("there was one").trace.to_string()
    }
}

const QUIET: Sample = Sample { in_flight: 0, leaving: 0, arrived: 0, rps: None, answers: None };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_held_request_without_a_replica_is_one_replica_at_once() {
    let mut stage = Stage::new(policy());
    assert_eq!(stage.load(0, seconds(1)), 0);
    assert_eq!(stage.why(), "no request yet");
    assert_eq!(stage.step(Duration::from_millis(3), Sample { in_flight: 1, ..QUIET }), 1);
    assert_eq!(stage.why(), "1 request held");
}

#[test]
fn many_held_requests_are_as_many_replicas_as_they_need_at_once() {
    let mut stage = Stage::new(policy());
    assert_eq!(stage.step(SECOND, Sample { in_flight: 20, ..QUIET }), 4);
    assert_eq!(stage.why(), "20 requests held, stable 20 / 6 = 4");
    let mut stage = Stage::new(policy());
    assert_eq!(stage.step(SECOND, Sample { in_flight: 200, ..QUIET }), 10);
    assert_eq!(stage.why(), "200 requests held, stable 200 / 6 = 34, at most 10 (max)");
}

#[test]
fn a_step_from_1_to_60_and_back_is_followed_up_in_seconds_and_down_after_the_windows() {
    let mut stage = Stage { start_takes: seconds(2), ..Stage::new(policy()) };
    assert_eq!(stage.load(1, seconds(120)), 1);
    let up_at = stage.now;
    assert_eq!(stage.load(60, seconds(120)), 10);
    let full = stage.wanted.iter().find(|(_, wanted)| *wanted == 10).expect("it came to ten");
    assert!(full.0 - up_at.since(Moment(0)) <= seconds(7), "{:?}", stage.wanted);
    let down_at = stage.now;
    assert_eq!(stage.load(1, seconds(59)), 10, "what was needed lately stays: {:?}", stage.wanted);
    assert_eq!(stage.load(1, seconds(63)), 1, "{:?}", stage.wanted);
    let down: Vec<u32> =
        stage.wanted.iter().filter(|(at, _)| *at > down_at.since(Moment(0))).map(|(_, n)| *n).collect();
    assert!(down.windows(2).all(|pair| pair[1] < pair[0]), "{down:?}");
    assert_eq!(stage.load(0, seconds(299)), 1);
    assert_eq!(stage.load(0, seconds(2)), 0);
    assert_eq!(stage.why(), "idle 5m");
}

#[test]
fn constant_load_has_one_answer_also_on_the_edge() {
    for in_flight in 1..=60 {
        let mut stage = Stage::new(policy());
        stage.load(in_flight, seconds(600));
        assert_eq!(stage.wanted.len(), 1, "{in_flight}: {:?}", stage.wanted);
        assert_eq!(stage.ready, in_flight.div_ceil(6));
    }
}

/// Requests that come by chance and take a second on average: what "constant load" is outside of a laboratory.
#[test]
fn constant_load_with_noise_does_not_oscillate() {
    for (seed, mean) in (0..).zip([3.0, 5.9, 6.0, 11.5, 12.0, 18.0, 24.0, 36.0, 47.9]) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut stage = Stage { start_takes: SECOND, ..Stage::new(policy()) };
        let mut busy = 0_u32;
        let mut run = |stage: &mut Stage, time: Duration| {
            for _ in 0..time.as_millis() / 20 {
                let arrives = chance.f64() < 1.0 - (-mean * 0.02_f64).exp();
                let ends = (0..busy).filter(|_| chance.f64() < 0.02).count() as u32;
                busy = busy + u32::from(arrives) * (1 + u32::from(chance.f64() < mean * 0.01)) - ends;
                stage.now = stage.now.after(Duration::from_millis(20));
                stage.formula.note(stage.now, &Sample { in_flight: busy, arrived: u64::from(arrives), ..QUIET });
                if stage.now.0 % 200_000_000 < 20_000_000 {
                    stage.decide(0);
                }
            }
        };
        run(&mut stage, seconds(300));
        let settled = stage.wanted.len();
        run(&mut stage, seconds(3_600));
        let later = &stage.wanted[settled..];
        assert!(later.len() <= 1, "{mean} requests, seed {seed}: {later:?}");
        let fewest = (mean / 6.0_f64).ceil() as u32;
        assert!((fewest..=fewest + 1).contains(&stage.ready), "{mean} requests: {}", stage.ready);
    }
}

#[test]
fn a_single_replica_a_little_above_its_target_is_no_panic() {
    let mut stage = Stage::running(policy(), 1);
    stage.load(5, seconds(300));
    stage.load_of(seconds(600), |now| if now.since(Moment(0)).as_secs().is_multiple_of(30) { 11 } else { 5 });
    assert_eq!(stage.wanted, [(stage.wanted[0].0, 1)]);
}

#[test]
fn a_panic_never_scales_down_and_ends_a_stable_window_after_its_last_cause() {
    let mut stage = Stage::running(policy(), 2);
    stage.load(6, seconds(60));
    let before = stage.ready;
    stage.load(48, seconds(6));
    let high = stage.intended.unwrap();
    assert!(high > before * 2 && stage.formula.panicked_at.is_some());
    let quiet_since = stage.now;
    while stage.formula.panicked_at.is_some() {
        assert_eq!(stage.intended, Some(high), "{}", stage.why());
        stage.load(5, SAMPLE_EVERY);
    }
    let calm_for = stage.now.since(quiet_since);
    assert!(calm_for > seconds(54) && calm_for < seconds(64), "{calm_for:?}");
    assert_eq!(stage.load(5, seconds(120)), 1);
}

#[test]
fn a_panic_that_goes_on_is_extended() {
    let mut stage = Stage::running(policy(), 1);
    stage.start_takes = seconds(1_000_000); // they never come
    stage.load(30, seconds(30));
    let began = stage.formula.panicked_at.expect("a panic");
    stage.load(30, seconds(200));
    assert!(stage.formula.panicked_at.expect("it goes on").since(began) >= seconds(199));
    assert_eq!(stage.intended, Some(5));
}

#[test]
fn zero_comes_after_idle_and_not_after_the_stable_window() {
    let mut stage = Stage::new(policy());
    stage.load(6, seconds(30));
    assert_eq!(stage.load(0, seconds(290)), 1);
    assert_eq!(stage.why(), "stable 0 / 6 = 0, at least 1 while it is used");
    // A single short request that no sample sees in flight.
    assert_eq!(stage.step(SAMPLE_EVERY, Sample { arrived: 1, ..QUIET }), 1);
    assert_eq!(stage.load(0, seconds(299)), 1);
    assert_eq!(stage.load(0, seconds(2)), 0);
}

#[test]
fn a_websocket_or_a_long_stream_is_activity() {
    let mut stage = Stage::new(policy());
    stage.load(1, seconds(3 * 3_600));
    assert_eq!(stage.wanted.len(), 1);
    assert_eq!(stage.intended, Some(1));
}

#[test]
fn requests_at_backends_that_leave_keep_it_awake_and_add_no_replica() {
    let mut stage = Stage::new(policy());
    stage.load(6, seconds(10));
    let streams = Sample { leaving: 500, ..QUIET };
    (0..2_000).for_each(|_| assert_eq!(stage.step(SECOND, streams), 1));
    assert_eq!(stage.load(0, seconds(301)), 0);
}

#[test]
fn what_ran_before_a_sleep_is_forgotten() {
    let short = Autoscale { idle: seconds(5), ..policy() };
    let mut stage = Stage::new(short);
    assert_eq!(stage.load(60, seconds(30)), 10);
    assert_eq!(stage.load(0, seconds(6)), 0, "idle is shorter than the windows, and than a panic: {}", stage.why());
    assert_eq!(stage.load(1, seconds(1)), 1, "the windows begin anew: {}", stage.why());
}

#[test]
fn after_a_restart_what_runs_stays_for_a_stable_window() {
    let mut stage = Stage::running(policy(), 5);
    assert_eq!(stage.load(1, seconds(59)), 5);
    assert_eq!(stage.why(), "they run already");
    stage.load(1, seconds(200));
    assert_eq!(stage.intended, Some(1));
    // Without any request they are idle from the moment on at which they were found.
    let mut stage = Stage::running(policy(), 5);
    assert_eq!(stage.load(0, seconds(59)), 5);
    assert_eq!(stage.load(0, seconds(200)), 1);
    assert_eq!(stage.load(0, seconds(42)), 0);
}

#[test]
fn what_was_only_wanted_by_hand_is_not_kept() {
    let mut stage = Stage::new(policy());
    stage.load(1, SECOND);
    stage.pinned = Some(5);
    assert_eq!(stage.load(1, SECOND), 5);
    stage.pinned = None;
    assert_eq!(stage.load(1, SECOND), 1);
}

#[test]
fn replicas_that_are_found_one_after_another_are_all_kept() {
    let mut stage = Stage::running(policy(), 1);
    stage.load(1, SECOND);
    stage.ready = 4;
    assert_eq!(stage.decide(0), 4);
}

#[test]
fn steps_are_limited_up_and_down() {
    let mut stage = Stage::running(Autoscale { up_at_once: 2.0, max: NonZeroU32::new(100).unwrap(), ..policy() }, 1);
    stage.load(300, seconds(2));
    let up: Vec<u32> = stage.wanted.iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(up, [2, 4, 8, 16, 32, 50]);
    let mut stage = Stage::running(Autoscale { down_at_once: 4.0, max: NonZeroU32::new(100).unwrap(), ..policy() }, 64);
    stage.load(1, seconds(240));
    let down: Vec<u32> = stage.wanted.iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(down, [64, 16, 4, 1]);
}

#[test]
fn one_and_a_bit_at_once_still_grows_by_one() {
    let mut stage = Stage::running(Autoscale { up_at_once: 1.1, ..policy() }, 2);
    stage.load(18, seconds(120));
    assert_eq!(stage.intended, Some(3));
}

#[test]
fn replicas_that_fall_ill_under_load_do_not_take_others_with_them() {
    let mut stage = Stage::running(Autoscale { up_at_once: 2.0, ..policy() }, 8);
    stage.load(48, seconds(120));
    assert_eq!(stage.intended, Some(8));
    (stage.ready, stage.start_takes) = (1, seconds(600));
    assert_eq!(stage.load(48, seconds(120)), 8);
}

#[test]
fn replicas_on_their_way_out_do_not_call_others() {
    let mut stage = Stage::running(policy(), 10);
    stage.load(0, seconds(301));
    assert_eq!(stage.intended, Some(0));
    stage.ready = 10; // the scaler is slow
    assert_eq!(stage.step(SAMPLE_EVERY, Sample { in_flight: 1, ..QUIET }), 1);
}

#[test]
fn there_are_never_fewer_than_min_nor_more_than_max() {
    let mut stage = Stage::new(Autoscale { min: 2, max: NonZeroU32::new(3).unwrap(), ..policy() });
    assert_eq!(stage.load(0, SECOND), 2);
    assert_eq!(stage.why(), "no request yet, at least 2 (min)");
    assert_eq!(stage.load(100, seconds(100)), 3);
    assert_eq!(stage.load(1, seconds(300)), 2);
    assert_eq!(stage.load(0, seconds(600)), 2);
}

#[test]
fn a_persons_word_wins_and_the_formula_goes_on_behind_it() {
    let mut stage = Stage::new(policy());
    stage.load(30, seconds(30));
    stage.pinned = Some(20);
    assert_eq!(stage.load(30, seconds(120)), 20);
    assert_eq!(stage.why(), "pinned by hand");
    stage.pinned = Some(0);
    assert_eq!(stage.load(30, seconds(120)), 0);
    stage.pinned = None;
    assert_eq!(stage.load(30, SECOND), 5);
}

#[test]
fn a_burst_weighs_the_same_at_ten_samples_a_second_and_at_ten_thousand() {
    let averages = [100_000, 10_000_000, 200_000_000].map(|nanos| {
        let mut formula = Formula::new(policy());
        let mut at = Moment(0);
        while at.0 < 30_000_000_000 {
            let in_flight = if at.0 >= 20_000_000_000 { 60 } else { 6 };
            formula.note(at, &Sample { in_flight, ..QUIET });
            at = Moment(at.0 + nanos);
        }
        let trace =
            formula.decide(Moment(29_900_000_000), &Scene { ready: 1, intended: Some(1), ..Scene::default() }).trace;
        (trace.stable, trace.panic)
    });
    assert_eq!(averages, [(24.0, 60.0); 3]);
}

#[test]
fn a_change_of_limits_keeps_the_windows() {
    let mut stage = Stage::new(policy());
    stage.load(60, seconds(60));
    stage.formula.set_policy(Autoscale { max: NonZeroU32::new(4).unwrap(), ..policy() });
    assert_eq!(stage.decide(0), 4);
    stage.formula.set_policy(Autoscale {
        max: NonZeroU32::new(8).unwrap(),
        target: Target::InFlight(10.0),
        ..policy()
    });
    assert_eq!(stage.decide(0), 6);
}

#[test]
fn requests_per_second_are_followed() {
    let mut stage = Stage::new(Autoscale { target: Target::Rps(50.0), ..policy() });
    for _ in 0..300 {
        stage.step(SAMPLE_EVERY, Sample { in_flight: 1, arrived: 40, rps: Some(200.0), ..QUIET });
    }
    assert_eq!(stage.intended, Some(4));
    assert_eq!(stage.why(), "stable 200 / 50 = 4");
}

/// A service of which `in_flight` closed-loop clients ask; a replica serves `workers` at a time, `floor_ms` each, and all of
/// them together no more than `bottleneck_rps`.
struct Slow {
    clients: f64,
    workers: f64,
    floor_ms: f64,
    bottleneck_rps: f64,
}

impl Slow {
    fn run(&self, stage: &mut Stage, time: Duration) {
        for _ in 0..time.as_millis() / 200 {
            let replicas = f64::from(stage.ready.max(1));
            let rps = (replicas * self.workers * 1_000.0 / self.floor_ms)
                .min(self.bottleneck_rps)
                .min(self.clients * 1_000.0 / self.floor_ms);
            let latency = self.clients * 1_000.0 / rps;
            let answers = Some((latency, (rps / 5.0).ceil() as u64));
            let sample = Sample { in_flight: self.clients as u32, arrived: 1, rps: Some(rps), answers, ..QUIET };
            stage.step(SAMPLE_EVERY, sample);
        }
    }
}

fn latency_policy() -> Autoscale {
    Autoscale { min: 1, target: Target::Latency(Duration::from_millis(200)), ..policy() }
}

#[test]
fn a_latency_target_is_reached_and_kept() {
    let mut stage = Stage { start_takes: seconds(2), ..Stage::new(latency_policy()) };
    let slow = Slow { clients: 20.0, workers: 2.0, floor_ms: 100.0, bottleneck_rps: f64::MAX };
    slow.run(&mut stage, seconds(600));
    let settled = stage.wanted.clone();
    assert!((4..=6).contains(&stage.ready), "{settled:?}");
    slow.run(&mut stage, seconds(550));
    assert_eq!(stage.wanted, settled, "constant load has one answer");
}

#[test]
fn latency_that_replicas_do_not_cure_ends_at_the_requests_in_flight() {
    let mut stage = Stage { start_takes: SECOND, ..Stage::new(latency_policy()) };
    let slow = Slow { clients: 4.0, workers: 2.0, floor_ms: 1_000.0, bottleneck_rps: 2.0 };
    slow.run(&mut stage, seconds(900));
    assert_eq!(stage.ready, 4, "{:?}", stage.wanted);
    assert_eq!(stage.wanted.iter().map(|(_, n)| *n).max(), Some(4));
}

#[test]
fn a_latency_far_below_its_target_lets_one_replica_go_at_a_time() {
    let mut stage = Stage::running(latency_policy(), 5);
    let slow = Slow { clients: 1.0, workers: 2.0, floor_ms: 10.0, bottleneck_rps: f64::MAX };
    slow.run(&mut stage, seconds(600));
    let down: Vec<u32> = stage.wanted.iter().map(|(_, wanted)| *wanted).collect();
    assert_eq!(down, [5, 4, 3, 2, 1]);
}

#[test]
fn without_answers_a_latency_target_changes_nothing() {
    let mut stage = Stage::running(latency_policy(), 3);
    assert_eq!(stage.load(9, seconds(300)), 3);
}

#[derive(Clone, Debug)]
struct Event {
    after: Duration,
    sample: Sample,
    follow: u32,
    pinned: Option<u32>,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let after = prop_oneof![
        8 => (1_u64..2_000).prop_map(Duration::from_millis),
        1 => (2_u64..30).prop_map(Duration::from_secs),
        1 => (30_u64..200).prop_map(Duration::from_secs),
    ];
    let in_flight = prop_oneof![2 => Just(0_u32), 4 => 0_u32..20, 2 => 0_u32..200];
    let rps = prop_oneof![1 => Just(None), 4 => (0_u32..3_000).prop_map(|n| Some(f64::from(n) / 10.0))];
    let sample = (in_flight, 0_u32..2, 0_u64..2, rps).prop_map(|(in_flight, leaving, arrived, rps)| Sample {
        in_flight,
        leaving: leaving * (in_flight % 2),
        arrived: arrived * u64::from(in_flight),
        rps,
        answers: None,
    });
    let pinned = prop_oneof![20 => Just(None), 1 => (0_u32..15).prop_map(Some)];
    let event = (after, sample, 0_u32..4, pinned).prop_map(|(after, sample, follow, pinned)| Event {
        after,
        sample,
        follow,
        pinned,
    });
    proptest::collection::vec(event, 1..150)
}

fn policies() -> impl Strategy<Value = Autoscale> {
    let target = prop_oneof![
        (1_u32..100).prop_map(|n| Target::InFlight(f64::from(n) / 4.0)),
        (1_u32..100).prop_map(|n| Target::Rps(f64::from(n)))
    ];
    let steps = (prop_oneof![Just(1_000.0), 1.05..4.0], 1.05..4.0_f64);
    ((0_u32..3, 0_u32..40), target, (2_u64..60, 2_u32..12), steps, 1_u64..120).prop_map(
        |((min, more), target, (stable, parts), (up_at_once, down_at_once), idle)| Autoscale {
            min,
            max: NonZeroU32::new(min + more + 1).unwrap(),
            target,
            stable: Duration::from_secs(stable),
            panic: Duration::from_secs(stable) / parts,
            up_at_once,
            down_at_once,
            idle: Duration::from_secs(idle),
            ..policy()
        },
    )
}

proptest! {
    #[test]
    fn the_formula_decides_as_its_slow_twin(policy in policies(), events in events(), runs in 0_u32..6) {
        let (mut formula, mut oracle) = (Formula::new(policy.clone()), Oracle::new(policy.clone()));
        let (mut now, mut ready, mut intended) = (Moment(5), runs, None);
        for (nth, event) in events.iter().enumerate() {
            now = now.after(event.after);
            formula.note(now, &event.sample);
            oracle.note(now, event.sample);
            let waiting = if ready == 0 { event.sample.in_flight } else { 0 };
            let starting = intended.unwrap_or(ready).saturating_sub(ready);
            let scene = Scene { ready, starting, waiting, intended, pinned: event.pinned };
            let decision = formula.decide(now, &scene);
            prop_assert_eq!(decision.desired, oracle.decide(now, scene), "event {}: {:?}", nth, decision);
            if event.pinned.is_none() {
                prop_assert!(decision.desired <= policy.max.get() && decision.desired >= policy.min);
                prop_assert!(waiting == 0 || decision.desired >= 1);
            }
            intended = Some(decision.desired);
            // Replicas follow at once, half, not at all, or fall ill.
            ready = match event.follow {
                0 => decision.desired,
                1 => u32::midpoint(ready, decision.desired),
                2 => ready,
                _ => ready / 2,
            };
        }
    }
}
