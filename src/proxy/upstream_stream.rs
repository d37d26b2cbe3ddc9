//! The upstream socket as hyper sees it. It remembers the head of the last request.
//! It promises to say how far that request came: refused by the socket, written and unanswered, or answered. Whose head it
//! is shows its request id: [`SentHead::into_request`] gives no other. Keeping the bytes costs a copy of some hundred bytes per request; a clone of
//! the header map would cost two allocations and a reference count for each field.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::local_reply::X_REQUEST_ID;
use crate::net::stream::Stream;
use crate::proxy::interim::Interims;
use crate::proxy::rest::{NOBODY, Rest};

/// Longer heads are not remembered, so their requests are not replayed.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A [`Stream`] under hyper's client.
pub(crate) struct UpstreamStream {
    stream: Stream,
    head: Vec<u8>,
    last: Last,
    interims: Interims,
    rest: Arc<Rest>,
    /// Wakes `rest`.
    waker_of_rest: Waker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing yet, or something was read: the next write begins a head.
    Read,
    /// The socket took nothing of a head.
    Refused,
    /// A head was written whole, and perhaps some of its body.
    Head,
    /// A head was written in part, or is too long to keep.
    Unkept,
}

/// The bytes of a request head that was written.
#[derive(Debug)]
pub(crate) struct SentHead(Vec<u8>);

/// How far the last request came.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The socket took nothing of it.
    Refused(SentHead),
    /// It was written, and nothing was read since; `None` if its head was not kept.
    Unanswered(Option<SentHead>),
    /// Something was read since.
    Answered(SentHead),
}

impl Progress {
    /// The head, if it was kept.
    pub(crate) fn into_head(self) -> Option<SentHead> {
        match self {
            Progress::Refused(head) | Progress::Answered(head) => Some(head),
            Progress::Unanswered(head) => head,
        }
    }
}

impl UpstreamStream {
    pub(crate) fn new(stream: Stream, rest: Arc<Rest>) -> Self {
        let waker_of_rest = Waker::from(rest.clone());
        Self { stream, head: Vec::new(), last: Last::Read, interims: Interims::None, rest, waker_of_rest }
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// How far the last request came.
    pub(crate) fn into_progress(self) -> Progress {
        let head = SentHead(self.head);
        match self.last {
            Last::Read => Progress::Answered(head),
            Last::Refused => Progress::Refused(head),
            Last::Head => Progress::Unanswered(Some(head)),
            Last::Unkept => Progress::Unanswered(None),
        }
    }

    /// Waits as whoever polls, or as the connection's rest if that is nobody.
    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !std::ptr::eq(cx.waker(), NOBODY) {
            self.rest.leave();
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let polled = Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker_of_rest), buf);
        match polled {
            Poll::Pending => self.rest.watch(),
            Poll::Ready(_) => self.rest.leave(),
        }
        polled
    }

    /// `first` is the slice that a write began with, `written` what the socket took of everything.
    fn note_write(&mut self, first: &[u8], written: &Poll<io::Result<usize>>) {
        let Poll::Ready(written) = written else { return };
        if self.last != Last::Read {
            return;
        }
        // hyper writes the head as one slice of its own, in front of the body.
        self.last = match written {
            Err(_) => Last::Refused,
            Ok(written) if *written >= first.len() && first.len() <= HEAD_BYTES_MAX => Last::Head,
            Ok(_) => Last::Unkept,
        };
        if self.last != Last::Unkept {
            self.head.clear();
            self.head.extend_from_slice(first);
        }
    }
}

impl SentHead {
    /// The request that these bytes are, if it is the one called `id`. `None` for anything that we would not have written.
    ///
    /// A backend that answers before it has read a body makes what follows look like a head, and a connection may fail
    /// before the next head is written: only the id, which each request of ours carries, tells whose bytes these are.
    pub(crate) fn into_request<B>(self, id: &str, body: B) -> Option<Request<B>> {
        let request = self.parse(body)?;
        let has_id = request.headers().get(X_REQUEST_ID).is_some_and(|value| value.as_bytes() == id.as_bytes());
        has_id.then_some(request)
    }

    fn parse<B>(self, body: B) -> Option<Request<B>> {
        let text = self.0.strip_suffix(b"\r\n\r\n")?;
        let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = lines.next()?.splitn(3, |byte| *byte == b' ');
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
        *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            request.headers_mut().try_append(name, value).ok()?;
        }
        Some(request)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(this.poll_stream(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            let is_first = std::mem::replace(&mut this.last, Last::Read) != Last::Read;
            if is_first { this.interims.begin(read)? } else { this.interims.go_on(read)? }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(buf, &written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.stream.poll_write_slices(cx, bufs);
        this.note_write(bufs.first().map_or(&[][..], |first| first), &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> SentHead {
        SentHead(text.as_bytes().to_vec())
    }

    #[test]
    fn a_sent_head_becomes_the_request_it_was() {
        let head = sent("GET /a?b=1 HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-request-id: 7\r\nx-a: 2\r\n\r\n");
        let request = head.into_request("7", ()).unwrap();
        assert_eq!((request.method(), request.uri().to_string()), (&Method::GET, "/a?b=1".into()));
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!((values.len(), request.headers()["host"].to_str().unwrap()), (2, "x"));
    }

    #[test]
    fn half_a_head_is_no_request() {
        assert!(sent("GET / HTTP/1.1\r\nx-request-id: 7\r\n").into_request("7", ()).is_none());
        assert!(sent("\r\n\r\n").into_request("7", ()).is_none());
    }

    #[test]
    fn the_head_of_another_request_is_not_sent_again() {
        for other in ["GET / HTTP/1.1\r\nx-request-id: 8\r\n\r\n", "DELETE /all HTTP/1.1\r\nhost: x\r\n\r\n"] {
            assert!(sent(other).into_request("7", ()).is_none(), "{other}");
        }
    }
}
