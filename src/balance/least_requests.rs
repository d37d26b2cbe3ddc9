//! The less loaded of two backends drawn by weight: nearly as even as asking all of them, at the cost of asking two.
//! Shares follow the weights when idle as well as under load, so a light backend is not forgotten on a quiet day.
//! Does not know how long requests take; `peak_ewma` builds on it and does.

use super::random::{Dice, Draw};
use super::{Candidate, DRAWS_MAX, Pool, WHOLE_SHARE, weight_of};

/// Draws two and takes the one with fewer requests in flight for its weight.
pub(super) fn pick<C: Candidate>(pool: &Pool<'_, C>, draw: &Draw, dice: &mut Dice) -> Option<usize> {
    let (first, second) = two_choices(pool, draw, dice)?;
    let Some(second) = second else { return Some(first) };
    let (a, b) = (Load::of(pool, first), Load::of(pool, second));
    Some(if b.is_cheaper_than(&a) { second } else { first })
}

/// Two different eligible candidates drawn by weight; one if there is only one.
pub(super) fn two_choices<C: Candidate>(
    pool: &Pool<'_, C>,
    draw: &Draw,
    dice: &mut Dice,
) -> Option<(usize, Option<usize>)> {
    let mut first = None;
    for _ in 0..DRAWS_MAX {
        let index = draw.index(dice);
        if first == Some(index) || !pool.is_eligible(index) {
            continue;
        }
        match first {
            None => first = Some(index),
            Some(first) => return Some((first, Some(index))),
        }
    }
    let first = first.or_else(|| pool.scan(dice, |index| pool.is_eligible(index)))?;
    let second = pool.scan(dice, |index| index != first && pool.is_eligible(index));
    Some((first, second))
}

/// What a backend costs the next request: latency × (in flight + 1) / weight.
pub(super) struct Load {
    /// In any unit that both sides share; 1 where latency does not count.
    pub(super) latency: f64,
    in_flight: f64,
    weight: f64,
}

impl Load {
    pub(super) fn of<C: Candidate>(pool: &Pool<'_, C>, index: usize) -> Self {
        let candidate = &pool.candidates[index];
        let mut load =
            Self { latency: 1.0, in_flight: candidate.in_flight().into(), weight: weight_of(candidate).into() };
        let share = pool.share(candidate);
        if share < WHOLE_SHARE {
            load.in_flight *= f64::from(WHOLE_SHARE) / f64::from(share.max(1));
        }
        load
    }

    /// Whether `self`, drawn second, takes the request from `first`.
    ///
    /// With equal weights: whether latency × (in flight + 1) is smaller; a tie stays with the first, which chance drew.
    /// With unequal weights the draw already favours the heavy one. Were the request that is to be placed then charged
    /// at 1 / weight to both, an idle light backend would lose every comparison (a canary of 1:9 would see nothing),
    /// so the first is charged for it at the heavier weight of the two.
    pub(super) fn is_cheaper_than(&self, first: &Load) -> bool {
        // Both sides of (self.in_flight + 1) / self.weight < first.in_flight / first.weight + 1 / heavier, multiplied
        // out: products of whole numbers below 2⁵³ are exact, so ties are ties.
        let heavier = first.weight.max(self.weight);
        let own = (self.in_flight + 1.0) * first.weight * heavier;
        let other = (first.in_flight * heavier + first.weight) * self.weight;
        self.latency * own < first.latency * other
    }
}
