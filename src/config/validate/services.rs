//! Services: what each inherits, where its backends are, which routes lead to it.
//! Promises that no two routes take the same requests. Knows nothing of backends that are up or down.

use std::collections::HashMap;

use super::check::{Check, Zero};
use super::inherit::inherit;
use super::{autoscale, backends, containers, filters, listeners, resilience, routes};
use crate::config::checked::{
    Autoscale, BackendAddress, Balance, Buffer, Endpoint, HashKey, KeepAlive, Queue, Route, Service, Source, Timeouts,
};
use crate::config::decode::Name;
use crate::config::defaults;
use crate::config::raw;
use crate::config::source::Span;
use crate::units::ServiceName;

/// Every service, in the order of the files.
pub(crate) fn services(raw: &raw::Config, check: &mut Check<'_>) -> Vec<Service> {
    let named = raw.services.as_ref().map(|named| named.0.as_slice()).unwrap_or_default();
    if named.is_empty() && !check.report.has_errors() {
        let help = "add, for example, services: { web: { backends: [\"127.0.0.1:5000\"] } }";
        check.error(Span::NONE, "there are no services", help);
    }
    let defaults = raw.defaults.clone().unwrap_or_default();
    reject_in_defaults(&defaults, check);
    let mut seen = Seen::default();
    named.iter().filter_map(|named| service(named, &defaults, &mut seen, check)).collect()
}

fn reject_in_defaults(defaults: &raw::Service, check: &mut Check<'_>) {
    let backends = defaults.backends.as_ref().and_then(|backends| backends.first()?.address.as_ref()).map(|a| a.span());
    let route = defaults.route.as_ref().and_then(|route| match route.first()? {
        raw::RouteForm::Short(scalar) => Some(scalar.span()),
        raw::RouteForm::Long(route) | raw::RouteForm::Broken(route) => route.path.as_ref().map(|path| path.span()),
    });
    let docker = defaults.docker.as_ref().and_then(|docker| docker.at);
    let container = defaults.container.as_ref().and_then(|container| container.at);
    let swarm = defaults.swarm.as_ref().and_then(|swarm| swarm.at);
    for (key, is_there, span) in [
        ("route", defaults.route.is_some(), route),
        ("backends", defaults.backends.is_some(), backends),
        ("docker", docker.is_some(), docker),
        ("container", container.is_some(), container),
        ("swarm", swarm.is_some(), swarm),
    ] {
        if is_there {
            let message = format!("`{key}` cannot stand in `defaults`: no two services share one");
            check.error(span.unwrap_or(Span::NONE), message, "write it in each service");
        }
    }
}

/// What no two services may have.
#[derive(Default)]
struct Seen {
    routes: SeenRoutes,
    swarms: SeenSwarms,
}

/// Where each Swarm service that is scaled stood first, by its manager and its name.
#[derive(Default)]
struct SeenSwarms(HashMap<(Endpoint, String), (String, Span)>);

impl SeenSwarms {
    fn add(&mut self, named: &Name<raw::Service>, service: &Service, check: &mut Check<'_>) {
        let (Source::Swarm(swarm), Some(_)) = (&service.source, &service.autoscale) else { return };
        let typed = named.value.swarm.as_ref().and_then(|swarm| swarm.service.as_ref());
        let at = typed.map_or(Span::NONE, |name| name.span());
        let key = (swarm.endpoint.clone(), swarm.service.clone());
        let Some((first_name, first)) = self.0.get(&key) else {
            self.0.insert(key, (named.name.clone(), at));
            return;
        };
        let message = format!(
            "two write the number of replicas of the Swarm service {}: `{first_name}` and `{}`",
            swarm.service, named.name
        );
        check.error(at, message, "again here; write `autoscale: off` in one of them").also(*first, "first here");
    }
}

/// A route and where it stands.
struct Placed {
    route: Route,
    at: Span,
    /// As messages may show it: `None` if that would show what a variable holds.
    shown: Option<String>,
    /// Nobody typed it: a service without `route` takes everything.
    is_default: bool,
}

impl Placed {
    fn typed(form: &raw::RouteForm, service: Span, check: &mut Check<'_>) -> Option<Self> {
        let (route, at) = routes::route(form, service, check)?;
        let shown = match form {
            raw::RouteForm::Short(scalar) if scalar.has_variables() => Some(scalar.shown().to_owned()),
            raw::RouteForm::Long(long) | raw::RouteForm::Broken(long) if long.has_variables() => None,
            _ => Some(route.display.clone()),
        };
        Some(Self { route, at, shown, is_default: false })
    }

    fn catch_all(service: Span) -> Self {
        let (route, at) = routes::catch_all(service);
        Self { shown: Some(route.display.clone()), route, at, is_default: true }
    }
}

/// Where each set of conditions stood first.
#[derive(Default)]
struct SeenRoutes(HashMap<String, (String, Span)>);

impl SeenRoutes {
    fn add(&mut self, service: &str, placed: &Placed, check: &mut Check<'_>) {
        let fingerprint = routes::fingerprint(&placed.route.matcher);
        let Some((first_service, first)) = self.0.get(&fingerprint) else {
            self.0.insert(fingerprint, (service.to_owned(), placed.at));
            return;
        };
        let taken = placed.shown.as_deref().map(|shown| format!("take {shown}"));
        let message = match (first_service == service, taken) {
            (true, Some(taken)) => format!("two routes of `{service}` are the same: both {taken}"),
            (true, None) => format!("two routes of `{service}` are the same"),
            (false, Some(taken)) => format!("two routes are the same: `{first_service}` and `{service}` both {taken}"),
            (false, None) => format!("two routes are the same: one of `{first_service}` and one of `{service}`"),
        };
        let help = match placed.is_default {
            true => "again here; give one of them a `route:`, such as /api",
            false => "again here; add `headers:` or `methods:` to tell them apart",
        };
        check.error(placed.at, message, help).also(*first, "first here");
    }
}

fn service(
    named: &Name<raw::Service>,
    defaults: &raw::Service,
    seen: &mut Seen,
    check: &mut Check<'_>,
) -> Option<Service> {
    let name = ServiceName::new(&named.name);
    if name.is_none() {
        let message = format!("`{}` is not the name of a service", named.name);
        let help =
            format!("use at most {} letters, digits, - _ and ., a letter or digit first", ServiceName::CHARS_MAX);
        check.error(named.span, message, help);
    }
    let mut raw = named.value.clone();
    inherit(&mut raw, defaults);
    let routes = routes_of(named, &raw, &mut seen.routes, check);
    let source = source(named, &raw, check);
    let autoscale = autoscale(named, &raw, check);
    listeners::protocol(&raw.protocol, check);
    let service = Service {
        name: name?,
        health: resilience::health(raw.health.as_ref(), &routes, check),
        routes,
        source,
        autoscale,
        balance: balance(raw.balance.as_ref(), check),
        timeout: check.duration(&raw.timeout, defaults::TIMEOUT, Zero::Rejected),
        timeouts: timeouts(raw.timeouts.unwrap_or_default(), check),
        max_in_flight: check.cap(&raw.max_in_flight),
        queue: queue(raw.queue.unwrap_or_default(), check),
        keepalive: keepalive(raw.keepalive.unwrap_or_default(), check),
        buffer: buffer(raw.buffer.unwrap_or_default(), check),
        max_body: check.size(&raw.max_body, defaults::MAX_BODY, Zero::Rejected),
        filters: filters::filters(raw.cors.as_ref(), raw.compression.as_ref(), raw.headers.as_ref(), check),
        ejection: resilience::ejection(raw.ejection.as_ref(), check),
        slow_start: check.duration(&raw.slow_start, defaults::SLOW_START, Zero::Allowed),
        retries: resilience::retries(raw.retries.as_ref(), check),
        hedge: resilience::hedge(raw.hedge.as_ref(), check),
        drain: check.duration(&raw.drain, defaults::DRAIN, Zero::Allowed),
    };
    seen.swarms.add(named, &service, check);
    warn_of_unused_queue(&named.value, &service, check);
    resilience::warn_of_what_never_happens(raw.retries.as_ref(), raw.hedge.as_ref(), &service, check);
    Some(service)
}

fn routes_of(
    named: &Name<raw::Service>,
    raw: &raw::Service,
    seen: &mut SeenRoutes,
    check: &mut Check<'_>,
) -> Vec<Route> {
    let placed = match raw.route.as_deref() {
        None => vec![Placed::catch_all(named.span)],
        Some(forms) => {
            if forms.is_empty() {
                let message = format!("service `{}` has an empty list of routes", named.name);
                check.error(named.span, message, "leave `route` out to take everything");
            }
            forms.iter().filter_map(|form| Placed::typed(form, named.span, check)).collect()
        }
    };
    for placed in &placed {
        seen.add(&named.name, placed, check);
    }
    placed.into_iter().map(|placed| placed.route).collect()
}

/// Where the backends come from. What cannot be told was reported, and is no backends.
fn source(named: &Name<raw::Service>, raw: &raw::Service, check: &mut Check<'_>) -> Source {
    warn_of_unused_source(named, raw, check);
    let found = match (&raw.docker, &raw.container, &raw.swarm) {
        (Some(docker), ..) => containers::docker(docker, check).map(Source::Docker),
        (_, Some(container), _) => containers::container(container, check).map(Box::new).map(Source::Container),
        (.., Some(swarm)) => containers::swarm(swarm, check).map(Source::Swarm),
        (None, None, None) => return Source::Backends(declared(named, raw, check)),
    };
    found.unwrap_or_else(|| Source::Backends(Vec::new()))
}

fn declared(named: &Name<raw::Service>, raw: &raw::Service, check: &mut Check<'_>) -> Vec<BackendAddress> {
    let typed = raw.backends.as_deref().unwrap_or_default();
    if typed.is_empty() && !may_only_redirect(raw) {
        let message = format!("service `{}` has no backends", named.name);
        check.error(named.span, message, "add, for example, backends: [\"127.0.0.1:5000\"]");
    }
    backends::backends(typed, check)
}

/// Whether no request of it ever goes to a backend.
fn only_redirects(raw: &raw::Service) -> bool {
    let routes = raw.route.as_deref().unwrap_or_default();
    !routes.is_empty() && routes.iter().all(is_redirect)
}

/// The same, where a route with a mistake in it has the benefit of the doubt: it may be its redirect that is mistyped.
fn may_only_redirect(raw: &raw::Service) -> bool {
    let routes = raw.route.as_deref().unwrap_or_default();
    !routes.is_empty() && routes.iter().all(|form| is_redirect(form) || matches!(form, raw::RouteForm::Broken(_)))
}

fn is_redirect(form: &raw::RouteForm) -> bool {
    matches!(form, raw::RouteForm::Long(route) if route.redirect.is_some())
}

fn warn_of_unused_source(named: &Name<raw::Service>, raw: &raw::Service, check: &mut Check<'_>) {
    if !only_redirects(raw) {
        return;
    }
    let backends = raw.backends.as_ref().and_then(|typed| typed.first()?.address.as_ref()).map(|a| a.span());
    let found = raw.docker.as_ref().and_then(|docker| docker.at);
    let run = raw.container.as_ref().and_then(|container| container.at);
    let tasks = raw.swarm.as_ref().and_then(|swarm| swarm.at);
    for (noun, at) in [("backends", backends), ("containers", found), ("containers", run), ("tasks", tasks)] {
        if let Some(at) = at {
            let message = format!("the {noun} of `{}` are never used: each of its routes is a redirect", named.name);
            check.report.warning(at, message, "remove them");
        }
    }
}

fn autoscale(named: &Name<raw::Service>, raw: &raw::Service, check: &mut Check<'_>) -> Option<Autoscale> {
    let found = [raw.docker.is_some(), raw.container.is_some(), raw.swarm.is_some()];
    let has_source = raw.backends.is_some() || found.contains(&true);
    if let (Some(raw::Switch::On(typed)), true, false) = (&raw.autoscale, only_redirects(raw), has_source) {
        let message = format!("there is nothing to scale in `{}`: each of its routes is a redirect", named.name);
        check.report.warning(typed.place.at.unwrap_or(Span::NONE), message, "remove it");
        return None;
    }
    autoscale::autoscale(&autoscale::Around { name: &named.name, raw }, check)
}

/// Silent about a queue of the default size: that changes nothing, and `config show --defaults` writes it.
fn warn_of_unused_queue(typed: &raw::Service, service: &Service, check: &mut Check<'_>) {
    let size = typed.queue.as_ref().and_then(|queue| queue.size.as_ref());
    let is_larger = service.queue.size > defaults::QUEUE_SIZE;
    if let (Some(size), true, None) = (size, is_larger, service.max_in_flight) {
        let message = "this queue is never used: without `max_in_flight`, no request waits";
        check.report.warning(size.span(), message, "set `max_in_flight`, or remove `queue`");
    }
}

fn balance(raw: Option<&raw::Balance>, check: &mut Check<'_>) -> Balance {
    const ALGORITHMS: [(&str, Balance); 4] = [
        ("least_requests", Balance::LeastRequests),
        ("peak_ewma", Balance::PeakEwma),
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
    ];
    match raw {
        None => Balance::LeastRequests,
        Some(raw::Balance::Word(word)) => check.word(&Some(word.clone()), &ALGORITHMS),
        Some(raw::Balance::Hash(raw::HashKey::Word(word))) => {
            Balance::Hash(check.word(&Some(word.clone()), &[("ip", HashKey::Ip), ("path", HashKey::Path)]))
        }
        Some(raw::Balance::Hash(raw::HashKey::Field(field))) => {
            let cookie = field.cookie.as_ref().map(|cookie| HashKey::Cookie(cookie.value().to_owned()));
            let query = field.query.as_ref().map(|query| HashKey::Query(query.value().to_owned()));
            let header = field.header.as_ref().and_then(|header| {
                check.header_name(header.value(), header.shown(), header.span()).map(HashKey::Header)
            });
            Balance::Hash(header.or(cookie).or(query).unwrap_or(HashKey::Ip))
        }
    }
}

fn timeouts(raw: raw::Timeouts, check: &mut Check<'_>) -> Timeouts {
    Timeouts {
        connect: check.duration(&raw.connect, defaults::TIMEOUT_CONNECT, Zero::Rejected),
        response: check.duration(&raw.response, defaults::TIMEOUT_RESPONSE, Zero::Rejected),
        idle: check.duration(&raw.idle, defaults::TIMEOUT_IDLE, Zero::Rejected),
    }
}

fn queue(raw: raw::Queue, check: &mut Check<'_>) -> Queue {
    Queue {
        size: check.count(&raw.size, defaults::QUEUE_SIZE, 0..=u32::MAX),
        timeout: check.duration(&raw.timeout, defaults::QUEUE_TIMEOUT, Zero::Rejected),
    }
}

fn keepalive(raw: raw::KeepAlive, check: &mut Check<'_>) -> KeepAlive {
    KeepAlive {
        idle: check.duration(&raw.idle, defaults::KEEPALIVE_IDLE, Zero::Allowed),
        max_age: check.duration(&raw.max_age, defaults::KEEPALIVE_MAX_AGE, Zero::Rejected),
        max_requests: check.cap(&raw.max_requests),
    }
}

fn buffer(raw: raw::Buffer, check: &mut Check<'_>) -> Buffer {
    Buffer {
        request: check.size(&raw.request, defaults::BUFFER_REQUEST, Zero::Allowed),
        response: check.size(&raw.response, defaults::BUFFER_RESPONSE, Zero::Allowed),
    }
}
