//! Whether a backend takes new requests, and if not, why: several reasons at once, in one atomic word.
//! It promises that a request pays one relaxed load for a backend that is all right. It decides nothing: probes,
//! ejection and people do, through the control plane.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::balance;
use crate::units::Moment;

/// A reason to take no new requests, or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Its probes fail, or none has passed yet and `initial` says to wait.
    Unhealthy = 1,
    /// Its answers took it out.
    Ejected = 1 << 1,
    /// It was ejected, and the next single request decides.
    Probation = 1 << 2,
    /// It asked to be left alone: `503` with `Connection: close` and `x-portway-drain`.
    Leaving = 1 << 3,
    /// A person took it out.
    Drained = 1 << 4,
    /// It is new or recovered, and takes a growing share.
    Ramping = 1 << 5,
    /// The single request of its probation is on its way.
    OnTrial = 1 << 6,
}

impl Reason {
    const ALL: [Reason; 7] = [
        Reason::Unhealthy,
        Reason::Ejected,
        Reason::Probation,
        Reason::Leaving,
        Reason::Drained,
        Reason::Ramping,
        Reason::OnTrial,
    ];

    const fn bit(self) -> u32 {
        self as u32
    }

    /// The word for it, in logs and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Unhealthy => "unhealthy",
            Reason::Ejected => "ejected",
            Reason::Probation => "probation",
            Reason::Leaving => "leaving",
            Reason::Drained => "drained",
            Reason::Ramping => "ramping",
            Reason::OnTrial => "on_trial",
        }
    }
}

/// Reasons that a service without any other backend overrides: they may be wrong or out of date, and an attempt costs less
/// than a 503. Who said that it leaves may be back already, and has not processed what it refuses.
const DOUBTFUL: u32 = Reason::Unhealthy.bit()
    | Reason::Ejected.bit()
    | Reason::Probation.bit()
    | Reason::Leaving.bit()
    | Reason::OnTrial.bit();
const WHOLE: u32 = balance::WHOLE_SHARE;

/// The reasons that hold for one backend.
#[derive(Default)]
pub struct Standing {
    reasons: AtomicU32,
    ramp_began: AtomicU64,
}

/// What a standing lets a request do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Every request.
    All,
    /// One request: it decides.
    One,
    /// None, unless the service has no other backend.
    IfNoOther,
    /// None.
    None,
}

impl Standing {
    /// Nothing speaks against it: the usual case, one load.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.reasons.load(Relaxed) == 0
    }

    /// Whether `reason` holds.
    pub fn has(&self, reason: Reason) -> bool {
        self.reasons.load(Relaxed) & reason.bit() != 0
    }

    /// Adds `reason`; tells whether it is new.
    pub fn add(&self, reason: Reason) -> bool {
        self.reasons.fetch_or(reason.bit(), Relaxed) & reason.bit() == 0
    }

    /// Takes `reason` away; tells whether it held.
    pub fn remove(&self, reason: Reason) -> bool {
        self.reasons.fetch_and(!reason.bit(), Relaxed) & reason.bit() != 0
    }

    /// Begins the ramp of a new or recovered backend.
    pub fn begin_ramp(&self, now: Moment) {
        self.ramp_began.store(now.0, Relaxed);
        self.add(Reason::Ramping);
    }

    /// What it lets a request do.
    pub fn admits(&self) -> Admits {
        let reasons = self.reasons.load(Relaxed) & !Reason::Ramping.bit();
        match reasons {
            0 => Admits::All,
            only if only == Reason::Probation.bit() => Admits::One,
            doubtful if doubtful & !DOUBTFUL == 0 => Admits::IfNoOther,
            _ => Admits::None,
        }
    }

    /// Why it takes no request that could go elsewhere, if it does not: the strongest reason.
    pub fn why_not(&self) -> Option<Reason> {
        let speaks_against = |reason: &Reason| *reason != Reason::Ramping && self.has(*reason);
        Reason::ALL.into_iter().filter(speaks_against).last()
    }

    /// Its share of a full one in 1/1024, at `now`, on a ramp of length `slow_start`.
    ///
    /// Envoy's form with aggression 1: linear in time, never below a tenth, so that a quiet service warms up too.
    pub fn share(&self, slow_start: Duration, now: Moment) -> u32 {
        if slow_start.is_zero() || !self.has(Reason::Ramping) {
            return WHOLE;
        }
        let age = now.since(Moment(self.ramp_began.load(Relaxed)));
        if age >= slow_start {
            return WHOLE;
        }
        let share = age.as_nanos() * u128::from(WHOLE) / slow_start.as_nanos();
        u32::try_from(share).unwrap_or(WHOLE).max(WHOLE / 10)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Reason::ALL.into_iter().filter(|reason| self.has(*reason))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_without_reasons_takes_everything() {
        let standing = Standing::default();
        assert!(standing.is_plain());
        assert_eq!(standing.admits(), Admits::All);
    }

    #[test]
    fn doubt_is_overridden_and_a_persons_word_is_not() {
        let standing = Standing::default();
        assert!(standing.add(Reason::Unhealthy));
        assert!(!standing.add(Reason::Unhealthy));
        assert_eq!(standing.admits(), Admits::IfNoOther);
        standing.add(Reason::Leaving);
        assert_eq!(standing.admits(), Admits::IfNoOther);
        standing.remove(Reason::Leaving);
        standing.add(Reason::Drained);
        assert_eq!(standing.admits(), Admits::None);
        standing.remove(Reason::Drained);
        standing.remove(Reason::Unhealthy);
        standing.add(Reason::Probation);
        assert_eq!(standing.admits(), Admits::One);
    }

    #[test]
    fn a_ramp_grows_from_a_tenth_to_the_whole() {
        let standing = Standing::default();
        let length = Duration::from_secs(10);
        standing.begin_ramp(Moment(0));
        let share = |secs| standing.share(length, Moment(0).after(Duration::from_secs(secs)));
        assert_eq!(share(0), WHOLE / 10);
        assert_eq!(share(5), WHOLE / 2);
        assert_eq!(share(10), WHOLE);
        assert_eq!(standing.share(Duration::ZERO, Moment(0)), WHOLE);
        assert_eq!(standing.admits(), Admits::All);
    }
}
