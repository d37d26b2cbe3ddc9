//! Looks at eight bytes at once: the arithmetic that makes the fast path fast without unsafe code or CPU features.
//! Promises that the lowest flag of a mask is right; flags above it may be false, since a borrow runs upwards.
//! It knows byte classes only, as `chars` does, and no lines.

/// 0x01 in every byte.
const ONES: u64 = u64::MAX / 255;
/// The top bit of every byte, where masks carry their flags.
const TOPS: u64 = ONES << 7;

/// Eight bytes of `bytes` from `at`, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(eight.try_into().expect("a slice of 8 bytes")))
}

/// Sixteen bytes of `bytes` from `at`.
#[inline]
fn two_words(bytes: &[u8], at: usize) -> Option<(u64, u64)> {
    let (low, high) = bytes.get(at..at + 16)?.split_at(8);
    Some((word(low, 0)?, word(high, 0)?))
}

/// Flags bytes below `limit`, which is at most 0x80.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & TOPS
}

/// Flags bytes equal to `byte`.
#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// What is left of `bytes` from `at`, fewer than eight bytes, with zeros after it.
#[inline]
fn rest(bytes: &[u8], at: usize) -> Option<u64> {
    let n_missing = (at + 8).checked_sub(bytes.len())?;
    let last = word(bytes, bytes.len().checked_sub(8)?)?;
    (n_missing < 8).then(|| last >> (8 * n_missing))
}

/// The place in its word of the first byte that is flagged.
#[inline]
const fn first(flags: u64) -> usize {
    flags.trailing_zeros() as usize / 8
}

/// The place of the first byte from `at` on that `flags` marks. It must mark zeros, so that the end of `bytes` ends the
/// search.
#[inline]
fn find(bytes: &[u8], mut at: usize, flags: impl Fn(u64) -> u64) -> Option<usize> {
    // Two words a turn, bounds checked once: most lines are longer, and the two masks do not wait for each other.
    while let Some((low, high)) = two_words(bytes, at) {
        let (low, high) = (flags(low), flags(high));
        if low | high != 0 {
            return Some(at + if low != 0 { first(low) } else { 8 + first(high) });
        }
        at += 16;
    }
    if let Some(word) = word(bytes, at) {
        match flags(word) {
            0 => at += 8,
            flags => return Some(at + first(flags)),
        }
    }
    let place = at + first(flags(rest(bytes, at)?));
    (place < bytes.len()).then_some(place)
}

/// The first byte from `at` on that is a control character, a tab included.
#[inline]
pub(super) fn find_control(bytes: &[u8], at: usize) -> Option<usize> {
    find(bytes, at, |word| below(word, b' ') | equal(word, 0x7f))
}

/// The first byte from `at` on that cannot stand in a target.
#[inline]
pub(super) fn find_target_end(bytes: &[u8], at: usize) -> Option<usize> {
    let flags = |word: u64| {
        let angle_brackets = equal(word & !(ONES * 2), b'<');
        below(word, b'!') | (word & TOPS) | equal(word, 0x7f) | equal(word, b'#') | equal(word, b'\\') | angle_brackets
    };
    find(bytes, at, flags)
}

/// The first byte from `at` on that is not a letter, a digit or `-`: what nearly all field names consist of.
#[inline]
pub(super) fn find_name_end(bytes: &[u8], at: usize) -> Option<usize> {
    let flags = |word: u64| {
        let low = word & !TOPS;
        let folded = low | (ONES * 0x20);
        let letters = (folded + ONES * (0x80 - b'a' as u64)) & !(folded + ONES * (0x7f - b'z' as u64));
        let digits = (low + ONES * (0x80 - b'0' as u64)) & !(low + ONES * (0x7f - b'9' as u64));
        let dashes = !((low ^ (ONES * b'-' as u64)) + ONES * 0x7f);
        !((letters | digits | dashes) & !word) & TOPS
    };
    find(bytes, at, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte value in every place of a slice long enough for words and a rest.
    fn check(found: impl Fn(&[u8], usize) -> Option<usize>, filler: u8, is_hit: impl Fn(u8) -> bool) {
        for byte in 0..=u8::MAX {
            for place in 0..21 {
                let mut bytes = [filler; 21];
                bytes[place] = byte;
                assert_eq!(found(&bytes, 0), is_hit(byte).then_some(place), "{byte:#x} at {place}");
                bytes[place..].fill(byte);
                assert_eq!(found(&bytes, 0), is_hit(byte).then_some(place), "{byte:#x} from {place}");
            }
        }
    }

    #[test]
    fn eight_bytes_at_once_find_what_one_at_a_time_finds() {
        for filler in [b'a', b'Z', b'0'] {
            check(find_control, filler, |byte| byte < b' ' || byte == 0x7f);
            check(find_target_end, filler, |byte| !super::super::chars::is_target(byte));
            check(find_name_end, filler, |byte| byte.is_ascii_alphanumeric().eq(&false) && byte != b'-');
        }
        check(find_control, 0xff, |byte| byte < b' ' || byte == 0x7f);
    }
}
