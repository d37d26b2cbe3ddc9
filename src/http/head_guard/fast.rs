//! Accepts the ordinary head that arrived in one slice, at a fraction of the price of reading it byte by byte.
//! Promises to accept only what the byte-by-byte reader accepts, with the same framing; a property test holds it to that.
//! It never refuses: whatever it does not know at a glance it leaves to the reader, which alone knows why.

use memchr::memchr;

use super::HeadLimits;
use super::chars::{self, TOKEN};
use super::fields::NameScan;
use super::framing_fields::{FieldName, Framing, FramingFields, MinorVersion, VALUE_BYTES_MAX};
use super::request_line::METHOD_BYTES_MAX;

/// The length and the framing of the head that `bytes` begins with, if it is complete and plainly good.
pub(super) fn complete_head(bytes: &[u8], limits: &HeadLimits) -> Option<(usize, Framing)> {
    let bytes = &bytes[..bytes.len().min(limits.header_bytes)];
    let mut line_start = memchr(b'\n', bytes)? + 1;
    let version = request_line(&bytes[..line_start], limits)?;
    let mut framing = FramingFields::default();
    let mut n_fields = 0;
    while bytes.get(line_start)? != &b'\r' {
        let line = &bytes[line_start..];
        let n_name = line.iter().position(|byte| !chars::is(*byte, TOKEN))?;
        let n_line = n_name + memchr(b'\n', &line[n_name..])? + 1;
        if line[n_name] != b':' || n_name == 0 || n_fields == limits.header_count {
            return None;
        }
        n_fields += 1;
        line_start += n_line;
        let name = field_name(&line[..n_name])?;
        if name != FieldName::Other {
            take_framing_field(&mut framing, name, &line[n_name + 1..n_line - 2])?;
        }
    }
    let head = bytes.get(..line_start + 2)?;
    let framing = framing.framing(version).ok()?;
    lines_are_clean(head).then_some((head.len(), framing))
}

/// `line` ends with its LF. Its CR is checked with all the others.
fn request_line(line: &[u8], limits: &HeadLimits) -> Option<MinorVersion> {
    let (line, version) = line.split_at_checked(line.len().checked_sub(b" HTTP/1.1\r\n".len())?)?;
    let version = match version {
        b" HTTP/1.1\r\n" => MinorVersion::One,
        b" HTTP/1.0\r\n" => MinorVersion::Zero,
        _ => return None,
    };
    let n_method = line.iter().position(|byte| !chars::is(*byte, TOKEN))?;
    let target = &line[n_method + 1..];
    let fits = (1..=METHOD_BYTES_MAX).contains(&n_method) && (1..=limits.target_bytes).contains(&target.len());
    // No early exit: the compiler turns this into vector instructions.
    let is_clean = target.iter().fold(true, |clean, byte| clean & chars::is_target(*byte));
    (line[n_method] == b' ' && fits && is_clean).then_some(version)
}

/// Which field it is; `None` for a disguised framing field.
#[inline]
fn field_name(name: &[u8]) -> Option<FieldName> {
    match (name.len(), name[0] | 0x20) {
        (4, b'h') if name.eq_ignore_ascii_case(b"host") => Some(FieldName::Host),
        (14, b'c') if name.eq_ignore_ascii_case(b"content-length") => Some(FieldName::ContentLength),
        (17, b't') if name.eq_ignore_ascii_case(b"transfer-encoding") => Some(FieldName::TransferEncoding),
        // The letters and digits of a framing name are 13 or 16; in front of them may stand other characters.
        (13.., b'c' | b't') => examined(name),
        (13.., first) if !first.is_ascii_alphanumeric() => examined(name),
        _ => Some(FieldName::Other),
    }
}

fn examined(name: &[u8]) -> Option<FieldName> {
    // `Content-Type`, `Cache-Control` and most others differ in their second letter or seventh at the latest.
    let mut scan = NameScan::default();
    name.iter().for_each(|byte| scan.push(*byte));
    scan.which().ok()
}

fn take_framing_field(framing: &mut FramingFields, name: FieldName, value: &[u8]) -> Option<()> {
    // The reader keeps values up to a limit that begins after leading white space; that many bytes in all are below it.
    if name != FieldName::Host && value.len() > VALUE_BYTES_MAX {
        return None;
    }
    framing.take(name, value).ok()
}

/// Every LF follows a CR and every CR comes before an LF, and there is no control but these and tabs.
///
/// Tabs elsewhere than in values were excluded with the names and the target.
fn lines_are_clean(head: &[u8]) -> bool {
    let Some((last, before_last)) = head.split_last() else { return false };
    let pairs = before_last.iter().zip(&head[1..]);
    let misfits = pairs.fold(0_u8, |misfits, (before, byte)| {
        let unpaired = u8::from(*byte == b'\n') ^ u8::from(*before == b'\r');
        let control =
            u8::from(*byte < b' ') & u8::from(*byte != b'\t') & u8::from(*byte != b'\r') & u8::from(*byte != b'\n');
        misfits | unpaired | control | u8::from(*byte == 0x7f)
    });
    misfits == 0 && *last == b'\n'
}
