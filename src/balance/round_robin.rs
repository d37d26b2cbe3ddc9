//! Each backend in its turn, heavy ones more often, their turns spread evenly rather than in a run.
//! Over one full round every backend gets exactly its share, and worker threads share nothing but one counter.
//! Knows nothing of load.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::random::Dice;
use super::{Candidate, DRAWS_MAX, Pool};

/// Longest round. Beyond it (weights such as 997:991 on hundreds of backends) shares are rounded to 1 / 65,536.
const SLOTS_MAX: u64 = 65_536;

/// One round of turns, and whose turn it is.
pub(super) struct Schedule {
    slots: Box<[u32]>,
    next: AtomicUsize,
}

impl Schedule {
    /// Lays the turns of each backend out at equal distances over one round.
    ///
    /// A backend of weight w has its k-th turn at (k + phase) / w of the round. Phases differ by backend, so equal
    /// weights give plain a, b, c, and turns of different backends do not meet in one place.
    pub(super) fn new(weights: &[u32]) -> Self {
        let turns = turns(weights);
        let n_twice = weights.len() as u128 * 2;
        let mut slots: Vec<(u64, u32)> = Vec::with_capacity(turns.iter().sum::<u64>() as usize);
        for (index, &n_turns) in turns.iter().enumerate() {
            for turn in 0..n_turns {
                let position =
                    ((u128::from(turn) * n_twice + index as u128 * 2 + 1) << 64) / (n_twice * u128::from(n_turns));
                slots.push((position as u64, index as u32));
            }
        }
        slots.sort_unstable();
        Self { slots: slots.into_iter().map(|(_, index)| index).collect(), next: AtomicUsize::new(0) }
    }

    /// The next in turn that is eligible. A turn that nobody can take is used up: were it given to the successor, the
    /// backend after a dead one would carry double load.
    pub(super) fn pick<C: Candidate>(&self, pool: &Pool<'_, C>, dice: &mut Dice) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let index = self.slots[turn % self.slots.len()] as usize;
            if pool.is_eligible(index) {
                return Some(index);
            }
        }
        pool.scan(dice, |index| pool.is_eligible(index))
    }
}

/// How many turns each backend has in one round: its weight by the greatest common divisor, at least 1.
fn turns(weights: &[u32]) -> Vec<u64> {
    let divisor = u64::from(weights.iter().copied().reduce(gcd).unwrap_or(1));
    let total = weights.iter().map(|&weight| u64::from(weight)).sum::<u64>() / divisor;
    let turns = weights.iter().map(|&weight| u64::from(weight) / divisor);
    if total <= SLOTS_MAX {
        return turns.collect();
    }
    turns.map(|n_turns| ((n_turns * SLOTS_MAX + total / 2) / total).max(1)).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_round_holds_exact_shares(weights in prop::collection::vec(1_u32..50, 1..20)) {
            let schedule = Schedule::new(&weights);
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0_usize; weights.len()];
            schedule.slots.iter().for_each(|&index| counts[index as usize] += 1);
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(count * total as usize, *weight as usize * schedule.slots.len());
            }
        }

        #[test]
        fn turns_come_at_even_distances(weights in prop::collection::vec(1_u32..50, 1..20)) {
            let schedule = Schedule::new(&weights);
            let total = f64::from(weights.iter().sum::<u32>());
            for (index, &weight) in weights.iter().enumerate() {
                let mut n_so_far = 0.0;
                for (position, &slot) in schedule.slots.iter().enumerate() {
                    n_so_far += f64::from(u8::from(slot as usize == index));
                    let due = (position + 1) as f64 * f64::from(weight) / total;
                    // Never ahead or behind by more than one turn and what rounding of the others' turns adds.
                    prop_assert!((n_so_far - due).abs() <= 2.5, "{} at {}: {} of {}", index, position, n_so_far, due);
                }
            }
        }
    }

    #[test]
    fn equal_weights_take_turns_in_order() {
        assert_eq!(*Schedule::new(&[7, 7, 7]).slots, [0, 1, 2]);
    }

    #[test]
    fn a_heavy_backend_does_not_get_its_turns_in_one_run() {
        assert_eq!(*Schedule::new(&[2, 1, 1]).slots, [0, 1, 0, 2]);
        assert_eq!(*Schedule::new(&[5, 1, 1]).slots, [0, 0, 0, 1, 0, 0, 2]);
    }

    #[test]
    fn a_round_is_bounded_and_nobody_is_rounded_away() {
        let weights: Vec<u32> = (0..1_000).map(|i| if i % 2 == 0 { 1 } else { 1_000 - i }).collect();
        let turns = turns(&weights);
        assert!(turns.iter().sum::<u64>() <= SLOTS_MAX + weights.len() as u64);
        assert!(turns.iter().all(|&n_turns| n_turns >= 1));
    }
}
