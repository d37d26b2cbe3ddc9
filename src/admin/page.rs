//! The dashboard: one page without anything from elsewhere, since admins sit behind firewalls.
//! Promises that it holds no data itself and that the browser lets it talk to its own origin only.
//! What it shows, it fetches from `/api/v1/status`.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};

use super::api::{Answer, body_of};

const PAGE: &str = include_str!("page.html");
/// Script and style stand in the page; nothing else is loaded, framed or sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn answer() -> Answer {
    let mut answer = body_of(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_inserts_no_markup() {
        for forbidden in ["http://", "https://", "src=", "@import", "innerHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }
}
