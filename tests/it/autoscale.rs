//! `autoscale` with a hook, as its user has it: load comes and goes, the hook is told; and the hooks of `config/hooks`.
//! It promises that what is told follows the formula's own reasons. The formula itself is tested in
//! `control::autoscale::decide`, containers in the suites that have an engine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::support::{
    Act, Client, Flask, Launch, Load, Origin, PATIENCE, Portway, Scratch, eventually, free_address, require, response,
    whole_machine,
};

/// Starting an interpreter and gunicorn on a busy machine takes its time.
const GUNICORN_PATIENCE: Duration = Duration::from_secs(60);

/// A hook that writes down what it is told, a line each, and fails as long as `broken` is there.
struct Hook(Scratch);

impl Hook {
    fn new() -> Self {
        let hook = Self(Scratch::new());
        let script = "cd \"$(dirname \"$0\")\"\ncat >> told\necho >> told\n\
                      if [ -e broken ]; then echo 'the engine is away' >&2; exit 7; fi\n";
        fs::write(hook.path("scale.sh"), script).expect("the scratch directory can be written");
        hook
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn yaml(&self) -> String {
        format!("hook: {{ command: [sh, {:?}] }}", self.path("scale.sh"))
    }

    fn is_broken(&self) {
        fs::write(self.path("broken"), "").expect("the scratch directory can be written");
    }

    fn is_repaired(&self) {
        fs::remove_file(self.path("broken")).expect("it was broken");
    }

    /// Everything that it was told so far.
    fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("told")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn numbers(&self) -> Vec<u64> {
        self.told().iter().map(|told| told["desired"].as_u64().expect("a number")).collect()
    }

    async fn wait_told(&self, desired: u64) {
        let what = format!("{desired} replicas told");
        eventually(PATIENCE * 2, &what, || async { self.numbers().last() == Some(&desired) }).await;
    }
}

async fn scale(portway: &Portway, replicas: &str) -> u16 {
    let body = format!("{{ \"service\": \"web\", \"replicas\": {replicas} }}");
    portway.admin_post("/api/v1/scale", &body).await.status
}

/// The events of one kind, as their fields.
async fn events(portway: &Portway, kind: &str) -> Vec<Value> {
    let text = portway.admin_get("/api/v1/events").await.text();
    let events: Value = serde_json::from_str(&text).expect("the events are JSON");
    events.as_array().into_iter().flatten().filter(|event| event["kind"] == kind).cloned().collect()
}

async fn gated() -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let at_origin = gate.clone();
    let answer = move |_: &_| vec![Act::ReadBody, Act::Gate(at_origin.clone()), Act::Send(response(200, &[], "hi"))];
    (Origin::start(answer).await, gate)
}

async fn asking(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client
}

#[tokio::test]
async fn load_and_its_end_are_told_to_the_hook_in_order_and_with_the_reason() {
    let (hook, (origin, gate)) = (Hook::new(), gated().await);
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], autoscale: {{ min: 1, max: 5, target_in_flight: 2, stable: 2s, \
         idle: 3s, {} }} }} }}",
        origin.address,
        hook.yaml()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..7 {
        clients.push(asking(portway.address).await);
    }
    hook.wait_told(4).await;
    gate.add_permits(7);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    hook.wait_told(1).await;

    let told = hook.told();
    let generations: Vec<_> = told.iter().map(|told| told["generation"].as_u64().expect("a number")).collect();
    assert!(generations.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    let up = told.iter().find(|told| told["desired"] == 4).expect("just seen");
    assert_eq!((&up["service"], &up["signals"]["in_flight"]), (&Value::from("web"), &Value::from(7)));
    assert!(up["reason"].as_str().is_some_and(|reason| reason.ends_with(" / 2 = 4")), "{up}");
    let up = &events(&portway, "scaling_up").await[0];
    let down = &events(&portway, "scaling_down").await;
    assert!(up["fields"].to_string().contains("want_panic") && !down.is_empty(), "{up} {down:?}");
    assert!(portway.stderr().contains("scaling up"), "{}", portway.stderr());
}

#[tokio::test]
async fn a_websocket_is_activity_until_it_ends() {
    let hook = Hook::new();
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let origin = Origin::start(move |_| vec![Act::Send(switched.into()), Act::Echo]).await;
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], autoscale: {{ min: 0, max: 5, stable: 1s, idle: 2s, {} }} }} }}",
        origin.address,
        hook.yaml()
    ))
    .await;
    let mut client = Client::connect(portway.address).await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!hook.numbers().contains(&0), "{:?}", hook.told());
    drop(client);
    hook.wait_told(0).await;
}

#[tokio::test]
async fn a_hook_that_fails_is_told_again_and_everybody_sees_that_it_fails() {
    let (hook, origin) = (Hook::new(), Origin::hello("hi").await);
    hook.is_broken();
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], autoscale: {{ min: 1, max: 5, {} }} }} }}",
        origin.address,
        hook.yaml()
    ))
    .await;
    assert_eq!(scale(&portway, "3").await, 200);
    eventually(PATIENCE, "two tries", || async { hook.told().len() == 2 }).await;
    portway.wait_metric("portway_scaler_errors_total", &[("service", "web")], 2.0).await;
    let status = portway.status().await;
    let failure = &status["services"][0]["replicas"]["failure"]["words"];
    assert!(failure.as_str().is_some_and(|words| words.contains("the engine is away")), "{status}");
    hook.is_repaired();
    eventually(PATIENCE, "the third try", || async { hook.numbers() == [3, 3, 3] }).await;
    eventually(PATIENCE, "no failure", || async {
        portway.status().await["services"][0]["replicas"]["failure"].is_null()
    })
    .await;
    let kinds: Vec<String> = portway.events().await.into_iter().filter(|kind| kind.starts_with("scaler_")).collect();
    assert_eq!(kinds, ["scaler_failed", "scaler_recovered"]);
}

#[tokio::test]
async fn what_is_wanted_now_takes_the_place_of_what_was_not_told_yet() {
    let (hook, origin) = (Hook::new(), Origin::hello("hi").await);
    hook.is_broken();
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\"], autoscale: {{ min: 1, max: 9, {} }} }} }}",
        origin.address,
        hook.yaml()
    ))
    .await;
    scale(&portway, "2").await;
    eventually(PATIENCE, "three tries", || async { hook.told().len() == 3 }).await;
    // The next try is two seconds away.
    for pinned in ["3", "4", "5"] {
        scale(&portway, pinned).await;
    }
    hook.is_repaired();
    hook.wait_told(5).await;
    let numbers = hook.numbers();
    assert!(numbers.is_sorted() && numbers[..3] == [2, 2, 2] && numbers.len() <= 6, "{numbers:?}");
    let told = hook.told().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hook.told().len(), told, "what was told is told");
    scale(&portway, "\"auto\"").await;
    hook.wait_told(1).await;
}

/// The first of three consecutive ports that are all free.
fn three_free_ports() -> u16 {
    let row = || [(); 3].map(|()| free_address().port());
    let is_row = |ports: &[u16; 3]| ports[1] == ports[0] + 1 && ports[2] == ports[0] + 2;
    std::iter::repeat_with(row).take(1_000).find(is_row).expect("a row of free ports")[0]
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hooks").join(name)
}

/// Says which process answered, and takes a while.
const APP: &str = r#"
import os, time
from flask import Flask
app = Flask(__name__)

@app.route('/api')
def api():
    time.sleep(0.05)
    return os.environ['PORT']
"#;

struct Gunicorns {
    scratch: Scratch,
    first: u16,
}

impl Gunicorns {
    fn count(&self) -> usize {
        let entries = fs::read_dir(self.scratch.0.join("state")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pid")).count()
    }
}

impl Drop for Gunicorns {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.scratch.0.join("state")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let is_pid = entry.path().extension().is_some_and(|extension| extension == "pid");
            if let (true, Some(pid)) = (is_pid, text.trim().parse().ok().and_then(rustix::process::Pid::from_raw)) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_gunicorn_scales_from_zero_with_the_load_and_back_to_zero() {
    let Some(flask) = require("flask", Flask::find().await) else { return };
    let _turn = whole_machine().await;
    let gunicorns = Gunicorns { scratch: Scratch::new(), first: three_free_ports() };
    let (directory, first) = (&gunicorns.scratch.0, gunicorns.first);
    fs::write(directory.join("app.py"), APP).expect("the scratch directory can be written");
    let (admin, state) = (free_address(), directory.join("state"));
    let backends: Vec<String> = (first..first + 3).map(|port| format!("127.0.0.1:{port}")).collect();
    let yaml = format!(
        "admin: \"{admin}\"\nservices:\n  web:\n    backends: {backends:?}\n    max_in_flight: 8\n    \
         health: {{ tcp: true, every: 500ms, initial: down }}\n    \
         autoscale:\n      min: 0\n      max: 3\n      target_in_flight: 6\n      stable: 3s\n      panic: 1s\n      \
         idle: 4s\n      hook:\n        command: [{:?}, {:?}, \"{first}\", --threads, \"8\", --chdir, {directory:?}, \
         \"app:app\"]\n        timeout: 30s\n",
        flask.python(),
        example("gunicorn.py"),
    );
    let (admin_url, state) = (format!("http://{admin}"), state.to_string_lossy().into_owned());
    let env = vec![("PORTWAY_ADMIN", admin_url.as_str()), ("GUNICORN_STATE", state.as_str())];
    let mut portway = Portway::spawn(Launch { yaml: &yaml, env, ..Launch::default() });
    portway.admin = admin;
    eventually(PATIENCE, "portway is ready", || async { portway.readiness().await == Some(200) }).await;
    assert_eq!(gunicorns.count(), 0);

    // Held until the first one runs, and served by it.
    let first_answer = portway.get("/api").await;
    assert_eq!((first_answer.status, first_answer.text()), (200, first.to_string()), "{}", portway.stderr());

    let load = Load { requests: usize::MAX, connections: 16, ..Load::get(portway.address, "/api") }.start();
    eventually(GUNICORN_PATIENCE, "three gunicorns", || async { gunicorns.count() == 3 }).await;
    // One that was started may take seconds until it listens.
    let n_served = async |backend: &String| {
        let of_it = [("backend", backend.as_str()), ("outcome", "success")];
        portway.metrics().await.sum("portway_backend_requests_total", &of_it)
    };
    for backend in &backends {
        eventually(GUNICORN_PATIENCE, "a request for each", || async { n_served(backend).await > 0.0 }).await;
    }
    let report = load.stop().await;
    assert!(report.failures.is_empty() && report.statuses.keys().eq([&200]), "{report:?}\n{}", portway.stderr());
    assert_eq!(report.by_body.len(), 3, "each of them had requests: {:?}", report.by_body);

    eventually(GUNICORN_PATIENCE, "no gunicorn", || async { gunicorns.count() == 0 }).await;
    assert_eq!(portway.get("/api").await.status, 200, "and from zero again: {}", portway.stderr());
}

#[tokio::test]
async fn the_example_for_swarm_asks_docker_for_the_number() {
    let (scratch, origin) = (Scratch::new(), Origin::hello("hi").await);
    // A `docker` that writes down what it is asked.
    let docker = scratch.0.join("docker");
    fs::write(&docker, "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/asked\"\n").expect("it can be written");
    fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", scratch.0.display(), std::env::var("PATH").unwrap_or_default());
    let yaml = format!(
        "services: {{ web: {{ backends: [\"{}\"], autoscale: {{ max: 5, hook: {{ command: [{:?}, shop_web] }} }} }} }}",
        origin.address,
        example("swarm.sh"),
    );
    let portway = Portway::launch(Launch { yaml: &yaml, env: vec![("PATH", &path)], ..Launch::default() }).await;
    scale(&portway, "3").await;
    let asked = || fs::read_to_string(scratch.0.join("asked")).unwrap_or_default();
    eventually(PATIENCE, "docker was asked", || async { !asked().is_empty() }).await;
    assert_eq!(asked(), "service scale --detach shop_web=3\n");
}

/// An engine of a Swarm that a person has prepared: `PORTWAY_SWARM=unix:///run/docker.sock`, with the image `my-app` of
/// `docker/my-app`. A test does not turn the machine's engine into a Swarm.
fn swarm() -> Result<String, String> {
    std::env::var("PORTWAY_SWARM").map_err(|_| "PORTWAY_SWARM names no engine that manages a Swarm".to_owned())
}

struct SwarmService {
    endpoint: String,
    name: String,
}

impl SwarmService {
    fn docker(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("docker").args(["-H", &self.endpoint]).args(arguments).output();
        let output = output.expect("there is a docker command");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn replicas(&self) -> String {
        self.docker(&["service", "inspect", "--format", "{{.Spec.Mode.Replicated.Replicas}}", &self.name])
    }
}

impl Drop for SwarmService {
    fn drop(&mut self) {
        std::process::Command::new("docker").args(["-H", &self.endpoint, "service", "rm", &self.name]).output().ok();
    }
}

/// On the network of the host there is one port, so one replica; that it comes from zero and goes is what counts here.
#[tokio::test]
async fn a_swarm_service_is_scaled_from_zero_and_its_task_is_the_backend() {
    let Some(endpoint) = require("swarm", swarm()) else { return };
    let port = free_address().port();
    let service = SwarmService { endpoint: endpoint.clone(), name: format!("portway-test-{}", std::process::id()) };
    let (name, port_text) = (service.name.as_str(), port.to_string());
    let create = ["service", "create", "--detach", "--replicas", "0", "--network", "host", "--no-resolve-image"];
    let run = ["my-app", "python", "-m", "flask", "--app", "app", "run", "--port", &port_text];
    service.docker(&[&create[..], &["--name", name], &run[..]].concat());
    let portway = Portway::start(&format!(
        "services: {{ web: {{ swarm: {{ service: {name}, port: {port}, endpoint: {endpoint:?} }}, \
         autoscale: {{ min: 0, max: 3, stable: 2s, idle: 4s }} }} }}"
    ))
    .await;
    let answer = portway.get("/api").await;
    assert_eq!((answer.status, answer.text()), (200, "Hello, World!".to_owned()), "{}", portway.stderr());
    assert_eq!(service.replicas(), "1");
    eventually(PATIENCE * 3, "no replica", || async { service.replicas() == "0" }).await;
    eventually(PATIENCE * 3, "no task", || async {
        service.docker(&["ps", "-q", "--filter", &format!("label=com.docker.swarm.service.name={name}")]).is_empty()
    })
    .await;
    assert_eq!(portway.get("/api").await.status, 200, "and from zero again: {}", portway.stderr());
}
