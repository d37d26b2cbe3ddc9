//! Interim responses of one request, counted in bytes while they come.
//! It promises that a backend which sends nothing else is found out within [`BYTES_MAX`]: hyper reads interim responses
//! without end and without a pause, and would hold up every request of its worker. It parses nothing but status lines.

use std::io;

use memchr::memmem;

/// Interim responses of one request: ten of the longest kind, thousands of `100 Continue`.
const BYTES_MAX: usize = 64 * 1024;
/// `HTTP/1.1 1`: up to the first digit of the status.
const STATUS_AT: usize = 9;
/// What every status line begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

/// What a request has got so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Interims {
    /// A final response, or nothing: what ordinary requests have.
    #[default]
    None,
    /// So many bytes of interim responses, and no other.
    Bytes(usize),
}

impl Interims {
    /// Notes what was read first after a request was written.
    #[inline]
    pub(crate) fn begin(&mut self, bytes: &[u8]) -> io::Result<()> {
        *self = Interims::None;
        match is_interim(bytes) {
            true => self.count(bytes),
            false => Ok(()),
        }
    }

    /// Notes what was read after that.
    #[inline]
    pub(crate) fn go_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Interims::None => Ok(()),
            Interims::Bytes(_) => self.count(bytes),
        }
    }

    #[cold]
    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Reads begin anywhere, so the last status line decides; without one it is a body that follows a final head.
        let last = memmem::rfind(bytes, BEGINNING).map(|at| &bytes[at..]);
        let goes_on = last.is_some_and(|last| last.len() <= STATUS_AT || is_interim(last));
        if !goes_on {
            *self = Interims::None;
            return Ok(());
        }
        let before = if let Interims::Bytes(before) = self { *before } else { 0 };
        *self = Interims::Bytes(before + bytes.len());
        match before + bytes.len() <= BYTES_MAX {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "interim responses without end")),
        }
    }
}

fn is_interim(bytes: &[u8]) -> bool {
    bytes.get(STATUS_AT) == Some(&b'1') && bytes.starts_with(BEGINNING)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    const FINAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_final_response_counts_nothing() {
        let mut interims = Interims::default();
        interims.begin(FINAL).unwrap();
        assert_eq!(interims, Interims::None);
        interims.go_on(&CONTINUE.repeat(100_000)).unwrap();
        assert_eq!(interims, Interims::None, "a body may say anything");
    }

    #[test]
    fn a_few_interim_responses_are_passed_over() {
        let mut interims = Interims::default();
        interims.begin(CONTINUE).unwrap();
        assert_eq!(interims, Interims::Bytes(CONTINUE.len()));
        interims.go_on(&[CONTINUE, FINAL].concat()).unwrap();
        assert_eq!(interims, Interims::None);
    }

    #[test]
    fn interim_responses_without_end_are_an_error() {
        let flood = CONTINUE.repeat(10_000);
        for piece in [1_000, 8_192, 65_536, flood.len()] {
            let mut interims = Interims::default();
            let mut pieces = flood.chunks(piece);
            let first = interims.begin(pieces.next().unwrap());
            let read: usize = pieces.take_while(|piece| interims.go_on(piece).is_ok()).map(<[u8]>::len).sum();
            assert!(first.is_err() || read <= BYTES_MAX, "{read} bytes in pieces of {piece}");
        }
    }

    #[test]
    fn what_follows_an_interim_response_may_be_long() {
        let mut interims = Interims::default();
        interims.begin(CONTINUE).unwrap();
        interims.go_on(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        for _ in 0..100 {
            interims.go_on(&[b'x'; 10_000]).unwrap();
        }
    }

    #[test]
    fn each_request_counts_for_itself() {
        let mut interims = Interims::default();
        for _ in 0..10_000 {
            interims.begin(CONTINUE).unwrap();
            interims.go_on(FINAL).unwrap();
        }
    }

    #[test]
    fn switching_protocols_ends_the_count_with_the_first_byte_of_the_other() {
        let mut interims = Interims::default();
        interims.begin(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        interims.go_on(&[0; 100_000]).unwrap();
        assert_eq!(interims, Interims::None);
    }
}
