//! Requests for a service that has nothing running: they wait until something listens, in their order, within limits.
//! The test starts what a scaler would start, at an address that refuses until then: what counts is what requests see
//! meanwhile. What is decided, and when, has unit tests in `proxy::place`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{
    Act, Client, Ending, Origin, PATIENCE, Portway, eventually, free_address, read_and_answer, response,
};

/// A service that is scaled to zero, behind a hook that leaves the work to the test.
struct Cold {
    portway: Portway,
    address: SocketAddr,
}

impl Cold {
    async fn start(hold: &str, service: &str) -> Self {
        let address = free_address();
        Self { portway: Portway::start(&yaml(address, hold, service)).await, address }
    }

    async fn ask(&self, request: &str) -> Client {
        let mut client = self.portway.connect().await;
        client.send(request).await;
        client
    }

    async fn get(&self, target: &str) -> Client {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await
    }

    async fn wait_held(&self, n: usize) {
        self.portway.wait_metric("portway_held_requests", &[("service", "web")], n as f64).await;
    }

    async fn warm(&self) -> Origin {
        Origin::at(self.address, |_| read_and_answer()).await
    }

    async fn limit_hits(&self) -> f64 {
        self.portway.metrics().await.sum("portway_limit_hits_total", &[("limit", "hold")])
    }
}

fn yaml(address: SocketAddr, hold: &str, service: &str) -> String {
    let autoscale = format!("{{ min: 0, max: 1, hook: {{ command: [\"true\"] }}, hold: {{ {hold} }} }}");
    format!("services: {{ web: {{ backends: [\"{address}\"], autoscale: {autoscale}, {service} }} }}\n")
}

const POST: &str = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn what_comes_before_anybody_listens_is_held_and_then_served_once_whatever_it_is() {
    let cold = Cold::start("timeout: 30s", "").await;
    let mut get = cold.get("/get").await;
    let mut post = cold.ask(POST).await;
    let mut socket = cold.ask(UPGRADE).await;
    cold.wait_held(3).await;
    let origin = Origin::at(cold.address, |received| match received.target() {
        "/ws" => vec![Act::Send(SWITCHED.into()), Act::Echo],
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(get.response().await.status, 200);
    assert_eq!(post.response_to("POST").await.status, 200);
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
    socket.send("ping").await;
    assert_eq!(socket.bytes(4).await, b"ping");
    let requests = origin.requests();
    assert_eq!(requests.len(), 3, "{requests:#?}");
    let posted = requests.iter().find(|received| received.method() == "POST").expect("it came");
    assert_eq!(posted.body.content, b"hello");
    cold.wait_held(0).await;
    let of_web = [("service", "web")];
    assert_eq!(cold.portway.metrics().await.sum("portway_cold_start_seconds_count", &of_web), 1.0);
    eventually(PATIENCE, "the event", || async { cold.portway.events().await.contains(&"cold_start".to_owned()) })
        .await;
    let is_logged = || cold.portway.access_log().into_iter().find(|record| record["path"] == "/post");
    eventually(PATIENCE, "its record", || async { is_logged().is_some() }).await;
    let record = is_logged().expect("just seen");
    assert!(
        record["held_ms"].as_f64() > Some(0.0) && record["queue_ms"].as_f64() >= record["held_ms"].as_f64(),
        "{record}"
    );
}

#[tokio::test]
async fn who_was_held_is_served_in_order_as_far_as_there_is_room() {
    let cold = Cold::start("timeout: 30s", "max_in_flight: 2, queue: { timeout: 100ms }").await;
    let mut clients = Vec::new();
    for n in 0..8 {
        clients.push(cold.get(&format!("/{n}")).await);
        cold.wait_held(n + 1).await;
    }
    let gate = Arc::new(Semaphore::new(0));
    let at_origin = gate.clone();
    let origin = Origin::at(cold.address, move |received| {
        vec![Act::ReadBody, Act::Gate(at_origin.clone()), Act::Send(response(200, &[], received.target()))]
    })
    .await;
    for n in 0..8 {
        let expected = (n + 2).min(8);
        eventually(PATIENCE, "those that there is room for", || async { origin.n_requests() == expected }).await;
        tokio::time::sleep(Duration::from_millis(150)).await; // longer than the patience of the queue
        assert_eq!(origin.n_requests(), expected);
        gate.add_permits(1);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().await.text(), format!("/{n}"));
    }
    let mut order: Vec<_> = origin.requests().iter().map(|received| received.target().to_owned()).collect();
    order[..2].sort(); // the first two go at the same time
    assert_eq!(order, (0..8).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_hundred_at_once_are_all_answered_and_none_twice() {
    const N: usize = 200;
    let cold = Cold::start("timeout: 30s", "max_in_flight: 8, queue: { size: 200 }").await;
    let mut clients = Vec::new();
    for n in 0..N {
        clients.push(match n % 2 {
            0 => cold.get(&format!("/{n}")).await,
            _ => cold.ask(&format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")).await,
        });
    }
    cold.wait_held(N).await;
    let origin = Origin::at(cold.address, |received| {
        let body = received.target().to_owned();
        vec![Act::ReadBody, Act::Pause(Duration::from_millis(5)), Act::Send(response(200, &[], &body))]
    })
    .await;
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = client.response_to(if n % 2 == 0 { "GET" } else { "POST" }).await;
        assert_eq!((answer.status, answer.text()), (200, format!("/{n}")));
    }
    assert_eq!(origin.n_requests(), N);
    let metrics = cold.portway.metrics().await;
    assert_eq!(metrics.sum("portway_queue_overflow_total", &[]), 0.0);
    assert_eq!(metrics.sum("portway_cold_start_seconds_count", &[]), 1.0);
}

#[tokio::test]
async fn the_hold_has_its_bound_and_its_time_and_says_when_to_come_back() {
    let cold = Cold::start("timeout: 1500ms, max: 2", "").await;
    let began = Instant::now();
    let mut held = [cold.get("/a").await, cold.get("/b").await];
    cold.wait_held(2).await;
    let full = cold.get("/c").await.response().await;
    assert_eq!((full.status, full.get("x-portway-reason")), (503, Some("hold_full")));
    assert!(full.get("retry-after").is_some() && cold.limit_hits().await == 1.0);
    for client in &mut held {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (503, Some("cold_start_timeout")));
        assert!(answer.get("retry-after").is_some());
    }
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
    cold.wait_held(0).await;
    // The connection is as good as before, and so is the service.
    let _origin = cold.warm().await;
    held[0].send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(held[0].response().await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_is_held_is_never_sent() {
    let cold = Cold::start("timeout: 30s", "").await;
    let gone = cold.ask(POST).await;
    let mut stays = cold.get("/stays").await;
    cold.wait_held(2).await;
    gone.reset();
    cold.wait_held(1).await;
    let origin = cold.warm().await;
    assert_eq!(stays.response().await.status, 200);
    assert_eq!(origin.only_request().target(), "/stays");
}

#[tokio::test]
async fn a_reload_reaches_those_that_are_held() {
    let cold = Cold::start("timeout: 30s", "").await;
    let mut held = cold.get("/").await;
    cold.wait_held(1).await;
    let elsewhere = Origin::hello("elsewhere").await;
    cold.portway.write(&yaml(elsewhere.address, "timeout: 30s", "headers: { request: { set: { x-new: \"1\" } } }"));
    assert_eq!(cold.portway.reload().await.0, 200, "{}", cold.portway.stderr());
    assert_eq!(held.response().await.text(), "elsewhere");

    let cold = Cold::start("timeout: 30s", "").await;
    let mut held = [cold.get("/a").await, cold.get("/b").await];
    cold.wait_held(2).await;
    cold.portway.write(&format!("services: {{ other: {{ backends: [\"{}\"] }} }}", elsewhere.address));
    assert_eq!(cold.portway.reload().await.0, 200);
    for client in &mut held {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), (503, Some("service_removed")));
    }
}

#[tokio::test]
async fn a_browser_is_shown_a_page_that_asks_again_and_everybody_else_waits() {
    const ACCEPT: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
    let cold = Cold::start("timeout: 30s, page: true", "").await;
    let browse = format!("GET / HTTP/1.1\r\nHost: a\r\n{ACCEPT}Sec-Fetch-Mode: navigate\r\n\r\n");
    let mut window = cold.ask(&browse).await;
    let page = window.response().await;
    assert_eq!((page.status, page.get("x-portway-reason")), (503, Some("starting")));
    assert_eq!((page.get("cache-control"), page.get("retry-after")), (Some("no-store"), Some("2")));
    assert!(page.text().contains("http-equiv=\"refresh\""), "{}", page.text());
    cold.wait_held(1).await; // it counts although it does not wait
    let mut script = cold.ask(&format!("GET /data HTTP/1.1\r\nHost: a\r\n{ACCEPT}Sec-Fetch-Mode: cors\r\n\r\n")).await;
    let mut tool = cold.ask("GET /tool HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n").await;
    cold.wait_held(3).await;
    window.send(&browse).await;
    assert_eq!(window.response().await.get("x-portway-reason"), Some("starting"));
    let _origin = cold.warm().await;
    for client in [&mut script, &mut tool] {
        assert_eq!(client.response().await.status, 200);
    }
    window.send(&browse).await;
    assert_eq!(window.response().await.status, 200);
}

#[tokio::test]
async fn a_service_that_nobody_scales_refuses_at_once() {
    let address = free_address();
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{address}\"] }} }}")).await;
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("connect_refused")));
    assert!(!portway.metrics().await.has("portway_held_requests"));
}

/// It dies under a request, and nobody listens for a while: a GET is held, a POST may have been executed.
#[tokio::test]
async fn a_request_whose_backend_died_is_held_if_it_may_be_repeated() {
    let cold = Cold::start("timeout: 30s", "").await;
    let hangs = Origin::at(cold.address, |_| vec![Act::ReadBody, Act::Gate(Arc::new(Semaphore::new(0)))]).await;
    let mut get = cold.get("/get").await;
    let mut post = cold.ask(POST).await;
    eventually(PATIENCE, "both", || async { hangs.n_requests() == 2 }).await;
    drop(hangs);
    let answer = post.response_to("POST").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("upstream_reset")));
    cold.wait_held(1).await;
    let origin = cold.warm().await;
    assert_eq!(get.response().await.status, 200);
    assert_eq!(origin.only_request().target(), "/get");
}

#[tokio::test]
async fn twenty_five_cold_starts_in_a_row_lose_nothing() {
    let cold = Cold::start("timeout: 30s", "").await;
    for round in 0..25 {
        let mut clients = Vec::new();
        for n in 0..4 {
            clients.push(cold.get(&format!("/{round}/{n}")).await);
        }
        let origin = cold.warm().await;
        for client in &mut clients {
            assert_eq!(client.response().await.status, 200, "round {round}");
        }
        assert_eq!(origin.n_requests(), 4, "round {round}: {:#?}", origin.requests());
        drop(origin);
        for client in clients {
            let (rest, ending) = client_rest(client).await;
            assert!(rest.is_empty() && ending == Ending::StillOpen, "{rest:?}");
        }
    }
    cold.wait_held(0).await;
    cold.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
}

async fn client_rest(mut client: Client) -> (Vec<u8>, Ending) {
    client.until_close(Duration::from_millis(1)).await
}
