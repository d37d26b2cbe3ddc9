//! What stands around a message: interim responses, Expect, trailers, Via, Max-Forwards (C-22, C-23, C-27, C-28, C-31).
//! It promises that nothing of it is mistaken for the message itself. H12: no interim response but our own 100 goes down.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{Act, Ending, PATIENCE, Pair, Portway, Yaml, eventually, free_address, read_and_answer, response};

const EXPECTING: &str = "POST /in HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn c22_interim_responses_are_passed_over_and_the_final_one_arrives() {
    for interim in [
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 199 X\r\n\r\n",
    ] {
        for version in ["1.1", "1.0"] {
            let answer = [interim.as_bytes(), &response(200, &[], "ok")].concat();
            let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(answer.clone())]).await;
            let request = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = pair.send_to_end(request).await;
            let text = answer.text();
            assert!(text.contains(" 200 ") && text.ends_with("\r\n\r\nok"), "{interim:?}: {text}");
            assert!(!text.contains("Early Hints") && !text.contains("HTTP/1.1 1"), "{interim:?} to {version}: {text}");
        }
    }
}

/// H12: hyper reads interim responses without end; the deadline is that of the final one.
#[tokio::test]
async fn c22_interim_responses_do_not_move_the_response_timeout() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".to_vec();
    let yaml = Yaml { service: "timeouts: { response: 500ms }", ..Yaml::default() };
    let pair = Pair::with(yaml, move |_| vec![Act::Repeat(hints.clone(), Duration::from_millis(10))]).await;
    let began_at = Instant::now();
    let answer = pair.portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (504, Some("response_timeout")));
    assert!(began_at.elapsed() >= Duration::from_millis(400) && began_at.elapsed() < Duration::from_secs(3));
    eventually(PATIENCE, "the upstream connection to end", || async { pair.origin.n_open() == 0 }).await;
}

/// The same without a pause: hyper would read on and on, and nobody else on that worker would be served.
#[tokio::test]
async fn c22_interim_responses_without_end_are_a_failure_and_hold_up_nobody() {
    let pair = Pair::start(|received| match received.target() {
        "/flood" => vec![Act::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(4_000), Duration::ZERO)],
        _ => read_and_answer(),
    })
    .await;
    let mut flooded = pair.connect().await;
    flooded.send("POST /flood HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    eventually(PATIENCE, "the request at the origin", || async { pair.origin.n_requests() == 1 }).await;

    let began_at = Instant::now();
    assert_eq!(pair.portway.get("/").await.status, 200);
    assert!(began_at.elapsed() < Duration::from_secs(3), "held up for {:?}", began_at.elapsed());
    assert_eq!(flooded.response().await.status, 502);
    eventually(PATIENCE, "the upstream connection to end", || async { pair.origin.n_open() <= 1 }).await;
}

#[tokio::test]
async fn c23_the_client_hears_100_when_the_backend_has_said_so_and_not_before() {
    let gate = Arc::new(Semaphore::new(0));
    let backend_gate = gate.clone();
    let pair = Pair::start(move |_| {
        let done = Act::Send(response(200, &[], "ok"));
        vec![Act::Gate(backend_gate.clone()), Act::Send(CONTINUE.to_vec()), Act::ReadBody, done]
    })
    .await;
    let mut client = pair.connect().await;
    client.send(EXPECTING).await;
    eventually(PATIENCE, "the request at the origin", || async { pair.origin.n_requests() == 1 }).await;
    let (early, _) = client.until_close(Duration::from_millis(200)).await;
    assert_eq!(String::from_utf8_lossy(&early), "", "asked for the body before the backend did");

    gate.add_permits(1);
    assert_eq!(client.bytes(CONTINUE.len()).await, CONTINUE);
    client.send("hello").await;

    let answer = client.response().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let received = pair.origin.only_request();
    assert_eq!((received.head.get("expect"), &received.body.content[..]), (Some("100-continue"), &b"hello"[..]));
}

/// RFC 9110 §10.1.1: nobody waits for ever; backends of HTTP/1.0 know no 100.
#[tokio::test]
async fn c23_a_backend_that_says_nothing_gets_the_body_after_a_second() {
    let pair = Pair::hello().await;
    let mut client = pair.connect().await;
    let began_at = Instant::now();
    client.send(EXPECTING).await;
    assert_eq!(client.bytes(CONTINUE.len()).await, CONTINUE);
    assert!(began_at.elapsed() >= Duration::from_millis(800), "{:?}", began_at.elapsed());
    client.send("hello").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(pair.origin.only_request().body.content, b"hello");
}

#[tokio::test]
async fn c23_a_body_that_comes_without_waiting_is_forwarded() {
    let pair =
        Pair::start(|_| vec![Act::Send(CONTINUE.to_vec()), Act::ReadBody, Act::Send(response(200, &[], "ok"))]).await;
    let answer = pair.ask("POST", format!("{EXPECTING}hello")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(pair.origin.only_request().body.content, b"hello");
}

/// A final status replaces the 100. What the client sends afterwards is its body or nothing, but never a request.
#[tokio::test]
async fn c23_a_final_status_replaces_the_100_and_the_upstream_connection_is_not_used_again() {
    let pair = Pair::start(|received| match received.method() {
        "POST" => vec![Act::Send(response(401, &[], "no"))],
        _ => read_and_answer(),
    })
    .await;
    let mut client = pair.connect().await;
    client.send(EXPECTING).await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    client.send("GET /").await;
    client.send("smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until_close(Duration::from_millis(500)).await;

    assert_eq!(pair.portway.get("/victim").await.status, 200);
    let requests = pair.origin.requests();
    assert!(requests.iter().all(|received| !received.target().contains("smuggled")), "{requests:#?}");
    let victim = requests.last().expect("the victim's");
    assert_ne!(victim.connection, requests[0].connection, "a connection that is owed a body");
    assert_eq!(pair.origin.leftovers(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn c23_an_unknown_expectation_is_417_and_reaches_no_backend() {
    for value in ["200-ok", "100-continue, x", "100-continue=1", ""] {
        let pair = Pair::hello().await;
        let request = format!("POST /in HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 2\r\n\r\nhi");
        let answer = pair.ask("POST", request).await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (417, Some("expectation_failed")), "{value}");
        pair.assert_nothing_reached_the_origin(value);
    }
}

#[tokio::test]
async fn c23_http_1_0_has_no_expectation() {
    let pair = Pair::hello().await;
    let request = "POST /in HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello";
    let answer = pair.send_to_end(request).await;
    assert!(answer.text().contains(" 200 ") && !answer.text().contains(" 100 "), "{}", answer.text());
    let received = pair.origin.only_request();
    assert_eq!(received.body.content, b"hello");
    // C-05: what goes up is HTTP/1.1, where a request without `Host` is none.
    assert_eq!((received.head.get("expect"), received.head.all("host")), (None, vec!["localhost"]));
}

#[tokio::test]
async fn c23_an_expectation_without_a_body_is_an_ordinary_request() {
    let pair = Pair::hello().await;
    let answer = pair.ask("GET", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(answer.status, 200);
}

/// Every refusal that needs no backend comes instead of the 100.
#[tokio::test]
async fn c23_a_refusal_of_ours_comes_instead_of_the_100() {
    let yaml = Yaml { service: "route: /in, max_body: 10B", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    for (target, length, status) in [("/in", 11, 413), ("/elsewhere", 5, 404)] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        let answer = pair.send(request, Duration::from_millis(400)).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
    }
    pair.assert_nothing_reached_the_origin("refused");
}

#[tokio::test]
async fn c31_request_trailers_arrive_as_trailers() {
    for service in ["", "buffer: { request: 1B }"] {
        let pair = Pair::with(Yaml { service, ..Yaml::default() }, |_| read_and_answer()).await;
        let request = "POST /in HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum, X-More\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\nX-Sum: 42\r\nX-More: a b\r\n\r\n";
        assert_eq!(pair.ask("POST", request).await.status, 200);
        let received = pair.origin.only_request();
        let trailers = named(&received.body.trailers);
        assert_eq!(trailers, pairs(&[("x-more", "a b"), ("x-sum", "42")]), "{service:?}");
        assert_eq!((received.head.get("x-sum"), &received.body.content[..]), (None, &b"hello"[..]));
    }
}

#[tokio::test]
async fn c31_response_trailers_reach_a_client_that_takes_them_and_never_become_fields() {
    let bytes = "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\nX-Sum: 42\r\nGrpc-Status: 0\r\n\r\n";
    let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(bytes.into())]).await;
    let taking = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n";
    let answer = pair.ask("GET", taking).await;
    assert_eq!(named(&answer.body.trailers), pairs(&[("grpc-status", "0"), ("x-sum", "42")]));
    assert_eq!((answer.get("x-sum"), answer.text().as_str()), (None, "hello"));
    assert_eq!(pair.origin.only_request().head.get("te"), Some("trailers"), "C-13");

    let answer = pair.portway.get("/").await;
    assert_eq!((answer.text().as_str(), answer.get("x-sum")), ("hello", None));
    assert!(answer.body.is_complete);
}

/// RFC 9110 §6.5.1: what decides framing, routing or identity must not come behind the body.
#[tokio::test]
async fn c31_a_trailer_that_must_not_be_one_is_dropped_in_both_directions() {
    const BANNED: [&str; 12] = [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "Content-Type",
        "Connection",
        "Keep-Alive",
        "X-Named",
    ];
    let names = BANNED.join(", ");
    let lines: String = BANNED.map(|name| format!("{name}: 7\r\n")).concat();
    let rest = format!(
        "Trailer: X-Ok, {names}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{lines}X-Ok: 1\r\n\r\n"
    );
    let bytes = format!("HTTP/1.1 200 OK\r\nConnection: x-named\r\n{rest}");
    let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(bytes.clone().into())]).await;

    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, x-named\r\n{rest}");
    let answer = pair.ask("POST", request).await;

    assert_eq!(answer.status, 200);
    assert_eq!(named(&answer.body.trailers), pairs(&[("x-ok", "1")]), "to the client");
    assert_eq!(named(&pair.origin.only_request().body.trailers), pairs(&[("x-ok", "1")]), "to the backend");
}

fn named(trailers: &[(String, String)]) -> Vec<(String, String)> {
    let mut named: Vec<_> = trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    named.sort();
    named
}

#[tokio::test]
async fn c27_our_via_entry_follows_those_that_are_there() {
    let pair = Pair::hello().await;
    pair.ask("GET", "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred, 1.1 p.example\r\n\r\n").await;
    let via = pair.origin.only_request().head.all("via").join(", ");
    assert!(via.starts_with("1.0 fred, 1.1 p.example, 1.1 "), "{via}");
    assert_eq!(via.split(',').count(), 3, "{via}");
}

/// A configuration that sends a request back to where it came from.
#[tokio::test]
async fn c27_a_request_that_comes_round_again_is_508_and_not_a_storm() {
    let address = free_address();
    let yaml = format!("listen: \"{address}\"\nservices: {{ web: {{ backends: [\"{address}\"] }} }}");
    let portway = Portway::start(&yaml).await;
    let mut client = crate::support::Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 508);
    portway.wait_metric("portway_local_replies_total", &[("reason", "loop_detected")], 1.0).await;
}

#[tokio::test]
async fn c28_trace_and_connect_are_405_and_max_forwards_counts_down() {
    let pair = Pair::hello().await;
    for method in ["TRACE / HTTP/1.1", "CONNECT a:80 HTTP/1.1"] {
        let answer =
            pair.send_to_end(format!("{method}\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.n_answers()), (405, 1), "{method}: {}", answer.text());
        assert!(answer.text().contains("\r\nallow: "), "RFC 9110 §15.5.6: {}", answer.text());
        pair.assert_nothing_reached_the_origin(method);
    }
    let answer = pair.ask("OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    pair.assert_nothing_reached_the_origin("Max-Forwards: 0");
    let answer = pair.ask("OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let received = pair.origin.only_request();
    assert_eq!((received.target(), received.head.get("max-forwards")), ("*", Some("2")));
}

/// C-34: for HTTP, the end of the client's direction after a whole request is not the end of its interest.
#[tokio::test]
async fn a_client_that_half_closes_after_its_request_ends_the_exchange_one_way_or_the_other() {
    let pair = Pair::hello().await;
    let mut client = pair.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.finish_sending().await;
    let (raw, ending) = client.until_close(PATIENCE).await;
    assert_ne!(ending, Ending::StillOpen);
    assert!(raw.is_empty() || raw.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&raw));
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    pair.portway.wait_metric("portway_connections", &[], 0.0).await;
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
