//! The corpus of the http_desync_guardian crate against the head guard: 159 requests that proxies have read
//! differently.
//! Promises that what the corpus calls severe or ambiguous is refused and what it calls compliant passes, with the
//! exceptions listed here.
//! What the engine and a backend make of those that pass is tested elsewhere.

use std::fs;
use std::path::Path;

use portway::error::FailureKind;
use portway::http::head_guard::{GuardState, HeadGuard, HeadLimits, Verdict};
use serde::Deserialize;

const LIMITS: HeadLimits = HeadLimits { header_bytes: 32 * 1024, header_count: 100, target_bytes: 8 * 1024 };

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) uri: String,
    pub(crate) method: String,
    version: String,
    #[serde(default)]
    pub(crate) headers: Option<Vec<Field>>,
    pub(crate) expected: Expected,
}

#[derive(Deserialize)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: Scalar,
}

/// Some values are written as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    pub(crate) fn text(&self) -> String {
        match self {
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text.clone(),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) tier: Tier,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Tier {
    Compliant,
    Acceptable,
    Ambiguous,
    Severe,
}

/// What the corpus wants refused and we let pass, with the reason, in the order of its files.
const PASSED_ALTHOUGH_AMBIGUOUS: [(&str, &str); 6] = [
    ("Get with a body and Content-Length", BODY_WITH_GET),
    ("Get with a body and Transfer-Encoding", BODY_WITH_GET),
    ("Head with a body and Content-Length", BODY_WITH_GET),
    ("Head with a body and Transfer-Encoding", BODY_WITH_GET),
    ("Has a CL in GET", BODY_WITH_GET),
    ("Has a TE in GET", BODY_WITH_GET),
];

const BODY_WITH_GET: &str =
    "a body of a GET or HEAD has one end for every parser of RFC 9112 §6.3; it is forwarded framed anew (S-05)";

/// What the corpus wants passed and we refuse, with the reason, in the order of its files.
const REFUSED_ALTHOUGH_COMPLIANT: [(&str, FailureKind, &str); 10] = [
    ("Correct TE OK", FailureKind::UnknownTransferCoding, CODINGS),
    ("Transfer-Encoding: identity and chunked OK", FailureKind::UnknownTransferCoding, CODINGS),
    ("Multiple transfer encoding headers in a single request OK", FailureKind::UnknownTransferCoding, CODINGS),
    ("TE with custom parameters OK", FailureKind::BadRequest, CODINGS),
    ("Different Transfer-Encoding headers", FailureKind::UnknownTransferCoding, CODINGS),
    ("Different Transfer-Encoding headers combined", FailureKind::UnknownTransferCoding, CODINGS),
    ("Transfer-Encoding with a param: chunked;custom_param", FailureKind::BadRequest, CODINGS),
    (
        "Compliant URL",
        FailureKind::BadRequest,
        "it holds `<`, `>`, `\\` and a fragment, which RFC 3986 has no place for in a request target",
    ),
    ("International in URI", FailureKind::BadRequest, "a target is ASCII: RFC 3986 §2 has other bytes percent-encoded"),
    ("Empty URI", FailureKind::BadRequest, "two spaces and nothing between them are no target: RFC 9112 §3"),
];

const CODINGS: &str =
    "only `chunked`, alone, is implemented; RFC 9112 §6.1 has the others refused, and H6 is what comes of lenience";

pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/http_desync_guardian");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the corpus is there").map(|file| file.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let parse = |path: &std::path::PathBuf| -> Vec<Case> {
        let text = fs::read_to_string(path).expect("readable");
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().flat_map(parse).collect()
}

/// The request on the wire, with the characters from U+0080 as UTF-8.
pub(crate) fn utf8(case: &Case) -> Vec<u8> {
    let mut text = format!("{} {} {}\r\n", case.method, case.uri, case.version);
    for field in case.headers.iter().flatten() {
        text.push_str(&format!("{}: {}\r\n", field.name, field.value.text()));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The same with the characters up to U+00FF as one byte each, which is what `"\xa0"` in the corpus may mean as well.
pub(crate) fn latin1(case: &Case) -> Option<Vec<u8>> {
    String::from_utf8(utf8(case)).expect("made from text").chars().map(|char| u8::try_from(char).ok()).collect()
}

/// What the head guard says to a case that comes in one piece.
pub(crate) fn guarded(bytes: &[u8]) -> Result<(), FailureKind> {
    feed(bytes, &[])
}

fn feed(bytes: &[u8], cuts: &[usize]) -> Result<(), FailureKind> {
    let mut guard = HeadGuard::new(LIMITS);
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        if let Verdict::Refused { kind, .. } = guard.feed(&bytes[start..end]) {
            return Err(kind);
        }
        start = end;
    }
    assert!(matches!(guard.state(), GuardState::InBody | GuardState::BetweenMessages), "{:?}", guard.state());
    Ok(())
}

/// The verdict on a case, after checking that it is the same in both spellings, whole, cut in two anywhere, and byte by
/// byte.
fn verdict(case: &Case) -> Result<(), FailureKind> {
    let whole = feed(&utf8(case), &[]);
    for bytes in [Some(utf8(case)), latin1(case)].into_iter().flatten() {
        let every_byte: Vec<usize> = (1..bytes.len()).collect();
        for cuts in (1..bytes.len()).map(|cut| vec![cut]).chain([vec![], every_byte]) {
            assert_eq!(feed(&bytes, &cuts), whole, "{}: {} cut at {cuts:?}", case.name, bytes.escape_ascii());
        }
    }
    whole
}

#[test]
fn the_corpus_is_complete() {
    assert_eq!(cases().len(), 159);
}

/// Every case of `tiers` with its verdict.
fn verdicts(tiers: &[Tier]) -> Vec<(String, Result<(), FailureKind>)> {
    let cases = cases().into_iter().filter(|case| tiers.contains(&case.expected.tier));
    cases.map(|case| (verdict(&case), case.name)).map(|(verdict, name)| (name, verdict)).collect()
}

#[test]
fn severe_and_ambiguous_requests_of_the_corpus_are_refused() {
    let (refused, passed): (Vec<_>, Vec<_>) =
        verdicts(&[Tier::Severe, Tier::Ambiguous]).into_iter().partition(|(_, verdict)| verdict.is_err());
    let passed: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(passed, PASSED_ALTHOUGH_AMBIGUOUS.map(|(name, _)| name));
    assert_eq!(refused.len(), 110);
}

#[test]
fn compliant_requests_of_the_corpus_pass() {
    let verdicts = verdicts(&[Tier::Compliant]);
    let refused = verdicts.iter().filter_map(|(name, verdict)| Some((name.as_str(), verdict.err()?)));
    assert_eq!(refused.collect::<Vec<_>>(), REFUSED_ALTHOUGH_COMPLIANT.map(|(name, kind, _)| (name, kind)));
    assert_eq!(verdicts.len(), 28);
}

/// The corpus lets malformed names, values, versions and targets pass where the framing does not depend on them. We do
/// not.
#[test]
fn acceptable_requests_of_the_corpus_pass_only_if_they_are_well_formed() {
    let verdicts = verdicts(&[Tier::Acceptable]);
    let passed = verdicts.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(name, _)| name.as_str());
    assert_eq!(passed.collect::<Vec<_>>(), ["Get with a body and Content-Length:0"; 2]);
}
