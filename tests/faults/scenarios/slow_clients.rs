//! Clients that take their time: heads and bodies drop by drop, answers read drop by drop, silence (2).
//! Each of them holds what it holds until the timeout that names its case; nobody else waits for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::figures::{latencies, quantile, time};
use crate::stage::front::Who;
use crate::stage::ledger::{Ending, Hope, Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload::{self, ID};
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};
use crate::support::{eventually, resident_bytes};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "slow-clients",
    number: "2",
    fault: "5,000 clients send heads and bodies drop by drop, read so, or say nothing",
    bar: "everybody else: nothing lost, p99 at most 2 ×; each slow one ends by its timeout",
    top: "limits: { header_timeout: 2s, keep_alive: 2s, min_body_rate: 1KiB }\ndefaults: { timeouts: { idle: 2s } }",
    load: Load { rate: 200, ..Load::ORDINARY },
    full_rate: 500,
    players: Players::Everybody,
    client_timeout: Some(Duration::from_secs(2)),
    play: |stage| Box::pin(slow_clients(stage)),
    judge: judge_slow_clients,
    ..Scenario::ORDINARY
}];

/// How a client is slow.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Head,
    Body,
    Read,
    Silent,
}

/// One drop.
const EVERY: Duration = Duration::from_millis(500);
/// How fast they come: as an attack that is meant to stay below the limits of connection rates. Each costs the proxy's core
/// a quarter of a millisecond, most of it for memory that nobody has touched before: at 2,500 a second that core has little
/// left, and what the others wait for is that so many come, not that they are slow. The storm of connections is another
/// scenario.
const ARRIVALS_PER_SECOND: u32 = 1_250;
/// None of the timeouts is longer than this, with the grace that a rate needs to show.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

async fn slow_clients(stage: &mut Stage) {
    let (n, n_readers) = stage.pick((200, 24), (5_000, 100));
    let before = resident_bytes(stage.front.pid());
    let is_portway = stage.front.player.who == Who::Portway;
    stage.mark("begin");
    let began_at = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    let arrives_at =
        |nth: usize| began_at + Duration::from_secs(1) * u32::try_from(nth).unwrap_or(u32::MAX) / ARRIVALS_PER_SECOND;
    for nth in 0..n {
        // A slow reader costs the kernel megabytes on either side of the proxy, the others next to nothing. They come evenly
        // among the others: a hundred answers of 8 MiB begun in the same 40 ms are work for a second, however fast they are
        // read, and would be that second's fault.
        let slow =
            if nth % (n / n_readers) == 0 { Slow::Read } else { [Slow::Head, Slow::Body, Slow::Silent][nth % 3] };
        crowd.spawn(one(slow, (stage.front.address, arrives_at(nth)), Arc::clone(&is_over)));
    }
    // The first of them end after two seconds.
    tokio::time::sleep_until(began_at + Duration::from_secs(2)).await;
    let n_there = n.min(2 * ARRIVALS_PER_SECOND as usize);
    let held = resident_bytes(stage.front.pid()).saturating_sub(before) / n_there as u64;
    // The process that a peer was started as may have others that do its work.
    let held = if is_portway { format!("; {} KiB each", held / 1_024) } else { String::new() };
    tokio::time::sleep_until(arrives_at(n)).await;
    // A slow reader does not see its end, which is behind bytes that it has not read: Portway says it, peers are not asked.
    let readers = match is_portway {
        true => {
            let portway = stage.front.portway();
            let few = n_readers as f64 / 3.0;
            let given_up = || async { portway.metrics().await.sum("portway_backend_in_flight", &[]) < few };
            eventually(ENDS_WITHIN, "the end of the slow readers", given_up).await;
            format!(", readers {:.1?}", began_at.elapsed())
        }
        false => {
            tokio::time::sleep(Duration::from_secs(4)).await;
            String::new()
        }
    };
    is_over.store(true, Ordering::SeqCst);

    let mut longest = [Duration::ZERO; 4];
    while let Some(ended) = crowd.join_next().await {
        let (slow, took, sent) = ended.expect("no panic");
        stage.sent.extend(sent);
        longest[slow as usize] = longest[slow as usize].max(took);
    }
    stage.mark("end");
    let [head, body, _, silent] = longest;
    stage
        .findings
        .measure(format!("heads ended after {head:.1?}, bodies {body:.1?}, silence {silent:.1?}{readers}{held}",));
    let is_in_time = head.max(body).max(silent) < ENDS_WITHIN;
    stage.findings.require(is_in_time, "slow clients outlasted every timeout");
}

fn judge_slow_clients(ended: &Ended, findings: &mut Findings) {
    let meanwhile = ended.due(ended.mark("begin"), ended.mark("end")).filter(|sent| sent.hope == Hope::Contract);
    let (p99, usual) = (quantile(&latencies(meanwhile), 0.99), quantile(&latencies(ended.control.iter()), 0.99));
    findings.measure(format!("p99 of the others {} (without: {})", time(p99), time(usual)));
    if ended.form == Form::Full {
        findings.require(p99 <= 2 * usual, format!("p99 of the others is {} instead of {}", time(p99), time(usual)));
    }
}

/// Until the proxy ends it: how long that took, and the request if there was a whole one.
async fn one(
    slow: Slow,
    (address, arrives_at): (SocketAddr, Instant),
    is_over: Arc<AtomicBool>,
) -> (Slow, Duration, Option<Sent>) {
    tokio::time::sleep_until(arrives_at).await;
    let (began_at, due_us, id) = (Instant::now(), payload::now_us(), payload::next_id());
    let mut stream = connect(slow, address).await;
    let request = match slow {
        Slow::Head => format!("GET /w/1 HTTP/1.1\r\nHost: a\r\n{ID}: {id}\r\nx-slow: "),
        Slow::Body => format!("POST /w/1 HTTP/1.1\r\nHost: a\r\n{ID}: {id}\r\nContent-Length: 100000\r\n\r\n"),
        // Larger than what is read ahead and what the kernel holds: the proxy has to wait for its reader.
        Slow::Read => format!("GET /w/1 HTTP/1.1\r\nHost: a\r\n{ID}: {id}\r\nx-act: large 8\r\n\r\n"),
        Slow::Silent => String::new(),
    };
    stream.write_all(request.as_bytes()).await.ok();
    while began_at.elapsed() < ENDS_WITHIN {
        tokio::time::sleep(EVERY).await;
        let has_ended = match slow {
            Slow::Head | Slow::Body => stream.write_all(b"x").await.is_err() || is_closed(&stream),
            Slow::Silent => is_closed(&stream),
            Slow::Read => stream.try_read(&mut [0]).is_ok_and(|n| n == 0) || is_over.load(Ordering::SeqCst),
        };
        if has_ended {
            break;
        }
    }
    let sent = matches!(slow, Slow::Read).then(|| record(id, due_us));
    (slow, began_at.elapsed(), sent)
}

/// A slow reader has a small buffer, too.
async fn connect(slow: Slow, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    if matches!(slow, Slow::Read) {
        socket.set_recv_buffer_size(4_096).expect("the option is there");
    }
    socket.connect(address).await.expect("the proxy takes connections")
}

/// Whether the other side has said its last word, which a writer does not see.
fn is_closed(stream: &TcpStream) -> bool {
    let mut bytes = [0; 4_096];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn record(id: u64, due_us: u64) -> Sent {
    let request = crate::stage::client::Request {
        id,
        method: Method::Get,
        path: "/w",
        size: 0,
        act: None,
        persistence: crate::stage::client::Persistence::KeepAlive,
    };
    Sent { hope: Hope::Nothing, ..load::sent(&request, &Load::ORDINARY, due_us, Ending::Abandoned) }
}
