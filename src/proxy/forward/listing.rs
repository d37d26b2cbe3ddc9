//! What the access log says about single attempts.
//! It promises to cost nothing where nobody will read of them: a request with one attempt is listed only if the file asks
//! for it. It writes no log: the exchange does, at its end.

use std::sync::Arc;
use std::time::Duration;

use super::Course;
use crate::proxy::attempt::Attempt;
use crate::runtime::backend::BackendId;
use crate::runtime::service::Service;
use crate::telemetry::access_log::AttemptRecord;
use crate::telemetry::metrics::Outcome;
use crate::units::Moment;

/// Backends that the log names as passed by, per attempt.
const SKIPPED_MAX: usize = 8;

/// Why there is an attempt, and which backends it did not go to.
#[derive(Default)]
pub(super) struct Occasion {
    because: Option<&'static str>,
    pause: Duration,
    skipped: Vec<(Arc<str>, &'static str)>,
}

impl Occasion {
    pub(super) fn of(because: &'static str, pause: Duration) -> Self {
        Self { because: Some(because), pause, skipped: Vec::new() }
    }

    /// Notes who is not asked, and why.
    pub(super) fn pass_by(&mut self, service: &Service, tried: &[BackendId]) {
        self.skipped = service.group.passed_by(tried, SKIPPED_MAX);
    }
}

/// Whether another attempt follows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Yes,
    No,
}

impl Course<'_> {
    /// What was listed of this attempt as its end was not.
    #[cold]
    pub(super) fn unlist(&mut self, attempt: &Attempt) {
        let list = &mut self.exchange.attempt_list;
        let is_its = |record: &mut AttemptRecord| Arc::ptr_eq(&record.backend, &attempt.backend().name);
        if let Some(AttemptRecord { because, pause, skipped, .. }) = list.pop_if(is_its) {
            self.trail.occasion = Occasion { because, pause, skipped };
        }
    }

    /// Notes an attempt for the log, if somebody wants to read of it: always where there is more than one.
    pub(super) fn list(&mut self, attempt: &Attempt, outcome: Outcome, now: Moment, followed: Followed) {
        let exchange = &mut *self.exchange;
        let is_alone = followed == Followed::No && exchange.attempt_list.is_empty() && !exchange.lists_all_attempts();
        if !exchange.is_logged() || is_alone {
            return;
        }
        let Occasion { because, pause, skipped } = std::mem::take(&mut self.trail.occasion);
        exchange.attempt_list.push(AttemptRecord {
            backend: attempt.backend().name.clone(),
            because,
            pause,
            connect: exchange.waits.connect,
            duration: now.since(attempt.began),
            status: exchange.upstream_status.map(|status| status.as_u16()),
            outcome,
            skipped,
        });
    }
}
