//! Decides what follows an attempt whose answer does not go down. Pure: no clock, no chance, no I/O.
//! It promises that a request which may have been executed is sent again only if its method is idempotent, and only within
//! what the service allows. It is not asked once a byte of an answer has gone down, and it does not count, wait or send.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::config::checked::{OtherBackend, Retries};
use crate::error::{FailureKind, Retry};

/// Less than this before the deadline, an attempt is not begun: a handshake and an answer would hardly fit.
pub(crate) const LEFT_MIN: Duration = Duration::from_millis(10);

/// What is known about an attempt that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) end: End,
    /// How much of the request the backend may have seen.
    pub(crate) exposure: Exposure,
    /// Whether every byte of the request can be sent once more.
    pub(crate) request: Replay,
    /// Whether a backend that this request has not tried could take it.
    pub(crate) elsewhere: Elsewhere,
    /// Attempts of this request so far that count: not those that only met a stale connection.
    pub(crate) retries: u32,
    /// Attempts so far that followed a stale connection.
    pub(crate) stale: u32,
    /// Time to the deadline of the request.
    pub(crate) left: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Without a response head.
    Failure(FailureKind),
    /// With a head of which nothing has gone down, and what its `Retry-After` says.
    Answer(StatusCode, Option<Duration>),
    /// With a head which says that the backend is leaving and has not looked at the request.
    Leaving,
}

/// How much of a request may have been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Not one byte was taken.
    Unsent,
    /// Bytes were taken: it may have been executed.
    Sent,
}

/// Whether a request can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Its head is at hand, and its body is empty, untouched or here whole.
    Possible,
    /// Part of it is gone.
    Impossible,
}

/// Whether there is a backend that has not failed this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// There is, and it is below its limit.
    Available,
    /// Those that were tried are all there are.
    Nowhere,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What came is the answer.
    GiveUp,
    /// Another attempt.
    Retry {
        /// The pause before it.
        after: Duration,
    },
}

/// Whether the request goes at once over a fresh connection to the same backend: nothing of it was sent, the pooled
/// connection was closed before. No attempt and no budget pays for that; only a pooled connection can be stale, so it
/// happens once per attempt.
pub(crate) fn is_replayed_at_once(kind: FailureKind, exposure: Exposure) -> bool {
    kind == FailureKind::StaleConnection && exposure == Exposure::Unsent
}

/// Decides. `random` is a fresh random number, from which the pause is drawn.
pub(crate) fn verdict(ended: &Ended, method: &Method, policy: &Retries, random: u64) -> Verdict {
    let is_stale = ended.end == End::Failure(FailureKind::StaleConnection);
    if ended.request == Replay::Impossible || !may_repeat(ended, method) {
        return Verdict::GiveUp;
    }
    // A stale connection says nothing about a backend: the first one uses up no attempt, and binds to no other backend.
    let is_free = is_stale && ended.stale == 0;
    let is_bound = ended.elsewhere == Elsewhere::Nowhere && policy.other_backend == OtherBackend::Required;
    if !is_free && (is_bound || !is_wanted(ended.end, policy) || ended.retries >= policy.attempts) {
        return Verdict::GiveUp;
    }
    let after = pause(ended, policy, random);
    match after.saturating_add(LEFT_MIN) <= ended.left {
        true => Verdict::Retry { after },
        false => Verdict::GiveUp,
    }
}

/// RFC 9110 §9.2.2: a proxy repeats only what is idempotent or was provably not processed.
fn may_repeat(ended: &Ended, method: &Method) -> bool {
    let is_final = matches!(ended.end, End::Failure(kind) if kind.retry() == Retry::Never);
    !is_final && (ended.exposure == Exposure::Unsent || method.is_idempotent())
}

/// Whether the user wants another attempt after such an end.
pub(crate) fn is_wanted(end: End, policy: &Retries) -> bool {
    match end {
        End::Failure(FailureKind::ResponseTimeout) => policy.when.timeout,
        End::Failure(FailureKind::UpstreamProtocol) => policy.when.invalid_response,
        End::Failure(_) | End::Leaving => policy.when.connection,
        End::Answer(status, _) => policy.when.statuses.iter().any(|range| range.contains(&status.as_u16())),
    }
}

/// None where waiting helps nobody: a dead connection and another backend know nothing of each other.
fn pause(ended: &Ended, policy: &Retries, random: u64) -> Duration {
    let elsewhere = ended.elsewhere == Elsewhere::Available;
    match ended.end {
        End::Failure(FailureKind::StaleConnection) => Duration::ZERO,
        End::Failure(kind) if elsewhere && kind.retry() == Retry::AnotherBackend => Duration::ZERO,
        // RFC 9110 §10.2.3: it speaks for the backend that said so, not for the others.
        End::Answer(_, Some(_)) | End::Leaving if elsewhere => Duration::ZERO,
        End::Answer(_, Some(retry_after)) => retry_after.max(jitter(ended.retries, policy, random)),
        _ => jitter(ended.retries, policy, random),
    }
}

/// Full jitter: uniform from zero to a ceiling that doubles with each retry.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
fn jitter(retries: u32, policy: &Retries, random: u64) -> Duration {
    let factor = 1_u32.checked_shl(retries).unwrap_or(u32::MAX);
    let ceiling = policy.backoff.base.saturating_mul(factor).min(policy.backoff.max);
    let nanos = (ceiling.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
