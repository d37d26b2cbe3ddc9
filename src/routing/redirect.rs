//! Where a redirect sends the client.
//! The result is fit for a `Location` field, and leads to another host only if the configuration says so, never because of a client's path.
//! It does not choose the status.

use crate::config::checked::Redirect;
use crate::routing::path;

/// What the placeholders of a location stand for.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a str,
    /// The request's authority, with its port where it has one.
    pub host: &'a str,
    /// As sent.
    pub path: &'a str,
    /// As sent, without `?`.
    pub query: Option<&'a str>,
}

/// The redirect's location with its placeholders filled in. Other braces stay as they are.
///
/// `{path}{query}` and `{path}?{query}` mean the same: the `?` or `&` that a query needs in front of it is added where the
/// template has none, and goes where the request has no query.
pub fn location(redirect: &Redirect, parts: &Parts<'_>) -> String {
    let mut location = String::with_capacity(redirect.location.len() + parts.host.len() + parts.path.len());
    let mut template = redirect.location.as_str();
    while let Some(brace) = memchr::memchr(b'{', template.as_bytes()) {
        let (text, rest) = template.split_at(brace);
        location.push_str(text);
        template = fill_in(&mut location, rest, parts);
    }
    location.push_str(template);
    if !redirect.location.starts_with("//") {
        keep_on_this_host(&mut location);
    }
    path::escaped(&location).into_owned()
}

/// Takes one placeholder, or else one brace, from the front of `template`; returns what follows.
fn fill_in<'t>(location: &mut String, template: &'t str, parts: &Parts<'_>) -> &'t str {
    let values = [("{scheme}", parts.scheme), ("{host}", parts.host), ("{path}", parts.path)];
    for (placeholder, value) in values {
        if let Some(rest) = template.strip_prefix(placeholder) {
            location.push_str(value);
            return rest;
        }
    }
    if let Some(rest) = template.strip_prefix("{query}") {
        match parts.query {
            Some(query) => {
                if !location.ends_with(['?', '&', '=']) {
                    location.push(if location.contains('?') { '&' } else { '?' });
                }
                location.push_str(query);
            }
            None if location.ends_with(['?', '&']) => _ = location.pop(),
            None => {}
        }
        return rest;
    }
    location.push('{');
    &template[1..]
}

/// `{path}` of `GET //evil.example` would send the client to that host; browsers read `\` as `/` here.
fn keep_on_this_host(location: &mut String) {
    if location.starts_with('/') {
        let path_at = location.len() - location.trim_start_matches(['/', '\\']).len();
        location.replace_range(..path_at, "/");
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn check(template: &str, path: &str, query: Option<&str>, expected: &str) {
        let redirect = Redirect { status: StatusCode::FOUND, location: template.to_owned() };
        let parts = Parts { scheme: "http", host: "shop.example.com:8080", path, query };
        let location = location(&redirect, &parts);
        assert_eq!(location, expected, "{template} for {path}");
        assert!(HeaderValue::from_str(&location).is_ok());
    }

    #[test]
    fn placeholders_stand_for_the_requests_own() {
        check("https://{host}{path}", "/a%20b", None, "https://shop.example.com:8080/a%20b");
        check("{scheme}://www.example.com{path}", "/a", Some("b=c"), "http://www.example.com/a");
        check("/login?next={path}", "/a", None, "/login?next=/a");
        check("https://example.com/", "/a", Some("b"), "https://example.com/");
    }

    #[test]
    fn an_absent_query_takes_its_question_mark_along() {
        check("https://{host}{path}?{query}", "/a", Some("b=c&d"), "https://shop.example.com:8080/a?b=c&d");
        check("https://{host}{path}?{query}", "/a", Some(""), "https://shop.example.com:8080/a?");
        check("https://{host}{path}?{query}", "/a", None, "https://shop.example.com:8080/a");
        check("/new?from=old&{query}", "/a", None, "/new?from=old");
        check("/new{query}", "/a", None, "/new");
    }

    #[test]
    fn a_query_gets_the_question_mark_that_it_needs() {
        check("https://{host}{path}{query}", "/a", Some("b=c"), "https://shop.example.com:8080/a?b=c");
        check("/new?from=old{query}", "/a", Some("b=c"), "/new?from=old&b=c");
        check("/login?next={query}", "/a", Some("b"), "/login?next=b");
    }

    #[test]
    fn other_braces_stay() {
        check("/a/{id}/{/{path", "/x", None, "/a/{id}/{/{path");
        check("/{{path}}", "/x", None, "/{/x}");
    }

    #[test]
    fn a_clients_path_never_chooses_the_host() {
        check("{path}", "//evil.example/x", None, "/evil.example/x");
        check("{path}", "/\\evil.example/x", None, "/evil.example/x");
        check("/{path}", "/evil.example", None, "/evil.example");
        check("{path}?{query}", "//evil.example", Some("//a"), "/evil.example?//a");
        check("//cdn.example.com{path}", "//x", None, "//cdn.example.com//x");
        check("https://{host}{path}", "//evil.example", None, "https://shop.example.com:8080//evil.example");
    }

    #[test]
    fn a_location_is_fit_for_a_header_field() {
        check("/caf\u{e9} {path}", "/na\u{ef}f\r\nset-cookie: x", None, "/caf%C3%A9%20/na%C3%AFf%0D%0Aset-cookie:%20x");
    }
}
