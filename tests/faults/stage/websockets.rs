//! WebSockets that stay: each says something every so often and expects it back.
//! It promises to notice each one that ends or goes silent before its scenario does. What travels after the 101 is not
//! framed: no proxy looks at it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::ledger::{Answer, Ending, Hope, Method, Sent};
use super::payload::{self, ID};
use crate::support::{PATIENCE, Reader, within};

/// Between two messages of one WebSocket.
const EVERY: Duration = Duration::from_millis(500);

/// Open WebSockets.
#[derive(Debug)]
pub(crate) struct WebSockets {
    tasks: JoinSet<Result<(), String>>,
    is_over: Arc<AtomicBool>,
    n_echoes: Arc<AtomicUsize>,
    /// Their handshakes, for the books.
    pub(crate) sent: Vec<Sent>,
}

impl WebSockets {
    /// Opens `n`, or fails the test.
    pub(crate) async fn open(n: usize, address: SocketAddr, path: &str) -> Self {
        let (is_over, n_echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut sockets = Self { tasks: JoinSet::new(), is_over, n_echoes, sent: Vec::new() };
        for _ in 0..n {
            let due_us = payload::now_us();
            let (stream, id) = within(PATIENCE, "a WebSocket", handshake(address, path)).await;
            sockets.sent.push(record(id, due_us));
            let (is_over, n_echoes) = (Arc::clone(&sockets.is_over), Arc::clone(&sockets.n_echoes));
            sockets.tasks.spawn(async move {
                let ended = chatter(stream, id, &is_over, &n_echoes).await;
                ended.map_err(|error| format!("WebSocket {id}: {error}"))
            });
        }
        sockets
    }

    /// Ends all of them; says which had ended by themselves and why.
    pub(crate) async fn close(self) -> (usize, Vec<String>) {
        self.is_over.store(true, Ordering::SeqCst);
        let ended = self.tasks.join_all().await;
        let broken = ended.into_iter().filter_map(Result::err).collect();
        (self.n_echoes.load(Ordering::SeqCst), broken)
    }
}

fn record(id: u64, due_us: u64) -> Sent {
    Sent {
        id,
        method: Method::Get,
        body: payload::hash(b""),
        service: "web",
        due_us,
        ended_us: payload::now_us(),
        deadline_us: due_us + 10_000_000,
        ending: Ending::Answered(Answer { status: 101, id: Some(id), ..Answer::default() }),
        hope: Hope::Contract,
    }
}

async fn handshake(address: SocketAddr, path: &str) -> (TcpStream, u64) {
    let id = payload::next_id();
    let mut stream = TcpStream::connect(address).await.expect("the proxy takes connections");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{ID}: {id}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    let mut reader = Reader::new(stream);
    let head = reader.head().await.expect("a head").expect("a head before the end");
    assert!(head.first_line.starts_with("HTTP/1.1 101 "), "{}", head.first_line);
    assert_eq!(head.get(ID), Some(id.to_string().as_str()), "another request's 101");
    (reader.stream, id)
}

async fn chatter(mut stream: TcpStream, id: u64, is_over: &AtomicBool, n_echoes: &AtomicUsize) -> Result<(), String> {
    for nth in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
        let said = payload::body_of(id + nth, 64);
        let mut heard = vec![0; said.len()];
        let echo = async {
            stream.write_all(&said).await?;
            stream.read_exact(&mut heard).await
        };
        match tokio::time::timeout(PATIENCE, echo).await {
            Ok(Ok(_)) if heard == said => n_echoes.fetch_add(1, Ordering::SeqCst),
            Ok(Ok(_)) => return Err(format!("echo {nth} is another one's")),
            Ok(Err(error)) => return Err(format!("echo {nth}: {error}")),
            Err(_) => return Err(format!("no echo {nth} within {PATIENCE:?}")),
        };
        // Between two messages, a socket that says something or ends is broken.
        let mut byte = [0];
        match tokio::time::timeout(EVERY, stream.read(&mut byte)).await {
            Err(_) => {}
            Ok(Ok(0)) => return Err("closed".to_owned()),
            Ok(Ok(_)) => return Err("bytes that nobody asked for".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
        }
    }
    Ok(())
}
