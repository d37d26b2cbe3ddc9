//! A Docker daemon of the test's own, which may be ended and started again while its containers run on.
//! Long form only, as root: it makes a bridge, and iptables rules for its published ports (without the userland proxy,
//! which ends with its daemon and would take the ports with it). A daemon that starts makes the iptables chains anew: one that
//! runs beside it has to be started again afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Books, ORDINARY};
use crate::support::{Docker, Engine, Guarded, Manner, Portway, eventually, require, wait_backends, whole_machine};

const BRIDGE: &str = "portway-test0";
const NETWORK: &str = "172.31.250.1/24";
const UP_MAX: Duration = Duration::from_secs(60);

struct Daemon {
    home: PathBuf,
    process: Option<Guarded>,
}

impl Daemon {
    async fn start() -> Self {
        let home = PathBuf::from(format!("/tmp/portway-test-daemon-{}", std::process::id()));
        fs::create_dir_all(&home).expect("/tmp can be written");
        run(Command::new("ip").args(["link", "add", "name", BRIDGE, "type", "bridge"]));
        run(Command::new("ip").args(["address", "add", NETWORK, "dev", BRIDGE]));
        run(Command::new("ip").args(["link", "set", BRIDGE, "up"]));
        let mut daemon = Self { home, process: None };
        daemon.up().await;
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.home.join("docker.sock")
    }

    async fn up(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.join("log")).expect("/tmp can be written");
        let copy = log.try_clone().expect("a file can be opened twice");
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(self.home.join("images")).arg("--exec-root").arg(self.home.join("exec"));
        command.arg("--pidfile").arg(self.home.join("pid")).args(["--bridge", BRIDGE]);
        command.args(["--live-restore", "--userland-proxy=false"]);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        self.process = Some(Guarded(command.spawn().expect("dockerd is installed")));
        let socket = self.socket();
        let engine = Engine::at(&socket);
        let what = format!("dockerd answering; its log is in {}", self.home.display());
        let answers = || async { engine.call_now("GET", "/_ping", None).is_ok_and(|answer| answer.is_ok()) };
        eventually(UP_MAX, &what, answers).await;
    }

    async fn down(&mut self, how: Signal) {
        let mut process = self.process.take().expect("it runs");
        process.signal(how);
        let deadline = tokio::time::Instant::now() + UP_MAX;
        while process.exit_status().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "dockerd does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.take());
        Command::new("ip").args(["link", "delete", BRIDGE]).status().ok();
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        if std::thread::panicking() {
            println!("the end of dockerd's log:\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
        Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.home).status().ok();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Carries the base image over.
fn copy_base(from: &Engine, to: &Path) {
    let image = from.call_now("GET", "/images/portway-base/get", None).expect("the engine answers");
    assert!(image.is_ok(), "{}", image.text());
    let loaded = Engine::at(to).call_now("POST", "/images/load", Some(("application/x-tar", &image.body)));
    assert!(loaded.expect("the engine answers").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form; has not passed yet, and an engine beside it has to be started again afterwards"]
async fn a_daemon_that_restarts_under_its_running_containers_costs_no_request() {
    let Some(shared) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let mut daemon = Daemon::start().await;
    copy_base(&shared.engine, &daemon.socket());
    let docker = Docker::on_engine_at(&daemon.socket()).await.expect("the base is there");
    docker.start_many(2).await;
    let endpoint = format!("endpoint: \"unix://{}\", port:", daemon.socket().display());
    let source = docker.docker_yaml().replace("port:", &endpoint);
    let yaml = format!("access_log: off\nservices: {{ web: {{ {source}, health: {{ path: /healthz, every: 1s }} }} }}");
    let portway = Portway::start(&yaml).await;
    wait_backends(&portway, "web", 2).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(200).await;
    for how in [Signal::TERM, Signal::TERM] {
        daemon.down(how).await;
        books.wait_more(600).await;
        daemon.up().await;
        books.wait_more(600).await;
        wait_backends(&portway, "web", 2).await;
    }
    // It still listens to events.
    let third = docker.start(Manner::One, &[]).await;
    third.wait_answer().await;
    wait_backends(&portway, "web", 3).await;
    books.close_clean(&portway).await;
    drop(docker);
}
