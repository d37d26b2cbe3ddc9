//! Up and down with the load, as the formula says: never above `max`, never to and fro while the load stays as it is.
//! Each decision is compared with that of the pure function, played again from what the process was given to decide by.

use std::num::NonZeroU32;
use std::time::Duration;

use ::portway::config::checked::{Autoscale, Target};
use ::portway::control::autoscale::decide::{Formula, Sample, Scene};
use ::portway::units::Moment;
use serde_json::Value;
use tokio::time::Instant;

use super::pick;
use crate::support::{Docker, Launch, Load, Manner, Portway, part_of_the_machine, require, wait_backends};

const TARGET: usize = 6;
const MAX: usize = 8;
/// Requests in flight that one replica carries all the time.
const LITTLE: usize = 2;
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

/// What the file says, for the formula in this very program.
fn policy(stable: Duration) -> Autoscale {
    let max = NonZeroU32::new(MAX as u32).expect("it is not zero");
    let target = Target::InFlight(TARGET as f64);
    let (panic, idle) = (Duration::from_secs(1), Duration::from_secs(300));
    Autoscale { min: 1, target, stable, panic, idle, ..Autoscale::up_to(max) }
}

/// The course of a service as the log tells it: each sample and each decision, in order.
struct Course {
    lines: Vec<Value>,
}

impl Course {
    fn of(portway: &Portway) -> Self {
        let log = portway.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Self { lines: lines.filter(|line| line["message"] == "sampled" || line["message"] == "decided").collect() }
    }

    /// Plays it again through the pure function, which has to want the same at each decision; gives what was wanted, each
    /// change once, and how many decisions there were.
    fn replay(&self, policy: Autoscale) -> (Vec<u32>, usize) {
        let (mut formula, mut wanted, mut n_decisions) = (Formula::new(policy), Vec::new(), 0);
        for line in &self.lines {
            let number = |name: &str| line[name].as_u64();
            let count = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
            let now = Moment(number("at_ns").expect("each line has it"));
            if line["message"] == "sampled" {
                let answers = line["answer_ms"].as_f64().zip(number("n_answers"));
                let (in_flight, leaving) = (count("in_flight").expect("it has"), count("leaving").expect("it has"));
                let arrived = number("arrived").expect("it has");
                formula.note(now, &Sample { in_flight, leaving, arrived, rps: line["rps"].as_f64(), answers });
                continue;
            }
            let (ready, starting) = (count("ready").expect("it has"), count("starting").expect("it has"));
            let waiting = count("waiting").expect("it has");
            let (intended, pinned) = (count("intended"), count("pinned"));
            let decision = formula.decide(now, &Scene { ready, starting, waiting, intended, pinned });
            assert_eq!(Some(decision.desired), count("desired"), "{line}\n{decision:#?}");
            n_decisions += 1;
            if line["is_early"] == false {
                assert!(intended.is_none() || intended == wanted.last().copied(), "what was said holds: {line}");
                wanted.push(decision.desired);
                wanted.dedup();
            }
        }
        (wanted, n_decisions)
    }
}

/// What each event of a change says: from how many to how many.
async fn changes_told(portway: &Portway) -> Vec<(u32, u32)> {
    let events: Value = serde_json::from_str(&portway.admin_get("/api/v1/events").await.text()).expect("JSON");
    let scalings = events
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["kind"].as_str().is_some_and(|kind| kind.starts_with("scaling_")));
    let field = |event: &Value, name: &str| {
        let fields = event["fields"].as_array()?.iter();
        fields.filter(|field| field[0] == name).find_map(|field| field[1].as_str()?.parse().ok())
    };
    scalings.map(|event| field(event, "from").zip(field(event, "to")).expect("both are told")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_follow_the_load_up_and_down() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let stable = Duration::from_secs(pick(6, 30));
    let yaml = format!(
        "access_log: off
services:
  web:
    {}
    autoscale: {{ min: 1, max: {MAX}, target_in_flight: {TARGET}, stable: {}s, panic: 1s, idle: 5m }}
    health: {{ path: /healthz, every: 1s }}
    drain: 10s
",
        docker.container_yaml(Manner::One, ""),
        stable.as_secs()
    );
    let env = vec![("PORTWAY_LOG_FORMAT", "json"), ("RUST_LOG", "info,portway::control::autoscale=trace")];
    let portway = Portway::launch(Launch { yaml: &yaml, env, ..Launch::default() }).await;
    wait_backends(&portway, "web", 1).await;
    let watch = Watch::start(portway.admin);

    // A little load: one replica carries it.
    let slow = |n| Load { requests: 1_000_000, connections: n, ..Load::get(portway.address, "/sleep/200") };
    let little = slow(LITTLE).start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(watch.changes().iter().all(|desired| *desired <= 1), "{}", portway.stderr());

    // Much: as many as the formula says, at once; not one more while it stays.
    let (peak, between) = (pick(36, 60), pick(14, 26));
    let (some, much) = (slow(between - LITTLE).start(), slow(peak - between).start());
    let carried = |load: usize| load.div_ceil(TARGET).min(MAX);
    settle(&portway, &watch, carried(peak)).await;
    assert!(docker.running().await.len() <= MAX);

    // Less, and little again: down after the window, and nothing is lost on the way.
    much.stop().await.assert_no_loss();
    settle(&portway, &watch, carried(between)).await;
    some.stop().await.assert_no_loss();
    settle(&portway, &watch, 1).await;
    docker.wait_running(1, SETTLED_MAX).await;
    little.stop().await.assert_no_loss();

    let (wanted, n_decisions) = Course::of(&portway).replay(policy(stable));
    println!("{n_decisions} decisions, each that of the pure function: {wanted:?}");
    assert!(wanted.iter().all(|wanted| *wanted as usize <= MAX), "{wanted:?}");
    let told = changes_told(&portway).await;
    let course: Vec<(u32, u32)> = wanted.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let told: Vec<(u32, u32)> = told.into_iter().skip_while(|(from, _)| *from == 0).collect();
    assert_eq!(told, course, "every change is told, and no other");
}

/// Waits until so many are wanted and take requests; from then on it stays so.
async fn settle(portway: &Portway, watch: &Watch, wanted: usize) {
    let before = portway.metrics().await.sum("portway_replicas", &[("service", "web"), ("kind", "desired")]) as usize;
    wait_desired(portway, |desired| desired == wanted).await;
    wait_backends(portway, "web", wanted).await;
    let way = watch.changes();
    println!("from {before} to {wanted}: {way:?}");
    let is_straight = if wanted > before { way.is_sorted() } else { way.is_sorted_by(|a, b| a >= b) };
    assert!(is_straight && way.iter().all(|desired| *desired <= MAX), "{way:?}\n{}", portway.stderr());
    tokio::time::sleep(Duration::from_secs(pick(7, 45))).await;
    let constant = watch.changes();
    println!("constant: {constant:?}");
    assert!(constant.iter().all(|desired| *desired == wanted), "under a constant load: {constant:?}");
}
