//! The body that goes up: nothing, what was read ahead, or the client's stream behind it.
//! It promises to stop at `max_body`, to wait for the backend's `100 Continue` where the client waits for it, and to be
//! repeatable exactly as long as nothing was streamed. It does not decide how much is read ahead.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::{FailureKind, ProxyError};
use crate::http::headers::{self, Cleaned};
use crate::proxy::connection::Connection;
use crate::proxy::expect::Continue;

/// A request body on its way to a backend.
pub(crate) enum RequestBody {
    /// No body, and no framing for one.
    Empty,
    /// Everything is here. Boxed: hyper moves a request about ten times on its way out.
    Whole(Box<Frames>),
    /// The beginning is here, the rest comes from the client.
    Streaming(Box<Streaming>),
}

/// Frames that were read ahead. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    data: VecDeque<Bytes>,
    trailers: Option<http::HeaderMap>,
    bytes: u64,
}

impl Frames {
    pub(crate) fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.bytes += data.len() as u64;
                self.data.push_back(data);
            }
            Err(other) => self.trailers = other.into_trailers().ok(),
        }
    }

    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.data.pop_front() {
            self.bytes -= data.len() as u64;
            return Some(Frame::data(data));
        }
        self.trailers.take().map(Frame::trailers)
    }

    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}

/// A body of which not everything is here yet.
pub(crate) struct Streaming {
    /// What was read ahead.
    pub(crate) ahead: Frames,
    /// The rest.
    pub(crate) rest: Incoming,
    /// What was taken out of the head, and must not come back in trailers.
    pub(crate) cleaned: Cleaned,
    /// How many bytes the rest may still have.
    pub(crate) allowance: u64,
    /// Where the wait for the client is visible.
    pub(crate) connection: Arc<Connection>,
    /// The backend's go-ahead, if the client asked for one.
    pub(crate) go_ahead: Option<Continue>,
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Some(frame) = self.ahead.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(go_ahead) = &mut self.go_ahead {
            ready!(go_ahead.poll(cx));
            self.go_ahead = None;
        }
        let next = poll_client(&mut self.rest, &self.connection, cx);
        let Some(frame) = ready!(next) else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.and_then(|frame| self.admit(frame))))
    }

    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, ProxyError> {
        let frame = without_banned_trailers(frame, &self.cleaned);
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.allowance.checked_sub(bytes) {
            Some(allowance) => {
                self.allowance = allowance;
                Ok(frame)
            }
            None => {
                self.connection.fail_body(FailureKind::BodyTooLarge);
                Err(FailureKind::BodyTooLarge.into())
            }
        }
    }
}

/// C-31: a frame that may go on, in either direction.
pub(crate) fn without_banned_trailers(frame: Frame<Bytes>, head: &Cleaned) -> Frame<Bytes> {
    if frame.is_data() {
        return frame;
    }
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::clean_trailers(&mut trailers, head);
            Frame::trailers(trailers)
        }
        Err(other) => other,
    }
}

/// The next frame from the client; while it is awaited, the sweep sees that the client owes it.
pub(crate) fn poll_client(
    body: &mut Incoming,
    connection: &Connection,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
    if let Some(kind) = connection.body_failure() {
        return Poll::Ready(Some(Err(kind.into())));
    }
    let polled = Pin::new(body).poll_frame(cx);
    connection.note_body_read(&polled);
    let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
    if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
        connection.activity.body_bytes_in.add(data.len());
    }
    Poll::Ready(Some(frame.map_err(|error| {
        // hyper says "body" errors both for a client that went away and for broken chunks; the guard saw the latter.
        let kind = connection.body_refusal().unwrap_or(FailureKind::ClientClosed);
        connection.fail_body(kind);
        ProxyError::new(kind, error)
    })))
}

/// A copy that sends the same bytes; `None` once something was streamed.
pub(crate) fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let mut copy = Request::new(request.body().replay()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

impl RequestBody {
    /// A copy that sends the same bytes; `None` once something was streamed.
    pub(crate) fn replay(&self) -> Option<RequestBody> {
        match self {
            RequestBody::Empty => Some(RequestBody::Empty),
            RequestBody::Whole(frames) => Some(RequestBody::Whole(frames.clone())),
            RequestBody::Streaming(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole(frames) => Poll::Ready(frames.pop().map(Ok)),
            RequestBody::Streaming(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Whole(frames) => frames.is_empty(),
            RequestBody::Streaming(streaming) => streaming.ahead.is_empty() && streaming.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole(frames) if frames.trailers.is_none() => SizeHint::with_exact(frames.bytes()),
            RequestBody::Whole(_) => SizeHint::default(),
            RequestBody::Streaming(streaming) => match streaming.rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(rest + streaming.ahead.bytes()),
                None => SizeHint::default(),
            },
        }
    }
}
