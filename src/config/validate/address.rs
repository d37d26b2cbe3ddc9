//! Addresses: what a listener binds and where a backend stands.
//! Promises a message that shows the address rightly written. Resolves no name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::check::Check;
use crate::config::checked::ListenAddress;
use crate::config::raw::kind;
use crate::config::scalar::Scalar;
use crate::units::HostPort;

/// Longest path of a unix socket on Linux, without its final NUL. unix(7): `sun_path` is 108 bytes.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// `host:port`, `:port`, `unix:PATH` or `fd://N`.
pub(crate) fn listen_address(scalar: &Scalar<kind::Address>, check: &mut Check<'_>) -> Option<ListenAddress> {
    let text = scalar.value();
    let shown = scalar.shown();
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path, scalar, check);
    }
    if let Some(number) = text.strip_prefix("fd://") {
        // 0, 1 and 2 are the standard streams; systemd passes sockets from 3 on. sd_listen_fds(3).
        let descriptor = number.parse::<i32>().ok().filter(|descriptor| *descriptor >= 3);
        if descriptor.is_none() {
            check.error(scalar.span(), format!("\"{shown}\" names no socket"), "write fd://3 or above");
        }
        return descriptor.map(ListenAddress::Fd);
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| !port.contains(':')) {
        return port_of(port, scalar, check).map(ListenAddress::AnyTcp);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(ListenAddress::Tcp(address));
    }
    let (message, help) = match split_port(text) {
        _ if text.contains("://") => ("has a scheme", "a listener is an address only, such as :8080".to_owned()),
        Split::NoPort if text.parse::<u16>().is_ok() => {
            ("has no host", format!("write it as \":{}\"", shown_or(scalar, "8080")))
        }
        Split::NoPort | Split::BareIpv6(_) => ("has no port", format!("write it as {}", with_port(scalar, "8080"))),
        Split::Port("*", port) => ("has `*` as its host", format!("every address is written \":{port}\"")),
        Split::Port("localhost", port) => ("is a name, not an address", format!("write it as 127.0.0.1:{port}")),
        Split::Port(_, port) if port.parse::<u16>().is_err() => {
            ("has no valid port", "ports are 0 to 65535".to_owned())
        }
        Split::Port(host, _) if is_number(host) => {
            ("is not an address", "write one such as 127.0.0.1:8080 or :8080".to_owned())
        }
        Split::Port(_, _) => {
            ("is a name, not an address", "write an address of this host, or \":8080\" for all".to_owned())
        }
    };
    let help = if scalar.has_variables() { "write an address such as 127.0.0.1:8080".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{shown}\" {message}"), help);
    None
}

fn unix(path: &str, scalar: &Scalar<kind::Address>, check: &mut Check<'_>) -> Option<ListenAddress> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX {
        let message = format!("\"{}\" is not the path of a socket", scalar.shown());
        check.error(
            scalar.span(),
            message,
            format!("write unix:/run/portway.sock, at most {UNIX_PATH_BYTES_MAX} bytes"),
        );
        return None;
    }
    Some(ListenAddress::Unix(PathBuf::from(path)))
}

fn port_of(port: &str, scalar: &Scalar<kind::Address>, check: &mut Check<'_>) -> Option<u16> {
    let parsed = port.parse().ok();
    if parsed.is_none() {
        let message = format!("\"{}\" has no valid port", scalar.shown());
        check.error(scalar.span(), message, "ports are 0 to 65535, e.g. \":8080\"");
    }
    parsed
}

/// `host:port` of a backend. `port_hint` is the port that its neighbours use.
pub(crate) fn backend_address(
    scalar: &Scalar<kind::Address>,
    port_hint: &str,
    check: &mut Check<'_>,
) -> Option<HostPort> {
    let text = scalar.value();
    let (message, help) = match split_port(text) {
        _ if text.is_empty() => ("is no address", "write one such as 127.0.0.1:5000".to_owned()),
        _ if text.contains("://") => {
            let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
            let (bare, path) = rest.split_once('/').unwrap_or((rest, ""));
            let route = if path.is_empty() { "" } else { ", and the path under `route`" };
            ("has a scheme", format!("write the address alone: {bare}{route}"))
        }
        _ if text.starts_with("unix:") => {
            ("is a unix socket, which backends cannot be yet", "let the backend listen on 127.0.0.1".to_owned())
        }
        _ if text.contains('/') => ("has a path", "write the address alone, and the path under `route`".to_owned()),
        Split::NoPort if text.parse::<u16>().is_ok() => ("has no host", format!("write it as 127.0.0.1:{text}")),
        Split::NoPort | Split::BareIpv6(_) => ("has no port", format!("write it as {}", with_port(scalar, port_hint))),
        // `-10.0.0.1:5000` in a block list is text, not an item.
        Split::Port(host, _) if host.strip_prefix('-').and_then(host_name).is_some() => {
            ("begins with `-`", "a list has one item a line, with a space after each `-`".to_owned())
        }
        Split::Port("", port) => ("has no host", format!("write it as 127.0.0.1:{port}")),
        Split::Port(host, port) => match (host_name(host), port.parse::<u16>()) {
            (Some(host), Ok(port)) if port > 0 => return Some(HostPort { host: host.into(), port }),
            (None, _) => ("has no valid host", "write a DNS name or an IP address before the port".to_owned()),
            (Some(_), _) => ("has no valid port", "ports are 1 to 65535".to_owned()),
        },
    };
    let help = if scalar.has_variables() { "write host:port, e.g. 127.0.0.1:5000".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

/// A host and a port as text, still unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split<'t> {
    /// `10.0.0.1:5000`, `[::1]:5000`; the host keeps its brackets.
    Port(&'t str, &'t str),
    /// `10.0.0.1`.
    NoPort,
    /// `::1`, or `::1:5000`, which could be either.
    BareIpv6(&'t str),
}

fn split_port(text: &str) -> Split<'_> {
    if text.starts_with('[') {
        return match text.rsplit_once("]:") {
            Some((host, port)) => Split::Port(&text[..=host.len()], port),
            None => Split::NoPort,
        };
    }
    match text.matches(':').count() {
        0 => Split::NoPort,
        1 => text.split_once(':').map_or(Split::NoPort, |(host, port)| Split::Port(host, port)),
        _ => Split::BareIpv6(text),
    }
}

/// The address as it should be, with a port.
fn with_port(scalar: &Scalar<kind::Address>, port: &str) -> String {
    let text = scalar.shown();
    // `::1:5000` is an IPv6 address as well, but hardly the one that was meant.
    let is_port = |port: &str| is_number(port) && (port.len() >= 4 || matches!(port, "80" | "443"));
    if let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| is_port(port))
        && host.parse::<Ipv6Addr>().is_ok()
    {
        return format!("[{host}]:{port}");
    }
    if text.starts_with('[') || text.parse::<Ipv6Addr>().is_err() {
        return format!("{}:{port}", text.trim_end_matches(':'));
    }
    format!("[{text}]:{port}")
}

fn shown_or<'s>(scalar: &'s Scalar<kind::Address>, other: &'s str) -> &'s str {
    if scalar.has_variables() { other } else { scalar.value() }
}

fn is_number(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit())
}

/// The host without brackets if it is an IP address or could be a DNS name. Underscores: Compose service names have them.
fn host_name(host: &str) -> Option<&str> {
    if let Some(inside) = host.strip_prefix('[') {
        return inside.strip_suffix(']').filter(|inside| inside.parse::<Ipv6Addr>().is_ok());
    }
    if host.parse::<IpAddr>().is_ok() {
        return Some(host);
    }
    // RFC 1123 §2.1. A last label of digits is an IPv4 address gone wrong: `10.0.0`, `10.0.0.300`.
    let bare = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let is_label_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_label_char) && !label.starts_with('-')
    };
    let last_is_number = bare.rsplit('.').next().is_some_and(is_number);
    (bare.len() <= 253 && bare.split('.').all(is_label) && !last_is_number).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Report;
    use crate::config::source::Sources;

    fn first_complaint(report: Report) -> String {
        let first = report.finish(Sources::default(), &[], "").list.remove(0);
        format!("{} ({})", first.message, first.help)
    }

    fn listen(text: &str) -> Result<ListenAddress, String> {
        let mut report = Report::default();
        let address = listen_address(&Scalar::made(text), &mut Check { report: &mut report });
        address.ok_or_else(|| first_complaint(report))
    }

    fn backend(text: &str) -> Result<String, String> {
        let mut report = Report::default();
        let address = backend_address(&Scalar::made(text), "5000", &mut Check { report: &mut report });
        address.map(|address| address.to_string()).ok_or_else(|| first_complaint(report))
    }

    #[test]
    fn a_listener_takes_each_form_of_an_address() {
        assert_eq!(listen(":8080"), Ok(ListenAddress::AnyTcp(8080)));
        assert_eq!(listen("127.0.0.1:0"), Ok(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())));
        assert_eq!(listen("[::1]:80"), Ok(ListenAddress::Tcp("[::1]:80".parse().unwrap())));
        assert_eq!(listen("unix:/run/p.sock"), Ok(ListenAddress::Unix("/run/p.sock".into())));
        assert_eq!(listen("unix:///run/p.sock"), Ok(ListenAddress::Unix("/run/p.sock".into())));
        assert_eq!(listen("fd://3"), Ok(ListenAddress::Fd(3)));
    }

    #[test]
    fn a_wrong_listener_shows_the_right_spelling() {
        let cases = [
            ("8080", "\"8080\" has no host (write it as \":8080\")"),
            ("127.0.0.1", "\"127.0.0.1\" has no port (write it as 127.0.0.1:8080)"),
            ("::1", "\"::1\" has no port (write it as [::1]:8080)"),
            ("*:80", "\"*:80\" has `*` as its host (every address is written \":80\")"),
            ("localhost:80", "\"localhost:80\" is a name, not an address (write it as 127.0.0.1:80)"),
            ("10:20", "\"10:20\" is not an address (write one such as 127.0.0.1:8080 or :8080)"),
            (":70000", "\":70000\" has no valid port (ports are 0 to 65535, e.g. \":8080\")"),
            ("127.0.0.1:x", "\"127.0.0.1:x\" has no valid port (ports are 0 to 65535)"),
            ("http://:80", "\"http://:80\" has a scheme (a listener is an address only, such as :8080)"),
            ("fd://1", "\"fd://1\" names no socket (write fd://3 or above)"),
            ("unix:", "\"unix:\" is not the path of a socket (write unix:/run/portway.sock, at most 107 bytes)"),
        ];
        for (text, message) in cases {
            assert_eq!(listen(text), Err(message.to_owned()));
        }
    }

    #[test]
    fn a_backend_is_a_name_or_an_address_with_a_port() {
        for text in ["127.0.0.1:5000", "[::1]:5000", "web:80", "web_1.internal:80", "a.example.com.:443"] {
            assert_eq!(backend(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_wrong_backend_shows_the_right_spelling() {
        let cases = [
            ("10.0.0.12", "\"10.0.0.12\" has no port (write it as 10.0.0.12:5000)"),
            ("web", "\"web\" has no port (write it as web:5000)"),
            ("5000", "\"5000\" has no host (write it as 127.0.0.1:5000)"),
            (":5000", "\":5000\" has no host (write it as 127.0.0.1:5000)"),
            ("::1", "\"::1\" has no port (write it as [::1]:5000)"),
            ("http://web:80/", "\"http://web:80/\" has a scheme (write the address alone: web:80)"),
            (
                "http://web:80/v1",
                "\"http://web:80/v1\" has a scheme (write the address alone: web:80, and the path under `route`)",
            ),
            ("::1:5000", "\"::1:5000\" has no port (write it as [::1]:5000)"),
            ("::1:80", "\"::1:80\" has no port (write it as [::1]:80)"),
            (
                "-10.0.0.1:80",
                "\"-10.0.0.1:80\" begins with `-` (a list has one item a line, with a space after each `-`)",
            ),
            ("web:80/api", "\"web:80/api\" has a path (write the address alone, and the path under `route`)"),
            ("web:0", "\"web:0\" has no valid port (ports are 1 to 65535)"),
            ("web:99999", "\"web:99999\" has no valid port (ports are 1 to 65535)"),
            (
                "10.0.0.300:80",
                "\"10.0.0.300:80\" has no valid host (write a DNS name or an IP address before the port)",
            ),
            ("10:20", "\"10:20\" has no valid host (write a DNS name or an IP address before the port)"),
            ("a b:80", "\"a b:80\" has no valid host (write a DNS name or an IP address before the port)"),
            ("", "\"\" is no address (write one such as 127.0.0.1:5000)"),
        ];
        for (text, message) in cases {
            assert_eq!(backend(text), Err(message.to_owned()));
        }
    }
}
