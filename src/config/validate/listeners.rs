//! Listeners and the admin listener: addresses that are valid and do not take each other's connections.
//! Promises a token on every admin address beyond loopback. Binds nothing.

use std::net::{IpAddr, SocketAddr};

use super::address;
use super::check::Check;
use crate::config::checked::{self, ListenAddress};
use crate::config::defaults;
use crate::config::raw::{self, Switch, kind};
use crate::config::scalar::Scalar;
use crate::config::source::Span;

/// The listeners, each with its place.
pub(crate) fn listeners(raw: Option<&[raw::Listener]>, check: &mut Check<'_>) -> Vec<(checked::Listener, Span)> {
    let default =
        [raw::Listener { address: Some(Scalar::made(defaults::LISTEN)), protocol: None, max_connections: None }];
    let raw = raw.unwrap_or(&default);
    if raw.is_empty() {
        check.error(Span::NONE, "`listen` is an empty list", "leave it out for :8080");
    }
    raw.iter().filter_map(|raw| listener(raw, check)).collect()
}

fn listener(raw: &raw::Listener, check: &mut Check<'_>) -> Option<(checked::Listener, Span)> {
    protocol(&raw.protocol, check);
    let max_connections = check.cap(&raw.max_connections);
    let scalar = raw.address.as_ref()?;
    let address = address::listen_address(scalar, check)?;
    Some((checked::Listener { address, max_connections }, scalar.span()))
}

/// Checks a word that decides nothing yet: this version speaks HTTP/1 only.
pub(crate) fn protocol(field: &Option<Scalar<kind::Protocol>>, check: &mut Check<'_>) {
    if let Some(scalar) = field.as_ref().filter(|scalar| matches!(scalar.value(), "h2" | "http2" | "h2c")) {
        check.error(scalar.span(), "HTTP/2 is not in this version of Portway yet", "write http1, or leave it out");
    } else {
        check.word(field, &[("auto", ()), ("http1", ())]);
    }
}

/// The admin listener with its place, `None` if it is off.
pub(crate) fn admin(raw: Option<&Switch<raw::Admin>>, check: &mut Check<'_>) -> Option<(checked::Admin, Span)> {
    let default = raw::Admin { address: None, token: None };
    let raw = match raw {
        Some(Switch::Off) => return None,
        Some(Switch::On(raw)) => raw,
        None => &default,
    };
    let made = Scalar::made(defaults::ADMIN);
    let scalar = raw.address.as_ref().unwrap_or(&made);
    let token = raw.token.as_ref().and_then(|token| admin_token(token, check));
    if let Some(help) = not_an_address(scalar.value()) {
        check.error(scalar.span(), format!("\"{}\" is not the address of the admin listener", scalar.shown()), help);
        return None;
    }
    let address = address::listen_address(scalar, check)?;
    let is_beyond_loopback = match &address {
        ListenAddress::Unix(_) => false,
        ListenAddress::Tcp(address) => !address.ip().is_loopback(),
        ListenAddress::AnyTcp(_) | ListenAddress::Fd(_) => true,
    };
    if is_beyond_loopback && raw.token.is_none() {
        let message = format!("the admin address {} is open to more than this host and has no token", scalar.shown());
        let help = "write { address: …, token: \"${PORTWAY_ADMIN_TOKEN}\" }, or listen on 127.0.0.1";
        check.error(scalar.span(), message, help);
    }
    Some((checked::Admin { address, token }, scalar.span()))
}

/// What to write in place of a switch or a port alone: unlike the front door, this door is for this host only.
fn not_an_address(text: &str) -> Option<String> {
    match text {
        "on" | "yes" | "true" => Some(format!("leave it out: it is at {} unless it is `off`", defaults::ADMIN)),
        "no" | "none" => Some("write `off`".to_owned()),
        port if port.parse::<u16>().is_ok() => Some(format!("write it as 127.0.0.1:{port}")),
        _ => None,
    }
}

fn admin_token(scalar: &Scalar<kind::Text>, check: &mut Check<'_>) -> Option<String> {
    let token = scalar.value();
    // RFC 6750 §2.1: a bearer token is visible ASCII without spaces.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        check.error(scalar.span(), "the token is empty or holds more than visible ASCII", "try: openssl rand -hex 32");
        return None;
    }
    Some(token.to_owned())
}

/// Reports listeners, the admin listener among them, of which one takes connections that another expects.
pub(crate) fn reject_overlaps(
    listeners: &[(checked::Listener, Span)],
    admin: Option<&(checked::Admin, Span)>,
    check: &mut Check<'_>,
) {
    let mut seen: Vec<(&ListenAddress, Span)> = Vec::new();
    let all = listeners.iter().map(|(listener, span)| (&listener.address, *span));
    for (address, span) in all.chain(admin.map(|(admin, span)| (&admin.address, *span))) {
        if let Some((_, first_span)) = seen.iter().find(|(first, _)| overlap(first, address)) {
            report_overlap(*first_span, span, check);
        }
        seen.push((address, span));
    }
}

/// Says it where somebody typed one of the two: a default stands nowhere.
fn report_overlap(first: Span, second: Span, check: &mut Check<'_>) {
    if first.is_some() && second.is_some() {
        let help = "again here; give one of them another port";
        check.error(second, "two listeners take the same connections", help).also(first, "first here");
    } else if first.is_some() {
        let message = format!("the admin listener is at {} unless `admin` says otherwise", defaults::ADMIN);
        check.error(first, message, "give this listener another port, or write `admin:` with another one");
    } else {
        let message = format!("requests are taken at {} unless `listen` says otherwise", defaults::LISTEN);
        check.error(second, message, "give the admin listener another port, or write `listen:` with another one");
    }
}

/// Whether a connection could belong to both. Port 0 is a new port each time.
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::AnyTcp(a), ListenAddress::AnyTcp(b)) => a == b && *a != 0,
        (ListenAddress::AnyTcp(port), ListenAddress::Tcp(address))
        | (ListenAddress::Tcp(address), ListenAddress::AnyTcp(port)) => address.port() == *port && *port != 0,
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => a.port() == b.port() && a.port() != 0 && same_host(a, b),
        (a, b) => a == b,
    }
}

fn same_host(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |any: IpAddr, other: IpAddr| any.is_unspecified() && any.is_ipv4() == other.is_ipv4();
    a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip())
}
