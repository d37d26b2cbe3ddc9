//! Up and down with the load, as the formula says: never above `max`, never to and fro while the load stays as it is.

use std::time::Duration;

use tokio::time::Instant;

use super::pick;
use crate::support::{Docker, Load, Manner, Portway, part_of_the_machine, require, wait_backends};

const TARGET: usize = 6;
const MAX: usize = 8;
/// From a change of the load to the last container that it asks for.
const SETTLED_MAX: Duration = Duration::from_secs(120);

/// Containers of the test in any state that serves or will, as often as one can look, until the task is ended.
struct Watch {
    counts: std::sync::Arc<std::sync::Mutex<Vec<usize>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(portway_admin: std::net::SocketAddr) -> Self {
        let counts = std::sync::Arc::<std::sync::Mutex<Vec<usize>>>::default();
        let seen = counts.clone();
        let task = tokio::spawn(async move {
            loop {
                let page = crate::support::get(portway_admin, "/metrics").await.text();
                let labels = [("service", "web"), ("kind", "desired")];
                let desired = crate::support::Metrics::parse(page).sum("portway_replicas", &labels);
                seen.lock().expect("nobody panics with it").push(desired as usize);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { counts, task }
    }

    /// What was wanted since the last call, each change once.
    fn changes(&self) -> Vec<usize> {
        let mut counts = std::mem::take(&mut *self.counts.lock().expect("nobody panics with it"));
        counts.dedup();
        counts
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn wait_desired(portway: &Portway, is_right: impl Fn(usize) -> bool) -> usize {
    let labels = [("service", "web"), ("kind", "desired")];
    let deadline = Instant::now() + SETTLED_MAX;
    loop {
        let desired = portway.metrics().await.sum("portway_replicas", &labels) as usize;
        if is_right(desired) {
            return desired;
        }
        assert!(Instant::now() < deadline, "still {desired} replicas wanted:\n{}", portway.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_follow_the_load_up_and_down() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let (stable, peak) = pick(("6s", 36), ("30s", 60));
    let portway = Portway::start(&format!(
        "access_log: off
services:
  web:
    {}
    autoscale: {{ min: 1, max: {MAX}, target_in_flight: {TARGET}, stable: {stable}, panic: 1s, idle: 5m }}
    health: {{ path: /healthz, every: 1s }}
    drain: 10s
",
        docker.container_yaml(Manner::One, "")
    ))
    .await;
    wait_backends(&portway, "web", 1).await;
    let watch = Watch::start(portway.admin);

    // A little load: one replica carries it.
    let slow = |n| Load { requests: 1_000_000, connections: n, ..Load::get(portway.address, "/sleep/200") };
    let little = slow(2).start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(watch.changes().iter().all(|desired| *desired <= 1), "{}", portway.stderr());

    // Much: as many as the formula says, at once; not one more while it stays.
    let much = slow(peak - 2).start();
    let wanted = peak.div_ceil(TARGET).min(MAX);
    wait_desired(&portway, |desired| desired == wanted).await;
    wait_backends(&portway, "web", wanted).await;
    let up = watch.changes();
    println!("up: {up:?}");
    assert!(up.is_sorted() && up.iter().all(|desired| *desired <= MAX), "{up:?}");
    tokio::time::sleep(Duration::from_secs(pick(7, 60))).await;
    let constant = watch.changes();
    println!("constant: {constant:?}");
    assert!(constant.iter().all(|desired| desired.abs_diff(wanted) <= 1), "{constant:?}\n{}", portway.stderr());
    assert!(constant.len() <= 3, "to and fro under a constant load: {constant:?}\n{}", portway.stderr());
    assert!(docker.running().await.len() <= MAX);

    // Back: down again after the window, and nothing is lost on the way.
    much.stop().await.assert_no_loss();
    wait_desired(&portway, |desired| desired == 1).await;
    docker.wait_running(1, SETTLED_MAX).await;
    let down = watch.changes();
    println!("down: {down:?}");
    assert!(down.is_sorted_by(|before, after| before >= after), "{down:?}");
    little.stop().await.assert_no_loss();
}
