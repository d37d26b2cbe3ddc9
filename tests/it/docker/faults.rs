//! What happens to one container of several: frozen, killed. What a living one could serve is served.

use super::stage::ledger::Contract;
use super::stage::payload;
use super::{Books, Gap, ORDINARY, assert_clean, assert_only_lost_in, pick, portway_with_times};
use crate::support::{Docker, Portway, require, wait_backends, whole_machine};

/// So many requests may be under way at one container when it is frozen: 200 a second, each some milliseconds, of which it
/// has a third.
const UNDER_WAY_MAX: usize = 4;

async fn portway_before(docker: &Docker) -> Portway {
    let source = docker.docker_yaml();
    let service = "health: { path: /healthz, every: 1s }";
    let portway = portway_with_times(&format!("access_log: off\nservices: {{ web: {{ {source}, {service} }} }}")).await;
    wait_backends(&portway, "web", 3).await;
    portway
}

/// What is under way at a frozen container ends when it thaws; everybody else is served by the others meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_container_costs_no_request() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_many(3).await;
    let portway = portway_before(&docker).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    for container in fleet.iter().cycle().take(pick(3, 30)) {
        container.pause().await;
        wait_backends(&portway, "web", 2).await;
        books.wait_more(200).await;
        container.unpause().await;
        wait_backends(&portway, "web", 3).await;
    }
    let (sent, verdict) = books.close(&Contract::STRICT).await;
    assert_clean(&verdict, &portway);
    // While one was frozen the others were not waited for: nearly all requests were fast.
    let n_slow = sent.iter().filter(|sent| sent.latency_us() > 900_000).count();
    println!("{} requests, {n_slow} of them waited for a frozen container", sent.len());
    assert!(n_slow <= pick(3, 30) * UNDER_WAY_MAX * 2, "{n_slow} requests waited");
}

/// No GET fails that can be repeated; of the POSTs only such as were under way when one was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_container_costs_only_the_posts_that_it_had() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_many(3).await;
    let portway = portway_before(&docker).await;

    let n_kills = pick(3, 30);
    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    let mut killed_us = Vec::new();
    for container in fleet.iter().cycle().take(n_kills) {
        killed_us.push(payload::now_us());
        container.kill().await;
        wait_backends(&portway, "web", 2).await;
        books.wait_more(100).await;
        container.start().await;
        container.wait_answer().await;
        wait_backends(&portway, "web", 3).await;
    }
    let ended = books.close(&Contract::STRICT).await;
    let n_lost = assert_only_lost_in(&Gap::all(&killed_us, &portway), &ended, &portway);
    println!("{} requests, {n_kills} kills: {n_lost} lost that were under way and cannot be repeated", ended.0.len());
}
