//! Hosts and paths of routes as they are written.
//! Promises that what it accepts can be matched byte for byte against a request. Knows no other condition.

use http::uri::PathAndQuery;

use super::check::Check;
use crate::config::checked::HostMatch;
use crate::config::scalar::{Kind, Scalar};

/// `shop.example.com`, `*.example.com`, an IP address, or `*` for every host.
pub(crate) fn host<K: Kind>(scalar: &Scalar<K>, host: &str, check: &mut Check<'_>) -> Option<HostMatch> {
    let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if lower.is_empty() || lower == "*" {
        return Some(HostMatch::Any);
    }
    let (name, is_wildcard) = match lower.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    let (message, help) = match name {
        _ if host.contains("://") => ("has a scheme", "leave it out: a route takes what its listener takes"),
        _ if !name.is_ascii() => ("has letters outside of ASCII", "write it in punycode, as browsers send it: xn--…"),
        _ if name.contains('*') => ("has a `*` in the middle", "a wildcard stands in front: *.example.com"),
        _ if is_ipv6(name) && !is_wildcard => return Some(HostMatch::Exact(name.to_owned())),
        _ if name.contains(':') => ("has a port", "leave it out: a route's host is compared without the port"),
        _ if !is_dns_name(name) => ("is not a host", "write one such as shop.example.com or *.example.com"),
        _ if is_wildcard => return Some(HostMatch::Wildcard(name.to_owned())),
        _ => return Some(HostMatch::Exact(lower)),
    };
    let shown = if scalar.has_variables() { scalar.shown() } else { host };
    let span = scalar.part(0, host.len());
    check.error(span, format!("the host \"{shown}\" {message}"), help);
    None
}

/// An IPv6 address in brackets, as the Host header has it. RFC 3986 §3.2.2.
fn is_ipv6(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_label_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_label_char)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// A host as a `Host` header has it: a name or an address, perhaps with a port.
pub(crate) fn is_host_header(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let host = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => text,
    };
    is_ipv6(host) || is_dns_name(host)
}

/// The path of a probe, perhaps with a query.
pub(crate) fn of_probe<K: Kind>(scalar: &Scalar<K>, check: &mut Check<'_>) -> Option<String> {
    let path = scalar.value();
    let (message, help) = match path {
        "true" | "on" | "yes" => ("does not say what to ask", "write a path such as /healthz".to_owned()),
        "tcp" | "grpc" => ("is not the path of a probe", format!("write {{ {path}: true }}")),
        _ if path.contains("://") => ("has a scheme", "write the path alone, and `host:` beside it".to_owned()),
        _ if !path.starts_with('/') => ("does not begin with a slash", format!("write it as /{path}")),
        _ if path.contains('#') => ("has a fragment", "no request has one; leave it out".to_owned()),
        _ if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.parse::<PathAndQuery>().is_err() => {
            ("has characters that a request cannot", "percent-encode them, such as %20 for a space".to_owned())
        }
        _ => return Some(path.to_owned()),
    };
    let help = if scalar.has_variables() { "write one such as /healthz".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

/// Where `path` begins in the text of the scalar, for the caret.
pub(crate) struct PathText<'t, K> {
    /// The scalar that the path is, or is a part of.
    pub(crate) scalar: &'t Scalar<K>,
    /// The path.
    pub(crate) path: &'t str,
}

/// A path as requests have it: from the first slash, percent-encoded, without dot segments.
pub(crate) fn path<K: Kind>(text: &PathText<'_, K>, check: &mut Check<'_>) -> Option<String> {
    let PathText { scalar, path } = *text;
    let offset = scalar.value().len().saturating_sub(path.len());
    let (message, help) = match path {
        _ if !path.starts_with('/') => ("does not begin with a slash", format!("write it as /{path}")),
        _ if path.contains('?') => ("has a query", "write conditions on it under `query`".to_owned()),
        _ if path.contains('#') => ("has a fragment", "browsers never send it; leave it out".to_owned()),
        _ if path.contains('*') => ("has a `*`", format!("a path takes all below it: write {}", before_star(path))),
        _ if path.contains(['{', '}']) => ("has a placeholder", "write a regular expression under `regex`".to_owned()),
        _ if path.contains("//") => ("has an empty segment", "write single slashes".to_owned()),
        _ if path.split('/').any(|segment| matches!(segment, "." | "..")) => {
            ("has a dot segment", "write the path that it leads to".to_owned())
        }
        _ if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte)) => {
            ("has characters that a request cannot", "percent-encode them, such as %20 for a space".to_owned())
        }
        _ => return Some(path.to_owned()),
    };
    let (shown, help) = match scalar.has_variables() {
        true => (scalar.shown(), "write one such as /api".to_owned()),
        false => (path, help),
    };
    check.error(scalar.part(offset, path.len()), format!("the path \"{shown}\" {message}"), help);
    None
}

fn before_star(path: &str) -> &str {
    match path.split_once('*').map_or(path, |(before, _)| before).trim_end_matches('/') {
        "" => "/",
        before => before,
    }
}

/// A prefix as the route table compares it: whole segments, no slash at the end but for `/`.
pub(crate) fn prefix(path: String) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}
