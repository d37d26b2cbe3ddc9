//! A backend that does what a test says, byte for byte, and remembers every byte it got.
//! It promises a script per request, decided by a closure once the request's head is there. It is no HTTP server: what
//! a script does not do (read the body, answer, close) does not happen.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::wire::{Body, Head, Reader};

/// One step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Read the body of the request to its end.
    ReadBody,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes one at a time, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// Send these bytes again and again, with a pause before each time, until the other side ends.
    Repeat(Vec<u8>, Duration),
    /// Do nothing for so long.
    Pause(Duration),
    /// Wait for a permit of the test's: `gate.add_permits(n)` lets n requests through.
    Gate(Arc<Semaphore>),
    /// Send back whatever comes, until the other side ends: what follows a 101.
    Echo,
    /// Read and drop whatever comes until the other side ends.
    Hang,
    /// End the connection in order.
    Close,
    /// End the connection with a reset.
    Reset,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which connection of this origin, from 0 in the order of accepting.
    pub(crate) connection: usize,
    /// Which request of that connection, from 0.
    pub(crate) nth: usize,
    /// Request line and fields.
    pub(crate) head: Head,
    /// What [`Act::ReadBody`] read.
    pub(crate) body: Body,
}

impl Received {
    /// Everything as received: head and body with its framing.
    pub(crate) fn raw(&self) -> Vec<u8> {
        [self.head.raw.as_slice(), self.body.raw.as_slice()].concat()
    }

    /// From the request line.
    pub(crate) fn method(&self) -> &str {
        self.head.word(0)
    }

    /// From the request line.
    pub(crate) fn target(&self) -> &str {
        self.head.word(1)
    }
}

type Script = dyn Fn(&Received) -> Vec<Act> + Send + Sync;

struct Shared {
    script: Box<Script>,
    idle_close: Option<Duration>,
    requests: Mutex<Vec<Received>>,
    /// Bytes that came in but never made a whole head, per connection that had some.
    leftovers: Mutex<Vec<Vec<u8>>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// A listening origin; it ends with its value.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.address)
    }
}

impl Origin {
    /// An origin that runs `script` for each request.
    pub(crate) async fn start(script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::begin(script, None).await
    }

    /// An origin that closes a connection which has been idle for `idle_close` after a response, as gunicorn does.
    pub(crate) async fn with_idle_close(
        idle_close: Duration,
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::begin(script, Some(idle_close)).await
    }

    /// An origin that reads each request and answers 200 with `body`.
    pub(crate) async fn hello(body: &'static str) -> Self {
        Self::start(move |_| vec![Act::ReadBody, Act::Send(response(200, &[], body))]).await
    }

    /// Begins to listen where nobody has listened so far.
    pub(crate) async fn at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("nobody else listens there");
        Self::listen(listener, script, None)
    }

    async fn begin(
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
        idle_close: Option<Duration>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        Self::listen(listener, script, idle_close)
    }

    fn listen(
        listener: TcpListener,
        script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static,
        idle_close: Option<Duration>,
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            idle_close,
            requests: Mutex::default(),
            leftovers: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Every request so far, in the order of their heads.
    pub(crate) fn requests(&self) -> Vec<Received> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests so far.
    pub(crate) fn n_requests(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// The only request so far; anything else fails the test.
    pub(crate) fn only_request(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().expect("one was counted")
    }

    /// Bytes that never made a whole head, per connection that had some and has ended.
    pub(crate) fn leftovers(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.leftovers).clone()
    }

    /// Connections accepted so far.
    pub(crate) fn n_accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn n_open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A whole response with `Content-Length`, as bytes.
pub(crate) fn response(status: u16, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    format!("{text}\r\n{body}").into_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that dropping the origin ends its connections too.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, connection, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Open(Arc<Shared>);

impl Open {
    fn count(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    let _open = Open::count(&shared);
    stream.set_nodelay(true).ok();
    let mut reader = Reader::new(stream);
    for nth in 0.. {
        let next_head = reader.head();
        let head = match shared.idle_close.filter(|_| nth > 0) {
            Some(limit) => tokio::time::timeout(limit, next_head).await.unwrap_or(Ok(None)),
            None => next_head.await,
        };
        let Ok(Some(head)) = head else { break };
        let received = Received { connection, nth, head, body: Body::default() };
        let acts = (shared.script)(&received);
        let idx = remember(&shared, received.clone());
        let mut exchange = Exchange { reader: &mut reader, shared: &shared, received: &received, idx };
        if exchange.run(acts).await.is_none() {
            break;
        }
    }
    if !reader.pending.is_empty() {
        lock(&shared.leftovers).push(reader.pending);
    }
}

fn remember(shared: &Shared, received: Received) -> usize {
    let mut requests = lock(&shared.requests);
    requests.push(received);
    requests.len() - 1
}

struct Exchange<'a> {
    reader: &'a mut Reader<TcpStream>,
    shared: &'a Shared,
    received: &'a Received,
    idx: usize,
}

impl Exchange<'_> {
    /// `None` when the connection is over.
    async fn run(&mut self, acts: Vec<Act>) -> Option<()> {
        for act in acts {
            self.perform(act).await?;
        }
        Some(())
    }

    async fn perform(&mut self, act: Act) -> Option<()> {
        match act {
            Act::ReadBody => return self.read_body().await,
            Act::Send(bytes) => self.reader.stream.write_all(&bytes).await.ok()?,
            Act::Drip(bytes, pause) => {
                for byte in bytes {
                    tokio::time::sleep(pause).await;
                    self.reader.stream.write_all(&[byte]).await.ok()?;
                }
            }
            Act::Repeat(bytes, pause) => loop {
                tokio::time::sleep(pause).await;
                self.reader.stream.write_all(&bytes).await.ok()?;
            },
            Act::Pause(pause) => tokio::time::sleep(pause).await,
            Act::Gate(gate) => gate.acquire().await.ok()?.forget(),
            Act::Echo => {
                let pending = std::mem::take(&mut self.reader.pending);
                self.reader.stream.write_all(&pending).await.ok()?;
                let (mut from, mut to) = self.reader.stream.split();
                copy(&mut from, &mut to).await.ok()?;
                return None;
            }
            Act::Hang => {
                copy(&mut self.reader.stream, &mut sink()).await.ok()?;
                return None;
            }
            Act::Close => return None,
            Act::Reset => {
                self.reader.stream.set_zero_linger().ok()?;
                return None;
            }
        }
        Some(())
    }

    async fn read_body(&mut self) -> Option<()> {
        let body = self.reader.body(self.received.head.request_framing()).await.ok()?;
        let is_complete = body.is_complete;
        lock(&self.shared.requests)[self.idx].body = body;
        is_complete.then_some(())
    }
}
