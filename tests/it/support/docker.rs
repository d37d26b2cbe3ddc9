//! A real Docker engine, with containers that serve, each test's own.
//! It promises that what a test started, or had Portway start, is removed with its value, and what a run that was killed
//! left behind with the next one. It ends no container that somebody else made.

mod engine;
mod image;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) use engine::{Answer as EngineAnswer, Engine};
pub(crate) use image::{Images, Manner};

use super::{Portway, Scratch, eventually};

/// Whose test a container belongs to: `PID-NTH`.
pub(crate) const LABEL_TEST: &str = "portway-test";
/// What the app listens on.
pub(crate) const PORT: u16 = 5000;
/// From `docker start` to an answer on a machine that is busy.
const START_MAX: Duration = Duration::from_secs(60);

/// An engine, and what one test has on it.
#[derive(Debug)]
pub(crate) struct Docker {
    pub(crate) engine: Engine,
    pub(crate) images: Images,
    /// The value of [`LABEL_TEST`] on everything that belongs to this test.
    pub(crate) mark: String,
    /// Where containers write down what they executed; mounted as `/book`.
    book: Scratch,
    /// Images that the test built, the nameless ones of earlier stages too; the oldest first.
    built: Mutex<Vec<String>>,
}

/// A container of the test's own.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    engine: Engine,
    pub(crate) id: String,
}

/// What one container executed, as it wrote it down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// When its process began, and when it first answered a probe; microseconds of the wall clock.
    pub(crate) started_us: u64,
    pub(crate) probed_us: Option<u64>,
    /// Id, time and hash of the body of each request.
    pub(crate) ran: Vec<(u64, u64, u64)>,
}

impl Docker {
    /// The engine with the images of the suites, or why there is none.
    pub(crate) async fn find() -> Result<Self, String> {
        static FOUND: OnceCell<Result<(Engine, Images), String>> = OnceCell::const_new();
        let find = || async { tokio::task::spawn_blocking(prepare).await.map_err(|e| e.to_string())? };
        let (engine, images) = FOUND.get_or_init(find).await.clone()?;
        Ok(Self::on(engine, images))
    }

    /// The same on an engine of the test's own.
    pub(crate) async fn on_engine_at(socket: &Path) -> Result<Self, String> {
        let engine = Engine::at(socket);
        let make = move || Images::make(&engine).map(|images| (engine, images));
        let (engine, images) = tokio::task::spawn_blocking(make).await.map_err(|e| e.to_string())??;
        Ok(Self::on(engine, images))
    }

    fn on(engine: Engine, images: Images) -> Self {
        static STEP: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), STEP.fetch_add(1, Ordering::Relaxed));
        let book = Scratch::new();
        // Containers may run as anybody.
        fs::set_permissions(&book.0, fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self { engine, images, mark, book, built: Mutex::default() }
    }

    /// Starts a container of the image, found by `portway-test=MARK`, its port on a port of 127.0.0.1 that the engine picks.
    pub(crate) async fn start(&self, manner: Manner, environment: &[&str]) -> Container {
        let name = self.images.name(manner);
        self.start_as(&name, environment).await
    }

    /// The same of any image.
    pub(crate) async fn start_as(&self, image: &str, environment: &[&str]) -> Container {
        let spec = json!({
            "Image": image,
            "Env": environment,
            "Labels": { LABEL_TEST: self.mark },
            "ExposedPorts": { format!("{PORT}/tcp"): {} },
            "HostConfig": {
                "PortBindings": { format!("{PORT}/tcp"): [{ "HostIp": "127.0.0.1", "HostPort": "" }] },
                "Binds": [self.bind()],
            },
        });
        let made = self.engine.call("POST", "/containers/create", Some(spec)).await.json();
        let id = made["Id"].as_str().expect("a container has an id").to_owned();
        let container = Container { engine: self.engine.clone(), id };
        container.start().await;
        container
    }

    /// `n` containers that answer.
    pub(crate) async fn start_many(&self, n: usize) -> Vec<Container> {
        self.start_with(n, &[]).await
    }

    /// Containers whose app goes on for half a second after SIGTERM: what is on its way to one that is stopped is served, so
    /// that nothing at all may be lost.
    pub(crate) async fn start_lingering(&self, n: usize) -> Vec<Container> {
        self.start_with(n, &["LINGER=0.5"]).await
    }

    async fn start_with(&self, n: usize, environment: &[&str]) -> Vec<Container> {
        let mut containers = Vec::new();
        for _ in 0..n {
            containers.push(self.start(Manner::One, environment).await);
        }
        for container in &containers {
            container.wait_answer().await;
        }
        containers
    }

    /// Builds an image from a tar, to be removed with the test. Its name begins with `portway-test-`.
    pub(crate) async fn build(&self, name: &str, query: &str, context: Vec<u8>) {
        let (engine, path) = (self.engine.clone(), format!("/build?t={name}&forcerm=1&{query}"));
        let call = move || engine.call_now("POST", &path, Some(("application/x-tar", &context)));
        let answer =
            tokio::task::spawn_blocking(call).await.expect("a call does not panic").expect("the engine answers");
        let told = answer.text();
        assert!(answer.is_ok() && !told.contains("\"error\""), "building {name}: {told}");
        self.built.lock().unwrap_or_else(PoisonError::into_inner).extend(image::named_in(&told));
    }

    /// The volume of the books, as Docker and Compose write it.
    pub(crate) fn bind(&self) -> String {
        format!("{}:/book", self.book.0.display())
    }

    /// The source that finds the containers of this test.
    pub(crate) fn docker_yaml(&self) -> String {
        format!("docker: {{ label: \"{LABEL_TEST}={}\", port: {PORT} }}", self.mark)
    }

    /// The source that runs containers for this test; `more` is further keys of it.
    pub(crate) fn container_yaml(&self, manner: Manner, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { ", " };
        format!(
            "container: {{ image: \"{}\", port: {PORT}, pull: never, volumes: [\"{}\"], labels: {{ {LABEL_TEST}: \"{}\" }}{comma}{more} }}",
            self.images.name(manner),
            self.bind(),
            self.mark,
        )
    }

    /// The containers of this test that run, newest first; by id.
    pub(crate) async fn running(&self) -> Vec<Value> {
        let answer = self.engine.call("GET", &listing(&format!("{LABEL_TEST}={}", self.mark), ""), None).await;
        answer.json().as_array().cloned().unwrap_or_default()
    }

    /// The containers of this test in any state.
    pub(crate) async fn all(&self) -> Vec<Value> {
        let answer = self.engine.call("GET", &listing(&format!("{LABEL_TEST}={}", self.mark), "&all=1"), None).await;
        answer.json().as_array().cloned().unwrap_or_default()
    }

    /// The running containers that Portway made, as handles.
    pub(crate) async fn handles(&self) -> Vec<Container> {
        let running = self.running().await;
        let ids = running.iter().filter_map(|container| container["Id"].as_str());
        ids.map(|id| Container { engine: self.engine.clone(), id: id.to_owned() }).collect()
    }

    /// What every container wrote down, by its host name, which is how its id begins.
    pub(crate) fn books(&self) -> BTreeMap<String, Page> {
        let files = fs::read_dir(&self.book.0).expect("the scratch directory is there");
        let page = |entry: fs::DirEntry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            (entry.file_name().to_string_lossy().into_owned(), Page::read(&text))
        };
        files.filter_map(Result::ok).map(page).collect()
    }

    /// Waits until so many containers of this test run.
    pub(crate) async fn wait_running(&self, n: usize, limit: Duration) {
        eventually(limit, &format!("{n} containers of {}", self.mark), || async { self.running().await.len() == n })
            .await;
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell_last_words(&self.engine, &self.mark);
        }
        remove_all(&self.engine, |mark| mark == self.mark);
        let built = std::mem::take(&mut *self.built.lock().unwrap_or_else(PoisonError::into_inner));
        built.iter().rev().for_each(|id| image::remove(&self.engine, id));
    }
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Page::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |idx: usize| words.get(idx).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
            match words[0] {
                "started" => page.started_us = number(1),
                "probed" => page.probed_us = Some(number(1)),
                "ran" => page.ran.push((number(1), number(2), number(3))),
                _ => panic!("a line that the app does not write: {line:?}"),
            }
        }
        page
    }
}

impl Container {
    /// How its responses name it in `x-backend`.
    pub(crate) fn host_name(&self) -> &str {
        &self.id[..12]
    }

    pub(crate) async fn start(&self) {
        self.post("start").await;
    }

    /// SIGTERM, and SIGKILL after so many seconds.
    pub(crate) async fn stop(&self, seconds: u32) {
        self.post(&format!("stop?t={seconds}")).await;
    }

    pub(crate) async fn restart(&self, seconds: u32) {
        self.post(&format!("restart?t={seconds}")).await;
    }

    pub(crate) async fn kill(&self) {
        self.post("kill").await;
    }

    pub(crate) async fn pause(&self) {
        self.post("pause").await;
    }

    pub(crate) async fn unpause(&self) {
        self.post("unpause").await;
    }

    pub(crate) async fn remove(&self) {
        self.engine.call("DELETE", &format!("/containers/{}?force=1&v=1", self.id), None).await;
    }

    /// Where its port is published now; `None` while it does not run.
    pub(crate) async fn address(&self) -> Option<SocketAddr> {
        let facts = self.engine.call("GET", &format!("/containers/{}/json", self.id), None).await.json();
        let published = &facts["NetworkSettings"]["Ports"][format!("{PORT}/tcp")][0];
        let (host, port) = (published["HostIp"].as_str()?, published["HostPort"].as_str()?);
        format!("{host}:{port}").parse().ok()
    }

    /// Waits until its app answers.
    pub(crate) async fn wait_answer(&self) {
        let answers = || async {
            let Some(address) = self.address().await else { return false };
            if tokio::net::TcpStream::connect(address).await.is_err() {
                return false;
            }
            let request = "GET /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            // The engine's own proxy accepts on behalf of an app that does not listen yet.
            super::exchange(address, request).await.0.starts_with(b"HTTP/1.1 200 ")
        };
        eventually(START_MAX, &format!("an answer of container {}", self.host_name()), answers).await;
    }

    async fn post(&self, what: &str) {
        self.engine.call("POST", &format!("/containers/{}/{what}", self.id), None).await;
    }
}

/// Waits until so many backends of `service` take requests, as `portway status` tells.
pub(crate) async fn wait_backends(portway: &Portway, service: &str, n: usize) {
    let deadline = tokio::time::Instant::now() + START_MAX;
    loop {
        let status = portway.status().await;
        if n_ready(&status, service) == n {
            return;
        }
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "not within {START_MAX:?}: {n} backends of {service}: {status:#}\n{}", portway.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn n_ready(status: &Value, service: &str) -> usize {
    let services = status["services"].as_array().into_iter().flatten();
    let backends = services.filter(|found| found["name"] == service).filter_map(|found| found["backends"].as_array());
    let takes_requests = |backend: &&Value| matches!(backend["state"].as_str(), Some("ready" | "full"));
    backends.flatten().filter(takes_requests).count()
}

/// The engine and its images, with the leftovers of earlier runs removed.
fn prepare() -> Result<(Engine, Images), String> {
    let engine = Engine::find()?;
    // A mark begins with the process id of its run.
    let is_dead = |mark: &str| {
        let pid = mark.split('-').next().unwrap_or_default();
        !Path::new("/proc").join(pid).exists()
    };
    remove_all(&engine, is_dead);
    let images = Images::make(&engine)?;
    Ok((engine, images))
}

fn listing(label: &str, more: &str) -> String {
    let label = label.replace('=', "%3D");
    format!("/containers/json?filters=%7B%22label%22%3A%5B%22{label}%22%5D%7D{more}")
}

fn marked(engine: &Engine) -> Vec<(String, String)> {
    let Ok(answer) = engine.call_now("GET", &listing(LABEL_TEST, "&all=1"), None) else { return Vec::new() };
    let containers = answer.json();
    let words = |container: &Value| {
        Some((container["Id"].as_str()?.to_owned(), container["Labels"][LABEL_TEST].as_str()?.to_owned()))
    };
    containers.as_array().into_iter().flatten().filter_map(words).collect()
}

/// Twice, since Portway may have been about to start one more.
fn remove_all(engine: &Engine, is_ours: impl Fn(&str) -> bool) {
    for _ in 0..2 {
        for (id, _) in marked(engine).into_iter().filter(|(_, mark)| is_ours(mark)) {
            engine.call_now("DELETE", &format!("/containers/{id}?force=1&v=1"), None).ok();
        }
    }
}

/// What the containers of a test that failed have to say.
fn tell_last_words(engine: &Engine, mark: &str) {
    for (id, _) in marked(engine).into_iter().filter(|(_, theirs)| theirs == mark) {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail=5");
        let Ok(answer) = engine.call_now("GET", &path, None) else { continue };
        let printable = |c: char| c == '\n' || !c.is_control();
        let text: String = answer.text().chars().filter(|c| printable(*c)).collect();
        if !text.trim().is_empty() {
            println!("container {}: {}", &id[..12], text.trim());
        }
    }
}
