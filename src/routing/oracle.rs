//! The routing table against a slow and obvious oracle: every route is asked, and the best of those that take the request wins.
//! Promises that table, explanation, ambiguity and rewrites hold for thousands of routes and paths that nobody wrote down.
//! It does not measure: `benches/route_match.rs` does.

use std::cmp::Reverse;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use regex::Regex;

use crate::config::checked::{HeaderMatch, HostMatch, PathMatch, QueryMatch, Rewrite, RouteMatch, ValueMatch};
use crate::routing::explain::{Outranked, Verdict};
use crate::routing::table::Table;
use crate::routing::tests::{Request, exact, exact_host, pattern, prefix, rfc_3986_normal, wildcard};
use crate::routing::{path, rewrite};

fn oracle_takes(matcher: &RouteMatch, request: &Request) -> bool {
    let host = request.host.to_lowercase();
    let host = host.trim_end_matches('.');
    let host_ok = match &matcher.host {
        HostMatch::Any => true,
        HostMatch::Exact(name) => host == name,
        HostMatch::Wildcard(suffix) => host.ends_with(&format!(".{suffix}")),
    };
    let path = rfc_3986_normal(&request.path);
    let path_ok = match &matcher.path {
        PathMatch::Exact(exact) => rfc_3986_normal(exact) == path,
        PathMatch::Prefix(prefix) if prefix == "/" => true,
        PathMatch::Prefix(prefix) => {
            path == rfc_3986_normal(prefix) || path.starts_with(&format!("{}/", rfc_3986_normal(prefix)))
        }
        PathMatch::Regex(pattern) => pattern.is_match(&path),
    };
    let method_ok = matcher.methods.is_empty() || matcher.methods.contains(&request.method);
    let headers_ok = matcher.headers.iter().all(|condition| {
        let values: Vec<&str> =
            request.headers.get_all(&condition.name).iter().map(|value| value.to_str().unwrap()).collect();
        values.iter().flat_map(|value| value.split(',')).any(|element| oracle_value(&condition.value, element.trim()))
    });
    let query_ok = matcher.query.iter().all(|condition| {
        let query = request.query.as_deref().unwrap_or_default().replace('+', " ").replace("%31", "1");
        let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        pairs.iter().any(|(name, value)| *name == condition.name && oracle_value(&condition.value, value))
    });
    host_ok && path_ok && method_ok && headers_ok && query_ok
}

fn oracle_value(condition: &ValueMatch, value: &str) -> bool {
    match condition {
        ValueMatch::Present => true,
        ValueMatch::Exact(exact) => exact == value,
        ValueMatch::Regex(pattern) => pattern.is_match(value),
    }
}

/// Larger is better.
fn oracle_score(matcher: &RouteMatch) -> impl Ord + std::fmt::Debug + use<> {
    let host = match &matcher.host {
        HostMatch::Any => (0, 0),
        HostMatch::Wildcard(suffix) => (1, suffix.split('.').count()),
        HostMatch::Exact(_) => (2, 0),
    };
    let path = match &matcher.path {
        PathMatch::Prefix(prefix) if prefix == "/" => (0, 0),
        PathMatch::Prefix(prefix) => (0, prefix.split('/').count()),
        PathMatch::Regex(pattern) => (1, pattern.as_str().len()),
        PathMatch::Exact(_) => (2, 0),
    };
    let n_conditions = matcher.headers.len() + matcher.query.len() + if matcher.methods.is_empty() { 0 } else { 1 };
    let values: Vec<_> =
        matcher.headers.iter().map(|one| &one.value).chain(matcher.query.iter().map(|one| &one.value)).collect();
    let n_exact = values.iter().filter(|value| matches!(value, ValueMatch::Exact(_))).count();
    let n_patterns = values.iter().filter(|value| matches!(value, ValueMatch::Regex(_))).count();
    (host, path, n_conditions, n_exact, n_patterns, Reverse(matcher.methods.len()))
}

const SEGMENTS: [&str; 9] = ["a", "b", "ab", "~c", "%7ec", "%7Ec", "d%c3", "d%C3", ""];

fn any_path() -> impl Strategy<Value = String> {
    vec_of(select(&SEGMENTS), 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn any_path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        3 => any_path().prop_map(|path| prefix(if path.trim_end_matches('/').is_empty() { "/" } else { path.trim_end_matches('/') })),
        1 => any_path().prop_map(|path| exact(&path)),
        1 => select(["^/a", "b$", "/~c/", "^/a/.*/b", "C3"].map(pattern).to_vec()),
    ]
}

fn any_host_match() -> impl Strategy<Value = HostMatch> {
    prop_oneof![
        Just(HostMatch::Any),
        select(vec!["a.ex", "b.a.ex", "ex"]).prop_map(exact_host),
        select(vec!["a.ex", "ex", "b.a.ex"]).prop_map(wildcard),
    ]
}

fn any_value_match() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        select(vec!["1", "1 2"]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        select(["^1", "2$"].map(|pattern| ValueMatch::Regex(Regex::new(pattern).unwrap().into())).to_vec()),
    ]
}

fn any_route() -> impl Strategy<Value = RouteMatch> {
    let methods = subsequence(vec![Method::GET, Method::PUT], 0..=2);
    let headers = vec_of((select(vec!["x-a", "x-b"]), any_value_match()), 0..3);
    let query = vec_of((select(vec!["q", "r"]), any_value_match()), 0..2);
    (any_host_match(), any_path_match(), methods, headers, query).prop_map(|(host, path, methods, headers, query)| {
        RouteMatch {
            host,
            path,
            methods,
            headers: headers
                .into_iter()
                .map(|(name, value)| HeaderMatch { name: HeaderName::from_static(name), value })
                .collect(),
            query: query.into_iter().map(|(name, value)| QueryMatch { name: name.to_owned(), value }).collect(),
        }
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let host = select(vec!["a.ex", "A.Ex", "b.a.ex", "c.b.a.ex", "B.a.EX.", "x.ex", "ex", "y", ""]);
    let method = select(vec![Method::GET, Method::PUT, Method::POST]);
    let headers = vec_of((select(vec!["x-a", "x-b"]), select(vec!["1", "2", "0, 1", "1 2,3", ""])), 0..4);
    let query = select(vec![None, Some("q=1"), Some("q=%31+2&r=2"), Some("r=0&r=1"), Some("z=1")]);
    (host, method, any_path(), query, headers).prop_map(|(host, method, path, query, headers)| Request {
        host: host.to_owned(),
        method,
        path,
        query: query.map(str::to_owned),
        headers: headers.into_iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, HeaderValue::from_static(value));
            headers
        }),
    })
}

/// Pieces of paths that proxies have disagreed about.
fn any_hostile_path() -> impl Strategy<Value = String> {
    const PIECES: [&str; 22] = [
        "/", "/", "/", "a", "b", ".", "..", "%2e", "%2E", "%2f", "%5C", "\\", "%00", ";", "%3b", "%61", "%", "%zz",
        "#", "~", "%25", "\u{e9}",
    ];
    vec_of(select(&PIECES), 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_the_oracle(
        routes in vec_of(any_route(), 0..40),
        requests in vec_of(any_request(), 1..20),
    ) {
        let table = Table::build(routes.iter().cloned().zip(0..));
        prop_assert_eq!(table.len(), routes.len());
        for request in &requests {
            let found: Option<usize> = table.find(&request.inquiry()).copied();
            let best = routes.iter().filter(|route| oracle_takes(route, request)).map(oracle_score).max();
            prop_assert_eq!(found.map(|idx| oracle_score(&routes[idx])), best, "{:?}", request);
            prop_assert!(found.is_none_or(|idx| oracle_takes(&routes[idx], request)));
        }
    }

    #[test]
    fn the_order_of_the_file_never_matters(
        (routes, shuffled) in vec_of(any_route(), 0..20).prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        request in any_request(),
    ) {
        let find = |routes: &[RouteMatch]| {
            let table = Table::build(routes.iter().map(|route| (route.clone(), sorted_text(route))));
            table.find(&request.inquiry()).cloned()
        };
        prop_assert_eq!(find(&routes), find(&shuffled));
    }

    #[test]
    fn an_explanation_agrees_with_the_table(routes in vec_of(any_route(), 0..20), request in any_request()) {
        let table = Table::build(routes.iter().cloned().zip(0..));
        let explanation = table.explain(&request.inquiry());
        prop_assert_eq!(explanation.chosen().map(|one| one.value), table.find(&request.inquiry()));
        prop_assert_eq!(explanation.candidates.len(), routes.len());
        for candidate in &explanation.candidates {
            let takes = oracle_takes(&routes[*candidate.value], &request);
            prop_assert_eq!(takes, !matches!(candidate.verdict, Verdict::Unmet(_)));
            prop_assert!(!candidate.verdict.to_string().is_empty());
            if let Verdict::Outranked(Outranked::LessSpecificHost) = candidate.verdict {
                let chosen = explanation.chosen().map(|one| &one.matcher.host);
                prop_assert_ne!(chosen, Some(&candidate.matcher.host));
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_path_that_is_not_ambiguous_means_the_same_to_every_reader(path in any_hostile_path()) {
        if !path::is_ambiguous(&path) {
            let normal = path::normal(&path);
            prop_assert_eq!(rfc_3986_normal(&path), &*normal);
            let decoded = percent_decoded(&path);
            prop_assert!(decoded.split(|&byte| byte == b'/').all(|segment| segment != b"." && segment != b".."));
        }
    }

    #[test]
    fn what_a_rewrite_forwards_is_safe_whatever_the_client_sent(path in any_hostile_path(), to in select(vec!["", "/", "/x", "/x/"])) {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new("^/a(.*)$").unwrap());
        let rewrites = [
            Rewrite::StripPrefix("/a".to_owned()),
            Rewrite::ReplacePrefix { from: "/a".to_owned(), to: to.to_owned() },
            Rewrite::Regex { pattern: PATTERN.clone().into(), replacement: format!("{to}$1") },
        ];
        for rewrite in &rewrites {
            let Ok(forwarded) = rewrite::apply(rewrite, &path, Some("q")) else { continue };
            prop_assert!(forwarded.starts_with('/') && !forwarded.starts_with("//"), "{}", forwarded);
            let forwarded = forwarded.strip_suffix("?q").expect("the query is kept");
            prop_assert!(!path::is_ambiguous(forwarded), "{}", forwarded);
            prop_assert!(forwarded.parse::<http::uri::PathAndQuery>().is_ok());
        }
    }
}

fn sorted_text(route: &RouteMatch) -> String {
    let mut headers: Vec<String> = route.headers.iter().map(|one| format!("{one:?}")).collect();
    headers.sort();
    let path = match &route.path {
        PathMatch::Regex(pattern) => format!("~{pattern}"),
        PathMatch::Exact(path) => format!("={}", path::normal(path)),
        PathMatch::Prefix(path) => path::normal(path).into_owned(),
    };
    format!("{:?} {path} {:?} {headers:?} {:?}", route.host, route.methods, route.query)
}

fn percent_decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = (first == b'%').then(|| path::escape(after)).flatten();
        rest = if byte.is_some() { &after[2..] } else { after };
        decoded.push(byte.unwrap_or(first));
    }
    decoded
}
