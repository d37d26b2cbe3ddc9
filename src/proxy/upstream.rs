//! A connection to a backend: opened, used for one request at a time, and polled by the task that uses it.
//! It promises to tell whether the backend can have seen a request that failed. It does not choose backends, does not
//! retry, and does not know where it waits between requests: that is `pool`'s.
//!
//! No task is spawned per connection: the request that uses a connection drives it, so that a response costs no
//! hand-over between tasks.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::config::checked::KeepAlive;
use crate::error::{FailureKind, ProxyError};
use crate::lifecycle::clock;
use crate::net::dial::dial;
use crate::proxy::request_body::RequestBody;
use crate::proxy::rest::{NOBODY, Rest};
use crate::proxy::retry::Exposure;
use crate::proxy::timer::Timer;
use crate::proxy::upstream_stream::{Progress, SentHead, UpstreamStream};
use crate::runtime::backend::Backend;
use crate::units::Moment;

/// Header block of a response: as much as nginx takes with its largest usual buffers.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Read at most this much at once: large enough that a megabyte costs few system calls.
const READ_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Not a standard field, but every server that closes idle connections says so in it.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// A backend that advertises its idle limit closes about then; we stop reusing this much earlier.
const ADVERTISED_IDLE_MARGIN: Duration = Duration::from_millis(500);

/// One open connection to a backend.
pub(crate) struct Upstream {
    /// Whose it is.
    pub(crate) backend: Arc<Backend>,
    sender: SendRequest<RequestBody>,
    driver: Driver,
    born: Moment,
    uses: u32,
    pub(super) rest: Arc<Rest>,
    /// How long it rested before the request that it serves, or served last.
    rested: Duration,
    pub(super) advertised_idle: Option<Duration>,
}

/// hyper's half of a connection: whoever uses the connection polls it.
#[allow(clippy::large_enum_variant, reason = "every upstream is boxed and begins as the large one")]
enum Driver {
    Open(Connection<TokioIo<UpstreamStream>, RequestBody>),
    /// The future is finished: closed, failed, or upgraded. This is what is left of it.
    Ended(UpstreamStream, Bytes),
    /// Taken apart.
    Gone,
}

impl Driver {
    /// Lets hyper read and write what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Driver::Open(connection) = self else { return };
        if Pin::new(connection).poll(cx).is_ready() {
            self.end();
        }
    }

    /// Takes hyper's half apart at once: a request that it was given and never looked at comes back only when it is dropped.
    fn end(&mut self) {
        *self = match std::mem::replace(self, Driver::Gone) {
            Driver::Open(connection) => {
                let parts = connection.into_parts();
                Driver::Ended(parts.io.into_inner(), parts.read_buf)
            }
            other => other,
        };
    }

    /// The raw stream, and what was read past the last message.
    fn into_raw(self) -> Option<(UpstreamStream, Bytes)> {
        match self {
            Driver::Open(connection) => {
                let parts = connection.into_parts();
                Some((parts.io.into_inner(), parts.read_buf))
            }
            Driver::Ended(stream, early) => Some((stream, early)),
            Driver::Gone => None,
        }
    }
}

/// Why no response head came.
pub(crate) struct SendFailure {
    /// What to tell.
    pub(crate) error: ProxyError,
    /// The request, if hyper has not looked at it.
    pub(crate) unsent: Option<Box<Request<RequestBody>>>,
    /// The head that was written, or should have been: all that a replay needs besides the body.
    pub(crate) head: Option<SentHead>,
    /// How much of the request the backend may have seen.
    pub(crate) exposure: Exposure,
}

impl Upstream {
    /// Opens a connection to `backend` within `timeout`.
    pub(crate) async fn open(backend: Arc<Backend>, timeout: Duration) -> Result<Box<Self>, ProxyError> {
        let stream = dial(backend.address, timeout).await?;
        if backend.instance.is_some() && backend.is_retired() {
            // The container left while it was dialled: its address may be another one's by now. Nothing was sent.
            return Err(FailureKind::ConnectRefused.into());
        }
        let rest = Arc::new(Rest::default());
        let handshake = Builder::new()
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            // RFC 9112 §5.1: a proxy removes the space before the colon of a response field.
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(UpstreamStream::new(stream, rest.clone())));
        let (sender, connection) =
            handshake.await.map_err(|error| ProxyError::new(FailureKind::ConnectRefused, error))?;
        Ok(Box::new(Self {
            backend,
            sender,
            driver: Driver::Open(connection),
            born: clock::now(),
            uses: 0,
            rest,
            rested: Duration::ZERO,
            advertised_idle: None,
        }))
    }

    /// Whether a request was sent over it before.
    pub(crate) fn is_reused(&self) -> bool {
        self.uses > 1
    }

    /// Lets hyper read and write what it can.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.driver.drive(cx);
    }

    /// Lets hyper do what it can at once, without asking to be woken for the rest.
    ///
    /// Every channel between hyper's half and ours would wake the task that is running anyway, and the task that last used
    /// a connection must not be woken by its next user. Whoever then waits has to [`drive`](Self::drive). If nobody does,
    /// what comes next disturbs the connection's [`Rest`].
    pub(crate) fn drive_quietly(&mut self) {
        self.driver.drive(&mut Context::from_waker(NOBODY));
    }

    /// Sends the request that is in `cargo` and waits for the response head until `deadline`.
    pub(crate) async fn send(
        &mut self,
        cargo: &mut Option<Request<RequestBody>>,
        timer: &Timer,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, SendFailure> {
        self.uses = self.uses.saturating_add(1);
        let request = cargo.take().expect("an attempt begins with a request");
        let mut response = pin!(self.sender.try_send_request(request));
        let mut first_poll = true;
        let mut now = deadline.now;
        let outcome = poll_fn(|cx| {
            let mut nobody = Context::from_waker(NOBODY);
            // The driver first: it writes the request, and it is what a response arrives through. The first poll can only
            // write; those after it nearly always bring the response, and then nobody has to be woken.
            if !first_poll {
                self.driver.drive(&mut nobody);
                if let Poll::Ready(result) = response.as_mut().poll(&mut nobody) {
                    return Poll::Ready(Some(result));
                }
            }
            first_poll = false;
            self.driver.drive(cx);
            if let Poll::Ready(result) = response.as_mut().poll(&mut nobody) {
                return Poll::Ready(Some(result));
            }
            timer.poll_deadline(deadline.at, now.take(), cx).map(|()| None)
        });
        match outcome.await {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failure)) => {
                let unsent = failure.take_message().map(Box::new);
                Err(self.failure(failure.into_error(), unsent))
            }
            None => {
                let head = self.take_progress().and_then(Progress::into_head);
                Err(SendFailure { error: deadline.kind.into(), unsent: None, head, exposure: Exposure::Sent })
            }
        }
    }

    fn failure(&mut self, error: hyper::Error, unsent: Option<Box<Request<RequestBody>>>) -> SendFailure {
        let progress = self.take_progress();
        let exposure = match &progress {
            Some(Progress::Refused(_)) => Exposure::Unsent,
            _ if unsent.is_some() => Exposure::Unsent,
            _ => Exposure::Sent,
        };
        let untouched = exposure == Exposure::Unsent || matches!(progress, Some(Progress::Unanswered(_)));
        let kind = match kind_of(&error) {
            FailureKind::UpstreamReset if self.is_reused() && untouched => {
                self.backend.idle_limit.closed_after(self.rested);
                FailureKind::StaleConnection
            }
            kind => kind,
        };
        let head = progress.and_then(Progress::into_head);
        SendFailure { error: ProxyError::new(kind, error), unsent, head, exposure }
    }

    fn take_progress(&mut self) -> Option<Progress> {
        let raw = std::mem::replace(&mut self.driver, Driver::Gone).into_raw();
        raw.map(|(stream, _)| stream.into_progress())
    }

    /// Closes it, and gives the head of the request that was sent last.
    pub(crate) fn into_sent_head(mut self) -> Option<SentHead> {
        self.take_progress().and_then(Progress::into_head)
    }

    /// Takes the connection apart once hyper has let go of it after a 101.
    pub(crate) fn poll_into_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<(UpstreamStream, Bytes)>> {
        self.driver.drive(cx);
        match self.driver {
            Driver::Open(_) => Poll::Pending,
            _ => Poll::Ready(std::mem::replace(&mut self.driver, Driver::Gone).into_raw()),
        }
    }

    /// Notes what the response says about the connection's past and future.
    pub(crate) fn note_response(&mut self, headers: &HeaderMap) {
        self.backend.idle_limit.survived(self.rested);
        if let Some(keep_alive) = headers.get(KEEP_ALIVE).and_then(|value| value.to_str().ok()) {
            self.advertised_idle = advertised_timeout(keep_alive);
        }
    }

    /// Whether it may be used again after `rested`, by its age. Whether it is still open shows when hyper is given the
    /// request: it looks for the end of the stream first, and hands an unsent request back.
    pub(super) fn is_reusable(&self, policy: &KeepAlive, rested: Duration, now: Moment) -> bool {
        let idle_limit = self.advertised_idle.map_or(policy.idle, |idle| idle.saturating_sub(ADVERTISED_IDLE_MARGIN));
        let fresh = rested < idle_limit && now.since(self.born) < policy.max_age;
        let unused = policy.max_requests.is_none_or(|limit| self.uses < limit.get());
        fresh && unused
    }

    /// Whether its backend closed it while it rested. If so, the backend's idle limit is known better.
    pub(super) fn has_ended(&mut self) -> bool {
        let Some(rested) = self.rest.undisturbed() else { return false };
        self.drive_quietly();
        if matches!(self.driver, Driver::Open(_)) {
            self.rest.settle();
            return false;
        }
        self.backend.idle_limit.closed_after(rested);
        true
    }

    /// Closes it at once. For connections at rest only: nothing is on its way that a reset could destroy.
    pub(super) fn reset(self) {
        if let Some((stream, _)) = self.driver.into_raw() {
            stream.into_stream().reset();
        }
    }

    /// Ends its rest for the next request.
    pub(super) fn rouse(&mut self, rested: Duration) {
        self.rested = rested;
        self.rest.end();
    }

    /// Whether the last exchange is over on both sides. If so, what comes next disturbs its rest.
    pub(super) fn is_clean(&mut self) -> bool {
        if !self.sender.is_ready() || !self.rest.is_watched() {
            self.drive_quietly();
        }
        matches!(self.driver, Driver::Open(_)) && self.sender.is_ready()
    }
}

/// A point in time with the failure that passing it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Moment,
    pub(crate) kind: FailureKind,
    /// The present, if it was read a moment ago.
    pub(crate) now: Option<Moment>,
}

/// `timeout=5, max=100` → 5 s. RFC 9112 has no such field; every server that closes idle connections sends it so.
fn advertised_timeout(keep_alive: &str) -> Option<Duration> {
    let parameter = |part: &str| part.trim().strip_prefix("timeout=").and_then(|secs| secs.trim().parse().ok());
    keep_alive.split(',').find_map(parameter).map(Duration::from_secs)
}

/// Which row of the failure table an error of hyper's client is.
pub(crate) fn kind_of(error: &hyper::Error) -> FailureKind {
    if error.is_parse() {
        return FailureKind::UpstreamProtocol;
    }
    // An error of the request body is ours or the client's: it says so itself.
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<ProxyError>() {
            return ours.kind;
        }
        // The upstream stream's own word for bytes that hyper would take (interim responses without end), and hyper's for
        // chunks that are none.
        let is_invalid =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        if inner.downcast_ref::<io::Error>().is_some_and(is_invalid) {
            return FailureKind::UpstreamProtocol;
        }
        cause = inner.source();
    }
    FailureKind::UpstreamReset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::backend::{Instance, Located};
    use crate::runtime::registry::Registry;
    use crate::telemetry::metrics::Metrics;
    use crate::units::ServiceName;

    #[tokio::test]
    async fn a_container_that_left_while_it_was_dialled_gets_no_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (registry, service) = (Registry::new(Metrics::new()), ServiceName::new("web").unwrap());
        let container = Instance { id: "a".into(), name: "web-1".into() };
        for (instance, is_open) in [(Some(container), false), (None, true)] {
            let backend = registry.backend_from(&service, Located { address, instance }, |_| ());
            assert!(Upstream::open(backend.clone(), Duration::from_secs(1)).await.is_ok());
            registry.retain(&service, &[], Duration::from_secs(1));
            let opened = Upstream::open(backend, Duration::from_secs(1)).await;
            // An address that somebody wrote down is still that of the same server.
            assert_eq!(
                opened.as_ref().err().map(|error| error.kind),
                (!is_open).then_some(FailureKind::ConnectRefused)
            );
        }
    }

    #[test]
    fn an_advertised_idle_limit_is_read_from_keep_alive() {
        assert_eq!(advertised_timeout("timeout=5, max=100"), Some(Duration::from_secs(5)));
        assert_eq!(advertised_timeout("max=100,timeout=2"), Some(Duration::from_secs(2)));
        assert_eq!(advertised_timeout("max=100"), None);
        assert_eq!(advertised_timeout("timeout=soon"), None);
    }
}
