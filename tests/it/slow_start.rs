//! A backend that joins others warms up: `slow_start` with the real process.
//! It promises shares of counted requests. The ramp itself has unit tests in `runtime::standing`, who is new in
//! `runtime::group`.

use crate::support::{Origin, PATIENCE, Portway, eventually};

const N: usize = 120;

fn yaml(origins: &[&Origin]) -> String {
    let addresses: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    let keys = "balance: round_robin, slow_start: 8s";
    format!("workers: 1\nservices: {{ web: {{ backends: [{}], {keys} }} }}", addresses.join(", "))
}

/// Of `N` requests, so many go to `origin`.
async fn share(portway: &Portway, origin: &Origin) -> usize {
    let before = origin.n_requests();
    let mut client = portway.connect().await;
    for _ in 0..N {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }
    origin.n_requests() - before
}

#[tokio::test]
async fn a_backend_that_joins_takes_little_at_first_and_its_whole_share_in_the_end() {
    let [one, two, new] = [Origin::hello("1").await, Origin::hello("2").await, Origin::hello("3").await];
    let portway = Portway::start(&yaml(&[&one, &two])).await;
    assert!((N / 2 - 1..=N / 2 + 1).contains(&share(&portway, &one).await), "who is there from the start is warm");
    portway.write(&yaml(&[&one, &two, &new]));
    assert_eq!(portway.reload().await.0, 200);
    let at_first = share(&portway, &new).await;
    assert!((1..N / 4).contains(&at_first), "{at_first} of {N} at once");
    let warms_up = || async {
        let backends = portway.status().await["services"][0]["backends"].clone();
        backends.as_array().expect("a list").iter().filter(|backend| !backend["share"].is_null()).count()
    };
    assert_eq!(warms_up().await, 1);
    eventually(2 * PATIENCE, "the end of the ramp", || async { warms_up().await == 0 }).await;
    let in_the_end = share(&portway, &new).await;
    assert!((N / 3 - 2..=N / 3 + 2).contains(&in_the_end), "{in_the_end} of {N} in the end");
}
