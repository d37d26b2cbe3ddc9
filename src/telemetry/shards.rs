//! Rows of counters with one copy per worker, summed when somebody reads them.
//! Promises that two workers never write to the same cache line, and that a row nobody touched costs no memory.
//! It does not name or render anything: that is `metrics` and `exposition`.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of threads that are no worker: control, tests.
const NO_WORKER: usize = usize::MAX;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(NO_WORKER) };
}

/// Tells this thread which worker it is. Call it once, when the thread starts. No two threads that live at the same time
/// and count in the same place may say the same.
pub fn enter_worker(worker_idx: usize) {
    WORKER.set(worker_idx);
}

/// `N` counters, a copy for each worker and one for everybody else.
#[derive(Debug)]
pub struct Shards<const N: usize> {
    own: Box<[OnceLock<Box<Row<N>>>]>,
    shared: OnceLock<Box<Row<N>>>,
}

/// 128 bytes: the unit that current x86 prefetchers fetch, and the cache line of large Arm cores.
#[derive(Debug)]
#[repr(align(128))]
struct Row<const N: usize>([AtomicU64; N]);

impl<const N: usize> Row<N> {
    fn new() -> Box<Self> {
        Box::new(Row(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

/// The counters that this thread adds to.
pub(crate) struct Tally<'a, const N: usize> {
    row: &'a [AtomicU64; N],
    writers: Writers,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writers {
    /// This thread alone: adding needs no locked instruction, which costs as much as twenty others.
    One,
    Many,
}

impl<const N: usize> Tally<'_, N> {
    /// Adds to one counter. Panics if `idx` is not below `N`: the caller's table is wrong.
    #[inline]
    pub(crate) fn add(&self, idx: usize, n: u64) {
        let counter = &self.row[idx];
        match self.writers {
            Writers::One => counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed),
            Writers::Many => drop(counter.fetch_add(n, Ordering::Relaxed)),
        }
    }
}

impl<const N: usize> Shards<N> {
    /// All zero, with one copy for each of `workers`.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self { own: (0..workers.get()).map(|_| OnceLock::new()).collect(), shared: OnceLock::new() }
    }

    /// Adds to one counter. Panics if `idx` is not below `N`: the caller's table is wrong.
    #[inline]
    pub fn add(&self, idx: usize, n: u64) {
        self.tally().add(idx, n);
    }

    /// The counters of this thread, for callers that touch more than one of them.
    #[inline]
    pub(crate) fn tally(&self) -> Tally<'_, N> {
        let (row, writers) = match self.own.get(WORKER.get()) {
            Some(own) => (own, Writers::One),
            None => (&self.shared, Writers::Many),
        };
        Tally { row: &row.get_or_init(Row::new).0, writers }
    }

    /// The sums over all workers. Not one instant: each counter is exact, their relation may be off by what is in flight.
    pub fn sum(&self) -> [u64; N] {
        let mut sums = [0; N];
        for row in self.own.iter().chain([&self.shared]).filter_map(OnceLock::get) {
            for (sum, counter) in sums.iter_mut().zip(&row.0) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        sums
    }

    /// The sum of one counter over all workers. Panics if `idx` is not below `N`.
    pub fn sum_of(&self, idx: usize) -> u64 {
        let rows = self.own.iter().chain([&self.shared]).filter_map(OnceLock::get);
        rows.map(|row| row.0[idx].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn no_increment_of_any_thread_is_lost() {
        let shards = Shards::<3>::new(workers(2));
        std::thread::scope(|scope| {
            // Two workers with a copy of their own, three threads that share one.
            for worker_idx in [0, 1, 2, 3, NO_WORKER] {
                let shards = &shards;
                scope.spawn(move || {
                    enter_worker(worker_idx);
                    (0..1_000).for_each(|_| shards.add(1, 2));
                });
            }
        });
        assert_eq!(shards.sum(), [0, 10_000, 0]);
        assert_eq!(shards.sum_of(1), 10_000);
    }

    #[test]
    fn a_row_nobody_touched_costs_no_memory() {
        let shards = Shards::<64>::new(workers(4));
        shards.add(0, 1);
        assert!(shards.own.iter().all(|row| row.get().is_none()) && shards.shared.get().is_some());
    }
}
