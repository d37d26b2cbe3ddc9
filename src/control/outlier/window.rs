//! The answers of one backend over the last ten seconds, in exact buckets of one second.
//! It promises that a tight burst and a spread one come to the same sum, which an average that decays cannot. Its input
//! are totals that only grow; it reads no clock.

use std::time::Duration;

use crate::units::Moment;

/// One second each.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(1);

/// Answers by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) good: u64,
    pub(super) bad: u64,
    /// Neither: they hurt the rate all the same.
    pub(super) throttled: u64,
}

impl Counts {
    /// All answers that count.
    pub(super) fn total(self) -> u64 {
        self.good + self.bad + self.throttled
    }

    /// Those that were no success.
    pub(super) fn failed(self) -> u64 {
        self.bad + self.throttled
    }

    pub(super) fn plus(self, other: Counts) -> Counts {
        Counts { good: self.good + other.good, bad: self.bad + other.bad, throttled: self.throttled + other.throttled }
    }

    fn since(self, earlier: Counts) -> Counts {
        Counts {
            good: self.good.saturating_sub(earlier.good),
            bad: self.bad.saturating_sub(earlier.bad),
            throttled: self.throttled.saturating_sub(earlier.throttled),
        }
    }
}

/// The last ten seconds.
#[derive(Debug)]
pub(super) struct Window {
    buckets: [Counts; BUCKETS],
    /// Which second the last note fell into.
    second: u64,
    totals: Counts,
}

impl Window {
    /// Empty: what `totals` holds came before.
    pub(super) fn new(totals: Counts, now: Moment) -> Self {
        Self { buckets: [Counts::default(); BUCKETS], second: second(now), totals }
    }

    /// Notes what has been counted by `now`; the difference to the last note belongs to this second.
    pub(super) fn note(&mut self, totals: Counts, now: Moment) {
        let present = second(now).max(self.second);
        for passed in (self.second + 1..=present).take(BUCKETS) {
            self.buckets[bucket_of(passed)] = Counts::default();
        }
        self.second = present;
        let bucket = &mut self.buckets[bucket_of(present)];
        *bucket = bucket.plus(totals.since(self.totals));
        self.totals = totals;
    }

    /// What the last ten seconds held.
    pub(super) fn sum(&self) -> Counts {
        self.buckets.iter().fold(Counts::default(), |sum, bucket| sum.plus(*bucket))
    }
}

fn second(now: Moment) -> u64 {
    now.since(Moment(0)).as_secs() / BUCKET.as_secs()
}

fn bucket_of(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_ms(ms: u64) -> Moment {
        Moment(0).after(Duration::from_millis(ms))
    }

    fn bad(n: u64) -> Counts {
        Counts { bad: n, ..Counts::default() }
    }

    #[test]
    fn what_came_before_it_began_is_not_in_it() {
        let mut window = Window::new(bad(100), at_ms(0));
        window.note(bad(103), at_ms(10));
        assert_eq!(window.sum(), bad(3));
    }

    #[test]
    fn a_second_leaves_it_after_ten() {
        let mut window = Window::new(bad(0), at_ms(0));
        window.note(bad(5), at_ms(900));
        window.note(bad(5), at_ms(9_999));
        assert_eq!(window.sum(), bad(5));
        window.note(bad(6), at_ms(10_000));
        assert_eq!(window.sum(), bad(1));
        window.note(bad(6), at_ms(86_400_000));
        assert_eq!(window.sum(), bad(0));
    }

    #[test]
    fn a_clock_that_stands_still_loses_nothing() {
        let mut window = Window::new(bad(0), at_ms(5_000));
        (1..=50).for_each(|n| window.note(bad(n), at_ms(5_000)));
        assert_eq!(window.sum(), bad(50));
    }

    proptest! {
        #[test]
        fn the_same_answers_within_the_window_make_the_same_sum_however_they_are_spread(
            mut moments in prop::collection::vec(0_u64..9_999, 1..40), each in 1_u64..10_000,
        ) {
            moments.sort_unstable();
            let start = 30_000;
            let mut spread = Window::new(bad(0), at_ms(start));
            for (n, moment) in moments.iter().enumerate() {
                spread.note(bad((n as u64 + 1) * each), at_ms(start + moment));
            }
            let mut tight = Window::new(bad(0), at_ms(start));
            tight.note(bad(moments.len() as u64 * each), at_ms(start + 5_000));
            prop_assert_eq!(spread.sum(), tight.sum());
        }
    }
}
