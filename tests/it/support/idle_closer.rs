//! A backend that closes idle connections soon, as gunicorn does after 2 s: the other side of the keep-alive race.
//! It promises to count what it executes, by the number in each request's `x-id`, and how often that was the first
//! request of its connection. It closes without a warning and reads nothing more, so what is lost was not executed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wire::Reader;

/// Longest wait for the first request of a connection.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(10);

/// How it treats its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// An idle connection is closed after so long,
    pub(crate) idle: Duration,
    /// give or take so much.
    pub(crate) jitter: Duration,
    /// So long it works on each request, so that requests which come together need a connection each.
    pub(crate) work: Duration,
    /// Ids are below this.
    pub(crate) n_ids: usize,
}

/// A listening backend; it ends with its value.
#[derive(Debug)]
pub(crate) struct IdleCloser {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    manners: Manners,
    executed: Vec<AtomicU8>,
    posts: Counted,
    others: Counted,
    closed: AtomicUsize,
    accepted: AtomicUsize,
}

/// Requests of one kind.
#[derive(Debug, Default)]
struct Counted {
    all: AtomicUsize,
    /// The first ones of their connections.
    fresh: AtomicUsize,
}

impl IdleCloser {
    /// Listens on a free port.
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            manners,
            executed: (0..manners.n_ids).map(|_| AtomicU8::new(0)).collect(),
            posts: Counted::default(),
            others: Counted::default(),
            closed: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, task }
    }

    /// Ids that it executed more than once.
    pub(crate) fn executed_twice(&self) -> Vec<usize> {
        let executed = self.shared.executed.iter().enumerate();
        executed.filter(|(_, n)| n.load(Relaxed) > 1).map(|(id, _)| id).collect()
    }

    /// Idle connections that it closed.
    pub(crate) fn n_closed(&self) -> usize {
        self.shared.closed.load(Relaxed)
    }

    /// Connections that were made to it.
    pub(crate) fn n_accepted(&self) -> usize {
        self.shared.accepted.load(Relaxed)
    }

    /// The share of POSTs, in percent, that came first on their connection, and the same of all other requests.
    pub(crate) fn fresh_percent(&self) -> (f64, f64) {
        let percent =
            |counted: &Counted| 100.0 * counted.fresh.load(Relaxed) as f64 / counted.all.load(Relaxed).max(1) as f64;
        (percent(&self.shared.posts), percent(&self.shared.others))
    }
}

impl Drop for IdleCloser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counted {
    fn count(&self, nth: usize) {
        self.all.fetch_add(1, Relaxed);
        self.fresh.fetch_add(usize::from(nth == 0), Relaxed);
    }
}

impl Manners {
    fn patience(&self) -> Duration {
        let jitter = self.jitter.as_micros() as u64;
        self.idle - self.jitter + Duration::from_micros(fastrand::u64(0..=2 * jitter))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Relaxed);
                connections.spawn(serve(stream, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let mut reader = Reader::new(stream);
    for nth in 0.. {
        // As with all servers, it is a connection between requests that has little time.
        let patience = if nth == 0 { FIRST_REQUEST_MAX } else { shared.manners.patience() };
        let Ok(next) = tokio::time::timeout(patience, reader.head()).await else {
            shared.closed.fetch_add(1, Relaxed);
            return;
        };
        let Ok(Some(head)) = next else { return };
        let Ok(body) = reader.body(head.request_framing()).await else { return };
        if !body.is_complete {
            return;
        }
        let id = head.get("x-id").and_then(|id| id.parse::<usize>().ok()).expect("every racer says its number");
        shared.executed[id].fetch_add(1, Relaxed);
        if head.word(0) == "POST" { &shared.posts } else { &shared.others }.count(nth);
        tokio::time::sleep(shared.manners.work).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if reader.stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
