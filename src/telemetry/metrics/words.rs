//! The closed sets that metric labels are made of: gauges, limits, outcomes.
//! Promises that every word is `snake_case` and that each set is complete. It counts nothing.

use http::StatusCode;

use crate::error::{FailureKind, Fault};

/// Gauges that are read when the page is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gauge {
    /// Open downstream connections of a listener.
    Connections,
    /// Requests that wait for a free backend of a service.
    QueueLength,
    /// Requests that wait for the first replica of a service.
    HeldRequests,
    /// Requests at a backend.
    BackendInFlight,
    /// Whether the probes of a backend pass; only of backends that are probed.
    BackendHealthy,
    /// Whether a backend's answers took it out.
    BackendEjected,
    /// How long a connection may have rested to carry what cannot be sent twice.
    BackendIdleLimit,
    /// Whether a service sends requests to backends that are thought to be ill, for want of others.
    FailOpen,
    /// Replicas of a service that Portway scales: wanted, ready, starting.
    Replicas,
    /// Whether a Docker engine is spoken to; only of engines in use.
    DockerConnected,
}

impl Gauge {
    pub(super) const ALL: [Gauge; 10] = [
        Gauge::Connections,
        Gauge::QueueLength,
        Gauge::HeldRequests,
        Gauge::BackendInFlight,
        Gauge::BackendHealthy,
        Gauge::BackendEjected,
        Gauge::BackendIdleLimit,
        Gauge::FailOpen,
        Gauge::Replicas,
        Gauge::DockerConnected,
    ];

    /// Names of its labels.
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Gauge::Connections => &["listener"],
            Gauge::QueueLength | Gauge::HeldRequests | Gauge::FailOpen => &["service"],
            Gauge::BackendInFlight | Gauge::BackendHealthy | Gauge::BackendEjected | Gauge::BackendIdleLimit => {
                &["service", "backend"]
            }
            Gauge::Replicas => &["service", "kind"],
            Gauge::DockerConnected => &["endpoint"],
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Gauge::Connections => "portway_connections",
            Gauge::QueueLength => "portway_queue_length",
            Gauge::HeldRequests => "portway_held_requests",
            Gauge::BackendInFlight => "portway_backend_in_flight",
            Gauge::BackendHealthy => "portway_backend_healthy",
            Gauge::BackendEjected => "portway_backend_ejected",
            Gauge::BackendIdleLimit => "portway_backend_safe_rest_seconds",
            Gauge::FailOpen => "portway_fail_open",
            Gauge::Replicas => "portway_replicas",
            Gauge::DockerConnected => "portway_docker_connected",
        }
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Gauge::Connections => "Open downstream connections.",
            Gauge::QueueLength => "Requests that wait for a free backend.",
            Gauge::HeldRequests => {
                "Requests that wait for the first replica of a service that scales; a waiting page that is looked at is one."
            }
            Gauge::BackendInFlight => "Requests at the backend.",
            Gauge::BackendHealthy => "1 if the probes of the backend pass, 0 if not; only of backends that are probed.",
            Gauge::BackendEjected => "1 while the backend is out because of its answers, its trial included, else 0.",
            Gauge::BackendIdleLimit => {
                "A pooled connection that has rested longer carries nothing that cannot be sent twice; learned, 0 without evidence."
            }
            Gauge::FailOpen => "1 while no backend is sound and requests go to those that may be ill, else 0.",
            Gauge::Replicas => "Replicas of a service that Portway scales or runs: desired, ready, starting.",
            Gauge::DockerConnected => "1 while the Docker engine is spoken to, else 0; only of engines in use.",
        }
    }
}

/// Limits that hold something back without being a local reply of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.connections`.
    Connections,
    /// `max_connections` of one listener.
    ListenerConnections,
    /// Open files of the process: `EMFILE` or `ENFILE` on accept or connect.
    Descriptors,
    /// `limits.header_bytes` or `limits.header_count`.
    Headers,
    /// `limits.header_timeout`.
    HeaderTimeout,
    /// `limits.min_body_rate`.
    MinBodyRate,
    /// `max_body`.
    MaxBody,
    /// `buffer.request`: the rest of the body is streamed.
    RequestBuffer,
    /// `buffer.response`: the backend waits for the client.
    ResponseBuffer,
    /// `queue.size`.
    Queue,
    /// `autoscale.hold.max`.
    Hold,
    /// Idle upstream connections that were closed because the pool was full.
    Pool,
    /// Addresses of one name beyond those that are used.
    Addresses,
    /// Bytes that wait for the access-log writer.
    AccessLogBacklog,
    /// Connections to the admin listener.
    AdminConnections,
    /// Health probes on their way.
    Probes,
    /// `retries.budget`: a retry or a hedge was due and is not sent.
    RetryBudget,
    /// `timeout`, or what a trusted peer left of its own: the time was up before a backend was touched.
    Deadline,
}

impl Limit {
    pub(super) const ALL: [Limit; 18] = [
        Limit::Connections,
        Limit::ListenerConnections,
        Limit::Descriptors,
        Limit::Headers,
        Limit::HeaderTimeout,
        Limit::MinBodyRate,
        Limit::MaxBody,
        Limit::RequestBuffer,
        Limit::ResponseBuffer,
        Limit::Queue,
        Limit::Hold,
        Limit::Pool,
        Limit::Addresses,
        Limit::AccessLogBacklog,
        Limit::AdminConnections,
        Limit::Probes,
        Limit::RetryBudget,
        Limit::Deadline,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::ListenerConnections => "listener_connections",
            Limit::Descriptors => "descriptors",
            Limit::Headers => "headers",
            Limit::HeaderTimeout => "header_timeout",
            Limit::MinBodyRate => "min_body_rate",
            Limit::MaxBody => "max_body",
            Limit::RequestBuffer => "request_buffer",
            Limit::ResponseBuffer => "response_buffer",
            Limit::Queue => "queue",
            Limit::Hold => "hold",
            Limit::Pool => "pool",
            Limit::Addresses => "addresses",
            Limit::AccessLogBacklog => "access_log_backlog",
            Limit::AdminConnections => "admin_connections",
            Limit::Probes => "probes",
            Limit::RetryBudget => "retry_budget",
            Limit::Deadline => "deadline",
        }
    }
}

/// How a health probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// As expected.
    Passed,
    /// With another answer.
    WrongAnswer,
    /// Without a connection.
    Refused,
    /// Not in time.
    Timeout,
    /// With something that is no answer.
    Broken,
    /// Not sent, because Portway has no descriptors or ports left.
    Skipped,
}

impl ProbeResult {
    pub(super) const ALL: [ProbeResult; 6] = [
        ProbeResult::Passed,
        ProbeResult::WrongAnswer,
        ProbeResult::Refused,
        ProbeResult::Timeout,
        ProbeResult::Broken,
        ProbeResult::Skipped,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            ProbeResult::Passed => "passed",
            ProbeResult::WrongAnswer => "wrong_answer",
            ProbeResult::Refused => "refused",
            ProbeResult::Timeout => "timeout",
            ProbeResult::Broken => "broken",
            ProbeResult::Skipped => "skipped",
        }
    }
}

/// What took a backend out: the `cause` label of `portway_ejections_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EjectionCause {
    /// Failures in a row.
    Consecutive,
    /// Too few good answers over the window.
    SuccessRate,
    /// The single request of its probation failed.
    Trial,
}

impl EjectionCause {
    pub(super) const ALL: [EjectionCause; 3] =
        [EjectionCause::Consecutive, EjectionCause::SuccessRate, EjectionCause::Trial];

    /// The word of the label.
    pub const fn word(self) -> &'static str {
        match self {
            EjectionCause::Consecutive => "consecutive",
            EjectionCause::SuccessRate => "success_rate",
            EjectionCause::Trial => "trial",
        }
    }
}

/// What a further attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// An attempt without a response.
    Failure(FailureKind),
    /// A response with a status that the user wants retried.
    Status,
    /// A response that says that its backend is leaving.
    Leaving,
}

impl RetryCause {
    pub(super) const COUNT: usize = FailureKind::COUNT + 2;

    pub(super) fn all() -> impl Iterator<Item = RetryCause> {
        FailureKind::all().map(RetryCause::Failure).chain([RetryCause::Status, RetryCause::Leaving])
    }

    pub(super) const fn index(self) -> usize {
        match self {
            RetryCause::Failure(kind) => kind.index(),
            RetryCause::Status => FailureKind::COUNT,
            RetryCause::Leaving => FailureKind::COUNT + 1,
        }
    }

    /// The word of the `reason` label.
    pub const fn word(self) -> &'static str {
        match self {
            RetryCause::Failure(kind) => kind.reason(),
            RetryCause::Status => "status",
            RetryCause::Leaving => "leaving",
        }
    }
}

impl From<FailureKind> for RetryCause {
    fn from(kind: FailureKind) -> Self {
        RetryCause::Failure(kind)
    }
}

/// What an attempt tells about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete response below 500.
    Success,
    /// A complete response of 500 or more.
    ServerError,
    /// The attempt ended without a complete response.
    Failure(FailureKind),
    /// Another attempt of the same request answered first, and this one was let go.
    Superseded,
}

impl Outcome {
    pub(super) const COUNT: usize = 3 + FailureKind::COUNT;

    pub(super) fn all() -> impl Iterator<Item = Outcome> {
        let failures = FailureKind::all().map(Outcome::Failure);
        [Outcome::Success, Outcome::ServerError, Outcome::Superseded].into_iter().chain(failures)
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Outcome::Success => 0,
            Outcome::ServerError => 1,
            Outcome::Superseded => 2,
            Outcome::Failure(kind) => 3 + kind.index(),
        }
    }

    /// Of a response with this status.
    pub fn of(status: StatusCode) -> Self {
        if status.is_server_error() { Outcome::ServerError } else { Outcome::Success }
    }

    /// The word of the `outcome` label.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ServerError => "server_error",
            Outcome::Superseded => "superseded",
            Outcome::Failure(kind) => kind.reason(),
        }
    }

    /// Whether its series exists before it first happens, so that a rate over it starts from zero.
    pub(super) fn is_expected(self) -> bool {
        match self {
            Outcome::Success | Outcome::ServerError => true,
            Outcome::Superseded => false,
            Outcome::Failure(kind) => kind.fault() == Fault::Backend,
        }
    }
}
