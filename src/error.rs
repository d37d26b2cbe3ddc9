//! Every way in which Portway itself ends a request, in one table.
//! The table promises one row per kind: whose fault, which status, whether another attempt is allowed, and the one
//! reason word that the access log, the metrics and the `x-portway-reason` header all print. It does not format replies.

use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request itself, or its sender going away.
    Client,
    /// The service as a whole: nobody in it could answer.
    Service,
    /// One backend.
    Backend,
    /// Portway: a limit of ours, or a bug.
    Us,
}

/// When another attempt may follow a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request ends here.
    Never,
    /// The same request may be tried after a pause.
    AfterBackoff,
    /// No byte of the request was seen: any method may go to another backend.
    AnotherBackend,
    /// Any method if nothing was sent, else only an idempotent one. RFC 9110 §9.2.2.
    IfUnsentOrIdempotent,
    /// Only an idempotent method, and only before the first response byte went down. RFC 9110 §9.2.2.
    IfIdempotent,
}

/// Why Portway answered a request itself, or gave up on an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The request is malformed, ambiguous, or of a form that a gateway does not take.
    BadRequest,
    /// No route of the configuration takes this request.
    NoRoute,
    /// The method is one that Portway never forwards (TRACE, CONNECT).
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The body is larger than `max_body`.
    BodyTooLarge,
    /// The request target is longer than the limit.
    UriTooLong,
    /// An expectation other than `100-continue`. RFC 9110 §10.1.1.
    ExpectationFailed,
    /// The header block is larger, or has more fields, than the limit.
    HeadersTooLarge,
    /// The client went away before the response was complete. Log only.
    ClientClosed,
    /// A transfer coding that we do not implement. RFC 9112 §6.1.
    UnknownTransferCoding,
    /// A method longer than any that exists. RFC 9112 §3.
    UnknownMethod,
    /// An HTTP version other than 1.0 and 1.1.
    UnsupportedVersion,
    /// The request has passed through this instance before. RFC 9110 §7.6.3.
    LoopDetected,
    /// No backend of the service can take the request.
    NoHealthyBackend,
    /// The service has no replica at the moment, and whoever browses it sees the waiting page until there is one.
    Starting,
    /// The service has no replica, and its first one could not be started.
    ColdStartFailed,
    /// The service has no replica, and none was ready within `autoscale.hold.timeout`.
    ColdStartTimeout,
    /// A reload took the service away while the request waited for its first replica.
    ServiceRemoved,
    /// Another attempt was due, and the service's retries have used up their budget. The status is that of the last
    /// attempt; the row's own stands for an attempt without one.
    RetryBudgetExhausted,
    /// The deadline of the whole request has passed.
    Deadline,
    /// Every backend is at `max_in_flight` and the queue is full.
    QueueFull,
    /// Every backend stayed at `max_in_flight` for the queue's timeout.
    QueueTimeout,
    /// The service has no replica, and as many requests wait for one as may.
    HoldFull,
    /// A limit of this process is reached: connections, memory, descriptors.
    Overloaded,
    /// The process is shutting down.
    Draining,
    /// The backend refused the connection, or its host is unreachable.
    ConnectRefused,
    /// The backend did not accept the connection in time.
    ConnectTimeout,
    /// A pooled connection turned out to be closed.
    StaleConnection,
    /// The backend closed or reset the connection before its response was complete.
    UpstreamReset,
    /// The backend's answer is not HTTP, or its framing is ambiguous.
    UpstreamProtocol,
    /// The backend sent no response head in time.
    ResponseTimeout,
    /// A bug of ours.
    Internal,
}

/// One row of the table.
struct Row {
    kind: FailureKind,
    reason: &'static str,
    fault: Fault,
    status: u16,
    retry: Retry,
}

const fn row(kind: FailureKind, reason: &'static str, fault: Fault, status: u16, retry: Retry) -> Row {
    Row { kind, reason, fault, status, retry }
}

/// The table of the design, a row per kind, in the order of the enum.
#[rustfmt::skip]
const TABLE: [Row; 32] = [
    row(FailureKind::BadRequest, "bad_request", Fault::Client, 400, Retry::Never),
    row(FailureKind::NoRoute, "no_route", Fault::Client, 404, Retry::Never),
    row(FailureKind::MethodNotAllowed, "method_not_allowed", Fault::Client, 405, Retry::Never),
    row(FailureKind::RequestTimeout, "request_timeout", Fault::Client, 408, Retry::Never),
    row(FailureKind::BodyTooLarge, "body_too_large", Fault::Client, 413, Retry::Never),
    row(FailureKind::UriTooLong, "uri_too_long", Fault::Client, 414, Retry::Never),
    row(FailureKind::ExpectationFailed, "expectation_failed", Fault::Client, 417, Retry::Never),
    row(FailureKind::HeadersTooLarge, "headers_too_large", Fault::Client, 431, Retry::Never),
    row(FailureKind::ClientClosed, "client_closed", Fault::Client, 499, Retry::Never),
    row(FailureKind::UnknownTransferCoding, "unknown_transfer_coding", Fault::Client, 501, Retry::Never),
    row(FailureKind::UnknownMethod, "unknown_method", Fault::Client, 501, Retry::Never),
    row(FailureKind::UnsupportedVersion, "unsupported_version", Fault::Client, 505, Retry::Never),
    row(FailureKind::LoopDetected, "loop_detected", Fault::Client, 508, Retry::Never),
    row(FailureKind::NoHealthyBackend, "no_healthy_backend", Fault::Service, 503, Retry::AfterBackoff),
    row(FailureKind::Starting, "starting", Fault::Service, 503, Retry::Never),
    row(FailureKind::ColdStartFailed, "cold_start_failed", Fault::Service, 503, Retry::Never),
    row(FailureKind::ColdStartTimeout, "cold_start_timeout", Fault::Service, 503, Retry::Never),
    row(FailureKind::ServiceRemoved, "service_removed", Fault::Service, 503, Retry::Never),
    row(FailureKind::RetryBudgetExhausted, "retry_budget_exhausted", Fault::Service, 503, Retry::Never),
    row(FailureKind::Deadline, "deadline", Fault::Service, 504, Retry::Never),
    row(FailureKind::QueueFull, "queue_full", Fault::Us, 503, Retry::Never),
    row(FailureKind::QueueTimeout, "queue_timeout", Fault::Us, 503, Retry::Never),
    row(FailureKind::HoldFull, "hold_full", Fault::Us, 503, Retry::Never),
    row(FailureKind::Overloaded, "overloaded", Fault::Us, 503, Retry::Never),
    row(FailureKind::Draining, "draining", Fault::Us, 503, Retry::Never),
    row(FailureKind::ConnectRefused, "connect_refused", Fault::Backend, 502, Retry::AnotherBackend),
    row(FailureKind::ConnectTimeout, "connect_timeout", Fault::Backend, 504, Retry::AnotherBackend),
    row(FailureKind::StaleConnection, "stale_connection", Fault::Backend, 502, Retry::IfUnsentOrIdempotent),
    row(FailureKind::UpstreamReset, "upstream_reset", Fault::Backend, 502, Retry::IfIdempotent),
    row(FailureKind::UpstreamProtocol, "upstream_protocol", Fault::Backend, 502, Retry::IfIdempotent),
    row(FailureKind::ResponseTimeout, "response_timeout", Fault::Backend, 504, Retry::IfIdempotent),
    row(FailureKind::Internal, "internal", Fault::Us, 500, Retry::Never),
];

impl FailureKind {
    /// How many kinds there are: the length of an array of counters.
    pub const COUNT: usize = TABLE.len();

    /// Every kind, in the order of the table.
    pub fn all() -> impl Iterator<Item = FailureKind> {
        TABLE.iter().map(|row| row.kind)
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The word that log, metrics and the `x-portway-reason` header print.
    pub const fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        self.row().fault
    }

    /// Whether another attempt may follow.
    pub const fn retry(self) -> Retry {
        self.row().retry
    }

    /// The status as a number; 499 exists in logs only.
    pub const fn status_code(self) -> u16 {
        self.row().status
    }

    /// The status of the local reply. 499 never reaches a client; it stands in the log.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_code()).expect("the table holds valid status codes only")
    }

    /// Position in the table: an index for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A failure with its cause. The kind is what code branches on, the cause is what people read at `debug`.
#[derive(Debug)]
pub struct ProxyError {
    /// The row of the table.
    pub kind: FailureKind,
    /// What the layer below said.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ProxyError {
    /// A failure with the error that led to it.
    pub fn new(kind: FailureKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }
}

impl ProxyError {
    /// The row that gives the status: the kind's own, or that of the last attempt if only the budget ended the attempts.
    pub fn answered_as(&self) -> FailureKind {
        let last = self.source.as_ref().and_then(|source| source.downcast_ref::<ProxyError>());
        match (self.kind, last) {
            (FailureKind::RetryBudgetExhausted, Some(last)) => last.kind,
            (kind, _) => kind,
        }
    }
}

impl From<FailureKind> for ProxyError {
    fn from(kind: FailureKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.reason())
    }
}

impl StdError for ProxyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_word_is_unique_and_snake_case() {
        let mut words: Vec<_> = FailureKind::all().map(FailureKind::reason).collect();
        assert!(words.iter().all(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FailureKind::COUNT);
    }

    #[test]
    fn the_index_of_a_kind_is_its_place_in_the_table() {
        for (idx, kind) in FailureKind::all().enumerate() {
            assert_eq!(kind.index(), idx);
        }
    }

    #[test]
    fn a_client_fault_is_never_retried() {
        for kind in FailureKind::all().filter(|kind| kind.fault() == Fault::Client) {
            assert_eq!(kind.retry(), Retry::Never, "{}", kind.reason());
        }
    }
}
