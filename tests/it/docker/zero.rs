//! To zero and back: requests wait while the first container starts, every one is answered, none twice.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stage::client::{self, Persistence, Request};
use super::stage::ledger::{self, Contract, Method, Sent};
use super::stage::load;
use super::stage::payload;
use super::{ORDINARY, assert_clean, executed, pick, portway_with_times, times_of};
use crate::support::{Docker, Manner, Portway, eventually, part_of_the_machine, require};

/// From the last request to no container: `idle`, the drain, the stop, and a busy machine.
const COLD_MAX: Duration = Duration::from_secs(60);
/// How long a request may wait for a cold start.
const PATIENCE: Duration = Duration::from_secs(45);

/// A service that goes to zero after a second without a request.
fn yaml(docker: &Docker, manner: Manner, hold: &str) -> String {
    format!(
        "access_log: off
services:
  web:
    {}
    autoscale: {{ min: 0, max: 3, target_in_flight: 100, stable: 6s, panic: 1s, idle: 1s, hold: {hold} }}
    health: {{ path: /healthz, every: 1s }}
    max_in_flight: 16
    queue: {{ size: 500, timeout: 30s }}
    drain: 5s
",
        docker.container_yaml(manner, "")
    )
}

const HOLD: &str = "{ timeout: 40s, max: 500 }";

async fn wait_cold(docker: &Docker, portway: &Portway) {
    let deadline = Instant::now() + COLD_MAX;
    while !docker.running().await.is_empty() {
        assert!(Instant::now() < deadline, "not cold within {COLD_MAX:?}:\n{}", portway.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `n` requests at the same moment, each on a connection of its own.
async fn burst(portway: &Portway, n: usize) -> Vec<Sent> {
    let (address, mut tasks) = (portway.address, JoinSet::new());
    for nth in 0..n {
        let request = Request {
            id: payload::next_id(),
            method: if nth % 2 == 0 { Method::Get } else { Method::Post },
            path: "/w",
            size: 100 + nth,
            act: None,
            persistence: Persistence::Close,
        };
        tasks.spawn(async move {
            let due_us = payload::now_us();
            let (ending, _) = client::exchange(address, None, &request, Instant::now() + PATIENCE).await;
            load::sent(&request, &load::Load { deadline: PATIENCE, ..ORDINARY }, due_us, ending)
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_at_once_wake_a_cold_service_and_all_are_answered_once() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, HOLD)).await;
    wait_cold(&docker, &portway).await;

    let sent = burst(&portway, 200).await;

    let verdict = ledger::check(&sent, &executed(&docker), &Contract::STRICT);
    assert_clean(&verdict, &portway);
    let books = docker.books();
    let probed_us = books.values().filter_map(|page| page.probed_us).min().expect("somebody was probed");
    let begun_us = sent.iter().map(|sent| sent.due_us).min().unwrap_or_default();
    let first_us = sent.iter().map(|sent| sent.ended_us).min().unwrap_or_default();
    let last_us = sent.iter().map(|sent| sent.ended_us).max().unwrap_or_default();
    println!(
        "the first of 200 answers came {} ms after the container's probe, {} ms after the first request; the last one {} ms later",
        first_us.saturating_sub(probed_us) / 1_000,
        (first_us - begun_us) / 1_000,
        (last_us - first_us) / 1_000,
    );
    assert!(first_us.saturating_sub(probed_us) < 2_000_000, "held long after the container was ready");
    // It had not been ready before: nothing was sent to an app that had not answered its probe.
    assert!(first_us >= probed_us);
    wait_cold(&docker, &portway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_to_one_and_back_again_and_again_loses_nothing() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = portway_with_times(&yaml(&docker, Manner::One, HOLD)).await;
    let (mut sent, mut waits) = (Vec::new(), Waits::default());
    for cycle in 0..pick(3, 50) {
        wait_cold(&docker, &portway).await;
        // Some come while it starts, and some as it is about to leave.
        waits.begin(&docker);
        let held = burst(&portway, 3).await;
        waits.note(&docker, &portway, &held);
        sent.extend(held);
        if cycle % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(900..2_500))).await;
            sent.extend(burst(&portway, 3).await);
        }
    }
    let verdict = ledger::check(&sent, &executed(&docker), &Contract::STRICT);
    assert_clean(&verdict, &portway);
    wait_cold(&docker, &portway).await;
    println!("{} requests in {} cycles, 0 failed; first answers {}", sent.len(), pick(3, 50), waits.in_words());
}

/// How long the first answers of cold starts took.
#[derive(Default)]
struct Waits {
    known: BTreeSet<String>,
    after_probe_us: Vec<u64>,
    /// The part of it before Portway had heard the answer.
    to_ready_us: Vec<u64>,
    after_load_us: Vec<u64>,
}

impl Waits {
    /// Whoever is there by now is none of the next ones.
    fn begin(&mut self, docker: &Docker) {
        self.known.extend(docker.books().into_keys());
    }

    /// Of `held`, which found no container.
    fn note(&mut self, docker: &Docker, portway: &Portway, held: &[Sent]) {
        let answered_us = held.iter().map(|sent| sent.ended_us).min().expect("somebody asked");
        for (who, page) in docker.books() {
            if page.probed_us.is_some_and(|probed_us| probed_us <= answered_us) && self.known.insert(who) {
                let ready_us = times_of("container ready", &portway.stderr()).pop();
                self.to_ready_us
                    .extend(ready_us.zip(page.probed_us).map(|(ready, probed)| ready.saturating_sub(probed)));
                self.after_probe_us.extend(page.probed_us.map(|probed_us| answered_us - probed_us));
                self.after_load_us.push(answered_us.saturating_sub(page.started_us));
            }
        }
    }

    fn in_words(mut self) -> String {
        let words = |all: &mut Vec<u64>| {
            all.sort_unstable();
            let ms = |idx: usize| all.get(idx).map_or(0.0, |us| *us as f64 / 1e3);
            format!("{:.0} ms in the median, {:.0} ms at worst", ms(all.len() / 2), ms(all.len().saturating_sub(1)))
        };
        let probe = words(&mut self.after_probe_us);
        let (ready, load) = (words(&mut self.to_ready_us), words(&mut self.after_load_us));
        format!(
            "{probe} after the container answered its probe ({ready} until that was heard); {load} after its app was loaded"
        )
    }
}

/// One request needs one container: what starts for it is not counted twice, and nothing more starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_wakes_one_container_and_no_more() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, HOLD)).await;
    let mut sent = Vec::new();
    for _ in 0..pick(3, 20) {
        sent.extend(burst(&portway, 1).await);
        assert_clean(&ledger::check(&sent, &executed(&docker), &Contract::STRICT), &portway);
        assert_eq!(docker.running().await.len(), 1, "{}", portway.stderr());
        wait_cold(&docker, &portway).await;
    }
    let log = portway.stderr();
    assert!(!log.contains(" to=2"), "{log}");
}

/// A request that streams for longer than `idle` is activity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_keeps_its_container_alive() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, HOLD)).await;
    let response = portway.get("/drip/8").await;
    assert_eq!((response.status, response.text().lines().count()), (200, 80), "{}", portway.stderr());
    wait_cold(&docker, &portway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_exits_at_once_is_a_503_with_a_reason_and_its_last_words_are_in_the_log() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::Exits, "{ timeout: 5s, max: 10 }")).await;

    let begin = Instant::now();
    let response = portway.get("/api").await;

    assert_eq!(response.status, 503, "{response:?}");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    println!("503 {:?} after {:?}: {}", response.get("x-portway-reason"), begin.elapsed(), response.text());
    let reason = response.get("x-portway-reason").unwrap_or_default();
    assert!(!reason.is_empty() && reason != "no_healthy_backend", "a word of its own: {reason:?}");
    assert!(response.get("retry-after").is_some(), "{response:?}");
    let is_told = || async { portway.stderr().contains("cannot reach the database at db.internal:5432") };
    eventually(COLD_MAX, "the container's last line in the log", is_told).await;

    // It backs off: not a container a second for ever.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let n_made = docker.all().await.len();
    assert!(n_made <= 5, "{n_made} containers are left lying about");
}

/// More requests than may wait are told so at once; those that wait are not disturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_request_beyond_the_limit_is_refused_at_once() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, "{ timeout: 40s, max: 20 }")).await;
    wait_cold(&docker, &portway).await;

    let sent = burst(&portway, 50).await;

    let n_status = |status: u16| sent.iter().filter(|sent| sent.status() == Some(status)).count();
    assert_eq!((n_status(200), n_status(503)), (20, 30), "{}", portway.stderr());
    let first_us = sent.iter().filter(|sent| sent.status() == Some(200)).map(|sent| sent.ended_us).min();
    let refused_us = sent.iter().filter(|sent| sent.status() == Some(503)).map(|sent| sent.ended_us).max();
    assert!(refused_us < first_us, "the refused ones waited");
}
