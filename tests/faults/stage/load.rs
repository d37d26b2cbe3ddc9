//! Open-loop load: a request is due when the clock says so, whether the last one has been answered or not.
//! It promises a record of each request, with its latency from the time it was due, and never more than its bounds in
//! requests, connections and time. It judges nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::{self, Connection, PATIENCE_AFTER_DEADLINE, Persistence, Request};
use super::ledger::{Ending, Hope, Method, Sent};
use super::payload;

/// More requests than this under way at a time means that the generator, not the proxy, is what fails.
const UNDER_WAY_MAX: usize = 8_000;

/// A client gives its idle connections up before the proxy does: else every proxy would lose what meets its close.
const CLIENT_IDLE_MAX: Duration = Duration::from_secs(1);

/// What to send, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests per second.
    pub(crate) rate: u32,
    /// Share of POSTs.
    pub(crate) posts_percent: u8,
    /// Share of requests on connections of their own.
    pub(crate) closing_percent: u8,
    /// By when each has to have its outcome.
    pub(crate) deadline: Duration,
    /// The path before the size of the answer.
    pub(crate) path: &'static str,
    /// Who has to answer.
    pub(crate) service: &'static str,
    /// How often a client asks again, at once and with an id of its own, when it did not get a 200.
    pub(crate) client_retries: u32,
}

impl Load {
    /// Small answers, some larger ones; a fifth each of POSTs and of connections that are used once.
    pub(crate) const ORDINARY: Load = Load {
        rate: 300,
        posts_percent: 20,
        closing_percent: 20,
        deadline: Duration::from_secs(10),
        path: "/w",
        service: "web",
        client_retries: 0,
    };
}

/// A load under way.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    pacer: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    address: SocketAddr,
    sent: Mutex<Vec<Sent>>,
    idle: Mutex<Vec<(Instant, Connection)>>,
    under_way: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Load {
    /// Sends until it is stopped; `seed` decides what each request is.
    pub(crate) fn start(self, address: SocketAddr, seed: u64) -> Running {
        let shared = Arc::new(Shared {
            load: self,
            address,
            sent: Mutex::default(),
            idle: Mutex::default(),
            under_way: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
        });
        let pacer = tokio::spawn(pace(Arc::clone(&shared), fastrand::Rng::with_seed(seed)));
        Running { shared, pacer }
    }

    /// One request of this load.
    pub(crate) fn request(&self, random: &mut fastrand::Rng) -> Request {
        let is_post = random.u8(0..100) < self.posts_percent;
        let closes = random.u8(0..100) < self.closing_percent;
        let size = match random.u8(0..100) {
            0 => 40_000,
            1..10 => 4_000,
            _ => 200,
        };
        Request {
            id: payload::next_id(),
            method: if is_post { Method::Post } else { Method::Get },
            path: self.path,
            size: size + random.usize(0..100),
            act: None,
            persistence: if closes { Persistence::Close } else { Persistence::KeepAlive },
        }
    }
}

impl Running {
    /// How many have had their outcome so far.
    pub(crate) fn n_ended(&self) -> usize {
        lock(&self.shared.sent).len()
    }

    /// Records so far, of those due since `since_us`.
    pub(crate) fn since(&self, since_us: u64) -> Vec<Sent> {
        lock(&self.shared.sent).iter().filter(|sent| sent.due_us >= since_us).cloned().collect()
    }

    /// Sends no more, waits for everything under way and gives the records.
    pub(crate) async fn stop(self) -> Vec<Sent> {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        if let Err(error) = self.pacer.await {
            std::panic::resume_unwind(error.into_panic()); // in its own words: it is never aborted
        }
        let limit = self.shared.load.deadline + PATIENCE_AFTER_DEADLINE * 2;
        let is_over = || async { self.shared.under_way.load(Ordering::SeqCst) == 0 };
        crate::support::eventually(limit, "the end of every request", is_over).await;
        let mut sent = std::mem::take(&mut *lock(&self.shared.sent));
        sent.sort_by_key(|sent| sent.due_us);
        sent
    }
}

async fn pace(shared: Arc<Shared>, mut random: fastrand::Rng) {
    let (begin_at, begin_us) = (Instant::now(), payload::now_us());
    let every = Duration::from_secs(1) / shared.load.rate;
    for nth in 0_u32.. {
        let due_in = every * nth;
        tokio::time::sleep_until(begin_at + due_in).await;
        if shared.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst);
        assert!(under_way < UNDER_WAY_MAX, "{under_way} requests under way: more than this generator can hold");
        let request = shared.load.request(&mut random);
        let due = Due { at: begin_at + due_in, us: begin_us + u64::try_from(due_in.as_micros()).unwrap_or(u64::MAX) };
        tokio::spawn(one(Arc::clone(&shared), request, due));
    }
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    us: u64,
}

impl Due {
    fn now() -> Self {
        Self { at: Instant::now(), us: payload::now_us() }
    }
}

async fn one(shared: Arc<Shared>, mut request: Request, mut due: Due) {
    for nth in 0..=shared.load.client_retries {
        if nth > 0 {
            request.id = payload::next_id();
            due = Due::now();
        }
        let sent = shared.send(&request, due).await;
        let is_served = sent.status() == Some(200);
        lock(&shared.sent).push(sent);
        if is_served {
            break;
        }
    }
    shared.under_way.fetch_sub(1, Ordering::SeqCst);
}

impl Shared {
    async fn send(&self, request: &Request, due: Due) -> Sent {
        let connection = match request.persistence {
            Persistence::KeepAlive => self.idle_connection(),
            Persistence::Close => None,
        };
        let deadline = self.load.deadline;
        let patience_ends = due.at + deadline + PATIENCE_AFTER_DEADLINE;
        let (ending, connection) = client::exchange(self.address, connection, request, patience_ends).await;
        lock(&self.idle).extend(connection.map(|connection| (Instant::now(), connection)));
        sent(request, &self.load, due.us, ending)
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        while let Some((since, connection)) = idle.pop() {
            if since.elapsed() < CLIENT_IDLE_MAX && connection.is_fresh() {
                return Some(connection);
            }
        }
        None
    }
}

/// The record of a request that ends now.
pub(crate) fn sent(request: &Request, load: &Load, due_us: u64, ending: Ending) -> Sent {
    Sent {
        id: request.id,
        method: request.method,
        body: payload::hash(&request.body()),
        service: load.service,
        due_us,
        ended_us: payload::now_us(),
        deadline_us: due_us + u64::try_from(load.deadline.as_micros()).unwrap_or(u64::MAX),
        ending,
        hope: Hope::Contract,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
