//! Clients that ask together, then wait about as long as the backend keeps idle connections, then ask together again.
//! It promises that each request ends in one place of the tally. It knows neither the proxy between nor the backend.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::wire::Reader;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Half GETs, half POSTs, over keep-alive connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Race {
    /// The proxy.
    pub(crate) address: SocketAddr,
    pub(crate) requests: usize,
    pub(crate) clients: usize,
    /// From one round to the next: the backend's work and its idle limit, for the worst.
    pub(crate) period: Duration,
    /// Each request of a round comes so much earlier or later.
    pub(crate) spread: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) gets: Kind,
    pub(crate) posts: Kind,
    pub(crate) took: Duration,
}

/// Requests with one method.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    pub(crate) sent: usize,
    /// What was not `200 ok`, by what it was.
    pub(crate) failures: BTreeMap<String, usize>,
}

impl Kind {
    /// How many were not answered as they should be.
    pub(crate) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    fn add(&mut self, other: Kind) {
        self.sent += other.sent;
        for (failure, n) in other.failures {
            *self.failures.entry(failure).or_default() += n;
        }
    }
}

impl Race {
    /// Runs it to its end.
    pub(crate) async fn run(self) -> Tally {
        let (start, next_id) = (Instant::now() + Duration::from_millis(50), Arc::new(AtomicUsize::new(0)));
        let mut racers = JoinSet::new();
        for _ in 0..self.clients {
            racers.spawn(self.one(start, next_id.clone()));
        }
        let mut tally = Tally::default();
        for (gets, posts) in racers.join_all().await {
            tally.gets.add(gets);
            tally.posts.add(posts);
        }
        tally.took = start.elapsed();
        tally
    }

    async fn one(self, start: Instant, next_id: Arc<AtomicUsize>) -> (Kind, Kind) {
        let (mut gets, mut posts) = (Kind::default(), Kind::default());
        let mut connection = None;
        loop {
            sleep_until(self.next_turn(start)).await;
            let id = next_id.fetch_add(1, Relaxed);
            if id >= self.requests {
                return (gets, posts);
            }
            let (kind, request) = match fastrand::bool() {
                true => (&mut gets, format!("GET /{id} HTTP/1.1\r\nHost: race\r\nX-Id: {id}\r\n\r\n")),
                false => (
                    &mut posts,
                    format!("POST /{id} HTTP/1.1\r\nHost: race\r\nX-Id: {id}\r\nContent-Length: 4\r\n\r\ndata"),
                ),
            };
            kind.sent += 1;
            let answer = timeout(ANSWER_MAX, ask(&mut connection, self.address, &request)).await;
            let failure = match answer {
                Ok(Ok(200)) => continue,
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            connection = None;
            *kind.failures.entry(failure).or_default() += 1;
        }
    }

    /// The time for the next request: about the next whole period.
    fn next_turn(&self, start: Instant) -> Instant {
        let now = Instant::now();
        let rounds = (now.duration_since(start).as_secs_f64() / self.period.as_secs_f64() + 0.5) as u32;
        let spread = fastrand::u64(0..=2 * self.spread.as_micros() as u64);
        let turn = start + self.period * (rounds + 1) + Duration::from_micros(spread);
        turn.checked_sub(self.spread).unwrap_or(turn)
    }
}

/// One request on the client's connection, which is opened first if there is none. Gives the status.
async fn ask(connection: &mut Option<Reader<TcpStream>>, address: SocketAddr, request: &str) -> std::io::Result<u16> {
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(Reader::new(stream))
        }
    };
    reader.stream.write_all(request.as_bytes()).await?;
    let response = reader.response_to("GET").await?;
    if response.head.says_close() {
        *connection = None;
    }
    Ok(response.status)
}
