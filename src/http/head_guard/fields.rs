//! Reads a field section byte by byte, however it was cut into slices: the fields of a head, or trailers.
//! Promises the strict grammar of RFC 9112 §5 (CRLF, no folding, no space before the colon, token names, clean values)
//! without keeping the text. It does not interpret any field but those that frame the message.

use super::chars::{self, TOKEN, VALUE};
use super::framing_fields::{FieldName, FramingFields, VALUE_BYTES_MAX};
use crate::error::FailureKind;

/// A refusal with the offset of the byte that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) kind: FailureKind,
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Framing fields count.
    Head,
    /// Nothing in it changes the framing: RFC 9110 §6.5.1. `http::headers` drops what must not be there.
    Trailers,
}

/// A field section that is being read.
#[derive(Debug)]
pub(super) struct Fields {
    section: Section,
    part: Part,
    n_fields: u32,
    name: NameScan,
    value: Carry,
    framing: FramingFields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    LineStart,
    Name,
    /// The value of a field that does not matter here.
    Value,
    /// The value of a framing field, kept.
    Kept(FieldName),
    Lf,
    EndLf,
}

impl Fields {
    pub(super) fn new(section: Section) -> Self {
        Self {
            section,
            part: Part::LineStart,
            n_fields: 0,
            name: NameScan::default(),
            value: Carry::default(),
            framing: FramingFields::default(),
        }
    }

    /// What the framing fields said. Meaningful once the section is complete.
    pub(super) fn framing(&self) -> &FramingFields {
        &self.framing
    }

    /// Reads on. `Some` with the bytes used once the section is complete.
    pub(super) fn feed(&mut self, bytes: &[u8], n_fields_max: u32) -> Result<Option<usize>, Refusal> {
        let mut idx = 0;
        while idx < bytes.len() {
            if self.part == Part::Value {
                idx += bytes[idx..].iter().take_while(|byte| chars::is(**byte, VALUE)).count();
            }
            let Some(&byte) = bytes.get(idx) else { break };
            if self.part == Part::EndLf && byte == b'\n' {
                return Ok(Some(idx + 1));
            }
            self.take(byte, n_fields_max).map_err(|kind| Refusal { at: idx, kind })?;
            idx += 1;
        }
        Ok(None)
    }

    fn take(&mut self, byte: u8, n_fields_max: u32) -> Result<(), FailureKind> {
        match (self.part, byte) {
            (Part::LineStart, b'\r') => self.part = Part::EndLf,
            (Part::LineStart, _) => self.begin_field(byte, n_fields_max)?,
            (Part::Name, b':') => self.begin_value()?,
            (Part::Name, _) if chars::is(byte, TOKEN) => self.name.push(byte),
            (Part::Kept(name), b'\r') => {
                self.framing.take(name, self.value.get().ok_or(FailureKind::BadRequest)?)?;
                self.part = Part::Lf;
            }
            (Part::Kept(_), _) if chars::is(byte, VALUE) => self.value.push(byte),
            (Part::Value, b'\r') => self.part = Part::Lf,
            (Part::Lf, b'\n') => self.part = Part::LineStart,
            // Bare CR, LF and NUL, other controls, folded lines, and spaces in names all end here.
            _ => return Err(FailureKind::BadRequest),
        }
        Ok(())
    }

    fn begin_field(&mut self, byte: u8, n_fields_max: u32) -> Result<(), FailureKind> {
        if !chars::is(byte, TOKEN) {
            return Err(FailureKind::BadRequest);
        }
        if self.n_fields == n_fields_max {
            return Err(FailureKind::HeadersTooLarge);
        }
        self.n_fields += 1;
        self.name = NameScan::default();
        self.name.push(byte);
        self.part = Part::Name;
        Ok(())
    }

    fn begin_value(&mut self) -> Result<(), FailureKind> {
        if self.section == Section::Trailers {
            self.part = Part::Value;
            return Ok(());
        }
        self.part = match self.name.which()? {
            FieldName::Other => Part::Value,
            name => Part::Kept(name),
        };
        self.value = Carry::default();
        Ok(())
    }
}

const FOLDED_BYTES_MAX: usize = 17;

/// A field name reduced to its letters and digits in lower case, and the one separator a framing name has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NameScan {
    folded: [u8; FOLDED_BYTES_MAX],
    n_folded: u8,
    n_other: u8,
    /// How many letters and digits stand before the first `-`.
    dash_after: u8,
}

impl NameScan {
    pub(super) fn push(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            if let Some(slot) = self.folded.get_mut(usize::from(self.n_folded)) {
                *slot = byte.to_ascii_lowercase();
                self.n_folded += 1;
            }
        } else {
            if self.n_other == 0 && byte == b'-' {
                self.dash_after = self.n_folded;
            }
            self.n_other = self.n_other.saturating_add(1);
        }
    }

    /// Which field it is. A framing field in disguise (`Content_Length`, `Transfer--Encoding`) is refused: a backend
    /// that maps names to variables (CGI, WSGI) reads it as the real one.
    pub(super) fn which(&self) -> Result<FieldName, FailureKind> {
        let (name, dash_after) = match &self.folded[..usize::from(self.n_folded)] {
            b"contentlength" => (FieldName::ContentLength, 7),
            b"transferencoding" => (FieldName::TransferEncoding, 8),
            b"host" if self.n_other == 0 => return Ok(FieldName::Host),
            _ => return Ok(FieldName::Other),
        };
        if self.n_other == 1 && self.dash_after == dash_after { Ok(name) } else { Err(FailureKind::BadRequest) }
    }
}

/// A short value, carried from slice to slice.
#[derive(Clone, Copy, Debug)]
struct Carry {
    bytes: [u8; VALUE_BYTES_MAX],
    n_bytes: u8,
    is_too_long: bool,
}

impl Default for Carry {
    fn default() -> Self {
        Self { bytes: [0; VALUE_BYTES_MAX], n_bytes: 0, is_too_long: false }
    }
}

impl Carry {
    fn push(&mut self, byte: u8) {
        if self.n_bytes == 0 && matches!(byte, b' ' | b'\t') {
            return;
        }
        match self.bytes.get_mut(usize::from(self.n_bytes)) {
            Some(slot) => {
                *slot = byte;
                self.n_bytes += 1;
            }
            None => self.is_too_long = true,
        }
    }

    fn get(&self) -> Option<&[u8]> {
        (!self.is_too_long).then(|| &self.bytes[..usize::from(self.n_bytes)])
    }
}
