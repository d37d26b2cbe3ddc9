//! The request that a person describes on the command line, as a server would read it.
//! Promises a message that says what to write instead. It judges nothing that a server judges.

use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

/// Reads method, URL and `NAME: VALUE` fields. The URL's host becomes `Host` unless a field gives another.
pub(super) fn parts(method: &str, url: &str, fields: &[String]) -> Result<Parts, String> {
    let uri = target(url)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method_of(method)?;
    for field in fields {
        let (name, value) = field_of(field)?;
        parts.headers.append(name, value);
    }
    if let Some(authority) = uri.authority()
        && !parts.headers.contains_key(HOST)
    {
        let host = HeaderValue::from_str(authority.as_str());
        parts.headers.insert(HOST, host.map_err(|_| format!("error: {url:?} has no host that a header can carry"))?);
    }
    if !parts.headers.contains_key(HOST) {
        // The only requests without a host are those of HTTP/1.0.
        parts.version = Version::HTTP_10;
    }
    parts.uri = match uri.path_and_query() {
        Some(path_and_query) if path_and_query.as_str().starts_with('/') => path_and_query.clone().into(),
        Some(query) => format!("/{}", query.as_str()).parse().map_err(|_| bad_url(url))?,
        None => Uri::from_static("/"),
    };
    Ok(parts)
}

fn method_of(text: &str) -> Result<Method, String> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| format!("error: {text:?} is no method: write GET, POST, …"))?;
    let upper = text.to_ascii_uppercase();
    let is_known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"].contains(&&*upper);
    match text == upper || !is_known {
        true => Ok(method),
        false => Err(format!("error: methods are case-sensitive: write {upper} instead of {text}")),
    }
}

/// An absolute URL; a scheme that was left out is http, a path alone has no host.
fn target(url: &str) -> Result<Uri, String> {
    // A browser keeps the fragment to itself. RFC 3986 §3.5.
    let sent = url.split('#').next().unwrap_or_default();
    if sent.is_empty() {
        return Err(bad_url(url));
    }
    let absolute = match sent.starts_with('/') || sent == "*" || sent.contains("://") {
        true => sent.to_owned(),
        false => format!("http://{sent}"),
    };
    let uri: Uri = absolute.parse().map_err(|_| bad_url(url))?;
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(uri),
        Some(scheme) => Err(format!("error: {scheme}:// is not spoken here: write http://HOST/PATH")),
    }
}

fn bad_url(url: &str) -> String {
    format!("error: {url:?} is no URL: write http://HOST/PATH, or /PATH for a request without a host")
}

fn field_of(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("error: {text:?} is no header field: write -H 'NAME: VALUE'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_host_and_target() {
        for (url, host, target) in [
            ("http://a.example/x?y=1#z", Some("a.example"), "/x?y=1"),
            ("https://a.example:8443", Some("a.example:8443"), "/"),
            ("a.example/x", Some("a.example"), "/x"),
            ("http://a.example?q", Some("a.example"), "/?q"),
            ("/x", None, "/x"),
        ] {
            let parts = parts("GET", url, &[]).unwrap();
            let sent = parts.headers.get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!((sent, parts.uri.to_string().as_str()), (host, target), "{url}");
        }
    }

    #[test]
    fn a_host_field_wins_over_the_url() {
        let parts = parts("GET", "http://127.0.0.1/", &["Host: shop.example.com".to_owned()]).unwrap();
        assert_eq!(parts.headers.get_all(HOST).iter().collect::<Vec<_>>(), ["shop.example.com"]);
    }

    #[test]
    fn what_is_no_request_says_what_to_write() {
        for (method, url, field, words) in [
            ("get", "/", "a: b", "write GET instead of get"),
            ("G T", "/", "a: b", "is no method"),
            ("GET", "", "a: b", "is no URL"),
            ("GET", "http://a b/", "a: b", "is no URL"),
            ("GET", "ftp://a/", "a: b", "ftp:// is not spoken"),
            ("GET", "/", "nothing", "is no header field"),
            ("GET", "/", "a b: c", "is no header field"),
        ] {
            let message = parts(method, url, &[field.to_owned()]).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
