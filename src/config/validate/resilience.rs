//! Probes, ejection, retries and hedging: in range, and of one mind with the service's timeouts.
//! Promises a warning for each setting that could never have an effect. Knows nothing of backends that are up or down.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};

use super::check::{Check, Zero, is_off};
use super::{filters, path};
use crate::config::checked::{
    Backoff, Ejection, Health, Hedge, HostMatch, Initial, OtherBackend, Probe, Retries, RetryBudget, RetryWhen, Route,
    Service, Source,
};
use crate::config::decode::nearest;
use crate::config::defaults;
use crate::config::quantity::spell_duration;
use crate::config::raw::{self, Switch, kind};
use crate::config::scalar::{Kind, Scalar};
use crate::config::source::Span;

/// Most attempts after the first: each is a backend's work for nothing, and a service has seldom more backends.
const ATTEMPTS_MAX: u32 = 10;
/// Shortest time between two probes of one backend, so that probes never become load.
const HEALTH_EVERY_MIN: Duration = Duration::from_millis(10);

/// How the backends of a service with these routes are probed.
pub(super) fn health(raw: Option<&Switch<raw::Health>>, routes: &[Route], check: &mut Check<'_>) -> Option<Health> {
    let Some(Switch::On(raw)) = raw else { return None };
    let probe = probe(raw, check);
    let every = every(&raw.every, check);
    let health = Health {
        host: host(raw, check).or_else(|| host_of(routes)).filter(|_| probe != Some(Probe::Tcp)),
        headers: headers(raw, check),
        every,
        timeout: probe_timeout(raw, every, check),
        healthy_after: check.positive(&raw.healthy_after, defaults::HEALTH_HEALTHY_AFTER),
        unhealthy_after: check.positive(&raw.unhealthy_after, defaults::HEALTH_UNHEALTHY_AFTER),
        expect: match &raw.expect {
            Some(typed) => typed.iter().filter_map(|statuses| check.statuses(statuses)).collect(),
            None => vec![defaults::HEALTH_EXPECT],
        },
        initial: check.word(&raw.initial, &[("up", Initial::Up), ("down", Initial::Down)]),
        probe: probe?,
    };
    warn_of_what_is_not_asked(raw, &health.probe, check);
    Some(health)
}

fn probe(raw: &raw::Health, check: &mut Check<'_>) -> Option<Probe> {
    let tcp = raw.tcp.as_ref().filter(|_| check.flag(&raw.tcp));
    let grpc = raw.grpc.as_ref().filter(|grpc| grpc.value() != "false");
    let mut asked: Vec<_> = [
        raw.path.as_ref().map(|path| (path.span(), "path")),
        tcp.map(|tcp| (tcp.span(), "tcp")),
        grpc.map(|grpc| (grpc.span(), "grpc")),
    ]
    .into_iter()
    .flatten()
    .collect();
    asked.sort_unstable();
    if let [(first_span, first), (second_span, second), ..] = asked[..] {
        let message = format!("a probe asks one thing: this has `{first}` and `{second}`");
        check.error(second_span, message, "again here; keep one of them").also(first_span, "first here");
        return None;
    }
    if let Some(scalar) = &raw.path {
        return path::of_probe(scalar, check).map(Probe::Http);
    }
    if tcp.is_some() {
        return Some(Probe::Tcp);
    }
    if let Some(scalar) = grpc {
        return grpc_service(scalar, check).map(Probe::Grpc);
    }
    // What was typed but could not be read was reported where it stands.
    let tcp_off = raw.tcp.as_ref().filter(|tcp| tcp.value() == "false").map(Scalar::span);
    let turned_off = tcp_off.or(raw.grpc.as_ref().map(Scalar::span));
    if let Some(span) = raw.lacks_probe_at.or(turned_off) {
        check.error(span, "this does not say what to ask", "add `path: /healthz`, `tcp: true` or `grpc: true`");
    }
    None
}

/// The name of a protobuf service, `package.Service`; none for `true`.
fn grpc_service(scalar: &Scalar<kind::Grpc>, check: &mut Check<'_>) -> Option<String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    match scalar.value() {
        "true" => Some(String::new()),
        name if !name.is_empty() && name.chars().all(is_name_char) => Some(name.to_owned()),
        _ => {
            let message = format!("\"{}\" is not the name of a gRPC service", scalar.shown());
            check.error(scalar.span(), message, "write one such as shop.v1.Orders, or true for the server as a whole");
            None
        }
    }
}

fn every(field: &Option<Scalar<kind::Duration>>, check: &mut Check<'_>) -> Duration {
    let every = check.duration(field, defaults::HEALTH_EVERY, Zero::Rejected);
    if let (Some(scalar), true) = (field, every < HEALTH_EVERY_MIN) {
        let message = format!("\"{}\" is less than {}", scalar.shown(), spell_duration(HEALTH_EVERY_MIN));
        check.error(scalar.span(), message, "probes so close together are load; most services take 1s to 10s");
    }
    every
}

/// Probes of one backend never overlap, so one that is not over by the next has failed.
fn probe_timeout(raw: &raw::Health, every: Duration, check: &mut Check<'_>) -> Duration {
    let default = defaults::HEALTH_TIMEOUT.min(every);
    let timeout = check.duration(&raw.timeout, default, Zero::Rejected);
    if let (Some(scalar), true) = (&raw.timeout, timeout > every) {
        let message = format!("this probe may take longer than the {} to the next one", spell_duration(every));
        let at = raw.every.as_ref().map_or(Span::NONE, Scalar::span);
        check.error(scalar.span(), message, "make `timeout` at most `every`").also(at, "`every` is this");
    }
    timeout
}

fn host(raw: &raw::Health, check: &mut Check<'_>) -> Option<HeaderValue> {
    let scalar = raw.host.as_ref()?;
    if !path::is_host_header(scalar.value()) {
        let message = format!("\"{}\" is not a host", scalar.shown());
        check.error(scalar.span(), message, "write one such as shop.example.com or shop.example.com:8080");
        return None;
    }
    check.header_value(scalar)
}

/// The host of the first route that names one: what the application expects, as Django's `ALLOWED_HOSTS` does.
fn host_of(routes: &[Route]) -> Option<HeaderValue> {
    routes.iter().find_map(|route| match &route.matcher.host {
        HostMatch::Exact(host) => HeaderValue::from_str(host).ok(),
        HostMatch::Any | HostMatch::Wildcard(_) => None,
    })
}

fn headers(raw: &raw::Health, check: &mut Check<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for named in raw.headers.iter().flat_map(|headers| &headers.0) {
        let name = filters::editable(&named.name, &named.name, named.span, check);
        if name == Some(header::HOST) {
            check.error(named.span, "the host of a probe has a key of its own", "write `host:` beside `headers:`");
        }
        let value = check.header_value(&named.value);
        headers.extend(name.zip(value));
    }
    headers
}

fn warn_of_what_is_not_asked(raw: &raw::Health, probe: &Probe, check: &mut Check<'_>) {
    let host = raw.host.as_ref().map(|host| (host.span(), "host"));
    let headers = raw.headers.as_ref().and_then(|headers| headers.0.first()).map(|named| (named.span, "headers"));
    let expect = raw.expect.as_ref().and_then(|expect| expect.first()).map(|statuses| (statuses.span(), "expect"));
    let (noun, unused) = match probe {
        Probe::Http(_) => return,
        Probe::Tcp => ("a TCP probe", [host, headers, expect]),
        Probe::Grpc(_) => ("a gRPC probe", [None, None, expect]),
    };
    for (span, key) in unused.into_iter().flatten() {
        let message = format!("{noun} has no use for `{key}`");
        check.report.warning(span, message, "remove it, or ask for a `path`");
    }
}

/// When a backend is taken out for what it answers; `None` is never.
pub(super) fn ejection(raw: Option<&Switch<raw::Ejection>>, check: &mut Check<'_>) -> Option<Ejection> {
    let raw = match raw {
        None => return Some(Ejection::default()),
        Some(Switch::Off) => return None,
        Some(Switch::On(raw)) => raw,
    };
    let base = check.duration(&raw.base, defaults::EJECTION_BASE, Zero::Rejected);
    let max = check.duration(&raw.max, defaults::EJECTION_MAX, Zero::Rejected);
    reject_crossed(Bound { typed: &raw.base, value: base }, Bound { typed: &raw.max, value: max }, check);
    let ejection = Ejection {
        consecutive: consecutive(&raw.consecutive, check),
        success_rate: match is_off(&raw.success_rate) {
            true => None,
            false => Some(check.percent(&raw.success_rate, defaults::EJECTION_SUCCESS_RATE, Zero::Rejected)),
        },
        base,
        max,
        max_ejected: check.percent(&raw.max_ejected, defaults::EJECTION_MAX_EJECTED, Zero::Rejected),
    };
    if let (Some(scalar), true, None) = (&raw.consecutive, is_off(&raw.consecutive), ejection.success_rate) {
        let message = "nothing takes a backend out: neither `consecutive` nor `success_rate` is set";
        check.report.warning(scalar.span(), message, "set one of them, or write `ejection: off`");
    }
    Some(ejection)
}

fn consecutive(field: &Option<Scalar<kind::CountOrOff>>, check: &mut Check<'_>) -> Option<NonZeroU32> {
    match field {
        Some(_) if is_off(field) => None,
        Some(scalar) if scalar.value() == "0" => {
            check.error(scalar.span(), "no failure at all is no reason", "write `off` to count none, or at least 1");
            None
        }
        field => NonZeroU32::new(check.count(field, defaults::EJECTION_CONSECUTIVE, 1..=u32::MAX)),
    }
}

/// One of two durations of which the first must not be longer.
struct Bound<'r> {
    typed: &'r Option<Scalar<kind::Duration>>,
    value: Duration,
}

fn reject_crossed(base: Bound<'_>, max: Bound<'_>, check: &mut Check<'_>) {
    if base.value <= max.value {
        return;
    }
    match (base.typed, max.typed) {
        (base_typed, Some(scalar)) => {
            let message = format!("`max` is shorter than `base`, which is {}", spell_duration(base.value));
            let at = base_typed.as_ref().map_or(Span::NONE, Scalar::span);
            check.error(scalar.span(), message, "make it at least as long").also(at, "`base` is this");
        }
        (Some(scalar), None) => {
            let message = format!("`base` is longer than `max`, which is {}", spell_duration(max.value));
            check.error(scalar.span(), message, "write a longer `max` beside it");
        }
        (None, None) => debug_assert!(false, "the defaults are in order"),
    }
}

/// What follows a failed attempt.
pub(super) fn retries(raw: Option<&Switch<raw::Retries>>, check: &mut Check<'_>) -> Retries {
    let raw = match raw {
        None => return Retries::default(),
        Some(Switch::Off) => return Retries { attempts: 0, ..Retries::default() },
        Some(Switch::On(raw)) => raw,
    };
    let attempts = check.count(&raw.attempts, defaults::RETRY_ATTEMPTS, 0..=ATTEMPTS_MAX);
    let words = [("preferred", OtherBackend::Preferred), ("required", OtherBackend::Required)];
    let retries = Retries {
        attempts,
        when: when(raw, check),
        budget: budget(raw.budget.as_ref(), check),
        backoff: backoff(raw.backoff.as_ref(), check),
        other_backend: check.word(&raw.other_backend, &words),
    };
    if let (Some([]), Some(span), true) = (raw.when.as_deref(), raw.when_at, attempts > 0) {
        let message = "no request is ever retried: this names no outcome";
        check.report.warning(span, message, "leave it out for failed connections, or write `retries: off`");
    }
    retries
}

/// What other tools call the outcomes.
const OUTCOME_SYNONYMS: [(&str, &str); 9] = [
    ("connect", "connection"),
    ("connect-failure", "connection"),
    ("conn-failure", "connection"),
    ("error", "connection"),
    ("reset", "connection"),
    ("response-timeout", "timeout"),
    ("junk-response", "invalid_response"),
    ("invalid_header", "invalid_response"),
    ("gateway-error", "502-504"),
];

fn when(raw: &raw::Retries, check: &mut Check<'_>) -> RetryWhen {
    let Some(typed) = &raw.when else { return RetryWhen::default() };
    let mut when = RetryWhen { connection: false, timeout: false, invalid_response: false, statuses: Vec::new() };
    for scalar in typed {
        match scalar.value() {
            "connection" => when.connection = true,
            "timeout" => when.timeout = true,
            "invalid_response" => when.invalid_response = true,
            text if text.starts_with(|c: char| c.is_ascii_digit()) => when.statuses.extend(failures(scalar, check)),
            word => {
                let synonym = OUTCOME_SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours);
                let help = match synonym.or_else(|| nearest(word, kind::Outcome::WORDS.iter().copied())) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write {}", kind::Outcome::EXPECTED),
                };
                check.error(scalar.span(), format!("\"{}\" is not one of the words here", scalar.shown()), help);
            }
        }
    }
    when
}

/// Statuses of answers that are failures.
fn failures(scalar: &Scalar<kind::Outcome>, check: &mut Check<'_>) -> Option<RangeInclusive<u16>> {
    let statuses = check.statuses(scalar)?;
    if *statuses.start() < 400 {
        let message = format!("\"{}\" holds statuses below 400, and a success is not retried", scalar.shown());
        check.error(scalar.span(), message, "write failures, such as 503, 5xx or 502-504");
        return None;
    }
    Some(statuses)
}

fn budget(raw: Option<&raw::RetryBudget>, check: &mut Check<'_>) -> RetryBudget {
    let none = raw::RetryBudget::default();
    let raw = raw.unwrap_or(&none);
    let budget = RetryBudget {
        ratio: check.percent(&raw.ratio, defaults::RETRY_BUDGET, Zero::Allowed),
        per_second: check.count(&raw.per_second, defaults::RETRY_BUDGET_PER_SECOND, 0..=u32::MAX),
    };
    if let (Some(ratio), Some(_), 0, 0) = (&raw.ratio, &raw.per_second, budget.ratio.get(), budget.per_second) {
        check.report.warning(ratio.span(), "this budget allows no retry at all", "write `retries: off`");
    }
    budget
}

fn backoff(raw: Option<&raw::Backoff>, check: &mut Check<'_>) -> Backoff {
    let none = raw::Backoff::default();
    let raw = raw.unwrap_or(&none);
    let base = check.duration(&raw.base, defaults::RETRY_BACKOFF, Zero::Allowed);
    let max = check.duration(&raw.max, base.saturating_mul(defaults::RETRY_BACKOFF_MAX_PER_BASE), Zero::Allowed);
    reject_crossed(Bound { typed: &raw.base, value: base }, Bound { typed: &raw.max, value: max }, check);
    Backoff { base, max }
}

/// When a second attempt starts; `None` is never.
pub(super) fn hedge(raw: Option<&Switch<raw::Hedge>>, check: &mut Check<'_>) -> Option<Hedge> {
    let Some(Switch::On(raw)) = raw else { return None };
    let Some(scalar) = &raw.after else { return Some(Hedge::AfterP95) };
    match scalar.value() {
        "p95" => return Some(Hedge::AfterP95),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => {
            let after = check.duration(&Some(scalar.clone().cast()), Duration::MAX, Zero::Allowed);
            if !after.is_zero() {
                return Some(Hedge::After(after));
            }
            let message = format!("\"{}\" would send every request twice at once", scalar.shown());
            check.error(scalar.span(), message, "write p95, or a duration such as 100ms");
        }
        _ => {
            let message = format!("\"{}\" is neither p95 nor a duration", scalar.shown());
            check.error(scalar.span(), message, "write p95, or a duration such as 100ms");
        }
    }
    None
}

/// Warns of settings of which another one makes sure that they never have an effect.
pub(super) fn warn_of_what_never_happens(
    retries: Option<&Switch<raw::Retries>>,
    hedge: Option<&Switch<raw::Hedge>>,
    service: &Service,
    check: &mut Check<'_>,
) {
    let retries = match retries {
        Some(Switch::On(retries)) => Some(retries),
        Some(Switch::Off) | None => None,
    };
    if let Some(Switch::On(raw::Hedge { at: Some(at), .. })) = hedge {
        let attempts = retries.and_then(|retries| retries.attempts.as_ref()).map_or(Span::NONE, Scalar::span);
        warn_of_hedge(*at, attempts, service, check);
    }
    let Some(retries) = retries.filter(|_| service.retries.attempts > 0) else { return };
    let timeout = retries.when.iter().flatten().find(|outcome| outcome.value() == "timeout");
    if let (Some(timeout), true) = (timeout, service.timeouts.response >= service.timeout) {
        let message = "no time is left for a retry after a timeout: the first attempt may take all of it";
        check.report.warning(timeout.span(), message, "make `timeouts.response` shorter than `timeout`");
    }
    if let (Some(scalar), OtherBackend::Required, true) =
        (&retries.other_backend, service.retries.other_backend, is_alone(service))
    {
        let message = "no request is ever retried: this service has one backend";
        check.report.warning(scalar.span(), message, "write `preferred`, or add a backend");
    }
}

fn warn_of_hedge(at: Span, attempts: Span, service: &Service, check: &mut Check<'_>) {
    if service.hedge.is_some() && service.retries.attempts == 0 {
        let message = "this hedge never happens: a second attempt is paid from the budget of retries, which are off";
        check
            .report
            .warning(at, message, "turn retries on, or write `hedge: off`")
            .also(attempts, "retries are off here");
        return;
    }
    let Some(Hedge::After(after)) = service.hedge else { return };
    let (key, limit) = [("timeouts.response", service.timeouts.response), ("timeout", service.timeout)]
        .into_iter()
        .min_by_key(|(_, limit)| *limit)
        .expect("the array has two entries");
    if after >= limit {
        let message = format!("this hedge never happens: by then `{key}` ({}) is over", spell_duration(limit));
        check.report.warning(at, message, format!("make it shorter than `{key}`"));
    }
}

/// Whether there can never be more than one backend. A name may have any number of addresses.
fn is_alone(service: &Service) -> bool {
    match &service.source {
        Source::Backends(backends) => {
            matches!(&backends[..], [only] if only.address.host.parse::<IpAddr>().is_ok())
        }
        Source::Container(container) => service.autoscale.is_none() && container.replicas <= 1,
        Source::Docker(_) | Source::Swarm(_) => false,
    }
}
