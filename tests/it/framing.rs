//! How a request is framed: S-01, S-02, S-04 to S-07 of the HTTP reference, and what the first line may look like.
//! Each case promises that what is not one request for every parser is refused whole, and that an honest body arrives
//! byte for byte. The other direction is `responses`.

use std::time::Duration;

use crate::support::{Act, Ending, PATIENCE, Pair, Yaml, eventually, read_and_answer, response};

/// A request on the wire; the fields end with CRLF, the empty line is added.
fn post(fields: &str, body: &str) -> String {
    format!("POST /in HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn get(fields: &[u8]) -> Vec<u8> {
    [b"GET /in HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
}

/// Sends each case on a connection of its own: the answer is one of ours with a status of `statuses`, the connection
/// ends, and the origin has seen nothing.
async fn assert_refused(cases: &[(&str, Vec<u8>)], statuses: &[u16]) {
    let mut pair = Pair::hello().await;
    for (case, bytes) in cases {
        let answer = pair.send_to_end(bytes).await;
        assert!(statuses.contains(&answer.status()), "{case}: {}", answer.text());
        assert_eq!(answer.n_answers(), 1, "{case}: {}", answer.text());
        assert!(answer.text().contains("x-portway-reason: "), "{case}: {}", answer.text());
        pair.assert_nothing_reached_the_origin(case);
    }
    assert_eq!(pair.portway.get("/canary").await.status, 200);
    pair.assert_lives();
}

#[tokio::test]
async fn s01_content_length_beside_transfer_encoding_is_refused_in_either_order() {
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\n",
        "TRANSFER-ENCODING: CHUNKED\r\ncontent-length: 5\r\n",
    ];
    assert_refused(&cases.map(|fields| (fields, post(fields, body).into_bytes())), &[400]).await;
}

#[tokio::test]
async fn s02_a_transfer_encoding_other_than_chunked_alone_is_refused() {
    let values: [&[u8]; 21] = [
        b"gzip, chunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"identity",
        b"identity\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: identity",
        b",chunked",
        b"chunked,",
        b"xchunked",
        b"\x0bchunked",
        b"\x0cchunked",
        b"chunked\x0b",
        b"\"chunked\"",
        b"'chunked'",
        b"chunked;q=1",
        b"chunked\xa0",
        b"\xa0chunked",
        b"chunked\x00",
        b"",
        b"chun\tked",
    ];
    let cases = values.map(|value| {
        let bytes = [
            b"POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
            value,
            b"\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        .concat();
        (std::str::from_utf8(value).unwrap_or("not UTF-8"), bytes)
    });
    assert_refused(&cases, &[400, 501]).await;
}

#[tokio::test]
async fn s02_a_transfer_encoding_in_http_1_0_is_refused() {
    let request = "POST /in HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_refused(&[("1.0", request.into())], &[400]).await;
}

#[tokio::test]
async fn s02_a_disguised_transfer_encoding_field_is_refused_or_an_ordinary_field() {
    let names = ["Transfer-Encoding ", " Transfer-Encoding", "Transfer-Encoding\t", "Transfer-Encoding\0"];
    let cases = names.map(|name| (name, post(&format!("{name}: chunked\r\n"), "0\r\n\r\n").into_bytes()));
    assert_refused(&cases, &[400]).await;
}

#[tokio::test]
async fn s04_a_content_length_that_is_not_one_decimal_number_is_refused() {
    let values = [
        "",
        "+5",
        "-1",
        "0x5",
        "5_0",
        "5, 5",
        "5,6",
        "5 5",
        "5\0",
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "5\r\ncontent-length: 5",
        "99999999999999999999",
        "18446744073709551621",
        "5.0",
        "5e0",
        "\"5\"",
        "5;",
        "٥",
    ];
    let cases = values.map(|value| (value, post(&format!("Content-Length: {value}\r\n"), "hello").into_bytes()));
    assert_refused(&cases, &[400]).await;
}

/// S-05, H9: nothing about a body depends on the method.
#[tokio::test]
async fn s05_a_body_arrives_byte_for_byte_whatever_the_method_and_the_framing() {
    let pair = Pair::hello().await;
    let mut body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    body.extend_from_slice(b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n");
    let chunked = chunks(&body, 1_000);
    let whole = body.clone();
    let length = format!("Content-Length: {}", body.len());
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "HEAD", "QUERY", "x-method"] {
        for (framing, wire) in [("Transfer-Encoding: chunked", &chunked), (&length, &whole)] {
            let head = format!("{method} /in HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let answer = pair.ask(method, [head.as_bytes(), wire].concat()).await;

            assert_eq!(answer.status, 200, "{method} {framing}");
            let received = pair.origin.requests().pop().expect("a request");
            assert_eq!(received.method(), method);
            assert!(received.body.content == body, "{method} {framing}: {} bytes", received.body.content.len());
        }
    }
    assert_eq!(pair.origin.n_requests(), 18);
}

/// The same beyond `buffer.request`, where the body is relayed while it comes.
#[tokio::test]
async fn s05_a_body_that_is_streamed_arrives_byte_for_byte() {
    let yaml = Yaml { service: "buffer: { request: 1B }", ..Yaml::default() };
    let pair = Pair::with(yaml, |_| read_and_answer()).await;
    let body: Vec<u8> = (0..=255).cycle().take(70_001).collect();
    for method in ["GET", "DELETE", "POST"] {
        let framed = [
            ("Transfer-Encoding: chunked".to_owned(), chunks(&body, 7_000)),
            (format!("Content-Length: {}", body.len()), body.clone()),
        ];
        for (framing, wire) in framed {
            let head = format!("{method} /in HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let answer = pair.ask(method, [head.as_bytes(), &wire].concat()).await;

            assert_eq!(answer.status, 200, "{method} {framing}");
            let received = pair.origin.requests().pop().expect("a request");
            assert!(received.body.content == body, "{method} {framing}: {} bytes", received.body.content.len());
        }
    }
}

#[tokio::test]
async fn a_request_without_body_gets_no_framing_field_and_an_empty_body_keeps_its_length() {
    let pair = Pair::hello().await;
    for (method, field, expected) in [
        ("GET", "", None),
        ("POST", "", None),
        ("POST", "Content-Length: 0\r\n", Some("0")),
        ("GET", "Content-Length: 0\r\n", Some("0")),
    ] {
        let request = format!("{method} /in HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        assert_eq!(pair.ask(method, request).await.status, 200);
        let received = pair.origin.requests().pop().expect("a request");
        assert_eq!(received.head.get("content-length"), expected, "{method} {field:?}");
        assert_eq!(received.head.get("transfer-encoding"), None, "{method} {field:?}");
    }
}

fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in body.chunks(size) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// Bodies that break the grammar of RFC 9112 §7.1.
fn broken_chunks() -> Vec<(&'static str, Vec<u8>)> {
    let cases: [(&str, &[u8]); 19] = [
        ("0x5", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("+5", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("5_0", b"5_0\r\nhello\r\n0\r\n\r\n"),
        ("space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("tab before the size", b"\t5\r\nhello\r\n0\r\n\r\n"),
        ("empty size", b"\r\nhello\r\n0\r\n\r\n"),
        ("extension alone", b";a\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after an extension", b"5;ext\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", b"5\nhello\r\n0\r\n\r\n"),
        ("bare LF after the data", b"5\r\nhello\n0\r\n\r\n"),
        ("bare CR after the data", b"5\r\nhello\r0\r\n\r\n"),
        ("nothing after the data", b"5\r\nhello0\r\n\r\n"),
        ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
        ("a size above 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("an extra CRLF before the last chunk", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("CR CR", b"5\r\r;a\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", b"-1\r\nhello\r\n0\r\n\r\n"),
        ("bare LF at the end", b"5\r\nhello\r\n0\n\n"),
    ];
    let mut cases: Vec<_> = cases.map(|(case, bytes)| (case, bytes.to_vec())).into();
    let extensions = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(17_000));
    cases.push(("17 kB of extensions", extensions.into_bytes()));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(500)).repeat(100));
    cases.push(("50 kB of extensions in a hundred chunks", many.into_bytes()));
    cases
}

#[tokio::test]
async fn s06_a_broken_chunk_never_makes_a_whole_body() {
    let mut pair = Pair::hello().await;
    for (case, body) in broken_chunks() {
        let request = [post("Transfer-Encoding: chunked\r\n", "").into_bytes(), body].concat();
        let answer = pair.send_to_end(&request).await;
        assert!(matches!(answer.status(), 0 | 400), "{case}: {}", answer.text());
        pair.assert_nothing_reached_the_origin(case);
    }
    pair.assert_lives();
}

/// What is relayed while it comes cannot be held back, but must break off.
#[tokio::test]
async fn s06_a_broken_chunk_in_a_streamed_body_breaks_the_request_off_at_the_backend() {
    let yaml = Yaml { service: "buffer: { request: 1B }", ..Yaml::default() };
    let mut pair = Pair::with(yaml, |_| read_and_answer()).await;
    for (case, body) in broken_chunks() {
        let n_before = pair.origin.n_requests();
        let start = post("Transfer-Encoding: chunked\r\n", "6\r\nbefore\r\n").into_bytes();
        let mut client = pair.connect().await;
        client.send(&start).await;
        eventually(PATIENCE, case, || async { pair.origin.n_requests() > n_before }).await;
        client.send(&body).await;
        let (raw, ending) = client.until_close(PATIENCE).await;
        assert_ne!(ending, Ending::StillOpen, "{case}");
        assert!(!raw.starts_with(b"HTTP/1.1 200"), "{case}: {}", String::from_utf8_lossy(&raw));
        eventually(PATIENCE, case, || async { pair.origin.n_open() == 0 }).await;
        let received = pair.origin.requests().pop().expect("a request");
        assert!(!received.body.is_complete, "{case}: {received:?}");
    }
    pair.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    pair.assert_lives();
}

#[tokio::test]
async fn s06_honest_chunk_extensions_are_passed_over_and_not_forwarded() {
    let pair = Pair::hello().await;
    let body = "5;name=value;q=\"quoted\"\r\nhello\r\n0;last\r\n\r\n";
    assert_eq!(pair.ask("POST", post("Transfer-Encoding: chunked\r\n", body)).await.status, 200);
    let received = pair.origin.only_request();
    assert_eq!(received.body.content, b"hello");
    assert!(!String::from_utf8_lossy(&received.raw()).contains("quoted"));
}

#[tokio::test]
async fn s07_a_malformed_field_is_refused() {
    let fields: [&[u8]; 25] = [
        b"X: a\rb\r\n",
        b"X: a\0b\r\n",
        b"X: a\nb: c\r\n",
        b"X: a\n",
        b"X\r: a\r\n",
        b"X\0: a\r\n",
        b"X\n: a\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n",
        b"X : a\r\n",
        b"X\t: a\r\n",
        b": a\r\n",
        b"no colon\r\n",
        b" X: a\r\n",
        b"\tX: a\r\n",
        b"X\x80: a\r\n",
        b"\xc3\xa9: a\r\n",
        b"X Y: a\r\n",
        b"X(: a\r\n",
        b"X,Y: a\r\n",
        b"X: a\x7fb\r\n",
        b"X: a\x01b\r\n",
        b"X: a\x0bb\r\n",
        b"\r: a\r\n",
        b"X: a\r\r\n",
    ];
    assert_refused(&fields.map(|field| ("field", get(field))), &[400]).await;
}

/// The first field is where some parsers look for a continuation of the request line.
#[tokio::test]
async fn s07_white_space_before_the_first_field_is_refused() {
    let cases = [
        "GET /in HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET /in HTTP/1.1\r\n\tHost: a\r\nHost: b\r\n\r\n",
        "GET /in HTTP/1.1\r\n \r\nHost: a\r\n\r\n",
    ];
    assert_refused(&cases.map(|case| (case, case.into())), &[400]).await;
}

#[tokio::test]
async fn s07_bytes_above_ascii_in_a_value_go_on_as_they_are() {
    let pair = Pair::hello().await;
    assert_eq!(pair.ask("GET", get(b"X-Name: caf\xc3\xa9 \xff\r\n")).await.status, 200);
    let raw = pair.origin.only_request().head.raw;
    assert!(memchr::memmem::find(&raw, b"caf\xc3\xa9 \xff\r\n").is_some(), "{}", raw.escape_ascii());
}

#[tokio::test]
async fn c01_empty_lines_before_a_request_are_passed_over() {
    let pair = Pair::hello().await;
    assert_eq!(pair.ask("GET", "\r\n\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn c02_a_malformed_request_line_is_refused_with_its_own_status() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let long_method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(100));
    let large_field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many_fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
    let cases = [
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / \r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (&long_target, 414),
        (&long_method, 501),
        (&large_field, 431),
        (&many_fields, 431),
    ];
    for (request, status) in cases {
        let shown = &request[..request.len().min(60)];
        assert_refused(&[(shown, request.into())], &[status]).await;
    }
}

#[tokio::test]
async fn c04_c05_a_target_or_host_that_is_not_one_is_refused() {
    let cases = [
        "GET /in HTTP/1.1\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: \r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        "GET /in HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET http://u@a/in HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/in HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ?q HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /in#f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    assert_refused(&cases.map(|case| (case, case.into())), &[400]).await;
}

#[tokio::test]
async fn c03_an_absolute_target_says_whom_the_request_is_for() {
    let pair = Pair::hello().await;
    for (target, host, expected) in [
        ("http://b.example:81/in?q", "a", ("/in?q", "b.example:81")),
        ("http://b.example", "a", ("/", "b.example")),
        ("http://b.example?q=1", "a", ("/?q=1", "b.example")),
        ("HTTP://B.example/in", "a", ("/in", "B.example")),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(pair.ask("GET", request).await.status, 200, "{target}");
        let received = pair.origin.requests().pop().expect("a request");
        assert_eq!((received.target(), received.head.all("host")), (expected.0, vec![expected.1]), "{target}");
    }
}

#[tokio::test]
async fn c07_path_and_query_go_on_byte_for_byte() {
    let pair = Pair::hello().await;
    for target in ["/a%20b/%7euser?x=%2F&&=;~", "/", "/?", "/a//b", "/a/b/?a=/../b", "/%E4%bd", "/a;v=1,2/@:!$&'()*+"] {
        let answer = pair.ask("GET", format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(pair.origin.requests().pop().expect("a request").target(), target);
    }
}

#[tokio::test]
async fn c08_unknown_fields_go_on_in_order_and_unmerged() {
    let pair = Pair::start(|_| {
        let fields = [("Set-Cookie", "a=1"), ("X-Other", "y"), ("Set-Cookie", "b=2, c"), ("x-Weird", "\t z ")];
        vec![Act::Send(response(200, &fields, "ok"))]
    })
    .await;
    let answer = pair.ask("GET", get(b"X-A: 1\r\nX-B: 2\r\nx-a: 3, 4\r\nCookie: p=1\r\nCookie: q=2\r\n")).await;
    let received = pair.origin.only_request();
    assert_eq!(received.head.all("x-a"), ["1", "3, 4"]);
    assert_eq!(received.head.all("cookie"), ["p=1", "q=2"]);
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2, c"]);
    assert_eq!((answer.get("x-other"), answer.get("x-weird")), (Some("y"), Some("z")));
}

#[tokio::test]
async fn requests_cut_anywhere_are_the_same_requests() {
    let pair = Pair::hello().await;
    let request = post("Transfer-Encoding: chunked\r\nX: y\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    for size in [1, 2, 3, 7] {
        let mut client = pair.connect().await;
        for piece in request.as_bytes().chunks(size) {
            client.send(piece).await;
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        assert_eq!(client.response().await.status, 200);
        assert_eq!(pair.origin.requests().pop().expect("a request").body.content, b"abcde");
    }
}

/// Answers come in the order of the requests, whatever the backend's speed.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let pair = Pair::start(|received| {
        let pause = if received.target() == "/1" { 100 } else { 0 };
        let body = received.target().to_owned();
        vec![Act::ReadBody, Act::Pause(Duration::from_millis(pause)), Act::Send(response(200, &[], &body))]
    })
    .await;
    let mut client = pair.connect().await;
    let mut wire = String::new();
    for n in 1..=20 {
        wire += &format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\r");
    }
    client.send(wire).await;
    for n in 1..=20 {
        assert_eq!(client.response().await.text(), format!("/{n}"));
    }
    assert_eq!(pair.origin.n_requests(), 20);
}

#[tokio::test]
async fn honest_requests_before_a_refused_one_are_answered_first() {
    let pair = Pair::hello().await;
    let answer = pair
        .send_to_end("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nBad Name: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let text = answer.text();
    assert_eq!((text.matches("HTTP/1.1 200").count(), text.matches("HTTP/1.1 400").count()), (2, 1), "{text}");
    let targets: Vec<_> = pair.origin.requests().iter().map(|received| received.target().to_owned()).collect();
    assert_eq!(targets, ["/1", "/2"]);
}
