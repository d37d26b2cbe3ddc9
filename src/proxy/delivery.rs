//! Sends one attempt's request to its backend and waits for the response head.
//! It promises that what comes back says whether the request can be sent again, and how much of it the backend may have
//! seen. It decides on no further attempt and records no outcome.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};

use crate::error::{FailureKind, ProxyError};
use crate::http::patience::{X_PORTWAY_TIMEOUT_MS, timeout_value};
use crate::http::signature::Signature;
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::connection::Connection;
use crate::proxy::pool::Need;
use crate::proxy::request_body::RequestBody;
use crate::proxy::retry::{self, Exposure, Replay};
use crate::proxy::upstream::{Deadline, Lost, Upstream};
use crate::units::Moment;

/// Before it is tried again to open a connection for which there was no descriptor.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);

/// Frames of an answer that nobody gets: a backend that sends more than these at once is not worth the time of the others.
const DISCARDED_FRAMES_MAX: usize = 16;

/// Requests at one backend from which on they go in step. A few dozen gain nothing by it, and lose about 3 %.
const CROWD_MIN: u32 = 128;

/// What the attempts of one request have in common.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) connection: &'a Connection,
    /// Of the whole request.
    pub(crate) deadline: Moment,
    pub(crate) tell: Tell,
    pub(crate) signature: Signature<'a>,
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
    pub(crate) response: Response<()>,
    /// When it came.
    pub(crate) at: Moment,
}

impl Answer {
    /// Nobody gets this answer. What is here whole leaves a connection for the next request; the others are closed.
    pub(crate) fn discard(mut self, connection: &Connection, now: Moment) {
        self.upstream.note_response(self.response.headers());
        let mut nobody = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED_FRAMES_MAX {
            let Poll::Ready(Some(Ok(_))) = self.upstream.poll_frame(&mut nobody) else { break };
        }
        if self.upstream.is_answered() {
            connection.worker.pools.give(self.upstream, now);
        }
    }
}

impl Errand<'_> {
    /// Sends `request` as `attempt`. A pooled connection that was closed before a byte was sent costs nothing: the request
    /// goes over a fresh one at once.
    pub(crate) async fn run(&self, attempt: &Attempt, way: Way, request: &mut Request<RequestBody>) -> Sent {
        keep_in_step(attempt).await; // before a connection is chosen: what is known of it shall be news
        let mut pooled = if way == Way::Pooled { self.pooled(attempt, request) } else { None };
        let mut connect = None;
        loop {
            let upstream = match pooled.take() {
                Some(upstream) => upstream,
                None => {
                    let (opened, took) = self.connect(attempt).await;
                    connect = Some(took);
                    match opened {
                        Ok(upstream) => upstream,
                        Err(error) => {
                            return Sent { outcome: Err(Lost { error, exposure: Exposure::Unsent }), connect };
                        }
                    }
                }
            };
            match self.send(attempt, upstream, connect, request).await {
                Err(lost)
                    if retry::is_replayed_at_once(lost.error.kind, lost.exposure)
                        && request.body().replay() == Replay::Possible =>
                {
                    attempt.service().metrics.retried(FailureKind::StaleConnection);
                }
                outcome => return Sent { outcome, connect },
            }
        }
    }

    fn pooled(&self, attempt: &Attempt, request: &Request<RequestBody>) -> Option<Box<Upstream>> {
        let pools = &self.connection.worker.pools;
        let need = if can_be_repeated(request) { Need::Open } else { Need::Sure };
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
        }
        (opened, clock::now().since(began))
    }

    async fn send(
        &self,
        attempt: &Attempt,
        mut upstream: Box<Upstream>,
        connect: Option<Duration>,
        request: &mut Request<RequestBody>,
    ) -> Result<Answer, Lost> {
        let deadline = self.response_deadline(attempt, connect, request);
        if self.tell == Tell::Deadline {
            let left = self.deadline.since(attempt.began.after(connect.unwrap_or_default()));
            request.headers_mut().insert(X_PORTWAY_TIMEOUT_MS, timeout_value(left));
        }
        let sent = upstream.send(request, &self.signature, deadline).await;
        let response = sent.map_err(|lost| self.blamed(lost))?;
        keep_in_step(attempt).await;
        Ok(Answer { upstream, response, at: clock::now() })
    }

    /// A deadline that passed while the client owed its body is the client's.
    #[cold]
    fn blamed(&self, mut lost: Lost) -> Lost {
        if lost.error.kind == FailureKind::Deadline {
            lost.error.kind = self.connection.overdue();
        }
        lost
    }

    /// The timeout of the response head begins when the request is sent; while a body is still coming from the client,
    /// only the deadline of the whole request holds.
    fn response_deadline(
        &self,
        attempt: &Attempt,
        connect: Option<Duration>,
        request: &Request<RequestBody>,
    ) -> Deadline<'_> {
        let timer = &self.connection.timer;
        let head = attempt.began.after(attempt.service().policy.timeouts.response);
        let now = connect.is_none().then_some(attempt.began);
        if head < self.deadline && !matches!(request.body(), RequestBody::Streaming(_)) {
            return Deadline { at: head, kind: FailureKind::ResponseTimeout, now, timer };
        }
        Deadline { at: self.deadline, kind: FailureKind::Deadline, now, timer }
    }
}

/// In a crowd, lets the others come this far first, so that all write at the same time. Writes that come one by one wake
/// the process at the other end for each: with 2,000 clients that was a quarter of all CPU (1.06 against 0.79 × HAProxy in
/// interleaved rounds of `wrk`; `benches/peers` has the present figure).
async fn keep_in_step(attempt: &Attempt) {
    if attempt.backend().in_flight() >= CROWD_MIN {
        after_the_ready().await;
    }
}

/// Goes to the end of the line of tasks that are ready. `tokio::task::yield_now` goes further: it lets the kernel be asked for
/// more of them first, which costs a tenth here.
fn after_the_ready() -> impl Future<Output = ()> {
    let mut is_at_the_end = false;
    poll_fn(move |cx| {
        if mem::replace(&mut is_at_the_end, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Whether it could be sent once more if its connection turned out to be closed.
fn can_be_repeated(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && !matches!(request.body(), RequestBody::Streaming(_))
}
