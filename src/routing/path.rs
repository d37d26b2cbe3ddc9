//! Request paths as text: which of them two readers could read differently, and when two of them are the same.
//! Promises that a path which is not ambiguous means the same to us, to an RFC 3986 normaliser and to a backend that decodes it once.
//! It never changes what is forwarded.

use std::borrow::Cow;

/// Whether a backend, or a check in front of it, might read this path as another place: then the answer is 400 (S-29).
///
/// True for segments that are `.` or `..` once percent-decoded, up to a `;` (which servlet containers cut off). A segment
/// ends at `/`, and at `\`, `%2f` and `%5c`, which WSGI and Windows backends take for it. True for `%00`, and for a path
/// that does not start with `/` (`*` may).
///
/// An encoded slash by itself is legal: RFC 3986 §2.2 keeps `%2f` apart from `/`, and names of packages and branches
/// travel that way. Empty segments are legal: `//` is what archives and image proxies carry. An empty segment is a segment
/// like any other, so `//b` is not `/b`: only a route that takes `/` takes it.
pub fn is_ambiguous(path: &str) -> bool {
    match path.as_bytes().first() {
        None => return false,
        Some(b'/') => {}
        Some(_) => return path != "*",
    }
    // Nearly every path has neither a dot nor an escape.
    memchr::memchr2(b'.', b'%', path.as_bytes()).is_some() && leads_elsewhere(path)
}

/// The same question, byte by byte.
fn leads_elsewhere(path: &str) -> bool {
    let mut segment = Segment::Empty;
    let mut rest = path.as_bytes();
    while let Some((byte, n_used)) = next_byte(rest) {
        rest = &rest[n_used..];
        segment = match byte {
            0 => return true,
            b'/' | b'\\' | b';' if segment.is_dots() => return true,
            b'/' | b'\\' => Segment::Empty,
            byte => segment.and(byte),
        };
    }
    segment.is_dots()
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

/// The path in normal form: unreserved characters unescaped, other escapes in capitals, everything that must be escaped escaped.
///
/// Two paths with the same normal form are the same (RFC 3986 §6.2.2). Dot segments stay: they are refused before.
pub fn normal(path: &str) -> Cow<'_, str> {
    let plain = path.bytes().fold(true, |plain, byte| plain & is_visible(byte) & (byte != b'%'));
    if plain || is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    for unit in units(path) {
        match unit {
            Unit::Plain(byte) => normal.push(char::from(byte)),
            Unit::Escaped(byte) => push_escaped(&mut normal, byte),
        }
    }
    Cow::Owned(normal)
}

/// What follows `prefix` in `path`, byte for byte as it came: empty, or with a slash in front. Whole segments only.
pub(crate) fn after_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = prefix.trim_end_matches('/');
    let rest = path.strip_prefix(prefix).or_else(|| after_equivalent(path, prefix))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// `text` with every byte escaped that may not stand in a request target or a header field.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_visible) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match is_visible(byte) {
            true => escaped.push(char::from(byte)),
            false => push_escaped(&mut escaped, byte),
        }
    }
    Cow::Owned(escaped)
}

fn after_equivalent<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let mut have = units(path);
    for want in units(prefix) {
        if have.next()? != want {
            return None;
        }
    }
    path.get(path.len() - have.bytes.len()..)
}

fn is_normal(path: &[u8]) -> bool {
    let is_normal_escape = |percent: usize| {
        let digits = path.get(percent + 1..percent + 3).unwrap_or_default();
        escape(digits).is_none_or(|byte| !is_unreserved(byte) && !digits.iter().any(u8::is_ascii_lowercase))
    };
    path.iter().copied().all(is_visible) && memchr::memchr_iter(b'%', path).all(is_normal_escape)
}

/// One character of a path after RFC 3986 §6.2.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Stands for itself; `%` here starts no escape.
    Plain(u8),
    /// Written as `%XX` in normal form.
    Escaped(u8),
}

struct Units<'a> {
    bytes: &'a [u8],
}

fn units(path: &str) -> Units<'_> {
    Units { bytes: path.as_bytes() }
}

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if first == b'%'
            && let Some(byte) = escape(rest)
        {
            self.bytes = &rest[2..];
            return Some(if is_unreserved(byte) { Unit::Plain(byte) } else { Unit::Escaped(byte) });
        }
        Some(if is_visible(first) { Unit::Plain(first) } else { Unit::Escaped(first) })
    }
}

/// The byte that the two hexadecimal digits at the front stand for.
pub(crate) fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |idx: usize| digits.get(idx).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn push_escaped(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn is_visible(byte: u8) -> bool {
    byte.wrapping_sub(0x21) <= 0x7e - 0x21
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_not_ambiguous() {
        let ordinary = [
            "/",
            "/a",
            "/a/b/",
            "/a.b/c..d/...",
            "/.well-known/acme",
            "/..a",
            "/a../b",
            "/a/.b.",
            "/.../x",
            "/a;v=1/b",
            "/;a",
            "//b",
            "/a//b",
            "/https://example.com/x",
            "/%7Ebob",
            "/file%2Epdf",
            "/%2Ehidden",
            "/a%20b",
            "/%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/%u002e",
            "/a..;/b",
            "/caf%C3%A9",
            "/a%252e",
            "/a%3Fb",
            "/b%3fx",
            "/B",
            "/@:!$&'()*+,;=-._~",
            "/a|b^c`{d}",
            "/caf\u{e9}",
            "*",
            "",
        ];
        for path in ordinary {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn paths_that_two_readers_read_differently_are_ambiguous() {
        let ambiguous = [
            "/.",
            "/..",
            "/./a",
            "/a/.",
            "/a/..",
            "/a/../b",
            "/a/./b",
            "//..",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/%2e",
            "/%2e/a",
            "/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/a/%2e%2e;/b",
            "/a/..%3b/b",
            "/a/..%3B",
            "/a%00",
            "/a%2f../b",
            "/a%2F..%2Fb",
            "/a/..%5cb",
            "/a\\..\\b",
            "/%00",
            "/a%00b",
            "a",
            "http:/b",
            "http://x/b",
            "**",
            ".",
            "\\",
        ];
        for path in ambiguous {
            assert!(is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn paths_with_one_normal_form_are_the_same() {
        let normals = [
            ("/a/b", "/a/b"),
            ("/%7ebob/%61%2D", "/~bob/a-"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a b", "/a%20b"),
            ("/a%20b%2C", "/a%20b%2C"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz%41", "/%zzA"),
            ("", ""),
        ];
        for (path, expected) in normals {
            assert_eq!(normal(path), expected, "{path}");
            assert!(matches!(normal(expected), Cow::Borrowed(_)), "{expected} is normal");
        }
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        assert_eq!(after_prefix("/api/x", "/api"), Some("/x"));
        assert_eq!(after_prefix("/api", "/api"), Some(""));
        assert_eq!(after_prefix("/api/", "/api/"), Some("/"));
        assert_eq!(after_prefix("/apix", "/api"), None);
        assert_eq!(after_prefix("/x", "/"), Some("/x"));
        assert_eq!(after_prefix("/caf\u{e9}", "/caf%C3"), None);
    }
}
