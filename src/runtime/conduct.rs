//! What the answers of a backend tell about it: counted by requests, read by the sweep that ejects.
//! It promises that a good answer of a backend without failures costs one load, and that counts are exact at any rate: a
//! burst trips the same limit at ten requests per second and at ten thousand. It decides nothing: `control::outlier` does.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use http::StatusCode;

use crate::error::{FailureKind, Fault};
use crate::units::Moment;

/// What an ended attempt says about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// It did its work; a 4xx is work, too.
    Good,
    /// It failed: a 5xx, a broken answer, none at all.
    Bad,
    /// It was asked too often (429): no success, and no failure in a row either.
    Throttled,
    /// Nothing: the client went away or was at fault, or we were.
    Neutral,
}

impl Grade {
    /// Of an answer.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS => Grade::Throttled,
            // About the request's method and version, not about the backend: HAProxy takes them for valid answers, too.
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Grade::Neutral,
            status if status.is_server_error() => Grade::Bad,
            _ => Grade::Good,
        }
    }

    /// Of an attempt without a complete answer.
    pub fn of_failure(kind: FailureKind) -> Self {
        match (kind, kind.fault()) {
            // How long a backend keeps idle connections says nothing about how well it is.
            (FailureKind::StaleConnection, _) => Grade::Neutral,
            (_, Fault::Backend) => Grade::Bad,
            (_, Fault::Client | Fault::Service | Fault::Us) => Grade::Neutral,
        }
    }
}

/// How the single request of a probation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trial {
    /// A good response head: the body of a long stream is not waited for.
    Passed = 1,
    /// Anything that is no success, a 429 included.
    Failed = 2,
}

/// What was counted of a backend; the good answers are in its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Bad attempts since the process began.
    pub bad: u64,
    /// Throttled attempts since the process began.
    pub throttled: u64,
}

/// How a backend has behaved.
#[derive(Debug, Default)]
pub struct Conduct {
    failures_in_a_row: AtomicU32,
    /// So many of them tell it from no other backend.
    pardoned: AtomicU32,
    trial: AtomicU8,
    bad: AtomicU64,
    throttled: AtomicU64,
    /// What was begun earlier is not held against it.
    counts_from: AtomicU64,
}

impl Conduct {
    /// Failures since the last good answer.
    #[inline]
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row.load(Relaxed)
    }

    /// The part of the run that came after the last [`Conduct::pardon`].
    pub fn failures_held_against_it(&self) -> u32 {
        self.failures_in_a_row().saturating_sub(self.pardoned.load(Relaxed))
    }

    /// A good attempt ended: ends a run of failures.
    #[inline]
    pub fn good(&self) {
        if self.failures_in_a_row() != 0 {
            self.end_run();
        }
    }

    #[cold]
    fn end_run(&self) {
        self.failures_in_a_row.store(0, Relaxed);
        self.pardoned.store(0, Relaxed);
    }

    /// A bad attempt ended that began at `began`; gives the length of the run that it continues, 0 if it does not count.
    #[cold]
    pub fn bad(&self, began: Moment) -> u32 {
        if !self.counts(began) {
            return 0;
        }
        self.bad.fetch_add(1, Relaxed);
        self.failures_in_a_row.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// An attempt that began at `began` ended with 429.
    #[cold]
    pub fn throttled(&self, began: Moment) {
        if self.counts(began) {
            self.throttled.fetch_add(1, Relaxed);
        }
    }

    /// A backend that hung has many attempts open when it is ejected; their timeouts are no news when it is back.
    fn counts(&self, began: Moment) -> bool {
        began.0 >= self.counts_from.load(Relaxed)
    }

    /// What was counted so far.
    pub fn faults(&self) -> Faults {
        Faults { bad: self.bad.load(Relaxed), throttled: self.throttled.load(Relaxed) }
    }

    /// Forgets the run; only attempts that begin from `now` on make a new one.
    pub fn begin_anew(&self, now: Moment) {
        self.counts_from.store(now.0, Relaxed);
        self.end_run();
    }

    /// Holds nothing against it that began before `now`. Its run goes on: whether it is well is not known before it answers.
    pub fn pardon(&self, now: Moment) {
        self.counts_from.store(now.0, Relaxed);
        self.pardoned.store(self.failures_in_a_row(), Relaxed);
    }

    /// The single request of its probation ended.
    #[cold]
    pub fn trial_ended(&self, trial: Trial) {
        self.trial.store(trial as u8, Relaxed);
    }

    /// How it ended, told once.
    pub fn take_trial(&self) -> Option<Trial> {
        let trial =
            [Trial::Passed, Trial::Failed].into_iter().find(|trial| self.trial.load(Relaxed) == *trial as u8)?;
        self.trial.store(0, Relaxed);
        Some(trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_000);

    #[test]
    fn answers_below_500_are_good_and_5xx_are_bad() {
        for (status, grade) in [
            (101, Grade::Good),
            (200, Grade::Good),
            (304, Grade::Good),
            (404, Grade::Good),
            (429, Grade::Throttled),
            (500, Grade::Bad),
            (501, Grade::Neutral),
            (502, Grade::Bad),
            (503, Grade::Bad),
            (504, Grade::Bad),
            (505, Grade::Neutral),
        ] {
            assert_eq!(Grade::of_status(StatusCode::from_u16(status).unwrap()), grade, "{status}");
        }
    }

    #[test]
    fn what_the_client_or_we_are_to_blame_for_is_not_held_against_a_backend() {
        for kind in FailureKind::all() {
            let expected = match kind {
                FailureKind::ConnectRefused
                | FailureKind::ConnectTimeout
                | FailureKind::UpstreamReset
                | FailureKind::UpstreamProtocol
                | FailureKind::ResponseTimeout => Grade::Bad,
                _ => Grade::Neutral,
            };
            assert_eq!(Grade::of_failure(kind), expected, "{}", kind.reason());
        }
    }

    #[test]
    fn a_good_answer_ends_a_run_of_failures() {
        let conduct = Conduct::default();
        assert_eq!([1, 2, 3], [(); 3].map(|()| conduct.bad(NOW)));
        conduct.good();
        assert_eq!(conduct.bad(NOW), 1);
        assert_eq!(conduct.faults().bad, 4);
    }

    #[test]
    fn trap_429_is_not_a_success_for_balancing_and_not_a_hard_failure_for_consecutive_counting() {
        let conduct = Conduct::default();
        conduct.bad(NOW);
        conduct.throttled(NOW);
        assert_eq!(conduct.failures_in_a_row(), 1, "a 429 neither continues nor ends a run");
        assert_eq!(conduct.faults(), Faults { bad: 1, throttled: 1 });
    }

    #[test]
    fn what_was_begun_before_a_return_is_not_held_against_it() {
        let conduct = Conduct::default();
        conduct.begin_anew(NOW);
        assert_eq!(conduct.bad(Moment(999)), 0);
        conduct.throttled(Moment(999));
        assert_eq!(conduct.faults(), Faults::default());
        assert_eq!(conduct.bad(NOW), 1);
    }

    #[test]
    fn a_pardon_is_no_sign_of_health_and_counts_anew() {
        let conduct = Conduct::default();
        (1..=5).for_each(|run| assert_eq!(conduct.bad(Moment(1)), run));
        conduct.pardon(NOW);
        assert_eq!((conduct.failures_in_a_row(), conduct.failures_held_against_it()), (5, 0));
        conduct.bad(Moment(999));
        assert_eq!(conduct.failures_held_against_it(), 0, "it was begun before");
        assert_eq!(conduct.bad(NOW), 6);
        assert_eq!(conduct.failures_held_against_it(), 1);
        conduct.good();
        assert_eq!((conduct.failures_in_a_row(), conduct.failures_held_against_it()), (0, 0));
    }

    #[test]
    fn a_trial_is_told_once() {
        let conduct = Conduct::default();
        assert_eq!(conduct.take_trial(), None);
        for trial in [Trial::Passed, Trial::Failed] {
            conduct.trial_ended(trial);
            assert_eq!(conduct.take_trial(), Some(trial));
            assert_eq!(conduct.take_trial(), None);
        }
    }
}
