//! The same key goes to the same backend, on every instance: a Maglev table (Eisenbud et al. 2016) with bounded load.
//! When a backend comes or goes few other keys move; a backend far above the average sends its surplus elsewhere.
//! The hash is fixed and public, so it spreads load but protects nothing.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::random::{Dice, GOLDEN, mix, scale};
use super::{Candidate, DRAWS_MAX, Pool, weight_of};
use crate::units::Moment;

/// Primes, because then every step width visits every slot. Few, because a change of size moves every key once.
const SIZES: [(usize, usize); 3] = [(32, 16_381), (1_024, 65_537), (usize::MAX, 655_373)];

/// A backend may carry 5/4 of its share of all requests in flight (Mirrokni et al. 2018) ...
const BOUND: (u64, u64) = (5, 4);

/// ... but never counts as overloaded below this: a browser opens six connections at once, and one visitor's page should
/// not be torn apart on a quiet day, when a fair share is less than one request.
const IN_FLIGHT_FREE: u32 = 6;

/// Up to here the average is taken afresh for each pick.
const COUNTED_MAX: usize = 64;

/// Above, it is counted once in this time, and picks in between are added.
const COUNT_EVERY: Duration = Duration::from_millis(1);

/// A fixed 64-bit hash: the same on every instance, platform and version.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let mut hash = GOLDEN ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(fold(hash ^ u64::from_le_bytes(last)))
}

/// Multiplies to 128 bits and folds the halves: the step of wyhash (Wang Yi), with the multiplier of PCG.
fn fold(bits: u64) -> u64 {
    let product = u128::from(bits) * 0xda94_2042_e4dd_58b5;
    (product >> 64) as u64 ^ product as u64
}

/// Which backend each share of the key space prefers.
pub(super) struct Table {
    slots: Box<[u32]>,
    counted: Counted,
}

impl Table {
    pub(super) fn new<C: Candidate>(candidates: &[C]) -> Self {
        let counted = Counted::default();
        let Some(weight_max) = candidates.iter().map(weight_of).max() else {
            return Self { slots: Box::default(), counted };
        };
        let size = table_size(candidates.len());
        let mut claims: Vec<Claim> = candidates.iter().enumerate().map(|(i, c)| Claim::new(c, i, size)).collect();
        // Instances may learn the same backends in different orders.
        claims.sort_unstable_by_key(|claim| candidates[claim.index as usize].identity());
        Self { slots: fill(claims, u64::from(weight_max), size), counted }
    }

    /// The backend that the key prefers if it is eligible and has room, else the next that the key prefers.
    ///
    /// Each key has its own order of preference, so the keys of a dead backend spread over all others.
    pub(super) fn pick<C: Candidate>(&self, pool: &Pool<'_, C>, key: Option<u64>, dice: &mut Dice) -> Option<usize> {
        // A request without a key goes anywhere.
        let mut order = Dice::new(mix(key.unwrap_or_else(|| dice.roll())));
        let average = OnceCell::new();
        let has_room = |index: usize| {
            let candidate = &pool.candidates[index];
            candidate.in_flight() < IN_FLIGHT_FREE
                || average.get_or_init(|| self.counted.average(pool)).has_room_for(candidate)
        };
        let mut preferred = None;
        for _ in 0..DRAWS_MAX {
            let slot = scale(order.roll(), self.slots.len() as u64);
            let index = self.slots[slot as usize] as usize;
            if !pool.is_eligible(index) {
                continue;
            }
            preferred = preferred.or(Some(index));
            if has_room(index) {
                self.counted.add_one(pool);
                return Some(index);
            }
        }
        let picked = pool
            .scan(&mut order, |index| pool.is_eligible(index) && has_room(index))
            .or(preferred)
            .or_else(|| pool.scan(&mut order, |index| pool.is_eligible(index)))?;
        self.counted.add_one(pool);
        Some(picked)
    }
}

fn table_size(n: usize) -> usize {
    let fitting = SIZES.iter().find(|(n_max, _)| n <= *n_max);
    fitting.expect("the last size is for any number").1
}

/// A backend that claims slots in an order of its own, which depends on its identity alone.
struct Claim {
    index: u32,
    weight: u64,
    slot: usize,
    step: usize,
    /// Grows by the heaviest weight with each slot, so that slots follow weights.
    owed: u64,
}

impl Claim {
    fn new<C: Candidate>(candidate: &C, index: usize, size: usize) -> Self {
        let hash = hash_key(candidate.identity().as_bytes());
        let slot = scale(hash, size as u64) as usize;
        let step = scale(mix(hash ^ GOLDEN), size as u64 - 1) as usize + 1;
        Self { index: index as u32, weight: weight_of(candidate).into(), slot, step, owed: 0 }
    }
}

/// Backends take turns at claiming the first slot of their own order that is free, heavy ones at more turns.
fn fill(mut claims: Vec<Claim>, weight_max: u64, size: usize) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let mut slots = vec![FREE; size].into_boxed_slice();
    let mut n_free = size;
    for round in 1_u64.. {
        for claim in &mut claims {
            if round * claim.weight < claim.owed {
                continue;
            }
            claim.owed += weight_max;
            while slots[claim.slot] != FREE {
                // Some 700,000 times for the middle size: a remainder here would dominate the time to build.
                claim.slot += claim.step;
                claim.slot -= if claim.slot >= size { size } else { 0 };
            }
            slots[claim.slot] = claim.index;
            n_free -= 1;
            if n_free == 0 {
                return slots;
            }
        }
    }
    unreachable!("each round claims at least one slot, for the heaviest backend")
}

/// Requests in flight and weight of all available backends.
#[derive(Clone, Copy)]
struct Average {
    in_flight: u64,
    weight: u64,
}

impl Average {
    fn count<C: Candidate>(pool: &Pool<'_, C>) -> Self {
        let mut average = Self { in_flight: 0, weight: 0 };
        for candidate in pool.candidates.iter().filter(|candidate| pool.is_available(candidate)) {
            average.in_flight += u64::from(candidate.in_flight());
            average.weight += u64::from(weight_of(candidate));
        }
        average
    }

    /// Whether one more request keeps the candidate within ⌈5/4 × its share of all requests, this one included⌉.
    fn has_room_for<C: Candidate>(&self, candidate: &C) -> bool {
        let (over, under) = BOUND;
        let carried = u64::from(candidate.in_flight()) * under * self.weight;
        carried < over * (self.in_flight + 1) * u64::from(weight_of(candidate))
    }
}

/// The average of a large membership, too costly to count for each pick.
///
/// Between two counts every pick is added and no answer taken off, so it errs towards more room, never towards a bound
/// that nobody can keep.
#[derive(Default)]
struct Counted {
    /// Requests in flight in the upper half, weight in the lower; weight 0: never counted.
    word: AtomicU64,
    counted_at: AtomicU64,
}

impl Counted {
    fn average<C: Candidate>(&self, pool: &Pool<'_, C>) -> Average {
        if pool.candidates.len() <= COUNTED_MAX {
            return Average::count(pool);
        }
        let word = self.word.load(Ordering::Relaxed);
        let last = Average { in_flight: word >> 32, weight: word & u64::from(u32::MAX) };
        let counted_at = self.counted_at.load(Ordering::Relaxed);
        let is_due = pool.choice.now.since(Moment(counted_at)) >= COUNT_EVERY;
        // Whoever moves the time counts; the others go on with the last figures.
        let claim = || {
            self.counted_at
                .compare_exchange(counted_at, pool.choice.now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        if last.weight == 0 || (is_due && claim()) {
            let average = Average::count(pool);
            let half = u64::from(u32::MAX / 2);
            self.word.store(average.in_flight.min(half) << 32 | average.weight.min(half), Ordering::Relaxed);
            return average;
        }
        last
    }

    fn add_one<C: Candidate>(&self, pool: &Pool<'_, C>) {
        if pool.candidates.len() > COUNTED_MAX {
            self.word.fetch_add(1 << 32, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        let known = [
            ("", 0x16d2_f029_a84f_6d97),
            ("a", 0x27ae_5009_36ac_9707),
            ("session-1", 0xe981_2ea6_102f_d0ed),
            ("a key of more than sixteen bytes", 0xa2b2_85d7_3ef9_21eb),
        ];
        for (key, hash) in known {
            assert_eq!(hash_key(key.as_bytes()), hash, "{key:?}: instances of two versions would disagree");
        }
    }

    #[test]
    fn keys_that_differ_in_one_bit_or_in_length_hash_far_apart() {
        let far = |a: &[u8], b: &[u8]| (hash_key(a) ^ hash_key(b)).count_ones() > 10;
        for length in 1..40_u8 {
            let key: Vec<u8> = (0..length).collect();
            for bit in 0..usize::from(length) * 8 {
                let mut other = key.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(far(&key, &other), "length {length}, bit {bit}");
            }
            assert!(far(&key, &key[..key.len() - 1]));
            assert!(far(&[key.as_slice(), &[0]].concat(), &key), "a trailing zero byte counts");
        }
    }

    #[test]
    fn table_sizes_are_prime() {
        for (_, size) in SIZES {
            assert!((2..size).take_while(|d| d * d <= size).all(|d| size % d != 0), "{size}");
        }
        assert_eq!([1, 32, 33, 1_024, 1_025].map(table_size), [16_381, 16_381, 65_537, 65_537, 655_373]);
    }
}
