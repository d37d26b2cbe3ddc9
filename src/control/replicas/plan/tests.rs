//! The plan of replicas: single facts, and promises that hold for every history.
//! Promises that a history which breaks one is shrunk to its shortest. It talks to no engine.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms { drain: Duration::from_secs(30), ready_within: Duration::from_secs(120) };
/// What a model of an engine moves on by.
const TICK: Duration = Duration::from_millis(50);

fn at(secs: u64) -> Moment {
    Moment(0).after(Duration::from_secs(secs))
}

fn replica(id: &str, vintage: Vintage, phase: Phase) -> Replica {
    let born = id.bytes().next_back().map_or(0, u64::from);
    Replica { id: id.into(), vintage, phase, born }
}

fn current(id: &str, phase: Phase) -> Replica {
    replica(id, Vintage::Current, phase)
}

fn old(id: &str, phase: Phase) -> Replica {
    replica(id, Vintage::Old, phase)
}

const READY: Phase = Phase::Ready(Weight::Whole);
const STARTING: Phase = Phase::Starting { since: Moment(0) };

/// What is due at second 10, in words.
fn due(replicas: &[Replica], wanted: u32) -> String {
    due_at(Pace::Free, replicas, wanted)
}

fn due_at(pace: Pace, replicas: &[Replica], wanted: u32) -> String {
    words(&plan(&Scene { replicas, wanted: Some(wanted), pace, terms: TERMS, now: at(10) }))
}

fn words(plan: &Plan) -> String {
    let word = |step: &Step| match step {
        Step::Create => "create".to_owned(),
        Step::TakeBack(id) => format!("take back {id}"),
        Step::Retire(id, why) => format!("retire {id}: {}", why.words()),
        Step::Stop(id, rest) => format!("stop {id}: {rest:?}"),
        Step::Report(id) => format!("report {id}"),
        Step::Remove(id) => format!("remove {id}"),
        Step::GiveUp(id) => format!("give up {id}"),
    };
    plan.steps.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_missing_is_created() {
    assert_eq!(due(&[], 2), "create, create");
    assert_eq!(due(&[current("a", STARTING)], 2), "create");
    assert_eq!(due(&[current("a", Phase::Coming), current("b", READY)], 2), "");
    assert_eq!(due(&[], 9), ["create"; STARTS_AT_ONCE as usize].join(", "));
}

#[test]
fn nothing_happens_to_what_runs_while_nobody_has_said_how_many() {
    let replicas = [current("a", READY), old("b", READY)];
    let scene = Scene { replicas: &replicas, wanted: None, pace: Pace::Free, terms: TERMS, now: at(10) };
    assert_eq!(plan(&scene), Plan::default());
}

#[test]
fn what_takes_no_requests_goes_first_then_what_is_old_then_what_is_young() {
    let replicas = [
        current("a", READY),
        current("b", STARTING),
        current("c", READY),
        old("d", READY),
        current("e", Phase::Ready(Weight::Growing)),
    ];
    assert_eq!(due(&replicas, 3), "retire b: more than are wanted");
    assert_eq!(due(&replicas[..4], 2), "retire b: more than are wanted, retire d: replaced");
    let ready = [current("a", READY), current("b", READY), current("c", READY)];
    assert_eq!(due(&ready, 1), "retire c: more than are wanted, retire b: more than are wanted");
    assert_eq!(due(&ready, 0).matches("retire").count(), 3);
}

#[test]
fn a_new_one_is_made_beside_the_old_ones_and_takes_their_place_when_it_carries_its_share() {
    let mut replicas = vec![old("a", READY), old("b", READY), old("c", READY)];
    assert_eq!(due(&replicas, 3), "create");
    replicas.push(current("d", STARTING));
    assert_eq!(due(&replicas, 3), "");
    replicas[3].phase = Phase::Ready(Weight::Growing);
    assert_eq!(due(&replicas, 3), "");
    replicas[3].phase = READY;
    assert_eq!(due(&replicas, 3), "retire c: replaced, create");
}

#[test]
fn of_two_new_ones_the_one_on_its_ramp_goes_before_the_one_that_stands_for_an_old_one() {
    let growing = Replica { born: 1, ..current("b", Phase::Ready(Weight::Growing)) };
    let whole = Replica { born: 2, ..current("c", READY) };
    assert_eq!(due(&[old("a", READY), growing, whole], 1), "retire a: replaced, retire b: more than are wanted");
}

#[test]
fn an_old_one_that_takes_no_requests_makes_room_as_soon_as_a_new_one_answers() {
    let replicas = [old("a", READY), old("b", Phase::Frozen)];
    assert_eq!(due(&replicas, 2), "create");
    let replicas = [old("a", READY), old("b", Phase::Frozen), current("c", STARTING)];
    assert_eq!(due(&replicas, 2), "");
    let replicas = [old("a", READY), old("b", Phase::Frozen), current("c", READY)];
    assert_eq!(due(&replicas, 2), "retire b: replaced, create");
}

/// After a restart with another template, what was adopted has not answered a probe of ours yet.
#[test]
fn what_was_just_adopted_stays_until_its_replacement_answers() {
    assert_eq!(due(&[old("a", STARTING), current("b", Phase::Coming)], 1), "");
    assert_eq!(due(&[old("a", STARTING), current("b", STARTING)], 1), "");
    assert_eq!(due(&[old("a", STARTING), current("b", READY)], 1), "retire a: replaced");
}

#[test]
fn the_old_ones_stay_while_starts_fail_and_one_new_one_is_tried_at_a_time() {
    let replicas = [old("a", READY), old("b", READY)];
    assert_eq!(due_at(Pace::OneFrom(at(11)), &replicas, 2), "");
    assert_eq!(due_at(Pace::OneFrom(at(10)), &replicas, 2), "create");
    assert_eq!(due_at(Pace::OneFrom(at(10)), &[], 5), "create");
    assert_eq!(due_at(Pace::OneFrom(at(10)), &[current("a", STARTING)], 5), "");
    assert_eq!(due_at(Pace::Halted, &[], 5), "");
}

#[test]
fn the_plan_wakes_when_a_pause_ends() {
    let scene = Scene { replicas: &[], wanted: Some(1), pace: Pace::OneFrom(at(11)), terms: TERMS, now: at(10) };
    assert_eq!(plan(&scene), Plan { steps: vec![], next: Some(at(11)) });
}

#[test]
fn a_retired_one_is_stopped_when_it_was_quiet_for_a_moment_or_its_time_is_over() {
    let retiring = |since: u64, quiet_since| Phase::Retiring { since: at(since), quiet_since };
    assert_eq!(due(&[current("a", retiring(9, None))], 0), "");
    assert_eq!(due(&[current("a", retiring(9, Some(at(10))))], 0), "");
    assert_eq!(due(&[current("a", retiring(9, Some(at(9))))], 0), "stop a: Finished");
    let terms = Terms { drain: Duration::from_secs(1), ..TERMS };
    let replicas = [current("a", retiring(9, None))];
    let scene = Scene { replicas: &replicas, wanted: Some(0), pace: Pace::Free, terms, now: at(10) };
    assert_eq!(words(&plan(&scene)), "stop a: Overdue");
}

#[test]
fn a_retired_one_that_is_needed_again_is_taken_back_before_anything_is_made() {
    let retiring = Phase::Retiring { since: at(9), quiet_since: Some(at(9)) };
    assert_eq!(due(&[current("a", retiring)], 2), "take back a, create");
    assert_eq!(due(&[old("a", retiring)], 1), "create, stop a: Finished");
}

#[test]
fn what_has_ended_is_reported_then_removed_and_another_one_made() {
    let ended = |since, told| current("a", Phase::Ended { since: at(since), told });
    assert_eq!(due(&[ended(10, Told::No)], 1), "create, report a");
    assert_eq!(due(&[ended(10, Told::Yes)], 0), "");
    assert_eq!(due(&[ended(9, Told::Yes)], 0), "remove a");
}

#[test]
fn who_takes_no_requests_for_too_long_is_given_up_and_who_is_frozen_is_not() {
    let terms = Terms { ready_within: Duration::from_secs(10), ..TERMS };
    let replicas = [current("a", STARTING), current("b", Phase::Frozen)];
    let scene = Scene { replicas: &replicas, wanted: Some(2), pace: Pace::Free, terms, now: at(10) };
    assert_eq!(words(&plan(&scene)), "give up a");
}

/// An engine, as far as the plan sees one. What it makes runs after a while and takes requests after another.
struct Model {
    now: Moment,
    replicas: Vec<Modelled>,
    n_made: u64,
    template: u64,
}

struct Modelled {
    id: Arc<str>,
    born: u64,
    template: u64,
    phase: Phase,
    before_retired: Phase,
    /// Ticks to its next phase.
    ticks: u64,
    in_flight: u64,
}

impl Model {
    fn scene(&self) -> Vec<Replica> {
        let vintage = |template| if template == self.template { Vintage::Current } else { Vintage::Old };
        let seen = |one: &Modelled| Replica {
            id: one.id.clone(),
            vintage: vintage(one.template),
            phase: one.phase,
            born: one.born,
        };
        self.replicas.iter().map(seen).collect()
    }

    fn carry_out(&mut self, steps: &[Step], pace: u64) {
        for step in steps {
            if *step == Step::Create {
                self.n_made += 1;
                self.replicas.push(Modelled {
                    id: self.n_made.to_string().into(),
                    born: self.n_made,
                    template: self.template,
                    phase: Phase::Coming,
                    before_retired: Phase::Coming,
                    ticks: pace,
                    in_flight: 0,
                });
                continue;
            }
            let (Step::TakeBack(id) | Step::Retire(id, _) | Step::Stop(id, _)) = step else {
                let (Step::Report(id) | Step::Remove(id) | Step::GiveUp(id)) = step else { unreachable!() };
                match self.find(id).phase {
                    Phase::Ended { since, told: Told::No } => {
                        self.find(id).phase = Phase::Ended { since, told: Told::Yes };
                    }
                    _ => self.replicas.retain(|one| one.id != *id),
                }
                continue;
            };
            let now = self.now;
            let one = self.find(id);
            match step {
                Step::TakeBack(_) => one.phase = one.before_retired,
                Step::Retire(..) => {
                    one.before_retired = one.phase;
                    one.phase = Phase::Retiring { since: now, quiet_since: None };
                }
                _ => (one.phase, one.ticks) = (Phase::Going, pace),
            }
        }
    }

    fn find(&mut self, id: &str) -> &mut Modelled {
        self.replicas.iter_mut().find(|one| *one.id == *id).expect("steps name what is there")
    }

    fn tick(&mut self, pace: u64) {
        self.now = self.now.after(TICK);
        let now = self.now;
        self.replicas.retain(|one| one.phase != Phase::Going || one.ticks > 0);
        for one in &mut self.replicas {
            one.in_flight = one.in_flight.saturating_sub(1);
            let is_due = one.ticks == 0;
            one.ticks = one.ticks.saturating_sub(1);
            one.phase = match one.phase {
                Phase::Coming if is_due => {
                    one.ticks = pace;
                    Phase::Starting { since: now }
                }
                Phase::Starting { .. } if is_due => {
                    one.ticks = pace;
                    one.in_flight = pace;
                    Phase::Ready(Weight::Growing)
                }
                Phase::Ready(Weight::Growing) if is_due => READY,
                Phase::Retiring { since, quiet_since: None } if one.in_flight == 0 => {
                    Phase::Retiring { since, quiet_since: Some(now) }
                }
                same => same,
            };
        }
    }

    /// The `nth` replica ends by itself.
    fn crash(&mut self, nth: usize) {
        let (n, now) = (self.replicas.len().max(1), self.now);
        if let Some(one) = self.replicas.get_mut(nth % n).filter(|one| one.phase != Phase::Coming) {
            one.phase = Phase::Ended { since: now, told: Told::No };
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Want(u32),
    Edit,
    Crash(usize),
    Freeze(usize),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0u32..9).prop_map(Event::Want),
        Just(Event::Edit),
        any::<usize>().prop_map(Event::Crash),
        any::<usize>().prop_map(Event::Freeze),
        (1u64..40).prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..20)
}

/// Holds for every plan, whatever came before it.
fn judge(before: &[Replica], wanted: u32, steps: &[Step]) {
    let tally = |replicas: &[Replica]| Tally::of(replicas);
    let n_created = u32::try_from(steps.iter().filter(|step| **step == Step::Create).count()).unwrap();
    let retired =
        |replica: &&Replica| steps.iter().any(|step| matches!(step, Step::Retire(id, _) if *id == replica.id));
    let gone: Vec<_> = before.iter().filter(retired).cloned().collect();
    let stay: Vec<_> = before.iter().filter(|replica| !retired(replica)).cloned().collect();
    let (was, is) = (tally(before), tally(&stay));
    if n_created > 0 {
        assert!(is.current + n_created <= wanted, "more of the new template than are wanted");
        assert!(is.present + n_created <= wanted + surge(wanted), "more than the surge allows");
        assert!(is.coming + n_created <= STARTS_AT_ONCE);
    }
    if gone.iter().any(Replica::is_ready) {
        assert!(is.ready >= wanted.min(was.ready), "a ready one was retired that was needed");
    }
    if gone.iter().any(|replica| replica.is_ready() && replica.vintage == Vintage::Old) {
        assert!(is.whole >= wanted, "an old one was retired before a new one stood for it");
    }
    let touched = |id: &Arc<str>| before.iter().filter(|replica| replica.id == *id).count() == 1;
    let ids = steps.iter().filter_map(|step| match step {
        Step::Create => None,
        Step::TakeBack(id) | Step::Retire(id, _) | Step::Stop(id, _) => Some(id),
        Step::Report(id) | Step::Remove(id) | Step::GiveUp(id) => Some(id),
    });
    let mut ids: Vec<_> = ids.collect();
    assert!(ids.iter().all(|id| touched(id)), "a step names what it was not shown");
    let n_ids = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), n_ids, "two steps for one replica: {steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_plan_keeps_its_promises_and_comes_to_an_end(events in events(), pace in 1u64..6) {
        let mut model = Model { now: at(1), replicas: vec![], n_made: 0, template: 1 };
        let mut wanted = 0;
        let step = |model: &mut Model, wanted: u32| {
            let replicas = model.scene();
            let scene =
                Scene { replicas: &replicas, wanted: Some(wanted), pace: Pace::Free, terms: TERMS, now: model.now };
            let plan = plan(&scene);
            judge(&replicas, wanted, &plan.steps);
            model.carry_out(&plan.steps, pace);
            model.tick(pace);
            plan.steps.len()
        };
        for event in events {
            match event {
                Event::Want(n) => wanted = n,
                Event::Edit => model.template += 1,
                Event::Crash(nth) => model.crash(nth),
                Event::Freeze(nth) => {
                    let n = model.replicas.len().max(1);
                    let ready = |one: &&mut Modelled| matches!(one.phase, Phase::Ready(_));
                    if let Some(one) = model.replicas.get_mut(nth % n).filter(ready) {
                        one.phase = Phase::Starting { since: model.now };
                        one.ticks = pace;
                    }
                }
                Event::Wait(n_ticks) => (0..n_ticks).for_each(|_| { step(&mut model, wanted); }),
            }
            step(&mut model, wanted);
        }
        // Nothing happens any more: a bounded number of ticks, and then no step at all.
        let n_steps: usize = (0..1_000).map(|_| step(&mut model, wanted)).sum();
        prop_assert!(n_steps < 300, "{n_steps} steps");
        let replicas = model.scene();
        let is_settled = |replica: &Replica| replica.vintage == Vintage::Current && replica.phase == READY;
        prop_assert!(replicas.iter().all(is_settled), "{replicas:?}");
        prop_assert_eq!(replicas.len(), wanted as usize);
        prop_assert_eq!(step(&mut model, wanted), 0);
    }

    #[test]
    fn a_replacement_never_leaves_fewer_than_are_wanted(wanted in 1u32..9, pace in 1u64..6, n_edits in 1usize..4) {
        let mut model = Model { now: at(1), replicas: vec![], n_made: 0, template: 1 };
        let run = |model: &mut Model, n_ticks: usize, least: u32| {
            for _ in 0..n_ticks {
                let replicas = model.scene();
                let scene =
                    Scene { replicas: &replicas, wanted: Some(wanted), pace: Pace::Free, terms: TERMS, now: model.now };
                let steps = plan(&scene).steps;
                judge(&replicas, wanted, &steps);
                model.carry_out(&steps, pace);
                let ready = Tally::of(&model.scene()).ready;
                assert!(ready >= least, "{ready} of {least} are left");
                model.tick(pace);
            }
        };
        run(&mut model, 200, 0);
        for n in 0..n_edits {
            model.template += 1;
            // The next edit may come in the midst of a replacement.
            run(&mut model, if n % 2 == 0 { 7 } else { 400 }, wanted);
        }
        run(&mut model, 400, wanted);
        prop_assert!(model.scene().iter().all(|replica| replica.vintage == Vintage::Current));
        prop_assert_eq!(model.replicas.len(), wanted as usize);
    }
}
