//! A client that notices everything: refusals, resets, bodies that end early, answers that belong to somebody else.
//! It promises one [`Ending`] for each request, in bounded time. It repeats nothing by itself.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::ledger::{Answer, Content, Ending, Failure, Method};
use super::payload::{self, ID};
use crate::support::{Head, Reader};

/// One request that will be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) method: Method,
    /// Path without the size of the answer, which is its last segment.
    pub(crate) path: &'static str,
    /// Bytes of the answer's body.
    pub(crate) size: usize,
    /// What the backend shall do with this very request.
    pub(crate) act: Option<String>,
    /// Whether the client says that it closes.
    pub(crate) persistence: Persistence,
}

/// What becomes of a connection after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    Close,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: Reader<TcpStream>,
}

impl Request {
    /// The body that it sends: none for a GET.
    pub(crate) fn body(&self) -> Vec<u8> {
        match self.method {
            Method::Get => Vec::new(),
            Method::Post => payload::body_of(!self.id, 32 + usize::try_from(self.id % 1_000).unwrap_or(0)),
        }
    }

    /// Ready to send.
    pub(crate) fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let (method, body) = match self.method {
            Method::Get => ("GET", Vec::new()),
            Method::Post => ("POST", self.body()),
        };
        let mut head =
            format!("{method} {}/{} HTTP/1.1\r\nHost: {host}\r\n{ID}: {}\r\n", self.path, self.size, self.id);
        if self.persistence == Persistence::Close {
            head += "Connection: close\r\n";
        }
        if let Some(act) = &self.act {
            head += &format!("x-act: {act}\r\n");
        }
        if self.method == Method::Post {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        [head.as_bytes(), b"\r\n", &body].concat()
    }

    fn word(&self) -> &'static str {
        match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: Reader::new(stream) })
    }

    /// Whether the other side has neither closed it nor sent anything: what every honest client looks at first.
    pub(crate) fn is_fresh(&self) -> bool {
        let mut byte = [0];
        let nothing = self.reader.stream.try_read(&mut byte);
        self.reader.pending.is_empty() && nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.stream.write_all(bytes).await
    }

    /// Ends it with a reset.
    pub(crate) fn reset(self) {
        self.reader.stream.set_zero_linger().ok();
    }

    /// Reads the answer to `request`; the connection comes back if it may be used again.
    pub(crate) async fn receive(mut self, request: &Request) -> (Ending, Option<Self>) {
        let head = loop {
            match self.reader.head().await {
                Ok(Some(head)) if is_interim(&head) => {}
                Ok(Some(head)) => break head,
                Ok(None) => return (Ending::Failed(Failure::NoResponse), None),
                Err(_) if self.reader.pending.is_empty() => return (Ending::Failed(Failure::NoResponse), None),
                Err(_) => return (Ending::Failed(Failure::Truncated), None),
            }
        };
        if !head.first_line.starts_with("HTTP/1.") {
            return (Ending::Failed(Failure::Nonsense), None);
        }
        let body = match self.reader.body(head.response_framing(request.word())).await {
            Ok(body) if body.is_complete => body,
            Ok(_) => return (Ending::Failed(Failure::Truncated), None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return (Ending::Failed(Failure::Nonsense), None);
            }
            Err(_) => return (Ending::Failed(Failure::Truncated), None),
        };
        let answer = answer(request, &head, &body.content);
        let goes_on = !head.says_close() && request.persistence == Persistence::KeepAlive;
        (Ending::Answered(answer), goes_on.then_some(self))
    }
}

fn is_interim(head: &Head) -> bool {
    head.word(1).starts_with('1') && head.word(1) != "101"
}

fn answer(request: &Request, head: &Head, content: &[u8]) -> Answer {
    let status = head.word(1).parse().unwrap_or_default();
    let is_right = status != 200 || content == payload::body_of(request.id, request.size);
    Answer {
        status,
        id: head.get(ID).and_then(|id| id.parse().ok()),
        reason: head.get("x-portway-reason").map(str::to_owned),
        service: head.get("x-service").map(str::to_owned),
        body: if is_right { Content::Right } else { Content::Wrong },
    }
}

/// Sends `request`, on `connection` if there is one, and waits for its end until `patience_ends`.
pub(crate) async fn exchange(
    address: SocketAddr,
    connection: Option<Connection>,
    request: &Request,
    patience_ends: Instant,
) -> (Ending, Option<Connection>) {
    let talk = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => match Connection::open(address).await {
                Ok(connection) => connection,
                Err(_) => return (Ending::Failed(Failure::Connect), None),
            },
        };
        // An early answer may be there although the rest cannot be sent any more.
        connection.send(&request.bytes(address)).await.ok();
        connection.receive(request).await
    };
    tokio::time::timeout_at(patience_ends, talk).await.unwrap_or((Ending::Failed(Failure::Patience), None))
}

/// How long after its deadline a client still waits, so that what is stuck is told from what is slow.
pub(crate) const PATIENCE_AFTER_DEADLINE: Duration = Duration::from_secs(3);
