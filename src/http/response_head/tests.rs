//! What heads of responses mean, and what is none.

use proptest::prelude::*;

use super::*;

fn parsed(text: &str, method: &Method) -> Result<Parsed, Invalid> {
    parse(&mut BytesMut::from(text), method)
}

fn head(text: &str) -> Head {
    match parsed(text, &Method::GET) {
        Ok(Parsed::Final(head)) => head,
        other => panic!("{text:?} is {other:?}"),
    }
}

fn refused(text: &str) -> Invalid {
    parsed(text, &Method::GET).expect_err(text)
}

#[test]
fn a_head_is_taken_and_what_follows_is_left() {
    let mut buf = BytesMut::from("HTTP/1.1 200 OK\r\nServer: x\r\nset-cookie: a\r\nSet-Cookie: b\r\n\r\nrest");
    let Ok(Parsed::Final(head)) = parse(&mut buf, &Method::GET) else { panic!("no head") };
    assert_eq!(&buf[..], b"rest");
    assert_eq!((head.response.status(), head.reason), (StatusCode::OK, None));
    let cookies: Vec<_> = head.response.headers().get_all("set-cookie").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!((head.response.headers()["server"].as_bytes(), cookies), (&b"x"[..], vec![&b"a"[..], &b"b"[..]]));
}

#[test]
fn half_a_head_is_left_where_it_is() {
    let text = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n";
    for cut in 0..text.len() {
        let mut buf = BytesMut::from(&text[..cut]);
        assert!(matches!(parse(&mut buf, &Method::GET), Ok(Parsed::Partial)), "{cut}");
        assert_eq!(buf.len(), cut);
    }
}

#[test]
fn unusual_words_behind_the_status_are_kept() {
    assert_eq!(head("HTTP/1.1 200 Fine\r\n\r\n").reason.as_deref(), Some(&b"Fine"[..]));
    assert_eq!(head("HTTP/1.1 200\r\n\r\n").reason, None);
    assert_eq!(head("HTTP/1.1 799 OK\r\n\r\n").reason.as_deref(), Some(&b"OK"[..]));
}

/// RFC 9112 §6.3.
#[test]
fn the_framing_is_the_first_that_applies() {
    let cases = [
        ("HTTP/1.1 200 OK\r\n", Framing::UntilClose),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Framing::Length(0)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked \r\n", Framing::Chunked),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Framing::UntilClose),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", Framing::None),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", Framing::None),
        ("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n", Framing::Switched),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", Framing::Length(5)),
    ];
    for (text, framing) in cases {
        assert_eq!(head(&format!("{text}\r\n")).framing, framing, "{text}");
    }
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert!(matches!(parsed(text, &Method::HEAD), Ok(Parsed::Final(head)) if head.framing == Framing::None));
}

/// RFC 9112 §9.3.
#[test]
fn a_connection_persists_as_its_version_and_its_options_say() {
    let cases = [
        ("HTTP/1.1 204 A\r\n", Persistence::KeepAlive),
        ("HTTP/1.1 204 A\r\nConnection: close\r\n", Persistence::Close),
        ("HTTP/1.1 204 A\r\nConnection: x, CLOSE\r\nConnection: keep-alive\r\n", Persistence::Close),
        ("HTTP/1.0 204 A\r\n", Persistence::Close),
        ("HTTP/1.0 204 A\r\nConnection: Keep-Alive\r\n", Persistence::KeepAlive),
        ("HTTP/1.1 200 A\r\nConnection: keep-alive\r\n", Persistence::Close),
        ("HTTP/1.1 101 A\r\n", Persistence::Close),
    ];
    for (text, persistence) in cases {
        assert_eq!(head(&format!("{text}\r\n")).persistence, persistence, "{text}");
    }
}

#[test]
fn an_interim_head_is_passed_over() {
    for status in [100, 102, 103, 199] {
        let mut buf = BytesMut::from(format!("HTTP/1.1 {status} X\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").as_str());
        let before = buf.len();
        let first = parse(&mut buf, &Method::GET);
        assert!(matches!(first, Ok(Parsed::Interim(seen, n)) if seen == status && n == before - buf.len()));
        assert!(matches!(parse(&mut buf, &Method::GET), Ok(Parsed::Final(_))));
    }
}

/// S-04, response side.
#[test]
fn a_length_that_is_no_number_is_refused() {
    for length in ["", "+5", "-1", "0x5", "5_0", "5,6", "5 5", "5,", "18446744073709551615", "99999999999999999999"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refused(&text), Invalid::ContentLength, "{length}");
    }
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert_eq!(refused(two), Invalid::ContentLength);
}

#[test]
fn what_is_not_http_is_refused() {
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
    ] {
        refused(text);
    }
    assert_eq!(
        refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Invalid::TransferEncoding,
        "RFC 9112 §6.1"
    );
}

/// RFC 9112 §5.1: a proxy removes it.
#[test]
fn the_space_before_a_colon_is_removed() {
    assert_eq!(head("HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n").response.headers()["x-a"], "1");
}

#[test]
fn a_head_has_a_longest_length_and_a_largest_number_of_fields() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(BYTES_MAX));
    assert_eq!(refused(&long), Invalid::TooLarge);
    assert_eq!(refused(&format!("{long}\r\n\r\n")), Invalid::TooLarge);
    let fields = |n| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(head(&fields(FIELDS_MAX)).response.headers().len(), FIELDS_MAX);
    refused(&fields(FIELDS_MAX + 1));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&mut BytesMut::from(&bytes[..]), &Method::GET);
    }

    #[test]
    fn a_head_means_the_same_in_pieces(
        fields in proptest::collection::vec("[a-z]{1,8}: ?[ -~]{0,20}\r\n", 0..20), cut in any::<prop::sample::Index>(),
    ) {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\nbody", fields.concat());
        let whole = parsed(&text, &Method::GET);
        let cut = cut.index(text.len());
        let mut buf = BytesMut::from(&text[..cut]);
        let in_pieces = match parse(&mut buf, &Method::GET) {
            Ok(Parsed::Partial) => {
                buf.extend_from_slice(&text.as_bytes()[cut..]);
                parse(&mut buf, &Method::GET)
            }
            early => early,
        };
        match (whole, in_pieces) {
            (Ok(Parsed::Final(whole)), Ok(Parsed::Final(in_pieces))) => {
                prop_assert_eq!(whole.response.headers(), in_pieces.response.headers());
                prop_assert_eq!(whole.framing, in_pieces.framing);
            }
            (Err(whole), Err(in_pieces)) => prop_assert_eq!(whole, in_pieces),
            (whole, in_pieces) => prop_assert!(false, "{:?} and {:?}", whole, in_pieces),
        }
    }
}
