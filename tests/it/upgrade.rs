//! WebSockets through the proxy, and everything that only looks like one: C-24, C-34, S-08, S-44, H11.
//! It promises a tunnel exactly when the client asked for a WebSocket and the backend granted one, with every byte of
//! both directions in order and each side's end passed on. The idle timeout itself is in `slow`.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Act, Client, Ending, Origin, PATIENCE, Pair, Yaml, eventually, read_and_answer, response};

/// Key and answer are the example of RFC 6455 §1.3.
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: chat\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// Grants every upgrade and sends back what comes; other requests get `ok`.
async fn echoing(service: &str) -> Pair {
    Pair::with(Yaml { service, ..Yaml::default() }, |received| match received.head.get("upgrade") {
        Some(_) => vec![Act::Send(SWITCHED.into()), Act::Echo],
        None => read_and_answer(),
    })
    .await
}

async fn upgraded(pair: &Pair) -> Client {
    let mut client = pair.connect().await;
    client.send(UPGRADE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

#[tokio::test]
async fn c24_a_websocket_handshake_goes_through_with_its_fields() {
    let pair = echoing("").await;
    let mut client = pair.connect().await;
    client.send(UPGRADE).await;

    let head = client.head().await.to_ascii_lowercase();

    let lines: Vec<&str> = head.split("\r\n").collect();
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3ppLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: chat",
    ] {
        assert!(lines.contains(&line.to_ascii_lowercase().as_str()), "{line}: {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "C-16: {head}");
    let received = pair.origin.only_request();
    assert_eq!(received.head.get("upgrade"), Some("websocket"));
    assert!(received.head.all("connection").iter().any(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(received.head.get("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[tokio::test]
async fn c24_every_byte_of_both_directions_arrives_in_order() {
    let pair = echoing("").await;
    let mut client = upgraded(&pair).await;
    let mut sent = 0_usize;
    for size in [1, 2, 125, 126, 65_535, 200_000] {
        let message: Vec<u8> = (0..size).map(|n| ((n + sent) % 251) as u8).collect();
        client.send(&message).await;
        assert!(client.bytes(size).await == message, "{size} bytes");
        sent += size;
    }
    client.finish_sending().await;
    assert_eq!(client.until_close(PATIENCE).await, (Vec::new(), Ending::Closed));
    eventually(PATIENCE, "the upstream side to end", || async { pair.origin.n_open() == 0 }).await;
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    eventually(PATIENCE, "the record", || async { !pair.portway.access_log().is_empty() }).await;
    let record = &pair.portway.access_log()[0];
    assert_eq!((record["status"].as_u64(), record["bytes_in"].as_u64()), (Some(101), Some(sent as u64)), "{record}");
    assert_eq!(record["bytes_out"].as_u64(), Some(sent as u64), "{record}");
    assert!(record.get("reason").is_none(), "{record}");
}

/// A server may speak at once: its first frame can come in one packet with the 101.
#[tokio::test]
async fn c24_what_the_backend_says_right_behind_its_101_arrives() {
    let greeting = format!("{SWITCHED}hello from the start");
    let pair = Pair::start(move |_| vec![Act::Send(greeting.clone().into()), Act::Echo]).await;
    let mut client = upgraded(&pair).await;
    assert_eq!(client.bytes(20).await, b"hello from the start");
    client.send("and back").await;
    assert_eq!(client.bytes(8).await, b"and back");
}

/// S-08: frames that a client sends without waiting for the 101 reach the backend after it, or the connection ends;
/// they are no HTTP, so they must not be judged as such.
#[tokio::test]
async fn s08_what_the_client_sends_before_the_101_reaches_the_backend_after_it() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let backend_gate = gate.clone();
    let pair = Pair::start(move |_| vec![Act::Gate(backend_gate.clone()), Act::Send(SWITCHED.into()), Act::Echo]).await;
    for early in ["\u{1}\u{2}frame", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = pair.connect().await;
        client.send(format!("{UPGRADE}{early}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.add_permits(1);
        let head = client.head().await;
        assert!(
            head.starts_with("HTTP/1.1 101 ") && head.to_ascii_lowercase().contains("connection: upgrade"),
            "{head}"
        );
        client.send("later").await;
        assert_eq!(client.bytes(early.len() + 5).await, format!("{early}later").as_bytes());
    }
    assert!(pair.origin.requests().iter().all(|received| received.target() == "/ws"));
}

#[tokio::test]
async fn c34_the_end_of_either_direction_is_passed_on_and_the_other_goes_on() {
    let pair = Pair::start(|_| {
        vec![Act::Send(SWITCHED.into()), Act::Pause(Duration::from_millis(300)), Act::Send(b"still here".to_vec())]
    })
    .await;
    let mut client = upgraded(&pair).await;
    client.send("last words").await;
    client.finish_sending().await;
    let (raw, ending) = client.until_close(PATIENCE).await;
    assert_eq!((String::from_utf8_lossy(&raw).as_ref(), ending), ("still here", Ending::Closed));
    eventually(PATIENCE, "what the origin got", || async { pair.origin.leftovers() == [b"last words".to_vec()] }).await;
}

#[tokio::test]
async fn c34_a_backend_that_ends_the_tunnel_ends_it_for_the_client() {
    for end in [Act::Close, Act::Reset] {
        let acts = vec![Act::Send(SWITCHED.into()), Act::Pause(Duration::from_millis(100)), end];
        let pair = Pair::start(move |_| acts.clone()).await;
        let mut client = upgraded(&pair).await;
        let (raw, ending) = client.until_close(PATIENCE).await;
        assert!(raw.is_empty() && ending != Ending::StillOpen);
        drop(client);
        pair.portway.wait_metric("portway_connections", &[], 0.0).await;
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    }
}

/// The record says which side broke a tunnel, and that nobody did if it was closed.
#[tokio::test]
async fn c34_the_record_of_a_tunnel_says_who_broke_it() {
    let closing = |end: Act| vec![Act::Send(SWITCHED.into()), Act::Pause(Duration::from_millis(100)), end];
    let pair = Pair::start(move |received| match received.head.get("x-end") {
        Some("close") => closing(Act::Close),
        Some("reset") => closing(Act::Reset),
        _ => vec![Act::Send(SWITCHED.into()), Act::Hang],
    })
    .await;
    let ends = [("close", Value::Null), ("reset", "upstream_reset".into()), ("by the client", "client_closed".into())];
    for (n, (end, reason)) in ends.into_iter().enumerate() {
        let mut client = pair.connect().await;
        client.send(UPGRADE.replace("\r\n\r\n", &format!("\r\nX-End: {end}\r\n\r\n"))).await;
        client.head().await;
        if end == "by the client" {
            client.reset();
        } else {
            client.until_close(PATIENCE).await;
            drop(client);
        }
        eventually(PATIENCE, "the record", || async { pair.portway.access_log().len() > n }).await;
        let record = pair.portway.access_log().pop().expect("the last one");
        assert_eq!((&record["status"], &record["reason"]), (&101.into(), &reason), "{end}: {record}");
    }
}

#[tokio::test]
async fn c34_a_client_that_resets_a_tunnel_frees_the_backend() {
    let pair = echoing("max_in_flight: 1").await;
    let client = upgraded(&pair).await;
    client.reset();
    eventually(PATIENCE, "the upstream side to end", || async { pair.origin.n_open() == 0 }).await;
    assert_eq!(pair.portway.get("/").await.status, 200);
}

/// S-44: silence is counted over both directions together.
#[tokio::test]
async fn s44_traffic_in_one_direction_keeps_a_tunnel_alive() {
    let tick = Act::Repeat(b".".to_vec(), Duration::from_millis(100));
    let acts = vec![Act::Send(SWITCHED.into()), tick];
    let yaml = Yaml { service: "timeouts: { idle: 500ms }, timeout: 1s", ..Yaml::default() };
    let pair = Pair::with(yaml, move |_| acts.clone()).await;
    let mut client = upgraded(&pair).await;
    let (raw, ending) = client.until_close(Duration::from_secs(2)).await;
    assert_eq!(ending, Ending::StillOpen, "after {} bytes", raw.len());
    assert!(raw.len() >= 10, "{} bytes", raw.len());
}

/// H11: hyper takes any 101 for an upgrade.
#[tokio::test]
async fn s08_a_101_that_nobody_asked_for_or_to_another_protocol_is_502() {
    let to = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nraw bytes");
    let plain = "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let post = UPGRADE.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
    let cases = [
        ("not asked", plain, to("Connection: Upgrade\r\nUpgrade: websocket\r\n")),
        ("asked by POST", post, to("Connection: Upgrade\r\nUpgrade: websocket\r\n")),
        ("asked in 1.0", UPGRADE.replace("HTTP/1.1", "HTTP/1.0"), to("Connection: Upgrade\r\nUpgrade: websocket\r\n")),
        ("h2c", UPGRADE.replace("websocket", "h2c"), to("Connection: Upgrade\r\nUpgrade: h2c\r\n")),
        ("another protocol", UPGRADE.to_owned(), to("Connection: Upgrade\r\nUpgrade: h2c\r\n")),
        ("no protocol", UPGRADE.to_owned(), to("")),
        ("no Connection", UPGRADE.to_owned(), to("Upgrade: websocket\r\n")),
        (
            "no Connection: Upgrade of the client",
            UPGRADE.replace("keep-alive, Upgrade", "keep-alive"),
            SWITCHED.to_owned(),
        ),
    ];
    for (case, request, bytes) in cases {
        let mut pair = Pair::start(move |received| match received.target() {
            "/ws" => vec![Act::Send(bytes.clone().into()), Act::Hang],
            _ => read_and_answer(),
        })
        .await;
        let mut client = pair.connect().await;
        client.send(request).await;
        let (raw, _) = client.until_close(Duration::from_millis(400)).await;
        let text = String::from_utf8_lossy(&raw);
        assert!(text.contains(" 502 ") && text.contains("upstream_protocol"), "{case}: {text}");
        assert!(!text.contains("raw bytes"), "{case}: {text}");
        drop(client);
        eventually(PATIENCE, case, || async { pair.origin.n_open() == 0 }).await;
        assert_eq!(pair.portway.get("/").await.status, 200, "{case}");
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        pair.assert_lives();
    }
}

#[tokio::test]
async fn c24_h2c_goes_on_as_an_ordinary_request() {
    let pair = Pair::hello().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    assert_eq!(pair.ask("GET", request).await.status, 200);
    let received = pair.origin.only_request();
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(received.head.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_refused_websocket_is_an_ordinary_answer_on_an_ordinary_connection() {
    let pair = Pair::start(|received| match received.head.get("upgrade") {
        Some(_) => vec![Act::Send(response(403, &[], "no"))],
        None => read_and_answer(),
    })
    .await;
    let mut client = pair.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.response().await.status, 403);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let requests = pair.origin.requests();
    assert_eq!(requests[0].connection, requests[1].connection);
}

#[tokio::test]
async fn a_stale_upstream_connection_does_not_fail_a_websocket() {
    let origin = Origin::start(|received| match (received.head.get("upgrade"), received.nth) {
        (Some(_), 0) => vec![Act::Send(SWITCHED.into()), Act::Echo],
        (Some(_), _) => vec![Act::Close],
        (None, _) => read_and_answer(),
    })
    .await;
    let pair = Pair::before(Yaml::default(), origin).await;
    assert_eq!(pair.portway.get("/").await.status, 200);
    let mut client = upgraded(&pair).await;
    client.send("ping").await;
    assert_eq!(client.bytes(4).await, b"ping");
    assert_eq!(pair.origin.n_accepted(), 2);
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_ends() {
    let pair = echoing("max_in_flight: 1, queue: { size: 1, timeout: 100ms }").await;
    let client = upgraded(&pair).await;
    let answer = pair.portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (503, Some("queue_timeout")));
    drop(client);
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    assert_eq!(pair.portway.get("/").await.status, 200);
}
