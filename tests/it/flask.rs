//! The main job on real input: three gunicorn processes with the Flask app of issue #2 behind `portway run`.
//! Needs python3 and PyPI once; where these are missing the suite says so and checks nothing.

use crate::support::{Flask, Load, Portway, Worker, require, whole_machine};

const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 64;
const BACKENDS: usize = 3;
const ATTEMPTS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_to_three_sync_gunicorns_is_answered_and_the_spread_is_even() {
    check_fleet_of(Worker::Sync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_to_three_threaded_gunicorns_is_answered_and_the_spread_is_even() {
    check_fleet_of(Worker::Gthread).await;
}

async fn check_fleet_of(worker: Worker) {
    let Some(flask) = require("flask", Flask::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = flask.start(BACKENDS, worker).await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: {} }} }}", fleet.yaml())).await;

    // Who has fewest requests in flight gets the next one, so a process that the machine gives less time gets fewer. What
    // else runs on it may favour one of them for a while, not three times over.
    for attempt in 1.. {
        let load = Load { requests: REQUESTS, connections: CONNECTIONS, ..Load::get(portway.address, "/api") };
        let report = load.run().await;
        report.assert_all_ok(REQUESTS);
        assert_eq!(report.by_body.keys().collect::<Vec<_>>(), ["Hello, World!"]);
        if attempt == ATTEMPTS || report.is_even(10) {
            return report.assert_even(BACKENDS, 10);
        }
    }
}

#[tokio::test]
async fn a_flask_404_is_flasks_own_answer() {
    let Some(flask) = require("flask", Flask::find().await) else { return };
    let fleet = flask.start(1, Worker::Sync).await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: {} }} }}", fleet.yaml())).await;

    let response = portway.get("/nothing-here").await;

    assert_eq!(response.status, 404);
    assert_eq!(response.get("x-backend"), Some(fleet.addresses[0].to_string().as_str()));
    assert_eq!(response.get("x-portway-reason"), None, "{response:?}");
}

/// gunicorn closes a keep-alive connection after 2 s; a pooled one must not be used after that.
#[tokio::test]
async fn a_pause_longer_than_gunicorns_keep_alive_costs_no_request() {
    let Some(flask) = require("flask", Flask::find().await) else { return };
    let fleet = flask.start(1, Worker::Gthread).await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: {} }} }}", fleet.yaml())).await;
    let mut client = portway.connect().await;
    // The pauses stand on both sides of gunicorn's 2 s and of our own 1.5 s.
    for pause_ms in [0, 1_450, 1_550, 1_950, 2_000, 2_050, 2_500] {
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        client.send("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.response_to("POST").await.status, 405, "after {pause_ms} ms");
        client.send("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "Hello, World!", "after {pause_ms} ms");
    }
}
