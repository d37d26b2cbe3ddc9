//! Refuses paths that a backend could resolve to another place than the one that was matched.
//! Promises that what passes has no dot segment in any disguise and no NUL, so that matching the bytes as they are is
//! matching the place (S-29).
//! It changes nothing: percent-encoding goes on byte for byte (C-07).

use crate::error::FailureKind;

/// Judges the path of a request target, or what a rewrite made of it.
///
/// Refused are segments that are `.` or `..` once percent-decoded, up to a `;` (which servlet containers cut off). A
/// segment ends at `/`, and at `\`, `%2f` and `%5c`, which WSGI and Windows backends take for it. Refused is `%00`.
pub fn check(path: &str) -> Result<(), FailureKind> {
    if !path.starts_with('/') {
        return Err(FailureKind::BadRequest);
    }
    // Nearly every path has neither a dot nor an escape.
    if memchr::memchr2(b'.', b'%', path.as_bytes()).is_none() {
        return Ok(());
    }
    let mut segment = Segment::Empty;
    let mut rest = path.as_bytes();
    while let Some((byte, n_used)) = next_byte(rest) {
        rest = &rest[n_used..];
        segment = match byte {
            0 => return Err(FailureKind::BadRequest),
            b'/' | b'\\' | b';' if segment.is_dots() => return Err(FailureKind::BadRequest),
            b'/' | b'\\' => Segment::Empty,
            byte => segment.and(byte),
        };
    }
    if segment.is_dots() { Err(FailureKind::BadRequest) } else { Ok(()) }
}

/// The first byte, percent-decoded once, and how many bytes it took. A `%` without two digits stands for itself.
fn next_byte(bytes: &[u8]) -> Option<(u8, usize)> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match *bytes {
        [b'%', high, low, ..] => match (hex(high), hex(low)) {
            (Some(high), Some(low)) => Some((high << 4 | low, 3)),
            _ => Some((b'%', 1)),
        },
        [byte, ..] => Some((byte, 1)),
        [] => None,
    }
}

/// What a segment consists of so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Empty,
    OneDot,
    TwoDots,
    Other,
}

impl Segment {
    fn is_dots(self) -> bool {
        matches!(self, Segment::OneDot | Segment::TwoDots)
    }

    fn and(self, byte: u8) -> Self {
        match (self, byte) {
            (Segment::Empty, b'.') => Segment::OneDot,
            (Segment::OneDot, b'.') => Segment::TwoDots,
            _ => Segment::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-29.
    #[test]
    fn a_path_with_dot_segments_is_refused_in_any_disguise() {
        let bad = [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/a/..;/b",
            "/a/..;x=y/b",
            "/a/.;/b",
            "/a%2f../b",
            "/a%2F..%2Fb",
            "/a/..%5cb",
            "/a\\..\\b",
            "/a%00",
            "/%00",
            "",
            "a",
            "*",
            "../a",
        ];
        for path in bad {
            assert_eq!(check(path), Err(FailureKind::BadRequest), "{path}");
        }
    }

    #[test]
    fn other_paths_pass_as_they_are() {
        let good = [
            "/",
            "/b",
            "/B",
            "//b",
            "/a//b",
            "/a..;/b",
            "/...",
            "/.well-known/x",
            "/a.b/c..d/..e",
            "/%2fb",
            "/a%5cb",
            "/b%3fx",
            "/%252e%252e/b",
            "/%",
            "/%2",
            "/%zz/%e4",
            "/a;b=..",
            "/100%",
        ];
        for path in good {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }
}
