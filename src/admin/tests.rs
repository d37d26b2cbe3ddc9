//! The admin listener over real sockets: what clients see, with a source that always says the same.
//! Promises port 0 and no sleeps. It does not test the rules of `guard` one by one: they have tests of their own.

#![cfg(test)]

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::config::checked::{Admin, ListenAddress};
use crate::lifecycle::drain;

struct Sample;

impl StatusSource for Sample {
    fn status(&self, state: ProcessState) -> Status {
        sample_status(state)
    }

    fn config_yaml(&self) -> String {
        "listen: \":8080\"\n".to_owned()
    }
}

pub(crate) fn sample_status(state: ProcessState) -> Status {
    let backend = |address: &str, state| BackendStatus {
        address: address.to_owned(),
        container: None,
        state,
        why: None,
        share: None,
        weight: 1,
        in_flight: 4,
        requests: 1_000,
        errors: 2,
        p50_ms: Some(3.0),
        p99_ms: Some(22.0),
    };
    Status {
        version: "0.1.0".to_owned(),
        state,
        uptime_s: 273_600,
        generation: 42,
        generation_age_s: 720,
        config_file: Some("portway.yaml".to_owned()),
        rollback_to: None,
        refused_config: None,
        needs_restart: Vec::new(),
        workers: 2,
        traffic: Traffic { req_per_s: 1_203.0, p50_ms: Some(4.0), p99_ms: Some(31.0), error_ratio: 0.0002 },
        listeners: vec![ListenerStatus {
            address: ":8080".to_owned(),
            protocol: "http".to_owned(),
            connections: 318,
            accepted: 4_000,
        }],
        services: vec![
            ServiceStatus {
                name: "shop".to_owned(),
                routes: vec!["shop.example.com/".to_owned()],
                source: SourceStatus::default(),
                replicas: None,
                engines_away: Vec::new(),
                passed_over: Vec::new(),
                traffic: Traffic { req_per_s: 812.0, p50_ms: Some(3.0), p99_ms: Some(22.0), error_ratio: 0.0 },
                in_flight: 9,
                queue: 0,
                queue_limit: 100,
                retry_ratio: 0.001,
                backends: vec![
                    backend("10.0.0.11:5000", BackendState::Ready),
                    backend("10.0.0.12:5000", BackendState::Ready),
                ],
            },
            ServiceStatus {
                name: "orders".to_owned(),
                routes: vec!["/orders".to_owned()],
                source: SourceStatus::default(),
                replicas: None,
                engines_away: Vec::new(),
                passed_over: Vec::new(),
                traffic: Traffic::default(),
                in_flight: 14,
                queue: 2,
                queue_limit: 100,
                retry_ratio: 0.0,
                backends: vec![
                    backend("10.0.0.21:5000", BackendState::Full),
                    backend("gone.internal:5000", BackendState::Unresolved),
                ],
            },
        ],
    }
}

/// A service that Portway scales, with one container of the two that it should have.
pub(crate) fn sample_scaled() -> ServiceStatus {
    let service = sample_status(ProcessState::Ready).services.swap_remove(0);
    let container = Some(ContainerName { id: "3f2a9c".repeat(10) + "3f2a", name: "thumbs-1".to_owned() });
    let backends = vec![BackendStatus { container, ..service.backends[0].clone() }];
    let because = "14.2 in flight on average, 6 wanted".to_owned();
    let at = "2026-11-23T12:00:00Z".to_owned();
    let replicas = ReplicaStatus {
        desired: 2,
        ready: 1,
        starting: 1,
        draining: 0,
        held: 0,
        min: 0,
        max: 10,
        pinned: None,
        last_decision: Some(LastDecision { at, age_s: 12, from: 1, to: 2, because }),
        last_cold_start_ms: Some(840.0),
        failure: None,
    };
    ServiceStatus {
        name: "thumbs".to_owned(),
        routes: vec!["/thumbs".to_owned()],
        source: SourceStatus { kind: SourceKind::Container, description: "image acme/thumbs:1.4".to_owned() },
        replicas: Some(replicas),
        backends,
        ..service
    }
}

/// The same without a container and without need of one, since two hours.
pub(crate) fn sample_cold() -> ServiceStatus {
    let mut service = sample_scaled();
    (service.backends, service.traffic, service.in_flight) = (Vec::new(), Traffic::default(), 0);
    let replicas = service.replicas.as_mut().unwrap();
    (replicas.desired, replicas.ready, replicas.starting) = (0, 0, 0);
    let decision = replicas.last_decision.as_mut().unwrap();
    (decision.age_s, decision.from, decision.to) = (7_200, 1, 0);
    decision.because = "idle for 5m".to_owned();
    service
}

fn sample_answer(generation: u64) -> Answering {
    let answer = ReloadAnswer {
        status: 200,
        result: ReloadResult::Applied,
        generation,
        message: String::new(),
        changes: Default::default(),
        took_ms: 1.0,
        needs_restart: Vec::new(),
        replacing: Vec::new(),
        diagnostics: Value::Null,
        text: String::new(),
    };
    Box::pin(async move { answer })
}

impl Reloading for Sample {
    fn reload(&self) -> Answering {
        sample_answer(43)
    }

    fn rollback(&self, generation: Option<u64>) -> Answering {
        sample_answer(generation.map_or(41, |generation| generation + 100))
    }

    fn history(&self) -> Vec<KeptGeneration> {
        let applied = "2026-01-01T00:00:00Z".to_owned();
        vec![KeptGeneration { generation: 42, applied, rollback_to: None, is_active: true, services: 2 }]
    }
}

pub(crate) fn sample_resources() -> Resources {
    Resources {
        source: Arc::new(Sample),
        metrics: Metrics::new(),
        events: Arc::new(Events::new()),
        readiness: Readiness::new(),
        drain: drain::new().0,
        by_hand: Arc::new(SampleHands),
        reloading: Arc::new(Sample),
    }
}

/// Knows one backend.
struct SampleHands;

impl SampleHands {
    fn set(service: &str, backend: &str, state: BackendState) -> Result<Handled, NotThere> {
        let all = sample_status(ProcessState::Ready).services.swap_remove(0).backends;
        let (mut found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|known| known.address == backend);
        if service != "shop" || found.is_empty() {
            return Err(NotThere(format!("there is no {service}/{backend}")));
        }
        found[0].state = state;
        Ok(Handled { service: service.to_owned(), backends: found, ready: others.len() })
    }
}

impl ByHand for SampleHands {
    fn drain(&self, service: &str, backend: &str) -> Result<Handled, NotThere> {
        Self::set(service, backend, BackendState::Draining)
    }

    fn undrain(&self, service: &str, backend: &str) -> Result<Handled, NotThere> {
        Self::set(service, backend, BackendState::Ready)
    }

    fn scale(&self, service: &str, to: ScaleTo) -> Result<Scaled, Unscalable> {
        let sample = sample_scaled();
        if service != sample.name {
            return Err(Unscalable::NotThere(format!("there is no service `{service}`")));
        }
        let mut replicas = sample.replicas.unwrap();
        match to {
            ScaleTo::Pinned(n) if n > replicas.max => Err(Unscalable::NotPossible(format!("{n} is too many"))),
            ScaleTo::Pinned(n) => {
                replicas.pinned = Some(n);
                Ok(Scaled { service: sample.name, replicas })
            }
            ScaleTo::Auto => Ok(Scaled { service: sample.name, replicas }),
        }
    }
}

/// A running admin listener on port 0.
struct Running {
    address: ListenAddress,
    resources: Arc<Resources>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn start(address: ListenAddress, token: Option<&str>) -> Running {
    let resources = Arc::new(sample_resources());
    let server = Server::bind(&Admin { address, token: token.map(str::to_owned) }).unwrap();
    let address = server.address();
    let serving = tokio::spawn(server.serve(resources.clone()));
    Running { address, resources, serving }
}

fn start_on_loopback() -> Running {
    start(ListenAddress::Tcp(([127, 0, 0, 1], 0).into()), None)
}

/// An answer as it came: status line and headers, then the body.
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Running {
    fn port(&self) -> u16 {
        let ListenAddress::Tcp(address) = self.address else { panic!("not on TCP") };
        address.port()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port())).await.unwrap()
    }

    async fn send(&self, request: &str) -> Reply {
        exchange(self.connect().await, request).await
    }

    async fn ask(&self, method: &str, path: &str) -> Reply {
        self.send(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}");
        self.send(&format!("{head}\r\n\r\n{body}")).await
    }
}

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    Reply { head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn readyz_follows_start_and_drain_while_healthz_does_not() {
    let admin = start_on_loopback();
    let starting = admin.resources.readiness.block("listeners");
    let reply = admin.ask("GET", "/readyz").await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "starting: waiting for listeners\n"));
    drop(starting);
    assert_eq!(admin.ask("GET", "/readyz").await.status(), 200);
    admin.resources.drain.request(drain::Reason::Signal("SIGTERM"));
    let reply = admin.ask("GET", "/readyz").await;
    assert_eq!((reply.status(), reply.body.as_str()), (503, "draining\n"));
    assert_eq!(admin.ask("GET", "/healthz").await.status(), 200);
}

#[tokio::test]
async fn status_services_and_events_are_json() {
    let admin = start_on_loopback();
    admin.resources.events.push("config_applied", "config applied", &[("generation", &42)]);
    let status = admin.ask("GET", "/api/v1/status").await.json();
    assert_eq!(status["state"], "ready");
    assert_eq!(status["services"][1]["backends"][1]["state"], "unresolved");
    assert_eq!(serde_json::from_value::<Status>(status).unwrap(), sample_status(ProcessState::Ready));
    assert_eq!(admin.ask("GET", "/api/v1/services").await.json()[0]["name"], "shop");
    assert_eq!(admin.ask("GET", "/api/v1/services/orders").await.json()["queue"], 2);
    assert_eq!(admin.ask("GET", "/api/v1/events").await.json()[0]["kind"], "config_applied");
}

#[tokio::test]
async fn an_unknown_service_is_answered_with_those_there_are() {
    let reply = start_on_loopback().ask("GET", "/api/v1/services/shoop").await;
    assert_eq!(reply.status(), 404);
    assert_eq!(reply.json()["reason"], "not_found");
    assert_eq!(reply.json()["message"], "there is no service `shoop`; there are: shop, orders");
}

#[tokio::test]
async fn metrics_configuration_and_dashboard_have_their_types() {
    let admin = start_on_loopback();
    for (path, content_type, text) in [
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "portway_build_info"),
        ("/api/v1/config", "application/yaml", "listen:"),
        ("/", "text/html; charset=utf-8", "<title>Portway</title>"),
    ] {
        let reply = admin.ask("GET", path).await;
        assert_eq!(reply.status(), 200);
        assert!(reply.head.contains(&format!("content-type: {content_type}")), "{}", reply.head);
        assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
        assert!(reply.body.contains(text), "{}", reply.body);
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let reply = start_on_loopback().ask("HEAD", "/healthz").await;
    assert_eq!((reply.status(), reply.body.as_str()), (200, ""));
}

#[tokio::test]
async fn the_wrong_method_is_told_the_right_one() {
    let admin = start_on_loopback();
    for (method, path, allow) in
        [("POST", "/api/v1/status", "get, head"), ("DELETE", "/", "get, head"), ("GET", "/api/v1/drain", "post")]
    {
        let reply = admin.ask(method, path).await;
        assert_eq!((reply.status(), reply.json()["reason"].as_str()), (405, Some("method_not_allowed")));
        assert!(reply.head.contains(&format!("allow: {allow}")), "{}", reply.head);
    }
    assert!(!admin.resources.drain.is_requested());
}

#[tokio::test]
async fn what_is_not_there_is_json_that_says_so() {
    let admin = start_on_loopback();
    assert_eq!(admin.ask("GET", "/api/v2/status").await.json()["status"], 404);
}

#[tokio::test]
async fn a_number_of_replicas_is_pinned_and_released() {
    let admin = start_on_loopback();
    let reply = admin.post("/api/v1/scale", r#"{"service": "thumbs", "replicas": 3}"#).await;
    assert_eq!((reply.status(), reply.json()["replicas"]["pinned"].as_u64()), (200, Some(3)));
    let reply = admin.post("/api/v1/scale", r#"{"service": "thumbs", "replicas": "auto"}"#).await;
    assert_eq!((reply.status(), &reply.json()["replicas"]["pinned"]), (200, &Value::Null));
    for (body, status, reason) in [
        (r#"{"service": "shop", "replicas": 3}"#, 404, "not_found"),
        (r#"{"service": "thumbs", "replicas": 11}"#, 422, "cannot_scale"),
        (r#"{"service": "thumbs", "replicas": -1}"#, 400, "bad_request"),
        (r#"{"service": "thumbs", "replicas": "many"}"#, 400, "bad_request"),
        (r#"{"service": "thumbs", "replicas": 99999999999}"#, 400, "bad_request"),
        (r#"{"service": "thumbs"}"#, 400, "bad_request"),
        ("", 400, "bad_request"),
    ] {
        let reply = admin.post("/api/v1/scale", body).await;
        assert_eq!((reply.status(), reply.json()["reason"].as_str()), (status, Some(reason)), "{body}");
    }
    let reply = admin.ask("GET", "/api/v1/scale?service=thumbs&replicas=3").await;
    assert_eq!(reply.status(), 405, "GET changes nothing");
}

#[test]
fn only_services_that_are_scaled_tell_of_replicas() {
    let plain = serde_json::to_value(&sample_status(ProcessState::Ready).services[0]).unwrap();
    assert!(plain.get("replicas").is_none() && plain["backends"][0].get("container").is_none(), "{plain}");
    assert_eq!(plain["source"]["kind"], "backends");
    let scaled = serde_json::to_value(sample_scaled()).unwrap();
    assert_eq!((scaled["replicas"]["desired"].as_u64(), scaled["replicas"]["ready"].as_u64()), (Some(2), Some(1)));
    assert_eq!(scaled["backends"][0]["container"]["name"], "thumbs-1");
    assert_eq!(serde_json::from_value::<ServiceStatus>(scaled).unwrap(), sample_scaled());
}

#[tokio::test]
async fn reload_and_rollback_are_answered_with_what_came_of_them() {
    let admin = start_on_loopback();
    let reply = admin.post("/api/v1/reload", "").await;
    assert_eq!((reply.status(), reply.json()["generation"].as_u64()), (200, Some(43)));
    assert_eq!(reply.json()["result"], "applied");
    assert_eq!(admin.post("/api/v1/rollback", "").await.json()["generation"], 41);
    assert_eq!(admin.post("/api/v1/rollback", "{\"generation\": 7}").await.json()["generation"], 107);
    assert_eq!(admin.post("/api/v1/rollback", "{\"generatoin\": 7}").await.status(), 400);
    assert_eq!(admin.ask("GET", "/api/v1/history").await.json()[0]["is_active"], true);
    assert_eq!(admin.ask("GET", "/api/v1/reload").await.status(), 405);
}

#[tokio::test]
async fn a_drain_is_requested_once_however_often_it_is_posted() {
    let admin = start_on_loopback();
    for body in ["", "{}", " { } "] {
        let reply = admin.post("/api/v1/drain", body).await;
        assert_eq!((reply.status(), reply.json()["state"].as_str()), (202, Some("draining")));
    }
    assert!(admin.resources.drain.is_requested());
    let plan = drain::Plan { delay: Duration::ZERO, drain: Duration::from_secs(60) };
    assert_eq!(admin.resources.drain.drive(|| plan).await, drain::End::Clean);
}

#[tokio::test]
async fn a_drain_that_is_not_understood_drains_nothing() {
    let admin = start_on_loopback();
    for body in ["{", "{\"servise\":\"x\"}", "[]", "{\"service\":\"shop\"}", "{\"backend\":\"a:1\"}"] {
        assert_eq!(admin.post("/api/v1/drain", body).await.status(), 400, "{body}");
    }
    assert_eq!(admin.post("/api/v1/drain", &"x".repeat(100_000)).await.status(), 413);
    assert!(!admin.resources.drain.is_requested());
}

#[tokio::test]
async fn a_backend_is_drained_and_put_back_by_name() {
    let admin = start_on_loopback();
    let body = r#"{"service": "shop", "backend": "10.0.0.11:5000"}"#;
    for (path, state) in [("/api/v1/drain", "draining"), ("/api/v1/undrain", "ready")] {
        let reply = admin.post(path, body).await;
        assert_eq!((reply.status(), reply.json()["backends"][0]["state"].as_str()), (200, Some(state)));
        assert_eq!(reply.json()["ready"], 1);
        let reply = admin.post(path, r#"{"service": "shop", "backend": "x:1"}"#).await;
        assert_eq!((reply.status(), reply.json()["message"].as_str()), (404, Some("there is no shop/x:1")));
    }
    assert_eq!(admin.post("/api/v1/undrain", "").await.status(), 400);
    assert!(!admin.resources.drain.is_requested(), "the process goes on");
}

#[tokio::test]
async fn a_page_from_elsewhere_gets_nothing() {
    let admin = start_on_loopback();
    for headers in
        ["host: evil.example", "host: localhost\r\norigin: http://evil.example", "host: localhost\r\norigin: null"]
    {
        for request in ["GET /api/v1/status", "GET /healthz", "POST /api/v1/drain", "POST /api/v1/scale"] {
            let reply = admin.send(&format!("{request} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n")).await;
            assert_eq!(reply.status(), 403, "{request} {headers}");
        }
    }
    assert!(!admin.resources.drain.is_requested());
}

#[tokio::test]
async fn beyond_loopback_everything_but_probes_and_the_empty_page_needs_the_token() {
    let admin = start(ListenAddress::AnyTcp(0), Some("s3cret"));
    for path in ["/api/v1/status", "/metrics", "/api/v1/config", "/nothing"] {
        let reply = admin.ask("GET", path).await;
        assert_eq!((reply.status(), reply.json()["reason"].as_str()), (401, Some("unauthorized")), "{path}");
        assert!(reply.head.contains("www-authenticate: bearer"), "{}", reply.head);
    }
    for path in ["/api/v1/drain", "/api/v1/scale"] {
        assert_eq!(admin.post(path, "").await.status(), 401);
    }
    assert!(!admin.resources.drain.is_requested());
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(admin.ask("GET", path).await.status(), 200, "{path}");
    }
    let request =
        "GET /metrics HTTP/1.1\r\nhost: 10.0.0.1\r\nauthorization: Bearer s3cret\r\nconnection: close\r\n\r\n";
    assert_eq!(admin.send(request).await.status(), 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted() {
    let admin = start_on_loopback();
    let mut connections = Vec::new();
    for _ in 0..64 {
        connections.push(admin.connect().await);
    }
    let mut refused = admin.connect().await;
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let hits = admin.resources.metrics.render();
    assert!(hits.contains("portway_limit_hits_total{limit=\"admin_connections\"} 1"), "{hits}");
    drop(connections);
    // A place is free again as soon as the server has seen one of them go.
    let answered = async {
        loop {
            let mut stream = admin.connect().await;
            let mut reply = String::new();
            let _ = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await;
            let _ = stream.read_to_string(&mut reply).await;
            if reply.starts_with("HTTP/1.0 200") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), answered).await.expect("places are given back");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let admin = start_on_loopback();
    let mut stream = admin.connect().await;
    stream.write_all(b"GET /healthz HT").await.unwrap();
    tokio::task::yield_now().await;
    tokio::time::pause();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open after 15 s");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let path = std::env::temp_dir().join(format!("portway-admin-file-{}", std::process::id()));
    std::fs::write(&path, "my data").unwrap();
    let error =
        Server::bind(&Admin { address: ListenAddress::Unix(path.clone()), token: None }).unwrap_err().to_string();
    assert!(error.contains("there is something else, which is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "my data");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_unix_socket_serves_replaces_an_abandoned_one_and_is_removed() {
    let path = std::env::temp_dir().join(format!("portway-admin-{}.sock", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let admin = start(ListenAddress::Unix(path.clone()), None);
    let request = "GET /api/v1/status HTTP/1.1\r\nhost: portway\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(UnixStream::connect(&path).await.unwrap(), request).await.status(), 200);
    let second = Server::bind(&Admin { address: ListenAddress::Unix(path.clone()), token: None });
    assert!(second.unwrap_err().to_string().contains("in use"));
    admin.serving.abort();
    while !admin.serving.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn a_taken_port_says_which_and_what_to_do() {
    let admin = start_on_loopback();
    let error = Server::bind(&Admin { address: admin.address.clone(), token: None }).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open the admin listener at 127.0.0.1:{}", admin.port())), "{error}");
    assert!(error.contains("`admin: off`"), "{error}");
}
