//! Binds what the configuration names, once per worker, and accepts from it.
//! It promises that a port in use is an error with a cure, never a silent share. It does not decide who may connect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::checked::ListenAddress;
use crate::lifecycle::socket_file::{self, SocketFile};
use crate::net::inherited;
use crate::net::stream::Stream;

/// Connections that the kernel completes before we accept them, per socket. Linux caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// What the kernel takes for one connection beyond what is on its way. Without a bound it takes up to 4 MiB for a client that
/// does not read, which no limit of ours counts, and takes them in one turn of the connection: when a hundred such downloads
/// began together, everybody else waited for 650 ms.
const UNSENT_BYTES_MAX: u32 = 512 * 1024;

/// The index of an interface that no host has: the kernel counts from 1 and gives the lowest that is free.
const NOWHERE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32).expect("it is not zero");

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", cure(source, address))]
pub struct BindError {
    /// What the configuration names.
    pub address: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn cure(error: &io::Error, address: &str) -> String {
    let port = address.rsplit(':').next().unwrap_or_default();
    match error.kind() {
        io::ErrorKind::AddrInUse if address.starts_with("unix:") => {
            ". Another process listens on this socket; stop it or choose another path".to_owned()
        }
        io::ErrorKind::AlreadyExists => ". It was left alone; choose another path or move it away".to_owned(),
        io::ErrorKind::AddrInUse => {
            format!(". Another process is using it; see which: ss -ltnp 'sport = :{port}'")
        }
        io::ErrorKind::NotFound if address.starts_with("unix:") => {
            ". Its directory is not there; create it or choose another path".to_owned()
        }
        io::ErrorKind::PermissionDenied if address.starts_with("unix:") => {
            ". This user may not write in its directory".to_owned()
        }
        _ if address.starts_with("fd://") => {
            ". Whoever starts Portway hands it over: a .socket unit of systemd, or a parent that leaves it open"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            ". Ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port or grant it".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => ". This host has no such address; see which it has: ip address".to_owned(),
        _ => String::new(),
    }
}

/// A bound, listening socket that no runtime owns yet. Cloning it shares the kernel's queue.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Tcp,
    Unix,
}

impl Bound {
    /// The bound TCP address, with the port that the kernel chose for port 0. `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// Hands the socket to the runtime of this thread.
    pub fn into_listener(self) -> io::Result<Listener> {
        self.socket.set_nonblocking(true)?;
        match self.family {
            Family::Tcp => TcpListener::from_std(self.socket.into()).map(Listener::Tcp),
            Family::Unix => UnixListener::from_std(OwnedFd::from(self.socket).into()).map(Listener::Unix),
        }
    }
}

/// A listening socket on one runtime.
#[derive(Debug)]
pub enum Listener {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection and who is at its other end; `None` for a unix socket.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(s, peer)| (Stream::Tcp(s), Some(peer))),
            Listener::Unix(listener) => listener.accept().await.map(|(s, _)| (Stream::Unix(s), None)),
        }
    }

    /// Leaves new connections to whoever else listens on this port, while those that have begun still come here.
    ///
    /// Without it the kernel goes on completing connections for a socket until its close, and resets those that nobody
    /// accepted: there is no moment at which a listening socket can be closed without a loss. Bound to an interface from
    /// which nothing comes, the lookup for a SYN passes it over, while the last ACK of a handshake that it began belongs to
    /// it still. (A filter that drops SYNs would also do, at the price of a second, after which clients send theirs again.)
    /// Connections do not inherit the binding. Never for a descriptor that was handed over: its owner's socket is the same.
    pub fn stand_aside(&self) {
        if let Listener::Tcp(listener) = self
            && let Err(error) = SockRef::from(listener).bind_device_by_index_v4(Some(NOWHERE))
        {
            // Before Linux 5.0 there is no such option; then it is as it was.
            tracing::debug!(%error, "a closing listener goes on taking connections");
        }
    }
}

/// Who may have the port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Nobody: who has it is in the way.
    Free,
    /// A listener of ours that is about to close: `127.0.0.1:80` becomes `:80`.
    Ours,
}

/// Binds `address` for `workers` workers: one socket each, which the kernel balances (`SO_REUSEPORT`) where there can be
/// several, else clones of one.
pub fn bind(address: &ListenAddress, workers: usize, port: Port) -> Result<Vec<Bound>, BindError> {
    let bound = match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, workers, port),
        ListenAddress::AnyTcp(number) => bind_any(*number, workers, port),
        ListenAddress::Unix(path) => bind_unix(path).and_then(|socket| share(socket, Family::Unix, workers)),
        ListenAddress::Fd(number) => take_over(*number, workers),
    };
    bound.map_err(|source| BindError { address: address.to_string(), source })
}

/// IPv6 and IPv4 on one socket where the host has IPv6, else IPv4 alone.
fn bind_any(number: u16, workers: usize, port: Port) -> io::Result<Vec<Bound>> {
    let any = |ip: IpAddr| bind_tcp(SocketAddr::new(ip, number), workers, port);
    match any(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if no_ipv6(&error) => any(Ipv4Addr::UNSPECIFIED.into()),
        result => result,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn bind_tcp(address: SocketAddr, workers: usize, port: Port) -> io::Result<Vec<Bound>> {
    let chosen = match port {
        Port::Free => probe(address)?,
        Port::Ours => address,
    };
    let bind_one = |_| {
        let socket = tcp_socket(chosen)?;
        socket.set_reuse_port(true)?;
        socket.bind(&chosen.into())?;
        socket.listen(BACKLOG)?;
        let_inherit(&socket)?;
        Ok(Bound { socket, family: Family::Tcp })
    };
    (0..workers).map(bind_one).collect()
}

/// With `SO_REUSEPORT` alone a second instance would silently take half of the traffic. A bind without it fails if anybody
/// listens, so it goes first; with port 0 it also chooses the port for the whole group.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = tcp_socket(address)?;
    socket.bind(&address.into())?;
    Ok(socket.local_addr()?.as_socket().unwrap_or(address))
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?; // connections of the last run in TIME_WAIT must not stop a start
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

/// On Linux accepted sockets have these options of the listening one, which saves two calls for each of them.
fn let_inherit(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        socket_file::remove_left_over(path)?;
        socket.bind(&address)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The file of an address that was just bound; `None` if it has none.
pub fn file_of(address: &ListenAddress) -> Option<SocketFile> {
    let ListenAddress::Unix(path) = address else { return None };
    SocketFile::at(path)
}

fn take_over(number: i32, workers: usize) -> io::Result<Vec<Bound>> {
    let socket = Socket::from(inherited::duplicate(number)?);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this descriptor is not a listening socket"));
    }
    match socket.domain()? {
        Domain::UNIX => share(socket, Family::Unix, workers),
        _ => {
            let_inherit(&socket)?;
            share(socket, Family::Tcp, workers)
        }
    }
}

fn share(socket: Socket, family: Family, workers: usize) -> io::Result<Vec<Bound>> {
    let clones = (1..workers).map(|_| socket.try_clone().map(|socket| Bound { socket, family }));
    let mut bound = clones.collect::<io::Result<Vec<_>>>()?;
    bound.push(Bound { socket, family });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_local() -> ListenAddress {
        ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let bound = bind(&any_local(), 3, Port::Free).unwrap();
        let ports: Vec<_> = bound.iter().map(|b| b.local_addr().unwrap().port()).collect();
        assert!(ports.len() == 3 && ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_port_in_use_is_an_error_that_says_how_to_find_the_other() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(taken.local_addr().unwrap());
        let message = bind(&address, 1, Port::Free).unwrap_err().to_string();
        assert!(message.contains("ss -ltnp") && message.contains(&address.to_string()), "{message}");
    }

    #[test]
    fn what_cannot_be_listened_on_says_what_to_do_about_it() {
        let message = |address| bind(&address, 1, Port::Free).unwrap_err().to_string();
        let unix = message(ListenAddress::Unix("/nonexistent-for-portway/socket".into()));
        assert!(unix.ends_with("Its directory is not there; create it or choose another path"), "{unix}");
        let fd = message(ListenAddress::Fd(1_000_000));
        assert!(fd.contains("hands it over"), "{fd}");
    }

    #[test]
    fn a_second_instance_does_not_share_the_port_of_the_first() {
        let first = bind(&any_local(), 2, Port::Free).unwrap();
        let address = ListenAddress::Tcp(first[0].local_addr().unwrap());
        assert!(bind(&address, 2, Port::Free).is_err());
    }

    #[test]
    fn a_listener_of_ours_may_take_the_port_of_one_that_closes() {
        let first = bind(&any_local(), 2, Port::Free).unwrap();
        let port = first[0].local_addr().unwrap().port();
        assert!(bind(&ListenAddress::AnyTcp(port), 2, Port::Free).is_err());
        assert_eq!(bind(&ListenAddress::AnyTcp(port), 2, Port::Ours).unwrap().len(), 2);
        let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(bind(&ListenAddress::Tcp(foreign.local_addr().unwrap()), 1, Port::Ours).is_err());
    }

    #[tokio::test]
    async fn accepted_sockets_have_the_options_of_the_listening_one() {
        let bound = bind(&any_local(), 1, Port::Free).expect("it can be bound").remove(0);
        let address = bound.local_addr().expect("TCP");
        let listener = bound.into_listener().expect("a runtime is there");
        let _client = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let (Stream::Tcp(accepted), _) = listener.accept().await.expect("it was completed") else { panic!("TCP") };
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.tcp_notsent_lowat().expect("the option is there"), UNSENT_BYTES_MAX);
        assert!(accepted.tcp_nodelay().expect("the option is there"));
    }

    #[tokio::test]
    async fn a_listener_that_stands_aside_serves_what_it_has_and_gets_nothing_new() {
        let bound = bind(&any_local(), 1, Port::Free).expect("it can be bound").remove(0);
        let address = bound.local_addr().expect("TCP");
        let aside = bound.into_listener().expect("a runtime is there");
        let before = tokio::net::TcpStream::connect(address).await.expect("it listens");
        aside.stand_aside();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody else listens");
        let other = bind(&ListenAddress::Tcp(address), 1, Port::Ours).expect("we have the port").remove(0);
        let other = other.into_listener().expect("a runtime is there");
        let after = tokio::net::TcpStream::connect(address).await.expect("the other listens");
        assert_eq!(aside.accept().await.expect("it was completed").1, before.local_addr().ok());
        assert_eq!(other.accept().await.expect("it was completed").1, after.local_addr().ok());
    }

    #[test]
    fn a_socket_file_goes_with_its_listener_and_that_of_another_stays() {
        let dir = std::env::temp_dir().join(format!("portway-socket-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("socket");
        let address = ListenAddress::Unix(path.clone());
        let first = bind(&address, 1, Port::Free).unwrap();
        let file = file_of(&address).unwrap();
        drop((first, file));
        assert!(!path.exists());
        let old = bind(&address, 1, Port::Free).unwrap();
        let old_file = file_of(&address).unwrap();
        drop(old);
        let _kept_inode = std::fs::hard_link(&path, dir.join("kept"));
        let _new = bind(&address, 1, Port::Free).unwrap();
        drop(old_file);
        assert!(path.exists(), "the file of the next process");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_left_over_unix_socket_is_replaced_and_a_living_one_is_not() {
        let dir = std::env::temp_dir().join(format!("portway-listener-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let address = ListenAddress::Unix(dir.join("socket"));
        drop(bind(&address, 1, Port::Free).unwrap());
        let alive = bind(&address, 1, Port::Free).unwrap();
        assert!(bind(&address, 1, Port::Free).is_err());
        drop(alive);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("portway-listener-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("precious"), dir.join("link"));
        std::fs::write(&file, "my data").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let error = bind(&ListenAddress::Unix(path.clone()), 1, Port::Free).unwrap_err().to_string();
            assert!(error.ends_with("not a socket. It was left alone; choose another path or move it away"), "{error}");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "my data");
        }
        assert!(link.is_symlink());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
