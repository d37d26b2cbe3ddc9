//! Backends that leave in order (N4), and those that close a connection at the moment it is used (8).
//! Nobody dies here: a request that fails, fails because the proxy did not look.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::client::{self, Connection, Persistence, Request};
use crate::stage::front::Who;
use crate::stage::ledger::{Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Players, Scenario, Stage};
use crate::support::{PATIENCE, eventually, exchange};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "leaving",
        number: "N4",
        fault: "five backends leave in turn: `Connection: close`, failing checks, then SIGTERM",
        bar: "nothing lost, POSTs included",
        players: Players::Everybody,
        n_backends: 5,
        service: "health: { path: /healthz, every: 1s }",
        load: Load { posts_percent: 50, ..Load::ORDINARY },
        play: |stage| Box::pin(leaving(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "removed",
        number: "N4",
        fault: "five backends are taken out in turn, by hand or by configuration, then end by SIGTERM",
        bar: "nothing lost, POSTs included",
        players: Players::Everybody,
        n_backends: 5,
        load: Load { posts_percent: 50, ..Load::ORDINARY },
        play: |stage| Box::pin(removed(stage)),
        ..Scenario::ORDINARY
    },
    Scenario {
        name: "idle-race",
        number: "8",
        fault: "backends close idle connections after 50 ms; requests come in bursts around then",
        bar: "nothing lost of 200,000, half of them POSTs",
        players: Players::Everybody,
        n_backends: 2,
        load: Load { rate: 0, ..Load::ORDINARY },
        play: |stage| Box::pin(idle_race(stage)),
        ..Scenario::ORDINARY
    },
];

async fn leaving(stage: &mut Stage) {
    for _ in 0..stage.pick(1, 2) {
        for idx in 0..stage.pick(3, stage.fleet.len()) {
            stage.fleet[idx].tell("close always");
            stage.fleet[idx].tell("health fail");
            be_noticed(stage, idx).await;
            stage.fleet[idx].leave().await;
            stage.rest(Duration::from_millis(100), Duration::from_secs(1)).await;
            stage.fleet[idx].tell("close never");
            stage.fleet[idx].tell("health pass");
            stage.fleet[idx].revive().await;
            stage.rest(Duration::from_millis(100), Duration::from_secs(2)).await;
        }
    }
}

/// Waits until failing checks have their effect. Who ends before that does not leave in order: its listener resets what the
/// kernel accepted for it, and a POST that is on its way then is lost behind any proxy.
async fn be_noticed(stage: &mut Stage, idx: usize) {
    if stage.front.player.who == Who::Portway {
        let address = stage.fleet[idx].address.to_string();
        let portway = &*stage.front.portway();
        let is_out = || async {
            let status = portway.status().await;
            let mut backends =
                status["services"].as_array().into_iter().flatten().flat_map(|s| s["backends"].as_array());
            backends.any(|list| list.iter().any(|b| b["address"] == address.as_str() && b["state"] != "ready"))
        };
        eventually(PATIENCE, "failing checks taking a backend out", is_out).await;
    }
    stage.rest(Duration::from_millis(300), Duration::from_secs(4)).await;
}

async fn removed(stage: &mut Stage) {
    for round in 0..stage.pick(1, 3) {
        for idx in 0..stage.fleet.len() {
            let by_hand = stage.front.player.who == Who::Portway && (round + idx).is_multiple_of(2);
            match by_hand {
                true => drain_by_hand(stage, "drain", idx).await,
                false => apply_without(stage, Some(idx)).await,
            }
            stage.rest(Duration::from_millis(300), Duration::from_secs(2)).await;
            stage.fleet[idx].leave().await;
            stage.rest(Duration::from_millis(100), Duration::from_secs(1)).await;
            stage.fleet[idx].revive().await;
            match by_hand {
                true => drain_by_hand(stage, "undrain", idx).await,
                false => apply_without(stage, None).await,
            }
            stage.rest(Duration::from_millis(100), Duration::from_secs(2)).await;
        }
    }
}

async fn drain_by_hand(stage: &mut Stage, what: &str, idx: usize) {
    let body = format!("{{\"service\":\"web\",\"backend\":\"{}\"}}", stage.fleet[idx].address);
    let admin = stage.front.portway().admin;
    let request = format!(
        "POST /api/v1/{what} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let (answer, _) = exchange(admin, request).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    stage.findings.require(answer.starts_with("HTTP/1.1 200 "), format!("{what}: {answer}"));
}

async fn apply_without(stage: &mut Stage, without: Option<usize>) {
    let backends = stage.fleet.iter().filter(|backend| Some(backend.idx) != without);
    stage.site.backends = backends.map(|backend| backend.address).collect();
    let site = stage.site.clone();
    stage.front.apply(&site).await;
}

/// So many clients ask at the same moment, so that as many upstream connections have been idle for as long.
const LANES: usize = 25;

async fn idle_race(stage: &mut Stage) {
    stage.tell_all("idle 50");
    // The peers show what they lose in fewer.
    let n_bursts = stage.pick(60, if stage.front.player.who == Who::Portway { 8_000 } else { 1_000 });
    let lanes = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..n_bursts {
        let burst = burst(stage, &lanes).await;
        stage.sent.extend(burst);
        tokio::time::sleep(Duration::from_micros(stage.random.u64(44_000..54_000))).await;
    }
}

/// One request on each lane; the client's own connections are kept, so that only the backend's side races.
async fn burst(stage: &mut Stage, lanes: &Arc<Mutex<Vec<Connection>>>) -> Vec<Sent> {
    let mut tasks = JoinSet::new();
    let address = stage.front.address;
    for nth in 0..LANES {
        let request = Request {
            id: payload::next_id(),
            method: if nth % 2 == 0 { Method::Get } else { Method::Post },
            path: "/w",
            size: stage.random.usize(0..500),
            act: None,
            persistence: Persistence::KeepAlive,
        };
        let lanes = Arc::clone(lanes);
        tasks.spawn(async move {
            let idle = lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let due_us = payload::now_us();
            let (ending, connection) = client::exchange(address, idle, &request, Instant::now() + PATIENCE).await;
            lanes.lock().unwrap_or_else(PoisonError::into_inner).extend(connection);
            load::sent(&request, &Load::ORDINARY, due_us, ending)
        });
    }
    tasks.join_all().await
}
