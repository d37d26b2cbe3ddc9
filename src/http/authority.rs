//! Settles whom a request is for, and whether a gateway takes its form at all.
//! Promises that afterwards there is one valid `Host` (or none, in HTTP/1.0), the target is in origin form (or `*`),
//! and both mean what the client meant (C-03 … C-05, C-23, C-26, C-28, S-29). It does not choose a route.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use ::http::header::{EXPECT, HOST, HeaderMap, HeaderValue, MAX_FORWARDS};
use ::http::request::Parts;
use ::http::uri::{PathAndQuery, Scheme};
use ::http::{Method, Uri, Version};

use crate::error::FailureKind;

/// Where a settled request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// To a backend.
    Forward,
    /// Nowhere: an `OPTIONS` with `Max-Forwards: 0` is answered by whom it has reached. RFC 9110 §7.6.2.
    AnswerHere,
}

/// Judges method, target, `Host`, `Expect` and `Max-Forwards`, and brings target and `Host` into the form that goes on.
pub fn settle(request: &mut Parts) -> Result<Onward, FailureKind> {
    // C-26, C-28: CONNECT would make us a tunnel, TRACE an echo of our own fields.
    if request.method == Method::CONNECT || request.method == Method::TRACE {
        return Err(FailureKind::MethodNotAllowed);
    }
    check_host(request)?;
    check_expectation(request)?;
    if request.uri.scheme().is_some() {
        make_origin_form(request)?;
    } else if request.uri.authority().is_some() {
        // `GET example.com:80`: only CONNECT has a target of this form. RFC 9112 §3.2.3.
        return Err(FailureKind::BadRequest);
    }
    match request.uri.path() {
        "*" if request.method == Method::OPTIONS => {}
        // `*` is refused here as well. RFC 9112 §3.2.4.
        path if path.starts_with('/') => {}
        _ => return Err(FailureKind::BadRequest),
    }
    if request.method == Method::OPTIONS { Ok(count_down(&mut request.headers)) } else { Ok(Onward::Forward) }
}

/// The host that routes are matched with: lower case, without port and without the root's final dot. Empty if there is
/// none.
///
/// `headers` are those of a settled request.
pub fn routing_host(headers: &HeaderMap) -> Cow<'_, str> {
    let host = headers.get(HOST).and_then(|host| std::str::from_utf8(host.as_bytes()).ok()).unwrap_or_default();
    // A settled host ends in its port, if in any digits at all; the colons of an IPv6 address stand in brackets.
    let n_digits = host.bytes().rev().take_while(u8::is_ascii_digit).count();
    let host = host[..host.len() - n_digits].strip_suffix(':').unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// C-05: exactly one valid `Host` in HTTP/1.1, at most one in HTTP/1.0.
fn check_host(request: &Parts) -> Result<(), FailureKind> {
    let mut hosts = request.headers.get_all(HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host.as_bytes()) => Ok(()),
        (None, None) if request.version == Version::HTTP_10 => Ok(()),
        _ => Err(FailureKind::BadRequest),
    }
}

/// C-03: the authority of an absolute target replaces `Host`, which RFC 9112 §3.2.2 has us ignore.
fn make_origin_form(request: &mut Parts) -> Result<(), FailureKind> {
    let is_http = matches!(request.uri.scheme(), Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let authority = request.uri.authority().filter(|_| is_http).ok_or(FailureKind::BadRequest)?;
    if !is_authority(authority.as_str().as_bytes()) {
        return Err(FailureKind::BadRequest);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| FailureKind::BadRequest)?;
    request.headers.insert(HOST, host);
    request.uri = match request.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Uri::from(target.clone()),
        // RFC 9112 §3.2.1: an empty path goes on as `/`.
        Some(query) => {
            PathAndQuery::try_from(format!("/{}", query.as_str())).map_err(|_| FailureKind::BadRequest)?.into()
        }
        None => Uri::from_static("/"),
    };
    Ok(())
}

/// C-23: the one expectation there is. HTTP/1.0 has none, and what it says goes no further. RFC 9110 §10.1.1.
fn check_expectation(request: &mut Parts) -> Result<(), FailureKind> {
    if request.version == Version::HTTP_10 {
        request.headers.remove(EXPECT);
        return Ok(());
    }
    let mut expectations = request.headers.get_all(EXPECT).into_iter();
    let all_known = expectations.all(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if all_known { Ok(()) } else { Err(FailureKind::ExpectationFailed) }
}

/// C-28. A value that is no number is nobody's limit.
fn count_down(headers: &mut HeaderMap) -> Onward {
    let n_left = headers.get(MAX_FORWARDS).and_then(|n| n.to_str().ok()?.parse::<u32>().ok());
    match n_left {
        Some(0) => return Onward::AnswerHere,
        Some(n_left) => drop(headers.insert(MAX_FORWARDS, HeaderValue::from(n_left - 1))),
        None => {}
    }
    Onward::Forward
}

/// Whether an authority is a host with or without a port.
///
/// Stricter than RFC 3986: letters, digits and `-._~`, or an IPv6 address in brackets. Userinfo, commas, percent-escapes
/// and the other delimiters that a registered name may have are what backends and caches disagree about (HAProxy
/// 2026-04-29 on commas).
fn is_authority(authority: &[u8]) -> bool {
    let host_len = match authority {
        [b'[', ..] => ipv6_len(authority),
        name => name.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(name.len()),
    };
    let (host, port) = authority.split_at(host_len);
    // RFC 9110 §4.2.1: an http URI with an empty host is invalid.
    host.iter().any(|byte| *byte != b'.') && is_port(port)
}

/// How long the bracketed address in front is; 0 if it is none.
fn ipv6_len(authority: &[u8]) -> usize {
    let Some(end) = memchr::memchr(b']', authority) else { return 0 };
    let address = std::str::from_utf8(&authority[1..end]).ok().and_then(|address| address.parse::<Ipv6Addr>().ok());
    if address.is_some() { end + 1 } else { 0 }
}

/// Nothing, or a colon with a number behind it; RFC 3986 §3.2.3 allows a colon with nothing after it.
fn is_port(port: &[u8]) -> bool {
    let [b':', digits @ ..] = port else { return port.is_empty() };
    let is_number = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    is_number && digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;

    fn request(line: &str, fields: &[(&str, &str)]) -> Parts {
        let words: Vec<&str> = line.split(' ').collect();
        let version = if words[2] == "1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
        let builder = Request::builder().method(words[0]).uri(words[1]).version(version);
        let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).expect("a request").into_parts().0
    }

    #[track_caller]
    fn check(line: &str, fields: &[(&str, &str)], expected: Result<(&str, &str), FailureKind>) {
        let mut request = request(line, fields);
        let settled = settle(&mut request).map(|onward| assert_eq!(onward, Onward::Forward));
        let host = request.headers.get(HOST).map_or("", |host| host.to_str().expect("ascii"));
        let target = request.uri.to_string();
        assert_eq!(settled.map(|()| (target.as_str(), host)), expected, "{line} {fields:?}");
    }

    const BAD: Result<(&str, &str), FailureKind> = Err(FailureKind::BadRequest);

    /// C-03, C-04, C-07.
    #[test]
    fn every_target_ends_in_origin_form() {
        let host = [("host", "a")];
        check("GET /x?y=%2F%2f HTTP/1.1", &host, Ok(("/x?y=%2F%2f", "a")));
        check("GET //b HTTP/1.1", &host, Ok(("//b", "a")));
        check("OPTIONS * HTTP/1.1", &host, Ok(("*", "a")));
        check("GET http://B:8080/x?y HTTP/1.1", &host, Ok(("/x?y", "B:8080")));
        check("GET https://b HTTP/1.1", &host, Ok(("/", "b")));
        check("GET http://b?x HTTP/1.1", &host, Ok(("/?x", "b")));
        check("GET http://b/x 1.0", &[], Ok(("/x", "b")));
        check("GET * HTTP/1.1", &host, BAD);
        check("GET b:80 HTTP/1.1", &host, BAD);
        check("GET ftp://b/x HTTP/1.1", &host, BAD);
        check("GET http://user@b/x HTTP/1.1", &host, BAD);
    }

    /// C-05.
    #[test]
    fn there_is_one_valid_host() {
        check("GET / HTTP/1.1", &[], BAD);
        check("GET http://b/ HTTP/1.1", &[], BAD);
        check("GET / 1.0", &[], Ok(("/", "")));
        check("GET / HTTP/1.1", &[("host", "a"), ("host", "a")], BAD);
        check("GET / 1.0", &[("host", "a"), ("host", "b")], BAD);
        check("GET http://b/ HTTP/1.1", &[("host", "a"), ("host", "b")], BAD);
        for host in ["a", "A.b", "a.", "a:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:80", "x_y-z~1"] {
            check("GET / HTTP/1.1", &[("host", host)], Ok(("/", host)));
        }
        let invalid = [
            "", ".", ":80", "a b", "a,b", "a/b", "u@a", "a#b", "a?b", "a:b", "a:65536", "a:+80", "a:80:80", "a:000080",
            "[::1", "::1", "[::1]x", "[x]", "%61", "a\\b", "a;b", "http://a",
        ];
        for host in invalid {
            check("GET / HTTP/1.1", &[("host", host)], BAD);
        }
    }

    /// C-26, C-28.
    #[test]
    fn connect_and_trace_are_not_taken() {
        let host = [("host", "a")];
        check("CONNECT a:1 HTTP/1.1", &host, Err(FailureKind::MethodNotAllowed));
        check("TRACE / HTTP/1.1", &host, Err(FailureKind::MethodNotAllowed));
    }

    /// C-23.
    #[test]
    fn an_unknown_expectation_fails() {
        let with = |expectation| [("host", "a"), ("expect", expectation)];
        check("PUT / HTTP/1.1", &with("100-Continue"), Ok(("/", "a")));
        check("PUT / HTTP/1.1", &with("a=b"), Err(FailureKind::ExpectationFailed));
        check("PUT / HTTP/1.1", &with(""), Err(FailureKind::ExpectationFailed));
        check("PUT / 1.0", &with("a=b"), Ok(("/", "a")));
    }

    /// C-28.
    #[test]
    fn max_forwards_counts_down_for_options_only() {
        let settled = |method: &str, n: &str| {
            let mut request = request(&format!("{method} / HTTP/1.1"), &[("host", "a"), ("max-forwards", n)]);
            let onward = settle(&mut request).expect("it is good");
            (onward, request.headers[MAX_FORWARDS].to_str().expect("ascii").to_owned())
        };
        assert_eq!(settled("OPTIONS", "0"), (Onward::AnswerHere, "0".to_owned()));
        assert_eq!(settled("OPTIONS", "7"), (Onward::Forward, "6".to_owned()));
        assert_eq!(settled("OPTIONS", "x"), (Onward::Forward, "x".to_owned()));
        assert_eq!(settled("GET", "0"), (Onward::Forward, "0".to_owned()));
    }

    #[test]
    fn the_routing_host_is_lower_case_without_port_or_final_dot() {
        let cases = [
            ("a.example", "a.example"),
            ("A.Example:80", "a.example"),
            ("a.:80", "a"),
            ("[::1]:80", "[::1]"),
            ("a:", "a"),
        ];
        for (host, expected) in cases {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            assert_eq!(routing_host(&headers), expected, "{host}");
        }
        assert_eq!(routing_host(&HeaderMap::new()), "");
    }
}
