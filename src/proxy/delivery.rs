//! Sends one attempt's request to its backend and waits for the response head.
//! It promises that what comes back says whether the request can be sent again, and how much of it the backend may have
//! seen. It decides on no further attempt and records no outcome.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::error::{FailureKind, ProxyError};
use crate::http::patience::{X_PORTWAY_TIMEOUT_MS, timeout_value};
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::connection::Connection;
use crate::proxy::pool::Need;
use crate::proxy::request_body::{self, RequestBody};
use crate::proxy::retry::{self, Exposure, Replay};
use crate::proxy::upstream::{Deadline, SendFailure, Upstream};
use crate::units::Moment;

/// Before it is tried again to open a connection for which there was no descriptor.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);

/// What the attempts of one request have in common.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) connection: &'a Connection,
    /// Under which its head goes out.
    pub(crate) request_id: &'a str,
    /// Of the whole request.
    pub(crate) deadline: Moment,
    pub(crate) tell: Tell,
    pub(crate) keep: Keep,
}

/// Whether a copy of the request is kept until its answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The answer itself may be a reason to send the request again.
    Copy,
    /// The head that was written and the spare body are enough where no answer comes.
    Nothing,
}

/// Whether the backend learns how much time is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// In `x-portway-timeout-ms`.
    Deadline,
    Nothing,
}

/// How a connection is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One that is open already, if there is one.
    Pooled,
    /// A new one: what follows a failure must not meet the next stale connection.
    Fresh,
}

/// How an attempt went.
pub(crate) struct Sent {
    pub(crate) outcome: Result<Answer, Lost>,
    /// Waited for a connection; `None` if a pooled one was taken.
    pub(crate) connect: Option<Duration>,
}

/// A response head, with the connection on which its body follows.
pub(crate) struct Answer {
    pub(crate) upstream: Box<Upstream>,
    pub(crate) response: Response<Incoming>,
    pub(crate) spare: Spare,
}

/// What is at hand of a request that was sent.
pub(crate) enum Spare {
    /// Part of it is gone.
    Nothing,
    /// Its body; the connection knows its head.
    Body(RequestBody),
    /// All of it.
    Request(Box<Request<RequestBody>>),
}

/// An attempt without a response head.
pub(crate) struct Lost {
    pub(crate) error: ProxyError,
    pub(crate) exposure: Exposure,
    /// The same request once more, if it is all at hand.
    pub(crate) request: Option<Box<Request<RequestBody>>>,
}

impl Answer {
    /// Whether the request that it answers can be sent once more.
    pub(crate) fn replay(&self) -> Replay {
        if matches!(self.spare, Spare::Nothing) { Replay::Impossible } else { Replay::Possible }
    }

    /// Nobody gets this answer: gives the request that it answered, called `request_id`. Without a copy the connection is
    /// closed for it.
    pub(crate) fn into_request(self, errand: &Errand<'_>, now: Moment) -> Option<Box<Request<RequestBody>>> {
        match self.spare {
            Spare::Request(request) => {
                discard(self.upstream, self.response, errand.connection, now);
                Some(request)
            }
            spare => spare.into_request(self.upstream, errand.request_id),
        }
    }

    /// Nobody gets this answer.
    pub(crate) fn discard(self, connection: &Connection, now: Moment) {
        discard(self.upstream, self.response, connection, now);
    }
}

/// What is here whole leaves a connection for the next request; the others are closed.
fn discard(mut upstream: Box<Upstream>, response: Response<Incoming>, connection: &Connection, now: Moment) {
    let (head, mut incoming) = response.into_parts();
    upstream.note_response(&head.headers);
    upstream.drive_quietly();
    let mut nobody = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut incoming).poll_frame(&mut nobody) {}
    if incoming.is_end_stream() {
        connection.worker.pools.give(upstream, now);
    }
}

impl Spare {
    /// The request called `request_id` once more, which was sent over `upstream` last; that connection is closed.
    pub(crate) fn into_request(self, upstream: Box<Upstream>, request_id: &str) -> Option<Box<Request<RequestBody>>> {
        match self {
            Spare::Nothing => None,
            Spare::Body(body) => upstream.into_sent_head()?.into_request(request_id, body).map(Box::new),
            Spare::Request(request) => Some(request),
        }
    }
}

impl Lost {
    fn unsent(error: ProxyError, request: Option<Request<RequestBody>>) -> Self {
        Self { error, exposure: Exposure::Unsent, request: request.map(Box::new) }
    }

    fn is_replayed_at_once(&self) -> bool {
        self.request.is_some() && retry::is_replayed_at_once(self.error.kind, self.exposure)
    }
}

impl Errand<'_> {
    /// Sends `request` as `attempt`. A pooled connection that was closed before a byte was sent costs nothing: the request
    /// goes over a fresh one at once.
    pub(crate) async fn run(&self, attempt: &Attempt, way: Way, request: &mut Option<Request<RequestBody>>) -> Sent {
        let mut pooled = if way == Way::Pooled { self.pooled(attempt, request.as_ref()) } else { None };
        let mut connect = None;
        loop {
            let upstream = match pooled.take() {
                Some(upstream) => upstream,
                None => {
                    let (opened, took) = self.connect(attempt).await;
                    connect = Some(took);
                    match opened {
                        Ok(upstream) => upstream,
                        Err(error) => return Sent { outcome: Err(Lost::unsent(error, request.take())), connect },
                    }
                }
            };
            match self.send(attempt, upstream, connect, request).await {
                Err(lost) if lost.is_replayed_at_once() => {
                    *request = lost.request.map(|same| *same);
                    attempt.service().metrics.retried(FailureKind::StaleConnection);
                }
                outcome => return Sent { outcome, connect },
            }
        }
    }

    fn pooled(&self, attempt: &Attempt, request: Option<&Request<RequestBody>>) -> Option<Box<Upstream>> {
        let pools = &self.connection.worker.pools;
        let need = if request.is_some_and(can_be_repeated) { Need::Open } else { Need::Sure };
        pools.take(attempt.backend(), &attempt.service().policy.keepalive, need, attempt.began)
    }

    async fn connect(&self, attempt: &Attempt) -> (Result<Box<Upstream>, ProxyError>, Duration) {
        let began = clock::now();
        let timeout = attempt.service().policy.timeouts.connect.min(self.deadline.since(began));
        let mut opened = Upstream::open(attempt.backend().clone(), timeout).await;
        // Out of descriptors, those that rest in the pools are better used for a request that is here; those in the pools
        // of other workers are given up at their next sweep.
        while opened.as_ref().is_err_and(|error| error.kind == FailureKind::Overloaded)
            && clock::now() < began.after(timeout)
        {
            self.connection.worker.pools.clear();
            Box::pin(tokio::time::sleep(DESCRIPTOR_PAUSE)).await; // boxed: no request shall carry its timer
            opened = Upstream::open(attempt.backend().clone(), timeout).await;
        }
        if opened.is_err() {
            // Its name may have moved to another address.
            self.connection.worker.store.want_resolution();
        } else if attempt.backend().instance.is_some() && attempt.backend().is_retired() {
            // The container left while it was dialled: its address may be another one's by now. Nothing was sent.
            opened = Err(FailureKind::ConnectRefused.into());
        }
        (opened, clock::now().since(began))
    }

    async fn send(
        &self,
        attempt: &Attempt,
        mut upstream: Box<Upstream>,
        connect: Option<Duration>,
        cargo: &mut Option<Request<RequestBody>>,
    ) -> Result<Answer, Lost> {
        let request = cargo.as_mut().expect("an attempt begins with a request");
        let spare = self.spare(request);
        let deadline = self.response_deadline(attempt, connect, request);
        if self.tell == Tell::Deadline {
            let left = self.deadline.since(attempt.began.after(connect.unwrap_or_default()));
            request.headers_mut().insert(X_PORTWAY_TIMEOUT_MS, timeout_value(left));
        }
        match upstream.send(cargo, &self.connection.timer, deadline).await {
            Ok(response) => Ok(Answer { upstream, response, spare }),
            Err(SendFailure { error, unsent, head, exposure }) => {
                let rebuilt = || match spare {
                    Spare::Nothing => None,
                    Spare::Body(body) => head?.into_request(self.request_id, body).map(Box::new),
                    Spare::Request(copy) => Some(copy),
                };
                Err(Lost { error, exposure, request: unsent.or_else(rebuilt) })
            }
        }
    }

    fn spare(&self, request: &Request<RequestBody>) -> Spare {
        match self.keep {
            Keep::Copy => request_body::copy(request).map_or(Spare::Nothing, |copy| Spare::Request(Box::new(copy))),
            Keep::Nothing => request.body().replay().map_or(Spare::Nothing, Spare::Body),
        }
    }

    /// The timeout of the response head begins when the request is sent; while a body is still coming from the client,
    /// only the deadline of the whole request holds.
    fn response_deadline(
        &self,
        attempt: &Attempt,
        connect: Option<Duration>,
        request: &Request<RequestBody>,
    ) -> Deadline {
        let head = attempt.began.after(attempt.service().policy.timeouts.response);
        let now = connect.is_none().then_some(attempt.began);
        if head < self.deadline && !matches!(request.body(), RequestBody::Streaming(_)) {
            return Deadline { at: head, kind: FailureKind::ResponseTimeout, now };
        }
        Deadline { at: self.deadline, kind: FailureKind::Deadline, now }
    }
}

/// Whether it could be sent once more if its connection turned out to be closed.
fn can_be_repeated(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && !matches!(request.body(), RequestBody::Streaming(_))
}
