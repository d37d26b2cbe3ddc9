//! `GET` of a path with an expected status, over hyper's HTTP/1.1 client on a connection that is closed afterwards.
//! Promises to judge by the status alone and to read a bounded body, so that the application sees no broken pipe.
//! It follows no redirect: where one leads is another service's health.

use std::net::SocketAddr;

use ::http::header::{CONNECTION, HOST, USER_AGENT};
use ::http::{HeaderValue, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Miss, Outcome, Pass, Target, beside};
use crate::http::leaving;
use crate::net::stream::Stream;

/// Head of an answer, and what is read at once.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A health page is a word; of a longer one the rest stays unread.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// And for no longer than this part of `timeout` after the head, so that a body without an end fails no probe.
const BODY_SHARE: u32 = 4;

pub(super) fn request(target: &Target, address: SocketAddr, path: &str) -> Result<Request<Empty<Bytes>>, Miss> {
    // The configuration takes a path only that is one; a failure here fails the probe, not the process.
    let mut request = Request::get(path).body(Empty::new()).map_err(|_| Miss::Protocol)?;
    let headers = request.headers_mut();
    headers.insert(HOST, target.host(address));
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    for (name, value) in &target.health.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// The head must be there by `deadline`: then there is a verdict.
pub(super) async fn ask(stream: Stream, target: &Target, request: Request<Empty<Bytes>>, deadline: Instant) -> Outcome {
    let limit = target.health.timeout;
    let handshake = Builder::new()
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // As requests have it: RFC 9112 §5.1.
        .allow_spaces_after_header_name_in_responses(true)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| miss(&error))?;
    let exchange = async {
        let response = timeout_at(deadline, sender.send_request(request)).await.map_err(|_| Miss::Timeout(limit))?;
        let response = response.map_err(|error| miss(&error))?;
        let (head, body) = response.into_parts();
        if leaving::is_leaving(head.status, &head.headers) {
            return Err(Miss::Leaving);
        }
        let status = head.status.as_u16();
        if !target.health.expect.iter().any(|range| range.contains(&status)) {
            return Err(Miss::Status(head.status));
        }
        let _ = timeout(limit / BODY_SHARE, read_away(body)).await;
        Ok(Pass::Status(head.status))
    };
    beside(connection, exchange).await
}

async fn read_away(mut body: Incoming) {
    let mut n_bytes = 0;
    while n_bytes < BODY_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        n_bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn miss(error: &hyper::Error) -> Miss {
    if error.is_parse() { Miss::Protocol } else { Miss::Closed }
}
