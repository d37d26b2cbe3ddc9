//! How much extra load the retries of a service may be: a share of its requests of the last ten seconds, and a few more.
//! It promises exact buckets (a burst and a trickle get the same answer) and to count a retry when it is sent, while one
//! that still backs off is set aside: neither counted as load nor forgotten. It decides on no single request.
//!
//! An ordinary request pays nothing here: requests are counted by the service's metrics anyway, and this reads their sum
//! once per second and whenever a retry is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::config::checked::RetryBudget;
use crate::units::Moment;

/// Length of the window in buckets of a second: Finagle's.
const WINDOW_SECS: u64 = 10;
/// More than the window, so that the bucket being written is never one being read.
const SLOTS: usize = 16;
/// Where a slot keeps its second, above its count.
const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// What a service's retries have used of the last ten seconds.
#[derive(Debug)]
pub struct Budget {
    /// Requests of the service when a second began.
    marks: [AtomicU64; SLOTS],
    /// Retries sent in a second.
    sent: [AtomicU64; SLOTS],
    /// Retries that were granted and have not been sent yet, below a number that changes with each that is sent: whoever
    /// reserves sees that what it has read in `sent` is out of date.
    set_aside: AtomicU64,
}

/// One retry fewer is set aside.
const LET_GO: u64 = 1_u64.wrapping_neg();
/// And it was sent.
const SENT: u64 = (1 << 32) - 1;

/// A reading of the requests of a service.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The present.
    pub now: Moment,
    /// First attempts sent since the service began.
    pub requests: u64,
}

impl Reading {
    /// Seconds from 16 on, so that no slot looks written before it is.
    fn second(&self) -> u64 {
        second(self.now)
    }
}

fn second(now: Moment) -> u64 {
    now.0 / 1_000_000_000 + SLOTS as u64
}

impl Default for Budget {
    fn default() -> Self {
        let slots = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { marks: slots(), sent: slots(), set_aside: AtomicU64::new(0) }
    }
}

impl Budget {
    /// Notes how many requests there were; call it at least once per second. A missed second makes the budget smaller.
    pub fn tick(&self, reading: Reading) {
        let slot = slot_of(&self.marks, reading.second());
        let marked = slot.load(SeqCst);
        if second_in(marked) != tag(reading.second()) {
            // Whoever is second in this second leaves the first one's mark.
            let mark = pack(reading.second(), reading.requests);
            let _ = slot.compare_exchange(marked, mark, SeqCst, SeqCst);
        }
    }

    /// Grants a retry if the budget has room for it.
    pub fn reserve(self: &Arc<Self>, reading: Reading, allowed: &RetryBudget) -> Option<Reservation> {
        self.tick(reading);
        let allowance = allowed.ratio.of(self.requests(reading)) + u64::from(allowed.per_second) * WINDOW_SECS;
        let room = |set_aside: u64| {
            // Read again with each try: who sends a retry counts it first and gives its place back then.
            let used = self.sent(reading.second()) + u64::from(set_aside as u32);
            (used < allowance).then_some(set_aside + 1)
        };
        let granted = self.set_aside.fetch_update(SeqCst, SeqCst, room);
        granted.ok().map(|_| Reservation { budget: self.clone(), end: LET_GO })
    }

    /// Counts a retry that is not refused whatever the others have used: a connection that was closed is nobody's load.
    pub fn grant(self: &Arc<Self>) -> Reservation {
        self.set_aside.fetch_add(1, SeqCst);
        Reservation { budget: self.clone(), end: LET_GO }
    }

    /// Retries that were granted and have not been sent yet.
    pub fn set_aside(&self) -> u32 {
        self.set_aside.load(SeqCst) as u32
    }

    /// Requests in the window that ends now.
    fn requests(&self, reading: Reading) -> u64 {
        let window = window(reading.second());
        let mut marks = window.map(|second| (second, slot_of(&self.marks, second).load(SeqCst)));
        let first = marks.find(|(second, mark)| second_in(*mark) == tag(*second));
        first.map_or(0, |(_, mark)| reading.requests.wrapping_sub(mark) & COUNT_MASK)
    }

    /// Retries sent in the window that ends with `second`.
    fn sent(&self, second: u64) -> u64 {
        let sent = window(second).map(|second| (second, slot_of(&self.sent, second).load(SeqCst)));
        sent.filter(|(second, sent)| second_in(*sent) == tag(*second)).map(|(_, sent)| sent & COUNT_MASK).sum()
    }

    fn count_sent(&self, now: Moment) {
        let second = second(now);
        let count = |sent: u64| match second_in(sent) == tag(second) {
            true => Some(sent + 1),
            false => Some(pack(second, 1)),
        };
        let _ = slot_of(&self.sent, second).fetch_update(SeqCst, SeqCst, count);
    }
}

/// The seconds of the window that ends with `second`, which is not over.
fn window(second: u64) -> impl Iterator<Item = u64> {
    second - (WINDOW_SECS - 1)..=second
}

fn slot_of(slots: &[AtomicU64; SLOTS], second: u64) -> &AtomicU64 {
    &slots[second as usize % SLOTS]
}

/// As much of a second as fits above the count: 2²⁴ of them are half a year, and a slot that old is never asked for.
fn tag(second: u64) -> u64 {
    second & (u64::MAX >> COUNT_BITS)
}

fn second_in(slot: u64) -> u64 {
    slot >> COUNT_BITS
}

fn pack(second: u64, count: u64) -> u64 {
    tag(second) << COUNT_BITS | count & COUNT_MASK
}

/// A granted retry. Dropped without being sent, it leaves no trace.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    /// What becomes of `set_aside` when it is dropped.
    end: u64,
}

impl Reservation {
    /// The retry is sent now.
    pub fn spend(mut self, now: Moment) {
        self.budget.count_sent(now);
        self.end = SENT;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.set_aside.fetch_add(self.end, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::units::Percent;

    fn at(millis: u64, requests: u64) -> Reading {
        Reading { now: Moment(millis * 1_000_000), requests }
    }

    fn allowed(percent: u8, per_second: u32) -> RetryBudget {
        RetryBudget { ratio: Percent::new(percent).unwrap(), per_second }
    }

    /// Sends retries until the budget has no more.
    fn send_all(budget: &Arc<Budget>, reading: Reading, allowed: &RetryBudget) -> u64 {
        let granted = std::iter::from_fn(|| budget.reserve(reading, allowed).map(|granted| granted.spend(reading.now)));
        granted.count() as u64
    }

    #[test]
    fn a_quiet_service_may_retry_a_little() {
        let budget = Arc::new(Budget::default());
        assert_eq!(send_all(&budget, at(500, 0), &allowed(20, 3)), 30);
        assert_eq!(send_all(&budget, at(9_900, 0), &allowed(20, 3)), 0);
        assert_eq!(send_all(&budget, at(10_100, 0), &allowed(20, 3)), 30);
    }

    #[test]
    fn retries_are_a_share_of_the_requests_of_ten_seconds() {
        let budget = Arc::new(Budget::default());
        for second in 0..20 {
            budget.tick(at(second * 1_000, second * 100));
        }
        // 900 in nine whole seconds and 50 in this one.
        assert_eq!(send_all(&budget, at(19_500, 1_950), &allowed(20, 0)), 190);
        assert_eq!(send_all(&budget, at(19_500, 1_955), &allowed(20, 0)), 1);
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let budget = Arc::new(Budget::default());
        budget.tick(at(0, 0));
        assert!(budget.reserve(at(100, 1_000_000), &allowed(0, 0)).is_none());
    }

    /// envoy #30205: retries in back-off counted as active requests made the budget grow with what it should hold back;
    /// not counted at all, they overshot it.
    #[test]
    fn trap_a_retry_in_back_off_is_set_aside_and_is_no_load() {
        let budget = Arc::new(Budget::default());
        let waiting: Vec<_> = std::iter::from_fn(|| budget.reserve(at(0, 0), &allowed(20, 1))).collect();
        assert_eq!((waiting.len(), budget.set_aside()), (10, 10), "all that wait count against the budget");
        assert_eq!(budget.sent(second(Moment(0))), 0, "and none of them is load");
        drop(waiting);
        assert_eq!(budget.set_aside(), 0);
        assert_eq!(send_all(&budget, at(0, 0), &allowed(20, 1)), 10, "who never went leaves no trace");
    }

    #[test]
    fn a_retry_counts_in_the_second_in_which_it_is_sent() {
        let budget = Arc::new(Budget::default());
        let late = budget.reserve(at(0, 0), &allowed(0, 1)).unwrap();
        late.spend(at(5_000, 0).now);
        assert_eq!(budget.sent(at(14_999, 0).second()), 1);
        assert_eq!(budget.sent(at(15_000, 0).second()), 0);
    }

    #[test]
    fn what_is_granted_anyway_counts_all_the_same() {
        let budget = Arc::new(Budget::default());
        (0..25).for_each(|_| budget.grant().spend(Moment(0)));
        assert_eq!(send_all(&budget, at(0, 0), &allowed(0, 3)), 5);
        budget.grant().spend(Moment(0));
    }

    #[test]
    fn nobody_overdraws_a_budget_that_threads_share() {
        let budget = Arc::new(Budget::default());
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if let Some(reservation) = budget.reserve(at(0, 0), &allowed(0, 20)) {
                            reservation.spend(Moment(0));
                            granted.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!((granted.into_inner(), budget.set_aside()), (200, 0));
    }

    /// What happens to a service in one step.
    #[derive(Clone, Debug)]
    enum Step {
        Pass { millis: u64, requests: u64 },
        Want,
        Send,
        GiveUp,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (1_u64..1_000, 0_u64..200).prop_map(|(millis, requests)| Step::Pass { millis, requests }),
            5 => Just(Step::Want),
            3 => Just(Step::Send),
            1 => Just(Step::GiveUp),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        /// Against a list of everything that happened, with its time.
        #[test]
        fn the_budget_is_what_a_book_of_all_events_says(steps in steps(), percent in 0_u8..=100, per_second in 0_u32..4) {
            let budget = Arc::new(Budget::default());
            let policy = allowed(percent, per_second);
            let mut reading = at(0, 0);
            let (mut requests, mut sent) = (vec![(reading.second(), 0)], vec![]);
            let mut waiting = VecDeque::new();
            budget.tick(reading);
            for step in steps {
                let now = reading.second();
                let in_window = |second: &u64| *second + WINDOW_SECS > now;
                match step {
                    Step::Pass { millis, requests: more } => {
                        // The control thread's tick at the beginning of each second.
                        let then = Moment(reading.now.0 + millis * 1_000_000);
                        reading.now = then;
                        if reading.second() != now {
                            budget.tick(reading);
                        }
                        reading.requests += more;
                        requests.push((reading.second(), more));
                    }
                    Step::Want => {
                        let recent: u64 = requests.iter().filter(|(second, _)| in_window(second)).map(|(_, n)| n).sum();
                        let used = sent.iter().filter(|second| in_window(second)).count() + waiting.len();
                        let allowance = policy.ratio.of(recent) + u64::from(per_second) * WINDOW_SECS;
                        let granted = budget.reserve(reading, &policy);
                        prop_assert_eq!(granted.is_some(), (used as u64) < allowance);
                        waiting.extend(granted);
                    }
                    Step::Send => if let Some(reservation) = waiting.pop_front() {
                        let reservation: Reservation = reservation;
                        reservation.spend(reading.now);
                        sent.push(now);
                    },
                    Step::GiveUp => drop(waiting.pop_front()),
                }
                prop_assert_eq!(budget.set_aside() as usize, waiting.len());
            }
        }
    }
}
