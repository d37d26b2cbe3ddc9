//! Requests hidden in other requests: S-08, S-09, S-10 and S-13, and whatever an early answer leaves on a connection.
//! It promises that bytes which belong to one message never become another one, on either side of the proxy.
//! Framing that is ambiguous by itself is `framing`'s, a corpus of it `corpus_live`'s.

use std::time::Duration;

use crate::support::{
    Act, Ending, Origin, PATIENCE, Pair, Portway, Yaml, eventually, free_address, read_and_answer, response,
};

/// Only `/in` has a route, so that a smuggled request to `/in/smuggled` would be seen, and one elsewhere gets a 404.
const ROUTED: Yaml<'static> = Yaml { top: "", service: "route: /in, max_body: 150KiB" };

const SMUGGLED: &str = "GET /in/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn assert_not_smuggled(case: &str, origin: &Origin) {
    let requests = origin.requests();
    assert!(requests.iter().all(|received| !received.target().contains("smuggled")), "{case}: {requests:#?}");
    assert_eq!(origin.leftovers(), Vec::<Vec<u8>>::new(), "{case}");
}

#[tokio::test]
async fn s08_what_follows_an_upgrade_request_is_a_request_unless_101_was_said() {
    for status in [200, 426, 500] {
        for protocol in ["websocket", "h2c", "x"] {
            let pair = Pair::with(ROUTED, move |_| vec![Act::ReadBody, Act::Send(response(status, &[], "no"))]).await;
            let request = format!(
                "GET /in HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
                 GET /elsewhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            );
            let answer = pair.send_to_end(request).await;
            let text = answer.text();
            assert_eq!(answer.status(), status, "{protocol}: {text}");
            assert_eq!(answer.n_answers(), 2, "{protocol}: {text}");
            assert!(text.contains("HTTP/1.1 404 ") && text.contains("no_route"), "{protocol}: {text}");
            assert_eq!(pair.origin.only_request().target(), "/in", "{protocol}");
            assert_eq!(pair.origin.leftovers(), Vec::<Vec<u8>>::new(), "{protocol}: bytes before the 101");
        }
    }
}

/// Bodies of requests that we answer ourselves, without reading them. S-09.
#[tokio::test]
async fn s09_the_rest_of_a_body_that_nobody_read_is_never_a_request() {
    let pair = Pair::with(
        Yaml { top: "", service: "route: [/in, { path: /moved, redirect: /in }], max_body: 150KiB" },
        |_| read_and_answer(),
    )
    .await;
    let padding = "x".repeat(10);
    let cases = [
        ("404", "POST /elsewhere HTTP/1.1", "", 404),
        ("413", "POST /in HTTP/1.1", "", 413),
        ("417", "POST /in HTTP/1.1", "Expect: x\r\n", 417),
        ("redirect", "POST /moved HTTP/1.1", "", 302),
        ("405", "TRACE /in HTTP/1.1", "", 405),
        ("400 of a path", "POST /in/../x HTTP/1.1", "", 400),
        ("400 of a Host", "POST /in HTTP/1.1", "Connection: host\r\n", 400),
    ];
    for (case, line, field, status) in cases {
        let mut client = pair.connect().await;
        let length = if status == 413 { 200_000 } else { 100_000 };
        client.send(format!("{line}\r\nHost: a\r\n{field}Content-Length: {length}\r\n\r\n{padding}")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
        client.send(SMUGGLED).await;
        client.send(SMUGGLED.repeat(1_500)).await;
        let (raw, ending) = client.until_close(Duration::from_secs(4)).await;
        let text = String::from_utf8_lossy(&raw);
        assert!(!text.contains("HTTP/1.1 200"), "{case}: {text}");
        assert_ne!(ending, Ending::StillOpen, "{case}: neither read to its end nor closed");
        pair.assert_nothing_reached_the_origin(case);
    }
}

/// The same where the answer comes late or from a failure at the backend.
#[tokio::test]
async fn s09_a_failure_at_the_backend_does_not_turn_a_body_into_requests() {
    let nobody = free_address();
    let portway = Portway::start(&format!(
        "workers: 1\nservices: {{ web: {{ backends: [\"{nobody}\"], buffer: {{ request: 1B }} }} }}"
    ))
    .await;
    let mut client = portway.connect().await;
    client.send("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nxxxxxxxxxx").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    client.send(SMUGGLED.repeat(3_000)).await;
    let (raw, _) = client.until_close(Duration::from_secs(4)).await;
    assert_eq!(memchr::memmem::find_iter(&raw, b"x-portway-reason").count(), 0, "{}", String::from_utf8_lossy(&raw));
    portway.wait_metric("portway_local_replies_total", &[], 1.0).await;
}

/// A short body is read away, so that an honest client can go on. S-09.
#[tokio::test]
async fn s09_after_a_refusal_a_whole_body_is_passed_over_and_the_next_request_answered() {
    let pair = Pair::with(ROUTED, |_| read_and_answer()).await;
    let mut client = pair.connect().await;
    let body = SMUGGLED;
    client.send(format!("POST /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(client.response().await.status, 404);
    if client.send("GET /in/next HTTP/1.1\r\nHost: a\r\n\r\n").await {
        let (raw, _) = client.until_close(Duration::from_millis(500)).await;
        assert!(raw.is_empty() || raw.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&raw));
    }
    assert_not_smuggled("404", &pair.origin);
}

#[tokio::test]
async fn s10_what_follows_a_connect_is_never_parsed() {
    for head in ["CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "CONNECT /in HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut pair = Pair::with(ROUTED, |_| read_and_answer()).await;
        let answer = pair.send_to_end(format!("{head}{SMUGGLED}{SMUGGLED}")).await;
        assert!(matches!(answer.status(), 400 | 405), "{}", answer.text());
        assert_eq!(answer.n_answers(), 1, "{}", answer.text());
        pair.assert_nothing_reached_the_origin("CONNECT");
        pair.assert_lives();
    }
}

/// S-13: the backend answers before the body has come, and never reads it.
#[tokio::test]
async fn s13_an_early_answer_reaches_the_client_and_its_upstream_connection_serves_nobody_else() {
    let yaml = Yaml { top: "", service: "buffer: { request: 1B }" };
    let early = |received: &crate::support::Received| match received.method() {
        "POST" => vec![Act::Send(response(401, &[], "no"))],
        _ => read_and_answer(),
    };
    for framing in ["Content-Length: 100000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"] {
        let pair = Pair::with(yaml, early).await;
        let mut client = pair.connect().await;
        client.send(format!("POST /in HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "no"), "{framing:?}");

        client.send(SMUGGLED.repeat(100)).await;
        assert_eq!(pair.portway.get("/victim").await.text(), "ok", "{framing:?}");
        client.until_close(Duration::from_millis(200)).await;
        drop(client);

        let requests = pair.origin.requests();
        assert_eq!(requests.len(), 2, "{framing:?}: {requests:#?}");
        assert_ne!(requests[0].connection, requests[1].connection, "{framing:?}");
        assert!(requests.iter().all(|received| !received.target().contains("smuggled")), "{framing:?}");
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    }
}

/// S-13, the other way round: a backend that reads the rest of the body after its answer must not see a victim in it.
#[tokio::test]
async fn s13_an_early_answer_of_a_backend_that_reads_on_is_not_followed_by_another_request() {
    let yaml = Yaml { top: "", service: "buffer: { request: 1B }" };
    let pair = Pair::with(yaml, |received| match received.method() {
        "POST" => vec![Act::Send(response(200, &[], "early")), Act::ReadBody],
        _ => read_and_answer(),
    })
    .await;
    let mut client = pair.connect().await;
    client.send("POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nxxxxxxxxxx").await;
    assert_eq!(client.response().await.text(), "early");

    assert_eq!(pair.portway.get("/victim").await.text(), "ok");

    let requests = pair.origin.requests();
    assert_ne!(requests[0].connection, requests[1].connection, "{requests:#?}");
    assert!(!requests[0].body.content.windows(6).any(|window| window == b"victim"));
}

/// A client that goes away in mid-body must not leave half a request on a shared connection.
#[tokio::test]
async fn a_request_that_its_client_broke_off_breaks_off_at_the_backend() {
    for framing in ["Content-Length: 1000\r\n\r\nxxxx", "Transfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\n"] {
        let yaml = Yaml { top: "", service: "buffer: { request: 1B }" };
        let pair = Pair::with(yaml, |_| read_and_answer()).await;
        let mut client = pair.connect().await;
        client.send(format!("POST /in HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        eventually(PATIENCE, "the request at the origin", || async { pair.origin.n_requests() == 1 }).await;
        client.reset();
        eventually(PATIENCE, "its end there", || async { pair.origin.n_open() == 0 }).await;

        assert_eq!(pair.portway.get("/victim").await.text(), "ok");
        let requests = pair.origin.requests();
        assert!(!requests[0].body.is_complete, "{framing:?}: {requests:#?}");
        assert_ne!(requests[0].connection, requests[1].connection);
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    }
}

/// A client that ends its direction in mid-body has not sent a whole request.
#[tokio::test]
async fn a_body_that_ends_early_is_no_whole_body() {
    for service in ["", "buffer: { request: 1B }"] {
        for framing in ["Content-Length: 1000\r\n\r\nxxxx", "Transfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\n"] {
            let pair = Pair::with(Yaml { top: "", service }, |_| read_and_answer()).await;
            let mut client = pair.connect().await;
            client.send(format!("POST /in HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            client.finish_sending().await;
            let (raw, ending) = client.until_close(PATIENCE).await;
            assert_ne!(ending, Ending::StillOpen);
            assert!(!raw.starts_with(b"HTTP/1.1 200"), "{framing:?}: {}", String::from_utf8_lossy(&raw));
            assert!(pair.origin.requests().iter().all(|received| !received.body.is_complete), "{framing:?}");
            pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        }
    }
}

/// Two clients, one upstream connection: every answer goes to whom it belongs.
#[tokio::test]
async fn answers_on_shared_upstream_connections_are_never_swapped() {
    let pair = Pair::start(|received| {
        let body = received.target().to_owned();
        // It says how long it waits: POSTs too share connections from the first one on.
        vec![Act::ReadBody, Act::Send(response(200, &[("Keep-Alive", "timeout=60")], &body))]
    })
    .await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut client = pair.connect().await;
        clients.spawn(async move {
            for nth in 0..100 {
                let (target, method) = (format!("/{n}/{nth}"), if nth % 3 == 0 { "POST" } else { "GET" });
                let body = if method == "POST" { SMUGGLED } else { "" };
                let length = body.len();
                client
                    .send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
                    .await;
                assert_eq!(client.response().await.text(), target);
            }
        });
    }
    clients.join_all().await;
    assert_not_smuggled("honest bodies", &pair.origin);
    assert!(pair.origin.n_accepted() <= 16, "{} connections for 8 clients", pair.origin.n_accepted());
}
