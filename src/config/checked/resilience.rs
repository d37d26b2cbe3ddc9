//! What a service does on a bad day, checked: probes, ejection, retries, hedging, slow start.
//! Promises that values are in range and that every default is the one that `defaults` names. It decides nothing.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::defaults;
use crate::units::Percent;

/// `health:`: how backends are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// The `Host` of an HTTP probe, the `:authority` of a gRPC probe: typed, or that of the service's first route that
    /// names one. `None` is the backend's address. Always `None` for TCP.
    pub host: Option<HeaderValue>,
    /// Further fields of an HTTP or gRPC probe. Values from variables are marked sensitive: no debug output shows them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Between two probes of one backend while its verdict is settled.
    pub every: Duration,
    /// How long one probe may take; at most `every`.
    pub timeout: Duration,
    /// Passed probes in a row that make a backend healthy.
    pub healthy_after: NonZeroU32,
    /// Failed probes in a row that make it unhealthy.
    pub unhealthy_after: NonZeroU32,
    /// Statuses of an HTTP probe that pass.
    pub expect: Vec<RangeInclusive<u16>>,
    /// What a backend is before its first probe.
    pub initial: Initial,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path and query.
    Http(String),
    /// An open connection is enough.
    Tcp,
    /// `grpc.health.v1.Health/Check` of this service; empty asks for the server as a whole.
    Grpc(String),
}

/// What a backend is taken for before its first probe has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// It takes requests.
    Up,
    /// It takes none.
    Down,
}

/// `ejection:`: when a backend is taken out because of what its answers tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Failures in a row; `None` does not count them.
    pub consecutive: Option<NonZeroU32>,
    /// The smallest share of good answers over the last ten seconds, if there were five or more and the other backends do
    /// better; `None` does not look at it.
    pub success_rate: Option<Percent>,
    /// The first ejection's time; each further one takes twice as long as the one before, and each `base` without one
    /// forgives one.
    pub base: Duration,
    /// The longest ejection.
    pub max: Duration,
    /// The largest share of a service's backends that may be out at once: at least one, never the last.
    pub max_ejected: Percent,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive: NonZeroU32::new(defaults::EJECTION_CONSECUTIVE),
            success_rate: Some(defaults::EJECTION_SUCCESS_RATE),
            base: defaults::EJECTION_BASE,
            max: defaults::EJECTION_MAX,
            max_ejected: defaults::EJECTION_MAX_EJECTED,
        }
    }
}

/// `retries:`: what follows a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Attempts after the first; 0 turns retries off.
    pub attempts: u32,
    /// Which outcomes are worth another attempt.
    pub when: RetryWhen,
    /// How much extra load retries may be.
    pub budget: RetryBudget,
    /// The pause before a retry.
    pub backoff: Backoff,
    /// Whether a retry may go to a backend that has failed this request.
    pub other_backend: OtherBackend,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: defaults::RETRY_ATTEMPTS,
            when: RetryWhen::default(),
            budget: RetryBudget { ratio: defaults::RETRY_BUDGET, per_second: defaults::RETRY_BUDGET_PER_SECOND },
            backoff: Backoff { base: defaults::RETRY_BACKOFF, max: defaults::RETRY_BACKOFF_MAX },
            other_backend: OtherBackend::Preferred,
        }
    }
}

/// Outcomes that are worth another attempt, if the request may be repeated at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryWhen {
    /// The connection could not be opened, or ended before the response head.
    pub connection: bool,
    /// No response head within `timeouts.response`.
    pub timeout: bool,
    /// The answer was not HTTP.
    pub invalid_response: bool,
    /// Answers with these statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
}

impl Default for RetryWhen {
    /// Connection failures only: nothing that a backend has said is said twice unless the user asks for it.
    fn default() -> Self {
        Self { connection: true, timeout: false, invalid_response: false, statuses: Vec::new() }
    }
}

/// `retries.budget`: retries are allowed up to `ratio` of the requests of the last ten seconds plus `per_second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Share of the service's requests.
    pub ratio: Percent,
    /// What is always allowed, so that a quiet service may retry too.
    pub per_second: u32,
}

/// `retries.backoff`: full jitter, uniform in 0 to `base` × 2ⁿ, at most `max`. A retry at another backend after a failed
/// connection does not pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry, at most.
    pub base: Duration,
    /// Before any, at most.
    pub max: Duration,
}

/// Whether a retry may go to a backend that has failed this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherBackend {
    /// Only if there is no other.
    Preferred,
    /// Never: without another backend the failure is the answer.
    Required,
}

/// `hedge:`: a second attempt while the first has not answered; the first good answer wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After the 95th percentile of the service's latency.
    AfterP95,
    /// After this long.
    After(Duration),
}
