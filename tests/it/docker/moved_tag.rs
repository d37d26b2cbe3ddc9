//! `pull: always` and a tag that comes to mean another image: what runs is replaced, under load, from a registry of the test's.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Books, ORDINARY, is_long_form};
use crate::support::{Docker, Guarded, Manner, Portway, Scratch, eventually, require, wait_backends, whole_machine};

/// From the save of a file to the last replica, with a pull of some hundred megabytes.
const REPLACED_MAX: Duration = Duration::from_secs(120);

/// A registry with one image, whose tag can be moved.
struct Registry {
    scratch: Scratch,
    _process: Guarded,
    port: u16,
}

impl Registry {
    fn start(docker: &Docker) -> Self {
        let scratch = Scratch::new();
        let names = [Manner::One, Manner::Two].map(|manner| format!("names={}", docker.images.name(manner)));
        let saved = docker.engine.call_now("GET", &format!("/images/get?{}", names.join("&")), None);
        let saved = saved.expect("the engine answers");
        assert!(saved.is_ok(), "{}", saved.text());
        fs::write(scratch.0.join("archive.tar"), saved.body).expect("the scratch directory can be written");
        fs::write(scratch.0.join("registry.py"), include_str!("registry.py")).expect("the same");
        fs::write(scratch.0.join("tag"), docker.images.name(Manner::One)).expect("the same");
        let mut command = Command::new("python3");
        command.args(["registry.py", "archive.tar", "tag"]).current_dir(&scratch.0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says its port");
        let process = Guarded(child);
        Self { scratch, port: line.trim().parse().expect("a port"), _process: process }
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/app:latest", self.port)
    }

    fn move_tag(&self, docker: &Docker, to: Manner) {
        fs::write(self.scratch.0.join("tag"), docker.images.name(to)).expect("the scratch directory can be written");
    }
}

async fn wait_version(portway: &Portway, docker: &Docker, version: &str) {
    let all_are = || async {
        let mut versions = Vec::new();
        for container in docker.handles().await {
            let facts = docker.engine.call("GET", &format!("/containers/{}/json", container.id), None).await.json();
            let environment = facts["Config"]["Env"].as_array().cloned().unwrap_or_default();
            versions.push(environment.iter().any(|entry| *entry == format!("VERSION={version}").as_str()));
        }
        versions == [true, true]
    };
    let what = format!("two replicas of version {version}");
    let waited = tokio::time::timeout(REPLACED_MAX, eventually(REPLACED_MAX * 2, &what, all_are)).await;
    assert!(waited.is_ok(), "not {what}:\n{}", portway.stderr());
    wait_backends(portway, "web", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_means_another_image_replaces_what_runs_when_it_is_fetched() {
    if !is_long_form("a registry of its own, with the base image to be pulled from it") {
        return;
    }
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let registry = Registry::start(&docker);
    let yaml = |drain: &str| {
        let source = docker.container_yaml(Manner::One, "replicas: 2").replace("pull: never", "pull: always");
        let source = source.replace(&docker.images.name(Manner::One), &registry.image());
        format!("access_log: off\nservices:\n  web: {{ {source}, health: {{ path: /healthz, every: 1s }}, {drain} }}\n")
    };
    let portway = Portway::start(&yaml("drain: 5s")).await;
    wait_version(&portway, &docker, "1").await;

    // Nobody asks the registry between two fetches; a change of the service in the file is one.
    let books = Books::open(&docker, portway.address, ORDINARY);
    registry.move_tag(&docker, Manner::Two);
    books.wait_more(100).await;
    assert_eq!(portway.get("/api").await.get("x-version"), Some("1"));
    portway.write(&yaml("drain: 6s"));
    wait_version(&portway, &docker, "2").await;

    // So is the start of a replica, and what the tag meant before is replaced with it.
    registry.move_tag(&docker, Manner::One);
    portway.write(&yaml("drain: 6s").replace("replicas: 2", "replicas: 3"));
    docker.wait_running(3, REPLACED_MAX).await;
    portway.write(&yaml("drain: 6s"));
    wait_version(&portway, &docker, "1").await;
    books.wait_more(100).await;
    books.close_clean(&portway).await;
    drop(portway);
    docker.engine.call("DELETE", &format!("/images/{}?force=1", registry.image()), None).await;
}
