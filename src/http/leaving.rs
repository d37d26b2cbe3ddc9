//! How a backend says that it is on its way out: `503` with `Connection: close` and `x-portway-drain`.
//! Promises to take only all three together for it, since each alone is an ordinary answer. It acts on nothing.

use ::http::header::{CONNECTION, HeaderMap, HeaderName};
use ::http::{HeaderValue, StatusCode};

/// The field; its value does not matter.
pub const DRAIN: HeaderName = HeaderName::from_static("x-portway-drain");

/// Whether this answer means: not processed, and do not come back for a while.
pub fn is_leaving(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(DRAIN) && says_close(headers)
}

fn says_close(headers: &HeaderMap) -> bool {
    let words = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    headers.get_all(CONNECTION).iter().any(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        is_leaving(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_all_three_together_mean_it() {
        let (drain, close) = (("x-portway-drain", "true"), ("connection", "close"));
        assert!(check(503, &[drain, close]));
        assert!(check(503, &[("x-portway-drain", ""), ("connection", "x-portway-drain, Close")]));
        assert!(!check(500, &[drain, close]));
        assert!(!check(503, &[close]));
        assert!(!check(503, &[drain]));
        assert!(!check(503, &[drain, ("connection", "keep-alive")]));
    }
}
