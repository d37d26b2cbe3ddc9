//! Five hundred containers on an engine of paper, twenty events each second, and the real binary before them: membership
//! stays current, and the control thread has next to nothing to do. Containers are as dockerd 20.10 shows them (recorded/).
//!
//! The share of a core is that of a release build on an idle machine:
//! `cargo build --release && PORTWAY_FULL=1 PORTWAY_BIN=target/release/portway cargo test --test it docker::many -- --nocapture`

use std::collections::VecDeque;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::payload;
use super::{pick, portway_with_times};
use crate::support::{Portway, eventually, wait_backends};
use fake::FakeEngine;

#[path = "../../../src/control/docker/fake.rs"]
#[allow(dead_code, reason = "other suites need more of it")]
mod fake;

const N: usize = 500;
/// A busy machine takes longer than a second; the long form is for an idle one.
const PATIENCE: Duration = Duration::from_secs(30);
const EVENTS_EVERY: Duration = Duration::from_millis(50);
/// From an event to the backend that takes requests, or does not any more.
const CURRENT_MAX: Duration = Duration::from_secs(1);
/// Of one core.
const SHARE_MAX: f64 = 0.05;

/// An engine on which containers come and go.
struct Fleet {
    engine: FakeEngine,
    recorded: Value,
    /// Open on every address of loopback.
    port: u16,
    /// Those that run, the oldest first.
    running: VecDeque<usize>,
    /// What happens next: each container that goes is told to end, ends and is removed, and then another one starts.
    step: usize,
}

impl Fleet {
    fn start() -> Self {
        let recorded = include_str!("recorded/container.json");
        let recorded = serde_json::from_str(recorded).expect("an engine wrote it");
        let mut fleet = Self {
            engine: FakeEngine::start(),
            recorded,
            port: listen_everywhere(),
            running: VecDeque::new(),
            step: 0,
        };
        (0..N).for_each(|nth| fleet.run(nth));
        fleet
    }

    fn run(&mut self, nth: usize) {
        let id = id(nth);
        self.engine.run(&id, ("app", "web"), self.port);
        self.engine.change(&id, |container| {
            let (place, port) = (nth % N, self.port.to_string());
            let address = format!("127.7.{}.{}", place / 200, place % 200 + 1);
            *container = self.recorded.clone();
            (container["Id"], container["Name"]) = (json!(id), json!(format!("/web-{nth}")));
            container["NetworkSettings"]["Ports"] = json!({"5000/tcp": [{"HostIp": address, "HostPort": port}]});
        });
        self.running.push_back(nth);
    }

    /// One event; whether a container comes or goes with it.
    fn next(&mut self) -> bool {
        self.step += 1;
        let oldest = *self.running.front().expect("there are always some");
        match self.step % 4 {
            1 => self.engine.tell(&id(oldest), "kill", &json!({"signal": "15", "app": "web", "image": "my-app"})),
            2 => self.engine.end(&id(oldest), 143),
            3 => {
                self.engine.remove(&id(oldest));
                self.running.pop_front();
            }
            _ => self.run(N - 1 + self.step / 4),
        }
        matches!(self.step % 4, 0 | 1)
    }

    /// Those that take requests by now.
    fn n_members(&self) -> usize {
        self.running.len() - usize::from(matches!(self.step % 4, 1 | 2))
    }
}

/// As long as those of an engine.
fn id(nth: usize) -> String {
    format!("{nth:064x}")
}

fn listen_everywhere() -> u16 {
    let any = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = any.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        let mut open = VecDeque::new();
        for stream in any.incoming().map_while(Result::ok) {
            open.push_back(stream);
            open.drain(..open.len().saturating_sub(100));
        }
    });
    port
}

/// What a thread spent on processors: sched-stats, in nanoseconds.
fn thread_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).expect("the process runs");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("its first number"))
}

/// How many members there are by the log, and since when.
fn members_noted(portway: &Portway) -> (usize, u64) {
    let log = portway.stderr();
    let came = super::times_of("container ready", &log);
    let left = super::times_of("container left", &log);
    (came.len() - left.len(), came.into_iter().chain(left).max().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_containers_and_twenty_events_a_second_cost_the_control_thread_little() {
    let mut fleet = Fleet::start();
    let endpoint = format!("unix://{}", fleet.engine.socket().display());
    let source = format!("docker: {{ label: app=web, port: 5000, endpoint: \"{endpoint}\" }}");
    let portway = portway_with_times(&format!("access_log: off\nservices: {{ web: {{ {source} }} }}")).await;
    wait_backends(&portway, "web", N).await;

    // Each change is there within a second.
    let mut slowest = Duration::ZERO;
    for _ in 0..pick(4, 40) {
        while !fleet.next() {
            tokio::time::sleep(EVENTS_EVERY).await;
        }
        let (told_us, n_members) = (payload::now_us(), fleet.n_members());
        // Asking for its status would keep the thread busy that is to act.
        let is_noted = || async { members_noted(&portway).0 == n_members };
        eventually(PATIENCE, &format!("{n_members} members"), is_noted).await;
        slowest = slowest.max(Duration::from_micros(members_noted(&portway).1.saturating_sub(told_us)));
    }

    // Nobody asks anything meanwhile: asking costs the same thread.
    let (before, began) = (thread_time(portway.pid()), tokio::time::Instant::now());
    let mut ticks = tokio::time::interval(EVENTS_EVERY);
    for _ in 0..pick(60, 600) {
        ticks.tick().await;
        fleet.next();
    }
    let share = (thread_time(portway.pid()) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!(
        "{N} containers, 20 events/s: {:.1} % of a core on the control thread, each change current within {} ms",
        share * 100.0,
        slowest.as_millis()
    );
    wait_backends(&portway, "web", fleet.n_members()).await;
    let is_full = std::env::var_os("PORTWAY_FULL").is_some();
    assert!(!is_full || slowest < CURRENT_MAX, "{slowest:?}");
    assert!(!is_full || share <= SHARE_MAX, "{share:.3} of a core; is this a release build?");
}
