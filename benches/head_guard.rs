//! What the HTTP facts cost per request: the head guard, and the work on the header map behind it.
//! Promises figures for the heads that matter: a load generator's, a browser's, one that came in two reads, and a body.
//! It measures these alone, not the engine between them.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use portway::http::forwarded::{Ends, PeerHeaders, Scheme, Via};
use portway::http::framing::{self, RequestBody};
use portway::http::head_guard::{HeadGuard, HeadLimits, Verdict};
use portway::http::signature::Signature;
use portway::http::survey::Survey;
use portway::http::upgrade::Upgrade;
use portway::http::{authority, headers, request_head};
use portway::telemetry::request_id::RequestId;
use portway::telemetry::trace::TraceContext;

const LIMITS: HeadLimits = HeadLimits { header_bytes: 32 * 1024, header_count: 100, target_bytes: 8 * 1024 };

const TINY: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const TYPICAL: &[u8] =
    b"GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
    Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n";
const POST: &[u8] = b"POST /api/orders HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\n\
    Accept: */*\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.Et9HFtf9R3\r\n\
    Content-Length: 13\r\n\r\n{\"item\": 1  }";
const BROWSER: &[u8] = b"GET /shop/cart HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\nCookie: session=eyJfZnJlc2giOmZhbHNlfQ.ZxYz12.abcdefghijklmnopqrstuvwxyz; theme=dark\r\n\r\n";

fn pass(guard: &mut HeadGuard, bytes: &[u8]) {
    let verdict = guard.feed(black_box(bytes));
    assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head_guard");
    for (name, bytes) in [("tiny", TINY), ("typical", TYPICAL), ("post", POST), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name} {} B", bytes.len()), |b| {
            let mut guard = HeadGuard::new(LIMITS);
            b.iter(|| pass(&mut guard, bytes));
        });
    }
    group.throughput(Throughput::Bytes(TYPICAL.len() as u64));
    group.bench_function("typical in two reads", |b| {
        let mut guard = HeadGuard::new(LIMITS);
        let (first, second) = TYPICAL.split_at(TYPICAL.len() / 2);
        b.iter(|| {
            pass(&mut guard, first);
            pass(&mut guard, second);
        });
    });
    let chunked = [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n".as_slice(),
        &[b'x'; 0x4000],
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    group.throughput(Throughput::Bytes(chunked.len() as u64));
    group.bench_function("chunked 16 KiB", |b| {
        let mut guard = HeadGuard::new(LIMITS);
        b.iter(|| pass(&mut guard, &chunked));
    });
    group.finish();
}

/// From the parsed head to the one that goes on, and the response's way back.
fn header_maps(c: &mut Criterion) {
    let mut group = c.benchmark_group("header_map");
    let peer = PeerHeaders::new(&ends(), &[]);
    let (via, request_id) = (Via::new("portway-1a2b3c4d"), RequestId::random());
    let trace = TraceContext::begin(&request_id);
    let signature =
        Signature { peer: &peer, via: &via, version: Version::HTTP_11, request_id: &request_id, trace: &trace };
    group.bench_function("request", |b| {
        b.iter_batched(
            request,
            |mut request| {
                let onward = authority::settle(&mut request);
                let upgrade = Upgrade::of(&request);
                let body = RequestBody::of(&request.headers);
                let cleaned = headers::clean_request(&mut request.headers, peer.trust());
                let fields = Survey::of(&request.headers);
                let settled = signature.settle(&mut request.headers, fields);
                framing::frame_request(&mut request.headers, body);
                let mut head = Vec::with_capacity(1_024);
                request_head::write_line(&request.method, &request.uri, &mut head);
                request_head::write_fields(&request.headers, &mut head);
                signature.write(&request.headers, &mut head);
                (head, onward, upgrade, cleaned, settled)
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("response", |b| {
        b.iter_batched(
            response,
            |mut response| {
                let cleaned = headers::clean_response(&mut response);
                let body = framing::frame_response(&Method::GET, StatusCode::OK, &mut response);
                (response, cleaned, body)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn ends() -> Ends {
    let address = |text: &str| Some(text.parse().expect("an address"));
    Ends { peer: address("192.0.2.7:4711"), local: address("192.0.2.1:8080"), scheme: Scheme::Http }
}

fn request() -> Parts {
    let builder = Request::builder().uri("/api/items?page=2").header("host", "shop.example.com");
    let builder = builder.header("user-agent", "curl/8.5.0").header("accept", "*/*");
    let builder = builder.header("accept-encoding", "gzip, deflate").header("connection", "keep-alive");
    builder.body(()).expect("a request").into_parts().0
}

fn response() -> HeaderMap {
    let field = |name: &'static str, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    HeaderMap::from_iter([
        field("server", "gunicorn"),
        field("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        field("connection", "keep-alive"),
        field("content-type", "text/html; charset=utf-8"),
        field("content-length", "13"),
    ])
}

criterion_group!(benches, heads, header_maps);
criterion_main!(benches);
