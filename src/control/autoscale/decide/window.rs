//! Averages over the recent past, and the highest number of the recent past: what the formula remembers.
//! Promises exact buckets, so that a burst weighs the same at ten samples a second and at ten thousand, and bounded
//! memory. It knows no clock and no requests.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Moment;

/// Digits after the point that averages have: Knative's. Beyond them is the noise of adding fractions, and 12.000000000002
/// requests at six a replica are not three replicas.
const PRECISION: f64 = 1e6;

/// A window that only rises or falls looks like nothing but likeness: its error stays finite.
const LIKENESS_MAX: f64 = 0.95;

/// Values of the recent past, in buckets of equal length.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    step: Duration,
    n_max: usize,
    /// Those that anything fell into, oldest first.
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    number: u64,
    sum: f64,
    weight: f64,
}

impl Buckets {
    /// Buckets of `step`, as many as `longest` needs.
    pub(super) fn new(step: Duration, longest: Duration) -> Self {
        Self { step, n_max: n_buckets(longest, step), buckets: VecDeque::new() }
    }

    /// Adds `sum`, which stands for `weight` equal parts.
    pub(super) fn add(&mut self, now: Moment, sum: f64, weight: f64) {
        let number = self.number(now);
        match self.buckets.back_mut() {
            Some(last) if last.number >= number => {
                last.sum += sum;
                last.weight += weight;
            }
            _ => self.buckets.push_back(Bucket { number, sum, weight }),
        }
        while self.buckets.front().is_some_and(|oldest| number - oldest.number >= self.n_max as u64) {
            self.buckets.pop_front();
        }
    }

    /// The mean of the buckets of the last `window`, each counting the same: a second is a second. Buckets that nothing
    /// fell into are left out, so a window that has just begun is as long as what there is. `None` if there is nothing.
    pub(super) fn mean(&self, now: Moment, window: Duration) -> Option<f64> {
        let means = || self.within(now, window).map(|bucket| bucket.sum / bucket.weight);
        let n = means().count();
        (n > 0).then(|| rounded(means().sum::<f64>() / n as f64))
    }

    /// How far the mean of the last `window` may be from that of a longer one, by chance: its standard error, for buckets
    /// of which each resembles the one before. A request that takes ten seconds is in ten of them, and a burst in several,
    /// so sixty buckets tell less than sixty numbers would.
    pub(super) fn error(&self, now: Moment, window: Duration) -> f64 {
        const TOO_FEW: usize = 3;
        let means: Vec<f64> = self.within(now, window).map(|bucket| bucket.sum / bucket.weight).collect();
        if means.len() < TOO_FEW {
            return 0.0;
        }
        let n = means.len() as f64;
        let mean = means.iter().sum::<f64>() / n;
        let squares: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
        if squares == 0.0 {
            return 0.0;
        }
        let products: f64 = means.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        let likeness = (products / squares).clamp(0.0, LIKENESS_MAX);
        rounded((squares / (n - 1.0) / n * (1.0 + likeness) / (1.0 - likeness)).sqrt())
    }

    /// The mean of everything of the last `window`, each part counting the same: an answer is an answer.
    pub(super) fn pooled_mean(&self, now: Moment, window: Duration) -> Option<f64> {
        let weight: f64 = self.within(now, window).map(|bucket| bucket.weight).sum();
        let sum: f64 = self.within(now, window).map(|bucket| bucket.sum).sum();
        (weight > 0.0).then(|| rounded(sum / weight))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
    }

    fn within(&self, now: Moment, window: Duration) -> impl Iterator<Item = &Bucket> {
        let (present, n) = (self.number(now), n_buckets(window, self.step) as u64);
        self.buckets.iter().filter(move |bucket| bucket.number + n > present && bucket.weight > 0.0)
    }

    fn number(&self, now: Moment) -> u64 {
        now.0 / u64::try_from(self.step.as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// How many buckets of `step` make up `window`: at least one.
fn n_buckets(window: Duration, step: Duration) -> usize {
    let n = window.as_nanos().div_ceil(step.as_nanos().max(1));
    usize::try_from(n).unwrap_or(usize::MAX).max(1)
}

fn rounded(value: f64) -> f64 {
    (value * PRECISION).round() / PRECISION
}

/// The highest of the numbers of the recent past.
#[derive(Clone, Debug, Default)]
pub(super) struct Highest {
    /// Falling from front to back: whatever a later number exceeds cannot be the highest again.
    falling: VecDeque<(Moment, u32)>,
}

impl Highest {
    /// Adds the number of `now` and gives the highest of the last `window`.
    pub(super) fn add(&mut self, now: Moment, number: u32, window: Duration) -> u32 {
        while self.falling.back().is_some_and(|(_, earlier)| *earlier <= number) {
            self.falling.pop_back();
        }
        self.falling.push_back((now, number));
        while self.falling.front().is_some_and(|(at, _)| now.since(*at) > window) {
            self.falling.pop_front();
        }
        self.falling.front().map_or(number, |(_, highest)| *highest)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.falling.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Moment {
        Moment(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_second_counts_once_however_many_samples_it_has() {
        let mut buckets = Buckets::new(SECOND, SECOND * 6);
        (0..100).for_each(|n| buckets.add(at(n * 10), 10.0, 1.0));
        buckets.add(at(1_500), 0.0, 1.0);
        assert_eq!(buckets.mean(at(1_900), SECOND * 6), Some(5.0));
    }

    #[test]
    fn a_young_window_is_as_long_as_what_there_is_and_an_old_one_forgets() {
        let mut buckets = Buckets::new(SECOND, SECOND * 3);
        assert_eq!(buckets.mean(at(0), SECOND * 3), None);
        for (second, value) in [9.0, 3.0, 3.0, 3.0].into_iter().enumerate() {
            buckets.add(at(second as u64 * 1_000), value, 1.0);
        }
        assert_eq!(buckets.mean(at(3_999), SECOND * 3), Some(3.0));
        assert_eq!(buckets.buckets.len(), 3);
        assert_eq!(buckets.mean(at(60_000), SECOND * 3), None);
    }

    #[test]
    fn adding_fractions_leaves_no_noise() {
        let mut buckets = Buckets::new(SECOND, SECOND);
        (0..10).for_each(|_| buckets.add(at(0), 0.1, 0.1));
        assert_eq!(buckets.mean(at(0), SECOND), Some(1.0));
    }

    #[test]
    fn the_error_is_none_for_constant_load_and_grows_with_noise_and_with_its_length() {
        let error = |value: fn(u64) -> u64| {
            let mut buckets = Buckets::new(SECOND, SECOND * 60);
            (0..60).for_each(|second| buckets.add(at(second * 1_000), value(second) as f64, 1.0));
            buckets.error(at(59_000), SECOND * 60)
        };
        assert_eq!(error(|_| 12), 0.0);
        let [quick, slow] = [error(|second| second % 2 * 4), error(|second| second / 6 % 2 * 4)];
        assert!((0.25..0.27).contains(&quick), "two on either side, 60 of them: {quick}");
        assert!(slow > quick * 2.0, "{slow}");
    }

    #[test]
    fn answers_are_pooled() {
        let mut buckets = Buckets::new(SECOND, SECOND * 6);
        buckets.add(at(0), 900.0, 9.0);
        buckets.add(at(1_000), 1_100.0, 1.0);
        assert_eq!(buckets.pooled_mean(at(1_000), SECOND * 6), Some(200.0));
    }

    #[test]
    fn the_highest_leaves_with_its_time() {
        let mut highest = Highest::default();
        let window = Duration::from_millis(100);
        let seen: Vec<u32> = [(0, 3), (50, 9), (60, 4), (100, 2), (150, 1), (151, 1), (161, 1), (202, 1)]
            .map(|(millis, number)| highest.add(at(millis), number, window))
            .into();
        assert_eq!(seen, [3, 9, 9, 9, 9, 4, 2, 1]);
    }
}
