//! A client that sends the bytes it is told and shows the bytes it gets.
//! It promises never to wait for ever. It does not repair, retry or hide anything.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::wire::{Reader, Response};
use super::{PATIENCE, within};

/// One raw connection.
#[derive(Debug)]
pub(crate) struct Client {
    reader: Reader<TcpStream>,
}

/// How the other side ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An orderly end of the stream.
    Closed,
    /// A reset.
    Reset,
    /// It had not ended when the time was up.
    StillOpen,
}

impl Client {
    /// Connects, or fails the test.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within(PATIENCE, "a TCP connection", TcpStream::connect(address)).await;
        Self::over(stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }

    /// A client over a socket that the test has set up itself.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).ok();
        Self { reader: Reader::new(stream) }
    }

    /// Sends `bytes` as they are; `false` if the other side takes no more.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within(PATIENCE, "sending", self.reader.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Ends our direction and keeps reading.
    pub(crate) async fn finish_sending(&mut self) {
        self.reader.stream.shutdown().await.ok();
    }

    /// The next whole response to a GET, or fails the test.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// The next whole response to `method`, or fails the test.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let response = within(PATIENCE * 3, "a whole response", self.reader.response_to(method)).await;
        response.unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// The next head alone, as raw text; the body stays unread.
    pub(crate) async fn head(&mut self) -> String {
        let head = within(PATIENCE * 3, "a response head", self.reader.head()).await;
        let head = head.unwrap_or_else(|error| panic!("no head: {error}"));
        String::from_utf8_lossy(&head.expect("a head before the end of the connection").raw).into_owned()
    }

    /// Reads until at least `n` bytes are there, and gives them.
    pub(crate) async fn bytes(&mut self, n: usize) -> Vec<u8> {
        let reader = &mut self.reader;
        let enough = async {
            while reader.pending.len() < n {
                assert!(reader.fill().await.expect("no reset"), "the connection ended early");
            }
        };
        within(PATIENCE, "the expected bytes", enough).await;
        let rest = reader.pending.split_off(n);
        std::mem::replace(&mut reader.pending, rest)
    }

    /// Everything until the other side ends the connection, or until `limit`.
    pub(crate) async fn until_close(&mut self, limit: Duration) -> (Vec<u8>, Ending) {
        let reader = &mut self.reader;
        let read_all = async {
            loop {
                match reader.fill().await {
                    Ok(true) => {}
                    Ok(false) => return Ending::Closed,
                    Err(_) => return Ending::Reset,
                }
            }
        };
        let ending = tokio::time::timeout(limit, read_all).await.unwrap_or(Ending::StillOpen);
        (std::mem::take(&mut self.reader.pending), ending)
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.reader.stream.set_zero_linger().ok();
    }

    /// The socket's own address, as the server sees it.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.reader.stream.local_addr().expect("a connected socket has an address")
    }
}

/// Sends `bytes` on a new connection and gives everything that comes back until it ends, at most 10 s long.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> (Vec<u8>, Ending) {
    let mut client = Client::connect(address).await;
    client.send(bytes).await;
    client.until_close(PATIENCE).await
}

/// One GET on a new connection.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await;
    client.response().await
}
