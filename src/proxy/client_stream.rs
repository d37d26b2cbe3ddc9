//! The downstream socket as hyper sees it: counted, watched by the head guard, and shut down by us alone.
//! It promises that no byte of a refused message reaches the parser. It does not answer refusals: the connection does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::head_guard::{GuardState, HeadGuard, Place, Verdict};
use crate::lifecycle::clock;
use crate::net::stream::{Peeked, Stream};
use crate::proxy::activity::Phase;
use crate::proxy::connection::{Connection, Refused};

/// A [`Stream`] under hyper's server.
pub(crate) struct ClientStream {
    stream: Stream,
    guard: HeadGuard,
    connection: Arc<Connection>,
    /// What came in one read with the byte that was refused, from there on.
    refused: Option<Box<[u8]>>,
    /// Nothing is known to wait in the socket; what becomes readable may be the client's end.
    awaits_end: bool,
}

impl ClientStream {
    pub(crate) fn new(stream: Stream, connection: Arc<Connection>) -> Self {
        let guard = HeadGuard::new(connection.head_limits());
        connection.begin_watch();
        Self { stream, guard, connection, refused: None, awaits_end: true }
    }

    /// Bytes that are no HTTP but need not be: those of a client that took its upgrade for granted.
    pub(crate) fn take_refused(&mut self) -> Box<[u8]> {
        self.refused.take().unwrap_or_default()
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether what was read so far ends inside a message.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.guard.state() != GuardState::BetweenMessages
    }

    /// Asks to be woken by the client's next sign of life, and looks whether it is its end.
    fn look_for_end(&mut self, cx: &mut Context<'_>) {
        if self.stream.poll_read_ready(cx).is_pending() {
            return;
        }
        match self.stream.peek() {
            Peeked::Nothing => {}
            // The next request, or more of this one's body: hyper reads it in its time.
            Peeked::Bytes => self.awaits_end = false,
            Peeked::End => self.connection.note_client_gone(),
        }
    }

    /// Shows the guard what was just read; keeps only what is good.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = &buf.filled()[before..];
        let activity = &self.connection.activity;
        activity.bytes_in.add(fresh.len());
        match self.guard.feed(fresh) {
            Verdict::Pass(_) => {}
            Verdict::Refused { good, kind } => {
                let in_body = self.guard.refused_place() == Some(Place::Body);
                self.connection.refuse(kind, Refused { in_body, n_heads: self.guard.heads_complete() });
                self.refused = Some(fresh[good..].into());
                buf.set_filled(before + good);
            }
        }
        activity.mid_message.store(self.is_mid_message(), Relaxed);
        if activity.phase() == Phase::Idle {
            // Who begins a head and does not complete it will stand in the log with the time that it took.
            let now = match self.guard.state() {
                GuardState::InHead | GuardState::Refused(_) => clock::now(),
                _ => self.connection.coarse_now(),
            };
            activity.enter(Phase::Head, now);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.refusal().is_some() {
            return Poll::Pending; // what follows a refused message is never looked at; the connection ends
        }
        let before = buf.filled().len();
        this.awaits_end = true;
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.inspect(buf, before);
            if buf.filled().len() == before {
                return Poll::Pending; // all of it was refused; nothing read must not look like the end of stream
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.connection.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.stream.poll_write_slices(cx, bufs);
        this.connection.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is buffered here. hyper calls this on every turn, so it is where a client that goes away in the middle of
    /// an exchange is noticed.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.awaits_end && matches!(this.connection.activity.phase(), Phase::Request | Phase::Response) {
            this.look_for_end(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Does nothing: hyper is done, but the connection may still have to linger, or may close with one call less.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
