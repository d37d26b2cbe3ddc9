//! The corpus of `corpus`, end to end: raw requests through the real binary, over upstream connections that all share.
//! It promises that not a byte of a refused request reaches the origin, that one which passes arrives as it was sent,
//! and that after each of them somebody else's request on the same pool is answered as if nothing had happened.

use std::time::Duration;

use crate::corpus::{Case, Tier, cases, guarded, latin1, utf8};
use crate::support::{Act, Pair, Received, response};

/// What does not go on end to end: RFC 9110 §7.6.1, and the framing, which is ours on each connection.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The corpus leaves `Host` out, without which every request of HTTP/1.1 would be refused for that alone. It goes last, so
/// that the oddities keep their places.
fn with_host(case: &Case, mut head: Vec<u8>) -> Vec<u8> {
    if !case.headers.iter().flatten().any(|field| field.name.eq_ignore_ascii_case("host")) {
        head.truncate(head.len() - 2);
        head.extend_from_slice(b"Host: corpus\r\n\r\n");
    }
    head
}

/// The content that a case announces: the corpus has heads only.
fn body_of(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let announced = |name: &str| {
        let fields = case.headers.iter().flatten();
        fields.filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value.text()).next_back()
    };
    if announced("transfer-encoding").is_some() {
        return (b"3\r\nabc\r\n0\r\n\r\n".to_vec(), b"abc".to_vec());
    }
    let length = announced("content-length").and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    (vec![b'x'; length], vec![b'x'; length])
}

#[tokio::test]
async fn refused_requests_of_the_corpus_do_not_reach_the_origin_and_the_others_arrive_whole() {
    let mut pair = Pair::start(|received| match received.target() {
        "/victim" => vec![Act::ReadBody, Act::Send(response(200, &[], "victim"))],
        _ => vec![Act::ReadBody, Act::Send(response(200, &[], "case"))],
    })
    .await;
    let (mut n_refused, mut n_passed) = (0, 0);
    for case in cases() {
        let spellings = [Some(with_host(&case, utf8(&case))), latin1(&case).map(|head| with_host(&case, head))];
        for (idx, head) in spellings.iter().flatten().enumerate() {
            if idx == 1 && Some(head) == spellings[0].as_ref() {
                continue; // all ASCII: the same bytes
            }
            match check(&pair, &case, head).await {
                true => n_passed += 1,
                false => n_refused += 1,
            }
        }
    }
    assert!(n_passed >= 20 && n_refused >= 110, "{n_passed} passed, {n_refused} refused");
    pair.assert_lives();
}

/// Sends one case and then a victim; whether the case passed.
async fn check(pair: &Pair, case: &Case, head: &[u8]) -> bool {
    let name = &case.name;
    let n_before = pair.origin.n_requests();
    let (wire, content) = body_of(case);
    let is_let_through = guarded(head).is_ok();
    let mut client = pair.connect().await;
    client.send([head, &wire].concat()).await;
    let passed = if is_let_through {
        let answer = client.response_to(&case.method).await;
        match answer.status {
            200 => {
                let received = pair.origin.requests().pop().expect("it was answered");
                assert_arrived(case, head, &received, &content);
            }
            // What the guard has no quarrel with, the gateway may: a target in a form that it does not take, say.
            _ => assert!(answer.get("x-portway-reason").is_some(), "{name}: {answer:?}"),
        }
        assert!(
            case.expected.tier != Tier::Compliant || answer.status == 200,
            "{name}: {:?} {}",
            answer.head.fields,
            answer.text()
        );
        answer.status == 200
    } else {
        let (raw, _) = client.until_close(Duration::from_secs(3)).await;
        let text = String::from_utf8_lossy(&raw);
        assert!(text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 5"), "{name}: {text}");
        assert!(text.contains("x-portway-reason"), "{name}: {text}");
        false
    };
    let n_after = pair.origin.n_requests();
    assert_eq!(n_after - n_before, usize::from(passed), "{name}: {:#?}", pair.origin.requests().pop());

    let victim = pair.portway.get("/victim").await;
    assert_eq!((victim.status, victim.text().as_str()), (200, "victim"), "after {name}");
    let received = pair.origin.requests().pop().expect("the victim's");
    assert_eq!((received.method(), received.target()), ("GET", "/victim"), "after {name}");
    assert_eq!(pair.origin.n_requests(), n_after + 1, "after {name}");
    assert_eq!(pair.origin.leftovers(), Vec::<Vec<u8>>::new(), "after {name}");
    passed
}

fn assert_arrived(case: &Case, head: &[u8], received: &Received, content: &[u8]) {
    let name = &case.name;
    assert_eq!(received.method(), case.method, "{name}");
    assert!(case.uri == received.target() || case.uri.ends_with(received.target()), "{name}: {}", received.target());
    assert_eq!(received.body.content, content, "{name}");
    let text = String::from_utf8_lossy(head); // as the origin's side is read
    let sent: Vec<_> = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':')).collect();
    for (field, _) in &sent {
        let lower = field.to_ascii_lowercase();
        if OURS.contains(&lower.as_str()) || lower.starts_with("x-forwarded") {
            continue;
        }
        let same = sent.iter().filter(|(other, _)| other.eq_ignore_ascii_case(&lower));
        let values: Vec<&str> = same.map(|(_, value)| value.trim()).collect();
        assert_eq!(received.head.all(&lower), values, "{name}: {lower}");
    }
    let framings = received.head.all("content-length").len() + received.head.all("transfer-encoding").len();
    assert!(framings <= 1, "{name}: {:?}", received.head.fields);
}
