//! The socket of the admin listener and its connections.
//! Promises that a slow, silent or greedy client costs a bounded place for a bounded time. It does not know what is
//! asked for: that is `api`.

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Resources;
use super::api::{self, Answer, Problem};
use super::guard::Guard;
use crate::config::checked::{Admin, ListenAddress};
use crate::lifecycle::socket_file::{self, SocketFile};
use crate::telemetry::metrics::Limit;

/// Open admin connections: a few dashboards, probes and a scraper.
const CONNECTIONS_MAX: usize = 64;
/// To the end of a request head, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// To the end of a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request body: a list of names at most.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Read buffer, and so the largest request head.
const BUFFER_BYTES: usize = 16 * 1024;
/// A connection is closed after so long: the only bound on a client that does not read its answer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// What it may take to finish the answer it is at by then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Waiting connections; more are refused by the kernel.
const BACKLOG: i32 = 128;
/// After an error of `accept`, which is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open the admin listener at {address}: {source}. Is another process using it? Choose another one with `admin:`, or `admin: off`"
)]
pub struct BindError {
    /// As configured.
    pub address: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    keys: Keys,
}

/// Who may talk to an admin listener; changes while it is open. Clones are the same.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Mutex<Arc<Guard>>>);

impl Keys {
    fn new(config: &Admin) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(Guard::new(config)))))
    }

    /// From its next request on, every connection answers to the token of `config`.
    pub fn change(&self, config: &Admin) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Guard::new(config));
    }

    fn guard(&self) -> Arc<Guard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who may have the port already.
#[derive(Clone, Copy, Debug)]
enum Port {
    Free,
    Ours,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Server {
    /// Binds the address of the configuration. Needs no runtime.
    pub fn bind(config: &Admin) -> Result<Self, BindError> {
        Self::bind_on(config, Port::Free)
    }

    /// The same where an admin listener of ours has the port and is about to leave it: `127.0.0.1:9900` becomes `:9900`.
    pub fn bind_beside(config: &Admin) -> Result<Self, BindError> {
        Self::bind_on(config, Port::Ours)
    }

    fn bind_on(config: &Admin, port: Port) -> Result<Self, BindError> {
        let socket = match &config.address {
            ListenAddress::Tcp(address) => bind_tcp(*address, port),
            ListenAddress::AnyTcp(number) => bind_any(*number, port),
            ListenAddress::Unix(path) => bind_unix(path),
            ListenAddress::Fd(_) => {
                let message = "an inherited descriptor cannot be the admin listener; use host:port or unix:PATH";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        };
        let error = |source| BindError { address: describe(&config.address), source };
        Ok(Self { socket: socket.map_err(error)?, keys: Keys::new(config) })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> ListenAddress {
        match &self.socket {
            Socket::Tcp(listener) => {
                ListenAddress::Tcp(listener.local_addr().expect("a bound socket has a local address"))
            }
            Socket::Unix(_, file) => ListenAddress::Unix(file.path().to_owned()),
        }
    }

    /// What decides who may talk to it.
    pub fn keys(&self) -> Keys {
        self.keys.clone()
    }

    /// Serves until it is dropped; its connections end with it. Keep it alive through the drain: that is when people
    /// and load balancers look at `/readyz`.
    pub async fn serve(self, resources: Arc<Resources>) -> io::Result<()> {
        self.serve_until(resources, &Notify::new()).await
    }

    /// The same, or until `stopped`: then it accepts nothing more, and what is asked on it already is answered.
    pub async fn serve_until(self, resources: Arc<Resources>, stopped: &Notify) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = Connections { tasks: JoinSet::new(), places, keys: self.keys, resources };
        match self.socket {
            Socket::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                while let Some(accepted) = until(stopped, listener.accept()).await {
                    connections.take(accepted.map(|(stream, _)| stream)).await;
                }
            }
            Socket::Unix(listener, _file) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                while let Some(accepted) = until(stopped, listener.accept()).await {
                    connections.take(accepted.map(|(stream, _)| stream)).await;
                }
            }
        }
        connections.finish().await;
        Ok(())
    }
}

/// What `accepting` gives, or nothing once it is to end.
async fn until<T>(stopped: &Notify, accepting: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stopped.notified() => None,
        accepted = accepting => Some(accepted),
    }
}

fn describe(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::AnyTcp(port) => format!(":{port}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        ListenAddress::Fd(fd) => format!("fd://{fd}"),
    }
}

fn bind_tcp(address: SocketAddr, port: Port) -> io::Result<Socket> {
    // Sockets that share a port all say so, and then a second process could as well: whether somebody has it is asked first.
    let address = match port {
        Port::Free => probe(address)?,
        Port::Ours => address,
    };
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Socket::Tcp(socket.into()))
}

/// The address, with the port that the system chose for port 0, if nobody listens there.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = tcp_socket(address)?;
    socket.bind(&address.into())?;
    Ok(socket.local_addr()?.as_socket().unwrap_or(address))
}

fn tcp_socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means every address, IPv4 included, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn bind_any(number: u16, port: Port) -> io::Result<Socket> {
    let v6 = bind_tcp((Ipv6Addr::UNSPECIFIED, number).into(), port);
    // A host without IPv6 says so with one of several errors; a port that is taken is taken for both.
    match v6 {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind_tcp((Ipv4Addr::UNSPECIFIED, number).into(), port)
        }
        bound => bound,
    }
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            socket_file::remove_left_over(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let file = SocketFile::at(path).ok_or(io::ErrorKind::NotFound)?;
    // Who can open the file can drain the process.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener, file))
}

struct Connections {
    tasks: JoinSet<()>,
    places: Arc<Semaphore>,
    keys: Keys,
    resources: Arc<Resources>,
}

impl Connections {
    async fn take<S>(&mut self, accepted: io::Result<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        let Ok(stream) = accepted else {
            self.resources.metrics.limit_hit(Limit::Descriptors);
            return tokio::time::sleep(ACCEPT_PAUSE).await;
        };
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                let (keys, resources) = (self.keys.clone(), self.resources.clone());
                self.tasks.spawn(serve_connection(stream, keys, resources, place));
            }
            // Closed at once: whoever waits in line for a dashboard would keep a probe from its answer.
            Err(_) => self.resources.metrics.limit_hit(Limit::AdminConnections),
        }
    }

    /// Lets open connections be answered, for as long as an idle one would be kept.
    async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(HEAD_TIMEOUT, all).await;
    }
}

async fn serve_connection<S>(stream: S, keys: Keys, resources: Arc<Resources>, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let (guard, resources) = (keys.guard(), resources.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &guard, &resources).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on an admin connection is the client's business: it sees it.
    if timeout(CONNECTION_AGE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CLOSE_TIMEOUT, connection).await;
    }
}

async fn answer(request: Request<Incoming>, guard: &Guard, resources: &Resources) -> Answer {
    let (parts, body) = request.into_parts();
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => api::answer(resources, guard, &parts, &body.to_bytes()).await,
        Ok(Err(_)) => {
            let message = format!("the body is incomplete or larger than {BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message).into_answer()
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message).into_answer()
        }
    }
}
