//! Who the client is, and who may say so: S-14, S-15, S-16, C-10, C-11 and C-29 of the HTTP reference.
//! It promises that a stranger's word about himself never reaches a backend, in any spelling, and that a trusted
//! proxy's word does. What a route matches on is tested where a header decides it.

use crate::support::{Act, Client, Origin, Pair, Portway, Received, Yaml, read_and_answer, response};

async fn received(pair: &Pair, fields: &str) -> Received {
    let answer = pair.ask("GET", format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n")).await;
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    pair.origin.requests().pop().expect("it was answered")
}

fn assert_ours(received: &Received, pair: &Pair, case: &str) {
    let port = pair.portway.address.port().to_string();
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", &port),
    ] {
        assert_eq!(received.head.all(name), [value], "{case}: {name}");
    }
    assert_eq!(received.head.all("host"), ["shop.example"], "{case}");
    assert_eq!(received.head.all("x-request-id").len(), 1, "{case}");
    assert_eq!(received.head.all("traceparent").len(), 1, "{case}");
    assert_eq!(received.head.all("via").len(), 1, "{case}");
}

/// S-14, CVE-2024-45410: what `Connection` names is gone before our own fields are set, not after.
#[tokio::test]
async fn s14_connection_cannot_name_our_own_fields_away() {
    let pair = Pair::hello().await;
    for connection in [
        "X-Forwarded-For",
        "close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port",
        "x-request-id, traceparent, via, X-Real-IP, Forwarded",
        "X-FORWARDED-FOR\r\nConnection: X-Forwarded-Proto",
        ", ,X-Forwarded-For,",
    ] {
        let fields = format!("X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nConnection: {connection}\r\n");
        assert_ours(&received(&pair, &fields).await, &pair, connection);
    }
}

#[tokio::test]
async fn s14_connection_that_names_framing_or_credentials_is_refused() {
    for name in ["Authorization", "Host", "Content-Length", "Cookie", "Content-Type", "host", "Origin", "Range"] {
        let pair = Pair::hello().await;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nCookie: y\r\nConnection: close, {name}\r\nContent-Length: 2\r\n\r\nhi"
        );
        let answer = pair.ask("POST", request).await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (400, Some("bad_request")), "{name}");
        pair.assert_nothing_reached_the_origin(name);
    }
}

#[tokio::test]
async fn s14_connection_that_names_transfer_encoding_does_not_lose_the_framing() {
    let pair = Pair::hello().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    let answer = pair.ask("POST", request).await;
    match answer.status {
        200 => assert_eq!(pair.origin.only_request().body.content, b"hello"),
        status => assert_eq!(status, 400),
    }
}

#[tokio::test]
async fn c10_c11_hop_by_hop_fields_stay_behind_whatever_their_case_and_lines() {
    let pair = Pair::hello().await;
    let received = received(
        &pair,
        "Connection: Keep-Alive, x-one\r\nCONNECTION: X-Two\r\nX-One: 1\r\nx-two: 2\r\nX-Three: 3\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: x\r\nHTTP2-Settings: y\r\nProxy: http://evil\r\n",
    )
    .await;
    for name in
        ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "x-one", "x-two", "proxy"]
    {
        assert_eq!(received.head.get(name), None, "{name}");
    }
    assert_eq!(received.head.get("x-three"), Some("3"));
}

/// S-15, CVE-2026-39858, GHSA-f59h-q822-g45g: WSGI, CGI and PHP make one field of all these spellings.
#[tokio::test]
async fn s15_no_spelling_of_a_strangers_identity_reaches_a_backend() {
    let pair = Pair::hello().await;
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Ssl",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "X-Real-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "L5d-Client-Id",
        "X-Original-URL",
        "X-Rewrite-URL",
    ];
    for name in names {
        let spellings = [
            name.to_owned(),
            name.to_ascii_lowercase(),
            name.to_ascii_uppercase(),
            name.replace('-', "_"),
            name.replace('-', "."),
            name.replacen('-', "_", 1),
            name.to_ascii_lowercase().replace('-', "_"),
        ];
        for spelling in spellings {
            let received = received(&pair, &format!("{spelling}: 6.6.6.6\r\n{spelling}: 7.7.7.7 \r\n")).await;
            let raw = String::from_utf8_lossy(&received.head.raw).into_owned();
            assert!(!raw.contains("6.6.6.6") && !raw.contains("7.7.7.7"), "{spelling}: {raw}");
            assert_ours(&received, &pair, &spelling);
        }
    }
}

const TRUSTING: Yaml<'static> = Yaml { top: "trusted_proxies: [\"127.0.0.0/8\"]", service: "" };

#[tokio::test]
async fn c29_a_trusted_proxys_chain_is_continued_and_its_other_fields_kept() {
    let pair = Pair::with(TRUSTING, |_| read_and_answer()).await;
    let received = received(
        &pair,
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.2\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: www.example\r\nX-Forwarded-Port: 443\r\n",
    )
    .await;
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 198.51.100.2, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "www.example"),
        ("x-forwarded-port", "443"),
    ] {
        assert_eq!(received.head.all(name), [value], "{name}");
    }
}

/// S-15: trust is for the names as they are spelt; a disguise is nobody's.
#[tokio::test]
async fn s15_a_disguised_identity_is_dropped_from_a_trusted_proxy_too() {
    let pair = Pair::with(TRUSTING, |_| read_and_answer()).await;
    for spelling in ["X_Forwarded_For", "x.forwarded.proto", "X_Real_IP", "X-Forwarded_Host"] {
        let raw = received(&pair, &format!("{spelling}: 6.6.6.6\r\n")).await.head.raw;
        assert!(!String::from_utf8_lossy(&raw).contains("6.6.6.6"), "{spelling}");
    }
}

/// C-29: the access log names the client, not the balancer in front.
#[tokio::test]
async fn c29_the_client_behind_trusted_proxies_is_the_one_in_the_log() {
    let cases = [
        (TRUSTING, "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.5\r\n", "203.0.113.9"),
        (TRUSTING, "X-Forwarded-For: garbage\r\n", "127.0.0.1"),
        (TRUSTING, "", "127.0.0.1"),
        (Yaml { top: "", service: "" }, "X-Forwarded-For: 203.0.113.9\r\n", "127.0.0.1"),
    ];
    for (yaml, fields, expected) in cases {
        let pair = Pair::with(yaml, |_| read_and_answer()).await;
        received(&pair, fields).await;
        crate::support::eventually(crate::support::PATIENCE, "a record", || async {
            !pair.portway.access_log().is_empty()
        })
        .await;
        assert_eq!(pair.portway.access_log()[0]["client_ip"], expected, "{fields:?}");
    }
}

/// The same decides where `hash: ip` sends a client.
#[tokio::test]
async fn c29_the_client_behind_trusted_proxies_is_the_one_that_is_hashed() {
    let named = |name: &'static str| move |_: &Received| vec![Act::ReadBody, Act::Send(response(200, &[], name))];
    let (a, b, c) = (Origin::start(named("a")).await, Origin::start(named("b")).await, Origin::start(named("c")).await);
    let portway = Portway::start(&format!(
        "workers: 1\ntrusted_proxies: [\"127.0.0.1\"]\nservices: {{ web: {{ balance: {{ hash: ip }}, \
         backends: [\"{}\", \"{}\", \"{}\"] }} }}",
        a.address, b.address, c.address
    ))
    .await;
    let mut places = std::collections::BTreeSet::new();
    for n in 0..32 {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let mut client = Client::connect(portway.address).await;
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{n}\r\n\r\n")).await;
            seen.insert(client.response().await.text());
        }
        assert_eq!(seen.len(), 1, "client {n} has two places");
        places.extend(seen);
    }
    assert!(places.len() > 1, "32 clients share one place");
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let pair = Pair::hello().await;
    let long = "x".repeat(65);
    for (sent, kept) in [
        ("abc-123_4.5", true),
        ("7f9c2ba4e88f827d616045507605853e", true),
        ("", false),
        ("a b", false),
        ("<script>", false),
        ("\"quoted\"", false),
        ("caf\u{e9}", false),
        ("${jndi:x}", false),
        (&long, false),
    ] {
        let received = received(&pair, &format!("X-Request-Id: {sent}\r\n")).await;
        let ids = received.head.all("x-request-id");
        assert_eq!(ids.len(), 1, "{sent:?}");
        assert_eq!(ids[0] == sent, kept, "{sent:?}: {}", ids[0]);
        assert!(!ids[0].is_empty());
    }
    let two = received(&pair, "X-Request-Id: one\r\nX-Request-Id: two\r\n").await;
    assert_eq!(two.head.all("x-request-id").len(), 1);
    let disguised = received(&pair, "X_Request_Id: evil\r\n").await;
    assert!(!String::from_utf8_lossy(&disguised.head.raw).contains("evil"));
}

#[tokio::test]
async fn the_request_id_is_the_same_at_the_backend_in_the_log_and_in_our_answers() {
    let pair = Pair::start(|_| vec![Act::ReadBody, Act::Close]).await;
    let answer = pair.ask("GET", "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: known-id\r\n\r\n").await;
    assert_eq!((answer.status, answer.get("x-request-id")), (502, Some("known-id")));
    assert!(answer.text().contains("known-id"));
    assert_eq!(pair.origin.requests()[0].head.get("x-request-id"), Some("known-id"));
    crate::support::eventually(crate::support::PATIENCE, "a record", || async {
        !pair.portway.access_log().is_empty()
    })
    .await;
    assert_eq!(pair.portway.access_log()[0]["request_id"], "known-id");
}

#[tokio::test]
async fn a_trace_is_continued_if_it_is_well_formed_and_else_begun() {
    let pair = Pair::hello().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let continued = received(&pair, &format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\n")).await;
    let ours = continued.head.all("traceparent");
    assert_eq!(ours.len(), 1);
    assert!(ours[0].starts_with(&format!("00-{trace}-")) && ours[0].ends_with("-01"), "{}", ours[0]);
    for bad in ["", "00-0-0-0", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "evil\"", &"x".repeat(200)] {
        let begun = received(&pair, &format!("traceparent: {bad}\r\n")).await;
        let ours = begun.head.all("traceparent");
        assert_eq!(ours.len(), 1, "{bad}");
        assert!(ours[0].len() == 55 && ours[0].starts_with("00-"), "{bad}: {}", ours[0]);
    }
}

/// S-16: a route that asks for a header must see every element of it.
#[tokio::test]
async fn s16_a_header_condition_holds_for_any_line_of_a_repeated_header() {
    let canary = Origin::start(|_| vec![Act::ReadBody, Act::Send(response(200, &[], "canary"))]).await;
    let stable = Origin::start(|_| vec![Act::ReadBody, Act::Send(response(200, &[], "stable"))]).await;
    let portway = Portway::start(&format!(
        "services:\n  canary: {{ route: {{ path: /, headers: {{ x-canary: \"yes\" }} }}, backends: [\"{}\"] }}\n  \
         stable: {{ backends: [\"{}\"] }}\n",
        canary.address, stable.address
    ))
    .await;
    for (fields, expected) in [
        ("", "stable"),
        ("X-Canary: no\r\n", "stable"),
        ("X-Canary: yes\r\n", "canary"),
        ("X-Canary: no\r\nX-Canary: yes\r\n", "canary"),
        ("X-Canary: yes\r\nX-Canary: no\r\n", "canary"),
        ("X-Canary: yes \r\n", "canary"),
    ] {
        let mut client = Client::connect(portway.address).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        assert_eq!(client.response().await.text(), expected, "{fields:?}");
    }
}

/// What was taken away is said, and what a stranger says was taken away is not.
#[tokio::test]
async fn a_stripped_prefix_is_announced_and_a_strangers_is_dropped() {
    for (top, expected) in [("", "/api"), ("trusted_proxies: 127.0.0.0/8\n", "/outer/api")] {
        let service = "route: { path: /api, strip_prefix: true }";
        let pair = Pair::with(Yaml { top, service }, |_| read_and_answer()).await;
        let request = "GET /api/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /outer\r\n\r\n".to_owned();
        assert_eq!(pair.ask("GET", request).await.status, 200);
        let received = pair.origin.requests().pop().expect("it was answered");
        assert_eq!(received.head.all("x-forwarded-prefix"), [expected], "{top:?}");
    }
    let pair = Pair::hello().await;
    assert!(received(&pair, "X-Forwarded-Prefix: /evil\r\n").await.head.all("x-forwarded-prefix").is_empty());
}
