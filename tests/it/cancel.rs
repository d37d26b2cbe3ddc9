//! S-50: clients that vanish at a random point of their request leave nothing behind.
//! Gauges, permits and upstream connections return to their idle values, and the next requests succeed.

use std::time::Duration;

use crate::support::{
    Act, Client, Load, Origin, PATIENCE, Portway, eventually, raise_files_limit, response, whole_machine,
};

/// Storms of this size end in seconds on two cores; the full 50,000 are for the soak.
const REQUESTS: usize = 3_000;
const AT_A_TIME: usize = 32;
const BODY_BYTES: usize = 40_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s50_a_storm_of_cancelled_requests_leaves_nothing_behind() {
    let _turn = whole_machine().await;
    raise_files_limit();
    let origin = Origin::start(|_| {
        let answer = response(200, &[], &"y".repeat(BODY_BYTES));
        let (first, second) = answer.split_at(answer.len() / 2);
        let pause = || Act::Pause(Duration::from_millis(1));
        vec![Act::ReadBody, pause(), Act::Send(first.to_vec()), pause(), Act::Send(second.to_vec())]
    })
    .await;
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], max_in_flight: 64, queue: {{ size: 1000, timeout: 10s }} }} }}",
        origin.address
    ))
    .await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");

    let mut storm = tokio::task::JoinSet::new();
    for n in 0..AT_A_TIME {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(n as u64));
        storm.spawn(cancel_many(portway.address, random, REQUESTS / AT_A_TIME));
    }
    storm.join_all().await;

    for gauge in ["portway_backend_in_flight", "portway_connections", "portway_queue_length"] {
        portway.wait_metric(gauge, &[], 0.0).await;
    }
    // The keep-alive of upstream connections is 1.5 s by default.
    eventually(PATIENCE, "idle upstream connections to end", || async { origin.n_open() == 0 }).await;
    let load = Load { requests: 1_000, connections: 64, ..Load::get(portway.address, "/") };
    load.run().await.assert_all_ok(1_000);
    assert!(!portway.stderr().contains("panicked"), "{}", portway.stderr());
}

async fn cancel_many(address: std::net::SocketAddr, mut random: fastrand::Rng, n: usize) {
    for _ in 0..n {
        cancel_one(address, &mut random).await;
    }
}

/// Sends a random part of a request, perhaps waits for a random part of the answer, and goes away.
async fn cancel_one(address: std::net::SocketAddr, random: &mut fastrand::Rng) {
    let request = match random.u8(..3) {
        0 => "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        1 => format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{}", "z".repeat(20_000)),
        _ => format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n4e20\r\n{}\r\n0\r\nx-t: 1\r\n\r\n",
            "z".repeat(20_000)
        ),
    };
    let mut client = Client::connect(address).await;
    let is_whole = random.bool();
    let sent = if is_whole { request.len() } else { random.usize(..request.len()) };
    client.send(&request.as_bytes()[..sent]).await;
    let patience_us = random.u64(..6_000);
    client.until_close(Duration::from_micros(patience_us)).await;
    if random.bool() {
        client.reset();
    }
}

/// A backend must learn that nobody waits any more: a request that is computed for nobody still occupies a worker.
#[tokio::test]
async fn s50_a_client_that_goes_away_ends_the_request_at_the_backend() {
    let origin = Origin::start(|_| vec![Act::ReadBody, Act::Hang]).await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{}\"] }} }}", origin.address)).await;
    let mut client = portway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually(PATIENCE, "the request at the origin", || async { origin.n_requests() == 1 }).await;

    client.reset();

    eventually(Duration::from_secs(2), "the upstream connection to end", || async { origin.n_open() == 0 }).await;
    portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
}
