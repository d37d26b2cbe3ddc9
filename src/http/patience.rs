//! How long somebody says that there is to wait: `x-portway-timeout-ms` on the way up, `Retry-After` on the way down.
//! It promises that a value which cannot be read is none. It decides neither whom to believe nor what follows.

use std::time::{Duration, SystemTime};

use ::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

/// Milliseconds that are left for a request when it is sent: its whole deadline, handed on from hop to hop.
pub const X_PORTWAY_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-portway-timeout-ms");

/// Longer digits are no time that anybody waits for.
const DIGITS_MAX: usize = 15;

/// What `x-portway-timeout-ms` says.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get(X_PORTWAY_TIMEOUT_MS).and_then(|value| digits(value.as_bytes())).map(Duration::from_millis)
}

/// `x-portway-timeout-ms` for a request that has `left`.
pub fn timeout_value(left: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

/// What `Retry-After` says: seconds, or a date. RFC 9110 §10.2.3.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Some(secs) = digits(value.as_bytes()) {
        return Some(Duration::from_secs(secs));
    }
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn digits(value: &[u8]) -> Option<u64> {
    let is_number = (1..=DIGITS_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_timeout_is_whole_milliseconds() {
        for (value, timeout_ms) in [("250", Some(250)), ("0", Some(0)), ("007", Some(7))] {
            assert_eq!(timeout(&headers(X_PORTWAY_TIMEOUT_MS, value)), timeout_ms.map(Duration::from_millis));
        }
        for value in ["", "-1", "+1", "1.5", "1s", " 1", "9999999999999999999999", "x"] {
            assert_eq!(timeout(&headers(X_PORTWAY_TIMEOUT_MS, value)), None, "{value}");
        }
        assert_eq!(timeout_value(Duration::from_micros(1_999)), "1");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        for (value, secs) in [
            ("5", Some(5)),
            ("Thu, 01 Jan 1970 00:01:30 GMT", Some(30)),
            ("Thu, 01 Jan 1970 00:00:30 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(&headers(RETRY_AFTER, value), now), secs.map(Duration::from_secs), "{value}");
        }
    }
}
