//! What a service, a backend and a listener count, and what they had counted at one moment.
//! Promises that recording touches memory of the calling worker only. It knows no names: those are keys in `metrics`.

use std::num::NonZeroUsize;
use std::time::Duration;

use metrics::Counter;

use super::words::{EjectionCause, Outcome, ProbeResult, RetryCause};
use crate::telemetry::histogram::{Distribution, Histogram};
use crate::telemetry::shards::Shards;

/// Words of the `code_class` label; 499 of the log counts as `4xx`.
pub(super) const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const QUEUE_FULL_IDX: usize = CODE_CLASSES.len();
const QUEUE_TIMEOUT_IDX: usize = QUEUE_FULL_IDX + 1;
const PROBES_IDX: usize = QUEUE_TIMEOUT_IDX + 1;
const EJECTIONS_IDX: usize = PROBES_IDX + ProbeResult::ALL.len();
/// Requests of which the first attempt was sent.
const SENT_IDX: usize = EJECTIONS_IDX + EjectionCause::ALL.len();
const HEDGES_IDX: usize = SENT_IDX + 1;
const HEDGES_WON_IDX: usize = HEDGES_IDX + 1;
const SCALER_ERRORS_IDX: usize = HEDGES_WON_IDX + 1;
const RETRIES_IDX: usize = SCALER_ERRORS_IDX + 1;

/// Counters of one service.
#[derive(Debug)]
pub struct ServiceMetrics {
    counters: Shards<{ RETRIES_IDX + RetryCause::COUNT }>,
    duration: Histogram,
    cold_starts: Histogram,
}

impl ServiceMetrics {
    pub(super) fn new(workers: NonZeroUsize) -> Self {
        let histogram = || Histogram::new(workers);
        Self { counters: Shards::new(workers), duration: histogram(), cold_starts: histogram() }
    }

    /// A request ended with this status, 499 included.
    #[inline]
    pub fn request_ended(&self, status: u16, duration: Duration) {
        let class_idx = usize::from(status / 100).clamp(1, CODE_CLASSES.len()) - 1;
        self.counters.add(class_idx, 1);
        self.duration.record(duration);
    }

    /// How many requests ended, however they did: cheaper than [`ServiceMetrics::read`].
    pub fn requests_ended(&self) -> u64 {
        (0..CODE_CLASSES.len()).map(|idx| self.counters.sum_of(idx)).fold(0, u64::wrapping_add)
    }

    /// The first attempt of a request is sent.
    #[inline]
    pub fn request_sent(&self) {
        self.counters.add(SENT_IDX, 1);
    }

    /// How many requests were sent to a backend at least once: what the retry budget is a share of.
    pub fn requests_sent(&self) -> u64 {
        self.counters.sum_of(SENT_IDX)
    }

    /// How long requests took so far.
    pub fn durations(&self) -> Distribution {
        self.duration.read()
    }

    /// A request gets a further attempt because of what ended the last.
    pub fn retried(&self, because: impl Into<RetryCause>) {
        self.counters.add(RETRIES_IDX + because.into().index(), 1);
    }

    /// A request gets a second attempt beside the first.
    pub fn hedged(&self) {
        self.counters.add(HEDGES_IDX, 1);
    }

    /// The second attempt answered first.
    pub fn hedge_won(&self) {
        self.counters.add(HEDGES_WON_IDX, 1);
    }

    /// Whoever changes the number of its replicas did not.
    pub fn scaler_failed(&self) {
        self.counters.add(SCALER_ERRORS_IDX, 1);
    }

    /// One of its backends was taken out.
    pub fn ejected(&self, cause: EjectionCause) {
        self.counters.add(EJECTIONS_IDX + cause as usize, 1);
    }

    /// A request found the queue full.
    pub fn queue_was_full(&self) {
        self.counters.add(QUEUE_FULL_IDX, 1);
    }

    /// A request waited in the queue for as long as it may.
    pub fn queue_timed_out(&self) {
        self.counters.add(QUEUE_TIMEOUT_IDX, 1);
    }

    /// From the first request that was held to the first replica that was ready.
    pub fn cold_started(&self, took: Duration) {
        self.cold_starts.record(took);
    }

    /// How long cold starts took so far.
    pub fn cold_starts(&self) -> Distribution {
        self.cold_starts.read()
    }

    /// A health probe of one of its backends ended.
    pub fn probed(&self, result: ProbeResult) {
        self.counters.add(PROBES_IDX + result as usize, 1);
    }

    /// What was counted so far.
    pub fn read(&self) -> ServiceReading {
        let sums = self.counters.sum();
        ServiceReading {
            by_class: std::array::from_fn(|idx| sums[idx]),
            queue_full: sums[QUEUE_FULL_IDX],
            queue_timeout: sums[QUEUE_TIMEOUT_IDX],
            probes: std::array::from_fn(|idx| sums[PROBES_IDX + idx]),
            hedges: sums[HEDGES_IDX],
            hedges_won: sums[HEDGES_WON_IDX],
            scaler_errors: sums[SCALER_ERRORS_IDX],
            retries: std::array::from_fn(|idx| sums[RETRIES_IDX + idx]),
            ejections: std::array::from_fn(|idx| sums[EJECTIONS_IDX + idx]),
            duration: self.duration.read(),
        }
    }
}

/// What a service has counted at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceReading {
    /// Requests with status 1xx, 2xx, 3xx, 4xx, 5xx.
    pub by_class: [u64; 5],
    /// Requests that found the queue full.
    pub queue_full: u64,
    /// Requests that waited in vain.
    pub queue_timeout: u64,
    /// Health probes, by [`ProbeResult`].
    pub probes: [u64; ProbeResult::ALL.len()],
    /// Backends taken out, in the order of [`EjectionCause`].
    pub ejections: [u64; EjectionCause::ALL.len()],
    /// Second attempts beside the first.
    pub hedges: u64,
    /// Those that answered first.
    pub hedges_won: u64,
    /// Changes of the number of replicas that failed.
    pub scaler_errors: u64,
    /// Further attempts, by what ended the last: [`FailureKind::index`](crate::error::FailureKind::index), then statuses.
    pub retries: [u64; RetryCause::COUNT],
    /// Whole requests.
    pub duration: Distribution,
}

impl ServiceReading {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// What was counted after `earlier` was read.
    pub fn since(&self, earlier: &ServiceReading) -> ServiceReading {
        ServiceReading {
            by_class: difference(&self.by_class, &earlier.by_class),
            queue_full: self.queue_full.wrapping_sub(earlier.queue_full),
            queue_timeout: self.queue_timeout.wrapping_sub(earlier.queue_timeout),
            probes: difference(&self.probes, &earlier.probes),
            hedges: self.hedges.wrapping_sub(earlier.hedges),
            hedges_won: self.hedges_won.wrapping_sub(earlier.hedges_won),
            scaler_errors: self.scaler_errors.wrapping_sub(earlier.scaler_errors),
            retries: difference(&self.retries, &earlier.retries),
            ejections: difference(&self.ejections, &earlier.ejections),
            duration: self.duration.since(&earlier.duration),
        }
    }

    /// Requests that ended with 5xx.
    pub fn errors(&self) -> u64 {
        self.by_class[4]
    }
}

fn difference<const N: usize>(later: &[u64; N], earlier: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|idx| later[idx].wrapping_sub(earlier[idx]))
}

/// Counters of one backend of one service.
#[derive(Debug)]
pub struct BackendMetrics {
    outcomes: Shards<{ Outcome::COUNT }>,
    duration: Histogram,
}

impl BackendMetrics {
    pub(super) fn new(workers: NonZeroUsize) -> Self {
        Self { outcomes: Shards::new(workers), duration: Histogram::new(workers) }
    }

    /// An attempt at this backend ended. Call it once per attempt.
    #[inline]
    pub fn attempt_ended(&self, outcome: Outcome, duration: Duration) {
        self.outcomes.add(outcome.index(), 1);
        self.duration.record(duration);
    }

    /// Complete answers below 500 so far: cheaper than [`BackendMetrics::read`].
    pub fn successes(&self) -> u64 {
        self.outcomes.sum_of(Outcome::Success.index())
    }

    /// What was counted so far.
    pub fn read(&self) -> BackendReading {
        BackendReading { outcomes: self.outcomes.sum(), duration: self.duration.read() }
    }
}

/// What a backend has counted at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendReading {
    outcomes: [u64; Outcome::COUNT],
    /// Single attempts.
    pub duration: Distribution,
}

impl BackendReading {
    /// Attempts with this outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()]
    }

    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Attempts that the backend is to blame for: a 5xx, or a failure of the backend's own.
    pub fn errors(&self) -> u64 {
        let blamed = Outcome::all().filter(|outcome| outcome.is_expected() && *outcome != Outcome::Success);
        blamed.map(|outcome| self.outcome(outcome)).sum()
    }
}

/// Counters of one listener. A connection costs far more than they do, so the exporter keeps them.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once because of a connection limit.
    pub refused: Counter,
}
