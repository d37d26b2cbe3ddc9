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

/// Whether the method is among those that the route takes.
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
