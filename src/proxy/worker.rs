//! One data-plane thread: its runtime, its listeners, its connections, its pools, its sweep.
//! It promises that a request never leaves the thread that accepted its connection, and that accepting survives every
//! error of the system. It does not know what a request is.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::checked::Limits;
use crate::error::FailureKind;
use crate::lifecycle::{clock, drain, memory};
use crate::net::listener::{BACKLOG, Bound, Listener};
use crate::net::stream::Stream;
use crate::proxy::activity::{Awake, Order};
use crate::proxy::capacity::Capacity;
use crate::proxy::connection::{self, Connection};
use crate::proxy::handoff::{Accepted, Handoff};
use crate::proxy::listening::ListenerContext;
use crate::proxy::pool::{Pools, Tick};
use crate::proxy::refusal;
use crate::proxy::stack::Stack;
use crate::runtime::backend::{Backend, BackendId};
use crate::runtime::leaving::Leaving;
use crate::runtime::store::Store;
use crate::telemetry::access_log;
use crate::telemetry::metrics::{Limit, Metrics, ServiceMetrics};
use crate::telemetry::shards;
use crate::units::Moment;

/// The sweep's rhythm: timeouts are met this exactly.
const TICK: Duration = Duration::from_millis(100);
/// What is ready is taken in turns: so many sockets are asked of the kernel at once, and whoever they concern is served
/// before it is asked again. Larger turns touch more memory than the cache holds; with smaller ones, each write finds the
/// process at the other end asleep (`benches/peers`, 2,000 connections).
const EVENTS_PER_TURN: usize = 256;
/// More than a turn has, with each request going on in step twice; it bounds how late timers are.
const POLLS_PER_TURN: u32 = 1_024;
/// While draining, a connection that rests for so long is closed. A client that was about to send has had the time to,
/// and got its answer with `Connection: close`.
const DRAIN_REST: Duration = Duration::from_secs(1);
/// A listener that goes has stopped beginning connections; of those that it began, the client's last word comes a round trip
/// later: this is longer than most.
const HANDSHAKE: Duration = Duration::from_millis(250);
/// Short of descriptors, a connection that rests for so long makes room for one that waits, on either side.
const SHED_REST: Duration = Duration::from_millis(200);

/// So many connections with a buffer each, some four megabytes, are a crowd: those that rest give theirs back soon.
const AWAKE_CROWD_MIN: u32 = 256;
/// So many parked connections hold about a megabyte: below that it is not worth walking the heap.
const PARKED_MIN: u32 = 64;
/// Walking the heap stops the worker for a moment.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(2);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store<Stack>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) capacity: Arc<Capacity>,
    pub(crate) drain: drain::Watch,
    /// Backends whose open requests are cut when their time is up.
    pub(crate) leaving: Arc<Leaving>,
    /// How we sign `Via`: names this instance, so that a loop is told from a chain of Portways.
    pub(crate) pseudonym: Arc<str>,
    /// For `accept: balanced`.
    pub(crate) handoff: Option<Arc<Handoff>>,
}

/// A socket to accept from.
pub(crate) struct Opened {
    pub(crate) socket: Bound,
    pub(crate) context: Arc<ListenerContext>,
}

/// What one worker takes connections from.
pub(crate) struct Intake {
    /// Its own sockets: those of the start, later those of reloads.
    pub(crate) listeners: UnboundedReceiver<Opened>,
    /// What another worker accepted for it.
    pub(crate) handed: Option<UnboundedReceiver<Accepted>>,
}

/// One data-plane thread.
pub(crate) struct Worker {
    idx: usize,
    handoff: Option<Arc<Handoff>>,
    pub(crate) store: Arc<Store<Stack>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Requests that found no route.
    pub(crate) unrouted: Arc<ServiceMetrics>,
    pub(crate) pools: Pools,
    pub(crate) log: access_log::Writer,
    pub(crate) via: crate::http::forwarded::Via,
    capacity: Arc<Capacity>,
    drain: drain::Watch,
    leaving: Arc<Leaving>,
    connections: Mutex<Connections>,
    now: AtomicU64,
    /// Connections that held their buffers at the last sweep.
    n_awake: AtomicU32,
    /// Connections parked since memory was last given back, and when that was.
    parked: AtomicU32,
    parked_before: AtomicU32,
    gave_back: AtomicU64,
}

impl Worker {
    pub(crate) fn new(idx: usize, shared: &Shared, log: access_log::Writer) -> Arc<Self> {
        Arc::new(Self {
            idx,
            handoff: shared.handoff.clone(),
            store: shared.store.clone(),
            metrics: shared.metrics.clone(),
            unrouted: shared.metrics.unrouted(),
            pools: Pools::default(),
            log,
            via: crate::http::forwarded::Via::new(&shared.pseudonym),
            capacity: shared.capacity.clone(),
            drain: shared.drain.clone(),
            leaving: shared.leaving.clone(),
            connections: Mutex::default(),
            now: AtomicU64::new(clock::now().0),
            n_awake: AtomicU32::new(0),
            parked: AtomicU32::new(0),
            parked_before: AtomicU32::new(0),
            gave_back: AtomicU64::new(0),
        })
    }

    /// The time of the last tick: exact enough for timeouts, free to read.
    pub(crate) fn coarse_now(&self) -> Moment {
        Moment(self.now.load(Relaxed))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.phase() != drain::Phase::Running
    }

    /// Whether it has no connection, nor one on its way.
    fn is_idle(&self) -> bool {
        let on_their_way = self.handoff.as_ref().is_some_and(|handoff| handoff.n_open(self.idx) > 0);
        self.connections().is_empty() && !on_their_way
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at every connection, and at what rests in the pools.
    fn sweep(&self) {
        let now = clock::now();
        let last = Moment(self.now.swap(now.0, Relaxed));
        let snapshot = self.store.load_full();
        let looks = Looks {
            now,
            limits: &snapshot.config.limits,
            is_draining: self.is_draining(),
            is_short: self.capacity.is_short_of_descriptors(),
            awake: if self.n_awake.load(Relaxed) < AWAKE_CROWD_MIN { Awake::Few } else { Awake::Crowd },
            overdue: self.leaving.overdue(now),
        };
        let mut n_awake = 0;
        for connection in self.connections().open() {
            n_awake += u32::from(!connection.is_parked());
            if let Some(order) = looks.at(connection) {
                connection.order(order);
            }
        }
        self.n_awake.store(n_awake, Relaxed);
        let rest_max = if looks.is_short { SHED_REST } else { Duration::MAX };
        let idle = |backend: &Backend| {
            let service = snapshot.service(&backend.service);
            service.map_or(Duration::ZERO, |service| service.policy.keepalive.idle).min(rest_max)
        };
        self.pools.sweep(idle, Tick { now, last });
        self.give_memory_back(now);
        self.log.flush_if_due(now);
    }
}

/// What one sweep judges all connections by.
struct Looks<'a> {
    now: Moment,
    limits: &'a Limits,
    is_draining: bool,
    is_short: bool,
    awake: Awake,
    /// Backends whose requests have had their time.
    overdue: Vec<BackendId>,
}

impl Looks<'_> {
    fn at(&self, connection: &Connection) -> Option<Order> {
        let activity = &connection.activity;
        let rested = activity.rested(self.now);
        let cut_at = connection.listener.cut_at();
        if cut_at.is_some() {
            activity.note_last();
        }
        match activity.look(self.limits, self.awake, self.now) {
            _ if (self.is_draining || cut_at.is_some()) && rested >= Some(DRAIN_REST) => Some(Order::Close),
            _ if self.is_short && rested >= Some(SHED_REST) => Some(Order::Close),
            _ if cut_at.is_some_and(|at| at <= self.now) || activity.is_at_any(&self.overdue) => Some(Order::Now),
            Some(Order::Park) if connection.is_parked() => None,
            order => order,
        }
    }
}

impl Worker {
    /// After many connections were parked, and not more often than now and then.
    fn give_memory_back(&self, now: Moment) {
        let parked = self.parked.load(Relaxed);
        // Connections that fell silent together are parked together: wait for the last of them.
        let settled = self.parked_before.swap(parked, Relaxed) == parked;
        let last = Moment(self.gave_back.load(Relaxed));
        if parked >= PARKED_MIN && settled && now.since(last) >= GIVE_BACK_EVERY {
            self.parked.store(0, Relaxed);
            self.gave_back.store(now.0, Relaxed);
            memory::give_back();
        }
    }

    /// A connection gave up everything but its socket.
    pub(crate) fn note_parked(&self) {
        self.parked.fetch_add(1, Relaxed);
    }
}

/// The open connections of a worker, each at a place of its own.
#[derive(Default)]
struct Connections {
    places: Vec<Option<Arc<Connection>>>,
    free: Vec<usize>,
}

impl Connections {
    fn enter(&mut self, connection: Arc<Connection>) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(connection);
                place
            }
            None => {
                self.places.push(Some(connection));
                self.places.len() - 1
            }
        }
    }

    fn leave(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }

    fn open(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.places.iter().flatten()
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}

/// An open connection's places: in its worker's list, its listener's count and the process's capacity.
struct Place {
    connection: Arc<Connection>,
    idx: usize,
}

impl Place {
    /// The capacity's places are taken already.
    fn take(connection: Arc<Connection>) -> Self {
        connection.listener.entered();
        let idx = connection.worker.connections().enter(connection.clone());
        Self { connection, idx }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.worker.connections().leave(self.idx);
        self.connection.worker.capacity.leave();
        if let Some(handoff) = &self.connection.worker.handoff {
            handoff.leave(self.connection.worker.idx);
        }
        self.connection.worker.capacity.release();
        self.connection.listener.left(); // last: who reads 0 connections finds room for new ones
    }
}

async fn sweep_for_ever(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n_ticks in 0_u64.. {
        ticks.tick().await;
        worker.sweep();
        if n_ticks % 5 == 0 {
            worker.capacity.read_descriptor_limit();
        }
    }
}

/// Runs a worker until the process is drained.
pub(crate) fn run(worker: Arc<Worker>, intake: Intake) -> io::Result<()> {
    shards::enter_worker(worker.idx);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.max_io_events_per_tick(EVENTS_PER_TURN).event_interval(POLLS_PER_TURN);
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        let sweep = tokio::spawn(sweep_for_ever(worker.clone()));
        let taking = intake.handed.map(|handed| tokio::spawn(take_for_ever(handed, worker.clone())));
        accept_from_all(intake.listeners, &worker).await;
        finish(&worker).await;
        taking.inspect(|taking| taking.abort());
        sweep.abort();
        Ok(())
    })
}

/// Accepts from every listener that comes, until the drain closes them all.
async fn accept_from_all(mut listeners: UnboundedReceiver<Opened>, worker: &Arc<Worker>) {
    let mut drain = worker.drain.clone();
    // The accepting worker of `accept: balanced` may hand over until then, so nobody ends before.
    let mut closing = pin!(drain.closing());
    let mut accepting = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            Some(opened) = listeners.recv() => {
                accepting.spawn(accept_for_ever(opened, worker.clone()));
            }
            Some(_) = accepting.join_next() => {}
        }
    }
    while accepting.join_next().await.is_some() {} // each takes what the kernel has completed already
}

/// Waits until every connection is gone, or makes them go when the drain deadline has passed.
async fn finish(worker: &Arc<Worker>) {
    let mut forced = worker.drain.clone();
    let gone = async {
        while !worker.is_idle() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = forced.forced() => {
            let open: Vec<_> = worker.connections().open().cloned().collect();
            open.iter().for_each(|connection| connection.order(Order::Now));
            tokio::task::yield_now().await;
        }
    }
}

/// Accepts until the drain or a reload closes the listener, whatever errors the system has.
async fn accept_for_ever(opened: Opened, worker: Arc<Worker>) {
    let context = opened.context;
    let listener = match opened.socket.into_listener() {
        Ok(listener) => listener,
        // The kernel gives the connections of a closed socket to those of the other workers.
        Err(error) => {
            worker.metrics.limit_hit(Limit::Descriptors);
            return tracing::debug!(%error, address = %context.address, "cannot accept on this worker");
        }
    };
    let mut drain = worker.drain.clone();
    let ends = async {
        tokio::select! { () = drain.closing() => {}, () = context.closing() => {} }
    };
    accept_until(ends, &listener, &context, &worker).await;
    if !context.is_handed_over() {
        listener.stand_aside();
    }
    let ends = async {
        tokio::select! { () = drain.closing() => {}, () = tokio::time::sleep(HANDSHAKE) => {} }
    };
    accept_until(ends, &listener, &context, &worker).await;
    // What the kernel has completed already is served; only then the socket closes. The driver has to look for it first.
    tokio::task::yield_now().await;
    for _ in 0..BACKLOG {
        tokio::select! {
            biased;
            () = accept_one(&listener, &context, &worker) => {}
            () = std::future::ready(()) => return,
        }
    }
}

async fn accept_until(
    end: impl Future<Output = ()>,
    listener: &Listener,
    context: &Arc<ListenerContext>,
    worker: &Arc<Worker>,
) {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => return,
            () = accept_one(listener, context, worker) => {}
        }
    }
}

async fn accept_one(listener: &Listener, context: &Arc<ListenerContext>, worker: &Arc<Worker>) {
    if !worker.capacity.reserve() {
        return worker.capacity.freed().await;
    }
    // Cancelled while it waits, this gives the descriptor back.
    let reserved = Reserved(&worker.capacity);
    let (stream, peer) = match listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            drop(reserved);
            return back_off(&error, worker).await;
        }
    };
    let limit = match () {
        _ if !context.has_room() => Limit::ListenerConnections,
        _ if !worker.capacity.admit() => Limit::Connections,
        _ => {
            reserved.keep();
            context.metrics.accepted.increment(1);
            return dispatch(stream, peer, context, worker);
        }
    };
    worker.metrics.limit_hit(limit);
    context.metrics.refused.increment(1);
    refusal::turn_away(&stream, FailureKind::Overloaded);
}

/// A descriptor that is set aside and not yet a connection's.
struct Reserved<'a>(&'a Capacity);

impl Reserved<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Opens a connection here, or hands it to the worker that has the fewest.
fn dispatch(stream: Stream, peer: Option<SocketAddr>, context: &Arc<ListenerContext>, worker: &Arc<Worker>) {
    let Some(handoff) = &worker.handoff else { return open(stream, peer, context, worker) };
    let worker_idx = handoff.enter();
    if worker_idx == worker.idx {
        return open(stream, peer, context, worker);
    }
    let accepted = Accepted::new(stream, peer, context.clone());
    if !accepted.is_ok_and(|accepted| handoff.send(worker_idx, accepted)) {
        handoff.leave(worker_idx);
        worker.capacity.leave();
        worker.capacity.release();
    }
}

/// Opens what other workers accepted for this one.
async fn take_for_ever(mut handed: UnboundedReceiver<Accepted>, worker: Arc<Worker>) {
    while let Some(accepted) = handed.recv().await {
        let (peer, context) = (accepted.peer, accepted.context.clone());
        match accepted.into_stream() {
            Ok(stream) => open(stream, peer, &context, &worker),
            Err(error) => {
                tracing::debug!(%error, "a connection was lost between two workers");
                worker.handoff.as_ref().inspect(|handoff| handoff.leave(worker.idx));
                worker.capacity.leave();
                worker.capacity.release();
            }
        }
    }
}

fn open(stream: Stream, peer: Option<SocketAddr>, context: &Arc<ListenerContext>, worker: &Arc<Worker>) {
    let connection = Connection::new(worker.clone(), context.clone(), peer);
    let place = Place::take(connection.clone());
    tokio::spawn(async move {
        connection::serve(stream, connection).await;
        drop(place);
    });
}

/// After an error of `accept`. Those of one connection cost nothing; those of the system would come again at once.
async fn back_off(error: &io::Error, worker: &Worker) {
    use rustix::io::Errno;
    let of_the_system = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    if of_the_system.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        worker.metrics.limit_hit(Limit::Descriptors);
        tracing::debug!(%error, "cannot accept for the moment");
        tokio::time::sleep(TICK).await;
    }
}
