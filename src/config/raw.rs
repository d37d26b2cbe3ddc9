//! Exactly what was typed: one struct per mapping of the language, long form only, no logic.
//! The doc comments become the JSON Schema and state unit and default. `validate` says what is allowed.

use schemars::JsonSchema;
use serde::Serialize;

use super::decode::Named;
use super::scalar::Scalar;

mod autoscale;
mod containers;
mod forms;
/// The kinds of scalars, by what they should look like.
pub mod kind;
mod reading;
mod resilience;

pub use autoscale::{Autoscale, Hold, Hook, Place};
pub use containers::{Command, Container, Docker, Swarm};
pub use reading::{LATER_LISTENER_KEYS, LATER_SERVICE_KEYS};
pub use resilience::{Backoff, Ejection, Health, Hedge, Retries, RetryBudget};

/// A Portway configuration file.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portway configuration")]
pub struct Config {
    /// Where clients connect: an address, an object, or a list of them. Default `:8080`.
    #[schemars(schema_with = "super::schema::one_or_many::<Listener>")]
    pub listen: Option<Vec<Listener>>,
    /// Where the admin API listens: health, metrics, status. Default `127.0.0.1:9900`; `off` turns it off.
    pub admin: Option<Switch<Admin>>,
    /// Data-plane threads. Default `auto`: one per core.
    pub workers: Option<Scalar<kind::Workers>>,
    /// How new connections find a worker: `kernel` spreads them, `balanced` gives each to the least busy. Default `kernel`.
    pub accept: Option<Scalar<kind::Accept>>,
    /// Addresses or networks whose forwarding headers are believed; a unix socket counts as 127.0.0.1. Default: none.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Network>>")]
    pub trusted_proxies: Option<Vec<Scalar<kind::Network>>>,
    /// Limits of the client side, for the whole process.
    pub limits: Option<Limits>,
    /// One line per request: `json`, `combined`, an object, or `off`. Default `json` to standard output.
    pub access_log: Option<Switch<AccessLog>>,
    /// What SIGTERM does.
    pub shutdown: Option<Shutdown>,
    /// More files with services, as paths relative to this file; `*` and `?` stand for any characters of a name.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Text>>")]
    pub include: Option<Vec<Scalar<kind::Text>>>,
    /// Any key of a service; what a service leaves out it takes from here.
    pub defaults: Option<Service>,
    /// What stands behind the listeners, by name.
    pub services: Option<Named<Service>>,
}

/// A file that `include` names: services and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Included {
    /// What it adds to the services of the including file.
    pub services: Option<Named<Service>>,
}

/// Something that can be turned off.
#[derive(Clone, Debug)]
pub enum Switch<T> {
    /// `off` or `false`.
    Off,
    /// What it is when it is on.
    On(T),
}

/// A bound address.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_text)]
pub struct Listener {
    /// `host:port`, `:port` for every address, `unix:PATH`, or `fd://N` for a socket that systemd handed over.
    pub address: Option<Scalar<kind::Address>>,
    /// What clients speak: `http1` or `auto`. Default `auto`.
    pub protocol: Option<Scalar<kind::Protocol>>,
    /// Most open connections of this listener. Default `unlimited`: only `limits.connections` holds.
    pub max_connections: Option<Scalar<kind::Cap>>,
}

/// The admin listener.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_text)]
pub struct Admin {
    /// `host:port` or `unix:PATH`. Default `127.0.0.1:9900`.
    pub address: Option<Scalar<kind::Address>>,
    /// Bearer token that every request must carry; required beyond loopback. Best as `${PORTWAY_ADMIN_TOKEN}`.
    pub token: Option<Scalar<kind::Text>>,
}

/// Limits of the client side.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open client connections of the process. Default 100000.
    pub connections: Option<Scalar<kind::Count>>,
    /// Request line and headers together, in bytes. Default 32KiB.
    pub header_bytes: Option<Scalar<kind::Size>>,
    /// Header fields of one request. Default 100.
    pub header_count: Option<Scalar<kind::Count>>,
    /// From the first byte of a request to the end of its headers. Default 10s.
    pub header_timeout: Option<Scalar<kind::Duration>>,
    /// How long an idle client connection is kept for its next request. Default 75s.
    pub keep_alive: Option<Scalar<kind::Duration>>,
    /// Slowest tolerated body, in bytes per second. Default 240B; `off` turns it off.
    pub min_body_rate: Option<Scalar<kind::SizeOrOff>>,
}

/// The access log.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_log_format)]
pub struct AccessLog {
    /// `json`, or `combined` as nginx and Apache write it. Default `json`.
    pub format: Option<Scalar<kind::LogFormat>>,
    /// A file, or `stdout`. Default `stdout`.
    pub path: Option<Scalar<kind::Text>>,
    /// `all`, or `errors` for statuses of 400 and above and for everything that carries a reason word. Default `all`.
    pub only: Option<Scalar<kind::LogFilter>>,
    /// Whether query strings are written; they often carry secrets. Default `false`.
    pub query: Option<Scalar<kind::Flag>>,
    /// Of which requests the attempts are listed: `repeated` for those with more than one, or `all`. Default `repeated`.
    pub attempts: Option<Scalar<kind::AttemptsInLog>>,
}

/// What SIGTERM does.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// `/readyz` fails for so long before the listeners close. Default 0s.
    pub delay: Option<Scalar<kind::Duration>>,
    /// Open requests may finish for so long after that. Default 30s.
    pub drain: Option<Scalar<kind::Duration>>,
}

/// A named group of interchangeable backends with its policies.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Which requests come here: `"[host]/path"`, an object, or a list of them. Default `/`: all that no other route takes.
    #[schemars(schema_with = "super::schema::one_or_many::<RouteForm>")]
    pub route: Option<Vec<RouteForm>>,
    /// Where it runs: a list of `host:port` or objects. Names are resolved again and again, every address is a backend.
    #[schemars(schema_with = "super::schema::one_or_many::<Backend>")]
    pub backends: Option<Vec<Backend>>,
    /// Containers that somebody else starts, found by label, instead of `backends`.
    pub docker: Option<Docker>,
    /// Containers that Portway starts, checks, replaces and removes, instead of `backends`.
    pub container: Option<Box<Container>>,
    /// Tasks of a Swarm service, instead of `backends`.
    pub swarm: Option<Swarm>,
    /// How many replicas there should be, by load: an object, or `off`. Default off.
    pub autoscale: Option<Switch<Box<Autoscale>>>,
    /// What backends speak: `http1` or `auto`. Default `auto`.
    pub protocol: Option<Scalar<kind::Protocol>>,
    /// How a backend is chosen. Default `least_requests`.
    pub balance: Option<Balance>,
    /// How backends are probed: a path, an object, or `off`. Default off: what backends answer is all that counts.
    pub health: Option<Switch<Health>>,
    /// When a backend is taken out because of what it answers: an object, or `off`. Default: after 5 failures in a row.
    pub ejection: Option<Switch<Ejection>>,
    /// How long a new or recovered backend takes to get its full share of requests. Default 0s: it has it at once.
    pub slow_start: Option<Scalar<kind::Duration>>,
    /// What follows a failed attempt: the number of attempts after the first, an object, or `off`. Default 1.
    pub retries: Option<Switch<Retries>>,
    /// A second attempt while the first has not answered: `p95`, a duration, an object, or `off`. Default off.
    pub hedge: Option<Switch<Hedge>>,
    /// The whole request, waiting and attempts included. Default 60s.
    pub timeout: Option<Scalar<kind::Duration>>,
    /// Timeouts of one attempt.
    pub timeouts: Option<Timeouts>,
    /// Requests in flight per backend, across all workers: for gunicorn, its workers × threads. Default `unlimited`.
    pub max_in_flight: Option<Scalar<kind::Cap>>,
    /// Requests that wait while every backend is at `max_in_flight`, first in first out.
    pub queue: Option<Queue>,
    /// Connections to backends between requests.
    pub keepalive: Option<KeepAlive>,
    /// How much is read ahead of a slow client, so that it holds no worker of the backend.
    pub buffer: Option<Buffer>,
    /// Larger requests get 413. Default 100MiB.
    pub max_body: Option<Scalar<kind::Size>>,
    /// Cross-origin rules, answered by Portway. Default off.
    pub cors: Option<Switch<Cors>>,
    /// Compression of responses, for clients that accept it. Default off.
    pub compression: Option<Switch<Compression>>,
    /// Header fields set and removed on the way.
    pub headers: Option<Headers>,
    /// How long a backend that was removed or drained may finish its requests. Default 30s.
    pub drain: Option<Scalar<kind::Duration>>,
}

/// A route as it was typed.
#[derive(Clone, Debug)]
pub enum RouteForm {
    /// `"[host]/path"`.
    Short(Scalar<kind::Route>),
    /// With keys.
    Long(Box<Route>),
    /// With mistakes that were reported, and what could be read of it: to be checked, not to be used.
    Broken(Box<Route>),
}

/// Which requests, and what changes on their way. All conditions must hold.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `shop.example.com`, or `*.example.com` for one or more labels in front. Default: every host.
    pub host: Option<Scalar<kind::Text>>,
    /// Whole leading segments: `/api` takes `/api` and `/api/x`, not `/apix`. Default `/`.
    pub path: Option<Scalar<kind::Path>>,
    /// This path alone, instead of `path`.
    pub exact: Option<Scalar<kind::Path>>,
    /// A regular expression that the path must match, instead of `path`. `^` and `$` are yours to write.
    pub regex: Option<Scalar<kind::Text>>,
    /// Methods, such as `[GET, HEAD]`. Default: every method.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Method>>")]
    pub methods: Option<Vec<Scalar<kind::Method>>>,
    /// Header fields by name: a value, `{ regex }`, or nothing for "is there".
    pub headers: Option<Named<ValueMatch>>,
    /// Query parameters by name: a value, `{ regex }`, or nothing for "is there".
    pub query: Option<Named<ValueMatch>>,
    /// Takes the matched `path` away before the request goes on: `true`. Default `false`.
    pub strip_prefix: Option<Scalar<kind::Flag>>,
    /// What stands in place of the matched `path`; with `regex`, the whole new path with `$1` for its groups.
    pub rewrite: Option<Scalar<kind::Path>>,
    /// Answers with a redirect instead: a location, in which `{scheme}`, `{host}`, `{path}` and `{query}` stand for the request's own.
    pub redirect: Option<Redirect>,
}

impl Route {
    /// Whether a variable decides which requests it takes.
    pub fn has_variables(&self) -> bool {
        fn in_it<K>(text: &Option<Scalar<K>>) -> bool {
            text.as_ref().is_some_and(Scalar::has_variables)
        }
        in_it(&self.host) || in_it(&self.path) || in_it(&self.exact) || in_it(&self.regex)
    }
}

/// What a header field or a query parameter must be.
#[derive(Clone, Debug, Default)]
pub enum ValueMatch {
    /// There, with whatever value.
    #[default]
    Present,
    /// This value.
    Exact(Scalar<kind::Text>),
    /// Matching this pattern.
    Regex(Scalar<kind::Text>),
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_text)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default 302.
    pub status: Option<Scalar<kind::Count>>,
    /// Where to, such as `https://{host}{path}`.
    pub location: Option<Scalar<kind::Text>>,
}

/// One entry of `backends`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_text)]
pub struct Backend {
    /// `host:port`; the host is a name or an address.
    pub address: Option<Scalar<kind::Address>>,
    /// Its share relative to its neighbours, 1 to 1000. Default 1.
    pub weight: Option<Scalar<kind::Count>>,
    /// Where it stands, such as `eu-1a`. Default: nowhere in particular.
    pub zone: Option<Scalar<kind::Text>>,
}

/// How a backend is chosen.
#[derive(Clone, Debug)]
pub enum Balance {
    /// `least_requests`, `peak_ewma`, `round_robin` or `random`.
    Word(Scalar<kind::Balance>),
    /// The same key goes to the same backend.
    Hash(HashKey),
}

/// What `balance: { hash: … }` looks at.
#[derive(Clone, Debug)]
pub enum HashKey {
    /// `ip` or `path`.
    Word(Scalar<kind::HashWord>),
    /// A header field, a cookie or a query parameter.
    Field(HashField),
}

/// A named part of the request; exactly one key.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashField {
    /// The value of this header field.
    pub header: Option<Scalar<kind::Text>>,
    /// The value of this cookie.
    pub cookie: Option<Scalar<kind::Text>>,
    /// The value of this query parameter.
    pub query: Option<Scalar<kind::Text>>,
}

/// Timeouts of one attempt.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// To an open connection. Default 1s.
    pub connect: Option<Scalar<kind::Duration>>,
    /// From the request sent to the response head. Default 30s.
    pub response: Option<Scalar<kind::Duration>>,
    /// Without a byte either way, WebSockets included. Default 5m.
    pub idle: Option<Scalar<kind::Duration>>,
}

/// Requests that wait for a free backend.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// How many may wait; 0 turns waiting off. Default 100.
    pub size: Option<Scalar<kind::Count>>,
    /// How long each may wait. Default 1s.
    pub timeout: Option<Scalar<kind::Duration>>,
}

/// Connections to backends between requests.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepAlive {
    /// Unused for so long, a connection is closed, unless the backend advertises another time. Default 1500ms.
    pub idle: Option<Scalar<kind::Duration>>,
    /// Older than this, it is not used again. Default 5m.
    pub max_age: Option<Scalar<kind::Duration>>,
    /// Used so often, it is not used again. Default `unlimited`.
    pub max_requests: Option<Scalar<kind::Cap>>,
}

/// How much is read ahead.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Of the request, before a backend is taken. Default 1MiB.
    pub request: Option<Scalar<kind::Size>>,
    /// Of the response, ahead of what the client has read. Default 256KiB.
    pub response: Option<Scalar<kind::Size>>,
}

/// Cross-origin rules.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins that may call, such as `https://app.example.com`, or `"*"` for any. Default `"*"`.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Text>>")]
    pub origins: Option<Vec<Scalar<kind::Text>>>,
    /// Methods that may be used. Default: those that are asked for.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Method>>")]
    pub methods: Option<Vec<Scalar<kind::Method>>>,
    /// Request headers that may be sent. Default: those that are asked for.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Text>>")]
    pub headers: Option<Vec<Scalar<kind::Text>>>,
    /// Response headers that scripts may read. Default: none.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Text>>")]
    pub expose: Option<Vec<Scalar<kind::Text>>>,
    /// Whether cookies may be sent; never with `origins: "*"`. Default `false`.
    pub credentials: Option<Scalar<kind::Flag>>,
    /// How long a browser may remember the answer. Default 10m.
    pub max_age: Option<Scalar<kind::Duration>>,
}

/// Compression of responses.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = super::schema::or_true)]
pub struct Compression {
    /// Smaller responses stay as they are. Default 1KiB.
    pub min_size: Option<Scalar<kind::Size>>,
}

/// Header fields set and removed on the way.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Toward the backend.
    pub request: Option<HeaderEdit>,
    /// Toward the client.
    pub response: Option<HeaderEdit>,
}

/// One direction: first `remove`, then `set`.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdit {
    /// Fields that get this value, whatever was there.
    pub set: Option<Named<Scalar<kind::Text>>>,
    /// Fields that are taken away.
    #[schemars(schema_with = "super::schema::one_or_many::<Scalar<kind::Text>>")]
    pub remove: Option<Vec<Scalar<kind::Text>>>,
}
