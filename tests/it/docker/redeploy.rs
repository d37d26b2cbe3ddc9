//! Redeploys under load, as people do them: stop the old one, remove it, start the new one with the same labels.
//! Nothing is told to Portway.

use std::time::Duration;

use super::stage::ledger::Contract;
use super::stage::payload;
use super::{Books, Gap, ORDINARY, assert_clean, assert_only_lost_in, pick, portway_with_times};
use crate::support::{Container, Docker, Manner, Portway, require, wait_backends, whole_machine};

/// In the way of a `docker stop`: SIGTERM, then ten seconds.
const GRACE_SECONDS: u32 = 10;

/// How the service and its people behave.
#[derive(Clone, Copy)]
struct Custom {
    /// What is said of the service beside its source.
    service: &'static str,
    order: Order,
    app: App,
}

#[derive(Clone, Copy)]
enum Order {
    StopFirst,
    StartFirst,
}

/// What the app does at SIGTERM.
#[derive(Clone, Copy)]
enum App {
    /// It closes what is idle and listens no more, at once, as gunicorn does: a request that is on its way then is lost,
    /// whoever sent it, and the engine tells of the signal only afterwards.
    EndsAtOnce,
    /// It goes on for half a second more, as whoever wants no loss at all tells it to.
    Lingers,
}

impl App {
    fn environment(self) -> &'static [&'static str] {
        match self {
            App::EndsAtOnce => &[],
            App::Lingers => &["LINGER=0.5"],
        }
    }
}

async fn start(docker: &Docker, app: App) -> Container {
    let new = docker.start(Manner::One, app.environment()).await;
    new.wait_answer().await;
    new
}

/// Three containers, each replaced `n_rounds` times under load.
async fn check(custom: Custom, n_rounds: usize) {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(start(&docker, custom.app).await);
    }
    let (source, service) = (docker.docker_yaml(), custom.service);
    let yaml = format!("access_log: off\nservices: {{ web: {{ {source}{service} }} }}");
    let portway = portway_with_times(&yaml).await;
    wait_backends(&portway, "web", 3).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    let mut stopped_us = Vec::new();
    for _ in 0..n_rounds {
        for container in &mut fleet {
            let new = match custom.order {
                Order::StartFirst => Some(start(&docker, custom.app).await),
                Order::StopFirst => None,
            };
            stopped_us.push(payload::now_us());
            container.stop(GRACE_SECONDS).await;
            container.remove().await;
            *container = match new {
                Some(new) => new,
                None => start(&docker, custom.app).await,
            };
        }
    }
    books.wait_more(100).await;
    let ended = books.close(&Contract::STRICT).await;
    let n_lost = match custom.app {
        App::EndsAtOnce => assert_only_lost_in(&Gap::all(&stopped_us, &portway), &ended, &portway),
        App::Lingers => {
            assert_clean(&ended.1, &portway);
            0
        }
    };
    let (n_sent, n_stops) = (ended.0.len(), stopped_us.len());
    println!("{n_sent} requests, {n_stops} replacements: {n_lost} lost that were under way and cannot be repeated");
    // None of the old ones is left, in any state.
    wait_backends(&portway, "web", 3).await;
}

const PROBED: &str = ", health: { path: /healthz, every: 1s }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_redeploy_loses_nothing() {
    check(Custom { service: PROBED, order: Order::StopFirst, app: App::Lingers }, pick(2, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_redeploy_without_health_checks_loses_nothing() {
    check(Custom { service: "", order: Order::StartFirst, app: App::Lingers }, pick(1, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_redeploy_of_an_app_that_ends_at_once_costs_no_get() {
    check(Custom { service: PROBED, order: Order::StopFirst, app: App::EndsAtOnce }, pick(1, 20)).await;
}

/// A container that is replaced by one at the very same address: requests of the old one's clients are not its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_container_is_used_again_at_its_new_port() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_lingering(2).await;
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
