//! What a request pays for being counted, logged and named: the metrics of one request, one line of the access log,
//! one request id with its `traceparent`. Runs on one thread, as a worker does; the writer thread writes to `/dev/null`.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portway::config::checked::{self, AttemptsInLog, LogFilter, LogFormat, QueryInLog};
use portway::lifecycle::clock;
use portway::telemetry::access_log::{AccessLog, Record};
use portway::telemetry::metrics::{Metrics, Outcome};
use portway::telemetry::request_id::RequestId;
use portway::telemetry::shards;
use portway::telemetry::trace::TraceContext;
use portway::units::ServiceName;

fn metrics(c: &mut Criterion) {
    shards::enter_worker(1);
    let metrics = Metrics::with_workers(NonZeroUsize::new(2).expect("2 is not 0"));
    let name = ServiceName::new("shop").expect("a valid name");
    let service = metrics.service(&name);
    let backend = metrics.backend(&name, "10.0.0.11:5000");
    let mut micros = 0;
    c.bench_function("metrics: one request and its attempt", |b| {
        b.iter(|| {
            // Durations of 0.1 to 100 ms, so that the search for the bucket is not predicted.
            micros = (micros * 31 + 1_117) % 100_000;
            let duration = Duration::from_micros(100 + micros);
            backend.attempt_ended(black_box(Outcome::Success), duration);
            service.request_ended(black_box(200), duration);
        });
    });
}

fn access_log(c: &mut Criterion) {
    for (name, format) in [("json", LogFormat::Json), ("combined", LogFormat::Combined)] {
        let (only, query, attempts) = (LogFilter::All, QueryInLog::Omitted, AttemptsInLog::Repeated);
        let config = checked::AccessLog { path: Some("/dev/null".into()), only, query, attempts, format };
        let log = AccessLog::open(&config, &Metrics::new()).expect("/dev/null opens");
        let writer = log.writer();
        let record = record();
        c.bench_function(&format!("access log: one line, {name}"), |b| b.iter(|| writer.write(black_box(&record))));
    }
}

fn record() -> Record<'static> {
    Record {
        arrived_at_unix: clock::unix_now(),
        request_id: "6f1c3b0e4c534f0e9c3e0b2d0f2c1a11",
        trace_id: Some("6f1c3b0e4c534f0e9c3e0b2d0f2c1a11"),
        client_ip: Some([203, 0, 113, 195].into()),
        method: "GET",
        host: Some(b"shop.example.com"),
        path: b"/api/items/3141592/reviews",
        query: None,
        proto: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 18_233,
        duration: Duration::from_micros(12_345),
        queue: None,
        held: None,
        connect: Some(Duration::from_micros(312)),
        ttfb: Some(Duration::from_micros(11_987)),
        service: Some("shop"),
        backend: Some("10.0.0.11:5000"),
        attempts: 1,
        attempt_list: &[],
        upstream_status: Some(200),
        reason: None,
        tls_version: None,
        user_agent: Some(
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        referer: None,
    }
}

fn names(c: &mut Criterion) {
    c.bench_function("request id and traceparent", |b| {
        b.iter(|| {
            let request_id = RequestId::accept_or_random(black_box(None));
            let trace = TraceContext::continue_or_begin(black_box(None), &request_id);
            (request_id.to_header(), trace.text())
        });
    });
    c.bench_function("clock: now", |b| b.iter(clock::now));
}

criterion_group!(benches, metrics, access_log, names);
criterion_main!(benches);
