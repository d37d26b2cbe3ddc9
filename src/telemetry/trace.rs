//! W3C Trace Context: reads `traceparent`, continues the trace, or begins one.
//! Promises that what it writes is valid whatever it read, without allocating.
//! It records and samples nothing, and leaves `tracestate` to `http::signature`: it may only travel on if `traceparent` was valid.

use std::fmt;

use super::request_id::{RequestId, parse_hex, write_hex};

/// `00-<32 digits>-<16 digits>-<2 digits>`. <https://www.w3.org/TR/trace-context/#traceparent-header>
const BYTES: usize = 55;
/// The flags that Trace Context Level 2 knows: sampled (1) and random trace id (2). Others must not be passed on.
const KNOWN_FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b1;
const RANDOM: u8 = 0b10;

/// Where a request stands in its trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// What the client sent; `None` if it is not valid, in which case the standard says to begin anew.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let head = value.first_chunk::<BYTES>()?;
        let &[b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f', b'-', ..] = head else { return None };
        if head[35] != b'-' || head[52] != b'-' || head.starts_with(b"ff") {
            return None;
        }
        // Later versions may append fields; version 00 has none.
        match value.get(BYTES) {
            None => {}
            Some(b'-') if !head.starts_with(b"00") => {}
            Some(_) => return None,
        }
        let trace_id = parse_hex(&head[3..35]).filter(|id| *id != 0)?;
        let span_id = parse_hex(&head[36..52]).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)?;
        let flags = parse_hex(&head[53..55])? as u8 & KNOWN_FLAGS;
        Some(Self { trace_id, span_id, flags })
    }

    /// A trace that begins here. Its id is the request id where that is one of ours, so that either finds the other.
    ///
    /// It says "sampled": the usual sampler of a backend (OpenTelemetry's `parentbased_always_on`) follows its parent, and
    /// "not sampled" from us would silently turn tracing off behind us.
    pub fn begin(request_id: &RequestId) -> Self {
        let trace_id = request_id.bits().unwrap_or_else(|| fastrand::u128(1..));
        Self { trace_id, span_id: fastrand::u64(..).max(1), flags: SAMPLED | RANDOM }
    }

    /// The same trace with us as the parent of what comes next.
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(..).max(1), ..self }
    }

    /// Continues the client's trace, or begins one.
    pub fn continue_or_begin(traceparent: Option<&[u8]>, request_id: &RequestId) -> Self {
        match traceparent.and_then(Self::parse) {
            Some(parent) => parent.child(),
            None => Self::begin(request_id),
        }
    }

    /// Whether it is part of the trace of this `traceparent`.
    pub fn continues(&self, traceparent: &[u8]) -> bool {
        Self::parse(traceparent).is_some_and(|parent| parent.trace_id == self.trace_id)
    }

    /// The trace id as text, without allocation.
    pub fn trace_id(&self) -> TraceId {
        let mut digits = [0; 32];
        write_hex(self.trace_id, &mut digits);
        TraceId(digits)
    }

    /// The value of `traceparent`, as ASCII.
    pub fn text(&self) -> [u8; BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace_id, &mut text[3..35]);
        write_hex(self.span_id.into(), &mut text[36..52]);
        write_hex(self.flags.into(), &mut text[53..55]);
        text
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

/// 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn text(context: &TraceContext) -> String {
        String::from_utf8(context.text().to_vec()).unwrap()
    }

    #[test]
    fn a_valid_parent_reads_back() {
        let parent = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(text(&parent), GOOD);
        assert_eq!(parent.trace_id().as_str(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn a_child_keeps_trace_and_flags_and_has_a_span_of_its_own() {
        let child = TraceContext::continue_or_begin(Some(GOOD.as_bytes()), &RequestId::random());
        assert!(text(&child).starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert!(text(&child).ends_with("-01"));
        assert_ne!(text(&child), GOOD);
    }

    #[test]
    fn a_trace_that_begins_here_has_the_request_id() {
        let request_id = RequestId::random();
        let context = TraceContext::continue_or_begin(None, &request_id);
        assert_eq!(context.trace_id().as_str(), request_id.as_str());
        let foreign = RequestId::accept(b"from-a-client").unwrap();
        assert_eq!(TraceContext::begin(&foreign).trace_id().as_str().len(), 32);
        let zero = RequestId::accept(&[b'0'; 32]).unwrap();
        assert_ne!(TraceContext::begin(&zero).trace_id().as_str(), zero.as_str());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what-the-future-holds";
        let context = TraceContext::parse(later.as_bytes()).unwrap();
        assert_eq!(text(&context), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03");
    }

    #[test]
    fn invalid_parents_are_refused() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_we_send_is_valid_whatever_we_got(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let sent = text(&TraceContext::continue_or_begin(Some(&value), &RequestId::random()));
            prop_assert_eq!(text(&TraceContext::parse(sent.as_bytes()).unwrap()), sent);
        }

        #[test]
        fn every_context_reads_back(trace_id in 1_u128.., span_id in 1_u64.., flags in 0_u8..=KNOWN_FLAGS) {
            let context = TraceContext { trace_id, span_id, flags };
            prop_assert_eq!(TraceContext::parse(&context.text()), Some(context));
        }

        #[test]
        fn one_changed_byte_never_panics(idx in 0_usize..55, byte in any::<u8>()) {
            let mut value = GOOD.as_bytes().to_vec();
            value[idx] = byte;
            TraceContext::parse(&value);
        }
    }
}
