//! Watches the bytes that a client sends, before the HTTP engine gets them, and stops what two parsers could read
//! differently.
//! Promises one verdict per stream of bytes however it is cut into reads, no copy and no allocation.
//! It finds the ends of messages itself; it does not keep or interpret a request, and it reads nothing after an
//! upgrade.

mod chars;
mod chunks;
mod fast;
mod fields;
mod framing_fields;
mod request_line;
mod words;

use self::chunks::Chunks;
use self::fields::{Fields, Refusal, Section};
use self::framing_fields::{Framing, MinorVersion};
use self::request_line::RequestLine;
use crate::error::FailureKind;

/// Empty lines before a request line. RFC 9112 §2.2 asks for at least one; old clients send one after a POST.
const EMPTY_LINES_MAX: u8 = 8;

/// Longest target that the HTTP engine takes; RFC 9112 §3 asks for 8,000 at least.
pub const TARGET_BYTES_MAX: usize = 65_534;

/// How large a head may be. The same limits of size and count hold for trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Request line and fields together, line ends included, in bytes. More gets 431.
    pub header_bytes: usize,
    /// Header fields. More get 431.
    pub header_count: u32,
    /// The request target, in bytes, at most [`TARGET_BYTES_MAX`]. More gets 414.
    pub target_bytes: usize,
}

/// Where in the stream of messages a connection stands: what its timeouts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// Nothing has come of the next request, but for empty lines.
    BetweenMessages,
    /// A head has begun.
    InHead,
    /// A head is complete, its body is not.
    InBody,
    /// The connection no longer speaks HTTP: everything passes.
    Opaque,
    /// Something was refused: nothing passes any more.
    Refused(FailureKind),
}

/// What to do with the slice just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// All of it may go on.
    Pass(GuardState),
    /// The first `good` bytes may go on, nothing after them, ever.
    ///
    /// Of a refused head nothing that came in this slice is among them. Of a refused body they end before the byte that
    /// was wrong, so that the engine sees a body that breaks off, not one that ends.
    Refused {
        /// How many leading bytes of the slice belong to what is not refused.
        good: usize,
        /// Why.
        kind: FailureKind,
    },
}

/// The watch over the client's side of one connection.
#[derive(Debug)]
pub struct HeadGuard {
    limits: HeadLimits,
    n_complete_heads: u32,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// Before a head.
    Idle(EmptyLines),
    Head(Head),
    Length(u64),
    Chunked(Chunks),
    Opaque,
    Refused(FailureKind, Place),
}

/// Which part of a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its head: there is no such message.
    Head,
    /// Its body: a head came before it, and the engine has that.
    Body,
}

impl HeadGuard {
    /// A guard for a connection that nothing was read from yet.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, n_complete_heads: 0, part: Part::default() }
    }

    /// Judges the bytes just read. Every byte of the connection must be shown, once, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        // Where the message that `at` is in began; 0 if that was in an earlier slice.
        let mut message_start = 0;
        while at < bytes.len() {
            match self.advance(&bytes[at..]) {
                Step::Within { n_used } => at += n_used,
                Step::MessageEnd { n_used } => {
                    at += n_used;
                    message_start = at;
                    self.part = Part::default();
                }
                Step::BadHead(kind) => return self.refuse(message_start, kind, Place::Head),
                Step::BadBody(refusal) => return self.refuse(at + refusal.at, refusal.kind, Place::Body),
            }
        }
        Verdict::Pass(self.state())
    }

    /// Where the connection stands after what was fed.
    pub fn state(&self) -> GuardState {
        match self.part {
            Part::Idle(_) => GuardState::BetweenMessages,
            Part::Head(_) => GuardState::InHead,
            Part::Length(_) | Part::Chunked(_) => GuardState::InBody,
            Part::Opaque => GuardState::Opaque,
            Part::Refused(kind, _) => GuardState::Refused(kind),
        }
    }

    /// How many heads have begun: tells a head that is still coming from another one that came after it.
    pub fn heads_begun(&self) -> u64 {
        let is_incomplete = matches!(self.part, Part::Head(_) | Part::Refused(_, Place::Head));
        u64::from(self.n_complete_heads) + u64::from(is_incomplete)
    }

    /// How many heads are complete. When something is refused, so many messages came whole before it, but for the body of
    /// the last one if the refusal is [`Place::Body`].
    pub fn heads_complete(&self) -> u32 {
        self.n_complete_heads
    }

    /// What was refused; `None` if nothing was.
    pub fn refused_place(&self) -> Option<Place> {
        match self.part {
            Part::Refused(_, place) => Some(place),
            _ => None,
        }
    }

    /// From here on the bytes are no longer HTTP: to be called before a 101 goes down.
    pub fn become_opaque(&mut self) {
        self.part = Part::Opaque;
    }

    fn refuse(&mut self, good: usize, kind: FailureKind, place: Place) -> Verdict {
        self.part = Part::Refused(kind, place);
        Verdict::Refused { good, kind }
    }

    /// Reads one part of a message. `bytes` is not empty, and at least one of them is used.
    #[inline]
    fn advance(&mut self, bytes: &[u8]) -> Step {
        match &mut self.part {
            Part::Idle(empty_lines) => match empty_lines.take(bytes[0]) {
                EmptyLine::Within => Step::Within { n_used: 1 },
                EmptyLine::Bad => Step::BadHead(FailureKind::BadRequest),
                EmptyLine::No => self.begin_head(bytes),
            },
            Part::Head(head) => match head.feed(bytes, &self.limits) {
                Ok(Some((n_used, framing))) => self.begin_body(n_used, framing),
                Ok(None) => Step::Within { n_used: bytes.len() },
                Err(kind) => Step::BadHead(kind),
            },
            Part::Length(n_left) => {
                let n_used = usize::try_from(*n_left).unwrap_or(usize::MAX).min(bytes.len());
                *n_left -= n_used as u64;
                if *n_left == 0 { Step::MessageEnd { n_used } } else { Step::Within { n_used } }
            }
            Part::Chunked(chunks) => match chunks.feed(bytes, &self.limits) {
                Ok(Some(n_used)) => Step::MessageEnd { n_used },
                Ok(None) => Step::Within { n_used: bytes.len() },
                Err(refusal) => Step::BadBody(refusal),
            },
            Part::Opaque => Step::Within { n_used: bytes.len() },
            Part::Refused(kind, Place::Head) => Step::BadHead(*kind),
            Part::Refused(kind, Place::Body) => Step::BadBody(Refusal { at: 0, kind: *kind }),
        }
    }

    #[inline]
    fn begin_head(&mut self, bytes: &[u8]) -> Step {
        if let Some((n_used, framing)) = fast::complete_head(bytes, &self.limits) {
            return self.begin_body(n_used, framing);
        }
        self.part = Part::Head(Head::default());
        Step::Within { n_used: 0 }
    }

    #[inline]
    fn begin_body(&mut self, n_used: usize, framing: Framing) -> Step {
        self.n_complete_heads = self.n_complete_heads.wrapping_add(1);
        self.part = match framing {
            Framing::Length(0) => return Step::MessageEnd { n_used },
            Framing::Length(n_bytes) => Part::Length(n_bytes),
            Framing::Chunked => Part::Chunked(Chunks::new()),
        };
        Step::Within { n_used }
    }
}

impl Default for Part {
    fn default() -> Self {
        Part::Idle(EmptyLines::default())
    }
}

/// The empty lines before a head. RFC 9112 §2.2.
#[derive(Clone, Copy, Debug, Default)]
struct EmptyLines {
    n_lines: u8,
    has_cr: bool,
}

enum EmptyLine {
    /// The byte belongs to an empty line.
    Within,
    /// It does not: a head begins with it.
    No,
    Bad,
}

impl EmptyLines {
    #[inline]
    fn take(&mut self, byte: u8) -> EmptyLine {
        match (self.has_cr, byte) {
            (false, b'\r') if self.n_lines == EMPTY_LINES_MAX => return EmptyLine::Bad,
            (false, b'\r') => self.has_cr = true,
            (false, _) => return EmptyLine::No,
            (true, b'\n') => (self.n_lines, self.has_cr) = (self.n_lines + 1, false),
            (true, _) => return EmptyLine::Bad,
        }
        EmptyLine::Within
    }
}

/// How far one part of a message went.
enum Step {
    /// The message goes on. `n_used` may be 0 where only the part has changed.
    Within {
        n_used: usize,
    },
    MessageEnd {
        n_used: usize,
    },
    BadHead(FailureKind),
    BadBody(Refusal),
}

/// A head that is read byte by byte, because it comes in pieces or is not plainly good.
#[derive(Debug, Default)]
struct Head {
    n_bytes: usize,
    line: RequestLine,
    /// The version and what follows the request line, once that is complete.
    rest: Option<(MinorVersion, Fields)>,
}

impl Head {
    /// Reads on. `Some` with the bytes used once the head is complete.
    fn feed(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<(usize, Framing)>, FailureKind> {
        let window = &bytes[..bytes.len().min(limits.header_bytes - self.n_bytes)];
        if let Some(complete) = self.read(window, limits)? {
            return Ok(Some(complete));
        }
        self.n_bytes += window.len();
        match &self.rest {
            _ if window.len() == bytes.len() => Ok(None),
            None => Err(self.line.too_large()),
            Some(_) => Err(FailureKind::HeadersTooLarge),
        }
    }

    fn read(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<(usize, Framing)>, FailureKind> {
        let mut n_line = 0;
        if self.rest.is_none() {
            let Some((n_used, version)) = self.line.feed(bytes, limits.target_bytes)? else { return Ok(None) };
            self.rest = Some((version, Fields::new(Section::Head)));
            n_line = n_used;
        }
        let Some((version, fields)) = &mut self.rest else { return Ok(None) };
        let n_fields = fields.feed(&bytes[n_line..], limits.header_count).map_err(|refusal| refusal.kind)?;
        n_fields.map(|n_fields| Ok((n_line + n_fields, fields.framing().framing(*version)?))).transpose()
    }
}

#[cfg(test)]
mod tests;
