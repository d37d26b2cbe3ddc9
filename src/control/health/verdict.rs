//! What a row of probes says about one backend, and when the next probe is due. Pure: no clock, no chance, no I/O.
//! Promises that a verdict turns only after as many probes in a row as the service asks for; the first passed probe of a
//! backend that waits for it is enough. It knows neither standings nor what a probe asks.

use std::time::Duration;

use crate::config::checked::Health;

/// How one probe ended, as far as the verdict goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkup {
    /// As expected.
    Passed,
    /// Not.
    Failed,
}

/// A verdict that has just turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It takes requests from now on.
    Healthy,
    /// It takes none.
    Unhealthy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Taken for healthy until probes have said something.
    PresumedHealthy,
    /// Taken for unhealthy until then.
    PresumedUnhealthy,
    Healthy,
    Unhealthy,
}

/// What probes have said about one backend so far.
///
/// HAProxy's machine: `rise` and `fall` count results in a row against the present state, and one in its favour begins
/// the count anew. Envoy's rule for the start: the first success is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
}

impl Verdict {
    /// For a backend that takes requests until its probes have failed.
    pub const fn presumed_healthy() -> Self {
        Self { state: State::PresumedHealthy, against: 0 }
    }

    /// For one that takes none until a probe has passed.
    pub const fn presumed_unhealthy() -> Self {
        Self { state: State::PresumedUnhealthy, against: 0 }
    }

    /// Whether it takes requests as far as probes go.
    pub const fn is_healthy(&self) -> bool {
        matches!(self.state, State::PresumedHealthy | State::Healthy)
    }

    /// Whether the next probes may turn it: they come faster then.
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self.state, State::PresumedHealthy | State::PresumedUnhealthy) || self.against > 0
    }

    /// Another way of asking: what was counted does not count any more, what was found holds until it is found otherwise.
    pub const fn ask_anew(&mut self) {
        self.against = 0;
    }

    /// Takes one result in.
    pub fn record(&mut self, checkup: Checkup, health: &Health) -> Option<Turn> {
        let was_healthy = self.is_healthy();
        match (self.state, checkup) {
            (State::PresumedHealthy | State::PresumedUnhealthy | State::Healthy, Checkup::Passed) => {
                self.settle(State::Healthy)
            }
            (State::Unhealthy, Checkup::Failed) => self.settle(State::Unhealthy),
            (State::Unhealthy, Checkup::Passed) => self.count(health.healthy_after.get(), State::Healthy),
            (_, Checkup::Failed) => self.count(health.unhealthy_after.get(), State::Unhealthy),
        }
        match (was_healthy, self.is_healthy()) {
            (true, false) => Some(Turn::Unhealthy),
            (false, true) => Some(Turn::Healthy),
            _ => None,
        }
    }

    fn settle(&mut self, state: State) {
        *self = Self { state, against: 0 };
    }

    fn count(&mut self, enough: u32, then: State) {
        self.against = self.against.saturating_add(1);
        if self.against >= enough {
            self.settle(then);
        }
    }
}

/// While a verdict is in doubt, probes come this many times as often: HAProxy's `fastinter`, which it leaves to its users,
/// and Envoy's `unhealthy_edge_interval`. With the default of 2 s a dead backend is out after 1 s instead of 4.
const FASTER_IN_DOUBT: u32 = 4;
/// But not more often than this, so that a service in trouble is not troubled by its probes.
const FASTEST: Duration = Duration::from_millis(100);
/// Probes of many backends drift apart by this share of the pause, either way: HAProxy's `spread-checks 10`.
const JITTER_PERCENT: u64 = 10;

/// From the beginning of one probe to the beginning of the next. `random` is uniform over all of `u64`.
pub fn pause(health: &Health, verdict: &Verdict, random: u64) -> Duration {
    let faster = (health.every / FASTER_IN_DOUBT).max(FASTEST).min(health.every);
    let pause = if verdict.is_in_doubt() { faster } else { health.every };
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX / 2);
    let (least, spread) = (nanos - nanos / 100 * JITTER_PERCENT, nanos / 100 * JITTER_PERCENT * 2);
    let part = (u128::from(spread) * u128::from(random)) >> 64;
    Duration::from_nanos(least + u64::try_from(part).expect("less than the spread, which fits"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::control::health::tests::health;

    fn thresholds(healthy_after: u32, unhealthy_after: u32) -> Health {
        let number = |n| NonZeroU32::new(n).unwrap();
        Health { healthy_after: number(healthy_after), unhealthy_after: number(unhealthy_after), ..health() }
    }

    /// `.` passes, `x` fails; the turns as `+` and `-`, each where it happens.
    fn turns(mut verdict: Verdict, health: &Health, results: &str) -> String {
        let turn = |result| {
            let checkup = if result == '.' { Checkup::Passed } else { Checkup::Failed };
            match verdict.record(checkup, health) {
                Some(Turn::Healthy) => '+',
                Some(Turn::Unhealthy) => '-',
                None => ' ',
            }
        };
        results.chars().map(turn).collect()
    }

    #[test]
    fn three_failures_in_a_row_take_it_out_and_two_passes_bring_it_back() {
        let (health, begin) = (thresholds(2, 3), Verdict::presumed_healthy());
        assert_eq!(turns(begin, &health, "..xx.xxx..x"), "       - + ");
        assert_eq!(turns(begin, &health, "xxx.x.x.."), "  -     +");
    }

    #[test]
    fn the_first_passed_probe_is_enough_for_one_that_waits_for_it() {
        let health = thresholds(3, 3);
        assert_eq!(turns(Verdict::presumed_unhealthy(), &health, "."), "+");
        assert_eq!(turns(Verdict::presumed_unhealthy(), &health, "xx."), "  +");
        // By then it has shown that it fails: the way back is the usual one.
        assert_eq!(turns(Verdict::presumed_unhealthy(), &health, "xxx..."), "     +");
    }

    #[test]
    fn a_change_of_the_question_keeps_the_verdict_and_forgets_the_count() {
        let health = thresholds(2, 3);
        let mut verdict = Verdict::presumed_healthy();
        for checkup in [Checkup::Passed, Checkup::Failed, Checkup::Failed] {
            assert_eq!(verdict.record(checkup, &health), None);
        }
        verdict.ask_anew();
        assert!(verdict.is_healthy());
        assert_eq!(turns(verdict, &health, "xxx"), "  -");
    }

    #[test]
    fn probes_come_faster_while_in_doubt_and_not_while_settled_down() {
        let health = thresholds(2, 3);
        let exactly = u64::MAX / 2; // no jitter
        let millis = |verdict: &Verdict| pause(&health, verdict, exactly).as_millis();
        let mut verdict = Verdict::presumed_healthy();
        let mut pauses = vec![millis(&verdict)];
        for checkup in ".x.xxxx.".chars().map(|c| if c == '.' { Checkup::Passed } else { Checkup::Failed }) {
            verdict.record(checkup, &health);
            pauses.push(millis(&verdict));
        }
        let (slow, fast) = (1_999, 499);
        assert_eq!(pauses, [fast, slow, fast, slow, fast, fast, slow, slow, fast]);
    }

    #[test]
    fn the_fastest_probes_are_not_faster_than_the_user_asks_nor_than_a_tenth_of_a_second() {
        let verdict = Verdict::presumed_healthy();
        let pause = |every| pause(&Health { every, ..health() }, &verdict, u64::MAX / 2).as_millis();
        assert_eq!(pause(Duration::from_millis(200)), 99);
        assert_eq!(pause(Duration::from_millis(50)), 49);
        assert_eq!(pause(Duration::from_secs(10)), 2_499);
    }

    proptest! {
        #[test]
        fn no_verdict_turns_without_enough_results_in_a_row(
            results in proptest::collection::vec(any::<bool>(), 0..200),
            healthy_after in 1_u32..6,
            unhealthy_after in 1_u32..6,
            waits in any::<bool>(),
        ) {
            let health = thresholds(healthy_after, unhealthy_after);
            let begin = if waits { Verdict::presumed_unhealthy() } else { Verdict::presumed_healthy() };
            let mut verdict = begin;
            let (mut passed, mut failed, mut is_settled) = (0, 0, false);
            for ok in results {
                (passed, failed) = if ok { (passed + 1, 0) } else { (0, failed + 1) };
                let checkup = if ok { Checkup::Passed } else { Checkup::Failed };
                match verdict.record(checkup, &health) {
                    Some(Turn::Unhealthy) => prop_assert_eq!(failed, unhealthy_after),
                    Some(Turn::Healthy) => prop_assert!(passed == healthy_after || !is_settled && passed == 1),
                    None => {}
                }
                // As many as asked for always settle it.
                prop_assert!(failed < unhealthy_after || !verdict.is_healthy());
                prop_assert!(passed < healthy_after || verdict.is_healthy());
                is_settled |= ok || failed >= unhealthy_after;
            }
        }

        #[test]
        fn the_pause_is_within_ten_percent(every_ms in 1_u64..1_000_000, random in any::<u64>()) {
            let every = Duration::from_millis(every_ms);
            let health = Health { every, ..health() };
            let mut settled = Verdict::presumed_healthy();
            settled.record(Checkup::Passed, &health);
            let pause = pause(&health, &settled, random);
            prop_assert!(pause >= every * 9 / 10 && pause <= every * 11 / 10, "{pause:?} for {every:?}");
        }
    }
}
