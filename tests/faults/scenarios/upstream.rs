//! Backends that fail, one by one or all at once: 6 to 13, 15.
//! What a backend has executed is in its book; what its proxy made of it is in the clients'.

use std::time::Duration;

use tokio::time::Instant;

use crate::stage::client::{self, Persistence, Request};
use crate::stage::ledger::{Contract, Failure, Hope, Method, Sent};
use crate::stage::load::{self, Load};
use crate::stage::payload;
use crate::stage::scenario::{Players, Scenario, Stage};
use crate::support::PATIENCE;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "mid-response",
    number: "7",
    fault: "a backend dies before, at the start of and within its answers",
    bar: "no half body passes for a whole one; GETs without a byte sent are repeated, POSTs never",
    players: Players::Everybody,
    n_backends: 5,
    contract: Contract { post: &[200, 502], failures: &[Failure::Truncated], ..Contract::STRICT },
    play: |stage| Box::pin(mid_response(stage)),
    ..Scenario::ORDINARY
}];

const DEATHS: [&str; 6] = ["die unread", "die read", "die continue", "die head", "die body 1", "die body 150"];

async fn mid_response(stage: &mut Stage) {
    for _ in 0..stage.pick(1, 8) {
        for (nth, death) in DEATHS.into_iter().enumerate() {
            let idx = nth % stage.fleet.len();
            stage.fleet[idx].tell(&format!("mode {death}"));
            stage.rest(Duration::from_millis(300), Duration::from_secs(1)).await;
            stage.fleet[idx].tell("mode ok");
        }
        for death in DEATHS {
            for method in [Method::Get, Method::Post] {
                ask_for(stage, death, method).await;
            }
        }
    }
}

/// One request that asks for its own death wherever it goes: no repetition helps it, so it must learn the truth.
async fn ask_for(stage: &mut Stage, act: &str, method: Method) {
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
    stage.sent.push(Sent { hope: Hope::Truth, ..load::sent(&request, &Load::ORDINARY, due_us, ending) });
}
