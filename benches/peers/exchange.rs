//! One request and one answer on a blocking socket: for readiness, for checks, for the generators of this bench.
//! It promises that an answer which is not a whole 200 of the expected length is an error. It speaks no chunked coding:
//! the origin sends lengths, and a proxy that changes that is worth a look.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A connection with its read buffer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, buffer: Vec::with_capacity(4 * 1024) })
    }

    /// Sends `request` and reads a whole 200 with a body of `expected` bytes.
    pub(crate) fn ask(&mut self, request: &[u8], expected: usize) -> io::Result<()> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let head_end = self.read_head()?;
        let head = &self.buffer[..head_end];
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(wrong(head));
        }
        let length = content_length(head).ok_or_else(|| wrong(head))?;
        let mut got = self.buffer.len() - head_end;
        let mut piece = [0; 64 * 1024];
        while got < length {
            let n = self.stream.read(&mut piece)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            got += n;
        }
        if got != length || length != expected {
            return Err(io::Error::other(format!("a body of {got} bytes in place of {expected}")));
        }
        Ok(())
    }

    fn read_head(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4 * 1024];
        loop {
            let n = self.stream.read(&mut piece)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&piece[..n]);
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                return Ok(at + 4);
            }
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

fn wrong(head: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(head);
    io::Error::other(format!("unexpected answer: {}", text.lines().next().unwrap_or_default()))
}
