//! The core: one request becomes attempts at backends until one answers.
//! It promises that a backend is taken only when the request is ready for it, and given back on every way out.
//! It chooses no backend ([`balance`](crate::balance)), decides no retry ([`retry`]), writes no log.

use std::future::poll_fn;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, request, response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::error::{FailureKind, ProxyError};
use crate::http::framing::ResponseBody;
use crate::http::leaving;
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::body::ProxyBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::handler::ActiveRoute;
use crate::proxy::inbound;
use crate::proxy::outbound::{self, Outbound, Upgrade};
use crate::proxy::relay::{Source, Start};
use crate::proxy::request_body::RequestBody;
use crate::proxy::retry::{self, Exposure, Failed, Replay, Verdict};
use crate::proxy::tunnel::Tunnel;
use crate::proxy::upstream::{Deadline, SendFailure, Upstream};
use crate::runtime::group::{Unavailable, Wish};
use crate::runtime::service::{Lease, Service};
use crate::runtime::standing::Reason;

/// Forwards a request to its service and returns the head of the response; the body follows through the connection.
pub(crate) async fn run(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    head: request::Parts,
    body: Incoming,
) -> Result<Response<ProxyBody>, ProxyError> {
    let deadline = clock::instant_at(exchange.started.after(route.service.policy.timeout));
    // Read ahead first, take a backend second: a slow client must not hold a worker of the backend.
    let outbound = outbound::prepare(exchange, route, head, body).await?;
    let lease = take_backend(exchange, &route.service, &outbound, deadline).await?;
    if exchange.is_logged() {
        exchange.backend = Some(lease.backend.clone());
    }
    exchange.attempts += 1;
    // Without a wait since the head, now is still then: reading the clock costs as much as choosing the backend.
    let began = if exchange.has_waited() { clock::now() } else { exchange.started };
    exchange.connection.activity.enter_backend(lease.backend.id);
    let attempt = Attempt::begin(lease, began);
    Delivery { exchange, attempt, deadline }.run(outbound).await
}

/// Takes a place at a backend, waiting in line for it if every backend is at its limit.
async fn take_backend(
    exchange: &mut Exchange,
    service: &Arc<Service>,
    outbound: &Outbound,
    deadline: Instant,
) -> Result<Lease, ProxyError> {
    let wish = Wish { now: exchange.started, key: outbound.key, tried: &[], stake: outbound.stake() };
    if service.group.queue.is_empty() {
        match service.acquire(&wish) {
            Ok(lease) => return Ok(lease),
            Err(Unavailable::Empty) => return Err(FailureKind::NoHealthyBackend.into()),
            Err(Unavailable::Full) => {}
        }
    }
    let lease = wait_in_line(service, &wish, deadline).await;
    exchange.waits.queue = Some(clock::now().since(exchange.started));
    lease
}

async fn wait_in_line(service: &Arc<Service>, wish: &Wish<'_>, deadline: Instant) -> Result<Lease, ProxyError> {
    let Some(waiter) = service.group.queue.enter(service.policy.queue.size) else {
        service.metrics.queue_was_full();
        return Err(FailureKind::QueueFull.into());
    };
    let turn = async {
        let first = waiter.first().await;
        loop {
            match service.acquire(wish) {
                Ok(lease) => return Ok(lease),
                Err(Unavailable::Empty) => return Err(FailureKind::NoHealthyBackend.into()),
                Err(Unavailable::Full) => first.freed().await,
            }
        }
    };
    let patience = Instant::now() + service.policy.queue.timeout;
    match tokio::time::timeout_at(patience.min(deadline), turn).await {
        Ok(lease) => lease,
        Err(_) if deadline <= patience => Err(FailureKind::Deadline.into()),
        Err(_) => {
            service.metrics.queue_timed_out();
            Err(FailureKind::QueueTimeout.into())
        }
    }
}

/// A request in the hands of one backend.
struct Delivery<'a> {
    exchange: &'a mut Exchange,
    attempt: Attempt,
    deadline: Instant,
}

impl Delivery<'_> {
    /// Sends the request, once more on a fresh connection if the pooled one turns out to be stale.
    async fn run(mut self, outbound: Outbound) -> Result<Response<ProxyBody>, ProxyError> {
        let Outbound { mut request, upgrade, .. } = outbound;
        let method = request.method().clone();
        let mut pooled = self.pooled();
        let mut replays = 0;
        loop {
            let mut upstream = match pooled.take() {
                Some(upstream) => upstream,
                None => match self.connect().await {
                    Ok(upstream) => upstream,
                    Err(error) => return Err(self.failed(error)),
                },
            };
            let spare = request.body().replay();
            let response_deadline = self.response_deadline(&request);
            match upstream.send(request, &self.exchange.connection.timer, response_deadline).await {
                Ok(response) => return self.answered(upstream, response, &method, upgrade).await,
                Err(failure) => match again(failure, spare, replays, &method) {
                    Ok(same_request) => request = same_request,
                    Err(error) => return Err(self.failed(error)),
                },
            }
            self.attempt.service().metrics.retried(FailureKind::StaleConnection);
            replays += 1;
        }
    }

    fn pooled(&self) -> Option<Box<Upstream>> {
        let pools = &self.exchange.connection.worker.pools;
        pools.take(self.attempt.backend(), &self.attempt.service().policy.keepalive, self.attempt.began)
    }

    async fn connect(&mut self) -> Result<Box<Upstream>, ProxyError> {
        let began = clock::now();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = self.attempt.service().policy.timeouts.connect.min(left);
        let opened = Upstream::open(self.attempt.backend().clone(), timeout).await;
        self.exchange.waits.connect = Some(clock::now().since(began));
        if opened.is_err() {
            // Its name may have moved to another address.
            self.exchange.connection.worker.store.want_resolution();
        }
        opened
    }

    /// The timeout of the response head begins when the request is sent; while a body is still coming from the client,
    /// only the deadline of the whole request holds.
    fn response_deadline(&mut self, request: &Request<RequestBody>) -> Deadline {
        let policy = &self.attempt.service().policy;
        let whole = self.exchange.started.after(policy.timeout);
        let head = self.attempt.began.after(policy.timeouts.response);
        let now = self.exchange.waits.connect.is_none().then_some(self.attempt.began);
        if matches!(request.body(), RequestBody::Streaming(_)) {
            self.attempt.streams_body();
        } else if head < whole {
            return Deadline { at: head, kind: FailureKind::ResponseTimeout, now };
        }
        Deadline { at: whole, kind: FailureKind::Deadline, now }
    }

    fn failed(self, error: ProxyError) -> ProxyError {
        self.attempt.fail(error.kind);
        error
    }

    /// Hands the response on; what is left of its body follows through the connection.
    async fn answered(
        mut self,
        mut upstream: Box<Upstream>,
        response: Response<Incoming>,
        method: &Method,
        upgrade: Upgrade,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let status = response.status();
        let now = clock::now();
        self.attempt.head_arrived(status, response.headers(), now);
        self.exchange.upstream_status = Some(status);
        self.exchange.waits.ttfb = Some(now.since(self.exchange.started));
        let (mut head, incoming) = response.into_parts();
        upstream.note_response(&head.headers);
        if leaving::is_leaving(status, &head.headers) {
            self.leave_alone();
            head.headers.remove(leaving::DRAIN);
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return self.upgraded(upstream, head, upgrade).await;
        }
        let (allowed, cleaned) = match inbound::clean(&mut head, method) {
            Ok(clean) => clean,
            Err(kind) => return Err(self.failed(kind.into())),
        };
        if allowed == ResponseBody::Forbidden && !incoming.is_end_stream() {
            self.attempt.complete(status, now); // its connection has bytes on it that belong to nobody, and is not kept
            return Ok(Response::from_parts(head, ProxyBody::empty()));
        }
        let connection = &self.exchange.connection;
        let source = Source { upstream, attempt: self.attempt, status, cleaned };
        let body = match Start::of(source, incoming, connection, now) {
            Start::Whole(bytes) => ProxyBody::whole(bytes),
            Start::Broken(error) => return Err(error),
            Start::Open(relay) => {
                let length = relay.length();
                connection.set_relay(relay);
                ProxyBody::relayed(connection.clone(), length)
            }
        };
        Ok(Response::from_parts(head, body))
    }

    /// The backend asked to be left alone: it takes nothing more until control says otherwise.
    #[cold]
    fn leave_alone(&mut self) {
        self.attempt.excuse();
        if self.attempt.backend().standing.add(Reason::Leaving) {
            self.exchange.connection.worker.store.note_change();
        }
    }

    /// Keeps the raw upstream connection for the tunnel that begins when the 101 is sent.
    async fn upgraded(
        self,
        mut upstream: Box<Upstream>,
        mut head: response::Parts,
        upgrade: Upgrade,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        if let Err(kind) = inbound::clean_upgrade(&mut head, upgrade) {
            return Err(self.failed(kind.into()));
        }
        let Some((stream, early)) = poll_fn(|cx| upstream.poll_into_raw(cx)).await else {
            return Err(self.failed(FailureKind::UpstreamReset.into()));
        };
        let tunnel = Tunnel { upstream: stream.into_stream(), early, attempt: self.attempt, exchange: None };
        self.exchange.connection.set_tunnel(Box::new(tunnel));
        Ok(Response::from_parts(head, ProxyBody::empty()))
    }
}

/// The same request once more, if it may be sent once more; else the failure.
fn again(
    failure: SendFailure,
    spare: Option<RequestBody>,
    replays: u32,
    method: &Method,
) -> Result<Request<RequestBody>, ProxyError> {
    let SendFailure { error, unsent, sent_head } = failure;
    let (exposure, whole) = match (&unsent, &sent_head) {
        (Some(_), _) => (Exposure::Unsent, true),
        (None, Some(_)) => (Exposure::Sent, spare.is_some()),
        (None, None) => (Exposure::Answered, false),
    };
    let body = if whole { Replay::Possible } else { Replay::Impossible };
    let verdict = retry::verdict(&Failed { kind: error.kind, exposure, body, replays }, method);
    let same_request = match verdict {
        Verdict::GiveUp => None,
        Verdict::ReplayOnFreshConnection => match unsent {
            Some(request) => Some(*request),
            None => sent_head.zip(spare).and_then(|(head, body)| head.into_request(body)),
        },
    };
    same_request.ok_or(error)
}
