//! Backends that are slow, quick to fail, or silent: 9, 10, 11.
//! A balancer shows here whether it looks at what it balances.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stage::figures::{latencies, quantile, time};
use crate::stage::ledger::{Contract, Method, Sent};
use crate::stage::load::Load;
use crate::stage::namespace::Namespace;
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};
use crate::support::open_files;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "slow-replica",
        number: "9, N5",
        fault: "one of ten takes 1 s longer",
        bar: "nothing lost; after 2 s its share is at most 2 % and p99 at most 2 × the healthy one",
        players: Players::Everybody,
        n_backends: 10,
        play: |stage| Box::pin(one_of_ten(stage, "mode delay 1000")),
        judge: judge_slow,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "fast-failing",
        number: "9, N7",
        fault: "one of ten answers 500 at once",
        bar: "after 5 s its share is at most 2 %",
        players: Players::Everybody,
        n_backends: 10,
        contract: Contract { get: &[200, 500], post: &[200, 500], ..Contract::STRICT },
        play: |stage| Box::pin(one_of_ten(stage, "mode status 500")),
        judge: judge_failing,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "black-hole",
        number: "10, N6",
        fault: "the packets of one of ten vanish, both ways, then one way",
        bar: "at least 99.99 % of the GETs succeed, p99.9 at most the connect timeout and p99; descriptors at most twice",
        players: Players::Everybody,
        n_backends: 10,
        emigrant: Some(3),
        service: "retries: { attempts: 2, when: [connection, timeout] }",
        connect_timeout: Duration::from_millis(250),
        response_timeout: Duration::from_secs(1),
        contract: Contract { post: &[200, 502, 504], ..Contract::STRICT },
        play: |stage| Box::pin(black_hole(stage)),
        judge: judge_black_hole,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "stopped",
        number: "11",
        fault: "SIGSTOP of all backends for 30 s, then SIGCONT",
        bar: "every request has an answer by its deadline, none is executed twice; normal 5 s after",
        players: Players::Everybody,
        service: "timeout: 3s",
        response_timeout: Duration::from_secs(3),
        load: Load { rate: 150, deadline: Duration::from_secs(8), ..Load::ORDINARY },
        full_rate: 500,
        contract: Contract { get: &[200, 502, 503, 504], post: &[200, 502, 503, 504], ..Contract::STRICT },
        play: |stage| Box::pin(stopped(stage)),
        judge: judge_stopped,
        ..Scenario::ORDINARY
    },
];

async fn one_of_ten(stage: &mut Stage, order: &str) {
    stage.mark("fault");
    stage.fleet[3].tell(order);
    stage.rest(Duration::from_millis(2_500), Duration::from_secs(40)).await;
    stage.mark("over");
    stage.fleet[3].tell("mode ok");
}

fn judge_slow(ended: &Ended, findings: &mut Findings) {
    let (from, to) = (ended.mark("fault") + settled(ended, 2_000_000), ended.mark("over"));
    let share = ended.share(3, from, to);
    let healthy = quantile(&latencies(ended.control.iter()), 0.99);
    let p99 = quantile(&latencies(ended.due(from, to)), 0.99);
    findings.measure(format!("share {:.2} %, p99 {} (healthy: {})", share * 100.0, time(p99), time(healthy)));
    if ended.form == Form::Full {
        findings.require(share <= 0.02, format!("its share is {:.1} %", share * 100.0));
        findings.require(p99 <= 2 * healthy, format!("p99 is {} instead of {}", time(p99), time(healthy)));
    }
    // One at a time is in its nature: it takes a second, and the rest are idle meanwhile.
    findings.require(share <= 0.05, format!("its share is {:.1} %", share * 100.0));
}

fn judge_failing(ended: &Ended, findings: &mut Findings) {
    let (from, to) = (ended.mark("fault") + settled(ended, 5_000_000), ended.mark("over"));
    let share = ended.share(3, from, to);
    let n_failed = ended.sent.iter().filter(|sent| sent.status() == Some(500)).count();
    findings.measure(format!("share {:.2} %, {n_failed} failed", share * 100.0));
    findings.require(share <= 0.02, format!("its share is {:.1} %", share * 100.0));
}

/// How long after the fault the bar counts.
fn settled(ended: &Ended, full_us: u64) -> u64 {
    if ended.form == Form::Short { 1_000_000 } else { full_us }
}

async fn black_hole(stage: &mut Stage) {
    let usual = open_files(stage.front.pid());
    stage.mark("fault");
    let plug = hole(stage, Namespace::cut).await;
    stage.rest(Duration::from_millis(2_500), Duration::from_secs(30)).await;
    let files = open_files(stage.front.pid());
    stage.findings.measure(format!("{usual} descriptors before, {files} meanwhile"));
    // A short run is over before its first descriptors are.
    let most = stage.pick(400, 2 * usual + 20);
    stage.findings.require(files <= most, format!("{usual} descriptors became {files}"));
    heal(stage, plug).await;
    stage.rest(Duration::from_millis(500), Duration::from_secs(12)).await;
    if stage.fleet[3].namespace.is_some() {
        hole(stage, Namespace::silence).await;
        stage.rest(Duration::from_millis(1_500), Duration::from_secs(20)).await;
        heal(stage, None).await;
    }
    stage.mark("over");
}

/// Where there is no namespace: a listener whose queue is full and that accepts nobody, so that a SYN gets no answer.
async fn hole(stage: &mut Stage, how: fn(&Namespace)) -> Option<Plug> {
    if let Some(namespace) = &stage.fleet[3].namespace {
        how(namespace);
        return None;
    }
    stage.fleet[3].kill();
    Some(Plug::put(stage.fleet[3].address).await)
}

async fn heal(stage: &mut Stage, plug: Option<Plug>) {
    match &stage.fleet[3].namespace {
        Some(namespace) => namespace.heal(),
        None => {
            drop(plug);
            stage.fleet[3].revive().await;
        }
    }
}

/// A full accept queue.
struct Plug {
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl Plug {
    async fn put(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.set_reuse_address(true).expect("the option is there");
        socket.bind(&address.into()).expect("its backend is gone");
        socket.listen(0).expect("a bound socket can listen");
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        Self { _listener: socket, _waiting: waiting }
    }
}

fn judge_black_hole(ended: &Ended, findings: &mut Findings) {
    let (from, to) = (ended.mark("fault"), ended.mark("over"));
    let gets = || ended.due(from, to).filter(|sent| sent.method == Method::Get);
    let n_failed = gets().filter(|sent| sent.status() != Some(200)).count();
    let n_posts = ended.due(from, to).filter(|sent| sent.method == Method::Post && sent.status() != Some(200)).count();
    let latencies = latencies(gets());
    let (p99, p999) = (quantile(&latencies, 0.99), quantile(&latencies, 0.999));
    findings.measure(format!("{n_failed} GETs and {n_posts} POSTs failed; p99 {}, p99.9 {}", time(p99), time(p999)));
    if ended.form == Form::Full {
        findings.require(p999 <= 250_000 + p99, format!("p99.9 is {}", time(p999)));
    }
}

async fn stopped(stage: &mut Stage) {
    stage.mark("stop");
    stage.fleet.iter().for_each(|backend| backend.signal(Signal::STOP));
    stage.rest(Duration::from_secs(4), Duration::from_secs(30)).await;
    stage.fleet.iter().for_each(|backend| backend.signal(Signal::CONT));
    stage.mark("continued");
    stage.rest(Duration::from_secs(3), Duration::from_secs(15)).await;
}

fn judge_stopped(ended: &Ended, findings: &mut Findings) {
    let (stop, back) = (ended.mark("stop"), ended.mark("continued"));
    let is_bad = |sent: &&Sent| sent.status() != Some(200);
    let n_bad = ended.due(stop, back).filter(is_bad).count();
    let last_bad = ended.due(back, u64::MAX).filter(is_bad).map(|sent| sent.due_us - back).max();
    let after = last_bad.map_or("at once".to_owned(), |us| format!("after {}", time(us)));
    findings.measure(format!("{n_bad} refused meanwhile, normal {after}"));
    let recovers_within = if ended.form == Form::Short { 2_500_000 } else { 5_000_000 };
    findings.require(last_bad.unwrap_or(0) <= recovers_within, format!("normal again only {after}"));
}
