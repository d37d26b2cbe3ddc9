//! The chunked coding of RFC 9112 §7.1: taken apart where a backend sends it, written where a client's body has no length.
//! Promises that only what the grammar allows passes: a size in hexadecimal digits, CRLF and nothing else at the end of a
//! line (S-06), and that a body without its last chunk is never whole.
//! It keeps no bytes: a chunk goes on as soon as some of it is here.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Chunk extensions of a body: nobody uses them, and they count against no length. CVE-2023-39326 and its like.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// The trailer section.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 100;
/// Hexadecimal digits of 64 bits.
const DIGITS_MAX: u8 = 16;
/// What nearly every last chunk is, behind the data of the one before.
const USUAL_END: &[u8] = b"\r\n0\r\n\r\n";

/// Takes a chunked body apart.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        n_digits: u8,
    },
    /// Behind the digits: white space or an extension, to the CR.
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Some bytes of a chunk.
    Data(Bytes),
    /// The trailers, which end the body.
    Trailers(HeaderMap),
    /// The end, without trailers.
    End,
    /// More bytes are needed.
    Starved,
}

/// Why bytes are no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// No hexadecimal number, or one beyond 64 bits.
    #[error("a chunk has an invalid size")]
    Size,
    /// Something else where a line has to end with CRLF.
    #[error("a chunk does not end with CRLF")]
    LineEnd,
    /// More than 16 KiB of them.
    #[error("the chunk extensions are too long")]
    Extensions,
    /// No fields, or more than 16 KiB or 100 of them.
    #[error("the trailers are malformed or too long")]
    Trailers,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::SIZE, extension_bytes: 0 }
    }
}

impl State {
    const SIZE: State = State::Size { size: 0, n_digits: 0 };
}

impl Decoder {
    /// Whether the last chunk was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next part of the body out of `buf`.
    pub fn step(&mut self, buf: &mut BytesMut) -> Result<Step, Invalid> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                State::Trailers => return self.trailers(buf),
                State::Data { .. } if buf.is_empty() => return Ok(Step::Starved),
                State::Data { left } => return Ok(Step::Data(self.data(buf, left))),
                _ if buf.is_empty() => return Ok(Step::Starved),
                _ => self.state = self.line(buf.get_u8())?,
            }
        }
    }

    /// One byte of a line.
    fn line(&mut self, byte: u8) -> Result<State, Invalid> {
        match (self.state, byte) {
            (State::Size { size, n_digits }, byte) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).ok_or(Invalid::Size)?;
                if n_digits == DIGITS_MAX {
                    return Err(Invalid::Size);
                }
                Ok(State::Size { size: size << 4 | u64::from(digit), n_digits: n_digits + 1 })
            }
            (State::Size { n_digits: 0, .. }, _) => Err(Invalid::Size),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { size, .. }, b';' | b' ' | b'\t') => Ok(State::Extension { size }),
            (State::Size { .. }, _) => Err(Invalid::Size),
            (State::Extension { .. }, b'\n') => Err(Invalid::LineEnd),
            (State::Extension { size }, _) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Invalid::Extensions);
                }
                Ok(State::Extension { size })
            }
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SIZE),
            _ => Err(Invalid::LineEnd),
        }
    }

    fn data(&mut self, buf: &mut BytesMut, left: u64) -> Bytes {
        let n_here = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let data = buf.split_to(n_here).freeze();
        let left = left - n_here as u64;
        self.state = match left {
            0 if buf.starts_with(USUAL_END) => {
                buf.advance(USUAL_END.len());
                State::Done
            }
            0 => State::DataCr,
            left => State::Data { left },
        };
        data
    }

    fn trailers(&mut self, buf: &mut BytesMut) -> Result<Step, Invalid> {
        let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let (n_bytes, fields) = match httparse::parse_headers(buf, &mut fields) {
            Ok(httparse::Status::Complete(complete)) => complete,
            Ok(httparse::Status::Partial) if buf.len() <= TRAILER_BYTES_MAX => return Ok(Step::Starved),
            _ => return Err(Invalid::Trailers),
        };
        if n_bytes > TRAILER_BYTES_MAX || !buf[..n_bytes].ends_with(b"\r\n") {
            return Err(Invalid::Trailers);
        }
        let mut trailers = HeaderMap::new();
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Invalid::Trailers)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| Invalid::Trailers)?;
            trailers.try_append(name, value).map_err(|_| Invalid::Trailers)?;
        }
        buf.advance(n_bytes);
        self.state = State::Done;
        Ok(if trailers.is_empty() { Step::End } else { Step::Trailers(trailers) })
    }
}

/// The line before a chunk of `size` bytes.
pub fn size_line(size: usize) -> Bytes {
    Bytes::from(format!("{size:x}\r\n"))
}

/// The end of a chunk's data.
pub const DATA_END: Bytes = Bytes::from_static(b"\r\n");

/// The last chunk of a body, with its trailers.
pub fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = b"0\r\n".to_vec();
    super::request_head::write_fields(trailers, &mut out);
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data, trailers, and what is left, from pieces.
    fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<HeaderMap>, bool), Invalid> {
        let (mut decoder, mut buf, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            loop {
                match decoder.step(&mut buf)? {
                    Step::Data(bytes) => data.extend_from_slice(&bytes),
                    Step::Trailers(trailers) => return Ok((data, Some(trailers), true)),
                    Step::End => return Ok((data, None, true)),
                    Step::Starved => break,
                }
            }
        }
        Ok((data, None, false))
    }

    #[test]
    fn chunks_are_joined_and_trailers_read() {
        let body = b"3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let (data, trailers, is_whole) = decoded([&body[..]]).unwrap();
        assert_eq!((&data[..], is_whole), (&b"abc0123456789"[..], true));
        assert_eq!(trailers.unwrap()["x"], "y");
    }

    #[test]
    fn a_body_without_its_last_chunk_is_not_whole() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        for cut in 0..body.len() {
            assert!(!decoded([&body[..cut]]).unwrap().2, "{cut}");
        }
        assert!(decoded([&body[..]]).unwrap().2);
    }

    #[test]
    fn the_usual_end_is_seen_with_the_last_data() {
        let (mut decoder, mut buf) = (Decoder::default(), BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\nmore"[..]));
        assert_eq!(decoder.step(&mut buf), Ok(Step::Data(Bytes::from_static(b"abc"))));
        assert!(decoder.is_done());
        assert_eq!(&buf[..], b"more");
    }

    /// S-06.
    #[test]
    fn what_is_no_chunk_is_refused() {
        let sizes = ["0x5", "+5", "5_0", " 5", "", "-1", "g", "5\n", "11111111111111111"];
        for size in sizes {
            let body = format!("{size}\r\nabcde\r\n0\r\n\r\n");
            assert!(decoded([body.as_bytes()]).is_err(), "{size:?}");
        }
        let bodies: [&[u8]; 7] = [
            b"5\nabcde\r\n0\r\n\r\n",
            b"5;x\nabcde\r\n0\r\n\r\n",
            b"5\r\nabcde\n0\r\n\r\n",
            b"5\r\nabcdeX\r\n0\r\n\r\n",
            b"5\r\nabcde0\r\n\r\n",
            b"5\r\nabcde\r\r0\r\n\r\n",
            b"0\r\nno field\r\n\r\n",
        ];
        for body in bodies {
            assert!(decoded([body]).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn extensions_and_trailers_have_an_end() {
        let long = "x".repeat(EXTENSION_BYTES_MAX + 1);
        assert_eq!(decoded([format!("5;{long}").as_bytes()]), Err(Invalid::Extensions));
        let many = "1;y\r\nx\r\n".repeat(EXTENSION_BYTES_MAX + 1);
        assert_eq!(decoded([many.as_bytes()]), Err(Invalid::Extensions), "over all chunks");
        assert_eq!(decoded([format!("0\r\nx: {long}").as_bytes()]), Err(Invalid::Trailers));
        assert_eq!(decoded([format!("0\r\n{}\r\n", "a: b\r\n".repeat(101)).as_bytes()]), Err(Invalid::Trailers));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_any_pieces(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8), piece in 1_usize..50,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(&size_line(chunk.len()));
                body.extend_from_slice(chunk);
                body.extend_from_slice(&DATA_END);
            }
            body.extend_from_slice(&last_chunk(&HeaderMap::new()));
            let (data, trailers, is_whole) = decoded(body.chunks(piece)).unwrap();
            prop_assert_eq!((data, trailers, is_whole), (chunks.concat(), None, true));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = decoded(bytes.chunks(piece));
        }
    }
}
