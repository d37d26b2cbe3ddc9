//! Says how a message goes on: how a request's body is framed for a backend, and what a response may carry down.
//! Promises one length or one coding, never both and never by accident (C-16, C-18, H9).
//! It neither reads nor writes a body.

use ::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use ::http::{Method, StatusCode};

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// No length and no coding: there is none. RFC 9112 §6.3 item 7.
    None,
    /// So many bytes, 0 included where the client said so.
    Known(u64),
    /// To the last chunk.
    Chunked,
}

impl RequestBody {
    /// What the head of a request announces. The head guard has seen to it that it announces one thing at most.
    pub fn of(headers: &HeaderMap) -> Self {
        if let Some(length) = headers.get(CONTENT_LENGTH) {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            return length.map_or(RequestBody::Chunked, RequestBody::Known);
        }
        if headers.contains_key(TRANSFER_ENCODING) { RequestBody::Chunked } else { RequestBody::None }
    }
}

/// Frames the outbound request, whatever its method.
///
/// A body goes up as this field says, that of a GET as well (H9: nobody guesses by the method). A chunked body that
/// was buffered whole may go on as [`RequestBody::Known`].
pub fn frame_request(headers: &mut HeaderMap, body: RequestBody) {
    match body {
        RequestBody::None => {
            headers.remove(CONTENT_LENGTH);
            headers.remove(TRANSFER_ENCODING);
        }
        RequestBody::Known(n_bytes) => {
            headers.remove(TRANSFER_ENCODING);
            if RequestBody::of(headers) != body {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(n_bytes));
            }
        }
        RequestBody::Chunked => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Whether content follows a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// As the head says.
    Allowed,
    /// None, whatever the head or the backend says: what comes nevertheless is not part of the response.
    Forbidden,
}

/// Takes out of a cleaned response what its status forbids, and says whether content may follow. C-16, C-18.
pub fn frame_response(method: &Method, status: StatusCode, headers: &mut HeaderMap) -> ResponseBody {
    match status {
        // RFC 9110 §8.6: no Content-Length in 1xx and 204.
        _ if status.is_informational() || status == StatusCode::NO_CONTENT => {
            headers.remove(CONTENT_LENGTH);
            ResponseBody::Forbidden
        }
        // RFC 9110 §15.3.6: 205 has no content, and says so.
        StatusCode::RESET_CONTENT => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            ResponseBody::Forbidden
        }
        // The length is that of the answer to a GET: RFC 9110 §8.6.
        StatusCode::NOT_MODIFIED => ResponseBody::Forbidden,
        _ if method == Method::HEAD => ResponseBody::Forbidden,
        _ => ResponseBody::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    /// S-05: nothing here looks at the method.
    #[test]
    fn a_chunked_request_stays_chunked() {
        let mut outbound = headers(&[("x", "y")]);
        let body = RequestBody::of(&headers(&[("transfer-encoding", "chunked")]));
        frame_request(&mut outbound, body);
        assert_eq!(outbound, headers(&[("x", "y"), ("transfer-encoding", "chunked")]));
    }

    #[test]
    fn a_request_is_framed_in_one_way_only() {
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        let cases = [
            (RequestBody::None, vec![]),
            (RequestBody::Known(5), vec![("content-length", "5")]),
            (RequestBody::Known(6), vec![("content-length", "6")]),
            (RequestBody::Known(0), vec![("content-length", "0")]),
            (RequestBody::Chunked, vec![("transfer-encoding", "chunked")]),
        ];
        for (body, expected) in cases {
            let mut outbound = headers(&both);
            frame_request(&mut outbound, body);
            assert_eq!(outbound, headers(&expected), "{body:?}");
        }
        assert_eq!(RequestBody::of(&headers(&[("content-length", "0")])), RequestBody::Known(0));
        assert_eq!(RequestBody::of(&HeaderMap::new()), RequestBody::None);
    }

    /// C-16, C-18.
    #[test]
    fn a_status_that_has_no_content_gets_none() {
        let cases = [
            (Method::GET, 200, Some("5"), ResponseBody::Allowed),
            (Method::HEAD, 200, Some("5"), ResponseBody::Forbidden),
            (Method::GET, 304, Some("5"), ResponseBody::Forbidden),
            (Method::GET, 204, None, ResponseBody::Forbidden),
            (Method::GET, 103, None, ResponseBody::Forbidden),
            (Method::POST, 205, Some("0"), ResponseBody::Forbidden),
        ];
        for (method, status, length, body) in cases {
            let mut response = headers(&[("content-length", "5")]);
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(frame_response(&method, status, &mut response), body, "{status}");
            assert_eq!(response.get(CONTENT_LENGTH).map(|length| length.to_str().expect("ascii")), length, "{status}");
        }
    }
}
