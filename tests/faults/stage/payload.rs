//! What travels: an id per request, and a body that can be made again from the id alone.
//! It promises that no two ids have a body in common, and no two places of one body look alike. It sends nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The field that carries a request's id, there and back.
pub(crate) const ID: &str = "x-id";

/// A number that no other request of this program has.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0x1000_0000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `size` bytes that belong to `id`: sixteen hexadecimal digits per block, which depend on the id and the place.
pub(crate) fn body_of(id: u64, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + 16);
    let mut nth = 0_u64;
    while body.len() < size {
        // Knuth's multiplier keeps neighbouring ids and places apart.
        let block = (id << 16 ^ nth).wrapping_mul(6_364_136_223_846_793_005);
        body.extend_from_slice(format!("{block:016x}").as_bytes());
        nth += 1;
    }
    body.truncate(size);
    body
}

/// FNV-1a: enough to tell bodies apart, the same in every process.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Microseconds of the wall clock: the one clock that all processes of a run share.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
