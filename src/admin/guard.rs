//! Who may talk to the admin listener.
//! Promises that a page from elsewhere in the operator's browser cannot (DNS rebinding, cross-site requests), and that
//! beyond loopback nobody can without the token. It does not know what is asked for, except that probes tell nothing.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, Version};

use crate::config::checked::{Admin, ListenAddress};

/// How far away a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Loopback,
    Beyond,
    Unix,
}

/// The rules of one admin listener.
#[derive(Debug)]
pub(super) struct Guard {
    reach: Reach,
    token: Option<String>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoHost,
    ForeignHost,
    ForeignOrigin,
    NoToken,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Refusal::NoHost => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost | Refusal::ForeignOrigin => StatusCode::FORBIDDEN,
            Refusal::NoToken => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Refusal::NoHost => "no_host",
            Refusal::ForeignHost => "foreign_host",
            Refusal::ForeignOrigin => "foreign_origin",
            Refusal::NoToken => "unauthorized",
        }
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Refusal::NoHost => "the request has no valid Host header",
            Refusal::ForeignHost => "the admin listener answers to localhost and loopback addresses only",
            Refusal::ForeignOrigin => "the request comes from a page of another origin",
            Refusal::NoToken => "send the token of the configuration: Authorization: Bearer TOKEN",
        }
    }
}

impl Guard {
    pub(super) fn new(config: &Admin) -> Self {
        let reach = match &config.address {
            ListenAddress::Tcp(address) if address.ip().to_canonical().is_loopback() => Reach::Loopback,
            ListenAddress::Unix(_) => Reach::Unix,
            ListenAddress::Tcp(_) | ListenAddress::AnyTcp(_) | ListenAddress::Fd(_) => Reach::Beyond,
        };
        Self { reach, token: config.token.clone() }
    }

    /// Whether the request may be answered at all: where it was sent to, and from which page.
    pub(super) fn check_site(&self, parts: &Parts) -> Result<(), Refusal> {
        let host = host_of(parts)?;
        if self.reach == Reach::Loopback && host.is_some_and(|host| !is_local(host)) {
            return Err(Refusal::ForeignHost);
        }
        let Some(origin) = text(&parts.headers, &ORIGIN).map_err(|()| Refusal::ForeignOrigin)? else { return Ok(()) };
        let origin_host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        match (origin_host, host) {
            (Some(origin_host), Some(host)) if origin_host.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(Refusal::ForeignOrigin),
        }
    }

    /// Whether the request carries the token, where one is needed.
    pub(super) fn check_token(&self, parts: &Parts) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            // The configuration check makes sure that a token is there; this is the second lock.
            return if self.reach == Reach::Beyond { Err(Refusal::NoToken) } else { Ok(()) };
        };
        let sent = text(&parts.headers, &AUTHORIZATION).map_err(|()| Refusal::NoToken)?;
        let sent = sent.and_then(|value| value.split_once(' '));
        match sent {
            Some((scheme, sent)) if scheme.eq_ignore_ascii_case("bearer") && is_equal(sent.trim(), token) => Ok(()),
            _ => Err(Refusal::NoToken),
        }
    }
}

/// The host and port that the client wanted to reach. HTTP/1.0 may leave it out; browsers never do.
fn host_of(parts: &Parts) -> Result<Option<&str>, Refusal> {
    let header = text(&parts.headers, &HOST).map_err(|()| Refusal::NoHost)?;
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    match authority.or(header) {
        None if parts.version >= Version::HTTP_11 => Err(Refusal::NoHost),
        host => Ok(host),
    }
}

/// The value of a header that must not be repeated.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// A name that no DNS server of an attacker can make its own: loopback addresses, and `localhost` with all below it (RFC 6761).
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Compares in a time that depends on the lengths only, so that nobody can guess a token byte by byte.
fn is_equal(sent: &str, token: &str) -> bool {
    let differences = sent.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    sent.len() == token.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn guard(address: &str, token: Option<&str>) -> Guard {
        let address = match address.strip_prefix("unix:") {
            Some(path) => ListenAddress::Unix(path.into()),
            None => ListenAddress::Tcp(address.parse().unwrap()),
        };
        Guard::new(&Admin { address, token: token.map(str::to_owned) })
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn on_loopback_only_local_names_are_answered() {
        let guard = guard("127.0.0.1:9900", None);
        for host in [
            "localhost",
            "LOCALHOST:9900",
            "portway.localhost",
            "127.0.0.1:1",
            "[::1]:9900",
            "127.1.2.3",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(guard.check_site(&parts(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1:9900", "127.0.0.1.nip.io", "", "[", "xlocalhost"]
        {
            assert_eq!(guard.check_site(&parts(&[("host", host)])), Err(Refusal::ForeignHost), "{host}");
        }
    }

    #[test]
    fn a_request_without_one_host_is_refused() {
        let guard = guard("127.0.0.1:9900", None);
        assert_eq!(guard.check_site(&parts(&[])), Err(Refusal::NoHost));
        assert_eq!(guard.check_site(&parts(&[("host", "localhost"), ("host", "localhost")])), Err(Refusal::NoHost));
    }

    #[test]
    fn an_absolute_target_counts_more_than_the_host_header() {
        let request = Request::get("http://evil.example/").header("host", "localhost").body(()).unwrap();
        let guard = guard("127.0.0.1:9900", None);
        assert_eq!(guard.check_site(&request.into_parts().0), Err(Refusal::ForeignHost));
    }

    #[test]
    fn pages_of_other_origins_are_refused_everywhere() {
        for address in ["127.0.0.1:9900", "0.0.0.0:9900", "unix:/run/p.sock"] {
            let guard = guard(address, Some("t"));
            let check = |origin: &str| guard.check_site(&parts(&[("host", "localhost:9900"), ("origin", origin)]));
            assert_eq!(check("http://localhost:9900"), Ok(()), "{address}");
            for origin in ["http://evil.example", "null", "http://localhost:8080", "", "localhost:9900"] {
                assert_eq!(check(origin), Err(Refusal::ForeignOrigin), "{address} {origin}");
            }
        }
    }

    #[test]
    fn beyond_loopback_a_token_is_needed_even_if_none_is_configured() {
        assert_eq!(guard("0.0.0.0:9900", None).check_token(&parts(&[])), Err(Refusal::NoToken));
        assert_eq!(guard("127.0.0.1:9900", None).check_token(&parts(&[])), Ok(()));
        assert_eq!(guard("unix:/run/p.sock", None).check_token(&parts(&[])), Ok(()));
    }

    #[test]
    fn only_the_whole_token_opens() {
        let guard = guard("10.0.0.1:9900", Some("s3cret"));
        let check = |value: &str| guard.check_token(&parts(&[("authorization", value)]));
        assert_eq!(check("Bearer s3cret"), Ok(()));
        assert_eq!(check("bearer  s3cret"), Ok(()));
        for bad in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "s3cret", "Basic s3cret", "Bearer S3cret"] {
            assert_eq!(check(bad), Err(Refusal::NoToken), "{bad}");
        }
        let twice = parts(&[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")]);
        assert_eq!(guard.check_token(&twice), Err(Refusal::NoToken));
    }
}
