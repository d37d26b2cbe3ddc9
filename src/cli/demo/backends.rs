//! The demo's three backends, and the switch that makes them hang, die and return; on one thread of their own.
//! Promises real sockets: a stopped backend refuses connections, a started one has the port it had. Knows nothing of
//! the front door.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How long the slow one takes.
const SLOW: Duration = Duration::from_millis(300);
/// Which of the flaky one's answers fails: every fifth.
const FLAKY_EVERY: u64 = 5;

type Answer = Response<Full<Bytes>>;

/// What a backend does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Answers, in its manner.
    Serving,
    /// Takes requests and answers none, until it serves again.
    Hanging,
    /// Is not there.
    Stopped,
}

impl Mode {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Mode::Serving => "serving",
            Mode::Hanging => "hanging",
            Mode::Stopped => "stopped",
        }
    }
}

/// How a backend answers when it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Steady,
    Slow,
    Flaky,
}

/// One backend.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    manner: Manner,
    mode: watch::Sender<Mode>,
    n_requests: AtomicU64,
}

impl Backend {
    pub(super) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }
}

/// All of them; they end with the value.
pub(super) struct Backends {
    list: Vec<Arc<Backend>>,
    control: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backends {
    /// Binds and serves them.
    pub(super) fn start() -> io::Result<Self> {
        let (mut list, mut sockets) = (Vec::new(), Vec::new());
        for (name, manner) in [("steady", Manner::Steady), ("slow", Manner::Slow), ("flaky", Manner::Flaky)] {
            let (socket, address) = listen(0)?;
            let (mode, n_requests) = (watch::channel(Mode::Serving).0, AtomicU64::new(0));
            list.push(Arc::new(Backend { name, address, manner, mode, n_requests }));
            sockets.push(socket);
        }
        let (control_socket, control) = listen(0)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let all = list.clone();
        let thread = std::thread::Builder::new().name("demo-backends".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                for (backend, socket) in all.iter().cloned().zip(sockets) {
                    tasks.spawn(keep(backend, socket));
                }
                tasks.spawn(serve(control_socket, move |request| switch(all.clone(), request)));
                // Ended by a word or by the loss of who could say it; the tasks end with their set.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { list, control, stop: Some(stop), thread: Some(thread) })
    }

    /// In the order of the configuration.
    pub(super) fn list(&self) -> &[Arc<Backend>] {
        &self.list
    }

    /// Where `POST /NAME/hang|stop|start` is taken.
    pub(super) fn control(&self) -> SocketAddr {
        self.control
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has printed itself.
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Serves a backend whenever it is not stopped.
async fn keep(backend: Arc<Backend>, first: TcpListener) {
    let mut mode = backend.mode.subscribe();
    let mut socket = Some(first);
    loop {
        let same = backend.clone();
        let respond = move |request| answer(same.clone(), request);
        let socket = socket.take().map_or_else(|| listen(backend.address.port()).map(|(socket, _)| socket), Ok);
        // A port that somebody else took meanwhile makes this one stay away: the front door sees the same.
        if let Ok(socket) = socket {
            tokio::select! {
                () = serve(socket, respond) => {}
                _ = mode.wait_for(|mode| *mode == Mode::Stopped) => {}
            }
        }
        if mode.wait_for(|mode| *mode != Mode::Stopped).await.is_err() {
            return;
        }
    }
}

/// Serves connections until dropped; they end with it.
async fn serve<F, A>(socket: TcpListener, respond: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(serve_connection(stream, respond.clone()))),
            // Nearly always a lack of descriptors, which passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_connection<F, A>(stream: TcpStream, respond: F)
where
    F: Fn(Request<Incoming>) -> A + Send,
    A: Future<Output = Answer> + Send,
{
    let service = service_fn(move |request| {
        let answer = respond(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // What goes wrong on a connection is seen at its other end.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(backend: Arc<Backend>, _: Request<Incoming>) -> Answer {
    let nth = backend.n_requests.fetch_add(1, Ordering::Relaxed) + 1;
    // The switch lives as long as the backend does.
    let _ = backend.mode.subscribe().wait_for(|mode| *mode == Mode::Serving).await;
    let (status, text) = match backend.manner {
        Manner::Steady => (StatusCode::OK, "hello from steady\n"),
        Manner::Slow => {
            tokio::time::sleep(SLOW).await;
            (StatusCode::OK, "hello from slow, 300 ms later\n")
        }
        Manner::Flaky if nth.is_multiple_of(FLAKY_EVERY) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "flaky: this one went wrong\n")
        }
        Manner::Flaky => (StatusCode::OK, "hello from flaky\n"),
    };
    let mut answer = text_answer(status, text);
    answer.headers_mut().insert("x-backend", HeaderValue::from_static(backend.name));
    answer
}

/// `POST /steady/hang`, `/steady/stop`, `/steady/start`.
async fn switch(backends: Vec<Arc<Backend>>, request: Request<Incoming>) -> Answer {
    let mut words = request.uri().path().trim_start_matches('/').split('/');
    let backend = words.next().and_then(|name| backends.iter().find(|backend| backend.name == name));
    let mode = match words.next() {
        Some("start") => Some(Mode::Serving),
        Some("hang") => Some(Mode::Hanging),
        Some("stop") => Some(Mode::Stopped),
        _ => None,
    };
    match (backend, mode) {
        (Some(backend), Some(mode)) if request.method() == Method::POST => {
            backend.mode.send_replace(mode);
            text_answer(StatusCode::OK, format!("{} is {}\n", backend.name, mode.word()))
        }
        _ => {
            let help = "POST /NAME/start, /NAME/hang or /NAME/stop; NAME is steady, slow or flaky\n";
            text_answer(StatusCode::BAD_REQUEST, help)
        }
    }
}

fn text_answer(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
