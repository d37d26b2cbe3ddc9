//! Backends that die, lie and mislead: 6, 7, 12, 15.
//! What a backend has executed is in its book; what its proxy made of it is in the clients'.

use std::time::Duration;

use tokio::time::Instant;

use crate::stage::client::{self, Persistence, Request};
use crate::stage::ledger::{Contract, Failure, Hope, Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};
use crate::support::PATIENCE;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rolling-kill",
        number: "6, N3",
        fault: "kill -9 of five backends in turn, each down for 5 s",
        bar: "no GET fails; only POSTs under way at a kill may, and none is executed twice",
        players: Players::Everybody,
        n_backends: 5,
        service: "health: /healthz",
        full_rate: 2_000,
        contract: Contract { post: &[200, 502], failures: &[Failure::Truncated], ..Contract::STRICT },
        play: |stage| Box::pin(rolling_kill(stage)),
        judge: judge_kills,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "mid-response",
        number: "7",
        fault: "a backend dies before, at the start of and within its answers",
        bar: "no half body passes for a whole one; GETs without a byte sent are repeated, POSTs never",
        players: Players::Everybody,
        n_backends: 5,
        contract: Contract {
            get: &[200, 502],
            post: &[200, 502],
            failures: &[Failure::Truncated, Failure::NoResponse],
            ..Contract::STRICT
        },
        play: |stage| Box::pin(mid_response(stage)),
        judge: judge_deaths,
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "lies",
        number: "12",
        fault: "a backend breaks HTTP: two lengths, bad chunks, 101 unasked, endless heads and 1xx, surplus answers",
        bar: "502 or a visible end for the request itself; nothing crossed, everybody else served",
        players: Players::Everybody,
        // A lie must not take its backend away from the honest requests: they share its connections on purpose.
        service: "ejection: off",
        play: |stage| Box::pin(lies(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "false-checks",
        number: "15",
        fault: "checks pass while one of five answers 503 to all; then checks fail everywhere while all is well",
        bar: "at least 99.9 % served",
        n_backends: 5,
        service: "health: { path: /healthz, every: 200ms, timeout: 100ms }\nretries: { when: [connection, 503] }",
        contract: Contract { get: &[200], post: &[200, 503], ..Contract::STRICT },
        play: |stage| Box::pin(false_checks(stage)),
        judge: judge_false_checks,
        ..Scenario::ORDINARY
    },
];

async fn rolling_kill(stage: &mut Stage) {
    for _ in 0..stage.pick(1, 2) {
        for idx in 0..stage.fleet.len() {
            stage.mark("kill");
            stage.fleet[idx].kill();
            stage.rest(Duration::from_millis(400), Duration::from_secs(5)).await;
            stage.fleet[idx].revive().await;
            stage.rest(Duration::from_millis(200), Duration::from_secs(1)).await;
        }
    }
}

/// A POST may fail if its backend was killed under it, and a response that had begun may end early; nothing else.
fn judge_kills(ended: &Ended, findings: &mut Findings) {
    let kills = ended.marks("kill");
    let at_a_kill = |sent: &&Sent| kills.iter().any(|at| sent.due_us <= at + 20_000 && sent.ended_us + 20_000 >= *at);
    let failed: Vec<&Sent> = ended.sent.iter().filter(|sent| sent.status() != Some(200)).collect();
    let n_elsewhen = failed.iter().filter(|sent| !at_a_kill(sent)).count();
    let n_posts = failed.iter().filter(|sent| sent.method == Method::Post).count();
    findings.measure(format!("{n_posts} POSTs failed at {} kills", kills.len()));
    findings.require(
        n_elsewhen == 0,
        format!(
            "{n_elsewhen} failed though nothing was killed under them: {:?}",
            failed.iter().find(|s| !at_a_kill(s))
        ),
    );
    let n_gets = failed.len() - n_posts;
    findings.require(n_gets == 0, format!("{n_gets} GETs failed"));
}

const DEATHS: [&str; 6] = ["die unread", "die read", "die continue", "die head", "die body 1", "die body 150"];

/// So many of them come before the head of an answer: a GET is to be had elsewhere.
const UNBEGUN: usize = 3;

async fn mid_response(stage: &mut Stage) {
    for _ in 0..stage.pick(1, 8) {
        for (nth, death) in DEATHS.into_iter().enumerate() {
            stage.mark(if nth < UNBEGUN { "unbegun" } else { "begun" });
            let idx = nth % stage.fleet.len();
            stage.fleet[idx].tell(&format!("mode {death}"));
            stage.rest(Duration::from_millis(300), Duration::from_secs(1)).await;
            stage.fleet[idx].tell("mode ok");
        }
        for death in DEATHS {
            for method in [Method::Get, Method::Post] {
                ask_for(stage, death, method, Hope::Truth).await;
            }
        }
    }
}

fn judge_deaths(ended: &Ended, findings: &mut Findings) {
    let failed: Vec<&Sent> =
        ended.sent.iter().filter(|sent| sent.hope == Hope::Contract && sent.status() != Some(200)).collect();
    let n_cut = failed.iter().filter(|sent| sent.status().is_none()).count();
    findings.measure(format!("{n_cut} answers cut short, visibly; {} told 502", failed.len() - n_cut));
    // Once an answer has begun, its end is the truth; before that, a GET is to be had elsewhere.
    let begun = ended.spans("begun", "unbegun");
    // Which backend dies changes at these moments: who lives over one may meet two deaths, and has one retry.
    let changes = ended.marks("unbegun");
    let needless = |sent: &&&Sent| {
        let overlaps = |(from, to): &(u64, u64)| sent.due_us < *to && sent.ended_us >= *from;
        let meets_two = changes.iter().any(|at| (sent.due_us..=sent.ended_us).contains(at));
        sent.method == Method::Get && !meets_two && !begun.iter().any(overlaps)
    };
    let needless: Vec<_> = failed.iter().filter(needless).collect();
    findings.require(
        needless.is_empty(),
        format!("{} GETs failed before any answer: {:?}", needless.len(), needless.first()),
    );
}

/// One request that asks for its own fault wherever it goes: no repetition helps it.
async fn ask_for(stage: &mut Stage, act: &str, method: Method, hope: Hope) -> Option<u16> {
    let request = Request {
        id: payload::next_id(),
        method,
        path: "/w",
        size: 1_000,
        act: Some(act.to_owned()),
        persistence: Persistence::KeepAlive,
    };
    let due_us = payload::now_us();
    let (ending, _) = client::exchange(stage.front.address, None, &request, Instant::now() + PATIENCE).await;
    let sent = Sent { hope, ..load::sent(&request, &Load::ORDINARY, due_us, ending) };
    let status = sent.status();
    stage.sent.push(sent);
    status
}

const LIES: [&str; 7] = [
    "lie two-lengths",
    "lie bad-chunk",
    "lie unsolicited-101",
    "lie endless-head",
    "lie endless-interim",
    "lie surplus",
    "lie nonsense",
];

async fn lies(stage: &mut Stage) {
    let ends_at = Instant::now() + stage.pick(Duration::from_secs(1), Duration::from_secs(40));
    let mut n = 0;
    while Instant::now() < ends_at {
        for lie in LIES {
            for method in [Method::Get, Method::Post] {
                let status = ask_for(stage, lie, method, Hope::Nothing).await;
                stage.findings.require(
                    matches!(status, None | Some(200 | 502 | 504)),
                    format!("{lie} was answered with {status:?}"),
                );
                n += 1;
            }
        }
    }
    stage.findings.measure(format!("{n} lies"));
}

async fn false_checks(stage: &mut Stage) {
    stage.fleet[0].tell("mode status 503");
    stage.rest(Duration::from_secs(1), Duration::from_secs(20)).await;
    stage.fleet[0].tell("mode ok");
    stage.mark("all well");
    stage.tell_all("health fail");
    stage.rest(Duration::from_millis(1_500), Duration::from_secs(20)).await;
    stage.tell_all("health pass");
    stage.rest(Duration::from_millis(300), Duration::from_secs(5)).await;
}

fn judge_false_checks(ended: &Ended, findings: &mut Findings) {
    let n_failed = ended.sent.iter().filter(|sent| sent.status() != Some(200)).count();
    let n_later =
        ended.due(ended.mark("all well") + 100_000, u64::MAX).filter(|sent| sent.status() != Some(200)).count();
    let share = 100.0 * n_failed as f64 / ended.sent.len().max(1) as f64;
    findings.measure(format!("{:.2} % served", 100.0 - share));
    findings.require(n_later == 0, format!("{n_later} failed while only the checks failed"));
    // Five POSTs in a row show that a backend is bad: few as a share, not always few of a short run.
    let n_allowed = if ended.form == Form::Short { 20 } else { ended.sent.len() / 1_000 };
    findings.require(n_failed <= n_allowed, format!("{n_failed} of {} failed", ended.sent.len()));
}
