//! An upgraded connection: bytes both ways until both sides are done, or silent for too long.
//! It promises that each end's close reaches the other (RFC 6455 closes are frames, but TCP half-closes happen), that
//! bytes sent early are not lost, and that the record is written at the end. It does not look at the bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

use crate::error::FailureKind;
use crate::lifecycle::clock;
use crate::net::stream::Stream;
use crate::proxy::activity::{Order, Tally};
use crate::proxy::attempt::Attempt;
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Exchange;

/// Per direction. WebSocket messages are small; idle tunnels are many.
const BUFFER_BYTES: usize = 8 * 1024;

/// The upstream side of an agreed upgrade.
pub(crate) struct Tunnel {
    pub(crate) upstream: Stream,
    /// What the backend sent right behind its 101.
    pub(crate) early: Bytes,
    pub(crate) attempt: Attempt,
    /// Set when the 101 goes down: the tunnel is the exchange's body.
    pub(crate) exchange: Option<Box<Exchange>>,
}

impl Tunnel {
    /// Copies until the end. `early` is what the client sent right behind its request.
    pub(crate) async fn run(self: Box<Self>, client: Stream, early: Bytes, connection: &Arc<Connection>) {
        let Tunnel { upstream, early: early_down, attempt, exchange } = *self;
        let policy = &attempt.service().policy;
        connection.activity.enter_tunnel(clock::now());
        connection.activity.limit_silence(policy.timeouts.idle);
        let mut client = Watched { stream: client, bytes: &connection.activity.bytes_in, is_broken: false };
        let mut upstream = Watched { stream: upstream, bytes: &connection.activity.bytes_upstream, is_broken: false };
        let bytes_in_before = connection.activity.bytes_in.get();
        let copied = async {
            upstream.write_all(&early).await?;
            client.write_all(&early_down).await?;
            copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await
        };
        let ended = tokio::select! {
            ended = copied => ended.map(drop).map_err(|_| None),
            order = connection.ordered() => Err(Some(order)),
        };
        attempt.complete(StatusCode::SWITCHING_PROTOCOLS, clock::now());
        let bytes_in = connection.activity.bytes_in.get() - bytes_in_before + early.len() as u64;
        connection.activity.body_bytes_in.set(bytes_in);
        if let Some(mut exchange) = exchange {
            exchange.bytes_out += early_down.len() as u64 + connection.activity.bytes_upstream.get();
            match ended {
                Ok(()) => {}
                Err(Some(Order::Now)) => exchange.fail(FailureKind::Draining),
                Err(Some(_)) => exchange.fail(FailureKind::Deadline),
                Err(None) if upstream.is_broken => exchange.fail(FailureKind::UpstreamReset),
                Err(None) => exchange.fail(FailureKind::ClientClosed),
            }
        }
    }
}

/// One end of a tunnel: its bytes read are counted, for the sweep, and its failure is noted, for the record.
struct Watched<'a> {
    stream: Stream,
    bytes: &'a Tally,
    /// It reported an error: what ended the tunnel came from this end.
    is_broken: bool,
}

impl Watched<'_> {
    fn note<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_broken |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.bytes.add(buf.filled().len() - before);
        this.note(polled)
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.note(polled)
    }
}
