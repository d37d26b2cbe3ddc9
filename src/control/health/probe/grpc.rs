//! `grpc.health.v1.Health/Check` over HTTP/2 with prior knowledge, its two messages written and read by hand.
//! Promises that `SERVING` with status `OK` passes and nothing else does, and to read a bounded answer.
//! It knows of Protocol Buffers what two messages of one field need: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use std::net::SocketAddr;

use ::http::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use ::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use ::http::{HeaderValue, Method, Request, StatusCode, Version};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};

use super::{Miss, Outcome, Pass, Target, beside};
use crate::net::stream::Stream;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// An answer is nine bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Header block of an answer.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

pub(super) fn request(target: &Target, address: SocketAddr) -> Result<Request<()>, Miss> {
    let authority = Authority::try_from(target.host(address).as_bytes()).map_err(|_| Miss::Protocol)?;
    let uri =
        Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(PathAndQuery::from_static(METHOD));
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri.build().map_err(|_| Miss::Protocol)?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    for (name, value) in &target.health.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

pub(super) async fn ask(stream: Stream, request: Request<()>, name: &str) -> Outcome {
    let mut builder = Builder::new();
    builder.max_header_list_size(HEAD_BYTES_MAX).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await.map_err(|error| miss(&error))?;
    beside(connection, exchange(sender, request, name)).await
}

async fn exchange(sender: SendRequest<Bytes>, request: Request<()>, name: &str) -> Outcome {
    let mut sender = sender.ready().await.map_err(|error| miss(&error))?;
    let (response, mut sending) = sender.send_request(request, false).map_err(|error| miss(&error))?;
    sending.send_data(question(name), true).map_err(|error| miss(&error))?;
    let (head, mut body) = response.await.map_err(|error| miss(&error))?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Miss::Status(head.status));
    }
    check_status(&head.headers)?; // an answer without a message says so in its head
    let message = whole(&mut body).await?;
    if let Some(trailers) = body.trailers().await.map_err(|error| miss(&error))? {
        check_status(&trailers)?;
    }
    match serving_status(&message).ok_or(Miss::Protocol)? {
        SERVING => Ok(Pass::Serving),
        other => Err(Miss::NotServing(other)),
    }
}

fn check_status(fields: &HeaderMap) -> Result<(), Miss> {
    let Some(value) = fields.get("grpc-status") else { return Ok(()) };
    match value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Miss::Protocol)? {
        0 => Ok(()),
        code => Err(Miss::Grpc(code)),
    }
}

async fn whole(body: &mut RecvStream) -> Result<Bytes, Miss> {
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| miss(&error))?;
        if message.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Miss::Protocol);
        }
        message.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).map_err(|error| miss(&error))?;
    }
    Ok(message.freeze())
}

fn miss(error: &h2::Error) -> Miss {
    if error.is_io() { Miss::Closed } else { Miss::Protocol }
}

/// `HealthCheckRequest { string service = 1; }` behind gRPC's prefix: a flag byte, the length in four.
fn question(name: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !name.is_empty() {
        message.put_u8(1 << 3 | LENGTH_DELIMITED);
        put_varint(&mut message, name.len() as u64);
        message.put_slice(name.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).expect("a name from a configuration file is short"));
    framed.unsplit(message);
    framed.freeze()
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

/// `status` of `HealthCheckResponse { ServingStatus status = 1; }`; fields that come later in its life are skipped.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
    if prefix[0] != 0 || length as usize != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0); // a field with its default value is not written
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let n_skipped = match (tag >> 3, (tag & 7) as u8) {
            (1, VARINT) => {
                status = take_varint(&mut rest)?;
                0
            }
            (_, VARINT) => take_varint(&mut rest).map(|_| 0)?,
            (_, FIXED_64) => 8,
            (_, FIXED_32) => 4,
            (_, LENGTH_DELIMITED) => usize::try_from(take_varint(&mut rest)?).ok()?,
            _ => return None,
        };
        rest = rest.get(n_skipped..)?;
    }
    Some(status)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Names of `ServingStatus`.
pub(super) fn serving_word(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("status {other}"),
    }
}

/// Statuses of gRPC that a health check may meet, with what they mean for it.
pub(super) fn status_word(code: u32) -> String {
    match code {
        5 => "5 NOT_FOUND: it has no service of this name".to_owned(),
        12 => "12 UNIMPLEMENTED: it has no grpc.health.v1.Health".to_owned(),
        14 => "14 UNAVAILABLE".to_owned(),
        16 => "16 UNAUTHENTICATED".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `grpcio-health-checking` 1.85 writes and reads them.
    #[test]
    fn the_messages_are_those_of_the_reference_implementation() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("shop.Orders")[..], b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
        for (bytes, status) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], SERVING),
            (b"\0\0\0\0\x02\x08\x02", 2),
            (b"\0\0\0\0\0", 0),
            (b"\0\0\0\0\x07\x12\x03abc\x08\x01", SERVING), // with a field that we do not know
        ] {
            assert_eq!(serving_status(bytes), Some(status), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_name_has_a_long_length() {
        let name = "a".repeat(300);
        assert_eq!(&question(&name)[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for bytes in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08",
            b"\0\0\0\0\x03\x12\xff\x01",
            b"\0\0\0\0\x02\x0b\x01",
        ] {
            assert_eq!(serving_status(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            serving_status(&bytes);
        }
    }
}
