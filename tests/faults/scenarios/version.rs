//! A configuration that says which one it is: a redirect to its own number, answered by the proxy itself.
//! It promises that a configuration which is there in part only is told from a whole one. It changes no file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::{Client, get};

/// Reads the number that a configuration says.
pub(super) struct Version;

impl Version {
    /// The service that says `number` at `/NAME`.
    pub(super) fn service(name: &str, number: usize) -> String {
        format!("  {name}: {{ route: {{ exact: /{name}, redirect: /{number} }} }}\n")
    }

    /// The number at `/NAME` now, asked for on a new connection.
    pub(super) async fn at(address: SocketAddr, name: &str) -> Option<usize> {
        let answer = get(address, &format!("/{name}")).await;
        answer.get("location")?.trim_start_matches('/').parse().ok()
    }
}

/// Looks at the versions again and again on one connection, so that one which is there for a moment is seen.
pub(super) struct Watcher {
    task: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    numbers: BTreeSet<Option<usize>>,
    /// How often was asked, and answered.
    n_asked: u64,
    n_answered: u64,
}

impl Watcher {
    pub(super) fn start(address: SocketAddr, name: &'static str) -> Self {
        let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let task = tokio::spawn(look(address, name, Arc::clone(&is_over), Arc::clone(&seen)));
        Self { task, is_over, seen }
    }

    /// What was seen since the last call; `None` stands for an answer without a number. What is under way belongs to this
    /// call: its answer may be that of before.
    pub(super) async fn take(&self) -> BTreeSet<Option<usize>> {
        let under_way = lock(&self.seen).n_asked;
        while lock(&self.seen).n_answered < under_way && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::take(&mut lock(&self.seen).numbers)
    }

    pub(super) async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.expect("looking does not fail");
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(address: SocketAddr, name: &str, is_over: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let mut client = Client::connect(address).await;
    while !is_over.load(Ordering::SeqCst) {
        lock(&seen).n_asked += 1;
        client.send(format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = client.response().await;
        let number = answer.get("location").and_then(|to| to.trim_start_matches('/').parse().ok());
        {
            let mut seen = lock(&seen);
            seen.numbers.insert(number);
            seen.n_answered += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
