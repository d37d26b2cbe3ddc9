//! One type for the two kinds of socket that carry HTTP: TCP and unix.
//! It promises to add nothing to what the socket does but a match. It does not buffer.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A [`Stream`] that no runtime has.
#[derive(Debug)]
pub enum Detached {
    /// TCP over IPv4 or IPv6.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Gives the socket to this thread's runtime.
    pub fn attach(self) -> io::Result<Stream> {
        match self {
            Detached::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Detached::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// What [`Stream::peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// Nothing yet.
    Nothing,
    /// At least one byte.
    Bytes,
    /// The peer's end of stream, or a reset.
    End,
}

impl Stream {
    /// Waits until a byte, the peer's end of stream or an error is there to read. Takes nothing.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.ready(Interest::READABLE).await.map(drop),
            Stream::Unix(stream) => stream.ready(Interest::READABLE).await.map(drop),
        }
    }

    /// [`Stream::readable`] for code that is polled.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Takes the socket from this thread's runtime.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Stream::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    /// Looks at what is there to read, without taking it.
    pub fn peek(&self) -> Peeked {
        let look = |socket: BorrowedFd<'_>| {
            let mut byte = [0];
            rustix::net::recv(socket, &mut byte, RecvFlags::PEEK).map(|(_, n)| n).map_err(io::Error::from)
        };
        let seen = match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, || look(stream.as_fd())),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, || look(stream.as_fd())),
        };
        match seen {
            Ok(0) => Peeked::End,
            Ok(_) => Peeked::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peeked::Nothing,
            Err(_) => Peeked::End, // reset
        }
    }

    /// Writes slices with the cheapest call there is: `writev` costs the kernel a look at the vector, so that a few hundred
    /// bytes in two slices are cheaper copied together.
    pub fn poll_write_slices(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        const JOINED_BYTES_MAX: usize = 512;
        match slices {
            [only] => Pin::new(self).poll_write(cx, only),
            [head, body] if head.len() + body.len() <= JOINED_BYTES_MAX => {
                let mut joined = [0; JOINED_BYTES_MAX];
                let n_bytes = head.len() + body.len();
                joined[..head.len()].copy_from_slice(head);
                joined[head.len()..n_bytes].copy_from_slice(body);
                Pin::new(self).poll_write(cx, &joined[..n_bytes])
            }
            many => Pin::new(self).poll_write_vectored(cx, many),
        }
    }

    /// Closes the connection with a reset. Over TCP it then leaves no `TIME_WAIT` behind, which would hold a local port for
    /// a minute.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = &self {
            let _ = stream.set_zero_linger(); // failing that, it closes in order
        }
    }

    /// Reads what is there now, or says `WouldBlock`.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(buf),
            Stream::Unix(stream) => stream.try_read(buf),
        }
    }

    /// Writes what the socket takes now, or says `WouldBlock`.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(buf),
            Stream::Unix(stream) => stream.try_write(buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the kernel's buffer is the only one
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
