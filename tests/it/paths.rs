//! Paths that two readers could take for two places: S-29 of the HTTP reference, against matching, prefix stripping and
//! regex rewriting. It promises that the service which got a request is the one that an RFC 3986 normaliser would
//! choose for the bytes that arrived there, or that the answer is 400. Single decisions are the routing unit tests'.

use crate::support::{Act, Client, Origin, PATIENCE, Portway, Response, eventually, response};

/// One proxy with every kind of route, each to an origin that answers with the route's name and the target it got.
struct Fleet {
    portway: Portway,
    _origins: Vec<Origin>,
}

async fn named(name: &'static str) -> Origin {
    Origin::start(move |received| {
        let body = format!("{name} {}", received.target());
        vec![Act::ReadBody, Act::Send(response(200, &[], &body))]
    })
    .await
}

impl Fleet {
    async fn start() -> Self {
        let routes = [
            ("root", "/"),
            ("a", "/a"),
            ("b", "/b"),
            ("bexact", "{ exact: /b/exact }"),
            ("strip", "{ path: /strip, strip_prefix: true }"),
            ("replace", "{ path: /replace, rewrite: /b }"),
            ("regex", "{ regex: \"^/rx(/.*)$\", rewrite: $$1 }"),
            ("inner", "{ regex: \"^/in/([^/]*)/(.*)$\", rewrite: /$$2/$$1 }"),
        ];
        let (mut yaml, mut origins) = ("services:\n".to_owned(), Vec::new());
        for (name, route) in routes {
            let origin = named(name).await;
            yaml += &format!("  {name}: {{ route: {route}, backends: [\"{}\"] }}\n", origin.address);
            origins.push(origin);
        }
        Self { portway: Portway::start(&yaml).await, _origins: origins }
    }

    async fn ask(&self, target: &str) -> Response {
        let mut client = Client::connect(self.portway.address).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        client.response().await
    }

    /// Name and target of the route that took it; `None` for a 400.
    async fn place(&self, target: &str) -> Option<(String, String)> {
        let answer = self.ask(target).await;
        if answer.status == 400 {
            // Some targets are none to the engine either, which then says less.
            return None;
        }
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        let (name, received) = answer.text().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("both");
        Some((name, received))
    }
}

/// The matrix of S-29, and what else has been used against proxies.
const HOSTILE: [&str; 44] = [
    "/a/../b",
    "/a/..",
    "/a/.",
    "/a/./b",
    "/..",
    "/../b",
    "/a/%2e%2e/b",
    "/a/%2E%2e/b",
    "/a/.%2e/b",
    "/a/%2e/b",
    "/a..;/b",
    "/a/..;/b",
    "/a/..;x=y/b",
    "/a/.;/b",
    "/a/%2e%2e;/b",
    "/a/..%3b/b",
    "/a/..%2fb",
    "/a/..%2Fb",
    "/a%2f..%2fb",
    "/a/..%5cb",
    "/a/..%5c..%5cb",
    "/a%2f%2e%2e%2fb",
    "//b",
    "///b",
    "//b/exact",
    "/a//../b",
    "/%2fb",
    "/%2Fb",
    "/a%5cb",
    "/a%5C..%5Cb",
    "/a%00",
    "/a%00/../b",
    "/b%3fx",
    "/b%23x",
    "/B",
    "/%62",
    "/%62/exact",
    "/b/%65xact",
    "/b%2fexact",
    "/b/exact/",
    "/b;x",
    "/b%",
    "/b%zz",
    "/b%c0%af..%c0%afa",
];

/// Decodes unreserved characters and removes dot segments: RFC 3986 §6.2.2 on the path of `target`.
fn normalised(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(char) = rest.chars().next() {
        let code = rest.get(1..3).filter(|_| char == '%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.map(char::from) {
            Some(char) if char.is_ascii_alphanumeric() || "-._~".contains(char) => {
                decoded.push(char);
                rest = &rest[3..];
            }
            _ => {
                decoded.push(char);
                rest = &rest[char.len_utf8()..];
            }
        }
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Which of the plain routes owns a normalised path.
fn owner(path: &str) -> &'static str {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/b/exact" => "bexact",
        _ if under("/a") => "a",
        _ if under("/b") => "b",
        _ => "root",
    }
}

/// Nothing that a backend could resolve to somewhere else, after one or two rounds of decoding.
fn assert_presentable(sent: &str, received: &str) {
    assert!(received.starts_with('/'), "{sent} arrived as {received}");
    let once = received.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
    let decoded = once.replace("%5c", "/").replace("%5C", "/").replace('\\', "/").replace("%3b", ";");
    let path = decoded.split('?').next().unwrap_or_default();
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    let is_resolved = segments.clone().all(|segment| segment != "." && segment != "..");
    assert!(is_resolved, "{sent} arrived as {received}");
    assert!(!received.contains("%00") && !received.contains('#'), "{sent} arrived as {received}");
}

#[tokio::test]
async fn s29_the_route_that_takes_a_path_is_the_one_that_a_normaliser_would_choose() {
    let fleet = Fleet::start().await;
    for target in HOSTILE {
        let Some((name, received)) = fleet.place(target).await else { continue };
        assert_eq!(received, target, "C-07: a path that is not rewritten keeps its bytes");
        assert_presentable(target, &received);
        assert_eq!(name, owner(&normalised(&received)), "{target}");
    }
}

#[tokio::test]
async fn s29_a_stripped_prefix_leaves_a_path_that_means_what_it_says() {
    let fleet = Fleet::start().await;
    for target in HOSTILE {
        let sent = format!("/strip{target}");
        let Some((name, received)) = fleet.place(&sent).await else { continue };
        assert_eq!((name.as_str(), received.as_str()), ("strip", target), "{sent}");
        assert_presentable(&sent, &received);
        assert!(!received.starts_with("//"), "{sent} arrived as {received}, which reads as a host");
    }
    for (sent, expected) in [
        ("/strip", "strip /"),
        ("/strip/", "strip /"),
        ("/strip?q=1", "strip /?q=1"),
        ("/strip/x%20y?q=/../", "strip /x%20y?q=/../"),
        ("/stripped", "root /stripped"),
        ("/%73trip/x", "strip /x"),
    ] {
        assert_eq!(fleet.ask(sent).await.text(), expected, "{sent}");
    }
}

#[tokio::test]
async fn s29_a_replaced_prefix_leaves_a_path_that_means_what_it_says() {
    let fleet = Fleet::start().await;
    for target in HOSTILE {
        let sent = format!("/replace{target}");
        let Some((name, received)) = fleet.place(&sent).await else { continue };
        assert_eq!((name.as_str(), received), ("replace", format!("/b{target}")), "{sent}");
        assert_presentable(&sent, &format!("/b{target}"));
    }
}

#[tokio::test]
async fn s29_a_regex_rewrite_makes_no_path_that_means_something_else() {
    let fleet = Fleet::start().await;
    for target in HOSTILE {
        let sent = format!("/rx{target}");
        if let Some((name, received)) = fleet.place(&sent).await {
            assert_eq!(name, "regex", "{sent}");
            assert_presentable(&sent, &received);
            assert!(!received.starts_with("//"), "{sent} arrived as {received}, which reads as a host");
        }
    }
    // The parts are harmless, only what the rewrite makes of them is not.
    for sent in ["/in/b/..", "/in/x/.", "/in/../b", "/in/a/%2e%2e", "/in//b", "/in/%2e%2e/b", "/in/a//", "/in/a/..%2f"]
    {
        if let Some((_, received)) = fleet.place(sent).await {
            assert_presentable(sent, &received);
            assert!(!received.starts_with("//"), "{sent} arrived as {received}");
        }
    }
    assert_eq!(fleet.ask("/in/one/two?q").await.text(), "inner /two/one?q");
}

#[tokio::test]
async fn s29_plain_dot_segments_backslashes_and_nul_are_refused_and_recorded() {
    let fleet = Fleet::start().await;
    let refused =
        ["/a/../b", "/a/%2e%2e/b", "/a/..;/b", "/a%00", "/a\\b", "/b#x", "http:/b", "a/b", "/a/..%2fb", "/a/..%5cb"];
    for target in refused {
        assert_eq!(fleet.ask(target).await.status, 400, "{target}");
    }
    eventually(PATIENCE, "a record for each", || async { fleet.portway.access_log().len() >= refused.len() }).await;
    let log = fleet.portway.access_log();
    assert_eq!(log.len(), refused.len(), "{log:#?}");
    assert!(log.iter().all(|record| record["reason"] == "bad_request" && record["status"] == 400), "{log:#?}");
}

/// The host that routes are matched with is that of the target, which is also the one that goes on: C-03.
#[tokio::test]
async fn s29_an_absolute_target_is_routed_by_its_own_host() {
    let (inner, outer) = (named("inner").await, named("outer").await);
    let portway = Portway::start(&format!(
        "services:\n  inner: {{ route: inner.example/, backends: [\"{}\"] }}\n  outer: {{ backends: [\"{}\"] }}\n",
        inner.address, outer.address
    ))
    .await;
    for (target, host, expected) in [
        ("/", "inner.example", "inner /"),
        ("/", "INNER.example", "inner /"),
        ("/", "inner.example.", "inner /"),
        ("/", "inner.example:8080", "inner /"),
        ("/", "xinner.example", "outer /"),
        ("http://outer.example/x", "inner.example", "outer /x"),
        ("http://inner.example/x", "outer.example", "inner /x"),
        ("http://INNER.example:99/x", "outer.example", "inner /x"),
        ("//inner.example/x", "outer.example", "outer //inner.example/x"),
    ] {
        let mut client = Client::connect(portway.address).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.response().await.text(), expected, "{target} for {host}");
    }
}

/// A redirect must not become an open one, nor split the response.
#[tokio::test]
async fn a_redirect_keeps_to_its_own_host_whatever_the_path_says() {
    let portway = Portway::start(
        "services:\n  old: { route: { path: /old, redirect: /new } }\n  web: { route: /x, backends: [\"127.0.0.1:1\"] }\n",
    )
    .await;
    for target in ["/old", "/old//evil.example", "/old/%0d%0aSet-Cookie:x", "/old?x=//evil", "/old/%2f%2fevil"] {
        let mut client = Client::connect(portway.address).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let answer = client.response().await;
        if answer.status == 400 {
            continue;
        }
        assert_eq!(answer.status, 302, "{target}: {}", answer.text());
        let location = answer.get("location").unwrap_or_default();
        assert!(answer.get("x-request-id").is_some(), "{target}: our answer says which request it was");
        assert!(!location.starts_with("//") && !location.contains("/\\"), "{target} to {location}");
        assert_eq!(answer.get("set-cookie"), None);
    }
}
