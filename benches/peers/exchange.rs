//! Requests and answers on one socket: for readiness, for checks, for the generators of this bench.
//! It promises that an answer which is not a whole 200 of the expected length is an error. It speaks no chunked coding:
//! the origin sends lengths, and a proxy that changes that is worth a look.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for one answer on a blocking connection.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// One read.
const PIECE_BYTES: usize = 8 * 1024;

/// A connection with at most one answer under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The head so far; empty between answers.
    head: Vec<u8>,
    /// Body bytes that are still to come, once the head is whole.
    left: Option<usize>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, head: Vec::new(), left: None })
    }

    /// From now on `receive` returns `WouldBlock` rather than wait.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// For `poll`.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Sends `request` and reads a whole 200 with a body of `expected` bytes.
    pub(crate) fn ask(&mut self, request: &[u8], expected: usize) -> io::Result<()> {
        self.send(request)?;
        self.receive(expected)
    }

    /// Reads on until one answer is whole. After `WouldBlock` it goes on where it was.
    pub(crate) fn receive(&mut self, expected: usize) -> io::Result<()> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let n = self.stream.read(&mut piece)?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if self.take(&piece[..n], expected)? {
                self.head.clear();
                self.left = None;
                return Ok(());
            }
        }
    }

    /// `true` once the answer is whole.
    fn take(&mut self, piece: &[u8], expected: usize) -> io::Result<bool> {
        let left = match self.left {
            Some(left) => left.checked_sub(piece.len()),
            None => {
                self.head.extend_from_slice(piece);
                let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else { return Ok(false) };
                check_head(&self.head[..end], expected)?;
                expected.checked_sub(self.head.len() - end - 4)
            }
        };
        self.left = Some(left.ok_or_else(|| io::Error::other("more bytes than Content-Length says"))?);
        Ok(self.left == Some(0))
    }
}

fn check_head(head: &[u8], expected: usize) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: Option<usize> = length.and_then(|(_, value)| value.trim().parse().ok());
    match status_line.starts_with("HTTP/1.1 200 ") && length == Some(expected) {
        true => Ok(()),
        false => Err(io::Error::other(format!("{status_line} with Content-Length {length:?}, not {expected}"))),
    }
}
