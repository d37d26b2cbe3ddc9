//! Decides what follows a failed attempt. Pure: no clock, no I/O.
//! It promises that a request which may have been executed is sent again only if its method is idempotent.
//! It does not count, wait or send.

use http::Method;

use crate::error::{FailureKind, Retry};

/// What is known about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) kind: FailureKind,
    /// How much of the request the backend may have seen.
    pub(crate) exposure: Exposure,
    /// Whether every byte of the body can be sent once more.
    pub(crate) body: Replay,
    /// Replays of this request so far.
    pub(crate) replays: u32,
}

/// How much of a request may have been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Not one byte was written.
    Unsent,
    /// Bytes were written, and nothing was read since.
    Sent,
    /// The backend began to answer.
    Answered,
}

/// Whether a body can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It is empty, or here whole.
    Possible,
    /// Part of it is gone.
    Impossible,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The failure is the answer.
    GiveUp,
    /// The same request on a connection that was opened for it: another pooled one may be as stale.
    ReplayOnFreshConnection,
}

/// A fresh connection cannot be stale, so one replay is all there can be.
const REPLAYS_MAX: u32 = 1;

/// Decides. RFC 9110 §9.2.2: a proxy repeats only what is idempotent or was provably not processed.
pub(crate) fn verdict(failed: &Failed, method: &Method) -> Verdict {
    let may_repeat = match (failed.kind.retry(), failed.exposure) {
        (_, Exposure::Answered) => false,
        (Retry::IfUnsentOrIdempotent, Exposure::Unsent) => true,
        (Retry::IfUnsentOrIdempotent, Exposure::Sent) => method.is_idempotent(),
        _ => false,
    };
    if may_repeat && failed.body == Replay::Possible && failed.replays < REPLAYS_MAX {
        return Verdict::ReplayOnFreshConnection;
    }
    Verdict::GiveUp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stale(exposure: Exposure) -> Failed {
        Failed { kind: FailureKind::StaleConnection, exposure, body: Replay::Possible, replays: 0 }
    }

    #[test]
    fn an_unsent_request_is_replayed_whatever_its_method() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            assert_eq!(verdict(&stale(Exposure::Unsent), &method), Verdict::ReplayOnFreshConnection);
        }
    }

    #[test]
    fn a_sent_request_is_replayed_only_if_it_is_idempotent() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(verdict(&stale(Exposure::Sent), &method), Verdict::ReplayOnFreshConnection);
        }
        for method in [Method::POST, Method::PATCH] {
            assert_eq!(verdict(&stale(Exposure::Sent), &method), Verdict::GiveUp);
        }
    }

    #[test]
    fn nothing_is_replayed_after_the_first_byte_of_an_answer() {
        assert_eq!(verdict(&stale(Exposure::Answered), &Method::GET), Verdict::GiveUp);
    }

    #[test]
    fn a_request_is_replayed_once_and_only_with_its_whole_body() {
        let again = Failed { replays: 1, ..stale(Exposure::Unsent) };
        assert_eq!(verdict(&again, &Method::GET), Verdict::GiveUp);
        let streamed = Failed { body: Replay::Impossible, ..stale(Exposure::Unsent) };
        assert_eq!(verdict(&streamed, &Method::GET), Verdict::GiveUp);
    }

    #[test]
    fn other_failures_are_not_replayed() {
        for kind in FailureKind::all().filter(|kind| *kind != FailureKind::StaleConnection) {
            assert_eq!(verdict(&Failed { kind, ..stale(Exposure::Unsent) }, &Method::GET), Verdict::GiveUp);
        }
    }
}
