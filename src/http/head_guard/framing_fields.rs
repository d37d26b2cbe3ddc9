//! The fields that say where a request ends: `Content-Length` and `Transfer-Encoding`, and the `Host` that says whom it
//! is for.
//! Promises one reading or none: whatever two parsers could read differently is refused (RFC 9112 §6.3, §11.2).
//! It does not look at any other field.

use super::chars::{self, TOKEN, trim_ows};
use crate::error::FailureKind;

/// Longest value of a framing field that is looked at, leading white space not counted; longer ones are refused.
pub(super) const VALUE_BYTES_MAX: usize = 64;
/// Most digits of a `Content-Length`: those of `i64::MAX`, which no parser takes for something else.
const CONTENT_LENGTH_DIGITS_MAX: usize = 19;

/// How many bytes follow a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Whether a request may use what HTTP/1.1 brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MinorVersion {
    Zero,
    One,
}

/// A field name, as far as the end of the message depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldName {
    ContentLength,
    TransferEncoding,
    Host,
    Other,
}

/// What the fields read so far say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    content_length: Option<u64>,
    is_chunked: bool,
    has_host: bool,
}

impl FramingFields {
    /// Takes one field. `value` may have white space around it.
    pub(super) fn take(&mut self, name: FieldName, value: &[u8]) -> Result<(), FailureKind> {
        match name {
            FieldName::Other => Ok(()),
            FieldName::Host if self.has_host => Err(FailureKind::BadRequest),
            FieldName::Host => {
                self.has_host = true;
                Ok(())
            }
            // RFC 9112 §6.3 item 3: both together "ought to be handled as an error". A second field of the same name is
            // one as well, even an equal one: nobody honest sends it.
            _ if self.content_length.is_some() || self.is_chunked => Err(FailureKind::BadRequest),
            FieldName::ContentLength => {
                self.content_length = Some(content_length(trim_ows(value)).ok_or(FailureKind::BadRequest)?);
                Ok(())
            }
            FieldName::TransferEncoding => {
                require_chunked_alone(trim_ows(value))?;
                self.is_chunked = true;
                Ok(())
            }
        }
    }

    /// How the body of the message ends.
    pub(super) fn framing(&self, version: MinorVersion) -> Result<Framing, FailureKind> {
        match (self.is_chunked, version) {
            // RFC 9112 §6.1: a transfer coding in a message of 1.0 is faulty framing.
            (true, MinorVersion::Zero) => Err(FailureKind::BadRequest),
            (true, MinorVersion::One) => Ok(Framing::Chunked),
            (false, _) => Ok(Framing::Length(self.content_length.unwrap_or(0))),
        }
    }
}

/// The number of a `Content-Length`: digits and nothing else.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
        return None;
    }
    let mut length = 0_u64;
    for byte in value {
        // 19 digits are below 2^64, so nothing overflows here; the limit of i64 is checked at the end.
        length = length * 10 + u64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    i64::try_from(length).is_ok().then_some(length)
}

/// Requires exactly one coding, `chunked`.
///
/// A well-formed list that names another coding, with `chunked` at most once and last, gets 501 (RFC 9112 §6.1);
/// everything else is malformed.
fn require_chunked_alone(value: &[u8]) -> Result<(), FailureKind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut seen_chunked = false;
    for coding in value.split(|byte| *byte == b',') {
        let coding = trim_ows(coding);
        let is_token = !coding.is_empty() && coding.iter().all(|byte| chars::is(*byte, TOKEN));
        if seen_chunked || !is_token {
            return Err(FailureKind::BadRequest);
        }
        seen_chunked = coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(FailureKind::UnknownTransferCoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-04.
    #[test]
    fn a_content_length_is_digits_and_nothing_else() {
        let bad: [&[u8]; 15] = [
            b"",
            b"+5",
            b"-1",
            b"0x5",
            b"5_0",
            b"5, 5",
            b"5,6",
            b"5 5",
            b"5\0",
            b"5.0",
            b"\xa05",
            b"$9",
            b"10000000000000000000",
            b"9223372036854775808",
            b"99999999999999999999",
        ];
        for value in bad {
            assert_eq!(content_length(value), None, "{}", value.escape_ascii());
        }
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"007"), Some(7));
        assert_eq!(content_length(b"9223372036854775807"), Some(i64::MAX as u64));
    }

    /// S-02.
    #[test]
    fn the_only_transfer_coding_is_chunked() {
        use FailureKind::{BadRequest, UnknownTransferCoding};
        let cases: [(&[u8], FailureKind); 15] = [
            (b"gzip, chunked", UnknownTransferCoding),
            (b"gzip", UnknownTransferCoding),
            (b"identity", UnknownTransferCoding),
            (b"xchunked", UnknownTransferCoding),
            (b"chunked, chunked", BadRequest),
            (b"chunked, identity", BadRequest),
            (b",chunked", BadRequest),
            (b"chunked,", BadRequest),
            (b"", BadRequest),
            (b"\x0bchunked", BadRequest),
            (b"\"chunked\"", BadRequest),
            (b"chunked;q=1", BadRequest),
            (b"chunked\xa0", BadRequest),
            (b"chunked foo", BadRequest),
            (b"chunked\0", BadRequest),
        ];
        for (value, kind) in cases {
            assert_eq!(require_chunked_alone(value), Err(kind), "{}", value.escape_ascii());
        }
        assert_eq!(require_chunked_alone(b"chunked"), Ok(()));
        assert_eq!(require_chunked_alone(b"ChUnKeD"), Ok(()));
    }

    /// S-01.
    #[test]
    fn a_second_framing_field_is_refused_in_either_order() {
        use FieldName::{ContentLength, TransferEncoding};
        let (length, coding) = ((ContentLength, b"5".as_slice()), (TransferEncoding, b"chunked".as_slice()));
        for (first, second) in [(length, coding), (coding, length), (length, length), (coding, coding)] {
            let mut fields = FramingFields::default();
            assert_eq!(fields.take(first.0, first.1), Ok(()));
            assert_eq!(fields.take(second.0, second.1), Err(FailureKind::BadRequest));
        }
    }

    #[test]
    fn chunked_in_http_1_0_is_refused() {
        let mut fields = FramingFields::default();
        assert_eq!(fields.take(FieldName::TransferEncoding, b" chunked "), Ok(()));
        assert_eq!(fields.framing(MinorVersion::Zero), Err(FailureKind::BadRequest));
        assert_eq!(fields.framing(MinorVersion::One), Ok(Framing::Chunked));
    }
}
