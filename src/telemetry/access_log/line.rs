//! One line of the access log, as JSON or in the combined format, appended to a buffer.
//! Promises valid JSON and exactly one line whatever bytes a client sent, and no allocation but the buffer's growth.
//! It has no field for `Authorization` or cookies, so they cannot get here.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::{AttemptRecord, Record, VALUE_BYTES_MAX};
use crate::config::checked::{LogFormat, QueryInLog};

/// How this log writes its lines, and the time stamp of the present second.
#[derive(Debug)]
pub(super) struct Line {
    format: LogFormat,
    query: QueryInLog,
    stamp: Stamp,
}

impl Line {
    pub(super) fn new(format: LogFormat, query: QueryInLog) -> Self {
        let pattern = match format {
            LogFormat::Json => "%Y-%m-%dT%H:%M:%S",
            LogFormat::Combined => "%d/%b/%Y:%H:%M:%S +0000",
        };
        Self { format, query, stamp: Stamp { pattern, second: None, text: String::new() } }
    }

    pub(super) fn write(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        match self.format {
            LogFormat::Json => self.json(out, record),
            LogFormat::Combined => self.combined(out, record),
        }
        out.push(b'\n');
    }

    fn json(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(b"{\"ts\":\"");
        out.extend_from_slice(self.stamp.at(record.arrived_at_unix));
        push_millis(out, record.arrived_at_unix);
        out.extend_from_slice(b"Z\",\"request_id\":\"");
        push_json(out, record.request_id.as_bytes());
        out.push(b'"');
        json_text(out, b",\"trace_id\":\"", record.trace_id.map(str::as_bytes));
        if let Some(ip) = record.client_ip {
            out.extend_from_slice(b",\"client_ip\":\"");
            push_ip(out, ip);
            out.push(b'"');
        }
        json_text(out, b",\"method\":\"", Some(record.method.as_bytes()));
        json_text(out, b",\"host\":\"", record.host);
        out.extend_from_slice(b",\"path\":\"");
        push_json(out, record.path);
        if let Some(query) = self.shown_query(record) {
            out.push(b'?');
            push_json(out, query);
        }
        json_text(out, b"\",\"proto\":\"", Some(record.proto.as_bytes()));
        json_number(out, b",\"status\":", Some(record.status));
        json_number(out, b",\"bytes_in\":", Some(record.bytes_in));
        json_number(out, b",\"bytes_out\":", Some(record.bytes_out));
        json_duration(out, b",\"duration_ms\":", Some(record.duration));
        json_duration(out, b",\"queue_ms\":", record.queue);
        json_duration(out, b",\"held_ms\":", record.held);
        json_duration(out, b",\"connect_ms\":", record.connect);
        json_duration(out, b",\"ttfb_ms\":", record.ttfb);
        json_text(out, b",\"service\":\"", record.service.map(str::as_bytes));
        json_text(out, b",\"backend\":\"", record.backend.map(str::as_bytes));
        json_number(out, b",\"attempts\":", Some(record.attempts));
        push_attempts(out, record.attempt_list);
        json_number(out, b",\"upstream_status\":", record.upstream_status);
        json_text(out, b",\"reason\":\"", record.reason.map(|kind| kind.reason().as_bytes()));
        json_text(out, b",\"tls_version\":\"", record.tls_version.map(str::as_bytes));
        json_text(out, b",\"user_agent\":\"", record.user_agent);
        out.push(b'}');
    }

    /// `IP - - [time] "METHOD path PROTO" status bytes "referer" "user agent"`: Apache's `combined`, and nginx's.
    fn combined(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        match record.client_ip {
            Some(ip) => push_ip(out, ip),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(self.stamp.at(record.arrived_at_unix));
        out.extend_from_slice(b"] \"");
        push_hex_escaped(out, record.method.as_bytes());
        out.push(b' ');
        push_hex_escaped(out, record.path);
        if let Some(query) = self.shown_query(record) {
            out.push(b'?');
            push_hex_escaped(out, query);
        }
        out.push(b' ');
        out.extend_from_slice(record.proto.as_bytes());
        out.extend_from_slice(b"\" ");
        push_number(out, record.status);
        out.push(b' ');
        push_number(out, record.bytes_out);
        let referer = record.referer.map(|referer| match self.query {
            QueryInLog::Written => referer,
            QueryInLog::Omitted => &referer[..memchr::memchr(b'?', referer).unwrap_or(referer.len())],
        });
        for value in [referer, record.user_agent] {
            out.extend_from_slice(b" \"");
            push_hex_escaped(out, value.unwrap_or(b"-"));
            out.push(b'"');
        }
    }

    fn shown_query<'a>(&self, record: &Record<'a>) -> Option<&'a [u8]> {
        record.query.filter(|_| self.query == QueryInLog::Written)
    }
}

/// The text of the present second, formatted once per second.
#[derive(Debug)]
struct Stamp {
    pattern: &'static str,
    second: Option<u64>,
    text: String,
}

impl Stamp {
    fn at(&mut self, at_unix: Duration) -> &[u8] {
        if self.second != Some(at_unix.as_secs()) {
            let second = i64::try_from(at_unix.as_secs()).unwrap_or(i64::MAX);
            // Outside the years that jiff knows the clock of this host is broken; the log goes on with its first second.
            let timestamp = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            self.text = timestamp.strftime(self.pattern).to_string();
            self.second = Some(at_unix.as_secs());
        }
        self.text.as_bytes()
    }
}

/// `,"attempt_list":[{…},…]`, if there is one. Its words are ours, and addresses are plain ASCII.
fn push_attempts(out: &mut Vec<u8>, attempts: &[AttemptRecord]) {
    for (idx, attempt) in attempts.iter().enumerate() {
        out.extend_from_slice(if idx == 0 { b",\"attempt_list\":[" } else { b"," });
        out.extend_from_slice(b"{\"backend\":\"");
        push_json(out, attempt.backend.as_bytes());
        out.extend_from_slice(b"\",\"outcome\":\"");
        push_json(out, attempt.outcome.word().as_bytes());
        out.push(b'"');
        json_number(out, b",\"status\":", attempt.status);
        json_text(out, b",\"because\":\"", attempt.because.map(str::as_bytes));
        json_duration(out, b",\"pause_ms\":", Some(attempt.pause).filter(|pause| !pause.is_zero()));
        json_duration(out, b",\"connect_ms\":", attempt.connect);
        json_duration(out, b",\"duration_ms\":", Some(attempt.duration));
        for (idx, (backend, why)) in attempt.skipped.iter().enumerate() {
            out.extend_from_slice(if idx == 0 { b",\"skipped\":[" } else { b"," });
            json_text(out, b"{\"backend\":\"", Some(backend.as_bytes()));
            json_text(out, b",\"why\":\"", Some(why.as_bytes()));
            out.push(b'}');
        }
        out.extend_from_slice(if attempt.skipped.is_empty() { b"}" } else { b"]}" });
    }
    if !attempts.is_empty() {
        out.push(b']');
    }
}

fn json_text(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        push_json(out, value);
        out.push(b'"');
    }
}

fn json_number(out: &mut Vec<u8>, key: &[u8], value: Option<impl itoa::Integer>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        push_number(out, value);
    }
}

/// Milliseconds with three decimals.
fn json_duration(out: &mut Vec<u8>, key: &[u8], value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        push_number(out, value.as_millis());
        push_thousandths(out, value.subsec_micros() % 1_000);
    }
}

fn push_number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_millis(out: &mut Vec<u8>, at_unix: Duration) {
    push_thousandths(out, at_unix.subsec_millis());
}

/// `.007` for 7.
fn push_thousandths(out: &mut Vec<u8>, n: u32) {
    let digit = |n: u32| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[b'.', digit(n / 100), digit(n / 10), digit(n)]);
}

fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (idx, octet) in ip.octets().into_iter().enumerate() {
                if idx > 0 {
                    out.push(b'.');
                }
                push_number(out, octet);
            }
        }
        IpAddr::V6(ip) => write!(out, "{ip}").expect("writing to a Vec cannot fail"),
    }
}

/// The first [`VALUE_BYTES_MAX`] bytes, cut between characters, and the mark if something is missing.
fn bounded(value: &[u8]) -> (&[u8], &'static str) {
    if value.len() <= VALUE_BYTES_MAX {
        return (value, "");
    }
    let is_inside_character = |idx: usize| value[idx] & 0b1100_0000 == 0b1000_0000;
    // A character has at most three bytes after its first; more of them are no UTF-8 and may be cut anywhere.
    let cut = (VALUE_BYTES_MAX - 3..=VALUE_BYTES_MAX).rev().find(|idx| !is_inside_character(*idx));
    (&value[..cut.unwrap_or(VALUE_BYTES_MAX)], "…")
}

/// The contents of a JSON string. RFC 8259 §7; C1 controls, line separators and bidirectional overrides are escaped too,
/// since people read logs in terminals and browsers.
fn push_json(out: &mut Vec<u8>, value: &[u8]) {
    let (value, mark) = bounded(value);
    // One pass without branches, which the compiler turns into vector instructions: nearly every value is plain.
    let is_special = value.iter().fold(false, |any, b| any | (*b < 0x20) | (*b >= 0x7f) | (*b == b'"') | (*b == b'\\'));
    match is_special {
        false => out.extend_from_slice(value),
        true => push_json_escaped(out, value),
    }
    out.extend_from_slice(mark.as_bytes());
}

#[cold]
fn push_json_escaped(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a Vec cannot fail");
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// nginx's escaping for its plain formats: everything but printable ASCII as `\xHH`, quote and backslash included.
fn push_hex_escaped(out: &mut Vec<u8>, value: &[u8]) {
    let (value, mark) = bounded(value);
    for &b in value {
        match b {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => write!(out, "\\x{b:02X}").expect("writing to a Vec cannot fail"),
            b => out.push(b),
        }
    }
    // The mark is `…` in JSON; here it stays ASCII.
    if !mark.is_empty() {
        out.extend_from_slice(b"...");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::error::FailureKind;
    use crate::telemetry::metrics::Outcome;

    fn record() -> Record<'static> {
        Record {
            arrived_at_unix: Duration::from_millis(1_700_000_000_042),
            request_id: "0123456789abcdef0123456789abcdef",
            trace_id: Some("0123456789abcdef0123456789abcdef"),
            client_ip: Some([192, 0, 2, 17].into()),
            method: "GET",
            host: Some(b"shop.example.com"),
            path: b"/api/items",
            query: Some(b"token=secret"),
            proto: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 5_120,
            duration: Duration::from_micros(12_034),
            queue: None,
            held: None,
            connect: Some(Duration::from_micros(7)),
            ttfb: Some(Duration::from_millis(11)),
            service: Some("shop"),
            backend: Some("10.0.0.11:5000"),
            attempts: 1,
            attempt_list: &[],
            upstream_status: Some(200),
            reason: None,
            tls_version: None,
            user_agent: Some(b"curl/8.5.0"),
            referer: Some(b"https://example.com/?q=secret"),
        }
    }

    fn line(format: LogFormat, query: QueryInLog, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        Line::new(format, query).write(&mut out, record);
        String::from_utf8(out).expect("lines are UTF-8")
    }

    fn json(record: &Record<'_>) -> Value {
        serde_json::from_str(&line(LogFormat::Json, QueryInLog::Omitted, record)).unwrap()
    }

    #[test]
    fn a_json_line_has_the_fields_of_the_contract_in_their_order() {
        let expected = concat!(
            r#"{"ts":"2023-11-14T22:13:20.042Z","request_id":"0123456789abcdef0123456789abcdef","#,
            r#""trace_id":"0123456789abcdef0123456789abcdef","client_ip":"192.0.2.17","method":"GET","#,
            r#""host":"shop.example.com","path":"/api/items","proto":"HTTP/1.1","status":200,"bytes_in":0,"#,
            r#""bytes_out":5120,"duration_ms":12.034,"connect_ms":0.007,"ttfb_ms":11.000,"service":"shop","#,
            r#""backend":"10.0.0.11:5000","attempts":1,"upstream_status":200,"user_agent":"curl/8.5.0"}"#,
            "\n"
        );
        assert_eq!(line(LogFormat::Json, QueryInLog::Omitted, &record()), expected);
    }

    #[test]
    fn attempts_are_listed_one_by_one() {
        let first = AttemptRecord {
            backend: "10.0.0.1:5000".into(),
            because: None,
            pause: Duration::ZERO,
            connect: Some(Duration::from_micros(1_500)),
            duration: Duration::from_millis(2),
            status: None,
            outcome: Outcome::Failure(FailureKind::ConnectRefused),
            skipped: vec![],
        };
        let second = AttemptRecord {
            backend: "10.0.0.2:5000".into(),
            because: Some("connect_refused"),
            pause: Duration::from_millis(10),
            connect: None,
            status: Some(200),
            outcome: Outcome::Success,
            skipped: vec![("10.0.0.1:5000".into(), "tried"), ("10.0.0.3:5000".into(), "ejected")],
            ..first.clone()
        };
        let value = json(&Record { attempt_list: &[first, second], ..record() });
        let expected = serde_json::json!([
            { "backend": "10.0.0.1:5000", "outcome": "connect_refused", "connect_ms": 1.5, "duration_ms": 2.0 },
            {
                "backend": "10.0.0.2:5000", "outcome": "success", "status": 200, "because": "connect_refused",
                "pause_ms": 10.0, "duration_ms": 2.0,
                "skipped": [
                    { "backend": "10.0.0.1:5000", "why": "tried" }, { "backend": "10.0.0.3:5000", "why": "ejected" }
                ],
            },
        ]);
        assert_eq!(value["attempt_list"], expected);
    }

    #[test]
    fn a_local_reply_has_a_reason_and_no_backend() {
        let refused = Record {
            service: None,
            backend: None,
            upstream_status: None,
            attempts: 0,
            status: 404,
            reason: Some(FailureKind::NoRoute),
            tls_version: Some("TLSv1.3"),
            queue: Some(Duration::from_millis(1_000)),
            held: None,
            client_ip: None,
            ..record()
        };
        let value = json(&refused);
        assert_eq!(value["reason"], "no_route");
        assert_eq!(value["tls_version"], "TLSv1.3");
        assert_eq!(value["queue_ms"], 1_000.0);
        assert!(["service", "backend", "client_ip"].iter().all(|key| value.get(key).is_none()));
    }

    #[test]
    fn the_query_is_written_only_when_asked_for() {
        assert!(!line(LogFormat::Json, QueryInLog::Omitted, &record()).contains("secret"));
        assert!(!line(LogFormat::Combined, QueryInLog::Omitted, &record()).contains("secret"));
        assert!(line(LogFormat::Json, QueryInLog::Written, &record()).contains("/api/items?token=secret"));
        assert!(line(LogFormat::Combined, QueryInLog::Written, &record()).contains("/api/items?token=secret"));
    }

    #[test]
    fn the_combined_format_is_that_of_apache() {
        let expected = "192.0.2.17 - - [14/Nov/2023:22:13:20 +0000] \"GET /api/items HTTP/1.1\" 200 5120 \
                        \"https://example.com/\" \"curl/8.5.0\"\n";
        assert_eq!(line(LogFormat::Combined, QueryInLog::Omitted, &record()), expected);
        let bare = Record { client_ip: None, user_agent: None, referer: None, path: b"/\"\x1b[2J\n", ..record() };
        let expected = "- - - [14/Nov/2023:22:13:20 +0000] \"GET /\\x22\\x1B[2J\\x0A HTTP/1.1\" 200 5120 \"-\" \"-\"\n";
        assert_eq!(line(LogFormat::Combined, QueryInLog::Omitted, &bare), expected);
    }

    #[test]
    fn control_characters_and_broken_utf_8_are_escaped() {
        let hostile = "a\"b\\c\n\r\t\u{1b}[31m\u{0}\u{7f}\u{9b}\u{202e}é".as_bytes();
        let text = line(LogFormat::Json, QueryInLog::Omitted, &Record { user_agent: Some(hostile), ..record() });
        let escaped = r#"a\"b\\c\n\r\t\u001b[31m\u0000\u007f\u009b\u202eé""#;
        assert!(text.contains(escaped), "{text}");
        let broken = json(&Record { user_agent: Some(b"ok\xffok\xc3"), ..record() });
        assert_eq!(broken["user_agent"], "ok\u{fffd}ok\u{fffd}");
    }

    #[test]
    fn long_values_are_cut_between_characters_and_marked() {
        let value = json(&Record { path: &[b'/'; 8_192], user_agent: Some("é".repeat(4_096).as_bytes()), ..record() });
        let path = value["path"].as_str().unwrap();
        assert_eq!(path.len(), VALUE_BYTES_MAX + "…".len());
        assert!(path.ends_with("/…"));
        let odd = format!("x{}", "é".repeat(4_096));
        let value = json(&Record { user_agent: Some(odd.as_bytes()), ..record() });
        let cut = value["user_agent"].as_str().unwrap();
        assert!(cut.ends_with("é…") && !cut.contains('\u{fffd}'), "{cut}");
        // Continuation bytes without end are cut anywhere.
        json(&Record { path: &[0x80; 8_192], ..record() });
    }

    #[test]
    fn the_time_stamp_follows_the_seconds_and_survives_a_broken_clock() {
        let mut stamp = Stamp { pattern: "%H:%M:%S", second: None, text: String::new() };
        assert_eq!(stamp.at(Duration::from_secs(59)), b"00:00:59");
        assert_eq!(stamp.at(Duration::from_millis(59_999)), b"00:00:59");
        assert_eq!(stamp.at(Duration::from_secs(60)), b"00:01:00");
        stamp.at(Duration::from_secs(u64::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_line_of_valid_json(
            host in proptest::collection::vec(any::<u8>(), 0..50),
            path in proptest::collection::vec(any::<u8>(), 0..3_000),
            user_agent in ".{0,100}",
            ip in any::<[u8; 16]>(),
        ) {
            let record = Record {
                host: Some(&host),
                path: &path,
                user_agent: Some(user_agent.as_bytes()),
                client_ip: Some(ip.into()),
                ..record()
            };
            let text = line(LogFormat::Json, QueryInLog::Omitted, &record);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["user_agent"].as_str().unwrap(), &user_agent);
            if path.len() <= VALUE_BYTES_MAX {
                prop_assert_eq!(value["path"].as_str().unwrap(), String::from_utf8_lossy(&path));
            }
            let combined = line(LogFormat::Combined, QueryInLog::Omitted, &record);
            prop_assert!(combined.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\n'));
            prop_assert_eq!(combined.matches('\n').count(), 1);
        }
    }
}
