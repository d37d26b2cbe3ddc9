//! What a service takes from `defaults` where it leaves something out.
//! Promises that what a service says of itself always wins. Checks nothing.

use crate::config::raw::{self, Switch};
use crate::config::scalar::Scalar;

/// Fills what a service leaves out from `defaults`.
///
/// `timeouts`, `queue`, `keepalive`, `buffer`, `health`, `ejection`, `retries` and `autoscale` are filled key by key: each of their
/// keys stands alone. What only makes sense as a whole (`balance`, `hedge`, `cors`, `compression`, `headers`, and inside
/// of `retries` its `budget` and `backoff`) is taken as a whole.
pub(crate) fn inherit(service: &mut raw::Service, from: &raw::Service) {
    or(&mut service.protocol, &from.protocol);
    or(&mut service.balance, &from.balance);
    inherit_health(&mut service.health, &from.health);
    or_each(&mut service.ejection, &from.ejection, ejection);
    or(&mut service.slow_start, &from.slow_start);
    or_each(&mut service.retries, &from.retries, retries);
    or(&mut service.hedge, &from.hedge);
    or(&mut service.timeout, &from.timeout);
    or(&mut service.max_in_flight, &from.max_in_flight);
    or(&mut service.max_body, &from.max_body);
    or(&mut service.cors, &from.cors);
    or(&mut service.compression, &from.compression);
    or(&mut service.headers, &from.headers);
    or(&mut service.drain, &from.drain);
    inherit_autoscale(service, from.autoscale.as_ref());
    if let Some(from) = &from.timeouts {
        let timeouts = service.timeouts.get_or_insert_default();
        or(&mut timeouts.connect, &from.connect);
        or(&mut timeouts.response, &from.response);
        or(&mut timeouts.idle, &from.idle);
    }
    if let Some(from) = &from.queue {
        let queue = service.queue.get_or_insert_default();
        or(&mut queue.size, &from.size);
        or(&mut queue.timeout, &from.timeout);
    }
    if let Some(from) = &from.keepalive {
        let keepalive = service.keepalive.get_or_insert_default();
        or(&mut keepalive.idle, &from.idle);
        or(&mut keepalive.max_age, &from.max_age);
        or(&mut keepalive.max_requests, &from.max_requests);
    }
    if let Some(from) = &from.buffer {
        let buffer = service.buffer.get_or_insert_default();
        or(&mut buffer.request, &from.request);
        or(&mut buffer.response, &from.response);
    }
}

/// Takes the whole value.
fn or<T: Clone>(field: &mut Option<T>, from: &Option<T>) {
    if field.is_none() {
        field.clone_from(from);
    }
}

/// Takes the whole value, or key by key if both are on. What was turned off stays off.
fn or_each<T: Clone>(field: &mut Option<Switch<T>>, from: &Option<Switch<T>>, each: fn(&mut T, &T)) {
    match (field, from) {
        (Some(Switch::On(on)), Some(Switch::On(from))) => each(on, from),
        (field, from) => or(field, from),
    }
}

/// `defaults` may say how to probe and leave what to ask to each service: one that asks nothing is not probed.
fn inherit_health(field: &mut Option<Switch<raw::Health>>, from: &Option<Switch<raw::Health>>) {
    let lacks_probe = matches!(from, Some(Switch::On(from)) if from.lacks_probe_at.is_some());
    if field.is_some() || !lacks_probe {
        or_each(field, from, health);
    }
}

/// A service that says what is asked takes neither of the other two questions, nor what only belongs to them.
fn health(own: &mut raw::Health, from: &raw::Health) {
    if own.lacks_probe_at.is_some() {
        own.lacks_probe_at = from.lacks_probe_at.and(own.lacks_probe_at);
        or(&mut own.path, &from.path);
        or(&mut own.tcp, &from.tcp);
        or(&mut own.grpc, &from.grpc);
    }
    if !is_true(&own.tcp) {
        or(&mut own.host, &from.host);
        or(&mut own.headers, &from.headers);
    }
    if own.path.is_some() {
        or(&mut own.expect, &from.expect);
    }
    or(&mut own.every, &from.every);
    or(&mut own.timeout, &from.timeout);
    or(&mut own.healthy_after, &from.healthy_after);
    or(&mut own.unhealthy_after, &from.unhealthy_after);
    or(&mut own.initial, &from.initial);
}

fn is_true<K>(field: &Option<Scalar<K>>) -> bool {
    field.as_ref().is_some_and(|scalar| scalar.value() == "true")
}

fn ejection(own: &mut raw::Ejection, from: &raw::Ejection) {
    or(&mut own.consecutive, &from.consecutive);
    or(&mut own.success_rate, &from.success_rate);
    or(&mut own.base, &from.base);
    or(&mut own.max, &from.max);
    or(&mut own.max_ejected, &from.max_ejected);
}

fn retries(own: &mut raw::Retries, from: &raw::Retries) {
    or(&mut own.attempts, &from.attempts);
    if own.when.is_none() {
        own.when_at = from.when_at;
    }
    or(&mut own.when, &from.when);
    or(&mut own.budget, &from.budget);
    or(&mut own.backoff, &from.backoff);
    or(&mut own.other_backend, &from.other_backend);
}

/// A service is autoscaled because of `defaults` alone if Portway can do that by itself, and nothing else was said: its
/// containers have no fixed number, and `defaults` say how many there may be at most. Others have to ask for it.
fn inherit_autoscale(service: &mut raw::Service, from: Option<&Switch<Box<raw::Autoscale>>>) {
    let Some(Switch::On(from)) = from else { return };
    let is_own = service.container.is_some() || service.swarm.is_some();
    let is_fixed = service.container.as_ref().is_some_and(|container| container.replicas.is_some());
    if service.autoscale.is_none() && is_own && !is_fixed && from.place.has_max {
        let place = raw::Place { has_max: false, ..from.place };
        service.autoscale = Some(Switch::On(Box::new(raw::Autoscale { place, ..raw::Autoscale::default() })));
    }
    let Some(Switch::On(own)) = &mut service.autoscale else { return };
    autoscale(own, from);
    // Where Portway changes the number itself, a hook of `defaults` is for the others.
    if !is_own {
        own.place.has_hook |= from.place.has_hook;
        or(&mut own.hook, &from.hook);
    }
}

/// A service that names its target does not take another one.
fn autoscale(own: &mut raw::Autoscale, from: &raw::Autoscale) {
    let has_target = own.target_in_flight.is_some() || own.target_rps.is_some() || own.target_latency.is_some();
    if !has_target {
        or(&mut own.target_in_flight, &from.target_in_flight);
        or(&mut own.target_rps, &from.target_rps);
        or(&mut own.target_latency, &from.target_latency);
    }
    own.place.has_max |= from.place.has_max;
    or(&mut own.min, &from.min);
    or(&mut own.max, &from.max);
    or(&mut own.stable, &from.stable);
    or(&mut own.panic, &from.panic);
    or(&mut own.up_at_once, &from.up_at_once);
    or(&mut own.down_at_once, &from.down_at_once);
    or(&mut own.idle, &from.idle);
    if let Some(from) = &from.hold {
        let hold = own.hold.get_or_insert_default();
        or(&mut hold.timeout, &from.timeout);
        or(&mut hold.max, &from.max);
        or(&mut hold.page, &from.page);
    }
}
