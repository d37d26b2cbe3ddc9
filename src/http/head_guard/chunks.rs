//! Skips a chunked body, however it was cut into slices, to find where the next message begins.
//! Promises the strict grammar of RFC 9112 §7.1: one that two parsers cannot read differently (S-06).
//! It copies nothing and interprets neither extensions nor trailers.

use super::HeadLimits;
use super::chars::{self, VALUE};
use super::fields::{Fields, Refusal, Section};
use crate::error::FailureKind;

/// Chunk extensions of one body, in bytes: hyper's limit less one, so that our refusal comes first.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024 - 1;
/// Digits of a chunk size: those of `u64::MAX`.
const SIZE_DIGITS_MAX: u8 = 16;

/// A chunked body that is being skipped.
#[derive(Debug)]
pub(super) struct Chunks {
    part: Part,
    size: u64,
    n_digits: u8,
    n_extension_bytes: u32,
}

#[derive(Debug)]
enum Part {
    Size,
    /// White space after the size: allowed before an extension only.
    SizeSpace,
    Extension,
    SizeLf,
    /// So many bytes are left of the chunk.
    Content,
    ContentCr,
    ContentLf,
    Trailers(Trailers),
}

#[derive(Debug)]
struct Trailers {
    fields: Fields,
    n_bytes: usize,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { part: Part::Size, size: 0, n_digits: 0, n_extension_bytes: 0 }
    }

    /// Reads on. `Some` with the bytes used once the body is complete.
    pub(super) fn feed(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let mut idx = 0;
        while idx < bytes.len() {
            match &mut self.part {
                Part::Content => idx += self.skip_content(bytes.len() - idx),
                Part::Trailers(trailers) => {
                    let used = trailers.feed(&bytes[idx..], limits);
                    return used.map(|used| used.map(|used| idx + used)).map_err(|refusal| refusal.after(idx));
                }
                _ => {
                    self.take(bytes[idx]).map_err(|kind| Refusal { at: idx, kind })?;
                    idx += 1;
                }
            }
        }
        Ok(None)
    }

    fn skip_content(&mut self, n_available: usize) -> usize {
        let n_skipped = usize::try_from(self.size).unwrap_or(usize::MAX).min(n_available);
        self.size -= n_skipped as u64;
        if self.size == 0 {
            self.part = Part::ContentCr;
        }
        n_skipped
    }

    fn take(&mut self, byte: u8) -> Result<(), FailureKind> {
        match (&self.part, byte) {
            (Part::Size, _) if byte.is_ascii_hexdigit() => self.take_digit(byte)?,
            (Part::Size, b'\r') if self.n_digits > 0 => self.part = Part::SizeLf,
            (Part::Size | Part::SizeSpace, b';') if self.n_digits > 0 => self.part = Part::Extension,
            (Part::Size | Part::SizeSpace, b' ' | b'\t') if self.n_digits > 0 => {
                self.count_extension_byte()?;
                self.part = Part::SizeSpace;
            }
            (Part::Extension, b'\r') => self.part = Part::SizeLf,
            (Part::Extension, _) if chars::is(byte, VALUE) => self.count_extension_byte()?,
            (Part::SizeLf, b'\n') => self.begin_content(),
            (Part::ContentCr, b'\r') => self.part = Part::ContentLf,
            (Part::ContentLf, b'\n') => {
                self.n_digits = 0;
                self.part = Part::Size;
            }
            _ => return Err(FailureKind::BadRequest),
        }
        Ok(())
    }

    fn take_digit(&mut self, byte: u8) -> Result<(), FailureKind> {
        if self.n_digits == SIZE_DIGITS_MAX {
            return Err(FailureKind::BadRequest);
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => byte.to_ascii_lowercase() - b'a' + 10,
        };
        // `size` is 0 here before the first digit: the content before it was skipped to its end.
        self.size = (self.size << 4) | u64::from(digit);
        self.n_digits += 1;
        Ok(())
    }

    fn count_extension_byte(&mut self) -> Result<(), FailureKind> {
        self.n_extension_bytes += 1;
        if self.n_extension_bytes > EXTENSION_BYTES_MAX { Err(FailureKind::BadRequest) } else { Ok(()) }
    }

    fn begin_content(&mut self) {
        self.part = match self.size {
            0 => Part::Trailers(Trailers { fields: Fields::new(Section::Trailers), n_bytes: 0 }),
            _ => Part::Content,
        };
    }
}

impl Trailers {
    fn feed(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let window = &bytes[..bytes.len().min(limits.header_bytes - self.n_bytes)];
        if let Some(used) = self.fields.feed(window, limits.header_count)? {
            return Ok(Some(used));
        }
        self.n_bytes += window.len();
        if window.len() < bytes.len() {
            return Err(Refusal { at: window.len(), kind: FailureKind::HeadersTooLarge });
        }
        Ok(None)
    }
}

impl Refusal {
    fn after(self, n_bytes: usize) -> Self {
        Self { at: self.at + n_bytes, ..self }
    }
}
