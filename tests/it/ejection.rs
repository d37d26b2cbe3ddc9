//! Backends that are taken out because of their answers, and come back by one real request.
//! It promises what a user sees: who gets requests, and what the status, the metrics and the events say of it. What is
//! decided when, to the millisecond, are facts of `control::outlier`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::support::{Act, Client, Origin, PATIENCE, Pair, Portway, eventually, free_address, response};

/// An origin that answers with a status of the test's, once it is let through.
struct Moody {
    origin: Origin,
    status: Arc<AtomicU16>,
    gate: Arc<Semaphore>,
}

impl Moody {
    async fn start(status: u16) -> Self {
        let (status, gate) = (Arc::new(AtomicU16::new(status)), Arc::new(Semaphore::new(100_000)));
        let (present, at_origin) = (status.clone(), gate.clone());
        let script = move |_: &_| {
            let answer = response(present.load(SeqCst), &[], "moody");
            vec![Act::ReadBody, Act::Gate(at_origin.clone()), Act::Send(answer)]
        };
        Self { origin: Origin::start(script).await, status, gate }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    /// From now on it answers only those whom `gate` lets through.
    fn close_gate(&self) {
        self.gate.forget_permits(usize::MAX);
    }
}

async fn portway(origins: &[&Moody], service: &str) -> Portway {
    let addresses: Vec<String> = origins.iter().map(|moody| format!("\"{}\"", moody.origin.address)).collect();
    let backends = addresses.join(", ");
    Portway::start(&format!("services: {{ web: {{ backends: [{backends}], balance: round_robin, {service} }} }}\n"))
        .await
}

/// The states of the backends, in the order of the file.
async fn states(portway: &Portway) -> Vec<String> {
    let status: Value = serde_json::from_str(&portway.admin_get("/api/v1/status").await.text()).expect("JSON");
    let backends = status["services"][0]["backends"].as_array().expect("a list");
    backends.iter().map(|backend| backend["state"].as_str().expect("a word").to_owned()).collect()
}

async fn wait_states(portway: &Portway, expected: &[&str]) {
    eventually(PATIENCE, &format!("{expected:?}"), || async { states(portway).await == expected }).await;
}

async fn get_times(portway: &Portway, n: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..n {
        statuses.push(portway.get("/").await.status);
    }
    statuses
}

async fn send(portway: &Portway, request: &str) -> Client {
    let mut client = portway.connect().await;
    client.send(request).await;
    client
}

/// The kinds of all events that are about backends.
async fn events(portway: &Portway) -> Vec<String> {
    let response = portway.admin_get("/api/v1/events").await;
    let events: Vec<Value> = serde_json::from_str(&response.text()).expect("a list in JSON");
    let kinds = events.iter().map(|event| event["kind"].as_str().expect("a word").to_owned());
    kinds.filter(|kind| kind.starts_with("backend_") || kind.starts_with("fail_open")).collect()
}

#[tokio::test]
async fn a_backend_that_answers_500_is_ejected_and_returns_by_exactly_one_request() {
    let (good, bad, other) = (Moody::start(200).await, Moody::start(500).await, Moody::start(200).await);
    let portway = portway(&[&good, &bad, &other], "ejection: { base: 1s }").await;
    let statuses = get_times(&portway, 15).await;
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 5);
    wait_states(&portway, &["ready", "ejected", "ready"]).await;
    portway.wait_metric("portway_backend_ejected", &[], 1.0).await;
    assert_eq!(portway.metrics().await.sum("portway_ejections_total", &[("cause", "consecutive")]), 1.0);
    wait_states(&portway, &["ready", "probation", "ready"]).await;
    assert_eq!(bad.origin.n_requests(), 5);
    bad.answers(200);
    bad.close_gate();
    // Not the one that may not be repeated.
    assert_eq!(
        send(&portway, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.response().await.status,
        200
    );
    assert_eq!(bad.origin.n_requests(), 5);
    let mut trial = send(&portway, "GET /trial HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(PATIENCE, "the trial", || async { bad.origin.n_requests() == 6 }).await;
    assert_eq!(get_times(&portway, 20).await, [200; 20]);
    assert_eq!(bad.origin.n_requests(), 6, "one request decides");
    bad.gate.add_permits(1_000);
    assert_eq!(trial.response().await.status, 200);
    wait_states(&portway, &["ready", "ready", "ready"]).await;
    assert_eq!(get_times(&portway, 9).await, [200; 9]);
    assert_eq!(bad.origin.n_requests(), 9, "its whole share");
    portway.wait_metric("portway_backend_ejected", &[], 0.0).await;
    let told = || async { events(&portway).await == ["backend_ejected", "backend_on_probation", "backend_restored"] };
    eventually(PATIENCE, "the events", told).await;
}

#[tokio::test]
async fn a_trial_that_fails_costs_one_request_and_ejects_again() {
    let (good, bad) = (Moody::start(200).await, Moody::start(503).await);
    let portway = portway(&[&good, &bad], "ejection: { base: 1s, max: 1s }").await;
    get_times(&portway, 10).await;
    for (n_failed, n_trials) in [(6, 1.0), (7, 2.0)] {
        wait_states(&portway, &["ready", "probation"]).await;
        let statuses = get_times(&portway, 10).await;
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 1, "{statuses:?}");
        assert_eq!(bad.origin.n_requests(), n_failed);
        // The sweep that counts follows the answer. Until then its state is that of the trial that is over.
        portway.wait_metric("portway_ejections_total", &[("cause", "trial")], n_trials).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_its_trial_leaves_it_to_the_next() {
    let (good, bad) = (Moody::start(200).await, Moody::start(500).await);
    let portway = portway(&[&good, &bad], "ejection: { base: 1s }").await;
    get_times(&portway, 10).await;
    wait_states(&portway, &["ready", "probation"]).await;
    bad.answers(200);
    bad.close_gate();
    let trial = send(&portway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(PATIENCE, "the trial", || async { bad.origin.n_requests() == 6 }).await;
    trial.reset();
    portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
    bad.gate.add_permits(1_000);
    eventually(PATIENCE, "its return", || async {
        assert_eq!(portway.get("/").await.status, 200);
        states(&portway).await == ["ready", "ready"]
    })
    .await;
}

#[tokio::test]
async fn a_long_response_does_not_hold_up_the_return() {
    let good = Moody::start(200).await;
    let gate = Arc::new(Semaphore::new(0));
    let at_origin = gate.clone();
    let long = Origin::start(move |received| match received.target() {
        "/long" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na".to_vec();
            vec![Act::ReadBody, Act::Send(head), Act::Gate(at_origin.clone()), Act::Send(b"bc".to_vec())]
        }
        _ => vec![Act::ReadBody, Act::Send(response(500, &[], ""))],
    })
    .await;
    let yaml = format!(
        "services: {{ web: {{ backends: [\"{}\", \"{}\"], balance: round_robin, ejection: {{ base: 1s }} }} }}\n",
        good.origin.address, long.address
    );
    let portway = Portway::start(&yaml).await;
    get_times(&portway, 10).await;
    wait_states(&portway, &["ready", "probation"]).await;
    let mut trial = send(&portway, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_states(&portway, &["ready", "ready"]).await;
    gate.add_permits(1);
    assert_eq!(trial.response().await.text(), "abc");
}

#[tokio::test]
async fn the_only_backend_is_never_ejected() {
    let pair = Pair::start(|_| vec![Act::ReadBody, Act::Send(response(500, &[], ""))]).await;
    assert_eq!(get_times(&pair.portway, 30).await, [500; 30]);
    assert_eq!(states(&pair.portway).await, ["ready"]);
    assert_eq!(pair.origin.n_requests(), 30);
}

#[tokio::test]
async fn of_three_backends_of_which_two_are_bad_one_is_ejected() {
    let (bad, good, worse) = (Moody::start(500).await, Moody::start(200).await, Moody::start(500).await);
    let portway = portway(&[&bad, &good, &worse], "ejection: { base: 1m }").await;
    eventually(PATIENCE, "an ejection", || async {
        get_times(&portway, 3).await;
        states(&portway).await.contains(&"ejected".to_owned())
    })
    .await;
    get_times(&portway, 60).await;
    let states = states(&portway).await;
    assert_eq!(states[1], "ready");
    assert_eq!(states.iter().filter(|state| *state == "ejected").count(), 1, "{states:?}");
}

#[tokio::test]
async fn a_service_that_fails_as_a_whole_loses_no_backend() {
    let all = [Moody::start(500).await, Moody::start(500).await, Moody::start(500).await];
    let portway = portway(&all.each_ref(), "ejection: { base: 1m }").await;
    get_times(&portway, 90).await;
    all.iter().for_each(|moody| moody.answers(200));
    assert_eq!(get_times(&portway, 9).await, [200; 9]);
    assert_eq!(states(&portway).await, ["ready"; 3]);
    assert!(all.iter().all(|moody| moody.origin.n_requests() == 33));
}

#[tokio::test]
async fn a_backend_that_refuses_connections_is_ejected() {
    let good = Origin::hello("good").await;
    let (here, gone) = (good.address, free_address());
    let yaml = format!(
        "services: {{ web: {{ backends: [\"{here}\", \"{gone}\"], balance: round_robin, ejection: {{ base: 1m }} }} }}\n"
    );
    let portway = Portway::start(&yaml).await;
    get_times(&portway, 10).await;
    wait_states(&portway, &["ready", "ejected"]).await;
    assert_eq!(get_times(&portway, 20).await, [200; 20]);
}

#[tokio::test]
async fn without_ejection_nobody_is_ejected() {
    let (good, bad) = (Moody::start(200).await, Moody::start(500).await);
    let portway = portway(&[&good, &bad], "ejection: false").await;
    get_times(&portway, 40).await;
    assert_eq!(bad.origin.n_requests(), 20);
    assert_eq!(states(&portway).await, ["ready", "ready"]);
}
