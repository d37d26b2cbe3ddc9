//! Health as a user meets it: probes take backends out and bring them back, a backend leaves by itself, a person drains
//! one. What is asserted is what requests, `/api/v1/status`, `/metrics`, events and the log show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::support::{Act, Client, Origin, Portway, Received, Response, binary, eventually, free_address, response};

const SOON: Duration = Duration::from_secs(10);
/// Quick, with the thresholds of the defaults.
const QUICK: &str = "every: 200ms, timeout: 200ms";

/// An origin whose `/healthz` answers what the test says at the moment, and everything else with its name.
struct Patient {
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Patient {
    async fn start(name: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let now = Arc::clone(&status);
        let origin = Origin::start(move |request| {
            let (status, body) = if request.target() == "/healthz" { (now.load(SeqCst), "") } else { (200, name) };
            vec![Act::ReadBody, Act::Send(response(status, &[], body))]
        });
        Self { origin: origin.await, status }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    fn address(&self) -> String {
        self.origin.address.to_string()
    }

    /// Requests that were no probes.
    fn n_served(&self) -> usize {
        self.origin.requests().iter().filter(|request| !is_probe(request)).count()
    }
}

fn is_probe(request: &Received) -> bool {
    request.head.get("user-agent").is_some_and(|agent| agent.starts_with("portway-health/"))
}

async fn status_of(portway: &Portway, service: &str, backend: &str) -> Value {
    let answer = portway.admin_get(&format!("/api/v1/services/{service}")).await;
    let status: Value = serde_json::from_str(&answer.text()).expect("the API speaks JSON");
    let backends = status["backends"].as_array().expect("every service has a list").clone();
    let found = backends.into_iter().find(|candidate| candidate["address"] == backend);
    found.unwrap_or_else(|| panic!("no backend {backend} in {status}"))
}

async fn until_state(portway: &Portway, backend: &str, state: &str) {
    let is_so = || async { status_of(portway, "web", backend).await["state"] == state };
    eventually(SOON, &format!("{backend} to be {state}"), is_so).await;
}

async fn post(portway: &Portway, path: &str, body: &str) -> Response {
    let mut client = Client::connect(portway.admin).await;
    let (host, length) = (portway.admin, body.len());
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response_to("POST").await
}

async fn hands(portway: &Portway, command: &str, backend: &str) -> (bool, String) {
    let mut process = tokio::process::Command::new(binary());
    process.arg(command).arg(format!("web/{backend}")).args(["--admin", &portway.admin.to_string()]);
    let output = process.output().await.expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn events(portway: &Portway, kind: &str) -> Vec<Value> {
    let answer = portway.admin_get("/api/v1/events").await;
    let events: Vec<Value> = serde_json::from_str(&answer.text()).expect("the API speaks JSON");
    events.into_iter().filter(|event| event["kind"] == kind).collect()
}

/// Waits for the `n`th event of a kind: they are written by the control thread, which the request does not wait for.
async fn told_of(portway: &Portway, kind: &str, n: usize) {
    eventually(SOON, kind, || async { events(portway, kind).await.len() == n }).await;
}

#[tokio::test]
async fn a_backend_whose_health_page_fails_gets_no_requests_until_it_is_well() {
    let (one, two) = (Patient::start("one").await, Patient::start("two").await);
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\", \"{}\"], health: {{ path: /healthz, {QUICK} }} }} }}",
        one.address(),
        two.address()
    ))
    .await;
    until_state(&portway, &two.address(), "ready").await;

    two.answers(500);
    until_state(&portway, &two.address(), "unhealthy").await;
    assert_eq!(status_of(&portway, "web", &two.address()).await["why"], "GET /healthz: 500");
    let before = two.n_served();
    for _ in 0..20 {
        assert_eq!(portway.get("/").await.text(), "one");
    }
    assert_eq!(two.n_served(), before);
    let labels = [("service", "web"), ("backend", &*two.address())];
    assert_eq!(portway.metrics().await.sum("portway_backend_healthy", &labels), 0.0);
    assert!(portway.metrics().await.sum("portway_probes_total", &[("result", "wrong_answer")]) >= 3.0);

    two.answers(200);
    until_state(&portway, &two.address(), "ready").await;
    eventually(SOON, "a request for the second", || async { portway.get("/").await.text() == "two" }).await;
    told_of(&portway, "backend_healthy", 1).await;
    let unhealthy = events(&portway, "backend_unhealthy").await;
    assert_eq!(unhealthy.len(), 1, "it is told once");
    assert_eq!(unhealthy[0]["fields"][2][1], "GET /healthz: 500");
    assert!(portway.stderr().contains("backend unhealthy"), "{}", portway.stderr());
}

#[tokio::test]
async fn fewer_failures_than_asked_for_take_nobody_out() {
    let patient = Patient::start("one").await;
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], health: {{ path: /healthz, {QUICK}, unhealthy_after: 1000 }} }} }}",
        patient.address()
    ))
    .await;
    patient.answers(500);
    let failed = || async { portway.metrics().await.sum("portway_probes_total", &[("result", "wrong_answer")]) >= 5.0 };
    eventually(SOON, "five failed probes", failed).await;
    assert_eq!(status_of(&portway, "web", &patient.address()).await["state"], "ready");
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_unhealthy_and_say_how() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (silent_at, nobody_at) = (silent.local_addr().expect("bound").to_string(), free_address().to_string());
    let well = Patient::start("well").await;
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{silent_at}\", \"{nobody_at}\", \"{}\"], health: {{ path: /healthz, {QUICK} }} }} }}",
        well.address()
    ))
    .await;
    until_state(&portway, &silent_at, "unhealthy").await;
    until_state(&portway, &nobody_at, "unhealthy").await;
    assert_eq!(status_of(&portway, "web", &silent_at).await["why"], "timeout after 200ms");
    assert_eq!(status_of(&portway, "web", &nobody_at).await["why"], "connection refused");
    for _ in 0..20 {
        assert_eq!(portway.get("/").await.text(), "well");
    }
}

#[tokio::test]
async fn a_probe_names_the_host_of_the_route_and_takes_the_statuses_of_the_file() {
    let (by_route, by_file, by_address) =
        (Patient::start("a").await, Patient::start("b").await, Patient::start("c").await);
    for patient in [&by_route, &by_file, &by_address] {
        patient.answers(418);
    }
    let portway = Portway::start(&format!(
        "defaults: {{ health: {{ {QUICK}, expect: [200, 410-420], headers: {{ x-probe: \"1\" }} }} }}\nservices:\n  \
         a: {{ route: a.example.com/, backends: [\"{}\"], health: {{ path: /healthz }} }}\n  \
         b: {{ route: b.example.com/, backends: [\"{}\"], health: {{ path: /healthz, host: \"c.internal\" }} }}\n  \
         web: {{ backends: [\"{}\"], health: {{ path: /healthz }} }}\n",
        by_route.address(),
        by_file.address(),
        by_address.address()
    ))
    .await;
    for service in ["a", "b", "web"] {
        let labels = [("service", service), ("result", "passed")];
        let passed = || async { portway.metrics().await.sum("portway_probes_total", &labels) >= 2.0 };
        eventually(SOON, &format!("passed probes of {service}"), passed).await;
    }
    for (patient, host) in [
        (&by_route, "a.example.com".to_owned()),
        (&by_file, "c.internal".to_owned()),
        (&by_address, by_address.address()),
    ] {
        let probe = patient.origin.requests().swap_remove(0);
        assert_eq!((probe.method(), probe.target()), ("GET", "/healthz"));
        assert_eq!(probe.head.get("host"), Some(&*host));
        assert_eq!(probe.head.get("x-probe"), Some("1"));
        assert_eq!(probe.head.get("connection"), Some("close"));
        assert!(is_probe(&probe));
    }
    assert_eq!(status_of(&portway, "web", &by_address.address()).await["state"], "ready");
}

#[tokio::test]
async fn an_open_port_is_enough_for_tcp_and_not_for_grpc() {
    let patient = Patient::start("one").await;
    let address = patient.address();
    let portway = Portway::start(&format!(
        "services:\n  web: {{ backends: [\"{address}\"], health: {{ tcp: true, {QUICK} }} }}\n  \
         rpc: {{ route: /rpc, backends: [\"{address}\"], health: {{ grpc: true, {QUICK} }} }}\n"
    ))
    .await;
    let state = |service: &'static str| {
        let (portway, address) = (&portway, &address);
        async move { status_of(portway, service, address).await["state"].as_str().map(str::to_owned) }
    };
    eventually(SOON, "the gRPC probe to fail", || async { state("rpc").await.as_deref() == Some("unhealthy") }).await;
    assert_eq!(state("web").await.as_deref(), Some("ready"), "one address, two services, two verdicts");
}

#[tokio::test]
async fn when_all_are_unhealthy_requests_are_served_all_the_same() {
    let patient = Patient::start("one").await;
    patient.answers(500);
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], health: {{ path: /healthz, {QUICK} }} }} }}",
        patient.address()
    ))
    .await;
    until_state(&portway, &patient.address(), "unhealthy").await;
    assert_eq!(portway.get("/").await.text(), "one");
}

/// Who is well is full, and so is the line: the ill are asked before somebody is refused, if they are the most.
#[tokio::test]
async fn when_few_are_well_and_full_the_others_are_asked_before_anybody_is_refused() {
    let gate = Arc::new(Semaphore::new(0));
    let well = {
        let gate = Arc::clone(&gate);
        Origin::start(move |request| {
            let wait = (request.target() != "/healthz").then(|| Act::Gate(Arc::clone(&gate)));
            [Act::ReadBody].into_iter().chain(wait).chain([Act::Send(response(200, &[], "well"))]).collect()
        })
        .await
    };
    let ill = [Patient::start("ill").await, Patient::start("ill").await];
    ill.iter().for_each(|patient| patient.answers(500));
    for (n_ill, third) in [(2, (200, None)), (1, (503, Some("queue_full")))] {
        let ill: Vec<_> = ill[..n_ill].iter().map(Patient::address).collect();
        let portway = Portway::start(&format!(
            "services: {{ web: {{ backends: [\"{}\", \"{}\"], max_in_flight: 1, queue: {{ size: 1 }}, \
             health: {{ path: /healthz, {QUICK} }} }} }}",
            well.address,
            ill.join("\", \"")
        ))
        .await;
        for address in &ill {
            until_state(&portway, address, "unhealthy").await;
        }
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut waiting = [portway.connect().await, portway.connect().await];
        waiting[0].send(request).await;
        portway.wait_metric("portway_backend_in_flight", &[("backend", &well.address.to_string())], 1.0).await;
        waiting[1].send(request).await;
        portway.wait_metric("portway_queue_length", &[], 1.0).await;
        let answer = portway.get("/").await;
        assert_eq!((answer.status, answer.get("x-portway-reason")), third, "{n_ill} are ill");
        gate.add_permits(2);
        for client in &mut waiting {
            assert_eq!(client.response().await.text(), "well");
        }
    }
}

#[tokio::test]
async fn a_backend_that_waits_for_its_first_probe_gets_nothing_before_it() {
    let (ready, slow) = (Patient::start("ready").await, Patient::start("slow").await);
    slow.answers(503);
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\", \"{}\"], health: {{ path: /healthz, every: 200ms, initial: down }} }} }}",
        ready.address(),
        slow.address()
    ))
    .await;
    until_state(&portway, &ready.address(), "ready").await;
    for _ in 0..20 {
        assert_eq!(portway.get("/").await.text(), "ready");
    }
    assert_eq!(slow.n_served(), 0);
    slow.answers(200);
    until_state(&portway, &slow.address(), "ready").await;
}

/// An origin that answers every request when the test lets it.
async fn gated(gate: &Arc<Semaphore>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::start(move |_| vec![Act::ReadBody, Act::Gate(Arc::clone(&gate)), Act::Send(response(200, &[], "gated"))])
        .await
}

#[tokio::test]
async fn a_drained_backend_finishes_what_it_has_and_gets_nothing_new_until_it_is_put_back() {
    let gate = Arc::new(Semaphore::new(0));
    let (open, other) = (gated(&gate).await, Patient::start("other").await);
    let address = open.address.to_string();
    let portway = Portway::start(&format!(
        "services: {{ web: {{ balance: round_robin, backends: [\"{address}\", \"{}\"] }} }}",
        other.address()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = portway.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    eventually(SOON, "two requests at the backend", || async { open.n_requests() == 2 }).await;

    let (ok, text) = hands(&portway, "drain", &address).await;
    assert!(ok && text.contains(&format!("web {address}   draining: 2 requests are still at it")), "{text}");
    let status = status_of(&portway, "web", &address).await;
    assert_eq!((status["state"].as_str(), status["why"].as_str()), (Some("draining"), Some("by hand, 2 left")));
    for _ in 0..10 {
        assert_eq!(portway.get("/").await.text(), "other");
    }
    assert_eq!(open.n_requests(), 2);

    gate.add_permits(100);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    until_state(&portway, &address, "drained").await;
    told_of(&portway, "backend_drained", 1).await;

    let (ok, text) = hands(&portway, "undrain", &address).await;
    assert!(ok && text.contains(&format!("web {address}   ready")), "{text}");
    eventually(SOON, "a request for it", || async { portway.get("/").await.text() == "gated" }).await;
}

#[tokio::test]
async fn draining_the_last_backend_is_done_and_warned_of() {
    let patient = Patient::start("one").await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{}\"] }} }}", patient.address())).await;
    let (ok, text) = hands(&portway, "drain", &patient.address()).await;
    assert!(ok && text.contains("warning: no other backend of `web` takes requests now"), "{text}");
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.head.get("x-portway-reason")), (503, Some("no_healthy_backend")));
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_answered_with_those_that_are() {
    let patient = Patient::start("one").await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{}\"] }} }}", patient.address())).await;
    let (ok, text) = hands(&portway, "drain", "10.9.8.7:1").await;
    let message = format!("service `web` has no backend `10.9.8.7:1`; there are: {}", patient.address());
    assert!(!ok && text.contains(&message), "{text}");
    for (path, body, status, words) in [
        ("/api/v1/drain", r#"{"service":"wep","backend":"a:1"}"#, 404, "did you mean `web`?"),
        ("/api/v1/undrain", r#"{"service":"web","backend":"a:1"}"#, 404, "has no backend `a:1`"),
        ("/api/v1/undrain", "{}", 400, "names no backend"),
        ("/api/v1/drain", r#"{"service":"web"}"#, 400, "one is named without the other"),
    ] {
        let answer = post(&portway, path, body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(portway.get("/").await.status, 200);
}

/// Answers its first request with `503` and the two fields that mean "not processed, I am going", the others with `200`.
async fn leaver() -> Origin {
    leaver_at(0).await
}

/// The same at its `nth` request.
async fn leaver_at(nth: u16) -> Origin {
    let asked = AtomicU16::new(0);
    Origin::start(move |request| {
        let is_it = request.target() != "/healthz" && asked.fetch_add(1, SeqCst) == nth;
        let fields = [("Connection", "close"), ("x-portway-drain", "true")];
        let answer = if is_it { response(503, &fields, "bye") } else { response(200, &[], "leaver") };
        vec![Act::ReadBody, Act::Send(answer)]
    })
    .await
}

#[tokio::test]
async fn a_backend_that_says_it_leaves_is_left_alone_until_its_probes_pass() {
    let (leaver, other) = (leaver().await, Patient::start("other").await);
    let address = leaver.address.to_string();
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{address}\", \"{}\"], retries: 0, health: {{ path: /healthz, every: 500ms }} }} }}",
        other.address()
    ))
    .await;
    eventually(SOON, "the leaver's word", || async { portway.get("/").await.status == 503 }).await;
    assert_eq!(status_of(&portway, "web", &address).await["state"], "leaving");
    for _ in 0..10 {
        assert_eq!(portway.get("/").await.text(), "other");
    }
    until_state(&portway, &address, "ready").await;
    told_of(&portway, "backend_leaving", 1).await;
    told_of(&portway, "backend_returned", 1).await;
    eventually(SOON, "a request for it", || async { portway.get("/").await.text() == "leaver" }).await;
}

#[tokio::test]
async fn the_word_of_a_backend_that_leaves_is_not_handed_on() {
    let leaver = leaver().await;
    let portway =
        Portway::start(&format!("services: {{ web: {{ backends: [\"{}\"], retries: 0 }} }}", leaver.address)).await;
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.head.get("x-portway-drain")), (503, None));
    // Nobody probes it, so it has ten seconds of peace where there is another one.
    assert_eq!(status_of(&portway, "web", &leaver.address.to_string()).await["state"], "leaving");
    assert_eq!(portway.get("/").await.text(), "leaver", "there is nobody else, so it is asked");
}

/// Each leaves for a moment and is back long before its ten seconds of peace are over.
#[tokio::test]
async fn backends_that_leave_one_after_the_other_cost_no_request() {
    let (one, two) = (leaver().await, leaver_at(3).await);
    // In turns: by chance, one in eight times, the first would have its first request when the second has its fourth, and a
    // request that both refuse within a moment is answered so.
    let backends = format!("[\"{}\", \"{}\"]", one.address, two.address);
    let yaml = format!("services: {{ web: {{ backends: {backends}, balance: round_robin }} }}");
    let portway = Portway::start(&yaml).await;
    for n in 0..20 {
        let answer = portway.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "leaver"), "request {n}");
    }
    told_of(&portway, "backend_leaving", 2).await;
}

#[tokio::test]
async fn an_address_that_a_name_leads_to_is_probed_and_drained_like_any_other() {
    let patient = Patient::start("one").await;
    let (name, address) = (format!("localhost:{}", patient.origin.address.port()), patient.address());
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{name}\"], health: {{ path: /healthz, every: 200ms, initial: down }} }} }}"
    ))
    .await;
    until_state(&portway, &address, "ready").await;
    let probe = patient.origin.requests().swap_remove(0);
    assert_eq!(probe.head.get("host"), Some(&*address), "no route names a host");
    let (ok, text) = hands(&portway, "drain", &name).await;
    assert!(ok && text.contains(&format!("web {address}   drained")), "{text}");
    patient.answers(500);
    let failed = || async { portway.metrics().await.sum("portway_backend_healthy", &[]) == 0.0 };
    eventually(SOON, "the probes to go on", failed).await;
    assert_eq!(status_of(&portway, "web", &address).await["state"], "drained", "a person's word goes first");
}
