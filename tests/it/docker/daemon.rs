//! The engine goes away and comes back: what is known stays in use, what changed meanwhile is found.

use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Books, ORDINARY};
use crate::support::{Docker, Manner, Portway, Scratch, part_of_the_machine, require, wait_backends, whole_machine};

/// A socket before the engine's, which can be cut.
struct Wire {
    scratch: Scratch,
    engine: PathBuf,
    running: Option<JoinHandle<()>>,
}

impl Wire {
    fn new(engine: &Path) -> Self {
        let mut wire = Self { scratch: Scratch::new(), engine: engine.to_owned(), running: None };
        wire.mend();
        wire
    }

    fn socket(&self) -> PathBuf {
        self.scratch.0.join("docker.sock")
    }

    fn mend(&mut self) {
        let listener = UnixListener::bind(self.socket()).expect("the scratch directory can be written");
        self.running = Some(tokio::spawn(forward(listener, self.engine.clone())));
    }

    /// Everything open ends, nothing new is accepted; as after the end of a daemon.
    async fn cut(&mut self) {
        let running = self.running.take().expect("it was whole");
        running.abort();
        running.await.ok();
        std::fs::remove_file(self.socket()).expect("it is there");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

async fn forward(listener: UnixListener, engine: PathBuf) {
    // Ends with the task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let engine = engine.clone();
        connections.spawn(async move {
            let Ok(mut far) = UnixStream::connect(engine).await else { return };
            tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_goes_away_takes_no_backend_with_it() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_lingering(2).await;
    let mut wire = Wire::new(&docker.engine.socket);
    let source =
        docker.docker_yaml().replace("port:", &format!("endpoint: \"unix://{}\", port:", wire.socket().display()));
    let yaml = format!("access_log: off\nservices: {{ web: {{ {source}, health: {{ path: /healthz, every: 1s }} }} }}");
    let portway = Portway::start(&yaml).await;
    wait_backends(&portway, "web", 2).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    wire.cut().await;
    books.wait_more(600).await;
    wait_backends(&portway, "web", 2).await;

    // What happens meanwhile is found afterwards, without an event.
    let third = docker.start(Manner::One, &[]).await;
    third.wait_answer().await;
    wire.mend();
    wait_backends(&portway, "web", 3).await;

    // And events arrive again.
    fleet[0].stop(10).await;
    wait_backends(&portway, "web", 2).await;
    books.wait_more(100).await;
    books.close_clean(&portway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_an_engine_is_a_start_all_the_same() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    docker.start_many(1).await;
    let mut wire = Wire::new(&docker.engine.socket);
    wire.cut().await;
    let source =
        docker.docker_yaml().replace("port:", &format!("endpoint: \"unix://{}\", port:", wire.socket().display()));
    let portway = Portway::start(&format!("services: {{ web: {{ {source} }} }}")).await;
    assert_eq!(portway.get("/api").await.status, 503);

    wire.mend();
    wait_backends(&portway, "web", 1).await;
    assert_eq!(portway.get("/api").await.text(), "Hello, World!");
}

/// At its own address a container comes back where it was, and the list says no more of it than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_restarts_while_the_engine_is_away_is_asked_anew() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let only = docker.start_many(1).await.remove(0);
    let mut wire = Wire::new(&docker.engine.socket);
    let more = format!("endpoint: \"unix://{}\", address: network, port:", wire.socket().display());
    let source = docker.docker_yaml().replace("port:", &more);
    let portway = Portway::start(&format!("services: {{ web: {{ {source} }} }}")).await;
    wait_backends(&portway, "web", 1).await;
    let n_told = async |kind: &str| portway.events().await.iter().filter(|told| *told == kind).count();
    // One restart that is heard: it was looked at since then.
    only.restart(0).await;
    let is_back = || async { n_told("container_ready").await >= 2 };
    crate::support::eventually(crate::support::PATIENCE, "its next life", is_back).await;

    wire.cut().await;
    let is_lost = || async { n_told("engine_lost").await == 1 };
    crate::support::eventually(crate::support::PATIENCE, "the engine being missed", is_lost).await;
    let (n_left, n_ready) = (n_told("container_left").await, n_told("container_ready").await);
    only.restart(0).await;
    only.wait_answer().await;
    assert_eq!(n_told("container_ready").await, n_ready);
    wire.mend();
    let is_asked = || async { n_told("container_ready").await > n_ready };
    crate::support::eventually(crate::support::PATIENCE, "another look at it", is_asked).await;
    assert!(n_told("container_left").await > n_left);
    wait_backends(&portway, "web", 1).await;
    assert_eq!(portway.get("/api").await.text(), "Hello, World!");
}
