//! The answer that comes down: bytes of the socket, taken apart into a head and a body.
//! It promises that a body which breaks off never looks whole, that interim responses without end are found out, and that
//! what follows an answer is no part of it. It decides nothing: what a failure means is `Upstream`'s.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use hyper::ext::ReasonPhrase;
use thiserror::Error;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};

use crate::http::chunked::{self, Decoder, Step};
use crate::http::response_head::{self, Framing, Head, Parsed, Persistence};
use crate::net::stream::Stream;

/// Read at first: a head and a body of the usual size.
const READ_BYTES: usize = 8 * 1024;
/// Read at most at once: large enough that a megabyte costs few system calls.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Interim responses of one request: ten of the longest kind, thousands of `100 Continue`. RFC 9110 §15.2 sets no limit.
const INTERIM_BYTES_MAX: usize = 64 * 1024;

/// What was read and not handed on, and what is to come.
#[derive(Debug)]
pub(super) struct Inbox {
    buf: BytesMut,
    /// Asked of the socket next time; grows while it has more.
    read_bytes: usize,
    expected: Expected,
    persistence: Persistence,
    interim_bytes: usize,
    has_heard: bool,
}

#[derive(Debug)]
enum Expected {
    Head,
    /// So many bytes of the body.
    Length(u64),
    Chunks(Decoder),
    /// Whatever comes before the end of the connection.
    UntilClose,
    /// Nothing: the answer is complete.
    Nothing,
}

/// What came first.
#[derive(Debug)]
pub(super) enum Told {
    /// A 100: the backend wants the body.
    GoAhead,
    /// The answer.
    Answer(Response<()>),
}

/// Why there is no more of an answer.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("the backend closed the connection before its answer was complete")]
    Closed,
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Head(#[from] response_head::Invalid),
    #[error(transparent)]
    Chunk(#[from] chunked::Invalid),
    #[error("interim responses without end")]
    Interims,
}

impl Broken {
    /// Whether the connection broke; otherwise what came over it is no HTTP.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Broken::Closed | Broken::Socket(_))
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buf: BytesMut::new(),
            read_bytes: READ_BYTES,
            expected: Expected::Nothing,
            persistence: Persistence::KeepAlive,
            interim_bytes: 0,
            has_heard: false,
        }
    }
}

impl Inbox {
    /// An answer is to come.
    pub(super) fn begin(&mut self) {
        self.read_bytes = READ_BYTES;
        self.expected = Expected::Head;
        self.persistence = Persistence::KeepAlive;
        self.interim_bytes = 0;
        self.has_heard = false;
    }

    /// Whether a byte came since [`Inbox::begin`].
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Whether the answer is complete.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.expected, Expected::Nothing)
    }

    /// Whether the answer is complete, nothing came behind it, and its connection persists.
    pub(super) fn is_clean(&self) -> bool {
        self.is_complete() && self.buf.is_empty() && self.persistence == Persistence::KeepAlive
    }

    /// How many bytes of the body are to come, if its head said so.
    pub(super) fn length(&self) -> Option<u64> {
        match self.expected {
            Expected::Length(left) => Some(left),
            Expected::Nothing => Some(0),
            Expected::Head | Expected::Chunks(_) | Expected::UntilClose => None,
        }
    }

    /// What was read behind the answer.
    pub(super) fn into_surplus(self) -> Bytes {
        self.buf.freeze()
    }

    /// The head of the answer to a request of `method`.
    pub(super) fn poll_head(
        &mut self,
        stream: &mut Stream,
        method: &Method,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Told, Broken>> {
        loop {
            let parsed =
                if self.buf.is_empty() { Parsed::Partial } else { response_head::parse(&mut self.buf, method)? };
            match parsed {
                Parsed::Final(head) => return Poll::Ready(Ok(Told::Answer(self.note_head(head)))),
                Parsed::Interim(status, n_bytes) => {
                    self.interim_bytes += n_bytes;
                    if self.interim_bytes > INTERIM_BYTES_MAX {
                        return Poll::Ready(Err(Broken::Interims));
                    }
                    if status == StatusCode::CONTINUE {
                        return Poll::Ready(Ok(Told::GoAhead));
                    }
                }
                Parsed::Partial => ready!(self.poll_more(stream, cx))?,
            }
        }
    }

    fn note_head(&mut self, head: Head) -> Response<()> {
        let Head { mut response, reason, framing, persistence } = head;
        self.persistence = persistence;
        self.expected = match framing {
            Framing::None | Framing::Length(0) | Framing::Switched => Expected::Nothing,
            Framing::Length(length) => Expected::Length(length),
            Framing::Chunked => Expected::Chunks(Decoder::default()),
            Framing::UntilClose => Expected::UntilClose,
        };
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            response.extensions_mut().insert(reason);
        }
        response
    }

    /// The next frame of the body.
    pub(super) fn poll_frame(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.frame_here() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(broken) => return Poll::Ready(Some(Err(broken))),
                Ok(None) if self.is_complete() => return Poll::Ready(None),
                Ok(None) => {}
            }
            match ready!(self.poll_fill(stream, cx)) {
                Ok(0) if matches!(self.expected, Expected::UntilClose) => self.expected = Expected::Nothing,
                Ok(0) => return Poll::Ready(Some(Err(Broken::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// The next frame of the body out of what was read already.
    pub(super) fn frame_here(&mut self) -> Result<Option<Frame<Bytes>>, Broken> {
        if self.buf.is_empty() {
            return Ok(None);
        }
        match &mut self.expected {
            Expected::Head | Expected::Nothing => Ok(None),
            Expected::UntilClose => Ok(Some(Frame::data(self.buf.split().freeze()))),
            Expected::Length(left) => {
                let n_here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buf.len());
                *left -= n_here as u64;
                if *left == 0 {
                    self.expected = Expected::Nothing;
                }
                Ok(Some(Frame::data(self.buf.split_to(n_here).freeze())))
            }
            Expected::Chunks(decoder) => {
                let step = decoder.step(&mut self.buf)?;
                if decoder.is_done() {
                    self.expected = Expected::Nothing;
                }
                Ok(match step {
                    Step::Data(data) => Some(Frame::data(data)),
                    Step::Trailers(trailers) => Some(Frame::trailers(trailers)),
                    Step::End | Step::Starved => None,
                })
            }
        }
    }

    fn poll_more(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match ready!(self.poll_fill(stream, cx)) {
            Ok(0) => Poll::Ready(Err(Broken::Closed)),
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Reads once.
    pub(super) fn poll_fill(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let is_first = self.buf.is_empty() && self.read_bytes == READ_BYTES;
        let polled = if is_first { self.poll_first(stream, cx) } else { self.poll_further(stream, cx) };
        let (n_bytes, room) = ready!(polled)?;
        self.has_heard |= n_bytes > 0;
        if n_bytes == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(n_bytes))
    }

    /// Most answers are a few hundred bytes. They are read into memory that is warm and copied into as much as they need,
    /// which costs less than a buffer of 8 KiB for each; none is held while an answer is awaited.
    fn poll_first(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<(usize, usize)>> {
        let mut scratch = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        self.buf = BytesMut::from(read.filled());
        Poll::Ready(Ok((self.buf.len(), READ_BYTES)))
    }

    fn poll_further(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<(usize, usize)>> {
        if self.buf.capacity() - self.buf.len() < self.read_bytes / 4 {
            self.buf.reserve(self.read_bytes);
        }
        let room = self.buf.capacity() - self.buf.len();
        let n_bytes = ready!(pin!(stream.read_buf(&mut self.buf)).poll(cx))?;
        Poll::Ready(Ok((n_bytes, room)))
    }

    /// Lets go of the memory: the next answer may be long in coming.
    pub(super) fn rest(&mut self) {
        self.buf = BytesMut::new();
    }
}
