//! How the process ends: nothing that was accepted is lost, readiness fails first, the exit code tells what happened.
//! The contract is `SIGTERM` = drain, a second one = now, 0 = clean, 3 = connections were cut at the deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{Act, Ending, Load, Origin, Portway, eventually, response, whole_machine};

const SOON: Duration = Duration::from_secs(3);

/// What an orchestrator does: it sends SIGTERM, sees `/readyz` fail, and only then stops sending requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request_and_fails_readyz_first() {
    let _turn = whole_machine().await;
    let answer =
        || |_: &_| vec![Act::ReadBody, Act::Pause(Duration::from_millis(2)), Act::Send(response(200, &[], "ok"))];
    let (one, two) = (Origin::start(answer()).await, Origin::start(answer()).await);
    let mut portway = Portway::start(&format!(
        "shutdown: {{ delay: 1s, drain: 10s }}\nservices: {{ web: {{ backends: [\"{}\", \"{}\"] }} }}",
        one.address, two.address
    ))
    .await;
    let load = Load { requests: 200_000, connections: 64, ..Load::get(portway.address, "/") }.start();
    eventually(SOON, "1,000 answers", || async { load.answered() >= 1_000 }).await;

    portway.sigterm();
    eventually(SOON, "/readyz to fail", || async { portway.readiness().await != Some(200) }).await;
    let still_served = portway.get("/").await;
    let report = load.stop().await;

    assert_eq!(still_served.status, 200, "the listeners stay open for shutdown.delay after readiness has failed");
    report.assert_no_loss();
    assert_eq!(portway.wait_exit(Duration::from_secs(12)).await.code(), Some(0), "{}", portway.stderr());
}

#[tokio::test]
async fn requests_in_flight_at_sigterm_are_finished() {
    const IN_FLIGHT: usize = 20;
    let gate = Arc::new(Semaphore::new(0));
    let origin = gated_origin(&gate).await;
    let mut portway = Portway::start(&one_backend("shutdown: { drain: 20s }", &origin)).await;
    let mut clients = Vec::new();
    for _ in 0..IN_FLIGHT {
        let mut client = portway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    eventually(SOON, "all requests at the origin", || async { origin.n_requests() == IN_FLIGHT }).await;

    portway.sigterm();
    let address = portway.address;
    eventually(SOON, "the listener to close", || async move { TcpStream::connect(address).await.is_err() }).await;
    assert!(portway.is_running(), "it ended with requests in flight");
    gate.add_permits(IN_FLIGHT);

    for client in &mut clients {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
        assert!(answer.head.says_close(), "a draining proxy says that it closes: {:?}", answer.head);
    }
    assert_eq!(portway.wait_exit(SOON).await.code(), Some(0), "{}", portway.stderr());
}

#[tokio::test]
async fn a_body_under_way_at_sigterm_arrives_whole() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = {
        let gate = Arc::clone(&gate);
        let half = || vec![b'x'; 500_000];
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
        Origin::start(move |_| {
            vec![Act::Send(head.clone()), Act::Send(half()), Act::Gate(Arc::clone(&gate)), Act::Send(half())]
        })
        .await
    };
    let mut portway = Portway::start(&one_backend("shutdown: { drain: 20s }", &origin)).await;
    let mut client = portway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    client.bytes(100_000).await;

    portway.sigterm();
    let address = portway.address;
    eventually(SOON, "the listener to close", || async move { TcpStream::connect(address).await.is_err() }).await;
    gate.add_permits(1);

    assert_eq!(client.bytes(900_000).await.len(), 900_000);
    assert_eq!(portway.wait_exit(SOON).await.code(), Some(0), "{}", portway.stderr());
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_exit() {
    let origin = Origin::hello("hi").await;
    let mut portway = Portway::start(&one_backend("shutdown: { drain: 20s }", &origin)).await;
    let mut used = portway.connect().await;
    used.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(used.response().await.status, 200);
    let mut unused = portway.connect().await;
    portway.wait_metric("portway_connections", &[], 2.0).await;

    portway.sigterm();

    assert_eq!(portway.wait_exit(SOON).await.code(), Some(0), "{}", portway.stderr());
    assert_eq!(used.until_close(SOON).await, (Vec::new(), Ending::Closed));
    assert_eq!(unused.until_close(SOON).await.0, b"");
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_deadline_is_cut_and_the_exit_code_is_3() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = gated_origin(&gate).await;
    let mut portway = Portway::start(&one_backend("shutdown: { drain: 500ms }", &origin)).await;
    let mut client = portway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(SOON, "the request at the origin", || async { origin.n_requests() == 1 }).await;

    portway.sigterm();

    assert_eq!(portway.wait_exit(SOON).await.code(), Some(3), "{}", portway.stderr());
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = gated_origin(&gate).await;
    let mut portway = Portway::start(&one_backend("shutdown: { drain: 60s }", &origin)).await;
    let mut client = portway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(SOON, "the request at the origin", || async { origin.n_requests() == 1 }).await;

    portway.sigterm();
    let address = portway.address;
    eventually(SOON, "the listener to close", || async move { TcpStream::connect(address).await.is_err() }).await;
    assert!(portway.is_running());
    portway.sigterm();

    let status = portway.wait_exit(SOON).await;
    assert!(status.code().is_some(), "it ends by itself, not by the signal: {status}");
}

async fn gated_origin(gate: &Arc<Semaphore>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::start(move |_| vec![Act::ReadBody, Act::Gate(Arc::clone(&gate)), Act::Send(response(200, &[], "done"))])
        .await
}

fn one_backend(top_level: &str, origin: &Origin) -> String {
    format!("{top_level}\nservices: {{ web: {{ backends: [\"{}\"] }} }}", origin.address)
}

/// One worker accepts, all serve: the same promises hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balanced_accepting_serves_every_connection_and_drains_cleanly() {
    let origin = Origin::hello("hi").await;
    let mut portway = Portway::start(&one_backend("workers: 3\naccept: balanced", &origin)).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(portway.connect().await);
    }
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }
    portway.wait_metric("portway_connections", &[], 30.0).await;

    portway.sigterm();

    assert_eq!(portway.wait_exit(Duration::from_secs(12)).await.code(), Some(0), "{}", portway.stderr());
}
