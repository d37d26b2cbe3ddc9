//! The keep-alive race (#3): the backend closes a connection just when a request sets out on it.
//! It promises that no request is lost to it, GET or POST, and none executed twice; and that what keeps POSTs out of it
//! costs few fresh connections. What happens to a request that meets a dead connection all the same is `keepalive`'s.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use crate::support::{
    Act, Client, IdleCloser, Manners, Origin, PATIENCE, Pair, Portway, Race, Received, Tally, Yaml, cpu_time,
    eventually, n_half_closed, n_lingering, read_and_answer, response, whole_machine,
};

const IDLE: Duration = Duration::from_millis(50);
const WORK: Duration = Duration::from_millis(5);

async fn backend(n_ids: usize) -> IdleCloser {
    IdleCloser::start(Manners { idle: IDLE, jitter: Duration::from_millis(2), work: WORK, n_ids }).await
}

fn race(address: SocketAddr, requests: usize, clients: usize) -> Race {
    Race { address, requests, clients, period: WORK + IDLE, spread: Duration::from_millis(6) }
}

fn yaml(backend: &IdleCloser) -> String {
    format!("access_log: {{ only: errors }}\nservices: {{ web: {{ backends: [\"{}\"] }} }}\n", backend.address)
}

/// The row of a table: what was lost, what it cost.
fn row(tally: &Tally, backend: &IdleCloser, cpu: Duration) -> String {
    let n = tally.gets.sent + tally.posts.sent;
    let (posts, gets) = backend.fresh_percent();
    format!(
        "| {} of {} | {} of {} | {} | {posts:.1} % | {gets:.1} % | {:.1} µs | {:.0} s | {:?} {:?} |",
        tally.gets.failed(),
        tally.gets.sent,
        tally.posts.failed(),
        tally.posts.sent,
        backend.executed_twice().len(),
        cpu.as_secs_f64() * 1e6 / n as f64,
        tally.took.as_secs_f64(),
        tally.gets.failures,
        tally.posts.failures,
    )
}

const HEAD: &str = "\n| GETs lost | POSTs lost | executed twice | POSTs on fresh connections | GETs on fresh connections \
                    | CPU per request | took | what was lost |\n|---|---|---|---|---|---|---|---|\n";

/// The whole of it runs as `the_whole_race`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_to_a_backend_that_closes_idle_connections_when_the_next_requests_come() {
    let _alone = whole_machine().await;
    let n = 4_000;
    let backend = backend(n).await;
    let portway = Portway::start(&yaml(&backend)).await;
    let tally = race(portway.address, n, 96).run().await;
    let row = row(&tally, &backend, cpu_time(portway.pid())) + "\n" + &portway.stdout();
    assert_eq!((tally.gets.failed(), tally.posts.failed()), (0, 0), "{HEAD}{row}");
    assert_eq!(backend.executed_twice(), [0; 0], "{row}");
    assert!(backend.n_closed() > n / 20, "only {} connections were closed: that was no race", backend.n_closed());
}

/// `PORTWAY_BIN=target/release/portway cargo test --test it the_whole_race -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes: 200,000 requests"]
async fn the_whole_race() {
    let _alone = whole_machine().await;
    let n = 200_000;
    let backend = backend(n).await;
    let portway = Portway::start(&yaml(&backend)).await;
    let tally = race(portway.address, n, 128).run().await;
    let row = row(&tally, &backend, cpu_time(portway.pid())) + "\n" + &portway.stdout();
    eprintln!("{HEAD}{row}");
    assert_eq!((tally.gets.failed(), tally.posts.failed()), (0, 0), "{HEAD}{row}");
    assert_eq!(backend.executed_twice(), [0; 0]);
}

/// One request, and whether it came on a connection of its own.
async fn is_fresh(pair: &Pair, client: &mut Client, method: &str) -> bool {
    let before = pair.origin.n_accepted();
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
    pair.origin.n_accepted() > before
}

/// No connection can have shown that it bears four times the longest rest there was.
#[tokio::test]
async fn a_post_takes_no_connection_that_rested_longer_than_was_proven_safe_and_a_get_does() {
    let pair = Pair::hello().await;
    let mut client = pair.connect().await;
    assert!(is_fresh(&pair, &mut client, "GET").await);
    sleep(Duration::from_millis(60)).await;
    assert!(is_fresh(&pair, &mut client, "POST").await);
    sleep(Duration::from_millis(60)).await;
    assert!(!is_fresh(&pair, &mut client, "GET").await);
}

/// A body that is not here whole is gone once sent, whatever the method.
#[tokio::test]
async fn a_put_whose_body_is_streamed_is_as_careful_as_a_post() {
    let pair = Pair::before(Yaml { service: "buffer: { request: 1B }", ..Yaml::default() }, Origin::hello("x").await);
    let pair = pair.await;
    let mut client = pair.connect().await;
    for n in 1..=3 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nda").await;
        eventually(PATIENCE, "half of it", || async { pair.origin.n_requests() == n }).await;
        client.send("ta").await;
        assert_eq!(client.response().await.status, 200);
        assert_eq!(pair.origin.n_accepted(), n);
        sleep(Duration::from_millis(60)).await;
    }
}

/// A service that gets nothing but POSTs, now and then.
#[tokio::test]
async fn posts_come_to_use_connections_again_once_rests_like_theirs_have_proven_safe() {
    let pair = Pair::hello().await;
    let mut client = pair.connect().await;
    let mut fresh = vec![];
    for _ in 0..50 {
        fresh.push(is_fresh(&pair, &mut client, "POST").await);
        sleep(Duration::from_millis(40)).await;
    }
    let n_fresh_late = fresh[15..].iter().filter(|fresh| **fresh).count();
    assert!(fresh[1] && n_fresh_late <= 2, "{fresh:?}");
}

/// Nor do they heap up connections while nothing is proven, each of which may hold a thread of the backend.
#[tokio::test]
async fn posts_that_need_fresh_connections_leave_few_idle_ones() {
    let closing = Origin::with_idle_close(Duration::from_millis(200), |_| read_and_answer()).await;
    let pair = Pair::before(Yaml::default(), closing).await;
    let mut client = pair.connect().await;
    for _ in 0..30 {
        is_fresh(&pair, &mut client, "POST").await;
        assert!(pair.origin.n_open() <= 4, "{} connections for one client", pair.origin.n_open());
        sleep(Duration::from_millis(15)).await;
    }
}

/// A local port is held for a minute by each connection that we close in order: some hundred a second would use them up.
#[tokio::test]
async fn posts_that_need_fresh_connections_use_up_no_ports() {
    let closing = Origin::with_idle_close(Duration::from_millis(60), |_| read_and_answer()).await;
    let pair = Pair::before(Yaml::default(), closing).await;
    let mut client = pair.connect().await;
    for _ in 0..100 {
        is_fresh(&pair, &mut client, "POST").await;
    }
    assert!(pair.origin.n_accepted() >= 50, "only {} fresh connections", pair.origin.n_accepted());
    assert!(n_lingering(pair.origin.address) <= 5, "{} ports are held", n_lingering(pair.origin.address));
}

#[tokio::test]
async fn a_backend_that_advertises_its_idle_limit_needs_to_prove_nothing() {
    let answer = response(200, &[("Keep-Alive", "timeout=5")], "ok");
    let pair = Pair::start(move |_| vec![Act::ReadBody, Act::Send(answer.clone())]);
    let pair = pair.await;
    let mut client = pair.connect().await;
    assert!(is_fresh(&pair, &mut client, "POST").await);
    sleep(Duration::from_millis(60)).await;
    assert!(!is_fresh(&pair, &mut client, "POST").await);
}

/// A backend waits for our side of a connection that it closed: neither of us keeps the descriptor for long.
#[tokio::test]
async fn connections_that_the_backend_closed_are_given_up_without_a_request() {
    let slow = |_: &Received| vec![Act::ReadBody, Act::Pause(WORK * 20), Act::Send(response(200, &[], "ok"))];
    let closing = Origin::with_idle_close(Duration::from_millis(300), slow).await;
    let pair = Pair::before(Yaml { service: "keepalive: { idle: 60s }", ..Yaml::default() }, closing).await;
    let mut clients = vec![];
    for _ in 0..8 {
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert!(pair.origin.n_accepted() >= 4, "eight requests at a time took {}", pair.origin.n_accepted());
    eventually(PATIENCE, "the backend's closes", || async { pair.origin.n_open() == 0 }).await;
    let is_given_up = || async { n_half_closed(pair.origin.address) == 0 };
    eventually(Duration::from_secs(2), "our side of closed connections", is_given_up).await;
}
