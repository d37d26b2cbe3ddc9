//! Makes the request that goes up out of the one that came down: path, fields, framing, body.
//! It promises that hop-by-hop fields are gone, that what says who asked is ours, and that as much of the body is here as
//! `buffer.request` allows. It takes no backend.

use std::future::poll_fn;

use http::header::{EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRAILER};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::balance::hash_key;
use crate::config::checked::{Balance, HashKey, Rewrite, RouteAction};
use crate::error::{FailureKind, ProxyError};
use crate::http::framing::{self, RequestBody as Framing};
use crate::http::headers::{self, Cleaned};
use crate::http::survey::Survey;
pub(crate) use crate::http::upgrade::Upgrade;
use crate::proxy::exchange::Exchange;
use crate::proxy::expect::Continue;
use crate::proxy::handler::ActiveRoute;
use crate::proxy::request_body::{Frames, RequestBody, Streaming, poll_client, without_banned_trailers};
use crate::routing::rewrite;
use crate::runtime::group::Stake;
use crate::telemetry::metrics::Limit;

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The host of an HTTP/1.0 client that names none: every request of HTTP/1.1 has one. RFC 9112 §3.2.
const NAMELESS: HeaderValue = HeaderValue::from_static("localhost");

/// A request ready for a backend.
pub(crate) struct Outbound {
    pub(crate) request: Request<RequestBody>,
    /// What it asks to become.
    pub(crate) upgrade: Upgrade,
    /// Of what `balance: { hash: … }` looks at.
    pub(crate) key: Option<u64>,
}

impl Outbound {
    /// What is lost if the backend fails it.
    #[inline]
    pub(crate) fn stake(&self) -> Stake {
        let repeatable = self.request.method().is_idempotent() && matches!(self.request.body(), RequestBody::Empty);
        if repeatable { Stake::Repeatable } else { Stake::Once }
    }
}

/// Prepares `request` for a backend of `route`.
pub(crate) async fn prepare(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    mut head: Parts,
    incoming: Incoming,
) -> Result<Outbound, ProxyError> {
    let fields = exchange.fields;
    let upgrade = if fields.has(Survey::UPGRADE) { Upgrade::of(&head) } else { Upgrade::No };
    let announced = if fields.has(Survey::FRAMING) { Framing::of(&head.headers) } else { Framing::None };
    let policy = &route.service.policy;
    if matches!(announced, Framing::Known(length) if length > policy.max_body) {
        return Err(FailureKind::BodyTooLarge.into());
    }
    let key = hash_input(&policy.balance, exchange, &head);
    readdress(&mut head, route)?;
    let cleaned = sign(exchange, &mut head)?;
    announce_prefix(route, &mut head.headers);
    if exchange.version == Version::HTTP_10 {
        head.headers.entry(HOST).or_insert(NAMELESS);
    }
    upgrade.reissue(&mut head.headers);
    let body = if incoming.is_end_stream() {
        if announced != Framing::None {
            framing::frame_request(&mut head.headers, announced);
        }
        RequestBody::Empty
    } else {
        read_body(exchange, route, &mut head, Arriving { incoming, cleaned }).await?
    };
    Ok(Outbound { request: Request::from_parts(head, body), upgrade, key })
}

/// The target in the form that a backend takes, rewritten where the route says so.
fn readdress(head: &mut Parts, route: &ActiveRoute) -> Result<(), FailureKind> {
    head.version = Version::HTTP_11;
    let RouteAction::Forward(rewrite) = &route.action else { return Ok(()) };
    if matches!(rewrite, Rewrite::None) {
        return Ok(());
    }
    let target = rewrite::apply(rewrite, head.uri.path(), head.uri.query()).map_err(|_| FailureKind::BadRequest)?;
    head.uri = PathAndQuery::try_from(&*target).map(Uri::from).map_err(|_| FailureKind::BadRequest)?;
    Ok(())
}

/// Says what `strip_prefix` took away, so that an application can write links that lead back to it, behind what a trusted
/// proxy in front took away (werkzeug's `ProxyFix(x_prefix=1)` reads it, as for Traefik).
fn announce_prefix(route: &ActiveRoute, headers: &mut HeaderMap) {
    let RouteAction::Forward(Rewrite::StripPrefix(prefix)) = &route.action else { return };
    let outer = headers.get(X_FORWARDED_PREFIX).map_or(&b""[..], HeaderValue::as_bytes);
    if let Ok(value) = HeaderValue::from_bytes(&[outer, prefix.as_bytes()].concat()) {
        headers.insert(X_FORWARDED_PREFIX, value);
    }
}

/// Takes away what is not for the backend, and what is ours to say.
fn sign(exchange: &Exchange, head: &mut Parts) -> Result<Cleaned, FailureKind> {
    let connection = &exchange.connection;
    let cleaned = match exchange.fields.has(Survey::HOP_BY_HOP | Survey::IDENTITY) {
        true => headers::clean_request(&mut head.headers, connection.peer_headers().trust())?,
        false => Cleaned::default(),
    };
    exchange.signature().settle(&mut head.headers, exchange.fields)?;
    Ok(cleaned)
}

/// A body that is still to come, and what was taken out of its head: its trailers must not bring that back.
struct Arriving {
    incoming: Incoming,
    cleaned: Cleaned,
}

/// Reads the body up to `buffer.request`; what is beyond follows while the backend reads.
async fn read_body(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    head: &mut Parts,
    body: Arriving,
) -> Result<RequestBody, ProxyError> {
    let Arriving { mut incoming, cleaned } = body;
    let policy = &route.service.policy;
    let mut allowance = policy.max_body;
    let mut frames = Frames::default();
    let go_ahead = if exchange.fields.has(Survey::EXPECT) { expected_continue(head) } else { None };
    // A client that waits for 100 sends nothing before the backend was asked.
    while go_ahead.is_none() && frames.footprint() < policy.buffer.request.0 {
        let next = poll_fn(|cx| poll_client(&mut incoming, &exchange.connection, cx)).await;
        let Some(frame) = next.transpose()? else { return Ok(whole(head, frames)) };
        let frame = without_banned_trailers(frame, &cleaned);
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        allowance = allowance.checked_sub(bytes).ok_or(FailureKind::BodyTooLarge)?;
        frames.push(frame);
        if incoming.is_end_stream() {
            return Ok(whole(head, frames));
        }
    }
    if go_ahead.is_none() {
        exchange.connection.worker.metrics.limit_hit(Limit::RequestBuffer);
    }
    let framing = match incoming.size_hint().exact() {
        Some(rest) => Framing::Known(frames.bytes() + rest),
        None => Framing::Chunked,
    };
    framing::frame_request(&mut head.headers, framing);
    let connection = exchange.connection.clone();
    let streaming =
        Streaming { ahead: frames, rest: incoming, is_touched: false, cleaned, allowance, connection, go_ahead };
    Ok(RequestBody::Streaming(Box::new(streaming)))
}

/// A body that is here whole has a length, which every backend understands; trailers need chunks to stand behind.
fn whole(head: &mut Parts, frames: Frames) -> RequestBody {
    let framing = if frames.has_trailers() { Framing::Chunked } else { Framing::Known(frames.bytes()) };
    if !frames.has_trailers() {
        head.headers.remove(TRAILER);
    }
    framing::frame_request(&mut head.headers, framing);
    RequestBody::Whole(Box::new(frames))
}

/// C-23: the expectation goes on to the backend, and the client hears its answer.
fn expected_continue(head: &Parts) -> Option<Continue> {
    head.headers.contains_key(EXPECT).then(Continue::awaited)
}

fn hash_input(balance: &Balance, exchange: &Exchange, head: &Parts) -> Option<u64> {
    let Balance::Hash(key) = balance else { return None };
    let bytes = match key {
        HashKey::Header(name) => head.headers.get(name)?.as_bytes(),
        HashKey::Cookie(name) => cookie(&head.headers, name)?,
        HashKey::Query(name) => query_value(head.uri.query()?, name)?.as_bytes(),
        HashKey::Ip => return exchange.client_ip.map(|ip| hash_key(ip.to_string().as_bytes())),
        HashKey::Path => head.uri.path().as_bytes(),
    };
    Some(hash_key(bytes))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all("cookie").into_iter().map(HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The value as it was sent: the same text gives the same backend.
fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("xid=1; id=2"));
        headers.append("cookie", HeaderValue::from_static("other=3"));
        assert_eq!(cookie(&headers, "id"), Some(&b"2"[..]));
        assert_eq!(cookie(&headers, "other"), Some(&b"3"[..]));
        assert_eq!(cookie(&headers, "i"), None);
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        assert_eq!(query_value("user=1&us=2", "us"), Some("2"));
        assert_eq!(query_value("user=1", "us"), None);
    }
}
