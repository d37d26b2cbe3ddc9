//! More than there is room for: 13 with N8, and N9.
//! A proxy that retries, queues and accepts without a bound turns a short stall into a long outage.

use std::time::Duration;

use crate::stage::figures::{latencies, quantile, time};
use crate::stage::ledger::{Contract, Sent};
use crate::stage::load::Load;
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};

/// Two backends with five places each, 50 ms a request.
const CAPACITY: f64 = 200.0;
const PLACES: &str = "capacity 5 50";

const SHEDDING: Contract = Contract { get: &[200, 502, 503, 504], post: &[200, 502, 503, 504], ..Contract::STRICT };

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "metastable",
        number: "13, N8",
        fault: "70 % load, all backends stall for 30 s and return, clients retry three times; then half the capacity",
        bar: "at most 1.2 attempts per request while it lasts; normal within 5 s of the return",
        players: Players::Everybody,
        n_backends: 2,
        service: "timeout: 2s\nqueue: { size: 30, timeout: 200ms }",
        response_timeout: Duration::from_secs(2),
        max_in_flight: Some(5),
        load: Load { rate: 140, deadline: Duration::from_secs(8), client_retries: 3, ..Load::ORDINARY },
        full_rate: 140,
        contract: SHEDDING,
        play: |stage| Box::pin(metastable(stage)),
        judge: judge_metastable,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "overload",
        number: "N9",
        fault: "three times the capacity for 60 s",
        bar: "goodput at least 90 % of the capacity; refusals within 20 ms, admitted p99 at most 3 ×",
        players: Players::Everybody,
        n_backends: 2,
        service: "queue: { size: 10, timeout: 100ms }",
        max_in_flight: Some(5),
        load: Load { rate: 0, ..Load::ORDINARY },
        contract: SHEDDING,
        play: |stage| Box::pin(overload(stage)),
        judge: judge_overload,
        ..Scenario::ORDINARY
    },
];

async fn metastable(stage: &mut Stage) {
    stage.tell_all(PLACES);
    stage.rest(Duration::from_secs(1), Duration::from_secs(10)).await;
    stage.mark("stall");
    stage.tell_all("mode stall");
    stage.rest(Duration::from_secs(3), Duration::from_secs(30)).await;
    stage.tell_all("mode ok");
    stage.mark("return");
    stage.rest(Duration::from_secs(3), Duration::from_secs(15)).await;
    stage.mark("half");
    stage.fleet[0].tell("mode stall");
    stage.rest(Duration::from_secs(1), Duration::from_secs(10)).await;
    stage.fleet[0].tell("mode ok");
    stage.mark("whole");
    stage.rest(Duration::from_secs(3), Duration::from_secs(10)).await;
}

fn judge_metastable(ended: &Ended, findings: &mut Findings) {
    let (stall, back) = (ended.mark("stall"), ended.mark("return"));
    let n_requests = ended.due(stall, back).count();
    let in_stall = |at: u64| (stall..back).contains(&at);
    let n_attempts = ended.books.iter().flat_map(|book| &book.executed).filter(|e| in_stall(e.at_us)).count();
    let ratio = n_attempts as f64 / n_requests.max(1) as f64;
    findings.measure(format!("{ratio:.2} attempts per request while it lasted"));
    findings.require(ratio <= 1.2, format!("{ratio:.2} attempts per request while it lasted"));
    for (from, to, what) in [("return", "half", "the stall"), ("whole", "", "the loss of one")] {
        let (from, to) = (ended.mark(from), ended.mark(to));
        let last_bad =
            ended.due(from, to).filter(|sent| sent.status() != Some(200)).map(|sent| sent.due_us - from).max();
        findings.measure(format!("normal {} after {what}", time(last_bad.unwrap_or(0))));
        let within = if ended.form == Form::Short { 2_500_000 } else { 5_000_000 };
        let is_normal = last_bad.unwrap_or(0) <= within;
        findings.require(is_normal, format!("normal only {} after {what}", time(last_bad.unwrap_or(0))));
    }
}

async fn overload(stage: &mut Stage) {
    stage.tell_all(PLACES);
    for (name, factor) in [("below", 0.5), ("above", 3.0)] {
        stage.mark(name);
        let rate = (CAPACITY * factor) as u32;
        let load = Load { rate, ..Load::ORDINARY }.start(stage.front.address, stage.random.u64(..));
        stage.rest(Duration::from_millis(1_500), Duration::from_secs(if name == "above" { 60 } else { 15 })).await;
        stage.sent.extend(load.stop().await);
    }
    stage.mark("over");
}

fn judge_overload(ended: &Ended, findings: &mut Findings) {
    let (below, above, over) = (ended.mark("below"), ended.mark("above"), ended.mark("over"));
    let usual = quantile(&latencies(ended.due(below, above)), 0.99);
    let admitted = latencies(ended.due(above, over));
    let last_due = ended.due(above, over).map(|sent| sent.due_us).max().unwrap_or(above);
    // What comes after the last request was due is the line in front of the door, not what went through it.
    let in_time = ended.due(above, over).filter(|sent| sent.status() == Some(200) && sent.ended_us <= last_due);
    let goodput = in_time.count() as f64 / ((last_due - above) as f64 / 1e6);
    let mut refused: Vec<u64> =
        ended.due(above, over).filter(|sent| sent.status() == Some(503)).map(Sent::latency_us).collect();
    refused.sort_unstable();
    let (refused_p99, p99) = (quantile(&refused, 0.99), quantile(&admitted, 0.99));
    let share = goodput / CAPACITY;
    findings.measure(format!(
        "goodput {:.0} %, {} refused with p99 {}, admitted p99 {} (usual: {})",
        share * 100.0,
        refused.len(),
        time(refused_p99),
        time(p99),
        time(usual),
    ));
    findings.require(share >= 0.5, format!("goodput is {:.0} % of the capacity", share * 100.0));
    if ended.form == Form::Full {
        findings.require(share >= 0.9, format!("goodput is {:.0} % of the capacity", share * 100.0));
        findings.require(refused_p99 <= 20_000, format!("a refusal takes {}", time(refused_p99)));
        findings.require(p99 <= 3 * usual, format!("admitted p99 is {} instead of {}", time(p99), time(usual)));
    }
}
