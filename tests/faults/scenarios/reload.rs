//! A thousand changes of the configuration while everybody is served: 16, N1.
//! Each version says its number on a route of its own, so that it can be told which one answers.

use std::time::Duration;

use tokio::time::Instant;

use super::version::Version;
use crate::stage::figures::{latencies, quantile, time};
use crate::stage::front::{Who, save};
use crate::stage::load::Load;
use crate::stage::scenario::{Ended, Findings, Form, Players, Scenario, Stage};
use crate::stage::websockets::WebSockets;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "reloads",
    number: "16, N1",
    fault: "1,000 changes of the configuration, one every 100 ms, with 100 WebSockets open",
    bar: "nothing lost, no WebSocket closed, every save active within 2 s, p99 at most 1.2 × that without",
    players: Players::Everybody,
    load: Load { closing_percent: 50, ..Load::ORDINARY },
    play: |stage| Box::pin(reloads(stage)),
    judge: judge_reloads,
    ..Scenario::ORDINARY
}];

/// The least time from one change to the next.
const EVERY: Duration = Duration::from_millis(100);
/// A save has to be active after so long.
const ACTIVE_WITHIN: Duration = Duration::from_secs(2);

async fn reloads(stage: &mut Stage) {
    let (n_sockets, n_reloads) = (stage.pick(10, 100), stage.pick(20, 1_000));
    let sockets = WebSockets::open(n_sockets, stage.front.address, "/w/1").await;
    stage.sent.extend(sockets.sent.iter().cloned());
    stage.mark("begin");
    let mut slowest = Duration::ZERO;
    for nth in 1..=n_reloads {
        let began_at = Instant::now();
        match stage.front.player.who {
            Who::Portway => slowest = slowest.max(change(stage, nth).await),
            _ => change_peer(stage, nth).await,
        }
        tokio::time::sleep_until(began_at + EVERY).await;
    }
    stage.mark("end");
    let (n_echoes, broken) = sockets.close().await;
    stage.findings.measure(format!("{n_reloads} reloads, {} of {n_sockets} WebSockets closed", broken.len()));
    stage.findings.require(broken.is_empty(), format!("{} WebSockets: {:?}", broken.len(), broken.first()));
    stage.findings.require(n_echoes > 0, "no WebSocket said anything");
    if stage.front.player.who == Who::Portway {
        stage.findings.measure(format!("a save active after {slowest:.0?} at most"));
        stage.findings.require(slowest <= ACTIVE_WITHIN, format!("a save was active only after {slowest:?}"));
    }
}

/// Every other change is asked for and must be in force when the answer is there; the rest are found by the watcher.
async fn change(stage: &mut Stage, nth: usize) -> Duration {
    // A route comes and goes, so that tables differ and not only texts.
    let passing = if nth.is_multiple_of(3) { "  passing: { route: { path: /passing, redirect: /w/1 } }\n" } else { "" };
    stage.site.more = format!("{}{passing}", Version::service("version", nth));
    let began_at = Instant::now();
    if nth.is_multiple_of(2) {
        let site = stage.site.clone();
        stage.front.apply(&site).await;
        let seen = Version::at(stage.front.address, "version").await;
        stage.findings.require(seen == Some(nth), format!("{seen:?} answers after reload {nth} was acknowledged"));
        return Duration::ZERO;
    }
    let text = stage.front.portway_text(&stage.site);
    let file = stage.front.portway().directory().join("portway.yaml");
    save(&file, &text);
    while Version::at(stage.front.address, "version").await != Some(nth) {
        if began_at.elapsed() > ACTIVE_WITHIN * 3 {
            stage.findings.require(false, format!("save {nth} was never active"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began_at.elapsed()
}

async fn change_peer(stage: &mut Stage, nth: usize) {
    stage.site.response_timeout = Duration::from_millis(5_000 + (nth as u64 % 2));
    let site = stage.site.clone();
    stage.front.apply(&site).await;
}

fn judge_reloads(ended: &Ended, findings: &mut Findings) {
    let p99 = quantile(&latencies(ended.due(ended.mark("begin"), ended.mark("end"))), 0.99);
    let usual = quantile(&latencies(ended.control.iter()), 0.99);
    findings.measure(format!("p99 {} (without: {})", time(p99), time(usual)));
    if ended.form == Form::Full {
        findings.require(p99 as f64 <= 1.2 * usual as f64, format!("p99 is {} instead of {}", time(p99), time(usual)));
    }
}
