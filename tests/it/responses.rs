//! How a response is framed: S-03, S-04, S-06, C-16 to C-19 and C-21 for what backends send, and HTTP/1.0 clients.
//! Each case promises the client one unambiguous message or a 502, and that a connection with doubtful bytes on it
//! serves nobody else. Interim responses and trailers are `interim`'s.

use std::time::Duration;

use crate::support::{Act, Ending, PATIENCE, Pair, Received, eventually, response};

const GET: &str = "GET /case HTTP/1.1\r\nHost: a\r\n\r\n";

/// A pair whose origin answers `/case` with these bytes and then closes, and anything else with `ok`.
async fn answering(bytes: impl AsRef<[u8]>) -> Pair {
    let acts = vec![Act::ReadBody, Act::Send(bytes.as_ref().to_vec()), Act::Close];
    scripted(acts).await
}

/// The same without the close: what is left over stays on the connection.
async fn answering_open(bytes: impl AsRef<[u8]>) -> Pair {
    scripted(vec![Act::ReadBody, Act::Send(bytes.as_ref().to_vec())]).await
}

async fn scripted(acts: Vec<Act>) -> Pair {
    Pair::start(move |received| or_ok(received, &acts)).await
}

fn or_ok(received: &Received, acts: &[Act]) -> Vec<Act> {
    match received.target() {
        "/case" => acts.to_vec(),
        _ => vec![Act::ReadBody, Act::Send(response(200, &[], "ok"))],
    }
}

/// `/case` gives a 502 with this reason, its connection is not used again, and the next request is answered.
async fn assert_502(case: &str, pair: &mut Pair) {
    let answer = pair.ask("GET", GET).await;
    assert_eq!(answer.status, 502, "{case}: {}", answer.text());
    assert_eq!(answer.get("x-portway-reason"), Some("upstream_protocol"), "{case}");
    assert_victim_is_well(case, pair).await;
}

/// The next request gets its own answer, over another connection than the first.
async fn assert_victim_is_well(case: &str, pair: &mut Pair) {
    let victim = pair.portway.get("/victim").await;
    assert_eq!((victim.status, victim.text()), (200, "ok".to_owned()), "{case}");
    let requests = pair.origin.requests();
    assert_eq!(requests.len(), 2, "{case}: {requests:#?}");
    assert_ne!(requests[0].connection, requests[1].connection, "{case}");
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    pair.assert_lives();
}

#[tokio::test]
async fn s03_a_content_length_beside_chunked_is_dropped_and_the_chunks_count() {
    for length in [3, 10, 50] {
        let bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
        );
        let pair = answering_open(bytes).await;
        let answer = pair.ask("GET", GET).await;
        match answer.status {
            200 => {
                assert_eq!(answer.text(), "helloworld", "{length}");
                assert!(matches!(answer.get("content-length"), None | Some("10")), "{length}: {answer:?}");
            }
            status => assert_eq!(status, 502),
        }
    }
}

#[tokio::test]
async fn s02_a_transfer_coding_of_a_response_other_than_chunked_alone_is_502() {
    for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "foo", "chunked\r\nTransfer-Encoding: gzip"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        assert_502(coding, &mut answering(bytes).await).await;
    }
}

#[tokio::test]
async fn s04_a_length_that_is_not_one_number_is_502() {
    let values = [
        "",
        "+5",
        "-1",
        "0x5",
        "5_0",
        "5,6",
        "5 5",
        "99999999999999999999",
        "5\r\nContent-Length: 6",
        "5\r\nContent-Length: x",
    ];
    for value in values {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhello");
        assert_502(value, &mut answering_open(bytes).await).await;
    }
}

#[tokio::test]
async fn s04_equal_lengths_are_folded_into_one() {
    for value in ["5, 5", "5\r\nContent-Length: 5"] {
        let pair = answering_open(format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhello")).await;
        let answer = pair.ask("GET", GET).await;
        assert_eq!(
            (answer.status, answer.head.all("content-length"), answer.text().as_str()),
            (200, vec!["5"], "hello")
        );
    }
}

#[tokio::test]
async fn c21_what_is_not_http_is_502() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(70_000));
    let cases: [&[u8]; 14] = [
        b"hello",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\x80: a\r\nContent-Length: 0\r\n\r\n",
        large.as_bytes(),
    ];
    for bytes in cases {
        let shown = bytes[..bytes.len().min(40)].escape_ascii().to_string();
        assert_502(&shown, &mut answering(bytes).await).await;
    }
}

#[tokio::test]
async fn c21_a_space_before_the_colon_of_a_response_field_is_removed_and_a_folded_line_unfolded_or_502() {
    let pair = answering_open("HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!((answer.status, answer.get("x-a")), (200, Some("1")));
    assert!(String::from_utf8_lossy(&answer.head.raw).contains("x-a: 1\r\n"));

    let pair = answering_open("HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = pair.ask("GET", GET).await;
    let is_unfolded = answer.status == 200 && answer.get("x-a") == Some("1 2");
    assert!(is_unfolded || answer.status == 502, "{answer:?}");
}

#[tokio::test]
async fn an_early_end_before_the_head_is_complete_is_502_and_names_the_reset() {
    for bytes in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"] {
        for end in [Act::Close, Act::Reset] {
            let pair = scripted(vec![Act::ReadBody, Act::Send(bytes.into()), end]).await;
            let answer = pair.ask("GET", GET).await;
            let reason = answer.get("x-portway-reason").unwrap_or_default();
            assert_eq!((answer.status, reason), (502, "upstream_reset"), "{bytes:?}");
        }
    }
}

/// C-19: what is cut is never made whole.
#[tokio::test]
async fn c19_a_truncated_body_looks_truncated() {
    let cases = [
        ("content-length", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
        ("mid-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhello"),
        ("between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("in a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1"),
        ("in the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
    ];
    for (case, bytes) in cases {
        for end in [Act::Close, Act::Reset] {
            // The pause lets the head and the start of the body arrive before the reset does.
            let pause = Act::Pause(Duration::from_millis(150));
            let mut pair = scripted(vec![Act::ReadBody, Act::Send(bytes.into()), pause, end.clone()]).await;
            let answer = pair.send_to_end(GET).await;
            let text = answer.text();
            assert_eq!(answer.status(), 200, "{case} {end:?}: {text}");
            assert!(!text.ends_with("0\r\n\r\n") && !text.ends_with("hello\r\n0\r\n"), "{case} {end:?}: {text}");
            assert!(answer.after_head().len() < 50 || text.contains("chunked"), "{case} {end:?}: {text}");
            assert_victim_is_well(case, &mut pair).await;
            pair.portway.wait_metric("portway_local_replies_total", &[("reason", "upstream_reset")], 1.0).await;
        }
    }
}

/// The engine throws away what it still holds when a body fails: the failure waits until that is written.
#[tokio::test]
async fn c19_what_came_before_a_body_broke_off_goes_down() {
    let body = "x".repeat(3_000);
    let sized = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{body}");
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n{body}\r\n");
    for bytes in [sized, chunked] {
        for _ in 0..30 {
            // Whether the end is here with the head is chance: then, and only then, it is a 502. Any pause is too long.
            let acts = vec![Act::ReadBody, Act::Send(bytes.clone().into()), Act::Close];
            let answer = scripted(acts).await.send_to_end(GET).await;
            match answer.status() {
                200 => assert_eq!(answer.text().matches('x').count(), 3_000, "{}", answer.text().len()),
                status => assert_eq!(status, 502, "{}", answer.text()),
            }
        }
    }
}

/// S-06 for responses: the client never sees a clean end.
#[tokio::test]
async fn s06_a_broken_chunk_of_a_response_never_ends_it_cleanly() {
    let bodies: [&[u8]; 14] = [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\r;a\nhello\r\n0\r\n\r\n",
        b"xyz\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
    ];
    for body in bodies {
        let shown = body.escape_ascii().to_string();
        let head: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbefore\r\n";
        // The pause lets the head go down before the break comes.
        let pause = Act::Pause(Duration::from_millis(30));
        let acts = vec![Act::ReadBody, Act::Send(head.into()), pause, Act::Send(body.into()), Act::Close];
        let mut pair = scripted(acts).await;
        let answer = pair.send_to_end("GET /case HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(!answer.raw.ends_with(b"\r\n0\r\n\r\n"), "{shown}: {}", answer.text());
        assert_victim_is_well(&shown, &mut pair).await;
    }
}

/// The same where the break comes in one piece with the head: nothing went down yet, so the client can be told.
#[tokio::test]
async fn s06_a_response_that_is_broken_in_what_came_with_its_head_is_502() {
    for body in ["0x5\r\nhello\r\n0\r\n\r\n", "xyz\r\n", "-1\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n"] {
        for sound in ["", "6\r\nbefore\r\n", "1\r\na\r\n1\r\nb\r\n"] {
            let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{sound}{body}");
            assert_502(&bytes, &mut answering(bytes.as_bytes()).await).await;
        }
    }
}

#[tokio::test]
async fn many_chunks_that_come_with_the_head_arrive_with_their_trailers_and_leave_the_connection() {
    for (n, trailers) in [(2, ""), (900, ""), (2, "x-sum: 1\r\n")] {
        let chunks = "1\r\na\r\n".repeat(n);
        let head = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let pair = answering_open(format!("{head}{chunks}0\r\n{trailers}\r\n")).await;
        let request = "GET /case HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n";
        for _ in 0..2 {
            let answer = pair.ask("GET", request).await;
            assert_eq!((answer.status, answer.text()), (200, "a".repeat(n)));
            assert_eq!(answer.body.trailers.is_empty(), trailers.is_empty(), "{answer:?}");
        }
        let requests = pair.origin.requests();
        assert_eq!(requests[0].connection, requests[1].connection, "{n} chunks {trailers:?}");
    }
}

/// C-18: what comes behind a complete response belongs to nobody.
#[tokio::test]
async fn c18_bytes_behind_a_complete_response_reach_nobody_and_end_the_connection() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let cases = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{evil}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{evil}"),
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil".to_owned(),
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil".to_owned(),
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n".to_owned(),
    ];
    for bytes in cases {
        let mut pair = answering_open(&bytes).await;
        let mut client = pair.connect().await;
        client.send(GET).await;
        let answer = client.response().await;
        assert!(matches!(answer.status, 200 | 204 | 304), "{bytes:?}");
        assert!(!answer.text().contains("evil"), "{bytes:?}");
        // The same client connection goes on, and what comes next on it is the victim's own.
        client.send("GET /again HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let again = client.response().await;
        assert_eq!((again.status, again.text().as_str()), (200, "ok"), "{bytes:?}");
        let requests = pair.origin.requests();
        assert_ne!(requests[0].connection, requests[1].connection, "{bytes:?}");
        pair.assert_lives();
    }
}

/// The same bytes a moment later, when the connection already rests in the pool.
#[tokio::test]
async fn c18_bytes_on_a_resting_connection_are_never_an_answer() {
    let late = Act::Send(response(200, &[], "evil"));
    let first = Act::Send(response(200, &[], "ok"));
    let mut pair = scripted(vec![Act::ReadBody, first, Act::Pause(Duration::from_millis(50)), late]).await;
    assert_eq!(pair.ask("GET", GET).await.text(), "ok");
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_victim_is_well("late bytes", &mut pair).await;
}

#[tokio::test]
async fn c18_a_response_to_head_has_no_body_and_keeps_its_length() {
    for (bytes, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Some("1000")),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nX: y\r\n\r\n", None),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", Some("9")),
    ] {
        let pair = answering_open(bytes).await;
        let mut client = pair.connect().await;
        client.send(GET.replace("GET", "HEAD")).await;
        let answer = client.response_to("HEAD").await;
        assert_eq!(answer.get("content-length"), length, "{bytes:?}: {answer:?}");
        client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "ok", "{bytes:?}");
        let requests = pair.origin.requests();
        assert_eq!(requests[0].connection, requests[1].connection, "an honest connection is used again");
    }
}

#[tokio::test]
async fn c18_a_body_behind_the_response_to_head_is_nobodys() {
    let mut pair = answering_open("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
    let answer = pair.ask("HEAD", GET.replace("GET", "HEAD")).await;
    assert_eq!((answer.status, answer.get("content-length")), (200, Some("4")));
    assert_victim_is_well("HEAD with a body", &mut pair).await;
}

#[tokio::test]
async fn c16_c18_a_status_without_content_is_framed_as_such() {
    for (bytes, status, length) in [
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n", 304, None),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304, None),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, Some("0")),
        ("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 205, Some("0")),
    ] {
        let mut pair = answering_open(bytes).await;
        let mut client = pair.connect().await;
        client.send(GET).await;
        let head = client.head().await;
        let (_, fields) = head.split_once("\r\n").expect("a head has lines");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let expected = length.map(|length| format!("content-length: {length}\r\n"));
        assert_eq!(fields.contains("content-length"), expected.is_some(), "{head}");
        assert!(expected.is_none_or(|expected| fields.contains(&expected)), "{head}");
        assert!(!fields.contains("transfer-encoding"), "{head}");
        client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "ok", "{bytes:?}");
        pair.assert_lives();
    }
}

/// H16: hyper asserts that a length and its body agree.
#[tokio::test]
async fn c18_a_205_with_a_body_loses_it_and_nothing_panics() {
    for bytes in [
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut pair = answering_open(bytes).await;
        let mut client = pair.connect().await;
        client.send(GET).await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (205, ""), "{bytes:?}");
        client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "ok", "{bytes:?}");
        pair.assert_lives();
    }
}

#[tokio::test]
async fn c16_an_http_1_0_client_is_never_sent_chunks_and_reads_to_the_end() {
    let cases = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhelloworld",
        "HTTP/1.0 200 OK\r\n\r\nhelloworld",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhelloworld",
    ];
    for bytes in cases {
        for connection in ["", "Connection: keep-alive\r\n"] {
            let pair = answering(bytes).await;
            let answer = pair.send(format!("GET /case HTTP/1.0\r\n{connection}\r\n"), Duration::from_millis(500)).await;
            let text = answer.text();
            assert!(text.starts_with("HTTP/1.0 200 ") || text.starts_with("HTTP/1.1 200 "), "{bytes:?}: {text}");
            assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{bytes:?}: {text}");
            assert_eq!(String::from_utf8_lossy(answer.after_head()), "helloworld", "{bytes:?}: {text}");
            let has_length = text.contains("content-length: 10\r\n");
            assert!(has_length || answer.ending == Ending::Closed, "{bytes:?} {connection:?}: {text}");
            assert!(!connection.is_empty() || answer.ending == Ending::Closed, "{bytes:?}: 1.0 closes unless asked");
        }
    }
}

#[tokio::test]
async fn c16_a_body_that_ends_with_the_upstream_connection_is_chunked_for_a_client_of_1_1() {
    let pair = answering("HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nhello").await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!((answer.get("transfer-encoding"), answer.get("content-length")), (Some("chunked"), None));
    assert_eq!(answer.head.word(0), "HTTP/1.1");
}

#[tokio::test]
async fn c11_hop_by_hop_fields_of_a_response_stay_behind() {
    let pair = answering_open(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret, Set-Cookie\r\nKeep-Alive: timeout=5\r\nX-Secret: 1\r\n\
         Proxy-Connection: x\r\nUpgrade: h2c\r\nTE: trailers\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    for name in ["connection", "keep-alive", "x-secret", "proxy-connection", "upgrade", "te"] {
        assert_eq!(answer.get(name), None, "{name}");
    }
    assert_eq!(answer.get("set-cookie"), Some("a=1"), "framing and state stay, whatever Connection names");
}

#[tokio::test]
async fn c30_a_date_is_added_only_where_there_is_none_and_the_server_name_is_theirs() {
    let pair = answering_open(response(200, &[("Date", "Tue, 15 Nov 1994 08:12:31 GMT"), ("Server", "x")], "ok")).await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!(answer.head.all("date"), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
    assert_eq!(answer.head.all("server"), ["x"]);
    let answer = pair.portway.get("/other").await;
    assert_eq!((answer.head.all("date").len(), answer.get("server")), (1, None));
}

#[tokio::test]
async fn the_status_goes_through_as_it_is() {
    for status in [200, 201, 206, 299, 300, 301, 400, 404, 418, 421, 429, 451, 499, 500, 502, 503, 599, 600, 999] {
        let pair = answering_open(response(status, &[], "x")).await;
        let answer = pair.ask("GET", GET).await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (status, None));
    }
}

#[tokio::test]
async fn an_endless_response_head_is_cut_off() {
    let mut pair = scripted(vec![
        Act::ReadBody,
        Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Act::Repeat(
            b"X-Endless: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(50),
            Duration::from_millis(1),
        ),
    ])
    .await;
    let answer = pair.ask("GET", GET).await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("upstream_protocol")));
    eventually(PATIENCE, "the upstream connection to end", || async { pair.origin.n_open() == 0 }).await;
    pair.assert_lives();
}
