//! Requests that wait for a free backend, and bodies that are read so that nobody holds one in vain: `max_in_flight`,
//! `queue`, `buffer`, `timeout`, `max_body`, and the memory that a large body may take (C-32, S-42, S-43).
//! It promises the order and the limits that the configuration says. How connections are reused is `keepalive`'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{
    Act, Client, PATIENCE, Pair, Portway, Received, Yaml, eventually, free_address, read_and_answer, resident_bytes,
    response,
};

/// An origin that answers one request per permit of the gate, with its target.
async fn gated(service: &str) -> (Pair, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let at_origin = gate.clone();
    let yaml = Yaml { service, ..Yaml::default() };
    let script = move |received: &Received| {
        let body = received.target().to_owned();
        vec![Act::ReadBody, Act::Gate(at_origin.clone()), Act::Send(response(200, &[], &body))]
    };
    (Pair::with(yaml, script).await, gate)
}

async fn asking(pair: &Pair, target: &str) -> Client {
    let mut client = pair.connect().await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    client
}

#[tokio::test]
async fn max_in_flight_bounds_what_a_backend_has_at_once_and_the_line_is_first_in_first_out() {
    let (pair, gate) = gated("max_in_flight: 2, queue: { size: 20, timeout: 10s }").await;
    let mut clients = Vec::new();
    for n in 0..12_usize {
        clients.push(asking(&pair, &format!("/{n}")).await);
        let (at_origin, waiting) = ((n + 1).min(2), (n + 1).saturating_sub(2));
        eventually(PATIENCE, "the origin to have two", || async { pair.origin.n_requests() == at_origin }).await;
        pair.portway.wait_metric("portway_queue_length", &[], waiting as f64).await;
    }
    for n in 0..12 {
        gate.add_permits(1);
        let expected = (n + 3).min(12);
        eventually(PATIENCE, "the next in line", || async { pair.origin.n_requests() == expected }).await;
        assert!(pair.portway.metrics().await.sum("portway_backend_in_flight", &[]) <= 2.0);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().await.text(), format!("/{n}"));
    }
    let order: Vec<_> = pair.origin.requests().iter().map(|received| received.target().to_owned()).collect();
    assert_eq!(order, (0..12).map(|n| format!("/{n}")).collect::<Vec<_>>());
    pair.portway.wait_metric("portway_queue_length", &[], 0.0).await;
}

#[tokio::test]
async fn a_full_queue_is_503_at_once_and_says_when_to_come_back() {
    let (pair, gate) = gated("max_in_flight: 1, queue: { size: 2, timeout: 10s }").await;
    let mut served = vec![asking(&pair, "/a").await];
    eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 1 }).await;
    for (n, target) in ["/b", "/c"].into_iter().enumerate() {
        served.push(asking(&pair, target).await);
        pair.portway.wait_metric("portway_queue_length", &[], (n + 1) as f64).await;
    }
    let began_at = Instant::now();
    let mut client = asking(&pair, "/d").await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (503, Some("queue_full")));
    assert!(answer.get("retry-after").is_some() && began_at.elapsed() < Duration::from_secs(2));
    pair.portway.wait_limit("queue").await;
    gate.add_permits(10);
    for (client, target) in served.iter_mut().zip(["/a", "/b", "/c"]) {
        assert_eq!(client.response().await.text(), target);
    }
    // The connection is as good as before.
    client.send("GET /e HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "/e");
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_503_and_leaves_the_line() {
    let (pair, gate) = gated("max_in_flight: 1, queue: { size: 5, timeout: 300ms }").await;
    let mut first = asking(&pair, "/a").await;
    eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 1 }).await;
    let began_at = Instant::now();
    let answer = asking(&pair, "/b").await.response().await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (503, Some("queue_timeout")));
    assert!(began_at.elapsed() >= Duration::from_millis(240), "{:?}", began_at.elapsed());
    pair.portway.wait_metric("portway_queue_length", &[], 0.0).await;
    gate.add_permits(1);
    assert_eq!(first.response().await.text(), "/a");
    assert_eq!(pair.origin.n_requests(), 1, "who gave up waiting is not sent");
}

#[tokio::test]
async fn trap_a_client_that_goes_away_while_it_waits_leaves_the_line_to_the_next() {
    let (pair, gate) = gated("max_in_flight: 1, queue: { size: 5, timeout: 10s }").await;
    let mut first = asking(&pair, "/a").await;
    eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 1 }).await;
    let leaving = asking(&pair, "/gone").await;
    pair.portway.wait_metric("portway_queue_length", &[], 1.0).await;
    let mut last = asking(&pair, "/c").await;
    pair.portway.wait_metric("portway_queue_length", &[], 2.0).await;
    leaving.reset();
    pair.portway.wait_metric("portway_queue_length", &[], 1.0).await;
    gate.add_permits(2);
    assert_eq!(first.response().await.text(), "/a");
    assert_eq!(last.response().await.text(), "/c");
    assert_eq!(pair.origin.n_requests(), 2);
}

/// The whole request has one deadline, waiting in line included.
#[tokio::test]
async fn the_deadline_holds_in_line_and_at_the_backend() {
    let (pair, gate) = gated("max_in_flight: 1, timeout: 400ms, queue: { size: 5, timeout: 10s }").await;
    let mut first = asking(&pair, "/a").await;
    eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 1 }).await;
    let began_at = Instant::now();
    let mut second = asking(&pair, "/b").await;
    for client in [&mut first, &mut second] {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (504, Some("deadline")));
    }
    assert!(began_at.elapsed() < Duration::from_secs(3), "{:?}", began_at.elapsed());
    gate.add_permits(10);
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    pair.portway.wait_metric("portway_queue_length", &[], 0.0).await;
    assert_eq!(pair.portway.get("/c").await.status, 200);
}

/// S-42: one slow client must not take the only worker of a backend.
#[tokio::test]
async fn a_client_that_sends_slowly_holds_no_backend() {
    let yaml = Yaml { service: "max_in_flight: 1, queue: { size: 1, timeout: 100ms }", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    for framing in ["Content-Length: 8\r\n\r\n1234", "Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n"] {
        let n_before = pair.origin.n_requests();
        let mut slow = pair.connect().await;
        slow.send(format!("POST /slow HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        for _ in 0..5 {
            assert_eq!(pair.portway.get("/").await.status, 200, "the slow one holds the backend");
        }
        assert_eq!(pair.origin.n_requests(), n_before + 5);
        slow.send(if framing.contains("chunked") { "4\r\n5678\r\n0\r\n\r\n" } else { "5678" }).await;
        assert_eq!(slow.response().await.status, 200);
        assert_eq!(pair.origin.requests().pop().expect("the slow one").body.content, b"12345678");
    }
}

/// S-43: neither must one that reads slowly, if the response fits `buffer.response`.
#[tokio::test]
async fn a_client_that_reads_slowly_holds_no_backend_once_its_response_is_here() {
    const SIZE: usize = 3_000_000;
    let yaml = Yaml {
        service: "max_in_flight: 1, queue: { size: 1, timeout: 2s }, buffer: { response: 4MiB }",
        ..Yaml::default()
    };
    for is_chunked in [false, true] {
        let pair = Pair::with(yaml, move |received| match received.target() {
            "/large" if is_chunked => {
                let chunk = format!("{SIZE:x}\r\n{}\r\n0\r\n\r\n", "y".repeat(SIZE));
                vec![
                    Act::ReadBody,
                    Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                    Act::Send(chunk.into_bytes()),
                ]
            }
            "/large" => vec![Act::ReadBody, Act::Send(response(200, &[], &"y".repeat(SIZE)))],
            _ => read_and_answer(),
        })
        .await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small window");
        let mut slow = Client::over(socket.connect(pair.portway.address).await.expect("a connection"));
        slow.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 1 }).await;

        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        assert_eq!(pair.portway.get("/").await.status, 200);
        assert_eq!(slow.response().await.body.content.len(), SIZE);
    }
}

/// C-32: a body of any size costs two buffers, not itself.
#[tokio::test]
async fn c32_a_response_of_200_mb_to_a_slow_client_costs_a_bounded_amount_of_memory() {
    const SIZE: usize = 200 * 1024 * 1024;
    let pair = Pair::start(|received| match received.target() {
        "/large" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            let part = vec![b'z'; SIZE / 16];
            let parts = std::iter::repeat_with(|| Act::Send(part.clone())).take(16);
            [Act::ReadBody, Act::Send(head.into_bytes())].into_iter().chain(parts).collect()
        }
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(pair.portway.get("/").await.status, 200);
    let before = resident_bytes(pair.portway.pid());
    let mut client = asking(&pair, "/large").await;
    client.head().await;
    let (mut n_read, mut most) = (0, before);
    while n_read < SIZE {
        let piece = (SIZE - n_read).min(4 * 1024 * 1024);
        n_read += client.bytes(piece).await.len();
        most = most.max(resident_bytes(pair.portway.pid()));
    }
    let grown = most.saturating_sub(before);
    assert!(grown < 12 * 1024 * 1024, "{} KiB for one response", grown / 1024);
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
}

/// The same upwards: a backend that does not read stops its client, not the proxy's memory.
#[tokio::test]
async fn c32_a_request_of_any_size_to_a_backend_that_does_not_read_costs_a_bounded_amount_of_memory() {
    const SIZE: usize = 200 * 1024 * 1024;
    let gate = Arc::new(Semaphore::new(0));
    let at_origin = gate.clone();
    let yaml = Yaml { service: "max_body: 300MiB", ..Yaml::default() };
    let pair = Pair::with(yaml, move |received| match received.method() {
        "POST" => vec![Act::Gate(at_origin.clone()), Act::Send(response(200, &[], "enough")), Act::Close],
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(pair.portway.get("/").await.status, 200);
    let before = resident_bytes(pair.portway.pid());
    let stream = tokio::net::TcpStream::connect(pair.portway.address).await.expect("a connection");
    let (mut reading, mut writing) = stream.into_split();
    let sender = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.ok();
        let (part, mut n_sent) = (vec![b'z'; 1024 * 1024], 0);
        while n_sent < SIZE && writing.write_all(&part).await.is_ok() {
            n_sent += part.len();
        }
        n_sent
    });
    eventually(PATIENCE, "the request", || async { pair.origin.n_requests() == 2 }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = resident_bytes(pair.portway.pid()).saturating_sub(before);
    assert!(!sender.is_finished(), "200 MB went somewhere");
    pair.portway.wait_limit("request_buffer").await;
    assert!(grown < 12 * 1024 * 1024, "{} KiB for one request", grown / 1024);
    gate.add_permits(1);
    let mut seen = Vec::new();
    tokio::io::AsyncReadExt::read_buf(&mut reading, &mut seen).await.ok();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 502"), "{text}");
    sender.abort();
    drop(reading);
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn a_body_above_max_body_is_413_however_it_is_framed_and_is_never_whole_at_the_backend() {
    for service in ["max_body: 1000B", "max_body: 1000B, buffer: { request: 1B }"] {
        let pair = Pair::with(Yaml { service, ..Yaml::default() }, |_| read_and_answer()).await;
        let body = "x".repeat(1_001);
        let chunked = format!(
            "Transfer-Encoding: chunked\r\n\r\n1f4\r\n{}\r\n1f5\r\n{}\r\n0\r\n\r\n",
            &body[..500],
            &body[500..]
        );
        for framed in [format!("Content-Length: 1001\r\n\r\n{body}"), chunked] {
            let answer = pair.ask("POST", format!("POST / HTTP/1.1\r\nHost: a\r\n{framed}")).await;
            assert_eq!((answer.status, answer.get("x-portway-reason")), (413, Some("body_too_large")), "{service}");
            assert!(answer.head.says_close());
        }
        pair.portway.wait_limit("max_body").await;
        assert!(pair.origin.requests().iter().all(|received| !received.body.is_complete), "{service}");
        let fits = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1_000));
        assert_eq!(pair.ask("POST", fits).await.status, 200);
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    }
}

#[tokio::test]
async fn a_backend_that_refuses_or_swallows_connections_has_its_own_reason() {
    let nobody = free_address();
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{nobody}\"] }} }}")).await;
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("connect_refused")));
    portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;

    // A listener whose queue is full answers no SYN.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(free_address()).expect("a free port");
    let full = socket.listen(0).expect("a listener");
    let address = full.local_addr().expect("bound");
    let mut fillers = Vec::new();
    for _ in 0..3 {
        let filler = tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await;
        fillers.push(filler);
    }
    let yaml = format!("services: {{ web: {{ backends: [\"{address}\"], timeouts: {{ connect: 300ms }} }} }}");
    let portway = Portway::start(&yaml).await;
    let began_at = Instant::now();
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (504, Some("connect_timeout")));
    assert!(began_at.elapsed() < Duration::from_secs(3));
}
