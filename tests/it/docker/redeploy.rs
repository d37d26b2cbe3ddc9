//! Redeploys under load, as people do them: stop the old one, remove it, start the new one with the same labels.
//! Nothing is told to Portway.

use std::time::Duration;

use super::{Books, ORDINARY, pick};
use crate::support::{Container, Docker, Manner, Portway, require, wait_backends, whole_machine};

/// In the way of a `docker stop`: SIGTERM, then ten seconds.
const GRACE_SECONDS: u32 = 10;

async fn check(service: &str, order: Order, n_rounds: usize) {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let mut fleet = docker.start_many(3).await;
    let source = docker.docker_yaml();
    let yaml = format!("access_log: off\nservices: {{ web: {{ {source}{service} }} }}");
    let portway = Portway::start(&yaml).await;
    wait_backends(&portway, "web", 3).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    for _ in 0..n_rounds {
        for container in &mut fleet {
            *container = replaced(&docker, container, order).await;
        }
    }
    books.wait_more(100).await;
    books.close_clean(&portway).await;
    // None of the old ones is left, in any state.
    wait_backends(&portway, "web", 3).await;
}

#[derive(Clone, Copy)]
enum Order {
    StopFirst,
    StartFirst,
}

async fn replaced(docker: &Docker, old: &Container, order: Order) -> Container {
    let start = async || {
        let new = docker.start(Manner::One, &[]).await;
        new.wait_answer().await;
        new
    };
    let end = async || {
        old.stop(GRACE_SECONDS).await;
        old.remove().await;
    };
    match order {
        Order::StopFirst => {
            end().await;
            start().await
        }
        Order::StartFirst => {
            let new = start().await;
            end().await;
            new
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_redeploy_loses_nothing() {
    check(", health: { path: /healthz, every: 1s }", Order::StopFirst, pick(2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_redeploy_without_health_checks_loses_nothing() {
    check("", Order::StartFirst, pick(1, 20)).await;
}

/// A container that is replaced by one at the very same address: requests of the old one's clients are not its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_container_is_used_again_at_its_new_port() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_many(2).await;
    let yaml = format!("access_log: off\nservices: {{ web: {{ {}, health: /healthz }} }}", docker.docker_yaml());
    let portway = Portway::start(&yaml).await;
    wait_backends(&portway, "web", 2).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    for container in &fleet {
        let before = container.address().await;
        container.restart(GRACE_SECONDS).await;
        container.wait_answer().await;
        println!("restarted from {before:?} to {:?}", container.address().await);
        wait_backends(&portway, "web", 2).await;
    }
    // Both are used again.
    let pages = || docker.books().into_iter().map(|(who, page)| (who, page.ran.len())).collect::<Vec<_>>();
    let before = pages();
    let is_used = || async {
        let now = pages();
        now.iter().zip(&before).all(|(now, before)| now.1 > before.1 + 10)
    };
    crate::support::eventually(Duration::from_secs(10), "requests at both", is_used).await;
    books.close_clean(&portway).await;
}
