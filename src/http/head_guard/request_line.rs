//! Reads a request line byte by byte, however it was cut into slices.
//! Promises exactly `method SP target SP HTTP/1.x CRLF` with a token, a clean target and nothing in between.
//! It does not judge the form of the target; `http::authority` does.

use super::chars::{self, TARGET, TOKEN};
use super::framing_fields::MinorVersion;
use crate::error::FailureKind;

/// Longest method: the longest one registered, `UPDATEREDIRECTREF`, has 17 characters.
pub(super) const METHOD_BYTES_MAX: usize = 32;
const VERSION_BYTES: usize = 8;

/// A request line that is being read.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    part: Part,
    /// Never more than `limits.header_bytes`, and kept small for idle connections.
    n_part_bytes: u32,
    version: [u8; VERSION_BYTES],
    /// A target that is not a path: only as a whole it can be told from what is no URI at all.
    unusual_target: Option<Box<UnusualTarget>>,
}

/// The beginning of a target that does not begin with `/`. Boxed: idle connections have none.
#[derive(Debug, Default)]
struct UnusualTarget(String);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    Target,
    Version,
    Lf,
}

impl RequestLine {
    /// Reads on. `Some` with the bytes used once the line is complete.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        target_bytes_max: usize,
    ) -> Result<Option<(usize, MinorVersion)>, FailureKind> {
        for (idx, byte) in bytes.iter().copied().enumerate() {
            match self.part {
                Part::Method => self.take_method(byte)?,
                Part::Target => self.take_target(byte, target_bytes_max)?,
                Part::Version => self.take_version(byte)?,
                Part::Lf if byte == b'\n' => return Ok(Some((idx + 1, self.minor_version()?))),
                Part::Lf => return Err(FailureKind::BadRequest),
            }
        }
        Ok(None)
    }

    /// What to say when the head is too large already in its first line.
    pub(super) fn too_large(&self) -> FailureKind {
        if self.part == Part::Target { FailureKind::UriTooLong } else { FailureKind::HeadersTooLarge }
    }

    fn take_method(&mut self, byte: u8) -> Result<(), FailureKind> {
        match byte {
            _ if chars::is(byte, TOKEN) && self.n_part_bytes() < METHOD_BYTES_MAX => self.n_part_bytes += 1,
            // RFC 9112 §3: "a request method that is longer than any it implements" gets 501.
            _ if chars::is(byte, TOKEN) => return Err(FailureKind::UnknownMethod),
            b' ' if self.n_part_bytes > 0 => self.begin(Part::Target),
            _ => return Err(FailureKind::BadRequest),
        }
        Ok(())
    }

    fn take_target(&mut self, byte: u8, target_bytes_max: usize) -> Result<(), FailureKind> {
        match byte {
            _ if self.n_part_bytes == 0 && !begins_target(byte) => return Err(FailureKind::BadRequest),
            _ if chars::is(byte, TARGET) && self.n_part_bytes() < target_bytes_max => {
                if byte != b'/' && self.n_part_bytes == 0 {
                    self.unusual_target = Some(Box::default());
                }
                if let Some(target) = &mut self.unusual_target {
                    target.0.push(char::from(byte));
                }
                self.n_part_bytes += 1;
            }
            _ if chars::is(byte, TARGET) => return Err(FailureKind::UriTooLong),
            b' ' if self.n_part_bytes > 0 => {
                self.check_unusual_target()?;
                self.begin(Part::Version);
            }
            _ => return Err(FailureKind::BadRequest),
        }
        Ok(())
    }

    /// The engine would refuse `http://` as well, with an answer that says less.
    fn check_unusual_target(&mut self) -> Result<(), FailureKind> {
        let is_uri = self.unusual_target.take().is_none_or(|target| target.0.parse::<http::Uri>().is_ok());
        is_uri.then_some(()).ok_or(FailureKind::BadRequest)
    }

    fn take_version(&mut self, byte: u8) -> Result<(), FailureKind> {
        match byte {
            b'\r' if self.n_part_bytes() == VERSION_BYTES => self.part = Part::Lf,
            b'!'..=b'~' if self.n_part_bytes() < VERSION_BYTES => {
                self.version[self.n_part_bytes as usize] = byte;
                self.n_part_bytes += 1;
            }
            _ => return Err(FailureKind::BadRequest),
        }
        Ok(())
    }

    fn n_part_bytes(&self) -> usize {
        self.n_part_bytes as usize
    }

    fn begin(&mut self, part: Part) {
        self.part = part;
        self.n_part_bytes = 0;
    }

    fn minor_version(&self) -> Result<MinorVersion, FailureKind> {
        match &self.version {
            b"HTTP/1.1" => Ok(MinorVersion::One),
            b"HTTP/1.0" => Ok(MinorVersion::Zero),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(FailureKind::UnsupportedVersion),
            _ => Err(FailureKind::BadRequest),
        }
    }
}

/// Whether a target of any of the four forms of RFC 9112 §3.2 begins so: a path, `*`, a scheme or a host.
///
/// The engine would refuse the others itself, with an answer that says less.
const fn begins_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'*' | b'[')
}
