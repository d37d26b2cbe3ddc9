//! Conformance with filters around the backend: compression, CORS and header edits must keep a message's framing honest.
//! It promises what `responses`, `log` and `upgrade` promise, for a service that has filters.
//! What the filters do to a message by intent is their own tests' affair.

use std::time::Duration;

use crate::support::{Act, Ending, PATIENCE, Pair, Yaml, eventually, read_and_answer, response};

const FILTERS: Yaml<'static> = Yaml {
    top: "",
    service: "compression: { min_size: 1B }, cors: {}, headers: { response: { set: { x-filter: \"yes\" } } }",
};

const GET: &str = "GET /case HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";

async fn filtered(acts: Vec<Act>) -> Pair {
    Pair::with(FILTERS, move |received| match received.target() {
        "/case" => acts.clone(),
        _ => read_and_answer(),
    })
    .await
}

fn text_response(framing: &str, body: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n\r\n{body}").into_bytes())
}

#[tokio::test]
async fn s03_a_compressed_response_has_one_framing_and_a_length_of_its_own() {
    let body = "hello ".repeat(1_000);
    let pair = filtered(vec![Act::ReadBody, text_response("Content-Length: 6000", &body)]).await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!((answer.status, answer.get("x-filter")), (200, Some("yes")));
    assert_eq!(answer.get("content-encoding"), Some("gzip"));
    assert_eq!(answer.head.all("content-length").len() + answer.head.all("transfer-encoding").len(), 1);
    assert!(answer.body.is_complete && answer.body.content.len() < 1_000);
    let plain = pair.ask("GET", "GET /case HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((plain.text(), plain.get("content-length")), (body, Some("6000")));
}

#[tokio::test]
async fn c19_a_truncated_body_looks_truncated_behind_filters_too() {
    let half = "hello ".repeat(5_000);
    for framing in ["Content-Length: 90000", "Transfer-Encoding: chunked"] {
        let body = if framing.contains("chunked") { format!("7530\r\n{half}\r\n") } else { half.clone() };
        let pause = Act::Pause(Duration::from_millis(30));
        let mut pair = filtered(vec![Act::ReadBody, text_response(framing, &body), pause, Act::Close]).await;
        let answer = pair.send_to_end(GET).await;
        assert!(!answer.raw.ends_with(b"0\r\n\r\n"), "{framing}: a cut body looks whole");
        assert_eq!(pair.portway.get("/victim").await.status, 200);
        pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        pair.assert_lives();
    }
}

#[tokio::test]
async fn c18_statuses_and_methods_without_content_stay_without_behind_filters() {
    for (method, bytes) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6000\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Type: text/plain\r\nETag: \"x\"\r\n\r\n"),
        ("GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello"),
    ] {
        let mut pair = filtered(vec![Act::ReadBody, Act::Send(bytes.into())]).await;
        let mut client = pair.connect().await;
        client.send(GET.replace("GET", method)).await;
        let answer = client.response_to(method).await;
        assert_eq!(answer.text(), "", "{method} {bytes:?}");
        client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let again = client.response().await;
        assert_eq!((again.status, again.text().as_str()), (200, "ok"), "{method} {bytes:?}: {again:?}");
        pair.assert_lives();
    }
}

#[tokio::test]
async fn c24_a_websocket_goes_through_filters() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let pair = filtered(vec![Act::Send(switched.into()), Act::Echo]).await;
    let mut client = pair.connect().await;
    client.send("GET /case HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send("ping").await;
    assert_eq!(client.bytes(4).await, b"ping");
}

#[tokio::test]
async fn failures_behind_filters_have_their_reason_one_record_and_the_filters_headers() {
    for (acts, status, reason) in [
        (vec![Act::ReadBody, Act::Close], 502, "upstream_reset"),
        (vec![Act::ReadBody, Act::Send(b"garbage\r\n\r\n".to_vec()), Act::Close], 502, "upstream_protocol"),
    ] {
        let pair = filtered(acts).await;
        let answer = pair.ask("GET", GET).await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (status, Some(reason)));
        eventually(PATIENCE, "a record", || async { !pair.portway.access_log().is_empty() }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let log = pair.portway.access_log();
        assert_eq!((log.len(), log[0]["reason"].as_str()), (1, Some(reason)), "{log:#?}");
    }
}

#[tokio::test]
async fn s09_a_preflight_with_a_body_does_not_smuggle() {
    let pair = filtered(vec![Act::ReadBody, Act::Send(response(200, &[], "ok"))]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = pair.connect().await;
    client
        .send(format!(
            "OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\nAccess-Control-Request-Method: PUT\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200);
    let (raw, ending) = client.until_close(Duration::from_millis(300)).await;
    assert!(raw.is_empty() && ending != Ending::Reset, "{}", String::from_utf8_lossy(&raw));
    assert!(pair.origin.requests().iter().all(|received| received.target() != "/smuggled"));
}
