//! What a request leaves behind: S-51 and the access log, against the metrics. It promises exactly one line per request
//! however it ended, valid JSON without a control byte whatever the client sent, and counts that agree with the lines.
//! How lines are written is the log's unit tests' affair.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Act, Ending, PATIENCE, Pair, Portway, Yaml, eventually, free_address, read_and_answer, response};

/// The log, once it has `n` lines and a moment has passed in which it gets no more.
async fn records(portway: &Portway, n: usize) -> Vec<Value> {
    eventually(PATIENCE, &format!("{n} records"), || async { portway.access_log().len() >= n }).await;
    tokio::time::sleep(Duration::from_millis(250)).await; // two flushes
    let records = portway.access_log();
    assert_eq!(records.len(), n, "{records:#?}");
    records
}

fn scripted(received: &crate::support::Received) -> Vec<Act> {
    match received.target() {
        "/close" => vec![Act::ReadBody, Act::Close],
        "/hang" => vec![Act::ReadBody, Act::Hang],
        "/garbage" => vec![Act::ReadBody, Act::Send(b"garbage\r\n\r\n".to_vec()), Act::Close],
        "/cut" => vec![
            Act::ReadBody,
            Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()),
            Act::Pause(Duration::from_millis(30)),
            Act::Close,
        ],
        "/500" => vec![Act::ReadBody, Act::Send(response(500, &[], "sorry"))],
        "/drip" => vec![
            Act::ReadBody,
            Act::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Act::Repeat(b"1\r\nx\r\n".to_vec(), Duration::from_millis(10)),
        ],
        _ => read_and_answer(),
    }
}

#[tokio::test]
async fn a_record_says_what_happened() {
    let pair = Pair::with(Yaml { top: "access_log: { query: true }", ..Yaml::default() }, scripted).await;
    let request = "POST /path%20x?q=1 HTTP/1.1\r\nHost: Shop.Example:81\r\nUser-Agent: test/1\r\nAuthorization: secret-a\r\n\
                   Cookie: secret-b\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(pair.ask("POST", request).await.status, 200);
    let record = records(&pair.portway, 1).await.remove(0);
    for (field, value) in [
        ("client_ip", "127.0.0.1"),
        ("method", "POST"),
        ("host", "Shop.Example:81"),
        ("path", "/path%20x?q=1"),
        ("proto", "HTTP/1.1"),
        ("service", "web"),
        ("user_agent", "test/1"),
    ] {
        assert_eq!(record[field], value, "{field}: {record}");
    }
    assert_eq!(record["backend"], pair.origin.address.to_string(), "{record}");
    for (field, value) in
        [("status", 200), ("bytes_in", 5), ("bytes_out", 2), ("attempts", 1), ("upstream_status", 200)]
    {
        assert_eq!(record[field], value, "{field}: {record}");
    }
    let number = |field: &str| record[field].as_f64().unwrap_or_else(|| panic!("{field} is no number: {record}"));
    assert!(number("duration_ms") >= number("ttfb_ms") && number("ttfb_ms") >= number("connect_ms"), "{record}");
    assert!(record["request_id"].as_str().is_some_and(|id| id.len() == 32), "{record}");
    assert!(record["trace_id"].as_str().is_some_and(|id| id.len() == 32), "{record}");
    assert!(record["ts"].as_str().is_some_and(|ts| ts.len() == 24 && ts.ends_with('Z')), "{record}");
    assert!(record.get("reason").is_none(), "{record}");
    assert!(!pair.portway.stdout().contains("secret"), "credentials in the log");
}

#[tokio::test]
async fn a_query_is_logged_only_when_asked_for() {
    let pair = Pair::hello().await;
    pair.portway.get("/x?token=secret").await;
    assert_eq!(records(&pair.portway, 1).await[0]["path"], "/x");
    assert!(!pair.portway.stdout().contains("secret"));
}

/// C-03: whatever `Host` says beside an absolute target, it chose no backend.
#[tokio::test]
async fn the_host_of_an_absolute_target_is_its_own() {
    let pair = Pair::hello().await;
    let request = "GET http://b.example:81/in HTTP/1.1\r\nHost: somebody.else\r\n\r\n";
    assert_eq!(pair.ask("GET", request).await.status, 200);
    assert_eq!(records(&pair.portway, 1).await[0]["host"], "b.example:81");
}

#[tokio::test]
async fn a_redirect_stands_in_the_log_with_its_service() {
    let portway = Portway::start("services: { old: { route: { redirect: \"https://b.example{path}\" } } }").await;
    assert_eq!(portway.get("/x").await.status, 302);
    let record = &records(&portway, 1).await[0];
    assert_eq!((&record["service"], &record["status"]), (&"old".into(), &302.into()), "{record}");
}

/// What is refused before it is a request leaves a line too.
#[tokio::test]
async fn every_refused_head_has_one_record_and_one_count() {
    let pair = Pair::hello().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let cases: [(&str, u64, &str); 12] = [
        ("GET / HTTP/1.1\r\nBad Name: a\r\n\r\n", 400, "bad_request"),
        ("nonsense\r\n\r\n", 400, "bad_request"),
        ("\x16\x03\x01\x02\x00\x01", 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "unsupported_version"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unknown_transfer_coding"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            417,
            "expectation_failed",
        ),
        (&long, 414, "uri_too_long"),
        (&large, 431, "headers_too_large"),
    ];
    for (n, (request, status, reason)) in cases.iter().enumerate() {
        let shown = &request[..request.len().min(40)];
        let answer = pair.send_to_end(request).await;
        assert_eq!(u64::from(answer.status()), *status, "{shown:?}: {}", answer.text());
        assert!(answer.text().contains(&format!("x-portway-reason: {reason}\r\n")), "{shown:?}: {}", answer.text());
        let log = records(&pair.portway, n + 1).await;
        let record = log.iter().max_by_key(|record| record["ts"].as_str()).expect("there is one");
        let same = log.iter().filter(|record| record["reason"] == *reason && record["status"] == *status);
        assert!(same.count() >= 1, "{shown:?}: {record}");
    }
    let metrics = pair.portway.metrics().await;
    assert_eq!(metrics.sum("portway_requests_total", &[]), 12.0);
    assert_eq!(metrics.sum("portway_limit_hits_total", &[("limit", "headers")]), 2.0);
    assert_eq!(metrics.sum("portway_local_replies_total", &[]), 12.0);
    assert_eq!(metrics.sum("portway_local_replies_total", &[("reason", "bad_request")]), 6.0);
    pair.assert_nothing_reached_the_origin("refused");
}

/// However an exchange ends, it ends once.
#[tokio::test]
async fn every_way_to_end_leaves_one_record_with_its_reason() {
    let service =
        "max_in_flight: 4, max_body: 100B, timeouts: { response: 300ms }, timeout: 1s, buffer: { response: 1B }";
    let pair = Pair::with(Yaml { service, ..Yaml::default() }, scripted).await;
    let cases: [(&str, u64, Option<&str>); 8] = [
        ("GET /", 200, None),
        ("GET /500", 500, None),
        ("GET /close", 502, Some("upstream_reset")),
        ("GET /garbage", 502, Some("upstream_protocol")),
        ("GET /hang", 504, Some("response_timeout")),
        ("GET /cut", 200, Some("upstream_reset")),
        ("GET /drip", 200, Some("deadline")),
        ("GET /..", 400, Some("bad_request")),
    ];
    for (n, (line, status, reason)) in cases.into_iter().enumerate() {
        pair.send_to_end(format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let log = records(&pair.portway, n + 1).await;
        let record = log.last().expect("the last one");
        assert_eq!((record["status"].as_u64(), record["reason"].as_str()), (Some(status), reason), "{line}: {record}");
    }
    let metrics = pair.portway.metrics().await;
    assert_eq!(metrics.sum("portway_requests_total", &[]), 8.0);
    for (class, n) in [("2xx", 3.0), ("4xx", 1.0), ("5xx", 4.0)] {
        assert_eq!(metrics.sum("portway_requests_total", &[("code_class", class)]), n, "{class}");
    }
    assert_eq!(metrics.sum("portway_backend_in_flight", &[]), 0.0);
}

/// A client that goes away is 499, or the status that it got, wherever it goes away.
#[tokio::test]
async fn a_client_that_goes_away_leaves_one_record() {
    let pair = Pair::with(Yaml { service: "timeout: 5s", ..Yaml::default() }, scripted).await;
    let cases = [
        ("before the body is here", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf", 499),
        ("while the backend works", "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n", 499),
        ("while the response comes", "GET /drip HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ];
    for (n, (case, request, status)) in cases.into_iter().enumerate() {
        for is_reset in [true, false] {
            let mut client = pair.connect().await;
            client.send(request).await;
            if status == 200 {
                client.head().await;
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if is_reset {
                client.reset()
            } else {
                drop(client)
            }
            let log = records(&pair.portway, n * 2 + if is_reset { 1 } else { 2 }).await;
            let record = log.last().expect("the last one");
            assert_eq!(record["status"], status, "{case}: {record}");
            assert_eq!(record["reason"], "client_closed", "{case}: {record}");
        }
    }
    pair.portway.wait_metric("portway_connections", &[], 0.0).await;
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    assert_eq!(pair.portway.metrics().await.sum("portway_requests_total", &[]), 6.0);
}

/// 499 is a word of the log: a client that closes in the middle of its body is told nothing.
#[tokio::test]
async fn a_client_that_half_closes_in_its_body_gets_no_status_that_does_not_exist() {
    let pair = Pair::hello().await;
    let chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    for (n, request) in ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf", chunks].into_iter().enumerate()
    {
        let mut client = pair.connect().await;
        client.send(request).await;
        client.finish_sending().await;
        let (raw, ending) = client.until_close(PATIENCE).await;
        assert_eq!(String::from_utf8_lossy(&raw), "", "{request}");
        assert_ne!(ending, Ending::StillOpen);
        let log = records(&pair.portway, n + 1).await;
        let record = log.last().expect("the last one");
        assert_eq!((&record["status"], &record["reason"]), (&499.into(), &"client_closed".into()), "{record}");
    }
    pair.assert_nothing_reached_the_origin("half a body");
}

/// A client that owes its body when the whole request is out of time is the one that was too slow.
#[tokio::test]
async fn a_deadline_that_the_client_used_up_is_408_wherever_its_body_is() {
    for buffer in ["64KiB", "1B"] {
        let service = format!("timeout: 1s, buffer: {{ request: {buffer} }}");
        let pair = Pair::with(Yaml { service: &service, ..Yaml::default() }, scripted).await;
        let half = "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf";
        let answer = pair.send_to_end(half).await;
        assert_eq!(answer.status(), 408, "{buffer}: {}", answer.text());
        let record = records(&pair.portway, 1).await.remove(0);
        assert_eq!(record["reason"], "request_timeout", "{buffer}: {record}");
        let whole = "GET /hang HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(pair.send_to_end(whole).await.status(), 504, "{buffer}: the backend is the slow one");
    }
}

/// A head that is never complete took the time since its first byte.
#[tokio::test]
async fn the_record_of_a_refused_head_says_how_long_it_took() {
    let top = "limits: { header_timeout: 1s }";
    let pair = Pair::with(Yaml { top, ..Yaml::default() }, scripted).await;
    assert_eq!(pair.send_to_end("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.status(), 408);
    let duration = |record: &Value| record["duration_ms"].as_f64().expect("a number");
    let slow = records(&pair.portway, 1).await.remove(0);
    assert!(duration(&slow) >= 1_000.0, "{slow}");
    tokio::time::sleep(Duration::from_millis(300)).await; // the connection before its head is no part of it
    assert_eq!(pair.send_to_end("nonsense\r\n\r\n").await.status(), 400);
    let quick = records(&pair.portway, 2).await.remove(1);
    assert!(duration(&quick) < duration(&slow), "{quick}");
}

/// A connection that never becomes a request is none.
#[tokio::test]
async fn a_connection_without_a_request_leaves_no_record() {
    let pair = Pair::hello().await;
    drop(pair.connect().await);
    pair.connect().await.reset();
    let mut client = pair.connect().await;
    client.send("\r\n").await;
    drop(client);
    pair.portway.wait_metric("portway_connections", &[], 0.0).await;
    pair.portway.get("/").await;
    records(&pair.portway, 1).await;
}

/// S-51: everything that a client chooses, at its worst.
#[tokio::test]
async fn s51_no_value_breaks_a_line_or_brings_a_control_byte_into_it() {
    let pair = Pair::with(Yaml { top: "access_log: { query: true }", ..Yaml::default() }, scripted).await;
    let long = "x".repeat(8_000);
    let requests: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\xc3\x28\xf0\x9f\x92\xa9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \"}\\{\t\x80\x9b[2J</script>\r\n\r\n".to_vec(),
        format!("GET /{long}?{long} HTTP/1.1\r\nHost: a\r\nUser-Agent: {long}\r\n\r\n").into_bytes(),
        b"GET /\"quoted\"?a=\"b\" HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /%0a%0d%00%1b[31m HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"G!#$%&'*+-.^_`|~ET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nUser-Agent: b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: \"},{\r\ntraceparent: \"\r\nReferer: \"\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: \x1b[31m\r\n\r\n".to_vec(),
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ];
    for request in &requests {
        let mut client = pair.connect().await;
        client.send(request).await;
        assert!(client.head().await.starts_with("HTTP/1."));
    }
    let log = records(&pair.portway, requests.len()).await;
    assert!(log.iter().all(|record| record["status"].is_u64() && record["request_id"].is_string()));
    let stdout = pair.portway.stdout();
    let is_control = |char: &char| char.is_control() && *char != '\n';
    assert_eq!(stdout.chars().find(is_control), None, "{stdout}");
    assert!(stdout.lines().all(|line| line.len() < 8 * 1_024), "a client chooses the length of our lines");
}

/// The same requests, counted by everybody who counts.
#[tokio::test]
async fn log_and_metrics_agree_about_a_mixed_crowd() {
    let nobody = free_address();
    let origin = crate::support::Origin::start(scripted).await;
    let portway = Portway::start(&format!(
        "services:\n  web: {{ backends: [\"{}\"], route: /, max_body: 100B }}\n  gone: {{ backends: [\"{nobody}\"], route: /gone }}\n",
        origin.address
    ))
    .await;
    let lines =
        ["GET /", "GET /500", "GET /close", "GET /gone", "POST /", "GET /..", "BAD REQUEST", "GET /garbage", "HEAD /"];
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..8 {
        let address = portway.address;
        crowd.spawn(async move {
            for nth in 0..30 {
                let line = lines[(n + nth) % lines.len()];
                let body = if line == "POST /" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
                crate::support::exchange(address, format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{body}"))
                    .await;
            }
        });
    }
    crowd.join_all().await;
    let log = records(&portway, 240).await;
    let metrics = portway.metrics().await;
    let n_logged = |holds: &dyn Fn(&Value) -> bool| log.iter().filter(|record| holds(record)).count() as f64;
    for class in 2..=5 {
        let name = format!("{class}xx");
        let counted = metrics.sum("portway_requests_total", &[("code_class", &name)]);
        assert_eq!(
            counted,
            n_logged(&|record| record["status"].as_u64().is_some_and(|status| status / 100 == class)),
            "{name}"
        );
    }
    for reason in ["bad_request", "connect_refused", "upstream_reset", "upstream_protocol", "client_closed"] {
        let counted = metrics.sum("portway_local_replies_total", &[("reason", reason)]);
        assert_eq!(counted, n_logged(&|record| record["reason"] == reason), "{reason}");
    }
    assert_eq!(metrics.sum("portway_request_duration_seconds_count", &[]), metrics.sum("portway_requests_total", &[]));
    for service in ["web", "gone"] {
        let counted = metrics.sum("portway_requests_total", &[("service", service)]);
        assert_eq!(counted, n_logged(&|record| record["service"] == service), "{service}");
    }
    let ids: std::collections::BTreeSet<_> = log.iter().map(|record| record["request_id"].to_string()).collect();
    assert_eq!(ids.len(), 240, "every request has an id of its own");
}
