//! The request that goes up: its head, and its body as the socket takes it.
//! It promises exactly the framing that the head announces, head and first bytes in one write, and to say whether the
//! socket has taken anything. It keeps nothing for a repetition: the request stays with whoever sends it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::TRAILER;
use http::{HeaderMap, HeaderName, Request};
use http_body::Frame;

use crate::error::{FailureKind, ProxyError};
use crate::http::framing;
use crate::http::signature::Signature;
use crate::http::{chunked, request_head};
use crate::net::stream::Stream;
use crate::proxy::request_body::RequestBody;

/// Body bytes that wait for the socket: enough for one large write.
const QUEUED_BYTES_MAX: usize = 64 * 1024;
/// Pieces of one write.
const SLICES_MAX: usize = 16;
/// Longer frames are not copied to go with others.
const SMALL_BYTES: usize = 1_024;
/// The memory of a longer head is not kept for the next one.
const HEAD_BYTES_KEPT: usize = 8 * 1024;

/// What is still to be written of the present request.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    head: Vec<u8>,
    head_written: usize,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Small frames that go as one, and as one chunk: each alone would cost a piece of a write. Empty but while frames are
    /// gathered.
    small: BytesMut,
    coding: Coding,
    has_all: bool,
}

/// How the body goes up.
#[derive(Debug, Default)]
enum Coding {
    /// Exactly so many bytes more.
    #[default]
    Nothing,
    Length(u64),
    /// With the trailers that the head announced. RFC 9110 §6.6.2.
    Chunked(Vec<HeaderName>),
}

/// Why a request cannot be sent to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The socket takes nothing more.
    Socket(io::Error),
    /// The client does not send its body as it has to.
    Body(ProxyError),
}

impl Outbox {
    /// Begins with the head of `request`, with `signature` behind its fields.
    pub(super) fn begin(&mut self, request: &Request<RequestBody>, signature: &Signature<'_>) {
        self.head.clear();
        self.head_written = 0;
        request_head::write_line(request.method(), request.uri(), &mut self.head);
        request_head::write_fields(request.headers(), &mut self.head);
        signature.write(request.headers(), &mut self.head);
        self.head.extend_from_slice(b"\r\n");
        self.has_all = matches!(request.body(), RequestBody::Empty);
        if !self.has_all {
            self.coding = Coding::of(request.headers());
        }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        self.has_all && !self.has_left()
    }

    /// Whether the socket took any of it.
    pub(super) fn has_begun(&self) -> bool {
        self.head_written > 0
    }

    /// Lets go of memory that the next request will hardly need.
    pub(super) fn rest(&mut self) {
        if self.head.capacity() > HEAD_BYTES_KEPT {
            self.head = Vec::new();
        }
        self.small = BytesMut::new();
    }

    /// Writes what `body` has and the socket takes. Ready when all is written.
    pub(super) fn poll_send(
        &mut self,
        stream: &mut Stream,
        body: &mut RequestBody,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            let gathered = self.gather(body, cx)?;
            if !self.has_left() {
                return gathered.map(Ok);
            }
            ready!(self.poll_write(stream, cx)).map_err(Unsent::Socket)?;
        }
    }

    fn has_left(&self) -> bool {
        self.head_written < self.head.len() || !self.queue.is_empty()
    }

    /// Queues what the body has at once. Ready if there is no more, or no room for more.
    fn gather(&mut self, body: &mut RequestBody, cx: &mut Context<'_>) -> Result<Poll<()>, Unsent> {
        while !self.has_all && self.queued_bytes + self.small.len() < QUEUED_BYTES_MAX {
            match body.poll_next(cx) {
                Poll::Pending => {
                    self.queue_small();
                    return Ok(Poll::Pending);
                }
                Poll::Ready(Some(Ok(frame))) => self.queue_frame(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(Unsent::Body(error)),
                Poll::Ready(None) => self.finish(&HeaderMap::new())?,
            }
        }
        self.queue_small();
        Ok(Poll::Ready(()))
    }

    fn queue_frame(&mut self, frame: Frame<Bytes>) -> Result<(), Unsent> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.finish(&frame.into_trailers().unwrap_or_default()),
        };
        if data.is_empty() {
            return Ok(()); // a chunk without data would be the last one
        }
        match &mut self.coding {
            Coding::Nothing => return Err(misframed()),
            Coding::Length(left) => *left = left.checked_sub(data.len() as u64).ok_or_else(misframed)?,
            Coding::Chunked(_) => {}
        }
        if data.len() <= SMALL_BYTES {
            self.small.extend_from_slice(&data);
            return Ok(());
        }
        self.queue_small();
        self.queue_data(data);
        Ok(())
    }

    fn queue_small(&mut self) {
        if !self.small.is_empty() {
            let small = self.small.split().freeze();
            self.queue_data(small);
        }
    }

    fn queue_data(&mut self, data: Bytes) {
        if matches!(self.coding, Coding::Chunked(_)) {
            self.push(chunked::size_line(data.len()));
            self.push(data);
            self.push(chunked::DATA_END);
        } else {
            self.push(data);
        }
    }

    /// The body has ended.
    fn finish(&mut self, trailers: &HeaderMap) -> Result<(), Unsent> {
        self.queue_small();
        match &self.coding {
            Coding::Nothing | Coding::Length(0) => {}
            Coding::Length(_) => return Err(misframed()),
            Coding::Chunked(announced) => {
                let is_announced = |(name, _): &(&HeaderName, _)| announced.contains(name);
                let fields = trailers.iter().filter(is_announced);
                let last = chunked::last_chunk(&fields.map(|(name, value)| (name.clone(), value.clone())).collect());
                self.push(last);
            }
        }
        self.has_all = true;
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let head = Some(&self.head[self.head_written..]).filter(|head| !head.is_empty());
        let pieces = head.into_iter().chain(self.queue.iter().map(|bytes| &bytes[..]));
        let n_slices = slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
        match ready!(stream.poll_write_slices(cx, &slices[..n_slices]))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n_bytes => {
                self.advance(n_bytes);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn advance(&mut self, n_bytes: usize) {
        let of_head = n_bytes.min(self.head.len() - self.head_written);
        self.head_written += of_head;
        let mut left = n_bytes - of_head;
        self.queued_bytes -= left;
        while left > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            if front.len() > left {
                let _ = front.split_to(left);
                return;
            }
            left -= front.len();
            self.queue.pop_front();
        }
    }
}

impl Coding {
    fn of(headers: &HeaderMap) -> Self {
        match framing::RequestBody::of(headers) {
            framing::RequestBody::None => Coding::Nothing,
            framing::RequestBody::Known(length) => Coding::Length(length),
            framing::RequestBody::Chunked => Coding::Chunked(announced_trailers(headers)),
        }
    }
}

fn announced_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).into_iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// More or fewer bytes than the head announces: the next bytes on the connection would be taken for something else.
fn misframed() -> Unsent {
    Unsent::Body(ProxyError::new(FailureKind::ClientClosed, "the body is not as long as its head says"))
}
