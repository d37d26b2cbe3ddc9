//! The process itself: without descriptors (24), under signals (26).
//! What is asked of the operating system is asked of the real one.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::client::{self, Connection};
use crate::stage::ledger::Sent;
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Scenario, Stage};
use crate::support::{self, Client, Guarded, PATIENCE, cpu_time, eventually, get, limit_files};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "descriptors",
        number: "24",
        fault: "256 descriptors for 1,000 clients, then enough again",
        bar: "open connections are served; less than 20 % of a core; full service 1 s after",
        load: Load { rate: 0, ..Load::ORDINARY },
        play: |stage| Box::pin(descriptors(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "signals",
        number: "26",
        fault: "SIGHUP 100 times, SIGSTOP for 5 s, SIGTERM under load, kill -9 and a start",
        bar: "nothing lost; readiness fails first; exit code 0; back 200 ms after kill -9",
        top: "shutdown: { delay: 1s, drain: 10s }",
        play: |stage| Box::pin(signals(stage)),
        ..Scenario::ORDINARY
    },
];

async fn descriptors(stage: &mut Stage) {
    let (address, pid) = (stage.front.address, stage.front.pid());
    let is_over = Arc::new(AtomicBool::new(false));
    let mut regulars = JoinSet::new();
    for _ in 0..5 {
        let connection = Connection::open(address).await.expect("the proxy takes connections");
        regulars.spawn(regular(connection, address, Arc::clone(&is_over)));
    }
    stage.rest(Duration::from_millis(200), Duration::from_secs(1)).await;
    let before = limit_files(pid, Some(256));
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        let mut client = Client::connect(address).await;
        client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push(client);
    }
    let (cpu, began_at) = (cpu_time(pid), Instant::now());
    stage.rest(Duration::from_secs(1), Duration::from_secs(20)).await;
    let share = (cpu_time(pid) - cpu).as_secs_f64() / began_at.elapsed().as_secs_f64();
    stage.findings.measure(format!("{:.0} % of a core while starved", share * 100.0));
    stage.findings.require(share < 0.2, format!("{:.0} % of a core while starved", share * 100.0));
    let admin = stage.front.portway().admin;
    stage.findings.require(get(admin, "/healthz").await.status == 200, "the admin listener is starved, too");

    limit_files(pid, before);
    let restored_at = Instant::now();
    let mut n_served = 0;
    for client in &mut crowd {
        n_served += usize::from(client.head().await.starts_with("HTTP/1.1 200 "));
    }
    let took = restored_at.elapsed();
    stage.findings.measure(format!("{n_served} of the crowd served, the last {took:.1?} after"));
    let limit = stage.pick(Duration::from_secs(5), Duration::from_secs(1));
    stage.findings.require(n_served == 1_000 && took <= limit, format!("{n_served} of 1,000 served {took:?} after"));
    is_over.store(true, Ordering::SeqCst);
    for sent in regulars.join_all().await {
        stage.findings.require(sent.len() > 10, "a regular client was hardly served");
        stage.sent.extend(sent);
    }
}

/// A client that keeps asking on one connection: what rests makes room for what waits, so only one in use has a claim.
async fn regular(connection: Connection, address: SocketAddr, is_over: Arc<AtomicBool>) -> Vec<Sent> {
    let mut random = fastrand::Rng::new();
    let (mut connection, mut all) = (Some(connection), Vec::new());
    while connection.is_some() && !is_over.load(Ordering::SeqCst) {
        let load = Load { closing_percent: 0, ..Load::ORDINARY };
        let (request, due_us) = (load.request(&mut random), payload::now_us());
        let ending;
        (ending, connection) = client::exchange(address, connection, &request, Instant::now() + PATIENCE).await;
        all.push(load::sent(&request, &load, due_us, ending));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    all
}

async fn signals(stage: &mut Stage) {
    for _ in 0..100 {
        stage.front.signal(Signal::HUP);
        stage.rest(Duration::from_millis(5), Duration::from_millis(100)).await;
    }
    stage.front.signal(Signal::STOP);
    stage.rest(Duration::from_secs(1), Duration::from_secs(5)).await;
    stage.front.signal(Signal::CONT);
    stage.rest(Duration::from_millis(500), Duration::from_secs(5)).await;

    // An orchestrator sends SIGTERM, sees readiness fail, and only then sends requests elsewhere.
    stage.front.signal(Signal::TERM);
    let portway = stage.front.portway();
    eventually(PATIENCE, "/readyz to fail", || async { portway.readiness().await != Some(200) }).await;
    let load = stage.load.take().expect("this scenario has load");
    stage.sent.extend(load.stop().await);
    let status = stage.front.portway().wait_exit(Duration::from_secs(15)).await;
    stage.findings.require(status.code() == Some(0), format!("SIGTERM ended it with {status}"));
    kill_and_start(stage).await;
}

/// What a supervisor does with a process that was killed.
async fn kill_and_start(stage: &mut Stage) {
    let mut first = start_again(stage).await.0;
    first.signal(Signal::KILL);
    while first.exit_status().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (_second, took) = start_again(stage).await;
    stage.findings.measure(format!("back {took:.0?} after kill -9"));
    let limit = stage.pick(Duration::from_secs(5), Duration::from_millis(200));
    stage.findings.require(took <= limit, format!("back only {took:?} after kill -9"));
}

async fn start_again(stage: &mut Stage) -> (Guarded, Duration) {
    let address = stage.front.address;
    let directory = stage.front.portway().directory().to_owned();
    let began_at = Instant::now();
    let mut command = Command::new(support::binary());
    command.args(["run", "-c", "portway.yaml"]).current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Guarded(command.spawn().expect("portway can be started"));
    let answers = || async move { tokio::net::TcpStream::connect(address).await.is_ok() };
    eventually(PATIENCE, "portway to listen again", answers).await;
    assert_eq!(get(address, "/healthz").await.status, 200);
    (process, began_at.elapsed())
}
