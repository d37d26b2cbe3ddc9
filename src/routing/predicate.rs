//! Whether one condition of a route holds for one request.
//! A condition on a header or a query parameter holds if any of its values does, so that no copy hides another.
//! It does not know which route wins.

use std::borrow::Cow;

use http::HeaderMap;

use crate::config::checked::{HeaderMatch, HostMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use crate::routing::path;
use crate::routing::table::Inquiry;

/// Whether the conditions besides host and path all hold.
#[inline]
pub(crate) fn conditions_hold(matcher: &RouteMatch, inquiry: &Inquiry<'_>) -> bool {
    method_holds(matcher, inquiry)
        && matcher.headers.iter().all(|condition| header_holds(condition, inquiry.headers))
        && matcher.query.iter().all(|condition| query_holds(condition, inquiry.query))
}

/// Whether the method is among those that the route takes. The list is literal: `GET` brings no `HEAD` along.
pub(crate) fn method_holds(matcher: &RouteMatch, inquiry: &Inquiry<'_>) -> bool {
    matcher.methods.is_empty() || matcher.methods.contains(inquiry.method)
}

/// Whether the host is the one, or under the one, that the route names; in any case, with or without the root's dot.
pub(crate) fn host_holds(condition: &HostMatch, host: &str) -> bool {
    let host = without_root_dot(host).as_bytes();
    match condition {
        HostMatch::Any => true,
        HostMatch::Exact(name) => host.eq_ignore_ascii_case(without_root_dot(name).as_bytes()),
        HostMatch::Wildcard(suffix) => {
            let suffix = without_root_dot(suffix).as_bytes();
            let Some((front, end)) = host.split_at_checked(host.len().saturating_sub(suffix.len())) else {
                return false;
            };
            front.len() > 1 && front.ends_with(b".") && end.eq_ignore_ascii_case(suffix)
        }
    }
}

/// `example.com.` and `example.com` are the same name: the dot is the root of DNS.
pub(crate) fn without_root_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether the path, in normal form, is one that the route takes.
pub(crate) fn path_holds(condition: &PathMatch, normal_path: &str) -> bool {
    match condition {
        PathMatch::Exact(exact) => path::normal(exact) == normal_path,
        PathMatch::Prefix(prefix) if prefix.trim_end_matches('/').is_empty() => true,
        PathMatch::Prefix(prefix) => path::after_prefix(normal_path, prefix).is_some(),
        PathMatch::Regex(pattern) => pattern.is_match(normal_path),
    }
}

/// Whether any value of the field, or any element of its comma-separated values, is what the condition wants.
pub(crate) fn header_holds(condition: &HeaderMatch, headers: &HeaderMap) -> bool {
    headers.get_all(&condition.name).iter().any(|value| {
        let value = value.as_bytes();
        value_holds(&condition.value, value)
            || value.split(|&byte| byte == b',').any(|element| value_holds(&condition.value, element.trim_ascii()))
    })
}

fn value_holds(condition: &ValueMatch, value: &[u8]) -> bool {
    match condition {
        ValueMatch::Present => true,
        ValueMatch::Exact(wanted) => value == wanted.as_bytes(),
        ValueMatch::Regex(pattern) => pattern.is_match(&String::from_utf8_lossy(value)),
    }
}

/// Whether any parameter of that name is what the condition wants, once both are decoded.
pub(crate) fn query_holds(condition: &QueryMatch, query: Option<&str>) -> bool {
    let Some(query) = query else { return false };
    query.split('&').any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        decoded_eq(name, &condition.name)
            && match &condition.value {
                ValueMatch::Present => true,
                ValueMatch::Exact(wanted) => decoded_eq(value, wanted),
                ValueMatch::Regex(pattern) => pattern.is_match(&decoded(value)),
            }
    })
}

fn decoded_eq(encoded: &str, plain: &str) -> bool {
    DecodedBytes { bytes: encoded.as_bytes() }.eq(plain.bytes())
}

fn decoded(encoded: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', encoded.as_bytes()).is_none() {
        return Cow::Borrowed(encoded);
    }
    let bytes: Vec<u8> = DecodedBytes { bytes: encoded.as_bytes() }.collect();
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// A form-encoded name or value, decoded as the URL standard does: `+` is a space, a `%` that starts no escape is a `%`.
struct DecodedBytes<'a> {
    bytes: &'a [u8],
}

impl Iterator for DecodedBytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        match first {
            b'+' => Some(b' '),
            b'%' => {
                let Some(byte) = path::escape(rest) else { return Some(b'%') };
                self.bytes = &rest[2..];
                Some(byte)
            }
            byte => Some(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use regex::Regex;

    use super::*;

    fn exact(value: &str) -> ValueMatch {
        ValueMatch::Exact(value.to_owned())
    }

    fn pattern(pattern: &str) -> ValueMatch {
        ValueMatch::Regex(Regex::new(pattern).unwrap().into())
    }

    /// S-16.
    #[test]
    fn a_header_condition_fires_on_any_element_of_any_value() {
        let name = HeaderName::from_static("x-role");
        let check = |values: &[&[u8]], value: ValueMatch, expected: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value).unwrap());
            }
            let condition = HeaderMatch { name: name.clone(), value };
            assert_eq!(header_holds(&condition, &headers), expected, "{values:?} {condition:?}");
        };
        check(&[b"guest", b"admin"], exact("admin"), true);
        check(&[b"guest, admin"], exact("admin"), true);
        check(&[b"guest,\tadmin ,x"], exact("admin"), true);
        check(&[b"guest", b"x,admin"], pattern("^admin$"), true);
        check(&[b"admin,\xff"], pattern("^admin$"), true);
        check(&[b"admin\xff"], pattern("^admin"), true);
        check(&[b"Sun, 06 Nov 1994 08:49:37 GMT"], exact("Sun, 06 Nov 1994 08:49:37 GMT"), true);
        check(&[b"guest"], exact("admin"), false);
        check(&[b"Admin"], exact("admin"), false);
        check(&[b"administrator"], pattern("^admin$"), false);
        check(&[b""], ValueMatch::Present, true);
        check(&[], ValueMatch::Present, false);
        check(&[], exact(""), false);
    }

    #[test]
    fn a_query_condition_compares_decoded_values_of_any_copy() {
        let check = |query: Option<&str>, name: &str, value: ValueMatch, expected: bool| {
            let condition = QueryMatch { name: name.to_owned(), value };
            assert_eq!(query_holds(&condition, query), expected, "{query:?} {condition:?}");
        };
        check(Some("a=1&b=2"), "b", exact("2"), true);
        check(Some("a=1&a=2"), "a", exact("2"), true);
        check(Some("a+b=c%20d"), "a b", exact("c d"), true);
        check(Some("%61=caf%c3%A9"), "a", exact("caf\u{e9}"), true);
        check(Some("a=x%2By"), "a", exact("x+y"), true);
        check(Some("a=100%"), "a", exact("100%"), true);
        check(Some("a=b=c"), "a", exact("b=c"), true);
        check(Some("a=v%31"), "a", pattern("^v1$"), true);
        check(Some("a=v1"), "a", pattern("^v1$"), true);
        check(Some("a=%ff1"), "a", pattern("1$"), true);
        check(Some("a"), "a", ValueMatch::Present, true);
        check(Some("a"), "a", exact(""), true);
        check(Some("aa=1"), "a", ValueMatch::Present, false);
        check(Some("a=1;b=2"), "b", ValueMatch::Present, false);
        check(Some(""), "a", ValueMatch::Present, false);
        check(None, "a", ValueMatch::Present, false);
    }

    #[test]
    fn a_wildcard_takes_names_below_it_and_not_its_own() {
        let wildcard = HostMatch::Wildcard("example.com".to_owned());
        for (host, expected) in [
            ("a.example.com", true),
            ("A.Example.COM.", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
            ("com", false),
            ("", false),
        ] {
            assert_eq!(host_holds(&wildcard, host), expected, "{host}");
        }
    }
}
