//! Writes the head of a request for a backend.
//! Promises the target in the form that was set, each field on a line of its own, and nothing that is not in the head.
//! It cleans nothing and frames nothing: `headers` and `framing` did.

use std::io::Write as _;

use ::http::{HeaderMap, Method, Uri};

/// Appends `METHOD target HTTP/1.1`. RFC 9112 §3.
pub fn write_line(method: &Method, target: &Uri, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    match (target.authority(), target.path_and_query()) {
        (None, Some(target)) => out.extend_from_slice(target.as_str().as_bytes()),
        _ => write!(out, "{target}").expect("a Vec takes everything"),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends the fields, a line each. RFC 9112 §5.
///
/// [`HeaderMap`] holds no name and no value with a line break, so that nothing in it can end the head early.
pub fn write_fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        out.reserve(name.len() + value.len() + 4);
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    fn written(method: Method, target: &str, fields: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        write_line(&method, &target.parse().expect("a target"), &mut out);
        write_fields(&headers, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_head_is_a_line_for_the_target_and_one_for_each_field() {
        let head = written(Method::GET, "/a?b=1", &[("host", "x"), ("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(head, "GET /a?b=1 HTTP/1.1\r\nhost: x\r\ncookie: a=1\r\ncookie: b=2\r\n");
    }

    #[test]
    fn every_form_of_a_target_is_written_as_it_is() {
        assert_eq!(written(Method::OPTIONS, "*", &[]), "OPTIONS * HTTP/1.1\r\n");
        assert_eq!(written(Method::GET, "http://a/b?c", &[]), "GET http://a/b?c HTTP/1.1\r\n");
        assert_eq!(written(Method::GET, "http://a", &[]), "GET http://a/ HTTP/1.1\r\n");
    }
}
