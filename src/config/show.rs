//! The configuration in its long form, for `config show`: what was typed, and on request what is in force where nothing was.
//! Promises YAML that reads back as the same configuration, and `${VAR}` in place of every value that came from outside.

use std::ops::RangeInclusive;

use super::checked;
use super::raw::{self, Balance, HashField, HashKey, RouteForm, Switch};
use super::scalar::Scalar;
use super::validate::inherit;
use crate::config::quantity::spell_duration;

mod containers;

/// What was typed, in its long form.
pub fn as_typed(raw: &raw::Config) -> raw::Config {
    let mut long = raw.clone();
    // The services of included files are among the services already.
    long.include = None;
    let services = long.services.iter_mut().flat_map(|services| &mut services.0).map(|named| &mut named.value);
    for service in services.chain(&mut long.defaults) {
        service.route.iter_mut().flatten().for_each(lengthen);
        containers::lengthen(service);
    }
    long
}

/// What was typed and what is in force beside it.
pub fn with_defaults(raw: &raw::Config, config: &checked::Config) -> raw::Config {
    let mut long = as_typed(raw);
    fill(&mut long, config);
    let defaults = long.defaults.take().unwrap_or_default();
    let typed = long.services.iter_mut().flat_map(|services| &mut services.0);
    for (named, checked) in typed.zip(&config.services) {
        inherit(&mut named.value, &defaults);
        fill_service(&mut named.value, checked);
    }
    long
}

/// A short route becomes a long one, unless its text is known only once its variables are replaced.
fn lengthen(form: &mut RouteForm) {
    let RouteForm::Short(text) = form else { return };
    if text.has_variables() {
        return;
    }
    let Some((host, path)) = super::validate::split_short(text.value()) else { return };
    let host = Some(text.piece(host).cast()).filter(|host| !host.value().is_empty());
    let path = Some(text.piece(path).cast());
    *form = RouteForm::Long(Box::new(raw::Route { host, path, ..raw::Route::default() }));
}

/// Puts the value in force where nothing was typed.
fn or<K>(field: &mut Option<Scalar<K>>, value: impl ToString) {
    field.get_or_insert_with(|| Scalar::made(value));
}

/// `unlimited`, or the number.
fn cap(cap: Option<std::num::NonZeroU32>) -> String {
    cap.map_or("unlimited".to_owned(), |cap| cap.to_string())
}

fn fill(long: &mut raw::Config, config: &checked::Config) {
    fill_listeners(long, config);
    or(&mut long.workers, config.workers);
    or(
        &mut long.accept,
        match config.accept {
            checked::Accept::Kernel => "kernel",
            checked::Accept::Balanced => "balanced",
        },
    );
    long.trusted_proxies.get_or_insert_default();
    let limits = long.limits.get_or_insert_default();
    or(&mut limits.connections, config.limits.connections);
    or(&mut limits.header_bytes, config.limits.header_bytes);
    or(&mut limits.header_count, config.limits.header_count);
    or(&mut limits.header_timeout, spell_duration(config.limits.header_timeout));
    or(&mut limits.keep_alive, spell_duration(config.limits.keep_alive));
    or(&mut limits.min_body_rate, config.limits.min_body_rate.map_or("off".to_owned(), |rate| rate.to_string()));
    if let Some(checked) = &config.access_log {
        fill_access_log(long.access_log.get_or_insert_with(|| Switch::On(raw::AccessLog::default())), checked);
    }
    let shutdown = long.shutdown.get_or_insert_default();
    or(&mut shutdown.delay, spell_duration(config.shutdown.delay));
    or(&mut shutdown.drain, spell_duration(config.shutdown.drain));
}

fn fill_listeners(long: &mut raw::Config, config: &checked::Config) {
    let nothing = raw::Listener { address: None, protocol: None, max_connections: None };
    let listeners = long.listen.get_or_insert_with(|| vec![nothing; config.listeners.len()]);
    for (listener, checked) in listeners.iter_mut().zip(&config.listeners) {
        or(&mut listener.address, &checked.address);
        or(&mut listener.protocol, "auto");
        or(&mut listener.max_connections, cap(checked.max_connections));
    }
    let nothing = raw::Admin { address: None, token: None };
    if let (Switch::On(admin), Some(checked)) = (long.admin.get_or_insert(Switch::On(nothing)), &config.admin) {
        or(&mut admin.address, &checked.address);
    }
}

fn fill_access_log(log: &mut Switch<raw::AccessLog>, checked: &checked::AccessLog) {
    let Switch::On(log) = log else { return };
    or(
        &mut log.format,
        match checked.format {
            checked::LogFormat::Json => "json",
            checked::LogFormat::Combined => "combined",
        },
    );
    or(&mut log.path, checked.path.as_ref().map_or("stdout".to_owned(), |path| path.display().to_string()));
    or(
        &mut log.only,
        match checked.only {
            checked::LogFilter::All => "all",
            checked::LogFilter::Errors => "errors",
        },
    );
    or(&mut log.query, checked.query == checked::QueryInLog::Written);
    or(
        &mut log.attempts,
        match checked.attempts {
            checked::AttemptsInLog::Repeated => "repeated",
            checked::AttemptsInLog::All => "all",
        },
    );
}

fn fill_service(service: &mut raw::Service, checked: &checked::Service) {
    let everything = raw::Route { path: Some(Scalar::made("/")), ..raw::Route::default() };
    let routes = service.route.get_or_insert_with(|| vec![RouteForm::Long(Box::new(everything))]);
    for (form, checked) in routes.iter_mut().zip(&checked.routes) {
        fill_route(form, checked);
    }
    for backend in service.backends.iter_mut().flatten() {
        or(&mut backend.weight, 1);
    }
    containers::fill_source(service, &checked.source);
    containers::fill_autoscale(service, checked.autoscale.as_ref());
    or(&mut service.protocol, "auto");
    service.balance.get_or_insert_with(|| balance(&checked.balance));
    fill_health(service.health.get_or_insert(Switch::Off), checked.health.as_ref());
    fill_ejection(
        service.ejection.get_or_insert_with(|| Switch::On(raw::Ejection::default())),
        checked.ejection.as_ref(),
    );
    or(&mut service.slow_start, spell_duration(checked.slow_start));
    fill_retries(service.retries.get_or_insert_with(|| Switch::On(raw::Retries::default())), &checked.retries);
    if let Switch::On(hedge) = service.hedge.get_or_insert(Switch::Off) {
        or(&mut hedge.after, "p95");
    }
    or(&mut service.timeout, spell_duration(checked.timeout));
    let timeouts = service.timeouts.get_or_insert_default();
    or(&mut timeouts.connect, spell_duration(checked.timeouts.connect));
    or(&mut timeouts.response, spell_duration(checked.timeouts.response));
    or(&mut timeouts.idle, spell_duration(checked.timeouts.idle));
    or(&mut service.max_in_flight, cap(checked.max_in_flight));
    let queue = service.queue.get_or_insert_default();
    or(&mut queue.size, checked.queue.size);
    or(&mut queue.timeout, spell_duration(checked.queue.timeout));
    let keepalive = service.keepalive.get_or_insert_default();
    or(&mut keepalive.idle, spell_duration(checked.keepalive.idle));
    or(&mut keepalive.max_age, spell_duration(checked.keepalive.max_age));
    or(&mut keepalive.max_requests, cap(checked.keepalive.max_requests));
    let buffer = service.buffer.get_or_insert_default();
    or(&mut buffer.request, checked.buffer.request);
    or(&mut buffer.response, checked.buffer.response);
    or(&mut service.max_body, checked.max_body);
    fill_filters(service, &checked.filters);
    or(&mut service.drain, spell_duration(checked.drain));
}

/// `host` stays as it was typed: that of a route may have come from a variable.
fn fill_health(health: &mut Switch<raw::Health>, checked: Option<&checked::Health>) {
    let (Switch::On(health), Some(checked)) = (health, checked) else { return };
    or(&mut health.every, spell_duration(checked.every));
    or(&mut health.timeout, spell_duration(checked.timeout));
    or(&mut health.healthy_after, checked.healthy_after);
    or(&mut health.unhealthy_after, checked.unhealthy_after);
    if let checked::Probe::Http(_) = checked.probe {
        let spell = |statuses: &RangeInclusive<u16>| format!("{}-{}", statuses.start(), statuses.end());
        health.expect.get_or_insert_with(|| checked.expect.iter().map(|range| Scalar::made(spell(range))).collect());
    }
    or(
        &mut health.initial,
        match checked.initial {
            checked::Initial::Up => "up",
            checked::Initial::Down => "down",
        },
    );
}

fn fill_ejection(ejection: &mut Switch<raw::Ejection>, checked: Option<&checked::Ejection>) {
    let (Switch::On(ejection), Some(checked)) = (ejection, checked) else { return };
    or(&mut ejection.consecutive, checked.consecutive.map_or("off".to_owned(), |count| count.to_string()));
    or(&mut ejection.success_rate, checked.success_rate.map_or("off".to_owned(), |share| share.to_string()));
    or(&mut ejection.base, spell_duration(checked.base));
    or(&mut ejection.max, spell_duration(checked.max));
    or(&mut ejection.max_ejected, checked.max_ejected);
}

fn fill_retries(retries: &mut Switch<raw::Retries>, checked: &checked::Retries) {
    let Switch::On(retries) = retries else { return };
    or(&mut retries.attempts, checked.attempts);
    retries.when.get_or_insert_with(|| vec![Scalar::made("connection")]);
    let budget = retries.budget.get_or_insert_default();
    or(&mut budget.ratio, checked.budget.ratio);
    or(&mut budget.per_second, checked.budget.per_second);
    let backoff = retries.backoff.get_or_insert_default();
    or(&mut backoff.base, spell_duration(checked.backoff.base));
    or(&mut backoff.max, spell_duration(checked.backoff.max));
    or(
        &mut retries.other_backend,
        match checked.other_backend {
            checked::OtherBackend::Preferred => "preferred",
            checked::OtherBackend::Required => "required",
        },
    );
}

fn fill_route(form: &mut RouteForm, checked: &checked::Route) {
    let RouteForm::Long(route) = form else { return };
    if route.path.is_none() && route.exact.is_none() && route.regex.is_none() {
        or(&mut route.path, "/");
    }
    if let (Some(redirect), checked::RouteAction::Redirect(checked)) = (&mut route.redirect, &checked.action) {
        or(&mut redirect.status, checked.status.as_u16());
    } else if route.redirect.is_none() {
        or(&mut route.strip_prefix, false);
    }
}

fn balance(checked: &checked::Balance) -> Balance {
    let word = match checked {
        checked::Balance::LeastRequests => "least_requests",
        checked::Balance::PeakEwma => "peak_ewma",
        checked::Balance::RoundRobin => "round_robin",
        checked::Balance::Random => "random",
        checked::Balance::Hash(key) => return Balance::Hash(hash_key(key)),
    };
    Balance::Word(Scalar::made(word))
}

fn hash_key(key: &checked::HashKey) -> HashKey {
    let mut field = HashField::default();
    match key {
        checked::HashKey::Ip => return HashKey::Word(Scalar::made("ip")),
        checked::HashKey::Path => return HashKey::Word(Scalar::made("path")),
        checked::HashKey::Header(name) => or(&mut field.header, name),
        checked::HashKey::Cookie(name) => or(&mut field.cookie, name),
        checked::HashKey::Query(name) => or(&mut field.query, name),
    }
    HashKey::Field(field)
}

fn fill_filters(service: &mut raw::Service, checked: &checked::Filters) {
    let cors = service.cors.get_or_insert(Switch::Off);
    if let (Switch::On(cors), Some(checked)) = (cors, &checked.cors) {
        cors.origins.get_or_insert_with(|| vec![Scalar::made("*")]);
        or(&mut cors.credentials, checked.credentials == checked::Credentials::Allowed);
        or(&mut cors.max_age, spell_duration(checked.max_age));
    }
    let compression = service.compression.get_or_insert(Switch::Off);
    if let (Switch::On(compression), Some(checked)) = (compression, &checked.compression) {
        or(&mut compression.min_size, checked.min_size);
    }
}
