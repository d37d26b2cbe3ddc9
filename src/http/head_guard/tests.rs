//! The guard against the attack corpus S-01 … S-10 and against itself: cut anywhere, fast or slow, the verdict is one.
//! Cases are data; each test's name is the sentence that fails. What hyper does with the bytes behind it is not tested
//! here.

use proptest::prelude::*;

use super::*;
use FailureKind::{BadRequest, HeadersTooLarge, UnknownMethod, UnknownTransferCoding, UnsupportedVersion, UriTooLong};

const LIMITS: HeadLimits = HeadLimits { header_bytes: 1024, header_count: 10, target_bytes: 200 };

/// Feeds `bytes` in slices that end at `cuts`: the verdict with `good` counted from the start, or the state at the end.
fn feed_cut(bytes: &[u8], cuts: &[usize]) -> Result<GuardState, (usize, FailureKind)> {
    let mut guard = HeadGuard::new(LIMITS);
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        if let Verdict::Refused { good, kind } = guard.feed(&bytes[start..end]) {
            assert_eq!(guard.state(), GuardState::Refused(kind));
            assert_eq!(
                guard.feed(b"GET / HTTP/1.1\r\n\r\n"),
                Verdict::Refused { good: 0, kind },
                "a refusal is for ever"
            );
            return Err((start + good, kind));
        }
        start = end;
    }
    Ok(guard.state())
}

/// The verdict on `bytes`, after checking that no way of cutting them changes it.
fn feed(bytes: &[u8]) -> Result<GuardState, (usize, FailureKind)> {
    let whole = feed_cut(bytes, &[]);
    let every_byte: Vec<usize> = (1..bytes.len()).collect();
    for cuts in std::iter::once(every_byte).chain((1..bytes.len()).map(|cut| vec![cut])) {
        let cut = feed_cut(bytes, &cuts);
        let shown = bytes.escape_ascii();
        assert_eq!(cut.map_err(|(_, kind)| kind), whole.map_err(|(_, kind)| kind), "{shown} cut at {cuts:?}");
        // What came in earlier slices has gone on already.
        if let (Err((cut, _)), Err((whole, _))) = (cut, whole) {
            assert!(cut >= whole, "{shown} cut at {cuts:?}");
        }
    }
    whole
}

fn assert_refused(bytes: &[u8], kind: FailureKind) {
    assert_eq!(feed(bytes).map_err(|(_, kind)| kind), Err(kind), "{}", bytes.escape_ascii());
}

fn assert_passes(bytes: &[u8]) {
    assert_eq!(feed(bytes), Ok(GuardState::BetweenMessages), "{}", bytes.escape_ascii());
}

fn head(fields: &[u8]) -> Vec<u8> {
    [b"POST /x HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [head(b"Transfer-Encoding: chunked\r\n").as_slice(), body].concat()
}

#[test]
fn ordinary_requests_pass() {
    assert_passes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_passes(b"GET / HTTP/1.0\r\n\r\n");
    assert_passes(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_passes(b"GET http://a:80/x?y=%20{}|^ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_passes(
        b"M-SEARCH /a HTTP/1.1\r\nHost:a\r\nX:\r\nX-Tab:\ta\tb\t\r\nX-Obs: \xe4\xff\r\nx_y.z!#$%&'*+-^`|~: 1\r\n\r\n",
    );
    assert_passes(&[head(b"Content-Length:\t 5 \t\r\n").as_slice(), b"hello"].concat());
    assert_passes(&[head(b"content-LENGTH: 0\r\n").as_slice(), b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"].concat());
    assert_passes(&chunked(
        b"5\r\nhello\r\n00A;a=b;c=\"d e\"\r\n0123456789\r\n1 ;x\r\na\r\n0\r\nX-T: 1\r\nHost: z\r\n\r\n",
    ));
    assert_passes(b"");
}

#[test]
fn a_refusal_tells_how_many_messages_came_before_it_and_whether_it_is_in_a_body() {
    const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (stream, n_heads, place) in [
        ("GET  / HTTP/1.1\r\n".to_owned(), 0, Place::Head),
        (format!("{GOOD}{GOOD}\x01"), 2, Place::Head),
        (format!("{GOOD}{CHUNKED}x"), 2, Place::Body),
        (format!("{CHUNKED}0\r\n\r\n\rx"), 1, Place::Head),
    ] {
        let mut guard = HeadGuard::new(LIMITS);
        assert!(matches!(guard.feed(stream.as_bytes()), Verdict::Refused { .. }), "{stream:?}");
        assert_eq!((guard.heads_complete(), guard.refused_place()), (n_heads, Some(place)), "{stream:?}");
    }
}

#[test]
fn the_state_tells_where_the_connection_stands() {
    let mut guard = HeadGuard::new(LIMITS);
    let mut expect = |bytes: &[u8], state, n_heads| {
        assert_eq!(guard.feed(bytes), Verdict::Pass(state), "{}", bytes.escape_ascii());
        assert_eq!((guard.state(), guard.heads_begun()), (state, n_heads));
    };
    expect(b"\r", GuardState::BetweenMessages, 0);
    expect(b"\n", GuardState::BetweenMessages, 0);
    expect(b"G", GuardState::InHead, 1);
    expect(b"ET / HTTP/1.1\r\n\r\nG", GuardState::InHead, 2);
    expect(b"ET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n12", GuardState::InBody, 2);
    expect(b"3", GuardState::BetweenMessages, 2);
    expect(&chunked(b"1\r\n"), GuardState::InBody, 3);
    expect(b"x\r\n0\r\nA", GuardState::InBody, 3);
    expect(b": b\r\n\r\nPUT ", GuardState::InHead, 4);
    guard.become_opaque();
    assert_eq!(guard.feed(b"\x81\x05\0\0\n"), Verdict::Pass(GuardState::Opaque));
}

#[test]
fn what_came_before_a_refused_message_may_go_on() {
    let good = b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab".as_slice();
    assert_eq!(feed(&[good, b"\r\nGET /3 HTTP/1.1\nX: y\r\n\r\n"].concat()), Err((good.len(), BadRequest)));
    // A body that goes wrong is cut before the wrong byte, so that it breaks off and does not end.
    let good = chunked(b"5\r\nhello");
    assert_eq!(feed(&[good.as_slice(), b"0\r\n\r\n"].concat()), Err((good.len(), BadRequest)));
    let good = chunked(b"0\r\nX");
    assert_eq!(feed(&[good.as_slice(), b" : y\r\n\r\n"].concat()), Err((good.len(), BadRequest)));
}

/// S-01, S-02, S-04 on the wire; the tables of values are in `framing_fields`.
#[test]
fn ambiguous_framing_is_refused() {
    let cases: [(&[u8], FailureKind); 17] = [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BadRequest),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BadRequest),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", BadRequest),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", BadRequest),
        (b"Content-Length: 5, 5\r\n", BadRequest),
        (b"Content-Length:\r\n", BadRequest),
        (b"Content-Length: 0000000000000000000000000000000000000000000000000000000000000000000005\r\n", BadRequest),
        (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", UnknownTransferCoding),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", BadRequest),
        (b"Transfer-Encoding: gzip, chunked\r\n", UnknownTransferCoding),
        (b"Transfer-Encoding: \x0bchunked\r\n", BadRequest),
        (b"Content_Length: 5\r\n", BadRequest),
        (b"Content--Length: 5\r\n", BadRequest),
        (b"ContentLength: 5\r\n", BadRequest),
        (b"-Content-Length: 5\r\n", BadRequest),
        (b"Transfer.Encoding: chunked\r\n", BadRequest),
        (b"transfer-encodin-g: chunked\r\n", BadRequest),
    ];
    for (fields, kind) in cases {
        assert_refused(&head(fields), kind);
    }
    assert_refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadRequest);
    assert_passes(&head(b"Content-Lengths: 5\r\nX-Content-Length: 6\r\nTransfer-Encodings: x\r\n"));
}

/// S-07.
#[test]
fn malformed_fields_are_refused() {
    let cases: [&[u8]; 20] = [
        b"X: a\nY: b\r\n",
        b"X: a\r Y: b\r\n",
        b"X: a\rY: b\r\n",
        b"X: a\0b\r\n",
        b"X: a\x7fb\r\n",
        b"X: a\x01b\r\n",
        b"X\0: a\r\n",
        b"X\r: a\r\n",
        b"X\n: a\r\n",
        b"X: a\r\n folded\r\n",
        b"X: a\r\n\tfolded\r\n",
        b"X : a\r\n",
        b"X\t: a\r\n",
        b": a\r\n",
        b":\r\n",
        b"X\r\n",
        b"no colon at all\r\n",
        b"X\xe4: a\r\n",
        b"(X): a\r\n",
        b"Host: b\r\n",
    ];
    for fields in cases {
        assert_refused(&head(fields), BadRequest);
    }
    assert_refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", BadRequest);
    assert_refused(b"GET / HTTP/1.1\r\nHost: a\r\n\n", BadRequest);
    assert_refused(b"GET / HTTP/1.1\r\nHost: a\r\n\rX", BadRequest);
}

/// C-01, C-02, S-12, S-29.
#[test]
fn malformed_request_lines_are_refused() {
    let cases: [(&[u8], FailureKind); 27] = [
        (b"GET / HTTP/1.1\n", BadRequest),
        (b"GET / HTTP/1.1\r\r\n", BadRequest),
        (b"GET / HTTP/1.1 \r\n", BadRequest),
        (b"GET / HTTP/1.1 HTTP/1.1\r\n", BadRequest),
        (b"GET  / HTTP/1.1\r\n", BadRequest),
        (b"GET /  HTTP/1.1\r\n", BadRequest),
        (b"GET\t/ HTTP/1.1\r\n", BadRequest),
        (b" GET / HTTP/1.1\r\n", BadRequest),
        (b"GET /\r\n", BadRequest),
        (b"GET / http/1.1\r\n", BadRequest),
        (b"GET / HTTP/11\r\n", BadRequest),
        (b"GET / HTTP/1.10\r\n", BadRequest),
        (b"GET /a b HTTP/1.1\r\n", BadRequest),
        (b"GET /a\tb HTTP/1.1\r\n", BadRequest),
        (b"GET /a\0b HTTP/1.1\r\n", BadRequest),
        (b"GET /a\\b HTTP/1.1\r\n", BadRequest),
        (b"GET /a#b HTTP/1.1\r\n", BadRequest),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n", BadRequest),
        (b"G(T / HTTP/1.1\r\n", BadRequest),
        (b"G\xe4T / HTTP/1.1\r\n", BadRequest),
        (b"\x16\x03\x01\x02\0\x01\0\x01", BadRequest),
        (b"\nGET / HTTP/1.1\r\n", BadRequest),
        (b"\rGET / HTTP/1.1\r\n", BadRequest),
        (b"GET / HTTP/1.2\r\n", UnsupportedVersion),
        (b"GET / HTTP/0.9\r\n", UnsupportedVersion),
        (b"PRI * HTTP/2.0\r\n", UnsupportedVersion),
        (b"GET / HTTP/9.9\r\n", UnsupportedVersion),
    ];
    for (line, kind) in cases {
        assert_refused(&[line, b"Host: a\r\n\r\n"].concat(), kind);
    }
    let method = |n: usize| [vec![b'M'; n], b" / HTTP/1.1\r\n\r\n".to_vec()].concat();
    assert_passes(&method(32));
    assert_refused(&method(33), UnknownMethod);
    assert_refused(&b"\r\n".repeat(9), BadRequest);
    assert_passes(&[b"\r\n".repeat(8), method(3)].concat());
}

/// S-06.
#[test]
fn malformed_chunks_are_refused() {
    let extension = |n: usize| [b"5;".as_slice(), &vec![b'x'; n], b"\r\nhello\r\n0\r\n\r\n"].concat();
    let cases: [&[u8]; 24] = [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5 0\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b";a\r\nhello\r\n0\r\n\r\n",
        b"5;ext\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\r;a\nhello\r\n0\r\n\r\n",
        b"5;a\0\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\r\n folded\r\n\r\n",
    ];
    for body in cases {
        assert_refused(&chunked(body), BadRequest);
    }
    assert_passes(&chunked(b"5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(feed_cut(&chunked(&extension(16 * 1024 - 1)), &[]), Ok(GuardState::BetweenMessages));
    assert_eq!(feed_cut(&chunked(&extension(16 * 1024)), &[]).map_err(|(_, kind)| kind), Err(BadRequest));
    // Many small extensions are as bad as a large one.
    let dripped = b"1;abcdefgh\r\nx\r\n".repeat(2048);
    assert_eq!(feed_cut(&chunked(&dripped), &[]).map_err(|(_, kind)| kind), Err(BadRequest));
}

#[test]
fn limits_are_held_to_the_byte() {
    let head_of = |n: usize| {
        let fixed = head(b"X: \r\n").len();
        head(&[b"X: ".as_slice(), &vec![b'a'; n - fixed], b"\r\n"].concat())
    };
    assert_passes(&head_of(LIMITS.header_bytes));
    assert_refused(&head_of(LIMITS.header_bytes + 1), HeadersTooLarge);
    // Host is the first.
    assert_passes(&head(&b"X: y\r\n".repeat(9)));
    assert_refused(&head(&b"X: y\r\n".repeat(10)), HeadersTooLarge);
    let get = |n: usize| [b"GET ".as_slice(), &vec![b'/'; n], b" HTTP/1.1\r\n\r\n"].concat();
    assert_passes(&get(LIMITS.target_bytes));
    assert_refused(&get(LIMITS.target_bytes + 1), UriTooLong);
    assert_refused(&chunked(&[b"0\r\nX: ".as_slice(), &[b'a'; 1100], b"\r\n\r\n"].concat()), HeadersTooLarge);
    assert_refused(&chunked(&[b"0\r\n".as_slice(), &b"X: y\r\n".repeat(11), b"\r\n"].concat()), HeadersTooLarge);
}

/// S-08, S-10: until the connection is opaque, what follows an upgrade or a CONNECT is read as a request.
#[test]
fn bytes_after_an_upgrade_request_are_judged_until_it_is_granted() {
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".as_slice();
    assert_passes(&[upgrade, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    assert_eq!(feed(&[upgrade, b"\x81\x05hello"].concat()), Err((upgrade.len(), BadRequest)));
    let connect = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    assert_eq!(feed(&[connect, b"\x16\x03\x01"].concat()), Err((connect.len(), BadRequest)));
}

#[test]
fn the_guard_of_an_idle_connection_is_small() {
    assert!(size_of::<HeadGuard>() <= 192, "{}", size_of::<HeadGuard>());
}

#[test]
fn ordinary_heads_take_the_fast_path() {
    let browser = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nCookie: x=y; z=\"1\"\r\nCache-Control: max-age=0\r\nConnection: keep-alive\r\n\
        Content-Type: text/plain\r\nContent-Encoding: br\r\nContent-Length: 5\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\tx\r\n\r\n";
    let limits = HeadLimits { header_count: 100, ..LIMITS };
    assert_eq!(fast::complete_head(browser, &limits), Some((browser.len(), Framing::Length(5))));
    assert_eq!(
        fast::complete_head(&head(b"transfer-encoding: chunked\r\n"), &limits).map(|(_, f)| f),
        Some(Framing::Chunked)
    );
}

/// One request of a generated pipeline, with the offsets at which its head and its body end.
#[derive(Clone, Debug)]
struct Message {
    bytes: Vec<u8>,
    head_end: usize,
}

fn message() -> impl Strategy<Value = Message> {
    let name = "[a-zA-Z][a-zA-Z0-9_.!-]{0,12}";
    let value = "[ -~\t\u{80}-\u{ff}]{0,40}";
    let fields = prop::collection::vec((name, value), 0..6);
    let body = prop_oneof![
        Just(None),
        prop::collection::vec(any::<u8>(), 0..50).prop_map(|body| Some(Ok(body))),
        prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{0,9})?"), 0..4)
            .prop_map(|chunks| Some(Err(chunks))),
    ];
    ("(\r\n){0,2}", "[A-Z-]{1,12}", "/[!$-;=?-Z_a-z~]{0,60}", fields, body, any::<bool>()).prop_map(
        |(empty_lines, method, target, fields, body, has_trailer)| {
            let mut bytes = format!("{empty_lines}{method} {target} HTTP/1.1\r\nHost: a\r\n").into_bytes();
            for (name, value) in fields {
                let folded: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                if !["host", "contentlength", "transferencoding"].contains(&folded.to_lowercase().as_str()) {
                    bytes.extend(format!("{name}: {value}\r\n").into_bytes());
                }
            }
            match &body {
                None => {}
                Some(Ok(body)) => bytes.extend(format!("content-length: {}\r\n", body.len()).into_bytes()),
                Some(Err(_)) => bytes.extend(b"Transfer-Encoding: Chunked\r\n"),
            }
            bytes.extend(b"\r\n");
            let head_end = bytes.len();
            match body {
                None => {}
                Some(Ok(body)) => bytes.extend(body),
                Some(Err(chunks)) => {
                    for (chunk, extension) in chunks {
                        bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                        bytes.extend(chunk);
                        bytes.extend(b"\r\n");
                    }
                    bytes.extend(if has_trailer { b"0\r\nX-T: 1\r\n\r\n".as_slice() } else { b"0\r\n\r\n" });
                }
            }
            Message { bytes, head_end }
        },
    )
}

/// Where a connection stands after `offset` bytes of `messages`.
fn reference(messages: &[Message], mut offset: usize) -> GuardState {
    for message in messages {
        let head_start = message.bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).expect("a method");
        if offset <= head_start {
            return GuardState::BetweenMessages;
        } else if offset < message.head_end {
            return GuardState::InHead;
        } else if offset < message.bytes.len() {
            return GuardState::InBody;
        }
        offset -= message.bytes.len();
    }
    GuardState::BetweenMessages
}

fn cuts_of(places: &[prop::sample::Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn message_ends_are_found_wherever_the_stream_is_cut(
        messages in prop::collection::vec(message(), 1..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.bytes.clone()).collect();
        let mut guard = HeadGuard::new(LIMITS);
        let mut start = 0;
        for end in cuts_of(&places, stream.len()).into_iter().chain([stream.len()]) {
            prop_assert_eq!(guard.feed(&stream[start..end]), Verdict::Pass(reference(&messages, end)));
            start = end;
        }
        prop_assert_eq!(guard.heads_begun(), messages.len() as u64);
    }

    #[test]
    fn a_wrong_byte_is_judged_alike_wherever_the_stream_is_cut(
        messages in prop::collection::vec(message(), 1..4),
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\0 :;\t,5xX#".as_slice())], 0..3), 1..3),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut stream: Vec<u8> = messages.iter().flat_map(|message| message.bytes.clone()).collect();
        for (place, byte, how) in damages {
            let place = place.index(stream.len());
            match how {
                0 => stream[place] = byte,
                1 => stream.insert(place, byte),
                _ => { stream.remove(place); }
            }
        }
        let whole = feed_cut(&stream, &[]);
        let every_byte: Vec<usize> = (1..stream.len()).collect();
        for cuts in [cuts_of(&places, stream.len()), every_byte] {
            prop_assert_eq!(feed_cut(&stream, &cuts).map_err(|(_, kind)| kind), whole.map_err(|(_, kind)| kind));
        }
    }

    #[test]
    fn the_fast_path_accepts_only_what_the_reader_accepts(message in message(), place: prop::sample::Index, byte: u8) {
        let mut bytes = message.bytes;
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Some((n_bytes, framing)) = fast::complete_head(&bytes, &LIMITS) {
            prop_assert_eq!(Head::default().feed(&bytes, &LIMITS), Ok(Some((n_bytes, framing))));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = feed_cut(&bytes, &[]);
        let _ = feed_cut(&chunked(&bytes), &[]);
        let _ = feed_cut(&[b"GET / HTTP/1.1\r\n".as_slice(), &bytes].concat(), &[]);
    }
}
