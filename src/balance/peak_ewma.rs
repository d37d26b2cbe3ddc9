//! The cheaper of two backends by latency × requests in flight, where latency jumps to a peak and forgets it slowly.
//! A backend without samples, or with old ones, is taken to be like the one it is compared with: it gets its share,
//! neither everything nor nothing. What counts as a sample is the caller's business; nothing here measures time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::least_requests::{self, Load};
use super::random::{Dice, Draw};
use super::{Candidate, Pool};
use crate::units::Moment;

/// How fast samples are forgotten: after this time 37 % is left. Linkerd's control plane and Envoy both use 10 s.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as, at least: far above any healthy latency, so that failing fast attracts nothing. Linkerd's figure.
const PENALTY: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is believed. Linkerd's figure.
const PENALTY_MAX: Duration = Duration::from_secs(300);

/// What a failure counts as, in place of the time that it took.
pub fn penalty(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(PENALTY, |asked| asked.clamp(PENALTY, PENALTY_MAX))
}

/// Draws two and takes the one with the smaller latency × (in flight + 1) / weight.
pub(super) fn pick<C: Candidate>(pool: &Pool<'_, C>, draw: &Draw, dice: &mut Dice) -> Option<usize> {
    let (first, second) = least_requests::two_choices(pool, draw, dice)?;
    let Some(second) = second else { return Some(first) };
    let (a, b) = (&pool.candidates[first], &pool.candidates[second]);
    let (mut load_a, mut load_b) = (Load::of(pool, first), Load::of(pool, second));
    (load_a.latency, load_b.latency) = compare(a.latency().sample(), b.latency().sample());
    Some(if load_b.is_cheaper_than(&load_a) { second } else { first })
}

/// The latencies to compare two backends by, in nanoseconds.
///
/// Only the *difference* in age counts, so a quiet night leaves the order as it was. The older sample moves towards the
/// newer one: a slow one fades until it is on a par and is tried again, a fast one loses its lead. It never passes the
/// newer one, else a backend that comes back after a minute would look 400 times faster than all others and take
/// every request until its first answer. Without a sample, a backend is on a par at once.
fn compare(a: Option<Sample>, b: Option<Sample>) -> (f64, f64) {
    match (a, b) {
        (Some(a), Some(b)) if a.tick.is_before(b.tick) => (a.faded_towards(b), b.nanos),
        (Some(a), Some(b)) => (a.nanos, b.faded_towards(a)),
        _ => (1.0, 1.0),
    }
}

/// A peak-sensitive moving average of one backend's latency; shared by all worker threads, without a lock.
///
/// A sample above the value replaces it; one below moves it by 1 - e^(-age / 10 s), where age is the time since the last
/// sample. Value and time are one atomic word, so no reader sees one without the other.
#[derive(Default)]
pub struct Ewma {
    /// The value in the upper 28 bits (an `f32` of nanoseconds without sign and last three bits), the tick in the lower
    /// 36. Zero: no sample yet.
    word: AtomicU64,
}

impl Ewma {
    /// Records that an answer took `latency` and came at `now`.
    pub fn observe(&self, latency: Duration, now: Moment) {
        let observed = Sample::new(latency, now);
        self.change(|last| last.map_or(observed, |last| last.followed_by(observed)));
    }

    /// Records that nothing had come after `latency`, when the request was given up at `now`: it was at least that slow.
    pub fn observe_at_least(&self, latency: Duration, now: Moment) {
        let observed = Sample::new(latency, now);
        self.change(|last| match last {
            Some(last) if last.nanos >= observed.nanos => last,
            _ => observed,
        });
    }

    /// Records a failure at `now` as an answer that took [`penalty`], or as long as answers took before, if that is longer:
    /// a failing backend must not come to look faster than it was.
    pub fn penalize(&self, penalty: Duration, now: Moment) {
        let observed = Sample::new(penalty, now);
        self.change(|last| match last {
            Some(last) => Sample { nanos: last.nanos.max(observed.nanos), tick: last.tick.later(observed.tick) },
            None => observed,
        });
    }

    /// Forgets all samples: the backend is as good as new.
    pub fn forget(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    fn change(&self, next: impl Fn(Option<Sample>) -> Sample) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let changed = next(Sample::decode(word)).encode();
            // Within one tick a sample below the peak changes nothing: the usual case at high rates, and no write.
            if changed == word {
                return;
            }
            match self.word.compare_exchange_weak(word, changed, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// The average as it has aged until `now`; `None` without samples. For people to look at: picks compare samples.
    pub fn value(&self, now: Moment) -> Option<Duration> {
        let sample = self.sample()?;
        let nanos = sample.nanos * share_left(Tick::of(now).since(sample.tick));
        Some(Duration::from_nanos(nanos as u64))
    }

    fn sample(&self) -> Option<Sample> {
        Sample::decode(self.word.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Ewma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = self.sample().map(|sample| Duration::from_nanos(sample.nanos as u64));
        f.debug_struct("Ewma").field("latency", &latency).finish()
    }
}

/// The average as of its last change.
#[derive(Clone, Copy)]
struct Sample {
    nanos: f64,
    tick: Tick,
}

impl Sample {
    fn new(latency: Duration, now: Moment) -> Self {
        Self { nanos: (latency.as_nanos() as f64).max(1.0), tick: Tick::of(now) }
    }

    fn followed_by(self, observed: Sample) -> Sample {
        let age = observed.tick.since(self.tick);
        let tick = self.tick.later(observed.tick);
        if observed.nanos > self.nanos {
            return Sample { nanos: observed.nanos, tick };
        }
        let left = share_left(age);
        Sample { nanos: self.nanos * left + observed.nanos * (1.0 - left), tick }
    }

    /// What this older sample is worth next to a newer one.
    fn faded_towards(self, newer: Sample) -> f64 {
        let left = share_left(newer.tick.since(self.tick));
        if self.nanos > newer.nanos {
            (self.nanos * left).max(newer.nanos)
        } else {
            self.nanos * left + newer.nanos * (1.0 - left)
        }
    }

    fn encode(self) -> u64 {
        let value = ((self.nanos as f32).to_bits() + 0b100) >> 3;
        u64::from(value) << Tick::BITS | self.tick.0
    }

    fn decode(word: u64) -> Option<Sample> {
        let value = (word >> Tick::BITS) as u32;
        let nanos = f32::from_bits(value << 3).into();
        (word != 0).then_some(Sample { nanos, tick: Tick(word & Tick::MASK) })
    }
}

/// A moment in steps of 2²⁰ ns, about a millisecond, in 36 bits: the circle closes after 2.3 years.
#[derive(Clone, Copy)]
struct Tick(u64);

impl Tick {
    const BITS: u32 = 36;
    const MASK: u64 = (1 << Self::BITS) - 1;

    fn of(moment: Moment) -> Tick {
        Tick((moment.0 >> 20) & Self::MASK)
    }

    fn is_before(self, other: Tick) -> bool {
        let distance = other.0.wrapping_sub(self.0) & Self::MASK;
        distance != 0 && distance <= Self::MASK / 2
    }

    fn later(self, other: Tick) -> Tick {
        if self.is_before(other) { other } else { self }
    }

    fn since(self, earlier: Tick) -> Duration {
        // Threads read the clock before they race for the word, so `earlier` may be the later one: then no time passed.
        if !earlier.is_before(self) {
            return Duration::ZERO;
        }
        Duration::from_nanos((self.0.wrapping_sub(earlier.0) & Self::MASK) << 20)
    }
}

fn share_left(age: Duration) -> f64 {
    (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(age: Duration) -> Moment {
        Moment(0).after(age)
    }

    #[track_caller]
    fn check_value(ewma: &Ewma, now: Duration, expected: Duration) {
        let value = ewma.value(at(now)).expect("has samples").as_secs_f64();
        let expected = expected.as_secs_f64();
        assert!((value - expected).abs() <= expected * 0.001, "{value} is not {expected}");
    }

    #[test]
    fn no_sample_is_no_value() {
        assert_eq!(Ewma::default().value(at(ms(1_000))), None);
    }

    #[test]
    fn a_sample_above_the_value_replaces_it_at_once() {
        let ewma = Ewma::default();
        ewma.observe(ms(20), at(ms(0)));
        ewma.observe(ms(900), at(ms(1)));
        check_value(&ewma, ms(1), ms(900));
    }

    #[test]
    fn a_sample_below_the_value_counts_by_the_time_since_the_last() {
        let ewma = Ewma::default();
        ewma.observe(ms(1_000), at(ms(0)));
        ewma.observe(ms(100), at(ms(10_000)));
        // 1000 × e⁻¹ + 100 × (1 - e⁻¹)
        check_value(&ewma, ms(10_000), Duration::from_secs_f64(0.431_091));
    }

    #[test]
    fn samples_age_without_new_ones() {
        let ewma = Ewma::default();
        ewma.observe(ms(1_000), at(ms(0)));
        check_value(&ewma, ms(10_000), Duration::from_secs_f64(0.367_879));
        check_value(&ewma, ms(100_000), Duration::from_secs_f64(0.000_045_4));
    }

    #[test]
    fn many_small_steps_forget_as_much_as_one_large_step() {
        let ewma = Ewma::default();
        ewma.observe(ms(1_000), at(ms(0)));
        for micros in (0..10_000_000).step_by(50) {
            ewma.observe(ms(100), at(Duration::from_micros(micros)));
        }
        let value = ewma.value(at(ms(10_000))).expect("has samples");
        assert!((ms(420)..ms(450)).contains(&value), "{value:?}");
    }

    #[test]
    fn a_late_writer_does_not_turn_time_back() {
        let ewma = Ewma::default();
        ewma.observe(ms(100), at(ms(50_000)));
        ewma.observe(ms(10), at(ms(20_000)));
        ewma.observe(ms(200), at(ms(30_000)));
        check_value(&ewma, ms(50_000), ms(200));
        check_value(&ewma, ms(40_000), ms(200));
    }

    #[test]
    fn trap_a_penalty_lower_than_the_current_rtt_must_not_improve_a_failing_backends_score() {
        let ewma = Ewma::default();
        ewma.observe(ms(60_000), at(ms(0)));
        ewma.penalize(penalty(None), at(ms(10)));
        check_value(&ewma, ms(10), ms(60_000));
        ewma.penalize(penalty(None), at(ms(20_000)));
        check_value(&ewma, ms(20_000), ms(60_000));
    }

    #[test]
    fn a_failure_counts_as_a_slow_answer_however_fast_it_came() {
        for before in [None, Some(ms(20))] {
            let ewma = Ewma::default();
            before.into_iter().for_each(|latency| ewma.observe(latency, at(ms(0))));
            ewma.penalize(penalty(None), at(ms(100)));
            check_value(&ewma, ms(100), ms(5_000));
        }
    }

    #[test]
    fn retry_after_raises_the_penalty_up_to_five_minutes() {
        let cases = [(None, 5), (Some(0), 5), (Some(3), 5), (Some(30), 30), (Some(300), 300), (Some(86_400), 300)];
        for (asked, expected) in cases {
            assert_eq!(penalty(asked.map(Duration::from_secs)), Duration::from_secs(expected), "{asked:?}");
        }
    }

    #[test]
    fn a_request_that_was_given_up_raises_the_value_and_never_lowers_it() {
        let ewma = Ewma::default();
        ewma.observe_at_least(ms(300), at(ms(0)));
        check_value(&ewma, ms(0), ms(300));
        ewma.observe_at_least(ms(2), at(ms(0)));
        check_value(&ewma, ms(0), ms(300));
        ewma.observe_at_least(ms(3_000), at(ms(100)));
        check_value(&ewma, ms(100), ms(3_000));
    }

    #[test]
    fn what_is_forgotten_is_no_sample() {
        let ewma = Ewma::default();
        ewma.penalize(penalty(None), at(ms(100)));
        ewma.forget();
        assert_eq!(ewma.value(at(ms(200))), None);
    }

    #[test]
    fn no_thread_loses_a_peak() {
        let ewma = Ewma::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ewma = &ewma;
                scope.spawn(move || {
                    (1..=5_000).for_each(|n| ewma.observe(Duration::from_micros(n * 4 + thread), at(ms(7))))
                });
            }
        });
        check_value(&ewma, ms(7), Duration::from_micros(20_003));
    }

    #[test]
    fn the_extremes_of_duration_and_time_are_harmless() {
        for latency in [Duration::ZERO, Duration::MAX] {
            for now in [Moment(0), Moment(u64::MAX), Moment(1 << 56), Moment(5)] {
                let ewma = Ewma::default();
                ewma.observe(latency, now);
                assert!(ewma.value(now).is_some());
                ewma.observe(Duration::from_nanos(1), now);
                assert!(ewma.value(now).is_some());
            }
        }
    }

    proptest! {
        #[test]
        fn a_word_holds_its_sample(nanos in 1_u64..u64::MAX, tick in 0..=Tick::MASK) {
            let sample = Sample { nanos: nanos as f64, tick: Tick(tick) };
            let read = Sample::decode(sample.encode()).expect("not empty");
            prop_assert_eq!(read.tick.0, tick);
            prop_assert!((read.nanos / sample.nanos - 1.0).abs() < 1e-6);
        }

        #[test]
        fn the_older_of_two_samples_moves_towards_the_newer_and_never_past_it(
            old in 1_u64..100_000, new in 1_u64..100_000, age in 0_u64..10_000_000,
        ) {
            let sample = |latency: u64, now: u64| Sample { nanos: latency as f64 * 1e6, tick: Tick::of(at(ms(now))) };
            let (old, new) = (sample(old, 0), sample(new, age));
            let (faded, fresh) = compare(Some(old), Some(new));
            prop_assert_eq!(fresh, new.nanos);
            prop_assert!(faded >= old.nanos.min(new.nanos) - 1.0 && faded <= old.nanos.max(new.nanos) + 1.0);
            let (fresh, faded_too) = compare(Some(new), Some(old));
            prop_assert!(age < 2 || (fresh == new.nanos && faded_too == faded));
        }
    }
}
