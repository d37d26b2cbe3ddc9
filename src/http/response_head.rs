//! Reads the head of a response: status, fields, how its body is framed, and whether its connection can go on.
//! Promises one framing, that of RFC 9112 §6.3, or an error; what it says about a body is all that may be read of it.
//! It reads no body and cleans nothing.

use std::mem::MaybeUninit;

use ::http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use ::http::{Method, Response, StatusCode, Version};
use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// A head with its status line: as much as nginx takes with its largest usual buffers. Below 64 KiB, so that a place in
/// it fits two bytes.
pub const BYTES_MAX: usize = 64 * 1024 - 1;
/// Fields of a head.
pub const FIELDS_MAX: usize = 100;

/// What stands at the beginning of a buffer.
#[derive(Debug)]
pub enum Parsed {
    /// Not yet a whole head.
    Partial,
    /// A head that another one follows, with its length in bytes. RFC 9110 §15.2.
    Interim(StatusCode, usize),
    /// The head of the answer.
    Final(Head),
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status, version and fields, but for `Connection: keep-alive`.
    pub response: Response<()>,
    /// The words behind the status, if they are not the usual ones.
    pub reason: Option<Bytes>,
    /// How the body goes on.
    pub framing: Framing,
    /// Whether the connection may serve another request.
    pub persistence: Persistence,
}

/// How the body of a response is framed. RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none, whatever the fields say: items 1 and 2, and the answer to a HEAD.
    None,
    /// So many bytes: item 6.
    Length(u64),
    /// To the last chunk: item 4.
    Chunked,
    /// To the end of the connection: items 4 and 8.
    UntilClose,
    /// A 101: what follows is another protocol.
    Switched,
}

/// Whether a connection persists. RFC 9112 §9.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// This was the last one.
    Close,
}

/// Why bytes are no head.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Not HTTP/1.
    #[error("the response head is malformed: {0}")]
    Syntax(#[from] httparse::Error),
    /// A status that is no number from 100 to 999, or a field that is none.
    #[error("the response head has an invalid status or field")]
    Field,
    /// Longer than [`BYTES_MAX`].
    #[error("the response head is longer than {BYTES_MAX} bytes")]
    TooLarge,
    /// A length that is no number, or two that differ. S-04.
    #[error("the Content-Length of the response is invalid")]
    ContentLength,
    /// A coding in HTTP/1.0, which has none. RFC 9112 §6.1.
    #[error("the response is HTTP/1.0 and has a Transfer-Encoding")]
    TransferEncoding,
}

/// Room for so many fields at least: hyper's server puts the client's next request into the same map.
const FIELDS_USUAL: usize = 16;

/// Where a name and its value are: from, to, from, to.
type Span = [u16; 4];

/// Takes the head at the beginning of `buf` out of it, if it is all there. `method` is that of the request.
pub fn parse(buf: &mut BytesMut, method: &Method) -> Result<Parsed, Invalid> {
    let mut spans = [Span::default(); FIELDS_MAX];
    let Some(line) = parse_lines(buf, &mut spans)? else {
        return if buf.len() > BYTES_MAX { Err(Invalid::TooLarge) } else { Ok(Parsed::Partial) };
    };
    let bytes = buf.split_to(line.n_bytes).freeze();
    if line.status.is_informational() && line.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Parsed::Interim(line.status, line.n_bytes));
    }
    let mut reading = Reading::new(line.version);
    let mut headers = HeaderMap::with_capacity(line.n_fields.max(FIELDS_USUAL));
    for span in &spans[..line.n_fields] {
        let [name_from, name_to, from, to] = span.map(usize::from);
        let name = HeaderName::from_bytes(&bytes[name_from..name_to]).map_err(|_| Invalid::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(from..to)).map_err(|_| Invalid::Field)?;
        if reading.note(&name, &value)? == Onward::Yes {
            headers.try_append(name, value).map_err(|_| Invalid::TooLarge)?;
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = line.status;
    *response.version_mut() = line.version;
    *response.headers_mut() = headers;
    let framing = reading.framing(line.status, method)?;
    let reason = line.reason.map(|[from, to]| bytes.slice(usize::from(from)..usize::from(to)));
    Ok(Parsed::Final(Head { response, reason, framing, persistence: reading.persistence(framing) }))
}

/// The status line, and how much there is of the rest.
struct Line {
    n_bytes: usize,
    n_fields: usize,
    status: StatusCode,
    version: Version,
    reason: Option<[u16; 2]>,
}

/// Finds the lines of a head; `None` while it is not all there.
fn parse_lines(buf: &[u8], spans: &mut [Span; FIELDS_MAX]) -> Result<Option<Line>, Invalid> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1: a proxy removes the space before the colon of a response field.
    config.allow_spaces_after_header_name_in_responses(true);
    let n_bytes = match config.parse_response_with_uninit_headers(&mut parsed, buf, &mut fields)? {
        httparse::Status::Complete(n_bytes) if n_bytes <= BYTES_MAX => n_bytes,
        httparse::Status::Complete(_) => return Err(Invalid::TooLarge),
        httparse::Status::Partial => return Ok(None),
    };
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr() - buf.as_ptr().addr();
        [from, from + part.len()].map(|at| u16::try_from(at).unwrap_or(u16::MAX))
    };
    for (span, field) in spans.iter_mut().zip(parsed.headers.iter()) {
        let ([name_from, name_to], [from, to]) = (place(field.name.as_bytes()), place(field.value));
        *span = [name_from, name_to, from, to];
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Invalid::Field)?;
    let reason = parsed.reason.filter(|reason| !reason.is_empty() && Some(*reason) != status.canonical_reason());
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let n_fields = parsed.headers.len();
    Ok(Some(Line { n_bytes, n_fields, status, version, reason: reason.map(|reason| place(reason.as_bytes())) }))
}

/// What the fields say about the body and the connection.
struct Reading {
    version: Version,
    length: Option<u64>,
    coding: Option<Coding>,
    closes: bool,
    keeps_alive: bool,
}

/// Whether a field is for whoever the response goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl Reading {
    fn new(version: Version) -> Self {
        Self { version, length: None, coding: None, closes: false, keeps_alive: false }
    }

    /// Notes a field, and says whether it goes on.
    #[inline]
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<Onward, Invalid> {
        if *name == CONTENT_LENGTH {
            let length = content_length(value.as_bytes()).ok_or(Invalid::ContentLength)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(Invalid::ContentLength);
            }
        } else if *name == TRANSFER_ENCODING {
            let last = value.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            let is_chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.coding = Some(if is_chunked { Coding::Chunked } else { Coding::Other });
        } else if *name == CONNECTION {
            // Nearly every one there is. It names no other field, and is for nobody but us.
            if value == "keep-alive" {
                self.keeps_alive = true;
                return Ok(Onward::No);
            }
            for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.closes |= option.eq_ignore_ascii_case(b"close");
                self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(Onward::Yes)
    }

    fn framing(&self, status: StatusCode, method: &Method) -> Result<Framing, Invalid> {
        match status {
            StatusCode::SWITCHING_PROTOCOLS => return Ok(Framing::Switched),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => return Ok(Framing::None),
            _ if *method == Method::HEAD => return Ok(Framing::None),
            _ => {}
        }
        match (self.coding, self.length) {
            (Some(_), _) if self.version == Version::HTTP_10 => Err(Invalid::TransferEncoding),
            (Some(Coding::Chunked), _) => Ok(Framing::Chunked),
            (Some(Coding::Other), _) | (None, None) => Ok(Framing::UntilClose),
            (None, Some(length)) => Ok(Framing::Length(length)),
        }
    }

    fn persistence(&self, framing: Framing) -> Persistence {
        let persists = !self.closes && (self.version == Version::HTTP_11 || self.keeps_alive);
        match framing {
            Framing::UntilClose | Framing::Switched => Persistence::Close,
            _ if persists => Persistence::KeepAlive,
            _ => Persistence::Close,
        }
    }
}

/// One number, or the same several times: `5`, `5, 5`. RFC 9110 §8.6.
fn content_length(value: &[u8]) -> Option<u64> {
    let mut numbers = value.split(|byte| *byte == b',').map(|number| decimal(number.trim_ascii()));
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

/// Digits and nothing else. The largest two are not taken: they are no lengths of anything.
fn decimal(digits: &[u8]) -> Option<u64> {
    const LENGTH_MAX: u64 = u64::MAX - 2;
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|number| *number <= LENGTH_MAX)
}

#[cfg(test)]
mod tests;
