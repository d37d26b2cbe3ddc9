//! One try of one request at one backend, from the place it takes to the outcome it leaves.
//! It promises exactly one outcome per attempt, recorded when it is dropped. It sends nothing.

use std::sync::Arc;

use http::StatusCode;

use crate::error::FailureKind;
use crate::lifecycle::clock;
use crate::runtime::backend::Backend;
use crate::runtime::service::{Lease, Service};
use crate::telemetry::metrics::Outcome;
use crate::units::Moment;

/// An attempt in progress: the place at its backend, and what is known of its outcome.
pub(crate) struct Attempt {
    lease: Lease,
    pub(crate) began: Moment,
    outcome: Outcome,
    /// When, if that is known before it is dropped.
    ended: Option<Moment>,
}

impl Attempt {
    /// Begins at `now`. If nothing else is said, the client went away.
    pub(crate) fn begin(lease: Lease, now: Moment) -> Self {
        Self { lease, began: now, outcome: Outcome::Failure(FailureKind::ClientClosed), ended: None }
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.lease.backend
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.lease.service
    }

    /// The response head is here.
    pub(crate) fn head_arrived(&self, now: Moment) {
        self.lease.backend.latency.observe(now.since(self.began), now);
    }

    /// The response is complete.
    pub(crate) fn complete(mut self, status: StatusCode, now: Moment) {
        self.outcome = if status.is_server_error() { Outcome::ServerError } else { Outcome::Success };
        self.ended = Some(now);
    }

    /// The attempt failed.
    pub(crate) fn fail(mut self, kind: FailureKind) {
        self.outcome = Outcome::Failure(kind);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let duration = self.ended.unwrap_or_else(clock::now).since(self.began);
        self.lease.backend.metrics.attempt_ended(self.outcome, duration);
    }
}
