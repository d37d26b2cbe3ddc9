//! Makes the response head that goes down out of the one that a backend sent.
//! It promises one unambiguous framing, or a 502. It does not look at bodies.

use http::header::TRAILER;
use http::response::Parts;
use http::{Method, Version};

use crate::error::FailureKind;
use crate::http::framing::{self, ResponseBody};
use crate::http::headers::{self, Cleaned};
use crate::http::upgrade::Upgrade;

/// Cleans the head of an ordinary response to a request of `method`; says whether content may follow it, and what its
/// trailers must not bring back.
pub(crate) fn clean(head: &mut Parts, method: &Method) -> Result<(ResponseBody, Cleaned), FailureKind> {
    let cleaned = headers::clean_response(&mut head.headers)?;
    head.version = Version::HTTP_11;
    Ok((framing::frame_response(method, head.status, &mut head.headers), cleaned))
}

/// Cleans a 101, if it answers what was asked.
pub(crate) fn clean_upgrade(head: &mut Parts, asked: Upgrade) -> Result<(), FailureKind> {
    asked.check(head.status, &head.headers)?;
    headers::clean_response(&mut head.headers)?;
    head.headers.remove(TRAILER);
    asked.reissue(&mut head.headers);
    head.version = Version::HTTP_11;
    Ok(())
}
