//! The answers that Portway gives itself: a small page, JSON, or gRPC's form, with the reason word and the request id.
//! Promises to say what happened in a sentence, to escape everything that came from outside, and to name no version and
//! no address of a backend.
//! It does not decide to answer: a [`FailureKind`] comes in.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use ::http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use ::http::{Response, StatusCode};
use bytes::Bytes;

use super::headers::elements;
use crate::error::FailureKind;

/// On every answer of ours, and on nothing else that we send down by ourselves: tells ours from a backend's (C-40).
pub const X_PORTWAY_REASON: HeaderName = HeaderName::from_static("x-portway-reason");
/// The id under which the request stands in the access log.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When to come back after a 503: a queue is empty, or a backend back, in about that time; well-behaved clients add
/// their own jitter.
const RETRY_AFTER_SECS: u32 = 1;
/// After a start that failed twice: the next try will be later than that of a backend that is merely busy.
const RETRY_AFTER_FAILED_START_SECS: u32 = 10;
/// How often the waiting page asks again.
const PAGE_REFRESH_SECS: u32 = 2;
/// Media ranges of `Accept` that are looked at.
const MEDIA_RANGES_MAX: usize = 32;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A small page: for people, and for whoever did not say.
    Html,
    /// One object.
    Json,
    /// Status 200 with `grpc-status`: what a gRPC client understands (C-39).
    Grpc,
}

impl Format {
    /// What the sender of a request with these headers reads best.
    pub fn preferred(headers: &HeaderMap) -> Self {
        let is_grpc = |content_type: &HeaderValue| content_type.as_bytes().starts_with(b"application/grpc");
        if headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Format::Grpc;
        }
        let json = preference(headers, b"application", b"json");
        let is_wanted = json.0 > 0 && json > preference(headers, b"text", b"html");
        if is_wanted { Format::Json } else { Format::Html }
    }
}

/// Whether `Accept` names pages, and nothing that it wants more: what a browser sends when somebody follows a link.
pub fn wants_page(headers: &HeaderMap) -> bool {
    const BY_NAME: u8 = 3;
    let html = preference(headers, b"text", b"html");
    html.0 > 0 && html.1 == BY_NAME && html >= preference(headers, b"application", b"json")
}

/// How much `Accept` wants a media type: its weight, then how precisely it is named (RFC 9110 §12.5.1).
fn preference(headers: &HeaderMap, main: &[u8], sub: &[u8]) -> (u16, u8) {
    let mut best = (0, 0);
    for range in elements(headers, &ACCEPT).take(MEDIA_RANGES_MAX) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let media = parts.next().unwrap_or_default();
        let Some(slash) = media.iter().position(|byte| *byte == b'/') else { continue };
        let (range_main, range_sub) = (&media[..slash], &media[slash + 1..]);
        let precision = match (range_main, range_sub) {
            (b"*", b"*") => 1,
            (_, b"*") if range_main.eq_ignore_ascii_case(main) => 2,
            _ if range_main.eq_ignore_ascii_case(main) && range_sub.eq_ignore_ascii_case(sub) => 3,
            _ => continue,
        };
        // The most precise range counts, whatever the others weigh.
        if precision > best.1 {
            best = (parts.find_map(weight).unwrap_or(1000), precision);
        }
    }
    best
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> Option<u16> {
    let parameter = std::str::from_utf8(parameter).ok()?;
    let digits = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let weight: f32 = digits.parse().unwrap_or(0.0);
    // A cast from float saturates, and makes 0 of NaN.
    Some((weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// One answer of ours.
#[derive(Clone, Debug)]
pub struct LocalReply<'a> {
    /// What happened: the status and the sentence.
    pub kind: FailureKind,
    /// Why that is the end of it, if there is more to say: the reason word instead of `kind`'s.
    pub because: Option<FailureKind>,
    /// How it is written.
    pub format: Format,
    /// The id in the access log.
    pub request_id: &'a str,
    /// The name of the service, once a route has told it.
    pub service: Option<&'a str>,
}

impl LocalReply<'_> {
    /// The answer for the HTTP engine to send.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status();
        *response.headers_mut() = self.headers();
        if closes_connection(self.kind) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The answer as it goes over the wire, for a connection whose engine must not see the request. The connection ends
    /// with it.
    pub fn raw_bytes(&self, now: SystemTime) -> Bytes {
        let body = self.body();
        let mut headers = self.headers();
        let date = httpdate::fmt_http_date(now);
        headers.insert(DATE, HeaderValue::from_str(&date).expect("a date is visible ASCII"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let mut reply = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                reply.extend_from_slice(part);
            }
        }
        reply.extend_from_slice(b"\r\n");
        reply.extend_from_slice(body.as_bytes());
        reply.into()
    }

    fn status(&self) -> StatusCode {
        if self.format == Format::Grpc { StatusCode::OK } else { self.kind.status() }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        let content_type = match self.format {
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
            Format::Grpc => "application/grpc",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_PORTWAY_REASON, HeaderValue::from_static(self.reason()));
        if let Ok(request_id) = HeaderValue::from_str(self.request_id) {
            headers.insert(X_REQUEST_ID, request_id);
        }
        if self.kind.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_secs(self.kind)));
        }
        if self.kind == FailureKind::MethodNotAllowed {
            // RFC 9110 §15.5.6: 405 comes with the methods that are allowed.
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if self.format == Format::Grpc {
            headers.insert("grpc-status", HeaderValue::from(grpc_status(self.kind)));
            let message = HeaderValue::from_str(&grpc_message(&self.message()));
            headers.insert("grpc-message", message.expect("percent-encoded to visible ASCII"));
        }
        headers
    }

    fn reason(&self) -> &'static str {
        self.because.unwrap_or(self.kind).reason()
    }

    fn body(&self) -> String {
        match self.format {
            Format::Html => self.html(),
            Format::Json => self.json(),
            Format::Grpc => String::new(),
        }
    }

    fn json(&self) -> String {
        let status = self.kind.status_code();
        let (reason, message) = (self.reason(), self.message());
        let object = serde_json::json!({ "status": status, "reason": reason, "message": message, "request_id": self.request_id });
        format!("{object}\n")
    }

    fn html(&self) -> String {
        let title = match self.kind {
            FailureKind::Starting => "Just a moment".to_owned(),
            kind => format!("{} {}", kind.status_code(), title(kind.status())),
        };
        let refresh = match self.kind {
            FailureKind::Starting => format!("<meta http-equiv=\"refresh\" content=\"{PAGE_REFRESH_SECS}\">\n"),
            _ => String::new(),
        };
        let (message, request_id) = (escape_html(&self.message()), escape_html(self.request_id));
        let reason = self.reason();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n{refresh}<title>{title}</title>\n<style>{STYLE}</style>\n\
             <main>\n<h1>{title}</h1>\n<p>{message}</p>\n\
             <p class=\"fine\">reason <code>{reason}</code> · request <code>{request_id}</code></p>\n</main>\n</html>\n"
        )
    }

    /// What happened, in a sentence for whoever asked.
    fn message(&self) -> Cow<'static, str> {
        use FailureKind as K;
        let service = || self.service.map_or_else(|| "the service".to_owned(), |name| format!("service `{name}`"));
        let sentence = match self.kind {
            K::BadRequest => "The request is malformed or ambiguous and was not forwarded.",
            K::NoRoute => "No service takes this host and path.",
            K::MethodNotAllowed => "This method is not forwarded.",
            K::RequestTimeout => "The request took too long to arrive.",
            K::BodyTooLarge => "The body of the request is too large.",
            K::UriTooLong => "The address in the request is too long.",
            K::ExpectationFailed => "The only expectation that can be met is 100-continue.",
            K::HeadersTooLarge => "The header fields of the request are too many or too large.",
            K::ClientClosed => "The client went away.",
            K::UnknownTransferCoding => "The only transfer coding that is understood is chunked.",
            K::UnknownMethod => "This method is not known.",
            K::UnsupportedVersion => "The versions that are understood are HTTP/1.1 and HTTP/1.0.",
            K::LoopDetected => "The request has come round to where it was before.",
            K::Overloaded => "There is too much to do right now. Please try again in a moment.",
            K::Draining => "This instance is shutting down. Please try again.",
            K::Internal => "Something went wrong on our side.",
            K::RetryBudgetExhausted | K::NoHealthyBackend => {
                return format!("No backend of {} is ready.", service()).into();
            }
            K::Starting => return format!("{} is starting. This page asks again by itself.", upper(&service())).into(),
            K::ColdStartTimeout => return format!("{} is still starting. Please try again.", upper(&service())).into(),
            K::ColdStartFailed => return format!("{} could not be started.", upper(&service())).into(),
            K::HoldFull => {
                return format!("{} is starting, and too many wait for it. Please try again.", upper(&service()))
                    .into();
            }
            K::ServiceRemoved => return format!("{} is not there any more.", upper(&service())).into(),
            K::Deadline => return format!("The time for this request to {} has run out.", service()).into(),
            K::QueueFull | K::QueueTimeout => {
                return format!("All backends of {} are busy. Please try again in a moment.", service()).into();
            }
            K::ConnectRefused | K::ConnectTimeout => {
                return format!("A backend of {} could not be reached.", service()).into();
            }
            K::StaleConnection | K::UpstreamReset => {
                return format!("A backend of {} broke off before it had answered.", service()).into();
            }
            K::UpstreamProtocol => {
                return format!("A backend of {} gave an answer that is not valid HTTP.", service()).into();
            }
            K::ResponseTimeout => return format!("A backend of {} did not answer in time.", service()).into(),
        };
        sentence.into()
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;min-height:100vh;place-items:center;\
    color-scheme:light dark}main{padding:2rem;max-width:36rem}h1{font-size:1.4rem}.fine{font-size:.85rem;opacity:.7}";

/// Whether the connection ends with an answer of this kind: what follows on it could not be told from the rest of the
/// request, or must not come at all.
pub fn closes_connection(kind: FailureKind) -> bool {
    use FailureKind as K;
    match kind {
        K::BadRequest
        | K::MethodNotAllowed
        | K::RequestTimeout
        | K::BodyTooLarge
        | K::UriTooLong
        | K::HeadersTooLarge
        | K::ClientClosed
        | K::UnknownTransferCoding
        | K::UnknownMethod
        | K::UnsupportedVersion
        | K::Overloaded
        | K::Draining => true,
        K::NoRoute
        | K::ExpectationFailed
        | K::LoopDetected
        | K::NoHealthyBackend
        | K::Starting
        | K::ColdStartFailed
        | K::ColdStartTimeout
        | K::ServiceRemoved
        | K::RetryBudgetExhausted
        | K::Deadline
        | K::QueueFull
        | K::QueueTimeout
        | K::HoldFull
        | K::ConnectRefused
        | K::ConnectTimeout
        | K::StaleConnection
        | K::UpstreamReset
        | K::UpstreamProtocol
        | K::ResponseTimeout
        | K::Internal => false,
    }
}

fn retry_after_secs(kind: FailureKind) -> u32 {
    match kind {
        FailureKind::Starting => PAGE_REFRESH_SECS,
        FailureKind::ColdStartFailed => RETRY_AFTER_FAILED_START_SECS,
        _ => RETRY_AFTER_SECS,
    }
}

/// As a sentence begins.
fn upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(char::to_uppercase).into_iter().flatten().chain(chars).collect()
}

/// The reason phrase as a sentence begins: `Service unavailable`, `URI too long`.
fn title(status: StatusCode) -> String {
    let mut title = String::new();
    for word in status.canonical_reason().unwrap_or_default().split(' ') {
        let is_abbreviation = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        match title.is_empty() {
            true => title.push_str(word),
            false if is_abbreviation => title.extend([" ", word]),
            false => title.extend([" ", &word.to_ascii_lowercase()]),
        }
    }
    title
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char if char.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            char => escaped.push(char),
        }
    }
    escaped
}

/// The numbers of gRPC's own table, by the status that the same failure has in HTTP.
fn grpc_status(kind: FailureKind) -> u32 {
    const UNKNOWN: u32 = 2;
    const DEADLINE_EXCEEDED: u32 = 4;
    const RESOURCE_EXHAUSTED: u32 = 8;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    const UNAVAILABLE: u32 = 14;
    match kind.status_code() {
        400 | 500 => INTERNAL,
        404 | 405 | 501 | 505 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        502 | 503 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// gRPC's percent-encoding: everything but visible ASCII and spaces, and `%` itself.
fn grpc_message(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes what is written to it"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: FailureKind, format: Format) -> LocalReply<'static> {
        LocalReply { kind, because: None, format, request_id: "4bf92f35", service: Some("orders") }
    }

    fn text(response: Response<Bytes>) -> String {
        String::from_utf8(response.into_body().to_vec()).expect("UTF-8")
    }

    #[test]
    fn json_says_status_reason_message_and_id() {
        let response = reply(FailureKind::NoHealthyBackend, Format::Json).response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let expected = [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("x-portway-reason", "no_healthy_backend"),
            ("x-request-id", "4bf92f35"),
            ("retry-after", "1"),
        ];
        for (name, value) in expected {
            assert_eq!(response.headers()[name], value);
        }
        assert_eq!(response.headers().len(), expected.len());
        let object: serde_json::Value = serde_json::from_str(&text(response)).expect("JSON");
        let message = "No backend of service `orders` is ready.";
        assert_eq!(
            object,
            serde_json::json!({ "status": 503, "reason": "no_healthy_backend", "message": message, "request_id": "4bf92f35" })
        );
    }

    #[test]
    fn the_page_says_the_same_to_people() {
        let page = text(reply(FailureKind::NoHealthyBackend, Format::Html).response());
        for part in [
            "<h1>503 Service unavailable</h1>",
            "No backend of service `orders` is ready.",
            "no_healthy_backend",
            "4bf92f35",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(page.len() < 1024, "{}", page.len());
        assert_eq!(title(FailureKind::UriTooLong.status()), "URI too long");
    }

    #[test]
    fn the_waiting_page_asks_again_by_itself_and_nothing_keeps_it() {
        let response = reply(FailureKind::Starting, Format::Html).response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (&response.headers()["retry-after"], &response.headers()["cache-control"]),
            (&"2".parse().unwrap(), &"no-store".parse().unwrap())
        );
        let page = text(response);
        for part in
            ["<meta http-equiv=\"refresh\" content=\"2\">", "<h1>Just a moment</h1>", "Service `orders` is starting."]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("http://") && !page.contains("https://") && page.len() < 1024, "{page}");
        assert!(!text(reply(FailureKind::ColdStartFailed, Format::Html).response()).contains("refresh"));
    }

    #[test]
    fn pages_are_for_whom_names_them() {
        for (accept, wants) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("", false),
            ("*/*", false),
            ("text/*", false),
            ("application/json, text/html;q=0.5", false),
            ("text/html;q=0, */*", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_page(&headers), wants, "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }

    /// S-51.
    #[test]
    fn what_came_from_outside_is_escaped() {
        let evil = "<script>\"'&\r\nx: y\0";
        let service = Some(evil);
        let reply = |format| LocalReply { request_id: evil, service, ..reply(FailureKind::Deadline, format) };
        let page = text(reply(Format::Html).response());
        assert!(!page.contains("<script>") && !page.contains('\r') && !page.contains('\0'), "{page}");
        let object: serde_json::Value = serde_json::from_str(&text(reply(Format::Json).response())).expect("JSON");
        assert_eq!(object["request_id"], evil);
        for format in [Format::Html, Format::Json, Format::Grpc] {
            let response = reply(format).response();
            assert!(!response.headers().contains_key(X_REQUEST_ID), "an id that fits no header stays out");
            let raw = reply(format).raw_bytes(SystemTime::UNIX_EPOCH);
            let head = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
            assert!(!raw[..head].windows(6).any(|six| six == b"\r\nx: y"), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn the_raw_reply_is_complete_and_ends_the_connection() {
        let raw = reply(FailureKind::RequestTimeout, Format::Html).raw_bytes(SystemTime::UNIX_EPOCH);
        let raw = String::from_utf8(raw.to_vec()).expect("UTF-8");
        let (head, body) = raw.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        let length = format!("content-length: {}", body.len());
        for field in
            ["connection: close", "date: Thu, 01 Jan 1970 00:00:00 GMT", "x-portway-reason: request_timeout", &length]
        {
            assert!(head.lines().any(|line| line == field), "{field} in {head}");
        }
    }

    #[test]
    fn every_kind_has_an_answer_in_every_format() {
        for kind in FailureKind::all() {
            for format in [Format::Html, Format::Json, Format::Grpc] {
                for service in [None, Some("orders")] {
                    let response = LocalReply { service, ..reply(kind, format) }.response();
                    assert_eq!(response.headers()[X_PORTWAY_REASON], kind.reason());
                    assert_eq!(response.headers().contains_key(CONNECTION), closes_connection(kind));
                }
            }
        }
        assert!(reply(FailureKind::MethodNotAllowed, Format::Html).response().headers().contains_key(ALLOW));
    }

    #[test]
    fn a_spent_budget_keeps_the_status_of_the_last_attempt() {
        let kind = FailureKind::ConnectTimeout;
        let because = Some(FailureKind::RetryBudgetExhausted);
        let response = LocalReply { because, ..reply(kind, Format::Json) }.response();
        assert_eq!(response.status(), kind.status());
        assert_eq!(response.headers()[X_PORTWAY_REASON], "retry_budget_exhausted");
        let object: serde_json::Value = serde_json::from_str(&text(response)).expect("JSON");
        assert_eq!((object["reason"].as_str(), object["status"].as_u64()), (Some("retry_budget_exhausted"), Some(504)));
    }

    #[test]
    fn json_goes_to_whom_prefers_it() {
        let cases = [
            ("", Format::Html),
            ("*/*", Format::Html),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
            ("application/json", Format::Json),
            ("application/json, text/plain, */*", Format::Json),
            ("Application/JSON;q=0.9, text/html;q=0.8", Format::Json),
            ("application/json;q=0.5, text/html", Format::Html),
            ("application/json, text/html", Format::Html),
            ("application/*", Format::Json),
            ("*/*, application/json;q=0.1", Format::Html),
            ("text/html;q=0, */*;q=0.1", Format::Json),
            ("application/json;q=nonsense", Format::Html),
            ("application/json;q=NaN, ;;,/", Format::Html),
        ];
        for (accept, format) in cases {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Format::preferred(&headers), format, "{accept}");
        }
        assert_eq!(Format::preferred(&HeaderMap::new()), Format::Html);
    }

    /// C-39.
    #[test]
    fn a_grpc_client_gets_its_own_status() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))]);
        assert_eq!(Format::preferred(&headers), Format::Grpc);
        let cases = [
            (FailureKind::NoHealthyBackend, 14),
            (FailureKind::ConnectRefused, 14),
            (FailureKind::Deadline, 4),
            (FailureKind::BodyTooLarge, 8),
        ];
        for (kind, number) in cases {
            let response = reply(kind, Format::Grpc).response();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["grpc-status"], number.to_string());
            assert!(response.body().is_empty());
        }
        assert_eq!(grpc_message("50 % ä\n"), "50 %25 %C3%A4%0A");
    }
}
