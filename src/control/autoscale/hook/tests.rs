//! Whether intents arrive in order, one at a time, again after a failure, and at the newest number.

use std::path::PathBuf;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::super::signals::Signals;
use super::*;
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::telemetry::metrics::Metrics;

struct Stage {
    service: Arc<Service>,
    events: Arc<Events>,
    _courier: tokio::task::JoinSet<()>,
}

impl Stage {
    fn new(way: HookWay) -> Self {
        let yaml = "services: { web: { backends: [\"127.0.0.1:1\"] } }";
        let config = load::parse(yaml, "test", &ProcessEnvironment).unwrap().config;
        let metrics = Metrics::new().service(&config.services[0].name);
        let service: Arc<Service> = Service::new(&config.services[0], metrics).into();
        let events: Arc<Events> = Arc::default();
        let signals = Signals { in_flight: 14, rps: 3.12345, queue: 2, held: 1, latency_ms: Some(12.34) };
        let reports = watch::channel(Report { ready: 2, signals }).1;
        let office = Office { reports, events: events.clone(), started_unix: 1_700_000_000 };
        let mut courier = tokio::task::JoinSet::new();
        let hook = Hook { way, timeout: Duration::from_secs(5) };
        courier.spawn(Courier::new(&service, Scaler::Hook(hook), office).run());
        Self { service, events, _courier: courier }
    }

    fn intend(&self, desired: u32) {
        assert!(self.service.group.scale.intend(desired, "stable 14.2 / 6 = 3"));
    }

    fn failure(&self) -> Option<StartFailure> {
        self.service.group.scale.state().failure.clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.events.all().into_iter().map(|event| event.kind).collect()
    }
}

/// An HTTP server that answers one request per status, and then none, and keeps what it was asked.
async fn server(statuses: &'static [u16]) -> (HookWay, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = HookWay::Url(format!("http://{}/scale?key=secret", listener.local_addr().unwrap()).parse().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"}}") {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            }
            kept.lock().unwrap().push(String::from_utf8(bytes).unwrap());
            let answer = format!("HTTP/1.1 {status} Word\r\nContent-Length: 12\r\n\r\nno luck\nmore");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    (way, asked)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn bodies(asked: &Mutex<Vec<String>>) -> Vec<serde_json::Value> {
    let asked = asked.lock().unwrap();
    asked.iter().map(|text| serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()).collect()
}

#[tokio::test]
async fn a_url_gets_the_intent_as_json() {
    let (way, asked) = server(&[204]).await;
    let stage = Stage::new(way);
    stage.intend(3);
    until("asked", || !asked.lock().unwrap().is_empty()).await;
    let text = asked.lock().unwrap()[0].to_lowercase();
    assert!(text.starts_with("post /scale?key=secret http/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nidempotency-key: web-1700000000-1\r\n"), "{text}");
    assert!(text.contains("\r\ncontent-type: application/json\r\n"), "{text}");
    let expected = serde_json::json!({
        "service": "web", "generation": 1, "started": 1_700_000_000, "current": 2, "desired": 3,
        "reason": "stable 14.2 / 6 = 3",
        "signals": { "in_flight": 14, "rps": 3.1, "queue": 2, "held": 1, "latency_ms": 12.3 },
    });
    assert_eq!(bodies(&asked), [expected]);
    assert_eq!(stage.failure(), None);
}

#[tokio::test]
async fn what_fails_is_said_and_tried_again_until_it_works() {
    let (way, asked) = server(&[500, 503, 200]).await;
    let stage = Stage::new(way);
    stage.intend(3);
    until("a failure", || stage.failure().is_some()).await;
    let failure = stage.failure().unwrap();
    assert!(!failure.words.contains("secret") && failure.words.ends_with(": it answered 500: no luck"), "{failure:?}");
    until("the third", || asked.lock().unwrap().len() == 3).await;
    until("no failure", || stage.failure().is_none()).await;
    assert_eq!(bodies(&asked).iter().map(|body| body["generation"].as_u64()).collect::<Vec<_>>(), [Some(1); 3]);
    assert_eq!(stage.kinds(), ["scaler_failed", "scaler_recovered"]);
    assert_eq!(stage.service.metrics.read().scaler_errors, 2);
}

#[tokio::test]
async fn a_newer_intent_takes_the_place_of_one_that_fails() {
    let (way, asked) = server(&[500, 500, 200]).await;
    let stage = Stage::new(way);
    stage.intend(3);
    until("two failures", || asked.lock().unwrap().len() == 2).await;
    stage.intend(5);
    stage.intend(4);
    until("it works", || stage.failure().is_none() && asked.lock().unwrap().len() == 3).await;
    assert_eq!(bodies(&asked).iter().map(|body| body["desired"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_tried_again_later() {
    let stage = Stage::new(HookWay::Url("http://127.0.0.1:9/".parse().unwrap()));
    let began_at = Instant::now();
    stage.intend(3);
    let errors = || stage.service.metrics.read().scaler_errors;
    until("five tries", || errors() == 5).await;
    assert!((7_500..8_000).contains(&began_at.elapsed().as_millis()), "{:?}", began_at.elapsed());
    assert_eq!(stage.failure().map(|failure| failure.n_in_a_row), Some(2));
    until("the sixth", || errors() == 6).await;
    assert!(began_at.elapsed() > Duration::from_secs(37));
    assert_eq!(stage.kinds(), ["scaler_failed"; 2], "the first, and that it goes on slowly");
}

struct Script(PathBuf);

impl Script {
    fn new(text: &str) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("portway-hook-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("scale.sh"), text).unwrap();
        Self(directory)
    }

    fn way(&self) -> HookWay {
        HookWay::Command(["sh", "scale.sh"].map(str::to_owned).into()).in_directory(&self.0)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

trait InDirectory {
    fn in_directory(self, directory: &std::path::Path) -> Self;
}

impl InDirectory for HookWay {
    fn in_directory(self, directory: &std::path::Path) -> Self {
        let HookWay::Command(command) = self else { return self };
        let script = format!("cd {} && exec {}", directory.display(), command.join(" "));
        HookWay::Command(vec!["sh".into(), "-c".into(), script])
    }
}

#[tokio::test]
async fn a_command_gets_the_intent_on_its_standard_input_and_as_variables() {
    let script =
        Script::new("cat > body; echo $PORTWAY_SERVICE $PORTWAY_CURRENT $PORTWAY_DESIRED > words; mv words done");
    let stage = Stage::new(script.way());
    stage.intend(3);
    until("it ran", || !script.read("done").is_empty()).await;
    assert_eq!(script.read("done"), "web 2 3\n");
    let body: serde_json::Value = serde_json::from_str(&script.read("body")).unwrap();
    assert_eq!((&body["desired"], &body["signals"]["held"]), (&3.into(), &1.into()));
}

#[tokio::test]
async fn a_command_that_fails_is_quoted() {
    let script = Script::new("echo starting; echo 'no such image' >&2; echo >&2; exit 3");
    let stage = Stage::new(script.way());
    stage.intend(3);
    until("a failure", || stage.failure().is_some()).await;
    assert_eq!(&*stage.failure().unwrap().words, "hook sh: it ended with exit status: 3: no such image");
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so() {
    let stage = Stage::new(HookWay::Command(vec!["/nowhere/scale.sh".into()]));
    stage.intend(3);
    until("a failure", || stage.failure().is_some()).await;
    let words = stage.failure().unwrap().words;
    assert!(words.starts_with("hook /nowhere/scale.sh: cannot start /nowhere/scale.sh: No such file"), "{words}");
}

fn message() -> Message {
    let stage = Stage::new(HookWay::Command(vec!["true".into()]));
    Message::new(&stage.service, 1, &Intent { generation: 1, desired: 3, reason: "load".into() }, Report::default())
}

fn is_running(pid: &str) -> bool {
    // A zombie waits for whoever inherits it, and runs no more.
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_what_it_started() {
    let script = Script::new("sleep 600 & echo $! > started; mv started pid; wait");
    let HookWay::Command(command) = script.way() else { unreachable!() };
    let limit = Duration::from_millis(1_500);
    let refusal = command::run(&command, &message(), limit).await.unwrap_err();
    assert_eq!(refusal.to_string(), "no end within 1500ms");
    let pid = script.read("pid");
    assert!(!pid.is_empty());
    until("the end of what it started", || !is_running(&pid)).await;
}

#[tokio::test]
async fn a_command_that_leaves_a_server_behind_is_not_waited_for_and_its_server_lives() {
    let script = Script::new("setsid sleep 600 & echo $! > pid");
    let HookWay::Command(command) = script.way() else { unreachable!() };
    let began_at = Instant::now();
    command::run(&command, &message(), Duration::from_secs(60)).await.unwrap();
    assert!(began_at.elapsed() < Duration::from_secs(30));
    let pid = script.read("pid");
    assert!(is_running(&pid));
    let raw = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_command_that_talks_without_end_takes_no_memory_and_is_heard_to_its_end() {
    let script = Script::new("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1");
    let HookWay::Command(command) = script.way() else { unreachable!() };
    let refusal = command::run(&command, &message(), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(refusal.to_string(), "it ended with exit status: 1: line 19999");
}
