//! Clients that mean harm: requests hidden in others (4) and more connections than there is room for (5).
//! What they get is their affair; that nobody else notices is the bar.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::client::{self, Persistence, Request};
use crate::stage::ledger::{Hope, Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Scenario, Stage};
use crate::support::{Client, PATIENCE, Reader};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "smuggling",
        number: "4",
        fault: "requests hidden in requests, among honest ones on the same upstream connections",
        bar: "nothing crossed, nothing lost, every byte at a backend belongs to one request",
        n_backends: 1,
        play: |stage| Box::pin(smuggling(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "storm",
        number: "5",
        fault: "5,000 connections at once, then 12,000 where 6,000 are allowed",
        bar: "refused only above the limit, and fast; then accepting as before within 1 s",
        top: "limits: { connections: 6000 }",
        // Few of the honest ones are under way at a time, so that flood and load together stay below the limit.
        full_rate: 200,
        play: |stage| Box::pin(storm(stage)),
        ..Scenario::ORDINARY
    },
];

/// Heads and bodies that two servers could read differently; `{}` is where the hidden request stands.
/// S-01, S-02, S-04, S-06, S-07 to S-10 of the HTTP reference.
const HIDING: [&str; 30] = [
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\nContent-Length: 0\r\n\r\n{}",
    "POST /w/1 HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 6\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 6\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;ext\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx0\r\n\r\n{}",
    "POST /w/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\n\r\n\r\n0\r\n\r\n{}",
    "GET /w/1 HTTP/1.1\r\nHost: a\r\nX: y\r {}",
    "GET /w/1 HTTP/1.1\r\nHost: a\r\n folded: 1\r\nContent-Length: 6\r\n\r\n{}",
    "GET /w/1 HTTP/1.1\r\nHost: a\r\n: no name\r\nContent-Length: 6\r\n\r\n{}",
    "GET /w/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n{}",
    "GET /w/1\u{20} HTTP/1.1\r\nHost: a\r\n\r\n{}",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{}",
];

/// Each payload again and again; the hidden request has an id that nobody has sent, so that the books would show it.
async fn smuggling(stage: &mut Stage) {
    let ends_at = Instant::now() + stage.pick(Duration::from_secs(2), Duration::from_secs(40));
    let mut n = 0_u64;
    while Instant::now() < ends_at {
        for hiding in HIDING {
            let hidden = format!("GET /w/9 HTTP/1.1\r\nHost: a\r\nx-id: {}\r\n\r\n", payload::next_id());
            let attack = hiding.replace("{}", &hidden);
            let mut attacker = Client::connect(stage.front.address).await;
            attacker.send(attack).await;
            let (answer, _) = attacker.until_close(Duration::from_millis(20)).await;
            let is_served = answer.starts_with(b"HTTP/1.1 200");
            stage.findings.require(!is_served, format!("answered with 200: {hiding:?}"));
            n += 1;
        }
        lies_with_victims(stage).await;
    }
    stage.findings.measure(format!("{n} attacks"));
    stage.findings.require(n > 0, "no attack was made");
}

/// The other direction: answers that hide an answer, S-03 and S-04.
async fn lies_with_victims(stage: &mut Stage) {
    for lie in ["surplus", "two-lengths", "bad-chunk"] {
        let request = Request {
            id: payload::next_id(),
            method: Method::Get,
            path: "/w",
            size: 100,
            act: Some(format!("lie {lie}")),
            persistence: Persistence::KeepAlive,
        };
        let due_us = payload::now_us();
        let (ending, _) = client::exchange(stage.front.address, None, &request, Instant::now() + PATIENCE).await;
        let sent = load::sent(&request, &Load::ORDINARY, due_us, ending);
        stage.sent.push(Sent { hope: Hope::Nothing, ..sent });
    }
}

async fn storm(stage: &mut Stage) {
    let below = flood(stage.front.address, stage.pick(1_500, 5_000)).await;
    stage
        .findings
        .require(below.n_served == below.n, format!("{} of {} were served below the limit", below.n_served, below.n));
    stage.findings.measure(format!("{} at once: all served in {:?}", below.n, below.took));
    drop(below);
    // Above the limit, honest clients are refused like all others: there must be none.
    let load = stage.load.take().expect("this scenario has load");
    stage.sent.extend(load.stop().await);

    let above = flood(stage.front.address, stage.pick(7_500, 12_000)).await;
    stage.findings.require(
        above.n_served + above.n_refused == above.n && (5_900..=6_000).contains(&above.n_served),
        format!("of {}: {} served, {} refused; the limit is 6,000", above.n, above.n_served, above.n_refused),
    );
    stage
        .findings
        .measure(format!("{}: {} served, {} refused in {:?}", above.n, above.n_served, above.n_refused, above.took));
    drop(above);

    let began_at = Instant::now();
    while !is_served(stage.front.address).await {
        let waited = began_at.elapsed();
        stage.findings.require(waited < PATIENCE, "nobody is served after the storm");
        if waited > PATIENCE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = began_at.elapsed();
    stage.findings.measure(format!("served again after {took:?}"));
    let limit = stage.pick(Duration::from_secs(5), Duration::from_secs(1));
    stage.findings.require(took <= limit, format!("served again only after {took:?}"));
    let load = Load { rate: 200, ..Load::ORDINARY }.start(stage.front.address, 1);
    stage.rest(Duration::from_millis(500), Duration::from_secs(5)).await;
    stage.sent.extend(load.stop().await);
}

struct Flood {
    n: usize,
    n_served: usize,
    n_refused: usize,
    took: Duration,
    _held: Vec<Reader<tokio::net::TcpStream>>,
}

enum Fate {
    Served(Reader<tokio::net::TcpStream>),
    Refused,
    Neither,
}

/// `n` connections at once, each with one request, each held open if it was served.
async fn flood(address: SocketAddr, n: usize) -> Flood {
    let began_at = Instant::now();
    let mut tasks = JoinSet::new();
    for nth in 0..n {
        tasks.spawn(async move {
            tokio::time::timeout(Duration::from_secs(20), drop_of(nth, address)).await.unwrap_or(Fate::Neither)
        });
    }
    let mut flood = Flood { n, n_served: 0, n_refused: 0, took: Duration::ZERO, _held: Vec::new() };
    while let Some(fate) = tasks.join_next().await {
        match fate.expect("no panic") {
            Fate::Served(reader) => {
                flood.n_served += 1;
                flood._held.push(reader);
            }
            Fate::Refused => flood.n_refused += 1,
            Fate::Neither => {}
        }
    }
    flood.took = began_at.elapsed();
    flood
}

/// One of many: from an address of its own, since one alone has fewer ports than a storm has connections.
async fn drop_of(nth: usize, address: SocketAddr) -> Fate {
    let source = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + nth % 200).unwrap_or(1));
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.bind((source, 0).into()).expect("loopback has a free port");
    let Ok(stream) = socket.connect(address).await else { return Fate::Refused };
    let mut reader = Reader::new(stream);
    let request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    if tokio::io::AsyncWriteExt::write_all(&mut reader.stream, request.as_bytes()).await.is_err() {
        return Fate::Refused;
    }
    match reader.response_to("GET").await {
        Ok(response) if response.status == 200 => Fate::Served(reader),
        Ok(response) if response.status == 503 => Fate::Refused,
        Ok(_) => Fate::Neither,
        Err(_) => Fate::Refused,
    }
}

async fn is_served(address: SocketAddr) -> bool {
    let one = tokio::time::timeout(Duration::from_secs(1), drop_of(0, address)).await;
    matches!(one, Ok(Fate::Served(_)))
}
