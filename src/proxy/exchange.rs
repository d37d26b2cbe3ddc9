//! One request from its head to its record: what it is, what became of it, what it leaves behind.
//! It promises exactly one access-log record and one count per exchange, when it is dropped, however it ended.
//! It decides nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};

use crate::config::defaults;
use crate::error::{FailureKind, ProxyError};
use crate::http::forwarded::Trust;
use crate::http::local_reply::{Format, LocalReply, X_REQUEST_ID};
use crate::http::patience;
use crate::http::signature::{Signature, TRACEPARENT};
use crate::http::survey::Survey;
use crate::lifecycle::clock;
use crate::proxy::activity::Phase;
use crate::proxy::connection::Connection;
use crate::proxy::handler::ActiveRoute;
use crate::runtime::backend::Backend;
use crate::runtime::service::Service;
use crate::telemetry::access_log::{AttemptRecord, Record};
use crate::telemetry::metrics::Limit;
use crate::telemetry::request_id::RequestId;
use crate::telemetry::trace::TraceContext;
use crate::units::Moment;

/// One request and its response.
pub(crate) struct Exchange {
    pub(crate) connection: Arc<Connection>,
    /// When its head was complete, or began if it never was.
    pub(crate) started: Moment,
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    /// Which fields the request came with.
    pub(crate) fields: Survey,
    /// What the request was received as.
    pub(crate) version: Version,
    /// How long a trusted peer still waits, if it says so.
    peer_timeout: Option<Duration>,
    /// When the whole request has to be over; the end of time until its route is known.
    pub(crate) deadline: Moment,
    /// What a local reply is written for: `Accept` and `Content-Type` of the request.
    wishes: [Option<HeaderValue>; 2],
    /// Which client, by the rules of trust.
    pub(crate) client_ip: Option<IpAddr>,
    /// What the access log will say of the request; `None` without a log.
    described: Option<Described>,
    /// Where it goes, once its route is known.
    pub(crate) service: Option<Arc<Service>>,
    /// Where the last attempt went, if somebody will read it.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) attempts: u32,
    /// The attempts one by one, if the log lists them.
    pub(crate) attempt_list: Vec<AttemptRecord>,
    /// How long it waited for a backend, for a connection, for the response head.
    pub(crate) waits: Waits,
    pub(crate) upstream_status: Option<StatusCode>,
    status: Option<StatusCode>,
    reason: Option<FailureKind>,
    body: BodyExpected,
    pub(crate) bytes_out: u64,
}

/// What decides how a local reply is written.
const WISHES: [HeaderName; 2] = [header::ACCEPT, header::CONTENT_TYPE];

/// The spans of an exchange that the log tells apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    pub(crate) queue: Option<Duration>,
    /// The part of it that it waited for a first replica.
    pub(crate) held: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) ttfb: Option<Duration>,
}

/// What the log says of a request. Clones share bytes with the request.
struct Described {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    arrived_at_unix: Duration,
}

impl Described {
    fn of(head: &Parts) -> Self {
        let headers = &head.headers;
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            host: Self::host(head),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            referer: headers.get(header::REFERER).cloned(),
            arrived_at_unix: clock::unix_now(),
        }
    }

    /// Whom the request is for: of an absolute target its authority, whatever `Host` says. RFC 9112 §3.2.2.
    fn host(head: &Parts) -> Option<HeaderValue> {
        let authority = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        authority.or_else(|| head.headers.get(header::HOST).cloned())
    }
}

/// Whether hyper will ask for the body of the response that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyExpected {
    /// It will, to the end, unless the client goes away.
    Yes,
    /// Not for HEAD, 204 and 304, nor for a body that is empty.
    No,
}

impl Exchange {
    /// Begins with a head that hyper has parsed.
    pub(crate) fn begin(connection: Arc<Connection>, head: &Parts) -> Box<Self> {
        let now = clock::now();
        connection.begin_request(now);
        let headers = &head.headers;
        let fields = Survey::of(headers);
        let value = |field: Survey, name: HeaderName| {
            let value = if fields.has(field) { headers.get(name) } else { None };
            value.map(HeaderValue::as_bytes)
        };
        let request_id = RequestId::accept_or_random(value(Survey::REQUEST_ID, X_REQUEST_ID));
        let trace = TraceContext::continue_or_begin(value(Survey::TRACEPARENT, TRACEPARENT), &request_id);
        let described = connection.worker.log.is_on().then(|| Described::of(head));
        let peer = connection.peer_headers();
        // A trusted proxy says whom it speaks for. Anybody else is the client himself.
        let client_ip = if peer.trust() == Trust::Trusted { peer.client_ip(headers) } else { connection.peer_ip() };
        let mut exchange = Self::new(connection, request_id, trace, now);
        exchange.client_ip = client_ip;
        exchange.described = described;
        exchange.fields = fields;
        exchange.version = head.version;
        if fields.has(Survey::TIMEOUT) && exchange.connection.peer_headers().trust() == Trust::Trusted {
            exchange.peer_timeout = patience::timeout(headers);
        }
        if fields.has(Survey::WISHES) {
            exchange.wishes = WISHES.map(|name| headers.get(name).cloned());
        }
        exchange
    }

    /// What a backend is told about it.
    pub(crate) fn signature(&self) -> Signature<'_> {
        Signature {
            peer: self.connection.peer_headers(),
            via: &self.connection.worker.via,
            version: self.version,
            request_id: &self.request_id,
            trace: &self.trace,
        }
    }

    /// Begins and ends with a head that no parser saw, and whose first byte came at `started`.
    pub(crate) fn refused(connection: &Arc<Connection>, kind: FailureKind, started: Moment) -> Box<Self> {
        let request_id = RequestId::random();
        let trace = TraceContext::begin(&request_id);
        let mut exchange = Self::new(connection.clone(), request_id, trace, started);
        exchange.fail(kind);
        exchange
    }

    fn new(connection: Arc<Connection>, request_id: RequestId, trace: TraceContext, started: Moment) -> Box<Self> {
        Box::new(Self {
            client_ip: connection.peer_ip(),
            connection,
            started,
            request_id,
            trace,
            fields: Survey::default(),
            version: Version::HTTP_11,
            peer_timeout: None,
            deadline: Moment(u64::MAX),
            wishes: [None, None],
            described: None,
            service: None,
            backend: None,
            attempts: 0,
            attempt_list: Vec::new(),
            waits: Waits::default(),
            upstream_status: None,
            status: None,
            reason: None,
            body: BodyExpected::No,
            bytes_out: 0,
        })
    }

    /// Its limits are known with its route.
    pub(crate) fn take_route(&mut self, route: &ActiveRoute) {
        self.take_service(&route.service);
    }

    /// Its limits are those of `service` from now on: those of its route, or of a newer configuration after a long wait.
    pub(crate) fn take_service(&mut self, service: &Arc<Service>) {
        let policy = &service.policy;
        let timeout = self.peer_timeout.map_or(policy.timeout, |peer_timeout| peer_timeout.min(policy.timeout));
        self.service = Some(service.clone());
        self.deadline = self.started.after(timeout);
        self.connection.activity.limit_request(self.deadline, policy.timeouts.idle);
    }

    /// Whether somebody has chosen a time for it, so that the next hop ought to know: a trusted peer, or the file.
    pub(crate) fn tells_deadline(&self) -> bool {
        let chosen = |service: &Arc<Service>| service.policy.timeout != defaults::TIMEOUT;
        self.fields.has(Survey::TIMEOUT) || self.service.as_ref().is_some_and(chosen)
    }

    /// Whether its attempts are listed even if the first one succeeds.
    pub(crate) fn lists_all_attempts(&self) -> bool {
        self.connection.worker.log.lists_all_attempts()
    }

    /// Whether it will stand in the access log.
    pub(crate) fn is_logged(&self) -> bool {
        self.described.is_some()
    }

    /// Whether time has passed since its head: for its body, or for a place at a backend.
    pub(crate) fn has_waited(&self) -> bool {
        self.waits.queue.is_some() || self.connection.activity.body_bytes_in.get() > 0
    }

    /// Notes that it failed; the first failure is the one that counts.
    pub(crate) fn fail(&mut self, kind: FailureKind) {
        self.reason.get_or_insert(kind);
    }

    /// The answer of ours for a failure, in the form that the client reads best.
    pub(crate) fn local_reply(&self, error: &ProxyError) -> LocalReply<'_> {
        let wishes = WISHES.into_iter().zip(&self.wishes).filter_map(|(name, value)| Some((name, value.clone()?)));
        let kind = error.answered_as();
        LocalReply {
            kind,
            because: Some(error.kind).filter(|because| *because != kind),
            format: Format::preferred(&wishes.collect()),
            request_id: self.request_id.as_str(),
            service: self.service.as_ref().map(|service| service.name.as_str()),
        }
    }

    /// Notes the head that goes down.
    pub(crate) fn respond(&mut self, status: StatusCode, body: BodyExpected) {
        self.status = Some(status);
        self.body = body;
        self.connection.activity.enter(Phase::Response, self.connection.coarse_now());
    }

    /// Whether somebody will read the body to its end.
    pub(crate) fn expects_body(&self) -> bool {
        self.body == BodyExpected::Yes
    }

    /// What the client got, or would have.
    fn final_status(&self) -> u16 {
        match (self.status, self.reason) {
            (Some(status), _) => status.as_u16(),
            (None, Some(kind)) => kind.status_code(),
            (None, None) => FailureKind::ClientClosed.status_code(),
        }
    }

    fn count(&self, duration: Duration) {
        let metrics = &self.connection.worker.metrics;
        match &self.service {
            Some(service) => service.metrics.request_ended(self.final_status(), duration),
            None => self.connection.worker.unrouted.request_ended(self.final_status(), duration),
        }
        let Some(kind) = self.reason else { return };
        metrics.local_reply(kind);
        match kind {
            FailureKind::HeadersTooLarge | FailureKind::UriTooLong => metrics.limit_hit(Limit::Headers),
            FailureKind::BodyTooLarge => metrics.limit_hit(Limit::MaxBody),
            FailureKind::QueueFull => metrics.limit_hit(Limit::Queue),
            FailureKind::HoldFull => metrics.limit_hit(Limit::Hold),
            _ => {}
        }
    }

    fn log(&self, duration: Duration) {
        let log = &self.connection.worker.log;
        if !log.is_on() {
            return;
        }
        let described = self.described.as_ref();
        let trace_id = self.trace.trace_id();
        log.write(&Record {
            arrived_at_unix: described
                .map_or_else(|| clock::unix_now().saturating_sub(duration), |d| d.arrived_at_unix),
            request_id: self.request_id.as_str(),
            trace_id: Some(trace_id.as_str()),
            client_ip: self.client_ip,
            method: described.map_or("-", |d| d.method.as_str()),
            host: described.and_then(|d| d.host.as_ref()).map(HeaderValue::as_bytes),
            path: described.map_or(b"-", |d| d.uri.path().as_bytes()),
            query: described.and_then(|d| d.uri.query()).map(str::as_bytes),
            proto: described.map_or("HTTP/1.1", |d| proto(d.version)),
            status: self.final_status(),
            bytes_in: self.connection.activity.body_bytes_in.get(),
            bytes_out: self.bytes_out,
            duration,
            queue: self.waits.queue,
            held: self.waits.held,
            connect: self.waits.connect,
            ttfb: self.waits.ttfb,
            service: self.service.as_ref().map(|service| service.name.as_str()),
            backend: self.backend.as_ref().map(|backend| &*backend.name),
            attempts: self.attempts,
            attempt_list: &self.attempt_list,
            upstream_status: self.upstream_status.map(|status| status.as_u16()),
            reason: self.reason,
            tls_version: None,
            user_agent: described.and_then(|d| d.user_agent.as_ref()).map(HeaderValue::as_bytes),
            referer: described.and_then(|d| d.referer.as_ref()).map(HeaderValue::as_bytes),
        });
    }
}

fn proto(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.status.is_none() && self.reason.is_none() {
            // Dropped while it was served: hyper lets go of a request when its client does, or we do, else it is our bug.
            self.reason = Some(match std::thread::panicking() {
                true => FailureKind::Internal,
                false => self.connection.body_failure().unwrap_or(FailureKind::ClientClosed),
            });
        }
        let now = clock::now();
        let duration = now.since(self.started);
        self.count(duration);
        self.log(duration);
        let activity = &self.connection.activity;
        activity.leave_backend();
        // The beginning of the next head may have come along with this request: no read will begin its time.
        let next = if activity.mid_message.load(Relaxed) { Phase::Head } else { Phase::Idle };
        activity.enter(next, now);
    }
}
