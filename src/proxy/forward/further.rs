//! Whether another attempt follows one: what is known is put before [`retry::verdict`], then the budget is asked.
//! It promises that a retry which is granted is paid for, and that one which is not sent costs nothing. It sends nothing.

use std::time::{Duration, SystemTime};

use super::Course;
use crate::config::checked::OtherBackend;
use crate::error::{FailureKind, ProxyError};
use crate::http::{leaving, patience};
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::delivery::Answer;
use crate::proxy::retry::{self, Elsewhere, End, Ended, Exposure, Replay, Verdict};
use crate::runtime::budget::{Reading, Reservation};
use crate::runtime::service::Lease;
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::{Limit, RetryCause};
use crate::units::Moment;

/// A retry that was granted.
pub(super) struct Due {
    pub(super) reservation: Reservation,
    pub(super) cause: RetryCause,
    pub(super) pause: Duration,
    pub(super) elsewhere: Elsewhere,
}

/// Whether a retry is granted.
pub(super) enum Grant {
    Retry(Due),
    /// The verdict is against it.
    No,
    /// The verdict is for it, the budget is not.
    OverBudget,
}

impl Course<'_> {
    /// What an answer is to the retries; `None` for nearly every one, which simply goes down.
    pub(super) fn end_of(&self, attempt: &mut Attempt, answer: &mut Answer) -> Option<End> {
        let status = answer.response.status();
        if leaving::is_leaving(status, answer.response.headers()) {
            self.leave_alone(attempt);
            answer.response.headers_mut().remove(leaving::DRAIN);
            return Some(End::Leaving);
        }
        let policy = &self.service.policy.retries;
        if policy.when.statuses.is_empty() || !retry::is_wanted(End::Answer(status, None), policy) {
            return None;
        }
        Some(End::Answer(status, patience::retry_after(answer.response.headers(), SystemTime::now())))
    }

    /// The backend asked to be left alone: it takes nothing more until control says otherwise.
    #[cold]
    pub(super) fn leave_alone(&self, attempt: &mut Attempt) {
        attempt.excuse();
        if attempt.backend().standing.add(Reason::Leaving) {
            self.exchange.connection.worker.store.note_change();
        }
    }

    /// Nobody takes requests at the moment; somebody may in another one.
    pub(super) async fn wait_for_backend(&mut self, error: ProxyError) -> Result<(), ProxyError> {
        if error.kind != FailureKind::NoHealthyBackend {
            return Err(self.give_up(error)); // a full line, or no time: waiting again would be worse
        }
        let ended = self.ended(End::Failure(error.kind), Exposure::Unsent, Replay::Possible);
        let policy = &self.service.policy.retries;
        let Verdict::Retry { after } = retry::verdict(&ended, &self.method, policy, fastrand::u64(..)) else {
            return Err(self.give_up(error));
        };
        self.trail.retries += 1;
        tokio::time::sleep(after).await;
        Ok(())
    }

    /// The other backend that the retry was granted for is gone, and the same one will not do.
    pub(super) fn is_ruled_out(&self, lease: &Lease, due: &Due) -> bool {
        let required = self.service.policy.retries.other_backend == OtherBackend::Required;
        required && due.elsewhere == Elsewhere::Available && self.trail.tried.contains(&lease.backend.id)
    }

    /// Whether there may be another attempt: the verdict first, then the budget.
    #[cold]
    pub(super) fn ask(&mut self, attempt: &Attempt, end: End, exposure: Exposure, replay: Replay) -> Grant {
        self.trail.tried.push(attempt.backend().id);
        let ended = self.ended(end, exposure, replay);
        let policy = &self.service.policy.retries;
        let Verdict::Retry { after } = retry::verdict(&ended, &self.method, policy, fastrand::u64(..)) else {
            return Grant::No;
        };
        let is_free = self.trail.stale == 0 && end == End::Failure(FailureKind::StaleConnection);
        let reservation = if is_free { Some(self.service.group.budget.grant()) } else { self.reserve(clock::now()) };
        let Some(reservation) = reservation else { return Grant::OverBudget };
        match is_free {
            true => self.trail.stale += 1,
            false => self.trail.retries += 1,
        }
        let cause = match end {
            End::Failure(kind) => RetryCause::Failure(kind),
            End::Answer(..) => RetryCause::Status,
            End::Leaving => RetryCause::Leaving,
        };
        Grant::Retry(Due { reservation, cause, pause: after, elsewhere: ended.elsewhere })
    }

    pub(super) fn reserve(&self, now: Moment) -> Option<Reservation> {
        let reading = Reading { now, requests: self.service.metrics.requests_sent() };
        let reservation = self.service.group.budget.reserve(reading, &self.service.policy.retries.budget);
        if reservation.is_none() {
            self.exchange.connection.worker.metrics.limit_hit(Limit::RetryBudget);
        }
        reservation
    }

    pub(super) fn ended(&self, end: End, exposure: Exposure, request: Replay) -> Ended {
        let has_other = self.service.group.has_other(&self.trail.tried);
        Ended {
            end,
            exposure,
            request,
            elsewhere: if has_other { Elsewhere::Available } else { Elsewhere::Nowhere },
            retries: self.trail.retries,
            stale: self.trail.stale,
            left: self.exchange.deadline.since(clock::now()),
        }
    }
}
