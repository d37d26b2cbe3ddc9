//! The head guard and the HTTP engine behind it must find the same messages in the same bytes.
//! Promises it for streams that are almost good: what the guard lets through is what hyper serves, request for request.
//! Nothing is forwarded here; the engine's service only notes what it sees.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use portway::http::head_guard::{GuardState, HeadGuard, HeadLimits, Verdict};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMITS: HeadLimits = HeadLimits { header_bytes: 4096, header_count: 50, target_bytes: 1024 };

/// What the engine saw of a request; the body only if it came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    line: String,
    body: Option<Bytes>,
}

/// The bytes that the guard lets through, and the slices that it takes for complete messages.
fn judge(stream: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut guard = HeadGuard::new(LIMITS);
    let (mut messages, mut start) = (Vec::new(), 0);
    for (idx, byte) in stream.iter().enumerate() {
        let n_before = guard.heads_begun();
        match guard.feed(std::slice::from_ref(byte)) {
            Verdict::Pass(GuardState::BetweenMessages) if n_before > messages.len() as u64 => {
                messages.push(stream[start..=idx].to_vec());
                start = idx + 1;
            }
            Verdict::Pass(_) => {}
            Verdict::Refused { .. } => return (stream[..idx].to_vec(), messages),
        }
    }
    (stream.to_vec(), messages)
}

/// What hyper makes of `bytes`, followed by the end of the stream.
fn serve(bytes: Vec<u8>) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let note = Arc::clone(&note);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.ok().map(|body| body.to_bytes());
            note.lock().expect("not poisoned").push(Seen { line, body });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(&bytes).await.expect("it fits");
        client.shutdown().await.expect("it was open");
        let builder = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        // An error is the engine's way to say that the stream broke off.
        let _ = builder.await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    });
    let seen = seen.lock().expect("not poisoned");
    seen.clone()
}

#[track_caller]
fn check(stream: &[u8]) {
    let (passed, messages) = judge(stream);
    let complete: Vec<Seen> = serve(passed).into_iter().filter(|seen| seen.body.is_some()).collect();
    let shown = stream.escape_ascii();
    assert!(complete.len() <= messages.len(), "hyper saw more: {complete:?} in {shown}");
    for (seen, message) in complete.iter().zip(&messages) {
        let text = message.trim_ascii_start();
        // RFC 9112 §3.2.1: an absolute target without a path is the same with `/`, and the engine shows it so. RFC 3986
        // §3.1: it shows a scheme in lower case. Other letters differ in nothing that counts here.
        let lines = [format!("{} ", seen.line), format!("{} ", seen.line.trim_end_matches('/'))];
        let begins_with =
            |line: &String| text.get(..line.len()).is_some_and(|it| it.eq_ignore_ascii_case(line.as_bytes()));
        assert!(lines.iter().any(begins_with), "{seen:?} is not {} in {shown}", text.escape_ascii());
    }
    // The engine may stop early, where it refuses more than the guard does. It then closes, so nothing can be smuggled.
}

/// Pieces of which requests are made, good and bad ones.
const PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"PUT http://a/b HTTP/1.1\r\n",
    b"GET /old HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length:\t 10 \t\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ChunkeD \r\n",
    b"Transfer-Encoding:\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"X: y\r\n",
    b"X: \xff\t\r\n",
    b" X: folded\r\n",
    b"X: y\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"hello",
    b"5\r\nhello\r\n",
    b"5;a=\"b\"\r\nhello\r\n",
    b"5 ;a\r\nhello\r\n",
    b"a\r\n0123456789\r\n",
    b"0\r\n",
    b"0\r\n\r\n",
    b"00\r\nT: 1\r\n\r\n",
    b"0;x\r\n",
];

fn message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(&PIECES[..4]);
    let fields = prop::collection::vec(prop::sample::select(&PIECES[4..14]), 0..4);
    let body = prop::collection::vec(prop::sample::select(&PIECES[20..]), 0..4);
    (line, fields, body).prop_map(|(line, fields, body)| [line, &fields.concat(), b"\r\n", &body.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn hyper_serves_no_message_that_the_guard_does_not_see(messages in prop::collection::vec(message(), 1..5)) {
        check(&messages.concat());
    }

    #[test]
    fn hyper_serves_no_message_that_the_guard_does_not_see_in_a_jumble(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..20)) {
        check(&pieces.concat());
    }

    #[test]
    fn hyper_serves_no_message_that_the_guard_does_not_see_in_a_damaged_stream(
        messages in prop::collection::vec(message(), 1..5),
        place: prop::sample::Index,
        byte: u8,
    ) {
        let mut stream = messages.concat();
        let place = place.index(stream.len());
        stream[place] = byte;
        check(&stream);
    }
}

#[test]
fn hyper_serves_every_message_of_a_good_pipeline() {
    let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
        POST /3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1 ;x\r\n!\r\n0\r\nT: 1\r\n\r\nGET /4 HTTP/1.1\r\n\r\n";
    let (passed, messages) = judge(stream);
    assert_eq!((passed.len(), messages.len()), (stream.len(), 4));
    let lines: Vec<String> = serve(passed).into_iter().map(|seen| format!("{} {:?}", seen.line, seen.body)).collect();
    assert_eq!(
        lines,
        [r#"GET /1 Some(b"")"#, r#"POST /2 Some(b"hello")"#, r#"POST /3 Some(b"hello!")"#, r#"GET /4 Some(b"")"#]
    );
}
