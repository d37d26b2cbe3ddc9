//! The real binary with a configuration of the test's.
//! It promises a process that is ready, on ports of its own, with its log and access log at hand, gone with the value.
//! It does not link the library: what a user cannot reach, a suite cannot either.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::process::{Guarded, Scratch};
use super::{Client, Metrics, PATIENCE, Response, eventually, free_address, get, within};

/// A running `portway run`.
#[derive(Debug)]
pub(crate) struct Portway {
    child: Guarded,
    scratch: Scratch,
    file: PathBuf,
    /// Where it listens, unless the test's YAML has its own `listen`.
    pub(crate) address: SocketAddr,
    /// Its admin listener, unless the test's YAML has its own `admin`.
    pub(crate) admin: SocketAddr,
}

/// What may differ from an ordinary start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launch<'a> {
    /// The configuration. `listen`, `admin` and `workers: 2` are put before it where it has none.
    pub(crate) yaml: &'a str,
    /// `RLIMIT_NOFILE` of the process, hard and soft.
    pub(crate) files_max: Option<u64>,
    /// The core that it keeps to, from its first instruction on.
    pub(crate) core: Option<&'a str>,
    /// Variables of its environment.
    pub(crate) env: Vec<(&'a str, &'a str)>,
    /// The name of its file, where the test's two processes are to have one in common; absolute.
    pub(crate) file: Option<&'a Path>,
}

impl Portway {
    /// Starts it and waits until `/readyz` says so.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::launch(Launch { yaml, ..Launch::default() }).await
    }

    /// Starts it in an unusual way and waits until `/readyz` says so.
    pub(crate) async fn launch(launch: Launch<'_>) -> Self {
        let mut portway = Self::spawn(launch);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while portway.readiness().await != Some(200) {
            if let Some(status) = portway.child.exit_status() {
                panic!("portway ended at its start with {status}:\n{}", portway.stderr());
            }
            assert!(tokio::time::Instant::now() < deadline, "portway is not ready:\n{}", portway.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        portway
    }

    /// Starts it and waits for nothing: for configurations that are expected to fail.
    pub(crate) fn spawn(launch: Launch<'_>) -> Self {
        let scratch = Scratch::new();
        let (address, admin) = (free_address(), free_address());
        let file = launch.file.map_or_else(|| scratch.0.join("portway.yaml"), Path::to_owned);
        fs::write(&file, with_addresses(launch.yaml, address, admin)).expect("the scratch directory can be written");
        let log = |name: &str| File::create(scratch.0.join(name)).expect("the scratch directory can be written");
        let limited = launch.files_max.map(|max| format!("prlimit --nofile={max}"));
        let pinned = launch.core.map(|core| format!("taskset -c {core}"));
        let launchers = limited.iter().chain(&pinned).flat_map(|launcher| launcher.split(' ')).map(OsString::from);
        let mut words = launchers.chain([binary()]);
        let mut command = Command::new(words.next().expect("the binary, at least"));
        command.args(words);
        command.arg("run").arg("-c").arg(&file).envs(launch.env).current_dir(&scratch.0);
        command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child: Guarded(child), scratch, file, address, admin }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// SIGTERM.
    pub(crate) fn sigterm(&mut self) {
        self.child.signal(Signal::TERM);
    }

    /// Any other signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for the end of the process, or fails the test after `limit`.
    pub(crate) async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        let child = &mut self.child;
        let ended = async {
            while status.is_none() {
                status = child.exit_status();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(limit, "the end of the process", ended).await;
        status.expect("the loop above ends with a status")
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.exit_status().is_none()
    }

    /// The status of `/readyz`; `None` if the admin listener does not answer.
    pub(crate) async fn readiness(&self) -> Option<u16> {
        let stream = tokio::net::TcpStream::connect(self.admin).await.ok()?;
        let mut reader = super::wire::Reader::new(stream);
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        tokio::io::AsyncWriteExt::write_all(&mut reader.stream, request.as_bytes()).await.ok()?;
        tokio::time::timeout(PATIENCE, reader.response_to("GET")).await.ok()?.ok().map(|response| response.status)
    }

    /// One GET on the admin listener.
    pub(crate) async fn admin_get(&self, path: &str) -> Response {
        get(self.admin, path).await
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.file.clone()
    }

    /// Writes the configuration in place; `listen`, `admin` and `workers` as at the start where `yaml` has none.
    pub(crate) fn write(&self, yaml: &str) {
        let text = with_addresses(yaml, self.address, self.admin);
        fs::write(self.file(), text).expect("the scratch directory can be written");
    }

    /// One POST on the admin listener.
    pub(crate) async fn admin_post(&self, path: &str, body: &str) -> Response {
        let mut client = Client::connect(self.admin).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.admin);
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        client.response_to("POST").await
    }

    /// Asks for a reload and gives its answer with its status.
    pub(crate) async fn reload(&self) -> (u16, serde_json::Value) {
        let response = self.admin_post("/api/v1/reload", "").await;
        (response.status, serde_json::from_str(&response.text()).expect("the answer is JSON"))
    }

    /// What `/api/v1/status` says.
    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin_get("/api/v1/status").await.text()).expect("the status is JSON")
    }

    /// The kinds of the latest events, oldest first.
    pub(crate) async fn events(&self) -> Vec<String> {
        let events: serde_json::Value =
            serde_json::from_str(&self.admin_get("/api/v1/events").await.text()).expect("the events are JSON");
        let kinds = events.as_array().into_iter().flatten().map(|event| event["kind"].as_str().unwrap_or_default());
        kinds.map(str::to_owned).collect()
    }

    /// Waits until the configuration of this number is in effect.
    pub(crate) async fn wait_generation(&self, generation: u64) {
        let what = format!("generation {generation}");
        eventually(PATIENCE, &what, || async { self.status().await["generation"] == generation }).await;
    }

    /// One scrape.
    pub(crate) async fn metrics(&self) -> Metrics {
        let response = self.admin_get("/metrics").await;
        assert_eq!(response.status, 200, "{}", response.text());
        Metrics::parse(response.text())
    }

    /// Waits until the sum of a metric is `value`.
    pub(crate) async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} = {value}");
        eventually(PATIENCE, &what, || async { self.metrics().await.sum(name, labels) == value }).await;
    }

    /// Waits until the limit with that word has held something back, and its series says so.
    pub(crate) async fn wait_limit(&self, word: &str) {
        let hits = || async { self.metrics().await.sum("portway_limit_hits_total", &[("limit", word)]) > 0.0 };
        eventually(PATIENCE, &format!("the limit {word:?} to be counted"), hits).await;
    }

    /// One GET through the front door, on a new connection.
    pub(crate) async fn get(&self, path: &str) -> Response {
        get(self.address, path).await
    }

    /// A raw connection to the front door.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.scratch.0.join("stderr")).unwrap_or_default()
    }

    /// What it has written to standard output so far: the access log, unless the test's YAML sends it elsewhere.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.0.join("stdout")).unwrap_or_default()).into_owned()
    }

    /// The access log so far, a value per whole line; a line that is not JSON fails the test.
    pub(crate) fn access_log(&self) -> Vec<serde_json::Value> {
        let text = self.stdout();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
        whole.lines().map(parse).collect()
    }

    /// Its working directory, for files that the YAML names.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.scratch.0
    }
}

/// The binary that cargo built for this test program, or the one that `PORTWAY_BIN` names: a release build, say.
pub(crate) fn binary() -> OsString {
    std::env::var_os("PORTWAY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_portway").into())
}

fn with_addresses(yaml: &str, address: SocketAddr, admin: SocketAddr) -> String {
    let has = |key: &str| yaml.lines().any(|line| line.starts_with(key));
    let mut text = String::new();
    for (key, value) in [("listen:", address.to_string()), ("admin:", admin.to_string())] {
        if !has(key) {
            text += &format!("{key} \"{value}\"\n");
        }
    }
    if !has("workers:") {
        text += "workers: 2\n";
    }
    text + yaml
}
