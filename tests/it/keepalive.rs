//! Upstream connections that are used again, and those that turn out to be dead: C-36, S-31, H14 of the HTTP reference.
//! It promises that a request which may be repeated never fails for a stale connection, and that one which may not is
//! never executed twice. What waits for a free backend is `queue`'s.

use std::time::Duration;

use crate::support::{Act, Client, Origin, PATIENCE, Pair, Received, Yaml, eventually, read_and_answer, response};

/// An answer which says that the connection may rest: a POST takes it again however slow the test is.
fn read_and_keep() -> Vec<Act> {
    vec![Act::ReadBody, Act::Send(response(200, &[("Keep-Alive", "timeout=60")], "ok"))]
}

/// Serves the first request of each connection; on the second one it does what `acts` says.
async fn failing_second(service: &str, acts: Vec<Act>) -> Pair {
    let yaml = Yaml { service, ..Yaml::default() };
    Pair::with(yaml, move |received| match received.nth {
        0 => read_and_keep(),
        _ => acts.clone(),
    })
    .await
}

fn n_with_id(origin: &Origin, id: &str) -> usize {
    origin.requests().iter().filter(|received| received.head.get("x-id") == Some(id)).count()
}

async fn send(pair: &Pair, method: &str, id: &str, body: &str) -> crate::support::Response {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    pair.ask(method, format!("{method} /x HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{length}\r\n{body}")).await
}

/// S-31: closed before or after reading, with a FIN or a reset.
fn silent_deaths() -> Vec<(&'static str, Vec<Act>)> {
    vec![
        ("closes before reading the body", vec![Act::Close]),
        ("resets before reading the body", vec![Act::Reset]),
        ("closes after reading", vec![Act::ReadBody, Act::Close]),
        ("resets after reading", vec![Act::ReadBody, Act::Reset]),
    ]
}

#[tokio::test]
async fn s31_an_idempotent_request_survives_a_stale_connection() {
    for (case, acts) in silent_deaths() {
        for (method, body) in [("GET", ""), ("HEAD", ""), ("PUT", "data"), ("DELETE", ""), ("OPTIONS", "")] {
            let pair = failing_second("", acts.clone()).await;
            assert_eq!(send(&pair, "GET", "warm", "").await.status, 200);
            let answer = send(&pair, method, "once", body).await;
            assert_eq!(answer.status, 200, "{method} where the backend {case}: {}", answer.text());
            assert!(n_with_id(&pair.origin, "once") <= 2, "{method} {case}: one replay is all");
            let last = pair.origin.requests().pop().expect("the replay");
            assert_eq!(
                (last.nth, &last.body.content[..]),
                (0, body.as_bytes()),
                "{method} {case}: on a fresh connection"
            );
            pair.portway.wait_metric("portway_retries_total", &[("reason", "stale_connection")], 1.0).await;
            pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        }
    }
}

#[tokio::test]
async fn s31_a_post_is_never_executed_twice() {
    for (case, acts) in silent_deaths() {
        for method in ["POST", "PATCH"] {
            for service in ["", "buffer: { request: 1B }"] {
                let pair = failing_second(service, acts.clone()).await;
                assert_eq!(send(&pair, "GET", "warm", "").await.status, 200);
                let answer = send(&pair, method, "once", "data").await;
                assert_eq!(answer.status, 502, "{method} where the backend {case}");
                assert_eq!(n_with_id(&pair.origin, "once"), 1, "{method} {case}");
                pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
            }
        }
    }
}

/// Half a head has not gone down: an idempotent request may be sent again, and no other one is.
#[tokio::test]
async fn s31_a_request_that_was_half_answered_is_repeated_only_if_it_is_idempotent() {
    for bytes in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        for (method, body, status, n) in [("GET", "", 200, 2), ("PUT", "data", 200, 2), ("POST", "data", 502, 1)] {
            let acts = vec![Act::ReadBody, Act::Send(bytes.into()), Act::Close];
            let pair = failing_second("", acts).await;
            assert_eq!(send(&pair, method, "warm", body).await.status, 200);
            assert_eq!(send(&pair, method, "once", body).await.status, status, "{method} {bytes:?}");
            assert_eq!(n_with_id(&pair.origin, "once"), n, "{method} {bytes:?}");
        }
    }
}

/// A fresh connection is not stale: what fails on it is retried as often as `retries` says, and no more.
#[tokio::test]
async fn s31_a_request_that_fails_on_a_fresh_connection_has_failed() {
    for (case, acts) in silent_deaths() {
        for (service, method, n) in [("", "GET", 2), ("", "POST", 1), ("retries: 0", "GET", 1)] {
            let acts = acts.clone();
            let pair = Pair::with(Yaml { service, ..Yaml::default() }, move |_| acts.clone()).await;
            let answer = send(&pair, method, "once", "").await;
            assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("upstream_reset")), "{case}");
            assert_eq!(n_with_id(&pair.origin, "once"), n, "{method} {service} {case}");
        }
    }
}

/// H14: no loop, however many connections are stale and however often.
#[tokio::test]
async fn s31_a_backend_that_closes_every_second_request_costs_no_get_and_no_loop() {
    let pair = failing_second("", vec![Act::Close]).await;
    let mut client = pair.connect().await;
    for n in 0..50 {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.response().await.status, 200, "request {n}");
    }
    assert!(pair.origin.n_requests() <= 100, "{} for 50 requests", pair.origin.n_requests());
}

/// gunicorn's way: idle connections end after a while. The answer is at worst a fresh connection.
#[tokio::test]
async fn c36_connections_that_the_backend_closes_while_idle_cost_no_request_of_any_method() {
    let idle_close = Duration::from_millis(40);
    for service in ["", "buffer: { request: 1B }"] {
        let origin = Origin::with_idle_close(idle_close, |_| read_and_answer()).await;
        let pair = Pair::before(Yaml { service, ..Yaml::default() }, origin).await;
        let mut client = pair.connect().await;
        for n in 0..12 {
            let method = if n % 2 == 0 { "POST" } else { "GET" };
            client.send(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\ndata")).await;
            assert_eq!(client.response().await.status, 200, "{method} {n} {service}");
            assert_eq!(pair.origin.requests().pop().expect("a request").body.content, b"data");
            tokio::time::sleep(idle_close * 2).await;
        }
        assert_eq!(pair.origin.n_requests(), 12);
    }
}

/// The race itself: requests that come exactly when the backend closes.
#[tokio::test]
async fn c36_a_get_that_meets_the_backends_close_never_fails() {
    let idle_close = Duration::from_millis(20);
    let pair = Pair::before(Yaml::default(), Origin::with_idle_close(idle_close, |_| read_and_answer()).await).await;
    let mut client = pair.connect().await;
    for n in 0..80_u64 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200, "request {n}");
        tokio::time::sleep(Duration::from_millis(18) + Duration::from_micros(n * 50)).await;
    }
}

#[tokio::test]
async fn an_honest_connection_is_used_again_for_everybody() {
    let pair = Pair::start(|_| read_and_keep()).await;
    for n in 0..10 {
        assert_eq!(send(&pair, if n % 2 == 0 { "GET" } else { "POST" }, "x", "").await.status, 200);
    }
    assert_eq!(pair.origin.n_accepted(), 1);
}

#[tokio::test]
async fn a_backend_that_says_close_is_not_asked_again_on_that_connection() {
    for fields in [&[("Connection", "close")][..], &[("Connection", "x-y, Close")]] {
        let answer = response(200, fields, "ok");
        let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(answer.clone())]).await;
        for n in 1..=3 {
            assert_eq!(send(&pair, "POST", "x", "data").await.status, 200);
            assert_eq!(pair.origin.n_accepted(), n, "{fields:?}");
        }
    }
}

#[tokio::test]
async fn a_backend_of_http_1_0_is_not_asked_again_unless_it_keeps_alive() {
    for (fields, n_connections) in [("", 3), ("Connection: keep-alive\r\nKeep-Alive: timeout=60\r\n", 1)] {
        let answer = format!("HTTP/1.0 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(answer.clone().into())]).await;
        for _ in 0..3 {
            assert_eq!(send(&pair, "POST", "x", "data").await.status, 200);
        }
        assert_eq!(pair.origin.n_accepted(), n_connections, "{fields:?}");
    }
}

#[tokio::test]
async fn max_requests_bounds_the_uses_of_a_connection() {
    let yaml = Yaml { service: "keepalive: { max_requests: 3 }", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    for _ in 0..9 {
        assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
    }
    let most = pair.origin.requests().iter().map(|received| received.nth).max();
    assert_eq!((pair.origin.n_accepted(), most), (3, Some(2)));
}

#[tokio::test]
async fn max_age_bounds_the_life_of_a_connection() {
    let yaml = Yaml { service: "keepalive: { max_age: 200ms, idle: 10s }", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
    assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
    assert_eq!(pair.origin.n_accepted(), 1);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
    assert_eq!(pair.origin.n_accepted(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_without_a_request() {
    let yaml = Yaml { service: "keepalive: { idle: 200ms }", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
    assert_eq!(pair.origin.n_open(), 1);
    eventually(Duration::from_secs(2), "its end", || async { pair.origin.n_open() == 0 }).await;
}

/// `Keep-Alive: timeout=…`: a shorter word of the backend's is kept to, a longer one used.
#[tokio::test]
async fn an_advertised_idle_timeout_counts_instead_of_ours() {
    for (advertised, pause_ms, n_connections) in [("timeout=1", 700, 2), ("timeout=30, max=100", 400, 1)] {
        let answer = response(200, &[("Keep-Alive", advertised)], "ok");
        let yaml = Yaml { service: "keepalive: { idle: 300ms }", ..Yaml::default() };
        let pair = Pair::with(yaml, move |_| vec![Act::ReadBody, Act::Send(answer.clone())]).await;
        assert_eq!(send(&pair, "GET", "x", "").await.status, 200);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let answer = send(&pair, "GET", "x", "").await;
        assert_eq!((answer.status, answer.get("keep-alive")), (200, None));
        assert_eq!(pair.origin.n_accepted(), n_connections, "{advertised}");
    }
}

/// `Keep-Alive: timeout=0` and nonsense must neither divide by zero nor keep a connection for ever.
#[tokio::test]
async fn an_absurd_advertised_timeout_does_no_harm() {
    for advertised in
        ["timeout=0", "timeout=-1", "timeout=99999999999999999999", "timeout=18446744073709551615", "timeout="]
    {
        let answer = response(200, &[("Keep-Alive", advertised)], "ok");
        let mut pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(answer.clone())]).await;
        for _ in 0..3 {
            assert_eq!(send(&pair, "POST", "x", "data").await.status, 200, "{advertised}");
        }
        tokio::time::sleep(Duration::from_millis(150)).await; // one sweep
        pair.assert_lives();
    }
}

/// Bodies larger than what is kept for a replay, and everything that makes one impossible.
#[tokio::test]
async fn s31_a_put_whose_body_was_streamed_is_not_repeated() {
    let pair = failing_second("buffer: { request: 1B }", vec![Act::ReadBody, Act::Close]).await;
    assert_eq!(send(&pair, "GET", "warm", "").await.status, 200);
    let body = "x".repeat(100_000);
    let answer = send(&pair, "PUT", "once", &body).await;
    assert_eq!(answer.status, 502);
    assert_eq!(n_with_id(&pair.origin, "once"), 1);
}

#[tokio::test]
async fn a_large_get_head_survives_a_stale_connection_or_fails_plainly() {
    let pair = failing_second("", vec![Act::Close]).await;
    for size in [1_000, 15_000, 20_000, 30_000] {
        assert_eq!(send(&pair, "GET", "warm", "").await.status, 200);
        let filler = "x".repeat(size);
        let answer = pair.ask("GET", format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Filler: {filler}\r\n\r\n")).await;
        let is_replayed = answer.status == 200;
        assert!(is_replayed || size > 15_000, "{size} bytes: {}", answer.status);
    }
}

/// What is replayed is what was sent: fields, body, target.
#[tokio::test]
async fn s31_a_replay_is_the_same_request() {
    let pair = failing_second("", vec![Act::ReadBody, Act::Close]).await;
    assert_eq!(send(&pair, "GET", "warm", "").await.status, 200);
    let request = "PUT /a%20b?c=%2F&d HTTP/1.1\r\nHost: shop.example\r\nX-A: 1\r\nX-B: caf\u{e9}\r\nX-A: 2\r\nCookie: c\r\n\
                   Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n4\r\ndata\r\n0\r\nx-t: 9\r\n\r\n";
    assert_eq!(pair.ask("PUT", request).await.status, 200);
    let requests = pair.origin.requests();
    let [_, first, second] = requests.as_slice() else { panic!("{requests:#?}") };
    let sorted = |received: &Received| {
        let mut fields = received.head.fields.clone();
        fields.sort();
        (received.head.first_line.clone(), fields, received.body.content.clone(), received.body.trailers.clone())
    };
    assert_eq!(sorted(first), sorted(second));
    assert_eq!(second.head.all("x-a"), ["1", "2"]);
}

/// A client connection outlives any number of its backend's.
#[tokio::test]
async fn a_failure_at_the_backend_does_not_cost_the_client_its_connection() {
    let pair = Pair::start(|received| match received.target() {
        "/bad" => vec![Act::ReadBody, Act::Close],
        _ => read_and_answer(),
    })
    .await;
    let mut client: Client = pair.connect().await;
    for (target, status) in [("/", 200), ("/bad", 502), ("/", 200), ("/bad", 502), ("/bad", 502), ("/", 200)] {
        client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")).await;
        assert_eq!(client.response().await.status, status);
    }
    eventually(PATIENCE, "every record", || async { pair.portway.access_log().len() == 6 }).await;
}
