//! What `routing` documents, fact by fact, and the path confusion matrix S-29.
//! Each fact holds for the routes in file order and in reverse.
//! What nobody thought of is left to `oracle`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use regex::Regex;

use crate::config::checked::{HeaderMatch, HostMatch, PathMatch, QueryMatch, Rewrite, RouteMatch, ValueMatch};
use crate::routing::table::{Inquiry, Table};
use crate::routing::{path, rewrite};

fn route(host: HostMatch, path: PathMatch) -> RouteMatch {
    RouteMatch { host, path, methods: vec![], headers: vec![], query: vec![] }
}

pub(super) fn exact_host(name: &str) -> HostMatch {
    HostMatch::Exact(name.to_owned())
}

pub(super) fn wildcard(suffix: &str) -> HostMatch {
    HostMatch::Wildcard(suffix.to_owned())
}

pub(super) fn prefix(prefix: &str) -> PathMatch {
    PathMatch::Prefix(prefix.to_owned())
}

pub(super) fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

pub(super) fn pattern(pattern: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(pattern).unwrap().into())
}

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) host: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
}

impl Request {
    fn get(host: &str, path: &str) -> Request {
        Request {
            host: host.to_owned(),
            method: Method::GET,
            path: path.to_owned(),
            query: None,
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn inquiry(&self) -> Inquiry<'_> {
        let Request { host, method, path, query, headers } = self;
        Inquiry { host, method, path, query: query.as_deref(), headers }
    }
}

/// Asserts which of `routes`, in file order and in reverse, takes `GET host/path`.
fn check(routes: &[RouteMatch], (host, path): (&str, &str), expected: Option<usize>) {
    let request = Request::get(host, path);
    let numbered = || routes.iter().cloned().zip(0..routes.len());
    for table in [Table::build(numbered()), Table::build(numbered().rev())] {
        assert_eq!(table.find(&request.inquiry()).copied(), expected, "{host} {path}");
    }
}

#[test]
fn of_two_patterns_of_one_length_the_one_with_a_condition_wins() {
    let get_only = |path| RouteMatch { methods: vec![Method::GET], ..route(HostMatch::Any, path) };
    let routes = [
        route(HostMatch::Any, pattern("aa")),
        get_only(pattern("bb")),
        route(HostMatch::Any, pattern("bb")),
        get_only(pattern("aa")),
    ];
    check(&routes, ("x", "/aa"), Some(3));
    check(&routes, ("x", "/bb"), Some(1));
    check(&routes[..2], ("x", "/aabb"), Some(1));
}

#[test]
fn a_better_host_wins_and_a_host_without_a_fitting_route_falls_back() {
    let routes = [
        route(HostMatch::Any, prefix("/")),
        route(wildcard("example.com"), prefix("/")),
        route(wildcard("shop.example.com"), prefix("/")),
        route(exact_host("a.shop.example.com"), prefix("/api")),
    ];
    check(&routes, ("a.shop.example.com", "/api/x"), Some(3));
    check(&routes, ("A.Shop.EXAMPLE.com.", "/api"), Some(3));
    check(&routes, ("a.shop.example.com", "/"), Some(2));
    check(&routes, ("x.y.shop.example.com", "/"), Some(2));
    check(&routes, ("shop.example.com", "/"), Some(1));
    check(&routes, ("example.com", "/"), Some(0));
    check(&routes, ("", "/"), Some(0));
    check(&routes, (&"a.".repeat(500), "/"), Some(0));
    check(&routes[1..], ("example.com", "/"), None);
}

#[test]
fn a_better_path_wins() {
    let routes = [
        route(HostMatch::Any, prefix("/")),
        route(HostMatch::Any, prefix("/api")),
        route(HostMatch::Any, prefix("/api/v1")),
        route(HostMatch::Any, exact("/api/v1")),
        route(HostMatch::Any, pattern("^/api/v[0-9]+/x")),
        route(HostMatch::Any, pattern("^/api/v")),
        route(HostMatch::Any, exact("/")),
    ];
    check(&routes, ("h", "/"), Some(6));
    check(&routes, ("h", "/x"), Some(0));
    check(&routes, ("h", "/apix"), Some(0));
    check(&routes, ("h", "/api"), Some(1));
    check(&routes, ("h", "/api/"), Some(1));
    check(&routes, ("h", "/api//v1"), Some(1));
    check(&routes, ("h", "/api/v1"), Some(3));
    check(&routes, ("h", "/api/v1/"), Some(5));
    check(&routes, ("h", "/api/v1/x"), Some(4));
    check(&routes[..3], ("h", "/api/v1/x"), Some(2));
    check(&routes, ("h", "*"), Some(0));
    check(&routes[1..6], ("h", "/"), None);
}

#[test]
fn more_conditions_win_and_then_the_tighter_ones() {
    let with = |methods: &[Method], value: Option<ValueMatch>| RouteMatch {
        methods: methods.to_vec(),
        headers: value.into_iter().map(|value| HeaderMatch { name: HeaderName::from_static("x-a"), value }).collect(),
        ..route(HostMatch::Any, prefix("/"))
    };
    let routes = [
        with(&[], None),
        with(&[], Some(ValueMatch::Present)),
        with(&[], Some(ValueMatch::Regex(Regex::new("1").unwrap().into()))),
        with(&[], Some(ValueMatch::Exact("1".to_owned()))),
        with(&[Method::GET], Some(ValueMatch::Present)),
        with(&[Method::PUT, Method::POST], None),
        with(&[Method::PUT], None),
    ];
    let table = Table::build(routes.into_iter().zip(0..));
    let check = |method: Method, value: Option<&'static str>, expected: usize| {
        let headers = value.map(|value| (HeaderName::from_static("x-a"), HeaderValue::from_static(value)));
        let request = Request { method, headers: headers.into_iter().collect(), ..Request::get("h", "/") };
        assert_eq!(table.find(&request.inquiry()), Some(&expected), "{request:?}");
    };
    check(Method::DELETE, None, 0);
    check(Method::DELETE, Some("2"), 1);
    check(Method::DELETE, Some("11"), 2);
    check(Method::DELETE, Some("1"), 3);
    check(Method::GET, Some("1"), 4);
    check(Method::POST, None, 5);
    check(Method::PUT, None, 6);
}

#[test]
fn a_path_is_the_same_however_its_characters_are_escaped() {
    let routes = [
        route(HostMatch::Any, prefix("/")),
        route(HostMatch::Any, prefix("/admin")),
        route(HostMatch::Any, exact("/caf\u{e9}")),
        route(HostMatch::Any, pattern("^/~[a-z]+$")),
    ];
    check(&routes, ("h", "/%61dmin/x"), Some(1));
    check(&routes, ("h", "/caf%c3%a9"), Some(2));
    check(&routes, ("h", "/caf%C3%A9"), Some(2));
    check(&routes, ("h", "/%7Ebob"), Some(3));
    check(&routes, ("h", "/%2561dmin"), Some(0));
}

#[test]
fn a_table_without_routes_finds_none() {
    check(&[], ("h", "/"), None);
    let table: Table<()> = Table::build([]);
    assert!(table.is_empty());
    assert!(table.explain(&Request::get("h", "/").inquiry()).nearest().is_empty());
}

#[test]
fn many_children_of_one_segment_are_told_apart() {
    let routes: Vec<_> = (0..100).map(|n| route(HostMatch::Any, prefix(&format!("/s/{n}")))).collect();
    for n in 0..100 {
        check(&routes, ("h", &format!("/s/{n}/x")), Some(n));
    }
    check(&routes, ("h", "/s/100"), None);
}

#[test]
fn an_explanation_says_what_each_route_lost_by() {
    let admin = HeaderMatch { name: HeaderName::from_static("x-admin"), value: ValueMatch::Present };
    let shop = || exact_host("shop.example.com");
    let routes = [
        (RouteMatch { headers: vec![admin], ..route(shop(), prefix("/api")) }, "admin"),
        (route(shop(), prefix("/")), "shop"),
        (route(HostMatch::Any, prefix("/api/items")), "any"),
        (RouteMatch { methods: vec![Method::PUT, Method::POST], ..route(shop(), prefix("/api")) }, "write"),
        (route(shop(), prefix("/api")), "api"),
    ];
    let table = Table::build(routes);
    let request = Request::get("shop.example.com", "/api/items");
    let explanation = table.explain(&request.inquiry());
    let said: Vec<_> = explanation.candidates.iter().map(|one| (*one.value, one.verdict.to_string())).collect();
    let expected = [
        ("admin", "needs header x-admin"),
        ("write", "needs method PUT or POST"),
        ("api", "host matches exactly, path prefix /api (4) beats / (1)"),
        ("shop", "shorter prefix"),
        ("any", "less specific host"),
    ];
    assert_eq!(said, expected.map(|(route, words)| (route, words.to_owned())));
    assert_eq!(explanation.chosen().map(|one| *one.value), Some("api"));
    assert_eq!(explanation.outranked().map(|one| *one.value).collect::<Vec<_>>(), ["shop", "any"]);
}

#[test]
fn an_explanation_of_no_match_names_the_three_nearest_routes() {
    let version = QueryMatch { name: "v".to_owned(), value: ValueMatch::Exact("2".to_owned()) };
    let routes = [
        (route(exact_host("a.example.com"), prefix("/x")), "far"),
        (RouteMatch { query: vec![version], ..route(wildcard("example.com"), prefix("/api")) }, "query"),
        (route(exact_host("b.example.com"), exact("/api/things")), "exact"),
        (route(exact_host("b.example.com"), pattern("^/z")), "pattern"),
    ];
    let table = Table::build(routes);
    let request = Request::get("b.example.com", "/api/items");
    let explanation = table.explain(&request.inquiry());
    assert!(explanation.chosen().is_none());
    let near: Vec<_> = explanation.nearest().iter().map(|one| (*one.value, one.verdict.to_string())).collect();
    let expected = [
        ("exact", "needs path /api/things exactly"),
        ("query", "needs query v=2"),
        ("pattern", "needs path pattern ^/z"),
    ];
    assert_eq!(near, expected.map(|(route, words)| (route, words.to_owned())));
}

/// What RFC 3986 §6.2.2 makes of a path: unreserved characters unescaped, hexadecimal digits in capitals, dot segments removed (§5.2.4).
pub(super) fn rfc_3986_normal(path: &str) -> String {
    let normal = path::normal(path);
    let mut output: Vec<&str> = Vec::new();
    let mut segments = normal.strip_prefix('/').unwrap_or(&normal).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    output.pop();
                }
                if is_last {
                    output.push("");
                }
            }
            _ => output.push(segment),
        }
    }
    format!("/{}", output.join("/"))
}

/// S-29: the route that authorised is the route that a normaliser would choose for the bytes that the backend receives; otherwise 400.
#[test]
fn the_route_that_authorised_is_the_route_of_what_the_backend_receives() {
    const MATRIX: [&str; 16] = [
        "/a/../b",
        "/a/%2e%2e/b",
        "/a..;/b",
        "/a/..;/b",
        "//b",
        "/a//b",
        "/%2fb",
        "/a%5cb",
        "/a%00",
        "/b#x",
        "/b%3fx",
        "/B",
        "http://h/a/../b",
        "http://h/b",
        "http:/b",
        "/%62/x",
    ];
    let rewrites = [
        Rewrite::None,
        Rewrite::StripPrefix("/a".to_owned()),
        Rewrite::Regex { pattern: Regex::new("^/a(.*)$").unwrap().into(), replacement: "$1".to_owned() },
    ];
    // `/b` stands for the guarded route of the auth rule.
    let table = Table::build([
        (route(HostMatch::Any, prefix("/")), "/"),
        (route(HostMatch::Any, prefix("/a")), "/a"),
        (route(HostMatch::Any, prefix("/b")), "/b"),
    ]);
    let mut answers = Vec::new();
    for target in MATRIX {
        let answer = (!target.contains('#')).then(|| target.parse::<Uri>().ok()).flatten();
        let answer = answer.filter(|uri| !path::is_ambiguous(uri.path()));
        let chosen = answer.as_ref().map(|uri| table.find(&Request::get("h", uri.path()).inquiry()).copied().unwrap());
        if let (Some(uri), Some(chosen)) = (&answer, chosen) {
            check_forwarded(&table, uri.path(), chosen, &rewrites);
        }
        answers.push(chosen.unwrap_or("400"));
    }
    let expected = ["400", "400", "/", "400", "/", "/a", "/", "/", "400", "400", "/", "/", "400", "/b", "400", "/b"];
    assert_eq!(answers, expected);
}

fn check_forwarded(table: &Table<&'static str>, path: &str, chosen: &str, rewrites: &[Rewrite]) {
    let received = rfc_3986_normal(path);
    assert_eq!(table.find(&Request::get("h", &received).inquiry()), Some(&chosen), "{path} is received as {received}");
    for rewrite in rewrites {
        let Ok(forwarded) = rewrite::apply(rewrite, path, None) else { continue };
        assert_eq!(rfc_3986_normal(&forwarded), path::normal(&forwarded), "{path} goes up as {forwarded}");
        if chosen == "/a" && !matches!(rewrite, Rewrite::None) {
            let as_asked = rfc_3986_normal(&format!("/a{forwarded}"));
            assert_eq!(
                table.find(&Request::get("h", &as_asked).inquiry()),
                Some(&"/a"),
                "{path} goes up as {forwarded}"
            );
        }
    }
}
