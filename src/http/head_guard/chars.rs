//! Which byte may stand where in a request head, as one table of 256 classes.
//! Promises to follow the grammar of RFC 9110 §5.6 and RFC 3986, and to be as strict where those leave room.
//! It knows bytes only, not what they form together.

/// A byte of a token: methods and field names. RFC 9110 §5.6.2.
pub(super) const TOKEN: u8 = 1;
/// A byte of a request target.
pub(super) const TARGET: u8 = 2;
/// A byte of a field value: visible ASCII, space, tab, and the bytes from 0x80 that RFC 9110 §5.5 calls obs-text.
pub(super) const VALUE: u8 = 4;

static CLASS: [u8; 256] = classes();

/// Whether `byte` is of `class`.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// A target has no control, no space and no byte from 0x80 (RFC 3986 §2), no `#` (fragments stay at the client, RFC
/// 9112 §3.2; CVE-2023-45539), and no `\`, which some backends take for `/`. `<` and `>` are refused by hyper as well.
pub(super) const fn is_target(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !matches!(byte, b'#' | b'\\' | b'<' | b'>')
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut idx = 0;
    while idx < 256 {
        let byte = idx as u8;
        if is_token(byte) {
            table[idx] |= TOKEN;
        }
        if is_target(byte) {
            table[idx] |= TARGET;
        }
        if is_value(byte) {
            table[idx] |= VALUE;
        }
        idx += 1;
    }
    table
}

/// `value` without the optional white space of RFC 9110 §5.6.3 around it.
pub(super) fn trim_ows(value: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut value = value;
    while let [first, rest @ ..] = value
        && is_ows(first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_ows(last)
    {
        value = rest;
    }
    value
}
