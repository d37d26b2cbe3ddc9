//! Tells a backend who asked: `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `Via`, with rules for whom to believe.
//! Promises that a stranger cannot say anything about himself, and that a message which comes round again is noticed
//! (C-27, C-29, S-15).
//! What does not change on a connection is made once for it, as the bytes that go out with each of its requests. Request
//! ids and `traceparent` are not made here.

use std::net::{IpAddr, SocketAddr};

use ::http::Version;
use ::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use ipnet::IpNet;

use super::headers::elements;
use crate::error::FailureKind;

/// `X-Forwarded-For`: the client and the proxies after it, each as seen by the next.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`: the scheme of the client's own request.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`: the authority of the client's own request.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`: the port that the client connected to.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Addresses of `X-Forwarded-For` that are looked at, from the right. A longer chain of trusted proxies does not exist.
const HOPS_MAX: usize = 32;

/// Whether what a peer says about the client is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its forwarding fields are overwritten.
    Untrusted,
    /// It is one of `trusted_proxies`: its forwarding fields are kept, and `X-Forwarded-For` is continued.
    Trusted,
}

/// How the client reached a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As URLs begin with it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The two ends of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The peer; `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// Our own side; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// What is spoken on it.
    pub scheme: Scheme,
}

/// What all requests of a connection have in common.
#[derive(Clone, Debug)]
pub struct PeerHeaders {
    peer_ip: Option<IpAddr>,
    voice: Voice,
}

/// Who speaks of the client.
#[derive(Clone, Debug)]
enum Voice {
    /// We alone, in these lines.
    Ours(Box<[u8]>),
    /// The peer, whom we continue.
    Peers(Box<Continued>),
}

/// What continues the word of a trusted peer.
#[derive(Clone, Debug)]
struct Continued {
    /// Whom its chain may go through: settled with the connection, as the trust is.
    trusted_proxies: Box<[IpNet]>,
    for_value: HeaderValue,
    proto_value: HeaderValue,
    port_value: Option<HeaderValue>,
}

impl PeerHeaders {
    /// The fields for a connection between `ends`.
    ///
    /// The peer of a unix socket is on this host, and is trusted if 127.0.0.1 is.
    pub fn new(ends: &Ends, trusted_proxies: &[IpNet]) -> Self {
        const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        // A dual-stack socket shows ::ffff:192.0.2.1; people write, and configure, 192.0.2.1.
        let peer_ip = ends.peer.map(|peer| peer.ip().to_canonical());
        // RFC 7239 §6.2.
        let name = peer_ip.map_or("unknown".to_owned(), |ip| ip.to_string());
        let voice = match trust(peer_ip.unwrap_or(LOOPBACK), trusted_proxies) {
            Trust::Untrusted => Voice::Ours(lines(&name, ends)),
            Trust::Trusted => Voice::Peers(Box::new(Continued {
                trusted_proxies: trusted_proxies.into(),
                for_value: value(&name),
                proto_value: HeaderValue::from_static(ends.scheme.as_str()),
                port_value: ends.local.map(|local| HeaderValue::from(local.port())),
            })),
        };
        Self { peer_ip, voice }
    }

    /// Whether the peer's own forwarding fields count.
    pub fn trust(&self) -> Trust {
        if matches!(self.voice, Voice::Ours(_)) { Trust::Untrusted } else { Trust::Trusted }
    }

    /// Who the client is: the peer, or for a trusted peer the right-most address of `X-Forwarded-For` that is not a
    /// trusted proxy's.
    /// `None` only on a unix socket. Ask before [`settle`](Self::settle).
    pub fn client_ip(&self, headers: &HeaderMap) -> Option<IpAddr> {
        match &self.voice {
            Voice::Ours(_) => self.peer_ip,
            Voice::Peers(peers) => right_most_untrusted(headers, &peers.trusted_proxies).or(self.peer_ip),
        }
    }

    /// Takes a stranger's forwarding fields out of a cleaned request, or continues those of a trusted peer. Its `Host` is
    /// settled.
    pub fn settle(&self, headers: &mut HeaderMap) {
        match &self.voice {
            Voice::Ours(_) => SET_BY_US.iter().for_each(|name| drop(headers.remove(name))),
            Voice::Peers(peers) => peers.continue_chain(headers),
        }
    }

    /// Appends the lines that settled `headers` do not have, because they are ours alone.
    pub fn write(&self, headers: &HeaderMap, out: &mut Vec<u8>) {
        let Voice::Ours(lines) = &self.voice else { return };
        out.extend_from_slice(lines);
        if let Some(host) = headers.get(HOST) {
            out.extend_from_slice(b"x-forwarded-host: ");
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The fields that [`PeerHeaders`] sets.
const SET_BY_US: [HeaderName; 4] = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];

/// The lines of a client called `name`.
fn lines(name: &str, ends: &Ends) -> Box<[u8]> {
    let mut lines = format!("x-forwarded-for: {name}\r\nx-forwarded-proto: {}\r\n", ends.scheme.as_str());
    if let Some(local) = ends.local {
        lines += &format!("x-forwarded-port: {}\r\n", local.port());
    }
    lines.into_bytes().into()
}

impl Continued {
    fn continue_chain(&self, headers: &mut HeaderMap) {
        let host = headers.get(HOST).cloned();
        let chain = join(headers, &self.for_value);
        headers.insert(X_FORWARDED_FOR, chain);
        let ours = [
            (X_FORWARDED_PROTO, Some(self.proto_value.clone())),
            (X_FORWARDED_HOST, host),
            (X_FORWARDED_PORT, self.port_value.clone()),
        ];
        for (name, value) in ours {
            if let Some(value) = value {
                headers.entry(name).or_insert(value);
            }
        }
    }
}

/// The chain so far, over all its lines, and `last` after it, in one line.
fn join(headers: &HeaderMap, last: &HeaderValue) -> HeaderValue {
    let mut lines = headers.get_all(X_FORWARDED_FOR).into_iter().peekable();
    if lines.peek().is_none() {
        return last.clone();
    }
    let mut chain = Vec::with_capacity(64);
    for line in lines.chain([last]) {
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).unwrap_or_else(|_| last.clone())
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("made of visible ASCII by the caller")
}

/// Whether `ip` is one of ours to believe.
fn trust(ip: IpAddr, trusted_proxies: &[IpNet]) -> Trust {
    match trusted_proxies.iter().any(|net| net.contains(&ip)) {
        true => Trust::Trusted,
        false => Trust::Untrusted,
    }
}

/// Walks the chain from its end, where our own peers wrote. What cannot be read ends the walk: nothing left of it is
/// worth more.
fn right_most_untrusted(headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Option<IpAddr> {
    let mut client = None;
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).take(HOPS_MAX) {
        let Some(ip) = hop_ip(hop) else { break };
        client = Some(ip);
        if trust(ip, trusted_proxies) == Trust::Untrusted {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn hop_ip(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_ascii();
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse().ok().map(|address: SocketAddr| address.ip());
    let ip: IpAddr = hop.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(ip.to_canonical())
}

/// Our own entry in `Via`. RFC 9110 §7.6.3 lets a pseudonym stand for the host.
#[derive(Clone, Debug)]
pub struct Via {
    pseudonym: Box<str>,
    after_http_1_1: Box<[u8]>,
    after_http_1_0: Box<[u8]>,
}

impl Via {
    /// The entry of this instance. `pseudonym` is a token that no other instance has, such as `portway-1a2b3c4d`.
    pub fn new(pseudonym: &str) -> Self {
        Self {
            pseudonym: pseudonym.into(),
            after_http_1_1: format!("via: 1.1 {pseudonym}\r\n").into_bytes().into(),
            after_http_1_0: format!("via: 1.0 {pseudonym}\r\n").into_bytes().into(),
        }
    }

    /// An error is [`FailureKind::LoopDetected`]: our entry is there already.
    pub fn check_loop(&self, headers: &HeaderMap) -> Result<(), FailureKind> {
        let is_ours = |entry: &[u8]| {
            let mut words = entry.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|received_by| received_by.eq_ignore_ascii_case(self.pseudonym.as_bytes()))
        };
        if elements(headers, &VIA).any(is_ours) { Err(FailureKind::LoopDetected) } else { Ok(()) }
    }

    /// Appends the line of our entry in a request that was received as `version`, behind those that are there.
    pub fn write(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(if version == Version::HTTP_10 { &self.after_http_1_0 } else { &self.after_http_1_1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "192.0.2.7:4711";

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().expect("a network")).collect()
    }

    fn ends(peer: &str) -> Ends {
        let address = |text: &str| Some(text.parse().expect("an address"));
        Ends { peer: address(peer), local: address("198.51.100.1:8080"), scheme: Scheme::Http }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    /// What a backend gets of `request`.
    fn signed(peer: &PeerHeaders, mut request: HeaderMap) -> HeaderMap {
        peer.settle(&mut request);
        let mut lines = Vec::new();
        peer.write(&request, &mut lines);
        for line in String::from_utf8(lines).expect("ascii").lines() {
            let (name, value) = line.split_once(": ").expect("a field");
            request.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        request
    }

    fn all(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().expect("ascii").to_owned()).collect()
    }

    /// S-15.
    #[test]
    fn a_strangers_forwarding_fields_are_overwritten() {
        let request = headers(&[
            ("host", "shop.example.com"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
        ]);
        let peer = PeerHeaders::new(&ends(PEER), &nets(&["10.0.0.0/8"]));
        assert_eq!(peer.client_ip(&request), Some("192.0.2.7".parse().expect("an address")));
        let expected = [
            ("host", "shop.example.com"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example.com"),
            ("x-forwarded-port", "8080"),
        ];
        assert_eq!(signed(&peer, request), headers(&expected));
    }

    #[test]
    fn a_stranger_without_host_leaves_no_forwarded_host_of_his_own() {
        let request = signed(&PeerHeaders::new(&ends(PEER), &[]), headers(&[("x-forwarded-host", "evil")]));
        assert!(all(&request, &X_FORWARDED_HOST).is_empty());
    }

    #[test]
    fn a_trusted_peers_chain_is_continued_in_one_line() {
        let request = headers(&[
            ("host", "a"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
        ]);
        let request = signed(&PeerHeaders::new(&ends(PEER), &nets(&["192.0.2.0/24"])), request);
        assert_eq!(all(&request, &X_FORWARDED_FOR), ["203.0.113.9, 10.1.1.1, 192.0.2.7"]);
        assert_eq!(all(&request, &X_FORWARDED_PROTO), ["https"]);
        assert_eq!(all(&request, &X_FORWARDED_HOST), ["a"]);
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_a_trusted_proxy() {
        let trusted = nets(&["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"]);
        let cases = [
            ("203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9, 10.0.0.1, 10.0.0.2", "203.0.113.9"),
            ("203.0.113.9:1234,10.0.0.1", "203.0.113.9"),
            ("2a00::1, [2001:db8::5]:443", "2a00::1"),
            ("[2a00::1]", "2a00::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("10.0.0.3, 10.0.0.1", "10.0.0.3"),
            ("6.6.6.6, unknown, 10.0.0.1", "10.0.0.1"),
            ("6.6.6.6, ", "192.0.2.7"),
            ("garbage", "192.0.2.7"),
            ("", "192.0.2.7"),
        ];
        let peer = PeerHeaders::new(&ends(PEER), &trusted);
        for (chain, client) in cases {
            let request = headers(&[("x-forwarded-for", chain)]);
            assert_eq!(peer.client_ip(&request), client.parse().ok(), "{chain}");
        }
        let two_lines = headers(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9, 10.0.0.1")]);
        assert_eq!(peer.client_ip(&two_lines), "203.0.113.9".parse().ok());
        assert_eq!(peer.client_ip(&HeaderMap::new()), "192.0.2.7".parse().ok());
    }

    #[test]
    fn a_mapped_ipv4_peer_is_an_ipv4_peer() {
        let peer = PeerHeaders::new(&ends("[::ffff:192.0.2.7]:4711"), &nets(&["192.0.2.0/24"]));
        assert_eq!(peer.trust(), Trust::Trusted);
        assert_eq!(all(&signed(&peer, HeaderMap::new()), &X_FORWARDED_FOR), ["192.0.2.7"]);
    }

    #[test]
    fn a_unix_peer_is_trusted_as_loopback_is() {
        let ends = Ends { peer: None, local: None, scheme: Scheme::Http };
        assert_eq!(PeerHeaders::new(&ends, &[]).trust(), Trust::Untrusted);
        assert_eq!(PeerHeaders::new(&ends, &nets(&["127.0.0.0/8"])).trust(), Trust::Trusted);
        let request = headers(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-port", "1")]);
        let request = signed(&PeerHeaders::new(&ends, &[]), request);
        assert_eq!(all(&request, &X_FORWARDED_FOR), ["unknown"]);
        assert!(all(&request, &X_FORWARDED_PORT).is_empty());
    }

    /// C-27.
    #[test]
    fn a_request_that_comes_round_again_is_a_loop() {
        let via = Via::new("portway-1a2b3c4d");
        assert_eq!(via.check_loop(&headers(&[("via", "1.1 a, 1.0 portway-ffffffff")])), Ok(()));
        let looped = headers(&[("via", "1.1 a, 1.0 portway-ffffffff"), ("via", "1.1 portway-1a2b3c4d")]);
        assert_eq!(via.check_loop(&looped), Err(FailureKind::LoopDetected));
        for (version, line) in
            [(Version::HTTP_11, "via: 1.1 portway-1a2b3c4d\r\n"), (Version::HTTP_10, "via: 1.0 portway-1a2b3c4d\r\n")]
        {
            let mut out = Vec::new();
            via.write(version, &mut out);
            assert_eq!(String::from_utf8(out), Ok(line.to_owned()));
        }
        let folded = headers(&[("via", "HTTP/1.1  PORTWAY-1a2b3c4d (x)")]);
        assert_eq!(via.check_loop(&folded), Err(FailureKind::LoopDetected));
    }
}
