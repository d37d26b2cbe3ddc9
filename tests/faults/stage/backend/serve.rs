//! The process that stands behind the proxy: a strict HTTP/1.1 server that misbehaves on command.
//! It promises to book every request before it answers, and every message that an honest proxy would not send. It is
//! started by [`super::Backend`] and obeys its standard input.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use super::behaviour::Behaviour;
use super::book::Writer;
use super::conversation::Conversation;

/// Says which address to listen on; without it this program is no backend.
pub(crate) const ADDRESS: &str = "PORTWAY_FAULTS_BACKEND";
/// Says which file to write to.
pub(crate) const BOOK: &str = "PORTWAY_FAULTS_BOOK";
/// Says what to call itself.
pub(crate) const SERVICE: &str = "PORTWAY_FAULTS_SERVICE";
/// What a backend says when a line of its standard input has been obeyed.
pub(crate) const DONE: &str = "@done";

/// What all connections of a backend know.
pub(crate) struct Shared {
    pub(crate) service: String,
    pub(crate) book: Writer,
    pub(crate) behaviour: watch::Receiver<Behaviour>,
    pub(crate) leaving: watch::Receiver<bool>,
    /// Places of [`Behaviour::capacity`].
    pub(crate) places: Arc<Semaphore>,
    n_connections: AtomicU64,
    open: AtomicUsize,
}

/// Runs the backend that the environment describes until it is told to leave; `false` if it describes none.
pub(crate) fn run_if_told() -> bool {
    let Ok(address) = env::var(ADDRESS) else { return false };
    let address: SocketAddr = address.parse().expect("an address, as written by our parent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(serve(address));
    true
}

async fn serve(address: SocketAddr) {
    let (behaviour_tx, behaviour) = watch::channel(Behaviour::default());
    let (leaving_tx, leaving) = watch::channel(false);
    let book = PathBuf::from(env::var_os(BOOK).expect("our parent names the book"));
    let shared = Arc::new(Shared {
        service: env::var(SERVICE).expect("our parent names the service"),
        book: Writer::open(&book).expect("the book can be opened"),
        behaviour,
        leaving,
        places: Arc::new(Semaphore::new(0)),
        n_connections: AtomicU64::new(0),
        open: AtomicUsize::new(0),
    });
    let listener = listen(address);
    let orders = Orders { behaviour: behaviour_tx, places: Arc::clone(&shared.places) };
    std::thread::spawn(move || orders.obey());
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted { converse(stream, &shared) },
            _ = terminate.recv() => break,
        }
    }
    // As servers do that leave in order: no new connections, idle ones closed, open requests finished.
    drop(listener);
    leaving_tx.send_replace(true);
    for _ in 0..3_000 {
        if shared.open.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_reuseaddr(true).expect("the option is there");
    socket.bind(address).unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    socket.listen(4_096).expect("a bound socket can listen")
}

fn converse(stream: TcpStream, shared: &Arc<Shared>) {
    let connection = shared.n_connections.fetch_add(1, Ordering::SeqCst);
    // A restarted backend must not use the numbers of its former life.
    let connection = u64::from(std::process::id()) << 32 | connection;
    shared.book.connection();
    shared.open.fetch_add(1, Ordering::SeqCst);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        Conversation::new(stream, connection, &shared).run().await;
        shared.open.fetch_sub(1, Ordering::SeqCst);
    });
}

struct Orders {
    behaviour: watch::Sender<Behaviour>,
    places: Arc<Semaphore>,
}

impl Orders {
    /// Reads lines until our parent is gone, then ends the process: nothing outlives its test.
    fn obey(self) {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            let mut behaviour = *self.behaviour.borrow();
            let before = behaviour.capacity.map_or(0, |(n, _)| n);
            behaviour.apply(&line).unwrap_or_else(|wrong| panic!("{wrong}"));
            let after = behaviour.capacity.map_or(0, |(n, _)| n);
            self.places.add_permits(after.saturating_sub(before));
            self.places.forget_permits(before.saturating_sub(after));
            self.behaviour.send_replace(behaviour);
            println!("{DONE}");
        }
        std::process::exit(0);
    }
}
