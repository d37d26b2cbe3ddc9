//! The upstream socket as hyper sees it. It remembers the head of the last request until something is read.
//! It promises that a head which is handed back was the last thing written, with nothing read since: the one case in
//! which a request can be sent again as it was. Keeping the bytes costs a copy of some hundred bytes per request; a clone of
//! the header map would cost two allocations and a reference count for each field.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::stream::Stream;

/// Longer heads are not remembered, so their requests are not replayed.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A [`Stream`] under hyper's client.
pub(crate) struct UpstreamStream {
    stream: Stream,
    head: Vec<u8>,
    last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing yet, or something was read: the next write begins a head.
    Read,
    /// A head was written whole, and perhaps some of its body.
    Head,
    /// A head was written in part, or is too long to keep.
    Unkept,
}

/// The bytes of a request head that nobody answered.
#[derive(Debug)]
pub(crate) struct SentHead(Vec<u8>);

impl UpstreamStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, head: Vec::new(), last: Last::Read }
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// The head of the last request, if nothing was read since it was written.
    pub(crate) fn into_unanswered_head(self) -> Option<SentHead> {
        (self.last == Last::Head).then_some(SentHead(self.head))
    }

    /// `first` is the slice that a write began with, `written` what the socket took of everything.
    fn note_write(&mut self, first: &[u8], written: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(written)) = written else { return };
        if self.last != Last::Read {
            return;
        }
        // hyper writes the head as one slice of its own, in front of the body.
        self.last = Last::Unkept;
        if *written >= first.len() && first.len() <= HEAD_BYTES_MAX {
            self.head.clear();
            self.head.extend_from_slice(first);
            self.last = Last::Head;
        }
    }
}

impl SentHead {
    /// The request that these bytes are. `None` for anything that we would not have written.
    pub(crate) fn into_request<B>(self, body: B) -> Option<Request<B>> {
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
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.last = Last::Read;
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

    #[test]
    fn a_sent_head_becomes_the_request_it_was() {
        let head = SentHead(b"GET /a?b=1 HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-a: 2\r\n\r\n".to_vec());
        let request = head.into_request(()).unwrap();
        assert_eq!((request.method(), request.uri().to_string()), (&Method::GET, "/a?b=1".into()));
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!((values.len(), request.headers()["host"].to_str().unwrap()), (2, "x"));
    }

    #[test]
    fn half_a_head_is_no_request() {
        assert!(SentHead(b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec()).into_request(()).is_none());
        assert!(SentHead(b"\r\n\r\n".to_vec()).into_request(()).is_none());
    }
}
