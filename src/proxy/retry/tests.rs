//! Facts about the verdict, one by one, and its invariants over everything that can be asked.

use proptest::prelude::*;

use super::*;
use crate::config::checked::{Backoff, RetryWhen};

const SECOND: Duration = Duration::from_secs(1);

fn failed(kind: FailureKind, exposure: Exposure) -> Ended {
    Ended {
        end: End::Failure(kind),
        exposure,
        request: Replay::Possible,
        elsewhere: Elsewhere::Available,
        retries: 0,
        stale: 0,
        left: 60 * SECOND,
    }
}

fn answered(status: u16, retry_after: Option<Duration>) -> Ended {
    let end = End::Answer(StatusCode::from_u16(status).unwrap(), retry_after);
    Ended { end, ..failed(FailureKind::Internal, Exposure::Sent) }
}

fn eager() -> Retries {
    let when =
        RetryWhen { connection: true, timeout: true, invalid_response: true, statuses: vec![429..=429, 502..=504] };
    Retries { attempts: 3, when, ..Retries::default() }
}

fn is_retried(ended: &Ended, method: &Method, policy: &Retries) -> bool {
    verdict(ended, method, policy, 0) != Verdict::GiveUp
}

#[test]
fn an_unsent_request_goes_on_whatever_its_method() {
    use FailureKind as K;
    for method in [Method::GET, Method::POST, Method::PATCH] {
        for kind in [K::ConnectRefused, K::ConnectTimeout, K::UpstreamReset] {
            assert!(is_retried(&failed(kind, Exposure::Unsent), &method, &Retries::default()), "{method} {kind:?}");
        }
    }
    let at_once = FailureKind::all().filter(|kind| is_replayed_at_once(*kind, Exposure::Unsent));
    assert_eq!(at_once.collect::<Vec<_>>(), [K::StaleConnection]);
    assert!(!is_replayed_at_once(K::StaleConnection, Exposure::Sent));
}

#[test]
fn a_sent_request_goes_on_only_if_it_is_idempotent() {
    for kind in [FailureKind::StaleConnection, FailureKind::UpstreamReset] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(is_retried(&failed(kind, Exposure::Sent), &method, &Retries::default()), "{method} {kind:?}");
        }
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"LOCK").unwrap()] {
            assert!(!is_retried(&failed(kind, Exposure::Sent), &method, &eager()), "{method} {kind:?}");
        }
    }
}

#[test]
fn what_a_leaving_backend_did_not_look_at_goes_on_whatever_its_method() {
    let leaving = Ended { end: End::Leaving, ..failed(FailureKind::Internal, Exposure::Unsent) };
    for method in [Method::GET, Method::POST] {
        assert_eq!(verdict(&leaving, &method, &Retries::default(), 0), Verdict::Retry { after: Duration::ZERO });
    }
}

#[test]
fn by_default_only_connection_failures_are_retried() {
    use FailureKind as K;
    let retried = [K::ConnectRefused, K::ConnectTimeout, K::StaleConnection, K::UpstreamReset, K::NoHealthyBackend];
    for kind in K::all() {
        let is = is_retried(&failed(kind, Exposure::Sent), &Method::GET, &Retries::default());
        assert_eq!(is, retried.contains(&kind), "{kind:?}");
    }
    assert!(!is_retried(&answered(503, None), &Method::GET, &Retries::default()));
}

#[test]
fn what_the_user_asks_for_is_retried_too() {
    let policy = eager();
    for ended in [answered(503, None), failed(FailureKind::ResponseTimeout, Exposure::Sent)] {
        assert!(is_retried(&ended, &Method::GET, &policy), "{ended:?}");
        assert!(!is_retried(&ended, &Method::POST, &policy), "{ended:?}");
    }
    assert!(!is_retried(&answered(500, None), &Method::GET, &policy));
    assert!(!is_retried(&failed(FailureKind::Deadline, Exposure::Unsent), &Method::GET, &policy));
}

/// Linkerd's replay rule: a response that comes before the request body was read whole is not retried.
#[test]
fn trap_a_request_of_which_part_is_gone_is_not_retried() {
    for ended in [answered(503, None), failed(FailureKind::StaleConnection, Exposure::Unsent)] {
        let streamed = Ended { request: Replay::Impossible, ..ended };
        assert!(!is_retried(&streamed, &Method::PUT, &eager()), "{streamed:?}");
    }
}

#[test]
fn a_stale_connection_uses_up_no_attempt_once() {
    let off = Retries { attempts: 0, other_backend: OtherBackend::Required, ..Retries::default() };
    let stale = Ended { elsewhere: Elsewhere::Nowhere, ..failed(FailureKind::StaleConnection, Exposure::Sent) };
    assert_eq!(verdict(&stale, &Method::GET, &off, u64::MAX), Verdict::Retry { after: Duration::ZERO });
    assert!(!is_retried(&Ended { stale: 1, ..stale }, &Method::GET, &off));
}

#[test]
fn another_backend_may_be_a_condition() {
    let policy = Retries { other_backend: OtherBackend::Required, ..Retries::default() };
    let refused = failed(FailureKind::ConnectRefused, Exposure::Unsent);
    assert!(is_retried(&refused, &Method::GET, &policy));
    assert!(!is_retried(&Ended { elsewhere: Elsewhere::Nowhere, ..refused }, &Method::GET, &policy));
}

/// KEDA http-add-on #1385: its connect timeout was the base of the back-off, and half a second became 2.5.
#[test]
fn trap_a_connect_timeout_is_not_the_base_of_the_back_off() {
    let timed_out = failed(FailureKind::ConnectTimeout, Exposure::Unsent);
    assert_eq!(verdict(&timed_out, &Method::GET, &eager(), u64::MAX), Verdict::Retry { after: Duration::ZERO });
    let alone = Ended { elsewhere: Elsewhere::Nowhere, ..timed_out };
    let Verdict::Retry { after } = verdict(&alone, &Method::GET, &eager(), u64::MAX) else { panic!("retried") };
    assert!(after <= eager().backoff.base, "{after:?}");
}

#[test]
fn the_back_off_doubles_up_to_its_ceiling() {
    let alone = |retries| Ended { retries, elsewhere: Elsewhere::Nowhere, ..answered(503, None) };
    let policy = Retries { attempts: 100, ..eager() };
    for (retries, ceiling_ms) in [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (40, 250)] {
        let Verdict::Retry { after } = verdict(&alone(retries), &Method::GET, &policy, u64::MAX) else { panic!() };
        assert_eq!(after.as_millis() + 1, ceiling_ms, "{retries}");
        assert_eq!(verdict(&alone(retries), &Method::GET, &policy, 0), Verdict::Retry { after: Duration::ZERO });
    }
}

#[test]
fn retry_after_binds_to_the_backend_that_said_so() {
    let asked = answered(503, Some(2 * SECOND));
    assert_eq!(verdict(&asked, &Method::GET, &eager(), 0), Verdict::Retry { after: Duration::ZERO });
    let alone = Ended { elsewhere: Elsewhere::Nowhere, ..asked };
    assert_eq!(verdict(&alone, &Method::GET, &eager(), 0), Verdict::Retry { after: 2 * SECOND });
    let hurried = Ended { left: 2 * SECOND, ..alone };
    assert_eq!(verdict(&hurried, &Method::GET, &eager(), 0), Verdict::GiveUp);
}

fn ends() -> impl Strategy<Value = End> {
    let kinds: Vec<FailureKind> = FailureKind::all().collect();
    let retry_after = proptest::option::of((0_u64..100_000).prop_map(Duration::from_millis));
    prop_oneof![
        Just(End::Leaving),
        proptest::sample::select(kinds).prop_map(End::Failure),
        (400_u16..600, retry_after)
            .prop_map(|(status, after)| End::Answer(StatusCode::from_u16(status).unwrap(), after)),
    ]
}

prop_compose! {
    fn any_ended()(
        end in ends(),
        sent in any::<bool>(),
        whole in any::<bool>(),
        others in any::<bool>(),
        (retries, stale) in (0_u32..6, 0_u32..3),
        left_ms in 0_u64..100_000,
    ) -> Ended {
        Ended {
            end,
            exposure: if sent { Exposure::Sent } else { Exposure::Unsent },
            request: if whole { Replay::Possible } else { Replay::Impossible },
            elsewhere: if others { Elsewhere::Available } else { Elsewhere::Nowhere },
            retries,
            stale,
            left: Duration::from_millis(left_ms),
        }
    }
}

prop_compose! {
    fn any_policy()(
        attempts in 0_u32..5,
        (connection, timeout, invalid_response) in any::<(bool, bool, bool)>(),
        statuses in proptest::bool::ANY,
        required in any::<bool>(),
        (base_ms, max_ms) in (0_u64..1_000, 0_u64..5_000),
    ) -> Retries {
        let statuses = if statuses { vec![429..=429, 500..=599] } else { vec![] };
        let other_backend = if required { OtherBackend::Required } else { OtherBackend::Preferred };
        let backoff = Backoff { base: Duration::from_millis(base_ms), max: Duration::from_millis(max_ms) };
        let when = RetryWhen { connection, timeout, invalid_response, statuses };
        Retries { attempts, when, backoff, other_backend, ..Retries::default() }
    }
}

fn any_method() -> impl Strategy<Value = Method> {
    proptest::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD])
}

proptest! {
    #[test]
    fn what_may_have_been_executed_is_repeated_only_if_it_is_idempotent(
        ended in any_ended(), method in any_method(), policy in any_policy(), random in any::<u64>(),
    ) {
        if verdict(&ended, &method, &policy, random) != Verdict::GiveUp {
            prop_assert!(ended.exposure == Exposure::Unsent || method.is_idempotent());
            prop_assert_eq!(ended.request, Replay::Possible);
        }
    }

    #[test]
    fn attempts_end(ended in any_ended(), method in any_method(), policy in any_policy(), random in any::<u64>()) {
        if let Verdict::Retry { .. } = verdict(&ended, &method, &policy, random) {
            let is_first_stale = ended.end == End::Failure(FailureKind::StaleConnection) && ended.stale == 0;
            prop_assert!(ended.retries < policy.attempts || is_first_stale);
        }
    }

    #[test]
    fn a_pause_is_bounded_and_fits_before_the_deadline(
        ended in any_ended(), method in any_method(), policy in any_policy(), random in any::<u64>(),
    ) {
        if let Verdict::Retry { after } = verdict(&ended, &method, &policy, random) {
            let asked = match ended.end {
                End::Answer(_, Some(retry_after)) if ended.elsewhere == Elsewhere::Nowhere => retry_after,
                _ => Duration::ZERO,
            };
            prop_assert!(after <= policy.backoff.max.max(asked), "{after:?}");
            prop_assert!(after >= asked && after + LEFT_MIN <= ended.left);
        }
    }

    #[test]
    fn a_required_other_backend_is_never_the_same(
        ended in any_ended(), method in any_method(), policy in any_policy(), random in any::<u64>(),
    ) {
        let is_stale = ended.end == End::Failure(FailureKind::StaleConnection);
        let required = policy.other_backend == OtherBackend::Required && ended.elsewhere == Elsewhere::Nowhere;
        if required && !is_stale {
            prop_assert_eq!(verdict(&ended, &method, &policy, random), Verdict::GiveUp);
        }
    }
}
