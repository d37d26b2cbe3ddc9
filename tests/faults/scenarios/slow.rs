//! Backends that are slow, quick to fail, or silent: 9, 10, 11.
//! A balancer shows here whether it looks at what it balances.

use std::time::Duration;

use rustix::process::Signal;

use crate::stage::figures::{latencies, quantile, time};
use crate::stage::ledger::{Contract, Sent};
use crate::stage::load::Load;
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};

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
