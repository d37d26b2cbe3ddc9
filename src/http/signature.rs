//! What Portway says to a backend about a request: who asked, by which way, and which request it is.
//! Promises that nobody else's word stands beside it: what it says itself is taken out of the head before.
//! It is written into the head that goes out and never stood in a header map, which would cost more than all the rest of
//! the head.

use ::http::Version;
use ::http::header::{HeaderMap, HeaderName};

use super::forwarded::{PeerHeaders, Trust, Via};
use super::local_reply::X_REQUEST_ID;
use super::survey::Survey;
use crate::error::FailureKind;
use crate::telemetry::request_id::RequestId;
use crate::telemetry::trace::TraceContext;

/// `traceparent`: <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`: what vendors know of that trace.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What is said of one request.
#[derive(Clone, Copy)]
pub struct Signature<'a> {
    /// Who asked.
    pub peer: &'a PeerHeaders,
    /// That it came through us.
    pub via: &'a Via,
    /// As which it came to us.
    pub version: Version,
    /// Which it is.
    pub request_id: &'a RequestId,
    /// Of which trace it is part.
    pub trace: &'a TraceContext,
}

impl Signature<'_> {
    /// Takes out of cleaned `headers`, which have `fields`, what is ours to say.
    ///
    /// An error is [`FailureKind::LoopDetected`].
    pub fn settle(&self, headers: &mut HeaderMap, fields: Survey) -> Result<(), FailureKind> {
        if fields.has(Survey::FORWARDING) || self.peer.trust() == Trust::Trusted {
            self.peer.settle(headers);
        }
        if fields.has(Survey::VIA) {
            self.via.check_loop(headers)?;
        }
        if fields.has(Survey::REQUEST_ID) {
            headers.remove(X_REQUEST_ID);
        }
        if fields.has(Survey::TRACEPARENT) {
            let parent = headers.remove(TRACEPARENT);
            // What vendors know of a trace is of no use to another one. Trace Context §3.3.
            if !parent.is_some_and(|parent| self.trace.continues(parent.as_bytes())) {
                headers.remove(TRACESTATE);
            }
        }
        Ok(())
    }

    /// Appends its lines to a head with settled `headers`.
    pub fn write(&self, headers: &HeaderMap, out: &mut Vec<u8>) {
        debug_assert!(!headers.contains_key(X_REQUEST_ID) && !headers.contains_key(TRACEPARENT), "settled");
        self.peer.write(headers, out);
        self.via.write(self.version, out);
        line(&X_REQUEST_ID, self.request_id.as_bytes(), out);
        line(&TRACEPARENT, &self.trace.text(), out);
    }
}

fn line(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use ::http::header::VIA;

    use super::*;
    use crate::http::forwarded::{Ends, Scheme};

    /// What goes up of a head with `fields` from a stranger.
    fn signed(fields: &[(&'static str, &'static str)]) -> Result<String, FailureKind> {
        let mut headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let ends = Ends { peer: "192.0.2.7:4711".parse().ok(), local: None, scheme: Scheme::Http };
        let request_id = RequestId::accept(b"ours").unwrap();
        let trace = TraceContext::parse(b"00-00000000000000000000000000000001-0000000000000002-01").unwrap();
        let signature = Signature {
            peer: &PeerHeaders::new(&ends, &[]),
            via: &Via::new("portway-1"),
            version: Version::HTTP_11,
            request_id: &request_id,
            trace: &trace,
        };
        let survey = Survey::of(&headers);
        signature.settle(&mut headers, survey)?;
        let mut out = Vec::new();
        super::super::request_head::write_fields(&headers, &mut out);
        signature.write(&headers, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    /// C-27, C-29, S-15.
    #[test]
    fn what_we_say_stands_once_whatever_the_client_says() {
        let ours = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nvia: 1.1 portway-1\r\n\
                    x-request-id: ours\r\n\
                    traceparent: 00-00000000000000000000000000000001-0000000000000002-01\r\n";
        assert_eq!(signed(&[("host", "a")]).unwrap(), format!("host: a\r\n{ours}"));
        let theirs = [
            ("host", "a"),
            ("x-request-id", "theirs"),
            ("traceparent", "00-1-2-01"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("via", "1.1 other"),
        ];
        assert_eq!(signed(&theirs).unwrap(), format!("host: a\r\nvia: 1.1 other\r\n{ours}"));
    }

    /// Trace Context §3.3: it goes on only beside the parent that it came with.
    #[test]
    fn what_vendors_know_goes_on_with_its_own_trace_only() {
        let state = ("tracestate", "a=1");
        let kept = |fields: &[(&'static str, &'static str)]| signed(fields).unwrap().contains("tracestate: a=1");
        assert!(kept(&[("traceparent", "00-00000000000000000000000000000001-0000000000000009-01"), state]));
        assert!(!kept(&[("traceparent", "00-1-2-01"), state]));
        assert!(!kept(&[state]));
    }

    #[test]
    fn a_request_that_comes_round_again_is_noticed() {
        assert_eq!(signed(&[("host", "a"), (VIA.as_str(), "1.1 x, 1.1 Portway-1")]), Err(FailureKind::LoopDetected));
    }
}
