//! Probes against servers that answer as a test says: over plain sockets, and over h2 for gRPC.

use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::checked::Health;
use crate::control::health::tests::{World, health};

/// What a probe of `address` finds, with `health:` as given.
async fn probed(address: SocketAddr, health: Health) -> (Outcome, String) {
    let world = World::new("web: { backends: [\"10.0.0.1:80\"] }", |_| ());
    let (_, service) = world.services().next().unwrap();
    let target = Target { service: service.clone(), health };
    let outcome = run(&target, address).await;
    (outcome, describe(&target, &outcome))
}

/// A server that sends `answer` once it has a whole head, and keeps what it read.
async fn answering(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let keep = seen.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        *keep.lock().unwrap() = String::from_utf8(head).unwrap();
        stream.write_all(answer).await.unwrap();
    });
    (address, seen)
}

#[tokio::test]
async fn a_get_passes_with_an_expected_status_and_says_who_asks() {
    let (address, seen) = answering(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let (outcome, text) = probed(address, health()).await;
    assert_eq!((outcome, text.as_str()), (Ok(Pass::Status(StatusCode::NO_CONTENT)), "GET /healthz: 204"));
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "GET /healthz HTTP/1.1\r\nhost: {address}\r\nuser-agent: portway-health/{version}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_the_user_says_goes_before_what_we_would() {
    let (address, seen) = answering(b"HTTP/1.1 500 Fine\r\ncontent-length: 0\r\n\r\n").await;
    let health = Health {
        host: Some(HeaderValue::from_static("internal")),
        headers: vec![
            (::http::HeaderName::from_static("x-token"), HeaderValue::from_static("t")),
            (::http::header::USER_AGENT, HeaderValue::from_static("curl")),
        ],
        expect: vec![200..=204, 500..=500],
        ..health()
    };
    assert_eq!(probed(address, health).await.0, Ok(Pass::Status(StatusCode::INTERNAL_SERVER_ERROR)));
    let seen = seen.lock().unwrap();
    for field in ["\r\nhost: internal\r\n", "\r\nx-token: t\r\n", "\r\nuser-agent: curl\r\n"] {
        assert!(seen.contains(field), "{seen}");
    }
}

#[tokio::test]
async fn every_way_to_fail_is_told_apart() {
    for (answer, text) in [
        (&b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"[..], "GET /healthz: 500"),
        (b"HTTP/1.1 404 No\r\n\r\n", "GET /healthz: 404"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\n\r\n", "GET /healthz: 500"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "GET /healthz: not an answer of this protocol"),
        (b"HTTP/1.1 200 OK\r\n", "GET /healthz: connection closed before an answer"),
        (b"", "GET /healthz: connection closed before an answer"),
        (
            b"HTTP/1.1 503 Bye\r\nconnection: close\r\nx-portway-drain: true\r\n\r\n",
            "GET /healthz: 503 with x-portway-drain",
        ),
    ] {
        let (address, _) = answering(answer).await;
        assert_eq!(probed(address, health()).await.1, text);
    }
}

#[tokio::test]
async fn a_closed_port_is_refused_for_every_kind_of_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for probe in [Probe::Http("/".to_owned()), Probe::Tcp, Probe::Grpc(String::new())] {
        let (outcome, text) = probed(address, Health { probe, ..health() }).await;
        assert_eq!(
            (outcome, text.as_str()),
            (Err(Miss::Connect(io::ErrorKind::ConnectionRefused)), "connection refused")
        );
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_an_open_port_is_enough_for_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(50);
    for probe in [Probe::Http("/".to_owned()), Probe::Grpc(String::new())] {
        let (outcome, text) = probed(address, Health { probe, timeout: limit, ..health() }).await;
        assert_eq!((outcome, text.as_str()), (Err(Miss::Timeout(limit)), "timeout after 50ms"));
    }
    let (outcome, text) = probed(address, Health { probe: Probe::Tcp, ..health() }).await;
    assert_eq!((outcome, text.as_str()), (Ok(Pass::Connected), "tcp: connected"));
}

#[tokio::test]
async fn a_body_that_stalls_fails_no_probe() {
    let (address, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
    assert_eq!(probed(address, health()).await.0, Ok(Pass::Status(StatusCode::OK)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stalls = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let health = Health { timeout: Duration::from_millis(100), ..health() };
    assert_eq!(probed(address, health).await.0, Ok(Pass::Status(StatusCode::OK)));
    stalls.abort();
}

#[tokio::test]
async fn a_long_body_is_not_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    });
    assert_eq!(probed(address, health()).await.0, Ok(Pass::Status(StatusCode::OK)));
}

/// What a gRPC server does with one call.
#[derive(Clone, Copy)]
struct Grpc {
    message: Option<&'static [u8]>,
    status: &'static str,
    http: StatusCode,
}

const SERVING: Grpc = Grpc { message: Some(b"\0\0\0\0\x02\x08\x01"), status: "0", http: StatusCode::OK };

async fn grpc(answer: Grpc) -> (SocketAddr, Arc<Mutex<(String, HeaderMap, Vec<u8>)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new((String::new(), HeaderMap::new(), Vec::new())));
    let keep = seen.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let keep = keep.clone();
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let mut message = Vec::new();
                while let Some(Ok(data)) = body.data().await {
                    message.extend_from_slice(&data);
                }
                *keep.lock().unwrap() = (head.uri.to_string(), head.headers, message);
                let status = HeaderMap::from_iter([(
                    ::http::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static(answer.status),
                )]);
                let mut head = Response::builder().status(answer.http).body(()).unwrap();
                let Some(message) = answer.message else {
                    *head.headers_mut() = status;
                    respond.send_response(head, true).unwrap();
                    return;
                };
                let mut sending = respond.send_response(head, false).unwrap();
                sending.send_data(Bytes::from_static(message), false).unwrap();
                sending.send_trailers(status).unwrap();
            });
        }
    });
    (address, seen)
}

async fn grpc_probed(answer: Grpc) -> String {
    let (address, _) = grpc(answer).await;
    probed(address, Health { probe: Probe::Grpc("shop.Orders".to_owned()), ..health() }).await.1
}

#[tokio::test]
async fn serving_passes_and_the_call_is_one_of_grpc() {
    let (address, seen) = grpc(SERVING).await;
    let host = Some(HeaderValue::from_static("shop.example.com"));
    let health = Health { probe: Probe::Grpc("shop.Orders".to_owned()), host, ..health() };
    let (outcome, text) = probed(address, health).await;
    assert_eq!((outcome, text.as_str()), (Ok(Pass::Serving), "grpc shop.Orders: SERVING"));
    let (uri, headers, message) = &*seen.lock().unwrap();
    assert_eq!(uri, "http://shop.example.com/grpc.health.v1.Health/Check");
    assert_eq!(
        (headers["content-type"].as_bytes(), headers["te"].as_bytes()),
        (&b"application/grpc"[..], &b"trailers"[..])
    );
    assert_eq!(message, b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
}

#[tokio::test]
async fn whatever_is_not_serving_fails_and_says_what_it_is() {
    let not_serving = Grpc { message: Some(b"\0\0\0\0\x02\x08\x02"), ..SERVING };
    assert_eq!(grpc_probed(not_serving).await, "grpc shop.Orders: NOT_SERVING");
    assert_eq!(grpc_probed(Grpc { message: Some(b"\0\0\0\0\0"), ..SERVING }).await, "grpc shop.Orders: UNKNOWN");
    let unknown = grpc_probed(Grpc { message: None, status: "5", ..SERVING }).await;
    assert_eq!(unknown, "grpc shop.Orders: grpc-status 5 NOT_FOUND: it has no service of this name");
    let unimplemented = grpc_probed(Grpc { message: None, status: "12", ..SERVING }).await;
    assert_eq!(unimplemented, "grpc shop.Orders: grpc-status 12 UNIMPLEMENTED: it has no grpc.health.v1.Health");
    assert_eq!(grpc_probed(Grpc { status: "14", ..SERVING }).await, "grpc shop.Orders: grpc-status 14 UNAVAILABLE");
    assert_eq!(grpc_probed(Grpc { http: StatusCode::BAD_GATEWAY, ..SERVING }).await, "grpc shop.Orders: 502");
    assert_eq!(
        grpc_probed(Grpc { message: Some(b"hello"), ..SERVING }).await,
        "grpc shop.Orders: not an answer of this protocol"
    );
}

#[tokio::test]
async fn an_http1_server_fails_a_grpc_probe() {
    let (address, _) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let text = probed(address, Health { probe: Probe::Grpc(String::new()), ..health() }).await.1;
    assert_eq!(text, "grpc: not an answer of this protocol");
}
