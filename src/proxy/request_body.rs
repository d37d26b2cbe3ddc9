//! The body that goes up: nothing, what was read ahead, or the client's stream behind it.
//! It promises to stop at `max_body`, to wait for the backend's `100 Continue` where the client waits for it, and to be
//! repeatable until the client's stream is touched. It does not decide how much is read ahead.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use crate::error::{FailureKind, ProxyError};
use crate::http::headers::{self, Cleaned};
use crate::proxy::connection::Connection;
use crate::proxy::expect::Continue;
use crate::proxy::retry::Replay;

/// A request body on its way to a backend.
pub(crate) enum RequestBody {
    /// No body, and no framing for one.
    Empty,
    /// Everything is here.
    Whole(Box<Frames>),
    /// The beginning is here, the rest comes from the client.
    Streaming(Box<Streaming>),
    /// It went with an answer that did not await its end.
    Gone,
}

/// What a frame takes besides its bytes: a handle, and its share of the buffer that it keeps from being freed. A limit that
/// counts only bytes is no limit for chunks of one byte.
pub(crate) const FRAME_BYTES: usize = 64;

/// Frames that were read ahead. Handing them out shares the bytes, so that they can be handed out again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    data: Vec<Bytes>,
    trailers: Option<http::HeaderMap>,
    bytes: u64,
    /// How many were handed out, trailers last.
    handed_out: usize,
}

impl Frames {
    pub(crate) fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.bytes += data.len() as u64;
                self.data.push(data);
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

    /// What they take.
    pub(crate) fn footprint(&self) -> u64 {
        self.bytes + (self.data.len() * FRAME_BYTES) as u64
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let idx = self.handed_out;
        let trailers = || self.trailers.clone().filter(|_| idx == self.data.len()).map(Frame::trailers);
        let next = self.data.get(idx).cloned().map(Frame::data).or_else(trailers);
        self.handed_out += usize::from(next.is_some());
        next
    }
}

/// A body of which not everything is here yet.
pub(crate) struct Streaming {
    /// What was read ahead. Let go of when the rest is touched.
    pub(crate) ahead: Frames,
    /// The rest.
    pub(crate) rest: Incoming,
    /// Whether some of the rest was handed out: it cannot be had again.
    pub(crate) is_touched: bool,
    /// What was taken out of the head, and must not come back in trailers.
    pub(crate) cleaned: Cleaned,
    /// How many bytes the rest may still have.
    pub(crate) allowance: u64,
    /// Where the wait for the client is visible.
    pub(crate) connection: Arc<Connection>,
    /// The wait for the backend's go-ahead, if the client asked for one.
    pub(crate) go_ahead: Option<Continue>,
}

impl Streaming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if !self.is_touched
            && let Some(frame) = self.ahead.next()
        {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(go_ahead) = &mut self.go_ahead {
            ready!(go_ahead.poll(cx));
            self.go_ahead = None;
        }
        let next = poll_client(&mut self.rest, &self.connection, cx);
        let Some(frame) = ready!(next) else { return Poll::Ready(None) };
        self.is_touched = true;
        self.ahead = Frames::default();
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

/// A copy that sends the same bytes; `None` unless all of them are here.
pub(crate) fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = match request.body() {
        RequestBody::Empty => RequestBody::Empty,
        RequestBody::Whole(frames) => RequestBody::Whole(frames.clone()),
        RequestBody::Streaming(_) | RequestBody::Gone => return None,
    };
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

impl RequestBody {
    /// Whether it can be sent once more, to its last byte.
    pub(crate) fn replay(&self) -> Replay {
        match self {
            RequestBody::Empty | RequestBody::Whole(_) => Replay::Possible,
            RequestBody::Streaming(streaming) if !streaming.is_touched => Replay::Possible,
            RequestBody::Streaming(_) | RequestBody::Gone => Replay::Impossible,
        }
    }

    /// Begins anew: what was handed out is handed out again.
    pub(crate) fn rewind(&mut self) {
        match self {
            RequestBody::Empty | RequestBody::Gone => {}
            RequestBody::Whole(frames) => frames.handed_out = 0,
            RequestBody::Streaming(streaming) => streaming.ahead.handed_out = 0,
        }
    }

    /// What was not handed out yet, to go on elsewhere. What is here whole stays as well.
    pub(crate) fn take_rest(&mut self) -> RequestBody {
        match self {
            RequestBody::Empty | RequestBody::Gone => RequestBody::Empty,
            RequestBody::Whole(frames) => RequestBody::Whole(frames.clone()),
            RequestBody::Streaming(_) => std::mem::replace(self, RequestBody::Gone),
        }
    }

    /// The backend wants it: a client that waits for a 100 is asked for it.
    pub(crate) fn go_ahead(&mut self) {
        if let RequestBody::Streaming(streaming) = self {
            streaming.go_ahead = None;
        }
    }

    /// The next frame.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self {
            RequestBody::Empty | RequestBody::Gone => Poll::Ready(None),
            RequestBody::Whole(frames) => Poll::Ready(frames.next().map(Ok)),
            RequestBody::Streaming(streaming) => streaming.poll_next(cx),
        }
    }
}
