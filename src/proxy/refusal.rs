//! Answers that are written to the socket without hyper: to heads that it must not see, and to clients we cannot take.
//! It promises that the client can read the answer: the socket lingers until the client has had the time to.
//! It forwards nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::FailureKind;
use crate::http::local_reply::{Format, LocalReply};
use crate::lifecycle::clock;
use crate::net::stream::Stream;
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Exchange;
use crate::telemetry::request_id::RequestId;

/// A client that does not take a few hundred bytes in this time does not want them.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);
/// Closing with unread bytes resets the connection and may take our answer with it (RFC 9112 §9.6), so they are read
/// for so long, and so many.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Answers a refused or overdue head, leaves its record, and closes.
pub(crate) async fn answer(mut stream: Stream, connection: &Arc<Connection>, kind: FailureKind) {
    let started = connection.activity.head_began().unwrap_or_else(clock::now);
    let mut exchange = Exchange::refused(connection, kind, started);
    let reply = exchange.local_reply(&kind.into()).raw_bytes(SystemTime::now());
    let head_len = memchr::memmem::find(&reply, b"\r\n\r\n").map_or(reply.len(), |end| end + 4);
    exchange.bytes_out = (reply.len() - head_len) as u64;
    drop(exchange);
    let written = tokio::time::timeout(WRITE_PATIENCE, stream.write_all(&reply)).await;
    if matches!(written, Ok(Ok(()))) {
        linger(stream).await;
    }
}

/// Says that nothing more comes, and reads what the client still sends until it closes too.
pub(crate) async fn linger(mut stream: Stream) {
    let reading = async {
        stream.shutdown().await?;
        let mut scratch = [0_u8; 4096];
        let mut n_read = 0;
        while n_read < LINGER_BYTES_MAX {
            match stream.read(&mut scratch).await? {
                0 => break,
                n => n_read += n,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
}

/// Tells a client that there is no room, without waiting for what it wants.
pub(crate) fn turn_away(stream: &Stream, kind: FailureKind) {
    // One try: a fresh socket has room for a few hundred bytes, and a client we cannot take gets no more of our time.
    let request_id = RequestId::random();
    let (format, request_id) = (Format::Html, request_id.as_str());
    let reply = LocalReply { kind, because: None, format, request_id, service: None };
    let _ = stream.try_write(&reply.raw_bytes(SystemTime::now()));
    // Its request is read away, so that closing does not reset the connection before the answer was read.
    let mut scratch = [0_u8; 4096];
    let _ = stream.try_read(&mut scratch);
}
