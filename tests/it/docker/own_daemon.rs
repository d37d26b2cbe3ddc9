//! The Docker daemon itself ends and starts again while its containers run on, as an update of Docker does it.

use rustix::process::Signal;

use super::alone::{self, Daemon};
use super::stage::ledger::{Contract, Sent};
use super::stage::load::Load;
use super::stage::payload;
use super::{Books, ORDINARY, assert_clean};
use crate::support::{Docker, Manner, Portway, eventually, wait_backends};

const NAME: &str = "docker::own_daemon::a_daemon_that_restarts_under_its_running_containers_costs_no_request";

/// Two services before the same containers: at their own addresses, and at the ports that the daemon publishes.
fn yaml(docker: &Docker, daemon: &Daemon) -> String {
    let with = |more: &str| docker.docker_yaml().replace("port:", &format!("{more}, port:"));
    let endpoint = format!("endpoint: \"unix://{}\"", daemon.socket().display());
    let (own, published) = (with(&format!("{endpoint}, address: network")), with(&endpoint));
    let health = "health: { path: /healthz, every: 1s }";
    format!(
        "access_log: off
services:
  web: {{ {own}, {health} }}
  published: {{ {published}, {health}, route: {{ path: /published, strip_prefix: true }} }}
"
    )
}

/// When the daemon was told to start, and when it answered.
struct Start {
    from_us: u64,
    to_us: u64,
}

/// A daemon that starts takes away the rules of all published ports and makes them anew: until then the kernel refuses.
fn is_refused_by_the_engine(sent: &Sent, starts: &[Start]) -> bool {
    starts.iter().any(|start| sent.due_us <= start.to_us && sent.ended_us >= start.from_us)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_restarts_under_its_running_containers_costs_no_request() {
    let Some(inside) = alone::inside(NAME).await else { return };
    let mut daemon = Daemon::start(&inside, 0).await;
    let docker = daemon.docker().await;
    docker.start_many(2).await;
    let portway = Portway::start(&yaml(&docker, &daemon)).await;
    let services = ["web", "published"];
    for service in services {
        wait_backends(&portway, service, 2).await;
    }

    let half = Load { rate: ORDINARY.rate / 2, ..ORDINARY };
    let books = Books::open(&docker, portway.address, half);
    let at_ports = Load { path: "/published/w", ..half }.start(portway.address, fastrand::u64(..));
    books.wait_more(100).await;
    let mut starts = Vec::new();
    for how in [Signal::TERM, Signal::KILL] {
        daemon.down(how).await;
        is_told(&portway, "engine_lost", starts.len() + 1).await;
        books.wait_more(200).await;
        for service in services {
            wait_backends(&portway, service, 2).await;
        }
        let from_us = payload::now_us();
        daemon.up().await;
        is_told(&portway, "engine_found", starts.len() + 1).await;
        starts.push(Start { from_us, to_us: payload::now_us() });
        books.wait_more(200).await;
        for service in services {
            wait_backends(&portway, service, 2).await;
        }
    }
    // It still listens to events.
    let third = docker.start(Manner::One, &[]).await;
    third.wait_answer().await;
    for service in services {
        wait_backends(&portway, service, 3).await;
    }
    let at_ports = at_ports.stop().await;
    let (mut sent, _) = books.close(&Contract::STRICT).await;
    let n_own = sent.len();
    let (refused, at_ports): (Vec<Sent>, Vec<Sent>) =
        at_ports.into_iter().partition(|sent| sent.status() != Some(200) && is_refused_by_the_engine(sent, &starts));
    println!(
        "{n_own} requests at containers' own addresses; {} at published ports, {} of them refused while the daemon made \
         its rules anew",
        at_ports.len() + refused.len(),
        refused.len()
    );
    sent.extend(at_ports);
    let executed: Vec<_> = super::executed(&docker);
    let is_known = |id: u64| refused.iter().all(|sent| sent.id != id);
    let executed: Vec<_> = executed.into_iter().filter(|executed| is_known(executed.id)).collect();
    assert_clean(&super::ledger::check(&sent, &executed, &Contract::STRICT), &portway);
    drop(docker);
}

/// Waits until it was told so often.
async fn is_told(portway: &Portway, kind: &str, n: usize) {
    let what = format!("{kind} for the {n}th time");
    let is_told = || async { portway.events().await.iter().filter(|told| *told == kind).count() == n };
    eventually(std::time::Duration::from_secs(20), &what, is_told).await;
}
