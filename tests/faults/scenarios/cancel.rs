//! Clients that go away: while others are served (1), and fifty thousand times (S-50).
//! Whatever they held has to be given back, and whoever worked for them has to be told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::stage::client::{Persistence, Request};
use crate::stage::figures::{quantile, time};
use crate::stage::ledger::{Ending, Hope, Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Form, Scenario, Stage};
use crate::support::{eventually, open_files};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "vanish",
        number: "1",
        fault: "clients vanish at a random byte, by FIN or RST, among others that do not",
        bar: "others: nothing lost; the backend is told within 100 ms; gauges back to 0",
        play: |stage| Box::pin(vanish(stage)),
        judge: |ended, findings| {
            let gone: Vec<u64> = ended.books.iter().flat_map(|book| book.gone_at_us.clone()).collect();
            let after = |at: &u64| gone.iter().filter(|gone| *gone >= at).min().map(|gone| gone - at);
            let mut delays: Vec<u64> = ended.marks("gone").iter().filter_map(after).collect();
            delays.sort_unstable();
            findings.measure(format!("backend told after {} at most", time(quantile(&delays, 1.0))));
            let limit = if ended.form == Form::Short { 2_000_000 } else { 100_000 };
            findings.require(
                delays.len() == WAITING && quantile(&delays, 1.0) <= limit,
                format!(
                    "{} of {WAITING} cancelled requests were cancelled at the backend: {delays:?} µs",
                    delays.len()
                ),
            );
        },
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "cancelled",
        number: "S-50",
        fault: "50,000 requests, each cancelled at a random point",
        bar: "gauges, permits and pool idle within 5 s; then everybody is served",
        load: Load { rate: 0, ..Load::ORDINARY },
        max_in_flight: Some(20),
        play: |stage| Box::pin(cancelled(stage)),
        ..Scenario::ORDINARY
    },
];

/// Requests of scenario 1 that are cancelled while a backend works on them, one after another.
const WAITING: usize = 10;

async fn vanish(stage: &mut Stage) {
    let n = stage.pick(300, 30_000);
    vanishers(stage, n, 16).await;
    for _ in 0..WAITING {
        let request = Request { act: Some("delay 3000".into()), ..request(&mut stage.random) };
        let due_us = payload::now_us();
        let mut stream = TcpStream::connect(stage.front.address).await.expect("the proxy takes connections");
        stream.write_all(&request.bytes(stage.front.address)).await.expect("the proxy reads");
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.set_zero_linger().ok();
        stage.sent.push(abandoned(&request, due_us));
        stage.mark("gone");
        drop(stream);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let load = stage.load.take().expect("this scenario has load");
    stage.sent.extend(load.stop().await);
    assert_idle(stage).await;
}

async fn cancelled(stage: &mut Stage) {
    stage.front.portway().get("/healthz").await; // Whatever is opened once is open now.
    let n = stage.pick(2_000, 50_000);
    vanishers(stage, n, 64).await;
    assert_idle(stage).await;
    let files = open_files(stage.front.pid());
    stage.findings.measure(format!("{files} descriptors afterwards"));
    stage.findings.require(files < 100, format!("{files} descriptors are open when nothing is under way"));
    let load = Load { rate: 500, ..Load::ORDINARY }.start(stage.front.address, stage.random.u64(..));
    stage.rest(Duration::from_secs(1), Duration::from_secs(10)).await;
    stage.sent.extend(load.stop().await);
}

/// Every gauge at zero and nothing in line within five seconds.
async fn assert_idle(stage: &mut Stage) {
    const IDLE_WITHIN: Duration = Duration::from_secs(5);
    let portway = stage.front.portway();
    for gauge in ["portway_backend_in_flight", "portway_queue_length", "portway_connections"] {
        let what = format!("{gauge} back at 0");
        eventually(IDLE_WITHIN, &what, || async { portway.metrics().await.sum(gauge, &[]) == 0.0 }).await;
    }
    let pid = portway.pid();
    eventually(IDLE_WITHIN, "upstream connections given up", || async { open_files(pid) < 100 }).await;
}

fn request(random: &mut fastrand::Rng) -> Request {
    let method = if random.bool() { Method::Get } else { Method::Post };
    let size = random.usize(0..100_000);
    Request { id: payload::next_id(), method, path: "/w", size, act: None, persistence: Persistence::KeepAlive }
}

fn abandoned(request: &Request, due_us: u64) -> Sent {
    Sent { hope: Hope::Nothing, ..load::sent(request, &Load::ORDINARY, due_us, Ending::Abandoned) }
}

/// `n` clients that go away, `width` of them at a time.
async fn vanishers(stage: &mut Stage, n: usize, width: usize) {
    let turn = Arc::new(Semaphore::new(width));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..n {
        let permit = Arc::clone(&turn).acquire_owned().await.expect("never closed");
        let (address, sent, seed) = (stage.front.address, Arc::clone(&sent), stage.random.u64(..));
        tasks.spawn(async move {
            let one = vanisher(address, fastrand::Rng::with_seed(seed)).await;
            sent.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks.join_all().await;
    stage.sent.append(&mut sent.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Goes away within the request, before the answer, or within the answer.
async fn vanisher(address: SocketAddr, mut random: fastrand::Rng) -> Sent {
    let mut request = request(&mut random);
    if random.u8(0..10) == 0 {
        request.act = Some("delay 50".into());
    }
    let due_us = payload::now_us();
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let bytes = request.bytes(address);
        let place = random.u8(0..3);
        let n = if place == 0 { random.usize(0..bytes.len()) } else { bytes.len() };
        stream.write_all(&bytes[..n]).await.ok();
        match place {
            1 => tokio::time::sleep(Duration::from_micros(random.u64(0..3_000))).await,
            2 => {
                let mut some = vec![0; 1 + random.usize(0..request.size + 300)];
                let read = stream.read_exact(&mut some);
                tokio::time::timeout(Duration::from_secs(1), read).await.ok();
            }
            _ => {}
        }
        if random.bool() {
            stream.set_zero_linger().ok();
        }
    }
    abandoned(&request, due_us)
}
