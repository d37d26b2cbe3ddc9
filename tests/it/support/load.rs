//! Closed-loop load over keep-alive connections, bounded in count and time, with every answer accounted for.
//! It promises that each request it sent ends in exactly one place of the report: a status, or a failure with its cause.
//! It measures nothing: that is for the benches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::{Reader, Response};
use super::within;

/// Longest time that one load may take.
const LOAD_MAX: Duration = Duration::from_secs(180);
/// Longest wait for one response: above every default timeout of Portway.
const RESPONSE_MAX: Duration = Duration::from_secs(65);

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// The whole request, ready to send. [`Load::get`] writes an ordinary one.
    pub(crate) request: Vec<u8>,
    /// How many in all.
    pub(crate) requests: usize,
    /// On how many connections at a time.
    pub(crate) connections: usize,
    /// The response field whose values are counted in [`Report::by_backend`].
    pub(crate) backend_field: &'static str,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Whole responses by status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// Whole responses by the value of [`Load::backend_field`].
    pub(crate) by_backend: BTreeMap<String, usize>,
    /// Whole responses by body; more than a few different ones are a surprise worth seeing.
    pub(crate) by_body: BTreeMap<String, usize>,
    /// Requests without a whole response, and why.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Keep-alive GETs of `path`.
    pub(crate) fn get(address: SocketAddr, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        Self { address, request, requests: 1_000, connections: 16, backend_field: "x-backend" }
    }

    /// Sends all of it.
    pub(crate) async fn run(self) -> Report {
        within(LOAD_MAX, "the end of the load", self.start().finish()).await
    }

    /// Sends all of it until told to stop.
    pub(crate) fn start(self) -> Running {
        let shared = Arc::new(Shared {
            left: AtomicUsize::new(self.requests),
            answered: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let load = Arc::new(self);
        for _ in 0..load.connections {
            tasks.spawn(one_connection(Arc::clone(&load), Arc::clone(&shared)));
        }
        Running { shared, tasks }
    }
}

struct Shared {
    left: AtomicUsize,
    answered: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Shared {
    fn take(&self) -> bool {
        let take_one = |left: usize| left.checked_sub(1);
        let is_left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok();
        is_left && !self.is_stopped.load(Ordering::Relaxed)
    }
}

/// A load under way.
pub(crate) struct Running {
    shared: Arc<Shared>,
    tasks: JoinSet<Report>,
}

impl Running {
    /// Whole responses so far.
    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits for the requests under way, sends no more.
    pub(crate) async fn stop(self) -> Report {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        self.finish().await
    }

    async fn finish(self) -> Report {
        let mut sum = Report::default();
        for report in self.tasks.join_all().await {
            sum.add(report);
        }
        sum
    }
}

impl Report {
    fn add(&mut self, other: Report) {
        let pairs = [(&mut self.by_backend, other.by_backend), (&mut self.by_body, other.by_body)];
        for (ours, theirs) in pairs {
            for (key, n) in theirs {
                *ours.entry(key).or_default() += n;
            }
        }
        for (status, n) in other.statuses {
            *self.statuses.entry(status).or_default() += n;
        }
        self.failures.extend(other.failures);
    }

    fn count(&mut self, response: &Response, backend_field: &str) {
        *self.statuses.entry(response.status).or_default() += 1;
        let backend = response.get(backend_field).unwrap_or("(none)").to_owned();
        *self.by_backend.entry(backend).or_default() += 1;
        *self.by_body.entry(response.text()).or_default() += 1;
    }

    /// Fails the test unless exactly `n` requests were sent and every one was answered 200.
    pub(crate) fn assert_all_ok(&self, n: usize) {
        self.assert_no_loss();
        assert_eq!(self.statuses.get(&200), Some(&n), "{:?}", self.statuses);
    }

    /// Fails the test unless every request that was sent was answered 200.
    pub(crate) fn assert_no_loss(&self) {
        let shown = &self.failures[..self.failures.len().min(5)];
        assert!(self.failures.is_empty(), "{} requests without an answer: {shown:#?}", self.failures.len());
        let only_ok = self.statuses.keys().all(|status| *status == 200);
        assert!(only_ok && !self.statuses.is_empty(), "{:?}", self.statuses);
    }

    /// Whether each backend's share is within `percent` % of an even one.
    pub(crate) fn is_even(&self, percent: usize) -> bool {
        let even = self.even_share();
        self.by_backend.values().all(|count| count.abs_diff(even) <= even * percent / 100)
    }

    /// Fails the test unless `n` backends answered, each within `percent` % of its even share.
    pub(crate) fn assert_even(&self, n: usize, percent: usize) {
        assert_eq!(self.by_backend.len(), n, "{:?}", self.by_backend);
        assert!(self.is_even(percent), "not within {percent} % of {}: {:?}", self.even_share(), self.by_backend);
    }

    fn even_share(&self) -> usize {
        self.by_backend.values().sum::<usize>() / self.by_backend.len().max(1)
    }
}

async fn one_connection(load: Arc<Load>, shared: Arc<Shared>) -> Report {
    let mut report = Report::default();
    let mut reader = None;
    while shared.take() {
        let sent = one_request(&load, &mut reader);
        match tokio::time::timeout(RESPONSE_MAX, sent).await {
            Ok(Ok(response)) => {
                shared.answered.fetch_add(1, Ordering::Relaxed);
                report.count(&response, load.backend_field);
                if response.head.says_close() {
                    reader = None;
                }
            }
            Ok(Err(error)) => {
                report.failures.push(error.to_string());
                reader = None;
            }
            Err(_) => {
                report.failures.push(format!("no response within {RESPONSE_MAX:?}"));
                reader = None;
            }
        }
    }
    report
}

async fn one_request(load: &Load, slot: &mut Option<Reader<TcpStream>>) -> std::io::Result<Response> {
    let reader = match slot {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(load.address).await?;
            stream.set_nodelay(true)?;
            slot.insert(Reader::new(stream))
        }
    };
    reader.stream.write_all(&load.request).await?;
    reader.response_to("GET").await
}
