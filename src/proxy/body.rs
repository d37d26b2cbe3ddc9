//! The response body that hyper's server polls: an enum, so that passing a response through boxes nothing.
//! It promises that the exchange ends, is counted and is logged when the body ends, however it ends.
//! It does not know where a relayed body comes from: the connection does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::error::{FailureKind, ProxyError};
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Exchange;

/// The body of every response that goes down.
pub struct ProxyBody {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
}

enum Kind {
    Empty,
    Whole(Bytes),
    /// In the connection's slot; with the length that is left, if it is known.
    Relayed(Arc<Connection>, Option<u64>),
    /// A filter changed it.
    Filtered(Pin<Box<dyn Body<Data = Bytes, Error = ProxyError> + Send>>),
}

impl ProxyBody {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, exchange: None }
    }

    /// A body that is all there.
    pub fn whole(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Whole(bytes) };
        Self { kind, exchange: None }
    }

    /// The body that stands in the connection's relay slot.
    pub(crate) fn relayed(connection: Arc<Connection>, length: Option<u64>) -> Self {
        Self { kind: Kind::Relayed(connection, length), exchange: None }
    }

    /// A body that a filter made of another one.
    pub fn filtered<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = ProxyError> + Send + 'static,
    {
        Self { kind: Kind::Filtered(Box::pin(body)), exchange: None }
    }

    /// Lets `exchange` end with this body.
    pub(crate) fn finishing(mut self, exchange: Box<Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, ProxyError>>>) {
        let Some(exchange) = &mut self.exchange else { return };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                exchange.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => exchange.fail(error.kind),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }
}

impl Default for ProxyBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let polled = match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(_) => {
                let Kind::Whole(bytes) = std::mem::replace(&mut self.kind, Kind::Empty) else { unreachable!() };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Relayed(connection, _) => {
                let polled = connection.poll_relay(cx);
                if matches!(polled, Poll::Ready(None)) {
                    self.kind = Kind::Empty;
                }
                polled
            }
            Kind::Filtered(body) => body.as_mut().poll_frame(cx),
        };
        self.note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Relayed(connection, _) => connection.relay_is_done(),
            Kind::Filtered(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Relayed(_, Some(length)) => SizeHint::with_exact(*length),
            Kind::Relayed(_, None) => SizeHint::default(),
            Kind::Filtered(body) => body.size_hint(),
        }
    }
}

impl Drop for ProxyBody {
    fn drop(&mut self) {
        let ended = Body::is_end_stream(self);
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.expects_body() && !ended) {
            // hyper lets go of a body before its end only when the client is gone, or when we end the connection.
            let kind = exchange.connection.body_failure().unwrap_or(FailureKind::ClientClosed);
            exchange.fail(kind);
        }
        if let Kind::Relayed(connection, _) = &self.kind {
            connection.drop_relay();
        }
    }
}
