//! Picks one backend for one attempt, in constant time whatever the number of backends.
//! Never picks an unavailable one; prefers one that this request has not tried; shares no lock between worker threads.
//! Knows no clock, no random source and no reason why a backend is unavailable: the caller brings all three.

mod hash;
mod least_requests;
pub mod peak_ewma;
mod random;
mod round_robin;

use std::fmt;
use std::sync::Arc;

use crate::config::checked::Balance;
use crate::units::{Moment, Weight};

pub use hash::hash_key;

use random::{Dice, Draw};

/// What a balancer wants to know of a backend. Every answer must be cheap: an atomic load, not a lock.
pub trait Candidate {
    /// Its share relative to its neighbours, 1 to 1,000; anything else counts as the nearest of these.
    fn weight(&self) -> u32;
    /// Requests that it works on now.
    fn in_flight(&self) -> u32;
    /// Whether it may be picked at all.
    fn is_available(&self, admission: Admission) -> bool;
    /// Its share of what it would get otherwise, in 1/[`WHOLE_SHARE`]: less while it warms up.
    fn share(&self, now: Moment) -> u32 {
        let _ = now;
        WHOLE_SHARE
    }
    /// How fast it answered lately.
    fn latency(&self) -> &peak_ewma::Ewma;
    /// A name that is the same on every instance and outlives restarts, such as `host:port`.
    fn identity(&self) -> &str;
}

impl<T: Candidate + ?Sized> Candidate for Arc<T> {
    fn weight(&self) -> u32 {
        (**self).weight()
    }

    fn in_flight(&self) -> u32 {
        (**self).in_flight()
    }

    fn is_available(&self, admission: Admission) -> bool {
        (**self).is_available(admission)
    }

    fn share(&self, now: Moment) -> u32 {
        (**self).share(now)
    }

    fn latency(&self) -> &peak_ewma::Ewma {
        (**self).latency()
    }

    fn identity(&self) -> &str {
        (**self).identity()
    }
}

/// A backend that is fully warm.
pub const WHOLE_SHARE: u32 = 1 << 10;

/// Who may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Backends that nothing speaks against.
    Sound,
    /// Also those that are only thought to be ill: nobody else is left.
    Doubtful,
}

/// What one pick depends on besides the backends.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The present.
    pub now: Moment,
    /// [`hash_key`] of what `balance: { hash: … }` looks at; `None` where the request has no such thing. Others ignore it.
    pub key: Option<u64>,
    /// Indexes that this request has tried already; picked again only if nothing else is available.
    pub tried: &'a [usize],
    /// A fresh random number for each pick, such as `fastrand::u64(..)`; a seed in tests.
    pub random: u64,
    /// Who may be picked.
    pub admission: Admission,
}

/// A balancing algorithm prepared for one membership. Build a new one when backends or weights change.
///
/// Weights are read when it is built; `least_requests` and `peak_ewma` also read them at each pick.
pub struct Picker {
    algorithm: Algorithm,
    n_candidates: usize,
}

enum Algorithm {
    LeastRequests(Draw),
    PeakEwma(Draw),
    RoundRobin(round_robin::Schedule),
    Random(Draw),
    Hash(hash::Table),
}

impl Picker {
    /// Prepares `balance` for `candidates`; later picks must pass the same backends in the same order.
    pub fn new<C: Candidate>(balance: &Balance, candidates: &[C]) -> Self {
        let weights: Vec<u32> = candidates.iter().map(weight_of).collect();
        let algorithm = match balance {
            Balance::LeastRequests => Algorithm::LeastRequests(Draw::new(&weights)),
            Balance::PeakEwma => Algorithm::PeakEwma(Draw::new(&weights)),
            Balance::RoundRobin => Algorithm::RoundRobin(round_robin::Schedule::new(&weights)),
            Balance::Random => Algorithm::Random(Draw::new(&weights)),
            Balance::Hash(_) => Algorithm::Hash(hash::Table::new(candidates)),
        };
        Self { algorithm, n_candidates: candidates.len() }
    }

    /// The index of an available candidate, or `None` if none is available.
    ///
    /// Candidates in `choice.tried` are left out; if nothing else is available they are taken back in, because a
    /// second try at the same backend still beats an error.
    pub fn pick<C: Candidate>(&self, candidates: &[C], choice: &Choice<'_>) -> Option<usize> {
        debug_assert_eq!(candidates.len(), self.n_candidates, "a picker serves the membership it was built for");
        match candidates {
            [] => None,
            [only] => only.is_available(choice.admission).then_some(0),
            _ => {
                let picked = self.pick_from(&Pool { candidates, choice, warmth: Warmth::Counts }, choice);
                picked.or_else(|| self.pick_anybody(candidates, choice))
            }
        }
    }

    /// First without regard to who is still warming up, then also among those that were tried.
    #[cold]
    fn pick_anybody<C: Candidate>(&self, candidates: &[C], choice: &Choice<'_>) -> Option<usize> {
        let picked = self.pick_from(&Pool { candidates, choice, warmth: Warmth::Ignored }, choice);
        if picked.is_some() || choice.tried.is_empty() {
            return picked;
        }
        let again = Choice { tried: &[], ..*choice };
        self.pick_from(&Pool { candidates, choice: &again, warmth: Warmth::Ignored }, &again)
    }

    fn pick_from<C: Candidate>(&self, pool: &Pool<'_, C>, choice: &Choice<'_>) -> Option<usize> {
        let mut dice = Dice::new(choice.random);
        match &self.algorithm {
            Algorithm::LeastRequests(draw) => least_requests::pick(pool, draw, &mut dice),
            Algorithm::PeakEwma(draw) => peak_ewma::pick(pool, draw, &mut dice),
            Algorithm::RoundRobin(schedule) => schedule.pick(pool, &mut dice),
            Algorithm::Random(draw) => random::pick(pool, draw, &mut dice),
            Algorithm::Hash(table) => table.pick(pool, choice.key, &mut dice),
        }
    }
}

impl fmt::Debug for Picker {
    /// Names the algorithm only: a hash table of 65,537 slots helps nobody in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::LeastRequests(_) => "least_requests",
            Algorithm::PeakEwma(_) => "peak_ewma",
            Algorithm::RoundRobin(_) => "round_robin",
            Algorithm::Random(_) => "random",
            Algorithm::Hash(_) => "hash",
        };
        f.debug_struct("Picker").field("algorithm", &algorithm).field("n_candidates", &self.n_candidates).finish()
    }
}

/// How often an algorithm draws before it scans all candidates. To find two with half of the backends down, one pick in
/// 4,000 scans; with nine in ten down, every second.
const DRAWS_MAX: usize = 16;

/// The candidates of one pick, and which of them may be picked.
struct Pool<'a, C> {
    candidates: &'a [C],
    choice: &'a Choice<'a>,
    warmth: Warmth,
}

/// Whether a backend that warms up steps back for most requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warmth {
    /// It does.
    Counts,
    /// Nobody else is there.
    Ignored,
}

impl<C: Candidate> Pool<'_, C> {
    fn is_eligible(&self, index: usize) -> bool {
        let Some(candidate) = self.candidates.get(index) else { return false };
        !self.choice.tried.contains(&index) && self.is_available(candidate) && self.is_warm_enough(candidate, index)
    }

    fn is_available(&self, candidate: &C) -> bool {
        candidate.is_available(self.choice.admission)
    }

    /// A backend on half of its share is eligible for every second pick, whatever the algorithm; the same for all looks
    /// of one pick.
    fn is_warm_enough(&self, candidate: &C, index: usize) -> bool {
        let share = self.share(candidate);
        if share >= WHOLE_SHARE {
            return true;
        }
        // By the key if there is one, so that each session moves to the new backend once and stays.
        let seed = self.choice.key.unwrap_or(self.choice.random);
        random::mix(seed ^ index as u64) % u64::from(WHOLE_SHARE) < u64::from(share)
    }

    fn share(&self, candidate: &C) -> u32 {
        match self.warmth {
            Warmth::Counts => candidate.share(self.choice.now),
            Warmth::Ignored => WHOLE_SHARE,
        }
    }

    /// One of the candidates that `accepts` names, by weighted chance; `None` if it names none. Looks at all of them.
    fn scan(&self, dice: &mut Dice, accepts: impl Fn(usize) -> bool) -> Option<usize> {
        let accepted = || (0..self.candidates.len()).filter(|&index| accepts(index));
        let weight = |index: usize| u64::from(weight_of(&self.candidates[index]));
        let total: u64 = accepted().map(weight).sum();
        let mut ticket = dice.below(total);
        let mut last = None;
        for index in accepted() {
            last = Some(index);
            if ticket < weight(index) {
                break;
            }
            ticket -= weight(index);
        }
        // Availability may change between the two passes; then the last one that is still there takes the request.
        last
    }
}

fn weight_of<C: Candidate>(candidate: &C) -> u32 {
    candidate.weight().clamp(Weight::ONE.get(), Weight::MAX)
}

#[cfg(test)]
mod tests;
