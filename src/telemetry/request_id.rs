//! The name of one request, from us or from the client.
//! Promises a short, plain ASCII text that can stand in a header, a log line and a shell command; it is never empty.
//! It is unique by chance (128 random bits), and no secret: the generator is fast, not cryptographic.

use std::fmt;

use http::HeaderValue;

/// Longest id that is taken over from a client: a UUID has 36 characters, cloud balancers' ids up to about 60.
const BYTES_MAX: usize = 64;
/// Digits of an id of ours.
const OWN_BYTES: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Both digits of each byte.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// A request's id: `x-request-id`, `request_id` in the log. Copied around, never allocated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    bytes: [u8; BYTES_MAX],
    len: u8,
    /// What the digits of an id of ours say; zero for a client's. Two halves, so that the type needs no alignment of 16.
    own_bits: [u64; 2],
}

impl RequestId {
    /// 128 random bits as 32 hexadecimal digits; also fit to be a W3C trace id, which must not be zero.
    pub fn random() -> Self {
        // Two halves, of which the second is never zero: a range over 128 bits costs two divisions.
        Self::from_bits(u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..).max(1)))
    }

    /// The client's id if it can be taken over, else a random one.
    pub fn accept_or_random(value: Option<&[u8]>) -> Self {
        value.and_then(Self::accept).unwrap_or_else(Self::random)
    }

    /// The id if it has 1 to 64 letters, digits and `-_.:=+/@~`. Anything else could break a log, a URL or a shell.
    pub fn accept(value: &[u8]) -> Option<Self> {
        let is_safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:=+/@~".contains(b);
        if value.is_empty() || value.len() > BYTES_MAX || !value.iter().all(is_safe) {
            return None;
        }
        let mut bytes = [0; BYTES_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self { bytes, len: value.len() as u8, own_bits: [0; 2] })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an id holds ASCII only")
    }

    /// The id as a header value: one allocation.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).expect("an id holds visible ASCII only")
    }

    /// The 128 bits, if the id is 32 lower-case hexadecimal digits and not zero, as ours are.
    pub(super) fn bits(&self) -> Option<u128> {
        if self.own_bits != [0; 2] {
            return Some(u128::from(self.own_bits[0]) << 64 | u128::from(self.own_bits[1]));
        }
        (usize::from(self.len) == OWN_BYTES).then(|| parse_hex(self.as_bytes())).flatten().filter(|bits| *bits != 0)
    }

    /// The id as ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn from_bits(bits: u128) -> Self {
        let mut bytes = [0; BYTES_MAX];
        write_hex(bits, &mut bytes[..OWN_BYTES]);
        Self { bytes, len: OWN_BYTES as u8, own_bits: [(bits >> 64) as u64, bits as u64] }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The low bits of `bits` as lower-case hexadecimal digits, as many as `out` has room for: an even number, at most 32.
pub(super) fn write_hex(bits: u128, out: &mut [u8]) {
    let bytes = bits.to_be_bytes();
    let low = &bytes[bytes.len() - out.len() / 2..];
    for (digits, byte) in out.chunks_exact_mut(2).zip(low) {
        digits.copy_from_slice(&HEX_PAIRS[usize::from(*byte)]);
    }
}

/// The value of at most 32 lower-case hexadecimal digits.
pub(super) fn parse_hex(digits: &[u8]) -> Option<u128> {
    debug_assert!(digits.len() <= 32);
    digits.iter().try_fold(0, |bits: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(bits << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_of_ours_is_32_hexadecimal_digits_and_never_the_same() {
        let id = RequestId::random();
        assert_eq!(id.as_str().len(), 32);
        assert!(id.as_str().bytes().all(|b| HEX.contains(&b)));
        assert_ne!(id, RequestId::random());
        assert_eq!(id.to_header(), id.as_str());
    }

    #[test]
    fn safe_ids_of_clients_are_kept() {
        for good in
            ["a", "6f1c3b0e-4c53-4f0e-9c3e-0b2d0f2c1a11", "Root=1-67891233-abcdef012345678912345678", &"x".repeat(64)]
        {
            assert_eq!(RequestId::accept(good.as_bytes()).unwrap().as_str(), good);
        }
    }

    #[test]
    fn unsafe_ids_of_clients_are_replaced() {
        for bad in ["", "a b", "a\"b", "a\\b", "a<b", "a,b", "é", "a\n", &"x".repeat(65)] {
            assert!(RequestId::accept(bad.as_bytes()).is_none(), "{bad}");
            assert_eq!(RequestId::accept_or_random(Some(bad.as_bytes())).as_str().len(), 32);
        }
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_read_back(bits in 1_u128..) {
            let id = RequestId::from_bits(bits);
            prop_assert_eq!(id.bits(), Some(bits));
            prop_assert_eq!(id.as_str(), format!("{bits:032x}"));
        }

        #[test]
        fn whatever_a_client_sends_the_id_is_safe(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let id = RequestId::accept_or_random(Some(&value));
            prop_assert!(!id.as_str().is_empty() && id.as_str().len() <= BYTES_MAX);
            prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>'`$&;|,".contains(&b)));
        }
    }
}
