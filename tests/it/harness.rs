//! The harness itself, without Portway: a suite can only be as right as what it stands on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::support::{
    Act, Client, Ending, Flask, Load, Metrics, Origin, Worker, eventually, exchange, get, require, response,
    whole_machine,
};

#[tokio::test]
async fn an_origin_keeps_every_byte_of_a_chunked_request_with_trailers() {
    let origin = Origin::hello("hi").await;
    let request =
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    let mut client = Client::connect(origin.address).await;
    client.send(request).await;
    assert_eq!(client.response().await.text(), "hi");

    let received = origin.only_request();
    assert_eq!(String::from_utf8_lossy(&received.raw()), request);
    assert_eq!(received.body.content, b"abc");
    assert_eq!(received.body.trailers, [("X-T".to_owned(), "1".to_owned())]);
    assert_eq!((received.method(), received.target()), ("POST", "/a"));
}

#[tokio::test]
async fn an_origin_counts_connections_and_requests_on_each() {
    let origin = Origin::hello("hi").await;
    let mut client = Client::connect(origin.address).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.response().await;
    }
    get(origin.address, "/").await;
    let seen: Vec<_> = origin.requests().iter().map(|r| (r.connection, r.nth)).collect();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(origin.n_accepted(), 2);
    drop(client);
    eventually(Duration::from_secs(1), "no connection left", || async { origin.n_open() == 0 }).await;
}

#[tokio::test]
async fn an_origin_can_close_reset_cut_and_drip() {
    let origin = Origin::start(|received| match received.target() {
        "/close" => vec![Act::Close],
        "/reset" => vec![Act::Reset],
        "/cut" => vec![Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour".to_vec()), Act::Close],
        _ => vec![Act::Drip(response(204, &[], ""), Duration::from_millis(1)), Act::Close],
    })
    .await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(exchange(origin.address, ask("/close")).await, (Vec::new(), Ending::Closed));
    assert_eq!(exchange(origin.address, ask("/reset")).await, (Vec::new(), Ending::Reset));
    assert!(exchange(origin.address, ask("/cut")).await.0.ends_with(b"four"));
    assert_eq!(exchange(origin.address, ask("/drip")).await.0, response(204, &[], ""));
}

#[tokio::test]
async fn an_origin_closes_idle_connections_after_its_time() {
    let origin =
        Origin::with_idle_close(Duration::from_millis(50), |_| vec![Act::Send(response(200, &[], "hi"))]).await;
    let mut client = Client::connect(origin.address).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.response().await;
    assert_eq!(client.until_close(Duration::from_secs(2)).await, (Vec::new(), Ending::Closed));
}

#[tokio::test]
async fn a_gate_holds_an_answer_until_the_test_opens_it() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |_| vec![Act::Gate(Arc::clone(&held)), Act::Send(response(200, &[], "hi"))]).await;
    let mut client = Client::connect(origin.address).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.until_close(Duration::from_millis(50)).await, (Vec::new(), Ending::StillOpen));
    gate.add_permits(1);
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn the_load_counts_every_request_once() {
    let origin = Origin::start(|received| {
        let status = if received.nth % 10 == 9 { 503 } else { 200 };
        vec![Act::ReadBody, Act::Send(response(status, &[("X-Backend", "one")], "hi"))]
    })
    .await;
    let report = Load { requests: 1_000, connections: 10, ..Load::get(origin.address, "/") }.run().await;
    assert_eq!(report.statuses.values().sum::<usize>(), 1_000);
    assert!(report.statuses[&503] > 0 && report.failures.is_empty(), "{report:?}");
    assert_eq!(report.by_backend["one"], 1_000);
    assert_eq!(origin.n_requests(), 1_000);
}

#[tokio::test]
async fn a_load_whose_server_cuts_connections_reports_failures() {
    let origin = Origin::start(|_| vec![Act::Close]).await;
    let report = Load { requests: 10, connections: 2, ..Load::get(origin.address, "/") }.run().await;
    assert_eq!(report.failures.len(), 10, "{report:?}");
}

#[test]
fn a_metric_is_the_sum_of_its_series_with_the_given_labels() {
    let text = "# TYPE a gauge\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4\nab 9\nb 5\n";
    let metrics = Metrics::parse(text.to_owned());
    assert_eq!(metrics.sum("a", &[]), 7.0);
    assert_eq!(metrics.sum("a", &[("x", "2")]), 4.0);
    assert_eq!(metrics.sum("b", &[]), 5.0);
    assert_eq!(metrics.sum("c", &[]), 0.0);
    assert!(metrics.has("b") && !metrics.has("c"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_gunicorn_says_which_one_it_is() {
    let Some(flask) = require("flask", Flask::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = flask.start(1, Worker::Gthread).await;
    let report = Load { requests: 500, connections: 4, ..Load::get(fleet.addresses[0], "/api") }.run().await;
    report.assert_all_ok(500);
    report.assert_even(1, 0);
    assert_eq!(report.by_backend.keys().collect::<Vec<_>>(), [&fleet.addresses[0].to_string()]);
}
