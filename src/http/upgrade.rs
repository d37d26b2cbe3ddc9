//! Decides whether a request may leave HTTP, and whether the backend's answer lets it.
//! Promises that only WebSocket does, only when asked, and only in HTTP/1.1 (C-24, S-08, H11); `h2c` never does.
//! It moves no bytes: the tunnel is the proxy's.

use ::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use ::http::request::Parts;
use ::http::{Method, StatusCode, Version};

use super::headers::has_element;
use crate::error::FailureKind;

/// The one protocol that may follow. Others (h2c above all: h2csmuggler) would pass requests that we never see.
const WEBSOCKET: &str = "websocket";

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing that we grant: it goes on as an ordinary request.
    No,
    /// A WebSocket. RFC 6455 §4.2.1.
    WebSocket,
}

impl Upgrade {
    /// What a request asks for. To be called before its headers are cleaned.
    ///
    /// A request with a body is an ordinary one: what follows its head would be neither body nor frames to somebody.
    pub fn of(request: &Parts) -> Self {
        let headers = &request.headers;
        let is_websocket = request.headers.contains_key(UPGRADE)
            && request.method == Method::GET
            && request.version == Version::HTTP_11
            && has_element(headers, &UPGRADE, WEBSOCKET)
            && has_element(headers, &CONNECTION, "upgrade")
            && !headers.contains_key(TRANSFER_ENCODING)
            && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
        if is_websocket { Upgrade::WebSocket } else { Upgrade::No }
    }

    /// Says again, on the next connection, what was asked for or granted on this one: in a cleaned request or a cleaned
    /// 101.
    pub fn reissue(self, headers: &mut HeaderMap) {
        if self == Upgrade::WebSocket {
            headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
    }

    /// Judges the head of a response before it is cleaned. Any status but 101 passes as an ordinary response.
    ///
    /// An error is [`FailureKind::UpstreamProtocol`]: a 101 that nobody asked for, or to another protocol.
    pub fn check(self, status: StatusCode, headers: &HeaderMap) -> Result<Switch, FailureKind> {
        let names_websocket =
            || has_element(headers, &UPGRADE, WEBSOCKET) && has_element(headers, &CONNECTION, "upgrade");
        match self {
            _ if status != StatusCode::SWITCHING_PROTOCOLS => Ok(Switch::Stay),
            Upgrade::WebSocket if names_websocket() => Ok(Switch::Tunnel),
            _ => Err(FailureKind::UpstreamProtocol),
        }
    }
}

/// What the connection speaks after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// HTTP, as before.
    Stay,
    /// The protocol that was asked for.
    Tunnel,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;

    fn request(method: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let builder = Request::builder().method(method).uri("/ws").version(version);
        let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).expect("a request").into_parts().0
    }

    const ASKED: [(&str, &str); 2] = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];

    /// C-24.
    #[test]
    fn only_a_complete_websocket_request_is_an_upgrade() {
        let of = |method, version, fields: &[&[(&str, &str)]]| Upgrade::of(&request(method, version, &fields.concat()));
        let http_11 = Version::HTTP_11;
        assert_eq!(of("GET", http_11, &[&ASKED]), Upgrade::WebSocket);
        assert_eq!(of("GET", http_11, &[&ASKED, &[("content-length", "0")]]), Upgrade::WebSocket);
        assert_eq!(of("GET", http_11, &[]), Upgrade::No);
        assert_eq!(of("POST", http_11, &[&ASKED]), Upgrade::No);
        assert_eq!(of("GET", Version::HTTP_10, &[&ASKED]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&[("upgrade", "websocket")]]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&[("connection", "upgrade")]]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&[("connection", "upgrade"), ("upgrade", "h2c")]]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&[("connection", "upgrade"), ("upgrade", "x")]]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&ASKED, &[("content-length", "5")]]), Upgrade::No);
        assert_eq!(of("GET", http_11, &[&ASKED, &[("transfer-encoding", "chunked")]]), Upgrade::No);
    }

    #[test]
    fn what_was_asked_for_is_said_again() {
        let mut headers = HeaderMap::new();
        Upgrade::No.reissue(&mut headers);
        assert!(headers.is_empty());
        Upgrade::WebSocket.reissue(&mut headers);
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    /// S-08.
    #[test]
    fn only_a_101_to_what_was_asked_for_opens_the_tunnel() {
        let granted = request("GET", Version::HTTP_11, &ASKED).headers;
        let other = request("GET", Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "h2c")]).headers;
        let bad = Err(FailureKind::UpstreamProtocol);
        let switching = StatusCode::SWITCHING_PROTOCOLS;
        assert_eq!(Upgrade::WebSocket.check(switching, &granted), Ok(Switch::Tunnel));
        assert_eq!(Upgrade::WebSocket.check(switching, &other), bad);
        assert_eq!(Upgrade::WebSocket.check(switching, &HeaderMap::new()), bad);
        assert_eq!(Upgrade::No.check(switching, &granted), bad);
        for status in [200, 426, 500].map(|status| StatusCode::from_u16(status).expect("a status")) {
            assert_eq!(Upgrade::WebSocket.check(status, &granted), Ok(Switch::Stay), "{status}");
        }
    }
}
