//! What differs between two policies of a service, each with what it was and what it is.
//! Promises at least one word for every policy that differs. Header values and queries of probes are not said: they may be secrets.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::below::Below;
use super::{Kind, Part};
use crate::config::checked::{
    Balance, Buffer, Ejection, HashKey, Health, Hedge, Initial, KeepAlive, OtherBackend, Probe, Queue, Retries,
    RetryWhen, Timeouts,
};
use crate::config::quantity::spell_duration;

pub(super) fn balance(old: &Balance, new: &Balance) -> Vec<Part> {
    let mut below = Below::new("balance");
    below.moved("", old, new, |balance| match balance {
        Balance::LeastRequests => "least_requests".to_owned(),
        Balance::PeakEwma => "peak_ewma".to_owned(),
        Balance::RoundRobin => "round_robin".to_owned(),
        Balance::Random => "random".to_owned(),
        Balance::Hash(HashKey::Ip) => "hash of ip".to_owned(),
        Balance::Hash(HashKey::Path) => "hash of path".to_owned(),
        Balance::Hash(HashKey::Header(name)) => format!("hash of header {name}"),
        Balance::Hash(HashKey::Cookie(name)) => format!("hash of cookie {name}"),
        Balance::Hash(HashKey::Query(name)) => format!("hash of query {name}"),
    });
    below.parts
}

pub(super) fn timeouts(old: &Timeouts, new: &Timeouts) -> Vec<Part> {
    let Timeouts { connect, response, idle } = new;
    let mut below = Below::new("timeouts");
    below.moved("connect", &old.connect, connect, time);
    below.moved("response", &old.response, response, time);
    below.moved("idle", &old.idle, idle, time);
    below.parts
}

pub(super) fn queue(old: &Queue, new: &Queue) -> Vec<Part> {
    let Queue { size, timeout } = new;
    let mut below = Below::new("queue");
    below.moved("size", &old.size, size, ToString::to_string);
    below.moved("timeout", &old.timeout, timeout, time);
    below.parts
}

pub(super) fn keepalive(old: &KeepAlive, new: &KeepAlive) -> Vec<Part> {
    let KeepAlive { idle, max_age, max_requests } = new;
    let mut below = Below::new("keepalive");
    below.moved("idle", &old.idle, idle, time);
    below.moved("max_age", &old.max_age, max_age, time);
    below.moved("max_requests", &old.max_requests, max_requests, |max| or(max.as_ref(), "unlimited"));
    below.parts
}

pub(super) fn buffer(old: &Buffer, new: &Buffer) -> Vec<Part> {
    let Buffer { request, response } = new;
    let mut below = Below::new("buffer");
    below.moved("request", &old.request, request, ToString::to_string);
    below.moved("response", &old.response, response, ToString::to_string);
    below.parts
}

pub(super) fn health(old: Option<&Health>, new: Option<&Health>) -> Vec<Part> {
    let (Some(old), Some(new)) = (old, new) else {
        return switched("health", old.map(|health| probe(&health.probe)), new.map(|health| probe(&health.probe)));
    };
    let mut below = Below::new("health");
    let Health { probe: kind, host, headers, every, timeout, healthy_after, unhealthy_after, expect, initial } = new;
    below.moved("", &old.probe, kind, probe);
    below.named("host", &old.host, host);
    below.named("headers", &old.headers, headers);
    below.moved("every", &old.every, every, time);
    below.moved("timeout", &old.timeout, timeout, time);
    below.moved("healthy_after", &old.healthy_after, healthy_after, ToString::to_string);
    below.moved("unhealthy_after", &old.unhealthy_after, unhealthy_after, ToString::to_string);
    below.moved("expect", &old.expect, expect, |ranges| statuses(ranges));
    below.moved("initial", &old.initial, initial, |initial| match initial {
        Initial::Up => "up".to_owned(),
        Initial::Down => "down".to_owned(),
    });
    below.parts
}

pub(super) fn ejection(old: Option<&Ejection>, new: Option<&Ejection>) -> Vec<Part> {
    let (Some(old), Some(new)) = (old, new) else {
        return switched("ejection", old.map(|_| String::new()), new.map(|_| String::new()));
    };
    let mut below = Below::new("ejection");
    let Ejection { consecutive, success_rate, base, max, max_ejected } = new;
    below.moved("consecutive", &old.consecutive, consecutive, |n| or(n.as_ref(), "off"));
    below.moved("success_rate", &old.success_rate, success_rate, |rate| or(rate.as_ref(), "off"));
    below.moved("base", &old.base, base, time);
    below.moved("max", &old.max, max, time);
    below.moved("max_ejected", &old.max_ejected, max_ejected, ToString::to_string);
    below.parts
}

pub(super) fn retries(old: &Retries, new: &Retries) -> Vec<Part> {
    let Retries { attempts, when, budget, backoff, other_backend } = new;
    let mut below = Below::new("retries");
    below.moved("attempts", &old.attempts, attempts, ToString::to_string);
    below.moved("when", &old.when, when, occasions);
    below.moved("budget", &old.budget.ratio, &budget.ratio, ToString::to_string);
    below.moved("budget.per_second", &old.budget.per_second, &budget.per_second, ToString::to_string);
    below.moved("backoff.base", &old.backoff.base, &backoff.base, time);
    below.moved("backoff.max", &old.backoff.max, &backoff.max, time);
    below.moved("other_backend", &old.other_backend, other_backend, |other| match other {
        OtherBackend::Preferred => "preferred".to_owned(),
        OtherBackend::Required => "required".to_owned(),
    });
    below.parts
}

pub(super) fn hedge(old: Option<Hedge>, new: Option<Hedge>) -> Vec<Part> {
    let spell = |hedge: &Option<Hedge>| match hedge {
        None => "off".to_owned(),
        Some(Hedge::AfterP95) => "p95".to_owned(),
        Some(Hedge::After(time)) => spell_duration(*time),
    };
    let mut below = Below::new("hedge");
    below.moved("", &old, &new, spell);
    below.parts
}

/// A policy that only one of the two has.
fn switched(key: &str, old: Option<String>, new: Option<String>) -> Vec<Part> {
    match (old, new) {
        (None, Some(new)) => vec![Part::of(Kind::Added, key, new)],
        (Some(old), None) => vec![Part::of(Kind::Removed, key, old)],
        _ => Vec::new(),
    }
}

fn time(time: &Duration) -> String {
    spell_duration(*time)
}

fn or(value: Option<&impl Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), ToString::to_string)
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http(path) => match path.split_once('?') {
            Some((path, _)) => format!("{path}?…"),
            None => path.clone(),
        },
        Probe::Tcp => "tcp".to_owned(),
        Probe::Grpc(service) if service.is_empty() => "grpc".to_owned(),
        Probe::Grpc(service) => format!("grpc {service}"),
    }
}

fn occasions(when: &RetryWhen) -> String {
    let RetryWhen { connection, timeout, invalid_response, statuses: answers } = when;
    let words = [(*connection, "connection"), (*timeout, "timeout"), (*invalid_response, "invalid_response")];
    let mut all: Vec<String> = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word.to_owned()).collect();
    all.extend((!answers.is_empty()).then(|| statuses(answers)));
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn statuses(ranges: &[RangeInclusive<u16>]) -> String {
    let spell = |range: &RangeInclusive<u16>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    ranges.iter().map(spell).collect::<Vec<_>>().join(", ")
}
