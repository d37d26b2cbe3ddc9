//! The configuration that cannot be wrong: what `validate` makes of what was typed.
//! Every value is resolved: inherited from `defaults`, filled in from `config::defaults`, checked against its neighbours.
//! It holds no runtime state and opens nothing.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use crate::units::{ByteSize, HostPort, ServiceName, Weight};

mod containers;
mod pattern;
mod resilience;

pub use containers::{
    AddressFrom, Autoscale, ContainerSource, DockerSource, Endpoint, EndpointError, Hold, Hook, HookWay, LabelMatch,
    Pull, Reach, SwarmSource, Target, Template, WaitingPage,
};
pub use pattern::Pattern;
pub use resilience::{Backoff, Ejection, Health, Hedge, Initial, OtherBackend, Probe, Retries, RetryBudget, RetryWhen};

/// One whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Where the admin API listens; `None` for `admin: off`.
    pub admin: Option<Admin>,
    /// Data-plane threads, each with its own runtime, listeners and pools. Default: one per core.
    pub workers: NonZeroUsize,
    /// How new connections find a worker.
    pub accept: Accept,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Process-wide limits of the downstream side.
    pub limits: Limits,
    /// `None` for `access_log: off`.
    pub access_log: Option<AccessLog>,
    /// What SIGTERM does.
    pub shutdown: Shutdown,
    /// In the order of the file; included files follow, sorted by path.
    pub services: Vec<Service>,
}

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// What to bind, or what to take over.
    pub address: ListenAddress,
    /// Cap of this listener alone; the process-wide cap of [`Limits::connections`] holds as well.
    pub max_connections: Option<NonZeroU32>,
}

/// What a listener binds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `127.0.0.1:8080`, `[::1]:8080`.
    Tcp(SocketAddr),
    /// `:8080`: every address of the host, IPv6 and IPv4.
    AnyTcp(u16),
    /// `unix:/run/portway.sock`.
    Unix(PathBuf),
    /// `fd://3`: a listening socket that systemd or a parent process handed over.
    Fd(i32),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// TCP or unix.
    pub address: ListenAddress,
    /// Bearer token; always there when the address is beyond loopback.
    pub token: Option<String>,
}

/// How new connections find a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accept {
    /// The kernel spreads them over the workers' sockets (`SO_REUSEPORT`).
    Kernel,
    /// One acceptor hands each to the worker with the fewest connections.
    Balanced,
}

/// Limits of the downstream side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open downstream connections of the process.
    pub connections: NonZeroU32,
    /// Request line and header block together.
    pub header_bytes: ByteSize,
    /// Header fields of one request.
    pub header_count: NonZeroU32,
    /// From the first byte of a request to the end of its header block.
    pub header_timeout: Duration,
    /// How long an idle connection is kept for its next request.
    pub keep_alive: Duration,
    /// Slowest tolerated transfer of a body, either way, per second; `None` turns it off.
    pub min_body_rate: Option<ByteSize>,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `None` is standard output.
    pub path: Option<PathBuf>,
    /// Which requests are written.
    pub only: LogFilter,
    /// Whether the query string is written. Off unless asked for: it often carries secrets.
    pub query: QueryInLog,
    /// Of which requests the single attempts are listed.
    pub attempts: AttemptsInLog,
    /// How a line is written.
    pub format: LogFormat,
}

/// How an access-log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// The combined format of nginx and Apache, for tools that read that.
    Combined,
}

/// Which requests the access log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFilter {
    /// Every request.
    All,
    /// Those that ended with a status of 400 or more, or with a reason word.
    Errors,
}

/// Whether query strings appear in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryInLog {
    /// The path alone.
    Omitted,
    /// Path and query.
    Written,
}

/// Of which requests the access log lists the single attempts, as `attempt_list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptsInLog {
    /// Of those with more than one.
    Repeated,
    /// Of all, with the backends that the first attempt passed by.
    All,
}

/// What SIGTERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// `/readyz` fails for so long before the listeners close.
    pub delay: Duration,
    /// Open requests may finish for so long after that.
    pub drain: Duration,
}

/// A named group of interchangeable backends with its policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The key under `services`.
    pub name: ServiceName,
    /// At least one.
    pub routes: Vec<Route>,
    /// Where its backends come from.
    pub source: Source,
    /// How many there should be, if Portway decides that.
    pub autoscale: Option<Autoscale>,
    /// How a backend is chosen.
    pub balance: Balance,
    /// Whole request: queueing and attempts included.
    pub timeout: Duration,
    /// Per attempt.
    pub timeouts: Timeouts,
    /// Requests in flight per backend, across all workers; `None` is unlimited.
    pub max_in_flight: Option<NonZeroU32>,
    /// Requests that wait while every backend is at its limit.
    pub queue: Queue,
    /// Upstream connections.
    pub keepalive: KeepAlive,
    /// How much is read ahead of a slow client.
    pub buffer: Buffer,
    /// Larger requests get 413.
    pub max_body: ByteSize,
    /// What the user wrapped around the exchange.
    pub filters: Filters,
    /// How backends are probed; `None` leaves it to what their answers tell.
    pub health: Option<Health>,
    /// When a backend is taken out because of its answers; `None` never.
    pub ejection: Option<Ejection>,
    /// The ramp of a new or recovered backend; zero is none.
    pub slow_start: Duration,
    /// What follows a failed attempt.
    pub retries: Retries,
    /// Whether slow requests get a second attempt.
    pub hedge: Option<Hedge>,
    /// How long a removed or drained backend may finish what it has.
    pub drain: Duration,
}

/// Where backends come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Addresses in the file; names are resolved again and again, and every address is a backend. Empty only if every
    /// route of the service is a redirect.
    Backends(Vec<BackendAddress>),
    /// Containers that somebody else starts.
    Docker(DockerSource),
    /// Containers that Portway runs.
    Container(Box<ContainerSource>),
    /// Tasks of a Swarm service.
    Swarm(SwarmSource),
}

impl Source {
    /// The addresses that the file names; none if they are found out.
    pub fn declared(&self) -> &[BackendAddress] {
        match self {
            Source::Backends(backends) => backends,
            Source::Docker(_) | Source::Container(_) | Source::Swarm(_) => &[],
        }
    }
}

/// One entry of `backends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendAddress {
    /// Where it listens.
    pub address: HostPort,
    /// Relative share.
    pub weight: Weight,
    /// Where it stands, for zone-aware balancing; informational for now.
    pub zone: Option<String>,
}

/// A match plus an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which requests.
    pub matcher: RouteMatch,
    /// What happens to them.
    pub action: RouteAction,
    /// The route as the user would write it in short, for messages: `shop.example.com/api`.
    pub display: String,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// Which hosts.
    pub host: HostMatch,
    /// Which paths.
    pub path: PathMatch,
    /// Empty means any method.
    pub methods: Vec<Method>,
    /// All must hold.
    pub headers: Vec<HeaderMatch>,
    /// All must hold.
    pub query: Vec<QueryMatch>,
}

/// A condition on the host, without port, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Every host.
    Any,
    /// `shop.example.com`; an IPv6 address keeps its brackets, as in the Host header.
    Exact(String),
    /// `*.example.com`, stored as `example.com`: one or more labels in front, never the bare name.
    Wildcard(String),
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// Whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. `/` takes everything. No trailing slash but for `/`.
    Prefix(String),
    /// This path alone.
    Exact(String),
    /// An unanchored pattern; `^` and `$` are the user's.
    Regex(Pattern),
}

/// A condition on one header field. A repeated or comma-joined field holds if any element does.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    /// Which field.
    pub name: HeaderName,
    /// What it must be.
    pub value: ValueMatch,
}

/// A condition on one query parameter, compared after percent-decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatch {
    /// Which parameter.
    pub name: String,
    /// What it must be.
    pub value: ValueMatch,
}

/// What a header or query value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// There, with whatever value.
    Present,
    /// This value, byte for byte.
    Exact(String),
    /// Matching this pattern.
    Regex(Pattern),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// Send it to the service.
    Forward(Rewrite),
    /// Answer with a redirect.
    Redirect(Redirect),
}

/// How the path changes on its way up.
#[derive(Clone, Debug, PartialEq)]
pub enum Rewrite {
    /// Byte for byte as it came.
    None,
    /// Without this leading prefix; what is left starts with `/`.
    StripPrefix(String),
    /// The matched prefix becomes this one.
    ReplacePrefix {
        /// What is taken away.
        from: String,
        /// What stands there instead.
        to: String,
    },
    /// The regex of the route's path with `$1`, `${name}` in the replacement.
    Regex {
        /// The pattern of the route.
        pattern: Pattern,
        /// The replacement.
        replacement: String,
    },
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// `{scheme}`, `{host}`, `{path}` and `{query}` stand for the request's own.
    pub location: String,
}

/// How a backend is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Power of two choices on requests in flight.
    LeastRequests,
    /// Power of two choices on latency × requests in flight.
    PeakEwma,
    /// Smooth weighted turn.
    RoundRobin,
    /// Weighted chance.
    Random,
    /// The same key goes to the same backend, on every instance.
    Hash(HashKey),
}

/// What `balance: { hash: … }` looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// The client's address.
    Ip,
    /// The path.
    Path,
}

/// Timeouts of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To an open connection.
    pub connect: Duration,
    /// From the request sent to the response head.
    pub response: Duration,
    /// Without a byte either way.
    pub idle: Duration,
}

/// Requests that wait for a free backend, first in first out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait; 0 turns waiting off.
    pub size: u32,
    /// How long each may wait.
    pub timeout: Duration,
}

/// Upstream connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Unused for so long, a connection is closed, unless the backend advertised another `Keep-Alive: timeout`.
    pub idle: Duration,
    /// Older than this, it is not reused.
    pub max_age: Duration,
    /// Used so often, it is not reused; `None` is unlimited.
    pub max_requests: Option<NonZeroU32>,
}

/// How much is read ahead, so that a slow client holds no worker of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Of the request, before a backend is taken.
    pub request: ByteSize,
    /// Of the response, ahead of what the client has read.
    pub response: ByteSize,
}

/// What the user wrapped around the exchange: each becomes a tower layer, in the order of `proxy::stack`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// `cors:`.
    pub cors: Option<Cors>,
    /// `compression:`.
    pub compression: Option<Compression>,
    /// `headers:`.
    pub headers: Option<HeaderEdits>,
}

impl Filters {
    /// Whether a request of this service skips the filter stack.
    pub fn is_empty(&self) -> bool {
        *self == Filters::default()
    }
}

/// Cross-origin rules, answered by Portway.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Allowed origins; `None` allows any.
    pub origins: Option<Vec<HeaderValue>>,
    /// Allowed methods; empty mirrors the request.
    pub methods: Vec<Method>,
    /// Allowed request headers; empty mirrors the request.
    pub headers: Vec<HeaderName>,
    /// Response headers that scripts may read.
    pub expose: Vec<HeaderName>,
    /// Whether cookies may be sent. Never with `origins: ["*"]`.
    pub credentials: Credentials,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
}

/// Whether a cross-origin request may carry cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// No.
    Omitted,
    /// Yes.
    Allowed,
}

/// Response compression by Portway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Smaller responses stay as they are.
    pub min_size: ByteSize,
}

/// Header fields set and removed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Toward the backend.
    pub request: HeaderEdit,
    /// Toward the client.
    pub response: HeaderEdit,
}

/// One direction of [`HeaderEdits`]: first `remove`, then `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Set to this value, whatever was there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Taken away.
    pub remove: Vec<HeaderName>,
}

impl std::fmt::Display for ListenAddress {
    /// As the file writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::AnyTcp(port) => write!(f, ":{port}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Fd(number) => write!(f, "fd://{number}"),
        }
    }
}
