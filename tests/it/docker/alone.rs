//! A machine of one test's own: the test runs itself again with a network, mounts and processes that nobody else sees.
//! It promises that a Docker daemon in there disturbs none beside it, and that all of it is gone with the test, whatever
//! becomes of it. It needs root, iproute2 and util-linux, and says so where they are missing.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Docker, Engine, Guarded, Scratch, eventually, require, whole_machine};

/// Tells the inner run that it is inside, and where it may write.
const INSIDE: &str = "PORTWAY_TEST_INSIDE";
/// With images to be carried over and built.
const INSIDE_MAX: Duration = Duration::from_secs(400);
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const UP_MAX: Duration = Duration::from_secs(60);

/// Where the test may write, if this is the inner run; else the inner run is over, and was well.
pub(super) async fn inside(test: &str) -> Option<PathBuf> {
    if let Some(home) = std::env::var_os(INSIDE) {
        return Some(home.into());
    }
    require("docker", Docker::find().await)?;
    require("namespaces", can_be_alone())?;
    let _turn = whole_machine().await;
    let home = Scratch::new();
    let log = File::create(home.0.join("output")).expect("the scratch directory can be written");
    let errors = log.try_clone().expect("a file can be opened twice");
    let mut command = Command::new("unshare");
    // The shell stays: it is process 1 in there, and takes in those whose parents end.
    command.args(NAMESPACES).args(["--", "sh", "-c", "ip link set lo up && \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().expect("it runs")).args(["--exact", test, "--nocapture"]);
    command.env(INSIDE, &home.0).stdin(Stdio::null()).stdout(log).stderr(errors);
    let mut process = Guarded(command.spawn().expect("it was there a moment ago"));
    let deadline = tokio::time::Instant::now() + INSIDE_MAX;
    let status = loop {
        if let Some(status) = process.exit_status() {
            break Some(status);
        }
        if tokio::time::Instant::now() > deadline {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    drop(process);
    let output = fs::read_to_string(home.0.join("output")).unwrap_or_default();
    println!("{output}");
    // Images are large: they do not stay even if it failed.
    fs::remove_dir_all(&home.0).ok();
    assert!(status.is_some_and(|status| status.success()), "the inner run: {status:?}");
    assert!(output.contains("1 passed"), "the inner run played another test");
    None
}

fn can_be_alone() -> Result<(), String> {
    let output = Command::new("unshare").args(NAMESPACES).args(["--", "ip", "link", "set", "lo", "up"]).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let words = || format!("a daemon of one's own needs root: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(words)
}

/// A Docker daemon that may be ended and started again while its containers run on.
///
/// It has no userland proxy, which ends with its daemon and would take the published ports with it.
pub(super) struct Daemon {
    home: PathBuf,
    bridge: String,
    process: Option<Guarded>,
}

impl Daemon {
    /// The `nth` one, with a network of its own.
    pub(super) async fn start(inside: &std::path::Path, nth: u8) -> Self {
        let (home, bridge) = (inside.join(format!("daemon-{nth}")), format!("portway-test{nth}"));
        fs::create_dir_all(&home).expect("the scratch directory can be written");
        run(Command::new("ip").args(["link", "add", "name", &bridge, "type", "bridge"]));
        run(Command::new("ip").args(["address", "add", &format!("172.31.{}.1/24", 200 + nth), "dev", &bridge]));
        run(Command::new("ip").args(["link", "set", &bridge, "up"]));
        let mut daemon = Self { home, bridge, process: None };
        daemon.up().await;
        // It publishes from 32768 on. A socket that has one of its ports when it starts again costs a container its port,
        // and nobody is told (seen with 20.10): the clients in here keep away from them.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 60999").expect("this network is ours");
        daemon
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.home.join("docker.sock")
    }

    /// What tests have on it, with the images of the suites.
    pub(super) async fn docker(&self) -> Docker {
        let shared = Engine::find().expect("the outer run found it");
        let image = shared.call_now("GET", "/images/portway-base/get", None).expect("the engine answers");
        assert!(image.is_ok(), "{}", image.text());
        let loaded =
            Engine::at(&self.socket()).call_now("POST", "/images/load", Some(("application/x-tar", &image.body)));
        assert!(loaded.expect("the engine answers").is_ok());
        Docker::on_engine_at(&self.socket()).await.expect("the base is there")
    }

    pub(super) async fn up(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.join("log")).expect("it can be written");
        let copy = log.try_clone().expect("a file can be opened twice");
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(self.home.join("images")).arg("--exec-root").arg(self.home.join("exec"));
        command.arg("--pidfile").arg(self.home.join("pid")).args(["--bridge", &self.bridge]);
        command.args(["--live-restore", "--userland-proxy=false"]);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        self.process = Some(Guarded(command.spawn().expect("dockerd is installed")));
        let engine = Engine::at(&self.socket());
        let answers = || async { engine.call_now("GET", "/_ping", None).is_ok_and(|answer| answer.is_ok()) };
        eventually(UP_MAX, "dockerd answering", answers).await;
    }

    pub(super) async fn down(&mut self, how: Signal) {
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
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
            println!("the end of dockerd's log:\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
        }
        drop(self.process.take());
        // What it mounted for itself; what is still there goes with the namespace.
        Command::new("umount").arg("--recursive").arg(self.home.join("images")).output().ok();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
