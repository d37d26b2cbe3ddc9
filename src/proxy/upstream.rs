//! A connection to a backend: opened, used for one request at a time, and polled by the task that uses it.
//! It promises to tell whether the backend can have seen a request that failed. It does not choose backends, does not
//! retry, and does not know where it waits between requests: that is `pool`'s.
//!
//! No task is spawned per connection and nothing is handed over between tasks: whoever uses a connection writes its request
//! and reads its answer.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::Frame;

use crate::config::checked::KeepAlive;
use crate::error::{FailureKind, ProxyError};
use crate::http::signature::Signature;
use crate::lifecycle::clock;
use crate::net::dial::dial;
use crate::net::stream::Stream;
use crate::proxy::request_body::RequestBody;
use crate::proxy::rest::Rest;
use crate::proxy::retry::Exposure;
use crate::proxy::timer::Timer;
use crate::runtime::backend::Backend;
use crate::units::Moment;

mod inbox;
mod outbox;

use inbox::{Broken, Inbox, Told};
use outbox::{Outbox, Unsent};

/// Not a standard field, but every server that closes idle connections says so in it.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// A backend that advertises its idle limit closes about then; we stop reusing this much earlier.
const ADVERTISED_IDLE_MARGIN: Duration = Duration::from_millis(500);
/// A deadline that is noticed this late was missed by a process that did not run (SIGSTOP, a suspended machine), not by
/// the backend; it gets this much longer, once.
const OVERSLEPT: Duration = Duration::from_millis(100);
const AFTER_SLEEP: Duration = Duration::from_millis(250);

/// One open connection to a backend.
pub(crate) struct Upstream {
    /// Whose it is.
    pub(crate) backend: Arc<Backend>,
    stream: Stream,
    outbox: Outbox,
    inbox: Inbox,
    /// Of the present request.
    method: Method,
    /// What is left of a body whose answer began before its end.
    unfinished: RequestBody,
    born: Moment,
    uses: u32,
    pub(super) rest: Arc<Rest>,
    /// Wakes `rest`.
    waker_of_rest: Waker,
    /// How long it rested before the request that it serves, or served last.
    rested: Duration,
    pub(super) advertised_idle: Option<Duration>,
}

/// A request without a response head.
pub(crate) struct Lost {
    /// What to tell.
    pub(crate) error: ProxyError,
    /// How much of the request the backend may have seen.
    pub(crate) exposure: Exposure,
}

/// Why an exchange stopped.
enum Stopped {
    /// The socket took nothing of the request.
    Refused(io::Error),
    /// The client did not send its body as it had to.
    Body(ProxyError),
    /// The answer broke off, or is none.
    Answer(Broken),
}

impl Upstream {
    /// Opens a connection to `backend` within `timeout`.
    pub(crate) async fn open(backend: Arc<Backend>, timeout: Duration) -> Result<Box<Self>, ProxyError> {
        let stream = dial(backend.address, timeout).await?;
        if backend.instance.is_some() && backend.is_retired() {
            // The container left while it was dialled: its address may be another one's by now. Nothing was sent.
            return Err(FailureKind::ConnectRefused.into());
        }
        Ok(Box::new(Self::over(stream, backend)))
    }

    fn over(stream: Stream, backend: Arc<Backend>) -> Self {
        let rest = Arc::new(Rest::default());
        Self {
            backend,
            stream,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            method: Method::GET,
            unfinished: RequestBody::Empty,
            born: clock::now(),
            uses: 0,
            waker_of_rest: Waker::from(rest.clone()),
            rest,
            rested: Duration::ZERO,
            advertised_idle: None,
        }
    }

    /// Whether a request was sent over it before.
    pub(crate) fn is_reused(&self) -> bool {
        self.uses > 1
    }

    /// Sends `request` and waits for the response head until `deadline`. The request stays where it is, so that it can be
    /// sent again; only a body of which the answer does not await the end goes with the connection.
    pub(crate) async fn send(
        &mut self,
        request: &mut Request<RequestBody>,
        signature: &Signature<'_>,
        deadline: Deadline<'_>,
    ) -> Result<Response<()>, Lost> {
        self.begin(request, signature);
        let mut now = deadline.now;
        let body = request.body_mut();
        let mut at = deadline.at;
        let stopped = poll_fn(|cx| {
            if let Poll::Ready(answer) = self.poll_answer(body, cx) {
                return Poll::Ready(Some(answer));
            }
            ready!(deadline.timer.poll_deadline(at, now.take(), cx));
            let present = clock::now();
            if at > deadline.at || present.since(at) < OVERSLEPT {
                return Poll::Ready(None);
            }
            // It was we who slept, in mid-request: the answer may be in the next turn of the reactor.
            at = present.after(AFTER_SLEEP);
            deadline.timer.poll_deadline(at, Some(present), cx).map(|()| None)
        });
        match stopped.await {
            Some(Ok(response)) => {
                if !self.outbox.is_done() {
                    self.unfinished = request.body_mut().take_rest();
                }
                Ok(response)
            }
            Some(Err(stopped)) => Err(self.failure(stopped)),
            None => Err(Lost { error: deadline.kind.into(), exposure: Exposure::Sent }),
        }
    }

    fn begin(&mut self, request: &mut Request<RequestBody>, signature: &Signature<'_>) {
        request.body_mut().rewind();
        self.uses = self.uses.saturating_add(1);
        if self.method != *request.method() {
            self.method = request.method().clone();
        }
        self.outbox.begin(request, signature);
        self.inbox.begin();
    }

    /// Writes and reads until the head of the answer is here.
    fn poll_answer(&mut self, body: &mut RequestBody, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Stopped>> {
        loop {
            self.send_more(Some(body), cx)?;
            match self.inbox.poll_head(&mut self.stream, &self.method, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Told::Answer(response))) => return Poll::Ready(Ok(response)),
                Poll::Ready(Ok(Told::GoAhead)) => body.go_ahead(),
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(Stopped::Answer(broken))),
            }
        }
    }

    /// Writes what the socket takes of `body`, or of what is left of one.
    fn send_more(&mut self, body: Option<&mut RequestBody>, cx: &mut Context<'_>) -> Result<(), Stopped> {
        if self.outbox.is_done() {
            return Ok(());
        }
        match self.outbox.poll_send(&mut self.stream, body.unwrap_or(&mut self.unfinished), cx) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Unsent::Body(error))) => Err(Stopped::Body(error)),
            Poll::Ready(Err(Unsent::Socket(error))) if !self.outbox.has_begun() => Err(Stopped::Refused(error)),
            // It may have answered before it closed: reading shows that, or the same end.
            Poll::Ready(Err(Unsent::Socket(_))) => Ok(()),
        }
    }

    fn failure(&self, stopped: Stopped) -> Lost {
        let exposure = if matches!(stopped, Stopped::Refused(_)) { Exposure::Unsent } else { Exposure::Sent };
        let error = match stopped {
            Stopped::Refused(error) => self.broken(Broken::Socket(error)),
            Stopped::Body(error) => error,
            Stopped::Answer(broken) => self.broken(broken),
        };
        Lost { error, exposure }
    }

    /// What it means that nothing more comes. A connection that ends before the first byte of an answer was closed while it
    /// rested, or is treated so: its backend's idle limit is known better then.
    fn broken(&self, broken: Broken) -> ProxyError {
        let kind = match broken.is_of_connection() {
            false => FailureKind::UpstreamProtocol,
            true if self.is_reused() && !self.inbox.has_heard() => {
                self.backend.idle_limit.closed_after(self.rested);
                FailureKind::StaleConnection
            }
            true => FailureKind::UpstreamReset,
        };
        ProxyError::new(kind, broken)
    }

    /// The next frame of the answer's body; meanwhile the rest of the request goes up.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Err(Stopped::Body(error)) = self.send_more(None, cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = self.inbox.poll_frame(&mut self.stream, cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|broken| self.broken(broken))))
    }

    /// The next frame of the answer's body, if it was read along with the one before it.
    pub(crate) fn frame_here(&mut self) -> Result<Option<Frame<Bytes>>, ProxyError> {
        self.inbox.frame_here().map_err(|broken| self.broken(broken))
    }

    /// Whether the answer is here to its last byte.
    pub(crate) fn is_answered(&self) -> bool {
        self.inbox.is_complete()
    }

    /// How many bytes of the answer's body are to come, if the backend said so.
    pub(crate) fn body_length(&self) -> Option<u64> {
        self.inbox.length()
    }

    /// The raw stream behind a 101, and what was read past its head.
    pub(crate) fn into_raw(self) -> (Stream, Bytes) {
        (self.stream, self.inbox.into_surplus())
    }

    /// Notes what the response says about the connection's past and future.
    pub(crate) fn note_response(&mut self, headers: &HeaderMap) {
        self.backend.idle_limit.survived(self.rested);
        if let Some(keep_alive) = headers.get(KEEP_ALIVE).and_then(|value| value.to_str().ok()) {
            self.advertised_idle = advertised_timeout(keep_alive);
        }
    }

    /// Whether it may be used again after `rested`, by its age.
    pub(super) fn is_reusable(&self, policy: &KeepAlive, rested: Duration, now: Moment) -> bool {
        let idle_limit = self.advertised_idle.map_or(policy.idle, |idle| idle.saturating_sub(ADVERTISED_IDLE_MARGIN));
        let fresh = rested < idle_limit && now.since(self.born) < policy.max_age;
        let unused = policy.max_requests.is_none_or(|limit| self.uses < limit.get());
        fresh && unused
    }

    /// Whether its backend closed it while it rested. If so, the backend's idle limit is known better.
    pub(super) fn has_ended(&mut self) -> bool {
        let Some(rested) = self.rest.undisturbed() else { return false };
        if self.is_silent() {
            self.rest.settle();
            return false;
        }
        self.backend.idle_limit.closed_after(rested);
        true
    }

    /// Closes it at once. For connections at rest only: nothing is on its way that a reset could destroy.
    pub(super) fn reset(self) {
        self.stream.reset();
    }

    /// Ends its rest for the next request.
    pub(super) fn rouse(&mut self, rested: Duration) {
        self.rested = rested;
        self.rest.end();
        self.rest.leave();
    }

    /// Whether the last exchange is over on both sides. If so, what comes next disturbs its rest.
    pub(super) fn is_clean(&mut self) -> bool {
        if !self.inbox.is_clean() || !self.outbox.is_done() || !self.is_silent() {
            return false;
        }
        self.outbox.rest();
        self.inbox.rest();
        true
    }

    /// Whether nothing is there to read; if so, what comes next disturbs the rest, and nobody else is woken.
    fn is_silent(&mut self) -> bool {
        let mut rest = Context::from_waker(&self.waker_of_rest);
        let is_silent = self.inbox.poll_fill(&mut self.stream, &mut rest).is_pending();
        if is_silent {
            self.rest.watch()
        } else {
            self.rest.leave()
        }
        is_silent
    }
}

/// A point in time with the failure that passing it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline<'a> {
    pub(crate) at: Moment,
    pub(crate) kind: FailureKind,
    /// The present, if it was read a moment ago.
    pub(crate) now: Option<Moment>,
    /// Of the connection that waits.
    pub(crate) timer: &'a Timer,
}

/// `timeout=5, max=100` → 5 s. RFC 9112 has no such field; every server that closes idle connections sends it so.
fn advertised_timeout(keep_alive: &str) -> Option<Duration> {
    let parameter = |part: &str| part.trim().strip_prefix("timeout=").and_then(|secs| secs.trim().parse().ok());
    keep_alive.split(',').find_map(parameter).map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
