//! What a sweep may and may not decide, whatever it sees. Time is an argument, so nothing here waits.

use proptest::prelude::*;

use super::*;
use crate::units::Percent;

const NOW: Moment = Moment(1_000_000_000_000);

const NOBODY: [usize; 0] = [];

fn well() -> View {
    View {
        phase: None,
        presence: Presence::Present,
        failures_in_a_row: 0,
        held_against_it: 0,
        window: Counts { good: 100, ..Counts::default() },
        trial: None,
        ejections: 0,
        calm_since: NOW,
    }
}

fn failing(run: u32) -> View {
    View { failures_in_a_row: run, held_against_it: run, ..well() }
}

fn rate(good: u64, bad: u64) -> View {
    View { window: Counts { good, bad, throttled: 0 }, ..well() }
}

fn out() -> View {
    View { phase: Some(Phase::Ejected { until: NOW.after(secs(60)) }), ..well() }
}

fn absent() -> View {
    View { presence: Presence::Absent, ..well() }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at_most(percent: u8) -> Ejection {
    Ejection { max_ejected: Percent::new(percent).unwrap(), ..Ejection::default() }
}

/// Indexes of those that `policy` ejects.
fn ejected(views: &[View], policy: &Ejection) -> Vec<usize> {
    let decisions = sweep(views, Outlook::Fair, policy, NOW);
    let ejects = |decision: &&Decision| matches!(decision.verdict, Verdict::Eject { .. });
    decisions.iter().filter(ejects).map(|decision| decision.idx).collect()
}

#[test]
fn five_failures_in_a_row_eject_and_four_do_not() {
    assert_eq!(ejected(&[well(), failing(4), well()], &Ejection::default()), NOBODY);
    assert_eq!(ejected(&[well(), failing(5), well()], &Ejection::default()), [1]);
    let never = Ejection { consecutive: None, success_rate: None, ..Ejection::default() };
    assert_eq!(ejected(&[well(), failing(500), well()], &never), NOBODY);
}

/// Envoy #27066: the limit was compared with the state before the ejection.
#[test]
fn trap_max_ejection_of_67_percent_must_not_eject_all_of_three_backends() {
    let policy = at_most(67);
    assert_eq!(ejected(&[failing(9), failing(5), well()], &policy), [0, 1]);
    assert_eq!(ejected(&[out(), failing(9), well()], &policy), [1]);
    assert_eq!(ejected(&[out(), out(), failing(9)], &policy), NOBODY);
    assert_eq!(ejected(&[out(), failing(9), failing(9)], &policy), NOBODY);
    assert_eq!(ejected(&[failing(9), failing(9), failing(9)], &at_most(100)), NOBODY);
}

#[test]
fn one_may_always_be_out_and_the_last_one_never() {
    assert_eq!(ejected(&[failing(5), well()], &at_most(10)), [0]);
    assert_eq!(ejected(&[failing(5), well(), failing(7)], &at_most(10)), [2], "the worst");
    assert_eq!(ejected(&[failing(5)], &at_most(100)), NOBODY);
    for gone in [out(), absent()] {
        assert_eq!(ejected(&[failing(5), gone, gone], &at_most(100)), NOBODY);
    }
}

#[test]
fn the_unhealthy_and_the_drained_are_not_counted_as_ejected_but_as_missing() {
    assert_eq!(ejected(&[absent(), absent(), failing(5), well()], &at_most(50)), [2]);
    assert_eq!(ejected(&[absent(), absent(), absent(), failing(5)], &at_most(50)), NOBODY);
    let ill_and_failing = View { presence: Presence::Absent, ..failing(5) };
    assert_eq!(
        ejected(&[ill_and_failing, well(), well()], &at_most(50)),
        NOBODY,
        "its probes have taken it out already"
    );
}

#[test]
fn whoever_fails_no_worse_than_all_others_is_not_ejected_and_counts_anew() {
    let all = [failing(5), failing(3), failing(1)];
    let decisions = sweep(&all, Outlook::Fair, &Ejection::default(), NOW);
    assert_eq!(decisions, [0, 1, 2].map(|idx| Decision { idx, verdict: Verdict::Pardon }));
    let pardoned = View { failures_in_a_row: 5, held_against_it: 0, ..well() };
    assert_eq!(ejected(&[pardoned, failing(5)], &Ejection::default()), NOBODY, "a pardon does not make anybody well");
    assert_eq!(ejected(&[pardoned, well()], &Ejection::default()), NOBODY);
    let failing_still = View { failures_in_a_row: 10, held_against_it: 5, ..well() };
    assert_eq!(ejected(&[failing_still, well()], &Ejection::default()), [0]);
}

#[test]
fn the_first_that_is_well_again_accuses_nobody() {
    let views = [well(), failing(50), failing(7)];
    let decisions = sweep(&views, Outlook::InDoubt, &Ejection::default(), NOW);
    assert_eq!(decisions, [0, 1, 2].map(|idx| Decision { idx, verdict: Verdict::Pardon }));
}

#[test]
fn a_low_success_rate_ejects_if_the_others_do_better() {
    let policy = Ejection { success_rate: Percent::new(80), ..at_most(100) };
    assert_eq!(ejected(&[rate(7, 3), rate(100, 0)], &policy), [0]);
    assert_eq!(ejected(&[rate(8, 2), rate(100, 0)], &policy), NOBODY, "80 % is not below 80 %");
    assert_eq!(ejected(&[rate(0, 4), rate(100, 0)], &policy), NOBODY, "four answers are too few to tell");
    assert_eq!(ejected(&[rate(1, 4), rate(100, 0)], &policy), [0]);
    assert_eq!(
        ejected(&[rate(70, 30), rate(75, 25), rate(78, 22)], &policy),
        NOBODY,
        "one page of all of them is broken"
    );
    assert_eq!(ejected(&[rate(10, 90), rate(75, 25), rate(70, 30)], &policy), [0]);
    assert_eq!(ejected(&[rate(10, 90), out()], &policy), NOBODY);
}

#[test]
fn trap_429_hurts_the_rate_and_not_the_run() {
    let throttled = View { window: Counts { good: 2, bad: 0, throttled: 8 }, ..well() };
    let policy = Ejection { success_rate: Percent::new(50), ..Ejection::default() };
    assert_eq!(ejected(&[throttled, well()], &policy), [0]);
    assert_eq!(ejected(&[throttled, well()], &Ejection { success_rate: None, ..policy }), NOBODY);
}

#[test]
fn an_ejection_ends_in_a_trial_and_the_trial_decides() {
    let policy = Ejection::default();
    let verdict = |view| sweep(&[view, well()], Outlook::Fair, &policy, NOW).first().map(|decision| decision.verdict);
    assert_eq!(verdict(out()), None);
    assert_eq!(verdict(View { phase: Some(Phase::Ejected { until: NOW }), ..well() }), Some(Verdict::Try));
    let tried = |trial| View { phase: Some(Phase::Probation), trial, ejections: 1, ..well() };
    assert_eq!(verdict(tried(None)), None);
    assert_eq!(verdict(tried(Some(Trial::Passed))), Some(Verdict::Restore));
    let again = Verdict::Eject { because: Because::TrialFailed, time: policy.base * 2 };
    assert_eq!(verdict(tried(Some(Trial::Failed))), Some(again));
}

#[test]
fn an_ejection_lasts_twice_as_long_as_the_one_before_up_to_the_maximum() {
    let policy = Ejection { base: secs(10), max: secs(300), ..Ejection::default() };
    let times: Vec<u64> = (0..7).map(|ejections| ejection_time(ejections, &policy).as_secs()).collect();
    assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(ejection_time(u32::MAX, &policy), policy.max);
    let odd = Ejection { base: secs(10), max: secs(1), ..policy };
    assert_eq!(ejection_time(3, &odd), secs(10), "never shorter than the first");
}

#[test]
fn an_ejection_is_forgiven_per_interval_without_one() {
    let policy = Ejection::default();
    let calm = |calm_since| View { ejections: 3, calm_since, ..well() };
    let verdicts = |view| sweep(&[view, well()], Outlook::Fair, &policy, NOW);
    assert!(verdicts(calm(NOW)).is_empty());
    let long_ago = Moment(NOW.0 - policy.base.as_nanos() as u64);
    assert_eq!(verdicts(calm(long_ago)), [Decision { idx: 0, verdict: Verdict::Forgive }]);
    assert!(verdicts(View { calm_since: long_ago, ..well() }).is_empty(), "nothing to forgive");
}

fn any_view() -> impl Strategy<Value = View> {
    let phase = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Phase::Probation)),
        1 => (0_u64..2 * NOW.0).prop_map(|until| Some(Phase::Ejected { until: Moment(until) })),
    ];
    let presence = prop_oneof![4 => Just(Presence::Present), 1 => Just(Presence::Absent)];
    let trial = prop_oneof![Just(None), Just(Some(Trial::Passed)), Just(Some(Trial::Failed))];
    (phase, presence, (0_u32..12, 0_u32..12), (0_u64..50, 0_u64..50, 0_u64..50), trial, 0_u32..40, 0..NOW.0).prop_map(
        |(phase, presence, (held_against_it, pardoned), (good, bad, throttled), trial, ejections, calm_since)| View {
            phase,
            presence,
            failures_in_a_row: held_against_it + pardoned,
            held_against_it,
            window: Counts { good, bad, throttled },
            trial,
            ejections,
            calm_since: Moment(calm_since),
        },
    )
}

proptest! {
    #[test]
    fn limits_hold_in_the_state_after_the_sweep(
        mut views in prop::collection::vec(any_view(), 0..12), percent in 0_u8..=100, success_rate in 0_u8..=100,
    ) {
        let policy = Ejection { success_rate: Percent::new(success_rate), ..at_most(percent) };
        let n_out = |views: &[View]| views.iter().filter(|view| view.phase.is_some()).count();
        let n_serving = |views: &[View]| views.iter().filter(|view| view.takes_requests()).count();
        let (n_out_before, n_serving_before) = (n_out(&views), n_serving(&views));
        let decisions = sweep(&views, Outlook::Fair, &policy, NOW);
        let n_max = (views.len() * usize::from(percent) / 100).max(1);
        for Decision { idx, verdict } in &decisions {
            let view = &mut views[*idx];
            match verdict {
                Verdict::Eject { because, time } => {
                    prop_assert!(*time >= policy.base && *time <= policy.max);
                    prop_assert_eq!(view.phase.is_some(), *because == Because::TrialFailed);
                    prop_assert!(view.phase.is_some() || view.takes_requests(), "who is not there is not ejected");
                    view.phase = Some(Phase::Ejected { until: NOW.after(*time) });
                }
                Verdict::Try => view.phase = Some(Phase::Probation),
                // Counted as out still: the limits hold before it is back.
                Verdict::Restore => prop_assert_eq!(view.trial, Some(Trial::Passed)),
                Verdict::Pardon | Verdict::Forgive => prop_assert!(view.phase.is_none()),
            }
        }
        prop_assert!(n_out(&views) <= n_max.max(n_out_before), "{} of {} are out", n_out(&views), views.len());
        prop_assert!(n_serving(&views) >= n_serving_before.min(1), "the last one was taken out");
    }

    #[test]
    fn a_service_that_fails_as_a_whole_loses_nobody(runs in prop::collection::vec(1_u32..100, 1..10)) {
        let views: Vec<View> = runs.into_iter().map(failing).collect();
        prop_assert_eq!(ejected(&views, &at_most(100)), NOBODY);
    }
}
