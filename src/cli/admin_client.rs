//! Asks the admin listener of a running process: one blocking GET or POST over TCP or a unix socket.
//! Promises to end within seconds and to read a bounded answer. It is HTTP/1.0 on purpose: no chunks, no keep-alive.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::config::checked::{Admin, ListenAddress};

/// It is on this host, or next to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than the status of 10,000 backends.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An answer of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// `200`.
    pub(super) status: u16,
    /// Everything after the head.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What a refusal says to people, if the answer is one and says it.
    pub(super) fn message(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        problem.get("message").and_then(serde_json::Value::as_str).map(str::to_owned)
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody listens there, or nobody answers in time.
    #[error(
        "nothing answers at {address}: {source}\n  is Portway running? start it with `portway run`, or name its configuration with `-c FILE`: `admin:` in it says where it listens"
    )]
    NoAnswer {
        /// What was tried.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something listens there, but it is no admin listener.
    #[error(
        "what answers at {address} is not Portway's admin listener\n  compare `admin:` in the configuration that runs"
    )]
    NotHttp {
        /// What was tried.
        address: String,
    },
}

/// Where the admin listener is asked: an address to listen on is not always one to connect to.
pub(super) fn describe(admin: &Admin) -> String {
    match &admin.address {
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        address => dialled(address).map_or_else(|| "an inherited descriptor".to_owned(), |address| address.to_string()),
    }
}

/// Asks for `path`.
pub(super) fn get(admin: &Admin, path: &str) -> Result<Answer, AskError> {
    send(admin, &format!("GET {path} HTTP/1.0\r\n{}\r\n", fields(admin)))
}

/// Sends `body`, which is JSON or empty, to `path`.
pub(super) fn post(admin: &Admin, path: &str, body: &str) -> Result<Answer, AskError> {
    let fields = format!("{}content-type: application/json\r\ncontent-length: {}\r\n", fields(admin), body.len());
    send(admin, &format!("POST {path} HTTP/1.0\r\n{fields}\r\n{body}"))
}

fn send(admin: &Admin, request: &str) -> Result<Answer, AskError> {
    let address = || describe(admin);
    let bytes = exchange(admin, request).map_err(|source| AskError::NoAnswer { address: address(), source })?;
    parse(&bytes).ok_or_else(|| AskError::NotHttp { address: address() })
}

fn exchange(admin: &Admin, request: &str) -> io::Result<Vec<u8>> {
    match &admin.address {
        ListenAddress::Unix(socket) => over_unix(socket, request),
        address => over_tcp(dialled(address), request),
    }
}

fn dialled(address: &ListenAddress) -> Option<SocketAddr> {
    let (ip, port) = match address {
        ListenAddress::Tcp(address) => (address.ip(), address.port()),
        ListenAddress::AnyTcp(port) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), *port),
        ListenAddress::Unix(_) | ListenAddress::Fd(_) => return None,
    };
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, port))
}

fn fields(admin: &Admin) -> String {
    let token = admin.token.as_ref().map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    format!("host: localhost\r\n{token}")
}

fn over_tcp(address: Option<SocketAddr>, request: &str) -> io::Result<Vec<u8>> {
    let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "it cannot be dialled"))?;
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    talk(stream, request)
}

fn over_unix(path: &Path, request: &str) -> io::Result<Vec<u8>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    talk(stream, request)
}

fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.trim_end().parse().ok()?;
    Some(Answer { status, body: bytes[end + 4..].to_vec() })
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer`, whatever it asks.
    pub(crate) fn answering(answer: String) -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Admin { address, token: Some("t".to_owned()) }
    }

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let admin = answering("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nstarting\n".to_owned());
        assert_eq!(get(&admin, "/readyz").unwrap(), Answer { status: 503, body: b"starting\n".to_vec() });
    }

    #[test]
    fn nobody_there_says_where_and_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let admin = Admin { address: ListenAddress::Tcp(address), token: None };
        let message = get(&admin, "/").unwrap_err().to_string();
        assert!(message.starts_with(&format!("nothing answers at {address}: ")), "{message}");
        assert!(message.contains("portway run"), "{message}");
        let admin = Admin { address: ListenAddress::Unix("/nowhere/portway.sock".into()), token: None };
        assert!(get(&admin, "/").unwrap_err().to_string().contains("unix:/nowhere/portway.sock"));
    }

    #[test]
    fn something_else_there_is_told_apart() {
        for answer in ["220 smtp.example.com ESMTP\r\n", "", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            let error = get(&answering(answer.to_owned()), "/").unwrap_err();
            assert!(matches!(error, AskError::NotHttp { .. }), "{answer:?}: {error}");
        }
    }

    #[test]
    fn every_address_to_listen_on_has_one_to_dial() {
        for (address, dialled) in [
            (ListenAddress::AnyTcp(9900), "127.0.0.1:9900"),
            (ListenAddress::Tcp("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1"),
            (ListenAddress::Tcp("[::]:1".parse().unwrap()), "[::1]:1"),
            (ListenAddress::Tcp("10.0.0.1:1".parse().unwrap()), "10.0.0.1:1"),
        ] {
            assert_eq!(describe(&Admin { address, token: None }), dialled);
        }
    }
}
