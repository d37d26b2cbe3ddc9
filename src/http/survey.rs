//! Which of the fields that matter to a gateway a request has: one pass over the names instead of a look-up for each.
//! Promises that a field which is not reported is not there, so that whoever would act on it can be left out.
//! It reads no values and changes nothing.

use std::ops::BitOr;

use ::http::HeaderMap;

use super::headers::is_suspect_identity;

/// Fields of a request, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey(u16);

impl Survey {
    /// `Content-Length` or `Transfer-Encoding`.
    pub const FRAMING: Survey = Survey(1);
    /// `Connection`, or a field that a message may only have for its next hop.
    pub const HOP_BY_HOP: Survey = Survey(1 << 1);
    /// `Upgrade`.
    pub const UPGRADE: Survey = Survey(1 << 2);
    /// `Expect`.
    pub const EXPECT: Survey = Survey(1 << 3);
    /// `Via`.
    pub const VIA: Survey = Survey(1 << 4);
    /// `Accept` or `Content-Type`: what a local reply is written for.
    pub const WISHES: Survey = Survey(1 << 5);
    /// `X-Request-Id`.
    pub const REQUEST_ID: Survey = Survey(1 << 6);
    /// `traceparent` or `tracestate`.
    pub const TRACEPARENT: Survey = Survey(1 << 7);
    /// A field that claims an identity, in whatever spelling.
    pub const IDENTITY: Survey = Survey(1 << 8);
    /// `x-portway-timeout-ms`.
    pub const TIMEOUT: Survey = Survey(1 << 9);
    /// One of the four forwarding fields that are ours to say.
    pub const FORWARDING: Survey = Survey(1 << 10);

    /// Looks at every name once.
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |found, name| found | Self::of_name(name.as_str()))
    }

    /// Whether any field of `wanted` is there.
    pub fn has(self, wanted: Survey) -> bool {
        self.0 & wanted.0 != 0
    }

    fn of_name(name: &str) -> Self {
        match name {
            "host" | "user-agent" | "accept-encoding" | "cookie" => Self::default(),
            "content-length" => Self::FRAMING,
            "transfer-encoding" => Self::FRAMING | Self::HOP_BY_HOP,
            "connection" | "te" | "keep-alive" | "proxy-connection" | "http2-settings" | "proxy" => Self::HOP_BY_HOP,
            "upgrade" => Self::UPGRADE | Self::HOP_BY_HOP,
            "expect" => Self::EXPECT,
            "via" => Self::VIA,
            "accept" | "content-type" => Self::WISHES,
            "x-request-id" => Self::REQUEST_ID,
            "traceparent" | "tracestate" => Self::TRACEPARENT,
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" => {
                Self::FORWARDING | Self::IDENTITY
            }
            // A stranger's is taken away like any claim.
            "x-portway-timeout-ms" => Self::TIMEOUT | Self::IDENTITY,
            other if is_suspect_identity(other) => Self::IDENTITY,
            _ => Self::default(),
        }
    }
}

impl BitOr for Survey {
    type Output = Survey;

    fn bitor(self, other: Survey) -> Survey {
        Survey(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::forwarded::Trust;
    use crate::http::headers::{HOP_BY_HOP, IDENTITY, clean_request};

    fn survey(names: &[&str]) -> Survey {
        let fields = names.iter().map(|name| (name.parse().unwrap(), ::http::HeaderValue::from_static("x")));
        Survey::of(&fields.collect())
    }

    #[test]
    fn an_ordinary_request_has_nothing_to_act_on() {
        assert_eq!(survey(&["host", "user-agent", "accept-encoding", "cookie", "referer"]), Survey::default());
    }

    #[test]
    fn every_field_that_cleaning_removes_is_reported() {
        for name in HOP_BY_HOP.into_iter().chain([::http::header::CONNECTION]) {
            assert!(survey(&[name.as_str()]).has(Survey::HOP_BY_HOP), "{name}");
        }
        for name in IDENTITY.into_iter().filter(|name| *name != "x-request-id") {
            assert!(survey(&[name]).has(Survey::IDENTITY), "{name}");
            assert!(survey(&[&name.replace('-', "_")]).has(Survey::IDENTITY), "{name}");
        }
    }

    #[test]
    fn a_request_without_a_reported_field_is_clean_already() {
        let names =
            ["accept", "x-custom", "forward", "x-api-key", "content-type", "range", "if-none-match", "x_custom"];
        for name in names {
            let mut headers: HeaderMap = [(name.parse().unwrap(), "v".parse().unwrap())].into_iter().collect();
            assert!(!survey(&[name]).has(Survey::HOP_BY_HOP | Survey::IDENTITY), "{name}");
            clean_request(&mut headers, Trust::Untrusted).unwrap();
            assert_eq!(headers.len(), 1, "{name}");
        }
    }
}
