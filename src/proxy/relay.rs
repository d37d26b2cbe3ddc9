//! A response body on its way from a backend to a client, read ahead of a slow client up to `buffer.response`.
//! It promises that the backend is free as soon as its last byte is here, and that a truncated body never looks complete.
//! It lives in the connection, not in the body, so that it can go on while the client does not read.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;

use crate::error::ProxyError;
use crate::http::headers::Cleaned;
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::connection::Connection;
use crate::proxy::pool::Given;
use crate::proxy::request_body::{FRAME_BYTES, without_banned_trailers};
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::Limit;
use crate::units::Moment;

/// The upstream half of a response.
pub(crate) struct Relay {
    source: Option<Source>,
    ahead: VecDeque<Frame<Bytes>>,
    ahead_bytes: usize,
    ahead_bytes_max: usize,
    failure: Option<ProxyError>,
    /// What came before the failure is on the wire: the engine throws away what it still holds when a body fails.
    is_flushed: bool,
    /// The limit was counted once for this response.
    noted_full: bool,
}

/// What is given back when the last byte is here.
pub(crate) struct Source {
    pub(crate) upstream: Box<Upstream>,
    pub(crate) attempt: Attempt,
    pub(crate) status: StatusCode,
    /// What was taken out of the head, and must not come back in trailers.
    pub(crate) cleaned: Cleaned,
}

impl Source {
    /// The last byte is here: the connection may serve the next request, and the backend is free.
    fn release(self, connection: &Connection, now: Moment) {
        if connection.worker.pools.give(self.upstream, now) == Given::PoolFull {
            connection.worker.metrics.limit_hit(Limit::Pool);
        }
        connection.activity.leave_backend();
        self.attempt.complete(self.status, now);
    }
}

impl Relay {
    fn new(source: Source) -> Self {
        let ahead_bytes_max = source.attempt.service().policy.buffer.response.as_usize();
        Self {
            source: Some(source),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            ahead_bytes_max,
            failure: None,
            is_flushed: false,
            noted_full: false,
        }
    }

    /// How many bytes are left, if the backend said so.
    pub(crate) fn length(&self) -> Option<u64> {
        if !self.ahead.iter().all(Frame::is_data) {
            return None; // a length would leave no room for trailers
        }
        // What was read ahead is part of it: hyper holds the length against `Content-Length` (H16).
        let to_come = self.source.as_ref().map_or(Some(0), |source| source.upstream.body_length())?;
        Some(to_come + self.ahead_bytes as u64)
    }

    /// Whether everything was handed on.
    pub(crate) fn is_done(&self) -> bool {
        self.source.is_none() && self.ahead.is_empty() && self.failure.is_none()
    }

    /// The next frame for the client.
    pub(crate) fn poll_next(
        &mut self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Some(frame) = self.ahead.pop_front() {
            self.ahead_bytes -= data_len(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.failure.is_none() {
            match ready!(self.poll_source(connection, cx)) {
                Some(Err(failure)) => self.hold(failure, connection),
                polled => return Poll::Ready(polled),
            }
        }
        match self.failure.take_if(|_| self.is_flushed) {
            Some(failure) => Poll::Ready(Some(Err(failure))),
            None => Poll::Pending, // the connection wakes the engine once everything is written
        }
    }

    /// Keeps a failure until the client has what came before it.
    fn hold(&mut self, failure: ProxyError, connection: &Connection) {
        self.failure = Some(failure);
        connection.note_relay_broken();
    }

    /// Everything that came before the failure is written.
    pub(crate) fn note_flushed(&mut self) {
        self.is_flushed = true;
    }

    /// Reads ahead while the client does not read.
    pub(crate) fn poll_ahead(&mut self, connection: &Connection, cx: &mut Context<'_>) {
        while !self.is_full() && self.failure.is_none() {
            match self.poll_source(connection, cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.push_ahead(frame);
                }
                Poll::Ready(Some(Err(failure))) => self.hold(failure, connection),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        // Here and not before it: nothing polls again while it is full and the client does not read.
        if self.is_full() && !self.noted_full {
            self.noted_full = true;
            connection.worker.metrics.limit_hit(Limit::ResponseBuffer);
        }
    }

    fn poll_source(
        &mut self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        match ready!(source.upstream.poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = without_banned_trailers(frame, &source.cleaned);
                connection.activity.bytes_upstream.add(data_len(&frame));
                if source.upstream.is_answered() {
                    self.release(connection);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.broken(error)))),
            None => {
                self.release(connection);
                Poll::Ready(None)
            }
        }
    }

    /// Ends the attempt: its connection broke in mid-body and is not kept.
    fn broken(&mut self, error: ProxyError) -> ProxyError {
        if let Some(Source { attempt, .. }) = self.source.take() {
            attempt.fail(error.kind);
        }
        error
    }

    fn release(&mut self, connection: &Connection) {
        if let Some(source) = self.source.take() {
            source.release(connection, clock::now());
        }
    }

    /// Whether as much was read ahead as may be.
    fn is_full(&self) -> bool {
        self.ahead_bytes + self.ahead.len() * FRAME_BYTES >= self.ahead_bytes_max
    }

    fn push_ahead(&mut self, frame: Frame<Bytes>) {
        self.ahead_bytes += data_len(&frame);
        self.ahead.push_back(frame);
    }
}

fn data_len(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

/// How a response body starts. Most responses are here whole with their head.
pub(crate) enum Start {
    /// The whole body; its backend is free already.
    Whole(Bytes),
    /// The body goes on.
    Open(Relay),
    /// It breaks off before its first byte, while nothing of the answer has gone down.
    Broken(ProxyError, Box<Source>),
}

impl Start {
    /// Takes what is there, without waiting.
    pub(crate) fn of(mut source: Source, connection: &Connection, now: Moment) -> Self {
        if source.upstream.is_answered() {
            source.release(connection, now);
            return Start::Whole(Bytes::new());
        }
        let mut nobody = Context::from_waker(Waker::noop());
        let first = source.upstream.poll_frame(&mut nobody);
        let whole = source.upstream.is_answered();
        match first {
            Poll::Ready(Some(Ok(frame))) if whole && frame.is_data() => {
                source.release(connection, now);
                Start::Whole(frame.into_data().unwrap_or_default())
            }
            Poll::Ready(Some(Ok(frame))) => Self::with(frame, source, connection),
            // An error comes once: polled again, the body would seem to have ended.
            Poll::Ready(Some(Err(error))) => Start::Broken(error, Box::new(source)),
            Poll::Ready(None) | Poll::Pending => Start::Open(Relay::new(source)),
        }
    }

    /// With what came along with `first`: if the body breaks off in there, nothing of the answer has to go down.
    fn with(first: Frame<Bytes>, mut source: Source, connection: &Connection) -> Self {
        let mut ahead = Vec::from([without_banned_trailers(first, &source.cleaned)]);
        loop {
            match source.upstream.frame_here() {
                Ok(Some(frame)) => ahead.push(without_banned_trailers(frame, &source.cleaned)),
                Ok(None) => break,
                Err(error) => return Start::Broken(error, Box::new(source)),
            }
        }
        let is_answered = source.upstream.is_answered();
        let mut relay = Relay::new(source);
        ahead.into_iter().for_each(|frame| relay.push_ahead(frame));
        if is_answered {
            relay.release(connection);
        }
        Start::Open(relay)
    }
}
