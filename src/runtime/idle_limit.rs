//! How long a server keeps an idle connection, learned from the rests that connections survived and those that they did
//! not. It promises to call no rest safe but one well inside the shortest recent one after which the server closed, and
//! well inside the longest one that it is known to bear. It reads no clock and closes nothing.
//!
//! A request that meets the server's close on its way is lost, and no look at the socket can tell beforehand. What keeps
//! it out of that race is distance in time: more than the network and the schedulers of two busy machines are late by.
//! A rest called unsafe in error costs a fresh connection; one called safe in error costs the request. So a close counts
//! at once and alone, however it came about: a restart looks like a very short limit for a minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::units::Moment;

/// What was learned counts for one to two of these. A server whose limit is met shows it in each; one that was restarted
/// with another limit is known anew after two.
const EPOCH: Duration = Duration::from_secs(30);
/// The part of a proven rest that is safe,
const SAFE_PART: u64 = 4;
/// if it ends so long before. On a machine with six runnable threads per core, a server with a limit of 50 ms closed
/// connections on which a request had come 45 ms before: it had not had the time to read it.
const LATENESS_MAX: Duration = Duration::from_millis(100);
/// No close was seen.
const NEVER: u64 = u64::MAX;

/// What is known of one server's idle limit. Shared by all workers, on a cache line of its own: it is read by requests,
/// and written when something new is learned.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct IdleLimit {
    epoch_ends: AtomicU64,
    current: Evidence,
    previous: Evidence,
}

/// What was seen within one epoch, in nanoseconds.
#[derive(Debug)]
struct Evidence {
    longest_survived: AtomicU64,
    shortest_close: AtomicU64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { longest_survived: AtomicU64::new(0), shortest_close: AtomicU64::new(NEVER) }
    }
}

impl IdleLimit {
    /// A connection was still open after it had rested for `rest`: it answered a request that was sent then, or nothing
    /// had come from it by then.
    #[inline]
    pub fn survived(&self, rest: Duration) {
        let longest = &self.current.longest_survived;
        let rest = nanos(rest);
        if rest > longest.load(Ordering::Relaxed) {
            longest.fetch_max(rest, Ordering::Relaxed);
        }
    }

    /// The server closed a connection that had rested for `rest`, perhaps a little earlier. Longer rests are unproven
    /// again, whatever was survived before.
    pub fn closed_after(&self, rest: Duration) {
        let rest = nanos(rest);
        // Ordered before what is lowered next: a reader that misses the one sees the other.
        self.current.shortest_close.fetch_min(rest, Ordering::AcqRel);
        self.current.longest_survived.fetch_min(rest, Ordering::Relaxed);
        self.previous.longest_survived.fetch_min(rest, Ordering::Relaxed);
    }

    /// Begins a new epoch when it is time. Whoever looks at the pools calls it now and then, from any thread.
    pub fn age(&self, now: Moment) {
        let ends = self.epoch_ends.load(Ordering::Relaxed);
        let next = now.after(EPOCH).0;
        let is_time = now.0 >= ends;
        if !is_time || self.epoch_ends.compare_exchange(ends, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let (current, previous) = (&self.current, &self.previous);
        let survived = current.longest_survived.swap(0, Ordering::Relaxed);
        // After a gap in the looking, what was survived is older than it may be; what was closed stays a warning.
        let is_late = now.since(Moment(ends)) >= EPOCH;
        previous.longest_survived.store(if is_late { 0 } else { survived }, Ordering::Relaxed);
        // At no moment is a close of this epoch in neither place: readers look at the current one first.
        previous.shortest_close.store(current.shortest_close.load(Ordering::Relaxed), Ordering::Release);
        let late_comer = current.shortest_close.swap(NEVER, Ordering::AcqRel);
        previous.shortest_close.fetch_min(late_comer, Ordering::AcqRel);
    }

    /// A connection that rested less than this takes a request that may not be sent twice; without evidence, none does.
    ///
    /// `advertised` is what the server said about this connection in `Keep-Alive: timeout=…`.
    pub fn safe_rest(&self, advertised: Option<Duration>) -> Duration {
        let closed_now = self.current.shortest_close.load(Ordering::Acquire);
        let shortest_close = closed_now.min(self.previous.shortest_close.load(Ordering::Acquire));
        let survived = |evidence: &Evidence| evidence.longest_survived.load(Ordering::Relaxed);
        let borne = survived(&self.current).max(survived(&self.previous)).max(advertised.map_or(0, nanos));
        Duration::from_nanos(well_inside(borne.min(shortest_close)))
    }
}

fn well_inside(rest: u64) -> u64 {
    (rest / SAFE_PART).min(rest.saturating_sub(nanos(LATENESS_MAX)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Moment(1_000_000_000);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(since_start: Duration) -> Moment {
        START.after(since_start)
    }

    /// Nothing known, and its first epoch begun.
    fn fresh() -> IdleLimit {
        let limit = IdleLimit::default();
        limit.age(START);
        limit
    }

    #[test]
    fn without_evidence_no_rest_is_safe() {
        assert_eq!(fresh().safe_rest(None), Duration::ZERO);
    }

    #[test]
    fn a_quarter_of_what_was_survived_is_safe() {
        let limit = fresh();
        limit.survived(ms(1_400));
        limit.survived(ms(30));
        assert_eq!(limit.safe_rest(None), ms(350));
    }

    #[test]
    fn a_quarter_of_what_the_server_advertises_is_safe() {
        assert_eq!(fresh().safe_rest(Some(ms(5_000))), ms(1_250));
        assert_eq!(fresh().safe_rest(Some(ms(0))), Duration::ZERO);
    }

    #[test]
    fn what_is_near_a_proven_rest_in_time_is_not_safe_however_small_a_part_it_is() {
        let limit = fresh();
        limit.survived(ms(120));
        assert_eq!(limit.safe_rest(None), ms(20));
        limit.closed_after(ms(110));
        assert_eq!(limit.safe_rest(None), ms(10));
        limit.closed_after(ms(50));
        assert_eq!(limit.safe_rest(None), ms(0));
    }

    #[test]
    fn a_close_beats_every_proof_and_promise() {
        let limit = fresh();
        limit.survived(ms(1_400));
        limit.closed_after(ms(400));
        assert_eq!(limit.safe_rest(None), ms(100));
        assert_eq!(limit.safe_rest(Some(ms(5_000))), ms(100));
        limit.survived(ms(1_400));
        limit.closed_after(ms(800));
        assert_eq!(limit.safe_rest(None), ms(100));
        limit.closed_after(ms(4));
        assert_eq!(limit.safe_rest(None), ms(0));
    }

    #[test]
    fn a_close_unproves_longer_rests_even_after_it_is_forgotten() {
        let limit = fresh();
        limit.survived(ms(1_400));
        limit.age(at(EPOCH));
        limit.closed_after(ms(48));
        assert_eq!(limit.safe_rest(None), ms(0));
        limit.age(at(EPOCH * 2));
        limit.age(at(EPOCH * 3));
        assert_eq!(limit.safe_rest(None), Duration::ZERO);
    }

    #[test]
    fn what_was_learned_counts_for_one_epoch_at_least_and_two_at_most() {
        let limit = fresh();
        limit.closed_after(ms(102));
        limit.age(at(EPOCH));
        limit.survived(ms(400));
        assert_eq!(limit.safe_rest(None), ms(2));
        limit.age(at(EPOCH * 2));
        assert_eq!(limit.safe_rest(None), ms(100));
        limit.age(at(EPOCH * 3));
        assert_eq!(limit.safe_rest(None), Duration::ZERO);
    }

    #[test]
    fn after_a_gap_old_proofs_are_forgotten_and_old_closes_are_not() {
        let limit = fresh();
        limit.survived(ms(1_400));
        limit.age(at(EPOCH * 2));
        assert_eq!(limit.safe_rest(None), Duration::ZERO);
        limit.closed_after(ms(102));
        limit.age(at(EPOCH * 100));
        limit.survived(ms(1_400));
        assert_eq!(limit.safe_rest(None), ms(2));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Survived(Duration),
        Closed(Duration),
        Passed(Duration),
    }

    fn is_well_inside(safe: Duration, rest: Duration) -> bool {
        safe.is_zero() || (safe <= rest / 4 && safe + LATENESS_MAX <= rest)
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let rest = || prop_oneof![0_u64..20_000_000, 0_u64..5_000_000_000].prop_map(Duration::from_nanos);
        let event = prop_oneof![
            4 => rest().prop_map(Event::Survived),
            2 => rest().prop_map(Event::Closed),
            3 => (0_u64..20_000).prop_map(|n| Event::Passed(ms(n))),
        ];
        prop::collection::vec(event, 1..80)
    }

    proptest! {
        /// Whatever happens in whatever order: the two promises of this module, held against the list of all events.
        #[test]
        fn no_rest_is_safe_near_a_recent_close_or_near_what_was_borne(events in events()) {
            let limit = fresh();
            let mut now = START;
            let mut past: Vec<(Moment, Event)> = vec![];
            for event in events {
                match event {
                    Event::Survived(rest) => limit.survived(rest),
                    Event::Closed(rest) => limit.closed_after(rest),
                    Event::Passed(time) => {
                        now = now.after(time);
                        limit.age(now);
                    }
                }
                past.push((now, event));
                let safe = limit.safe_rest(None);
                let mut borne = Duration::ZERO;
                for (then, event) in &past {
                    let age = now.since(*then);
                    match event {
                        Event::Closed(rest) if age < EPOCH => prop_assert!(is_well_inside(safe, *rest), "{safe:?} {past:?}"),
                        Event::Closed(rest) => borne = borne.min(*rest),
                        // A sweep may be late, and then an epoch is longer: here by 20 s.
                        Event::Survived(rest) if age < (EPOCH + ms(20_000)) * 2 => borne = borne.max(*rest),
                        Event::Survived(_) | Event::Passed(_) => {}
                    }
                }
                prop_assert!(is_well_inside(safe, borne), "{safe:?} {past:?}");
            }
        }

        /// A server that closes within 20 % of its limit, looked at with the lateness of a busy machine: no request is
        /// ever let onto a connection in the second half of the time that it surely lives.
        #[test]
        fn a_server_with_a_limit_is_never_raced(
            limit_ms in 20_u64..5_000, jitter_percent in 0_u64..20,
            rests in prop::collection::vec((0_u64..150, 0_u64..100, 0_u64..20), 1..200),
        ) {
            let limit = fresh();
            let shortest = Duration::from_micros(limit_ms * 1_000 * (100 - jitter_percent) / 100);
            let mut now = START;
            for (rest_percent, draw, late_ms) in rests {
                let rest = Duration::from_micros(limit_ms * 10 * rest_percent);
                let life = shortest + Duration::from_micros(limit_ms * 20 * jitter_percent * draw / 100);
                now = now.after(rest);
                limit.age(now);
                let safe = limit.safe_rest(None);
                prop_assert!(safe <= shortest / 2, "{safe:?} of {shortest:?}");
                match rest < life {
                    true => limit.survived(rest),
                    false => limit.closed_after(life + ms(late_ms)),
                }
            }
        }
    }
}
