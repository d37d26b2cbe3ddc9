//! Opens a connection to a backend within a time limit. It promises a stream with Nagle off, or which way it failed.
//! It resolves no names: addresses come from the control plane.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::error::{FailureKind, ProxyError};
use crate::net::stream::Stream;

/// Connects to `address` within `timeout`.
///
/// Refusals and unreachable hosts are [`FailureKind::ConnectRefused`]; silence is [`FailureKind::ConnectTimeout`];
/// our own lack of descriptors or ports is [`FailureKind::Overloaded`].
pub async fn dial(address: SocketAddr, timeout: Duration) -> Result<Stream, ProxyError> {
    let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(ProxyError::new(kind_of(&error), error)),
        Err(elapsed) => return Err(ProxyError::new(FailureKind::ConnectTimeout, elapsed)),
    };
    // Head and body are written together, so Nagle could only delay the tail of a large request.
    stream.set_nodelay(true).map_err(|error| ProxyError::new(FailureKind::ConnectRefused, error))?;
    Ok(Stream::Tcp(stream))
}

fn kind_of(error: &io::Error) -> FailureKind {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    match error.raw_os_error() {
        Some(code) if ours.iter().any(|errno| errno.raw_os_error() == code) => FailureKind::Overloaded,
        Some(code) if code == Errno::TIMEDOUT.raw_os_error() => FailureKind::ConnectTimeout,
        _ => FailureKind::ConnectRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let error = dial(address, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::ConnectRefused);
    }

    #[tokio::test]
    async fn an_open_port_gives_a_stream_without_nagle() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(listener.local_addr().unwrap(), Duration::from_secs(1)).await.unwrap();
        let Stream::Tcp(stream) = stream else { panic!("not TCP") };
        assert!(stream.nodelay().unwrap());
    }
}
