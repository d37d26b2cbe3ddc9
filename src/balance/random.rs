//! Weighted chance: each backend is picked as often as its weight says, with no state at all.
//! Draws in constant time for any weights, and is what `least_requests` and `peak_ewma` draw their two choices from.
//! Knows nothing of load; it holds no random source but spreads the one number that the caller brings.

use super::{Candidate, DRAWS_MAX, Pool};

/// Draws until an eligible candidate turns up, a bounded number of times, then scans.
pub(super) fn pick<C: Candidate>(pool: &Pool<'_, C>, draw: &Draw, dice: &mut Dice) -> Option<usize> {
    for _ in 0..DRAWS_MAX {
        let index = draw.index(dice);
        if pool.is_eligible(index) {
            return Some(index);
        }
    }
    pool.scan(dice, |index| pool.is_eligible(index))
}

/// As many random numbers as one pick needs, out of one: SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Dice {
    state: u64,
}

/// 2⁶⁴ / golden ratio, made odd: the step of SplitMix64.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number from 0 to `bound` - 1; 0 for 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        scale(self.roll(), bound)
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Maps all of `u64` evenly to 0 .. `bound` without a division (Lemire 2019).
pub(super) fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// Draws indexes by weight in constant time: an alias table (Walker 1974, built as Vose 1991).
pub(super) enum Draw {
    Equal { n: u64 },
    Weighted(Box<[Column]>),
}

/// One column of an alias table: its own index below `threshold`, the alias from there on.
pub(super) struct Column {
    threshold: u32,
    alias: u32,
}

impl Draw {
    pub(super) fn new(weights: &[u32]) -> Self {
        let n = weights.len() as u64;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Equal { n };
        }
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        // In units of 1 / (n × total), a column holds `total`: the light ones leave room that the heavy ones fill.
        let mut parts: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * n).collect();
        let (mut light, mut heavy): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|&i| parts[i] < total);
        let mut columns: Vec<Column> =
            (0..weights.len()).map(|index| Column { threshold: u32::MAX, alias: index as u32 }).collect();
        while let (Some(low), Some(&high)) = (light.pop(), heavy.last()) {
            let threshold = (u128::from(parts[low]) << 32) / u128::from(total);
            columns[low] = Column { threshold: threshold as u32, alias: high as u32 };
            parts[high] -= total - parts[low];
            if parts[high] < total {
                heavy.pop();
                light.push(high);
            }
        }
        Self::Weighted(columns.into())
    }

    /// An index by weighted chance; 0 if there is none at all.
    pub(super) fn index(&self, dice: &mut Dice) -> usize {
        match self {
            Self::Equal { n } => dice.below(*n) as usize,
            Self::Weighted(columns) => {
                let bits = dice.roll();
                let index = ((bits >> 32) * columns.len() as u64) >> 32;
                let column = &columns[index as usize];
                if (bits as u32) < column.threshold { index as usize } else { column.alias as usize }
            }
        }
    }
}
