//! One accepted downstream socket from its first byte to its last: parked, served, refused, upgraded, closed.
//! It promises that an idle connection costs its socket and little more, that a refused message is answered and nothing
//! after it is looked at, and that the client can read our last answer before the socket goes.
//! It parses nothing: hyper does; it decides nothing about requests: the handler does.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use crate::error::{FailureKind, ProxyError};
use crate::http::forwarded::{Ends, PeerHeaders};
use crate::http::head_guard::HeadLimits;
use crate::lifecycle::clock;
use crate::net::stream::Stream;
use crate::proxy::activity::{Activity, Order, Phase};
use crate::proxy::body::ProxyBody;
use crate::proxy::client_stream::ClientStream;
use crate::proxy::exchange::Exchange;
use crate::proxy::handler;
use crate::proxy::listening::ListenerContext;
use crate::proxy::refusal;
use crate::proxy::relay::Relay;
use crate::proxy::timer::Timer;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::worker::Worker;
use crate::telemetry::metrics::Limit;
use crate::units::Moment;

/// hyper reads at most so much ahead of the handler, and writes at most so much ahead of the client.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// What the parts of one connection share: its task, its stream under hyper, its handler, the worker's sweep.
pub(crate) struct Connection {
    /// The thread it lives on.
    pub(crate) worker: Arc<Worker>,
    /// Where it was accepted.
    pub(crate) listener: Arc<ListenerContext>,
    /// Who is at the other end; `None` on a unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// What it is doing.
    pub(crate) activity: Activity,
    /// For the timeouts of attempts.
    pub(crate) timer: Timer,
    /// The response that is on its way down.
    relay: Mutex<Option<Box<Relay>>>,
    /// That response broke off, and what came before it is not known to be written.
    relay_broken: AtomicBool,
    /// The upgrade that was agreed on.
    tunnel: Mutex<Option<Box<Tunnel>>>,
    /// Why what follows is not looked at: a `FailureKind` plus one, or zero.
    refusal: AtomicU16,
    /// What is refused is the body of the last good request, not a head after it.
    refused_in_body: AtomicBool,
    /// How many requests the engine has to begin before the refusal is reached.
    good_requests: AtomicU32,
    /// How many requests the engine has begun since it took the connection up.
    requests_begun: AtomicU32,
    /// Why the body of the open request ended early, likewise.
    body_failure: AtomicU16,
    /// Its client closed in mid-exchange: RFC 9112 has no use for a half-closed connection, so nobody waits for the answer.
    client_gone: AtomicBool,
    /// Nothing but the socket is held.
    parked: AtomicBool,
    /// What its requests say about the peer, made when the first of them needs it.
    peer_headers: OnceLock<Box<PeerHeaders>>,
    waker: OnceLock<Waker>,
}

impl Connection {
    pub(crate) fn new(worker: Arc<Worker>, listener: Arc<ListenerContext>, peer: Option<SocketAddr>) -> Arc<Self> {
        let activity = Activity::default();
        activity.enter(Phase::Idle, worker.coarse_now());
        Arc::new(Self {
            worker,
            listener,
            peer,
            activity,
            timer: Timer::default(),
            relay: Mutex::default(),
            relay_broken: AtomicBool::new(false),
            tunnel: Mutex::default(),
            refusal: AtomicU16::new(0),
            refused_in_body: AtomicBool::new(false),
            good_requests: AtomicU32::new(0),
            requests_begun: AtomicU32::new(0),
            body_failure: AtomicU16::new(0),
            client_gone: AtomicBool::new(false),
            parked: AtomicBool::new(true),
            peer_headers: OnceLock::new(),
            waker: OnceLock::new(),
        })
    }

    /// Whether it holds nothing but its socket already.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Relaxed)
    }

    /// Tells the connection's task what to do.
    pub(crate) fn order(&self, order: Order) {
        self.activity.give_order(order);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Waits for an order that ends whatever is open.
    pub(crate) async fn ordered(&self) -> Order {
        poll_fn(|_| match self.activity.take_order() {
            Some(order @ (Order::Stalled | Order::Now)) => Poll::Ready(order),
            _ => Poll::Pending, // orders wake the whole task
        })
        .await
    }

    pub(crate) fn head_limits(&self) -> HeadLimits {
        let limits = &self.worker.store.load().config.limits;
        HeadLimits {
            header_bytes: limits.header_bytes.as_usize(),
            header_count: limits.header_count.get(),
            target_bytes: limits.header_bytes.as_usize(),
        }
    }

    pub(crate) fn coarse_now(&self) -> Moment {
        self.worker.coarse_now()
    }

    /// The address at the other end; `None` on a unix socket. IPv4 clients of a dual-stack socket are IPv4 clients.
    pub(crate) fn peer_ip(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }

    /// What requests say about the peer.
    pub(crate) fn peer_headers(&self) -> &PeerHeaders {
        self.peer_headers.get_or_init(|| {
            let ends = Ends { peer: self.peer, local: self.listener.local, scheme: self.listener.scheme };
            Box::new(PeerHeaders::new(&ends, &self.worker.store.load().config.trusted_proxies))
        })
    }

    /// Whether the answer at hand is the last one on this connection.
    pub(crate) fn must_close(&self) -> bool {
        self.worker.is_draining() || self.activity.is_last() || self.body_failure().is_some()
    }

    pub(crate) fn client_is_gone(&self) -> bool {
        self.client_gone.load(Relaxed)
    }

    pub(crate) fn note_client_gone(&self) {
        self.client_gone.store(true, Relaxed);
    }

    /// What comes next is not looked at any more. Honest requests that came before it are served all the same.
    pub(crate) fn refuse(&self, kind: FailureKind, refused: Refused) {
        self.good_requests.store(refused.n_heads, Relaxed);
        self.refused_in_body.store(refused.in_body, Relaxed);
        self.refusal.store(kind.index() as u16 + 1, Relaxed);
    }

    pub(crate) fn refusal(&self) -> Option<FailureKind> {
        kind_at(&self.refusal)
    }

    /// Why the body of the open request is refused; `None` if what is refused is another message, or nothing.
    pub(crate) fn body_refusal(&self) -> Option<FailureKind> {
        let refusal = self.refusal()?;
        let is_last_good = self.good_requests.load(Relaxed) == self.requests_begun.load(Relaxed);
        (self.refused_in_body.load(Relaxed) && is_last_good).then_some(refusal)
    }

    /// The body of the open request ends here, for this reason.
    pub(crate) fn fail_body(&self, kind: FailureKind) {
        self.body_failure.store(kind.index() as u16 + 1, Relaxed);
    }

    pub(crate) fn body_failure(&self) -> Option<FailureKind> {
        kind_at(&self.body_failure).or_else(|| self.body_refusal())
    }

    /// What has used up the deadline of a request without an answer: a client that owes its body, or the service.
    pub(crate) fn overdue(&self) -> FailureKind {
        match self.activity.body_wanted.load(Relaxed) {
            true => FailureKind::RequestTimeout,
            false => FailureKind::Deadline,
        }
    }

    pub(crate) fn note_body_read<T>(&self, polled: &Poll<T>) {
        self.activity.body_wanted.store(polled.is_pending(), Relaxed);
    }

    pub(crate) fn note_write(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.activity.bytes_out.add(*bytes);
        }
        self.activity.write_blocked.store(written.is_pending(), Relaxed);
    }

    /// Lets a response go on while the client does not read.
    pub(crate) fn set_relay(&self, relay: Relay) {
        *self.relay() = Some(Box::new(relay));
    }

    pub(crate) fn poll_relay(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self.relay().as_mut() {
            Some(relay) => relay.poll_next(self, cx),
            None => Poll::Ready(None),
        }
    }

    /// The response breaks off where it stands; its client is to get what came so far.
    pub(crate) fn note_relay_broken(&self) {
        self.relay_broken.store(true, Relaxed);
    }

    /// Lets a broken response fail once the engine has written everything that it held of it.
    fn fail_flushed_relay(&self, cx: &Context<'_>) {
        if !self.relay_broken.load(Relaxed) || self.activity.write_blocked.load(Relaxed) {
            return;
        }
        self.relay_broken.store(false, Relaxed);
        if let Some(relay) = self.relay().as_mut() {
            relay.note_flushed();
            cx.waker().wake_by_ref();
        }
    }

    pub(crate) fn relay_is_done(&self) -> bool {
        self.relay().as_ref().is_none_or(|relay| relay.is_done())
    }

    pub(crate) fn drop_relay(&self) {
        let relay = self.relay().take();
        drop(relay); // outside the lock: it may give a place back and wake somebody
    }

    fn relay(&self) -> MutexGuard<'_, Option<Box<Relay>>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an agreed upgrade until hyper has sent the 101.
    pub(crate) fn set_tunnel(&self, tunnel: Box<Tunnel>) {
        *self.tunnel() = Some(tunnel);
    }

    pub(crate) fn tunnel(&self) -> MutexGuard<'_, Option<Box<Tunnel>>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind_at(cell: &AtomicU16) -> Option<FailureKind> {
    let stored = cell.load(Relaxed);
    if stored == 0 { None } else { FailureKind::all().nth(usize::from(stored) - 1) }
}

/// Where on a connection something was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// In the body of a request whose head was good.
    pub(crate) in_body: bool,
    /// Good heads before it, that request's included.
    pub(crate) n_heads: u32,
}

/// How a stretch of HTTP on a connection ended.
enum Stretch {
    /// Nothing is open and nothing has come for a while.
    Rest(Stream),
    /// Nothing more is to be done.
    Over,
    /// The client was told; it may still be sending.
    Linger(Stream),
    /// What came is refused, or did not come in time.
    Refused(Stream, FailureKind),
    /// A 101 went down; with the bytes that came after the request.
    Upgraded(Stream, Bytes, Box<Tunnel>),
}

/// Serves one connection until it ends.
pub(crate) async fn serve(mut stream: Stream, connection: Arc<Connection>) {
    poll_fn(|cx| {
        connection.waker.get_or_init(|| cx.waker().clone());
        Poll::Ready(())
    })
    .await;
    loop {
        if rest(&stream, &connection).await.is_none() {
            return;
        }
        // Boxed, so that a resting connection does not hold the room that a busy one needs.
        match Box::pin(speak_http(stream, &connection)).await {
            Stretch::Rest(rested) => {
                stream = rested;
                connection.worker.note_parked();
            }
            Stretch::Over => return,
            Stretch::Linger(stream) => return Box::pin(refusal::linger(stream)).await,
            Stretch::Refused(stream, kind) => {
                return Box::pin(refusal::answer(stream, &connection, kind)).await;
            }
            Stretch::Upgraded(stream, early, tunnel) => {
                return Box::pin(tunnel.run(stream, early, &connection)).await;
            }
        }
    }
}

/// Waits for the first byte of a request with nothing but the socket in hand. `None` once the connection is to end.
async fn rest(stream: &Stream, connection: &Connection) -> Option<()> {
    connection.timer.disarm();
    connection.parked.store(true, Relaxed);
    let readable = poll_fn(|cx| {
        match connection.activity.take_order() {
            None | Some(Order::Park) => {}
            Some(_) => return Poll::Ready(None),
        }
        stream.poll_read_ready(cx).map(Result::ok)
    })
    .await;
    connection.parked.store(false, Relaxed);
    readable
}

/// Shows a tower service to hyper, which calls through a shared reference and asks no service whether it is ready.
struct ServedByHyper<S>(S);

impl<S: tower::Service<Request<Incoming>> + Clone> hyper::service::Service<Request<Incoming>> for ServedByHyper<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.clone().call(request)
    }
}

/// Speaks HTTP/1.1 on `stream` until it rests or ends.
async fn speak_http(stream: Stream, connection: &Arc<Connection>) -> Stretch {
    let io = TokioIo::new(ClientStream::new(stream, connection.clone()));
    let mut server = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        // Without this hyper reads ahead during each exchange only to notice a client that goes away, into a fresh buffer
        // of 8 KiB since the head still holds the old one. `ClientStream` notices for less.
        .half_close(true)
        .serve_connection(io, ServedByHyper(handler::service(connection.clone())));
    let pause = poll_fn(|cx| poll_server(&mut server, connection, cx)).await;
    let parts = server.into_parts();
    let (mut stream, early) = (parts.io.into_inner(), parts.read_buf);
    match pause {
        Pause::Rest if early.is_empty() => Stretch::Rest(stream.into_stream()),
        Pause::Refused(kind) => Stretch::Refused(stream.into_stream(), kind),
        Pause::Rest | Pause::Cut => Stretch::Over,
        Pause::Done => match connection.tunnel().take() {
            Some(tunnel) => {
                let early = Bytes::from([&early[..], &stream.take_refused()].concat());
                Stretch::Upgraded(stream.into_stream(), early, tunnel)
            }
            None if stream.is_mid_message() => Stretch::Linger(stream.into_stream()),
            None => Stretch::Over,
        },
    }
}

/// Why hyper's future is put down.
enum Pause {
    Rest,
    Refused(FailureKind),
    Cut,
    Done,
}

fn poll_server<S>(
    server: &mut http1::Connection<TokioIo<ClientStream>, S>,
    connection: &Arc<Connection>,
    cx: &mut Context<'_>,
) -> Poll<Pause>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<ProxyBody>, Error = Infallible>,
{
    if let Some(order) = connection.activity.take_order()
        && let Some(pause) = obey(order, connection)
    {
        return Poll::Ready(pause);
    }
    if let Poll::Ready(ended) = Pin::new(&mut *server).poll(cx) {
        note_unparsed(ended, connection);
        return Poll::Ready(Pause::Done);
    }
    let activity = &connection.activity;
    if activity.write_blocked.load(Relaxed)
        && let Some(relay) = connection.relay().as_mut()
    {
        relay.poll_ahead(connection, cx);
    }
    connection.fail_flushed_relay(cx);
    // What came before the refused message is answered first.
    let nothing_open = matches!(activity.phase(), Phase::Idle | Phase::Head) && !activity.write_blocked.load(Relaxed);
    match connection.refusal() {
        _ if connection.client_is_gone() => Poll::Ready(Pause::Cut),
        Some(_) if !nothing_open || !connection.refusal_is_reached() => Poll::Pending,
        // The request had its answer before its body was refused: there is nothing more to say.
        Some(_) if connection.body_refusal().is_some() => Poll::Ready(Pause::Done),
        Some(kind) => Poll::Ready(Pause::Refused(kind)),
        None => Poll::Pending,
    }
}

/// A head that the guard let through and hyper did not, such as `GET a/b`: hyper has answered it, and only the record is
/// left to us.
fn note_unparsed(ended: hyper::Result<()>, connection: &Arc<Connection>) {
    let nothing_open = matches!(connection.activity.phase(), Phase::Idle | Phase::Head);
    if nothing_open && ended.is_err_and(|error| error.is_parse()) {
        drop(Exchange::refused(connection, FailureKind::BadRequest, clock::now()));
    }
}

/// Acts on an order of the sweep. The phase may have changed since it was given: what no longer fits is ignored.
fn obey(order: Order, connection: &Connection) -> Option<Pause> {
    let activity = &connection.activity;
    let everything_moved = !activity.mid_message.load(Relaxed) && !activity.write_blocked.load(Relaxed);
    let at_rest = activity.phase() == Phase::Idle && everything_moved;
    match order {
        Order::Park => at_rest.then_some(Pause::Rest),
        Order::Close => at_rest.then_some(Pause::Cut),
        Order::HeadTimeout => (activity.phase() == Phase::Head && !activity.write_blocked.load(Relaxed)).then(|| {
            connection.worker.metrics.limit_hit(Limit::HeaderTimeout);
            Pause::Refused(FailureKind::RequestTimeout)
        }),
        Order::BodyTimeout => {
            connection.worker.metrics.limit_hit(Limit::MinBodyRate);
            connection.fail_body(FailureKind::RequestTimeout);
            None
        }
        Order::Deadline if activity.phase() == Phase::Request => {
            connection.fail_body(connection.overdue());
            None
        }
        Order::Stalled | Order::Deadline | Order::Now => {
            connection.fail_body(reason_for_cut(order, activity));
            Some(Pause::Cut)
        }
    }
}

/// Why we end what is open: the record must not blame the client for it.
fn reason_for_cut(order: Order, activity: &Activity) -> FailureKind {
    match order {
        Order::Deadline => FailureKind::Deadline,
        Order::Now => FailureKind::Draining,
        _ if activity.write_blocked.load(Relaxed) => FailureKind::ClientClosed,
        _ => FailureKind::ResponseTimeout,
    }
}

impl Connection {
    /// Begins to count requests anew: a new guard watches the connection.
    pub(crate) fn begin_watch(&self) {
        self.requests_begun.store(0, Relaxed);
    }

    /// Whether everything before what is refused has begun.
    fn refusal_is_reached(&self) -> bool {
        self.requests_begun.load(Relaxed) >= self.good_requests.load(Relaxed)
    }

    /// Begins the next request: nothing of the last one is left.
    pub(crate) fn begin_request(&self, now: Moment) {
        self.requests_begun.fetch_add(1, Relaxed);
        self.body_failure.store(0, Relaxed);
        self.activity.begin_request(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parked connection holds: 10,000 of them are to stay within a few megabytes.
    #[test]
    fn a_parked_connection_is_small() {
        assert!(size_of::<Connection>() <= 640, "{}", size_of::<Connection>());
        assert!(future_size(serve) <= 512, "{}", future_size(serve));
    }

    /// The size of what an `async fn` returns, which has no name.
    fn future_size<F, R>(_: F) -> usize
    where
        F: Fn(Stream, Arc<Connection>) -> R,
    {
        size_of::<R>()
    }
}
