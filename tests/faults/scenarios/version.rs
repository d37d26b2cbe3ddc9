//! A configuration that says which one it is: a redirect to its own number, answered by the proxy itself.
//! It promises that a configuration which is there in part only is told from a whole one. It changes no file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    seen: Arc<Mutex<BTreeSet<Option<usize>>>>,
}

impl Watcher {
    pub(super) fn start(address: SocketAddr, name: &'static str) -> Self {
        let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let task = tokio::spawn(look(address, name, Arc::clone(&is_over), Arc::clone(&seen)));
        Self { task, is_over, seen }
    }

    /// What was seen since the last call; `None` stands for an answer without a number.
    pub(super) fn take(&self) -> BTreeSet<Option<usize>> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.task.await.expect("looking does not fail");
    }
}

async fn look(address: SocketAddr, name: &str, is_over: Arc<AtomicBool>, seen: Arc<Mutex<BTreeSet<Option<usize>>>>) {
    let mut client = Client::connect(address).await;
    while !is_over.load(Ordering::SeqCst) {
        client.send(format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = client.response().await;
        let number = answer.get("location").and_then(|to| to.trim_start_matches('/').parse().ok());
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
