//! Containers that Portway runs: as many as the file says, replaced when it says another image, kept when the new one is
//! broken, adopted by the next process, removed when nobody wants them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Books, ORDINARY, pick};
use crate::support::{
    Container, Docker, Launch, Manner, Portway, Scratch, eventually, part_of_the_machine, require, wait_backends,
    whole_machine,
};

/// From the save of a file to its last container on a busy machine.
const REPLACED_MAX: Duration = Duration::from_secs(90);

/// A file with one service of `n` replicas.
fn yaml(docker: &Docker, manner: Manner, more: &str) -> String {
    let source = docker.container_yaml(manner, more);
    format!("access_log: off\nservices:\n  web: {{ {source}, health: {{ path: /healthz, every: 1s }}, drain: 5s }}\n")
}

async fn ids(docker: &Docker) -> BTreeSet<String> {
    docker.handles().await.into_iter().map(|container| container.id).collect()
}

/// Waits until so many replicas run, all of this version and none of them is older.
async fn wait_version(docker: &Docker, portway: &Portway, manner: Manner, n: usize) {
    let image = docker.images.name(manner);
    let deadline = tokio::time::Instant::now() + REPLACED_MAX;
    loop {
        let running = docker.running().await;
        if running.len() == n && running.iter().all(|container| container["Image"] == image.as_str()) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "not {n} of {image}: {running:#?}\n{}", portway.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_image_in_the_file_is_a_rolling_replacement_without_loss() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, "replicas: 3")).await;
    wait_backends(&portway, "web", 3).await;
    assert_eq!(portway.get("/api").await.get("x-version"), Some("1"));

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(100).await;
    for round in 0..pick(1, 20) {
        let manner = if round % 2 == 0 { Manner::Two } else { Manner::One };
        portway.write(&yaml(&docker, manner, "replicas: 3"));
        wait_version(&docker, &portway, manner, 3).await;
    }
    books.wait_more(100).await;
    books.close_clean(&portway).await;
    wait_backends(&portway, "web", 3).await;
    assert_eq!(portway.get("/api").await.get("x-version"), Some(pick("2", "1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_get_ready_leaves_the_old_ones_in_place() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, "replicas: 2")).await;
    wait_backends(&portway, "web", 2).await;
    let before = ids(&docker).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    portway.write(&yaml(&docker, Manner::Exits, "replicas: 2"));
    let is_told = || async { portway.stderr().contains("cannot reach the database at db.internal:5432") };
    eventually(REPLACED_MAX, "the last words of the broken image in the log", is_told).await;
    books.wait_more(300).await;
    assert!(before.is_subset(&ids(&docker).await), "the old ones are gone:\n{}", portway.stderr());

    // Mended, the same ones go on.
    portway.write(&yaml(&docker, Manner::One, "replicas: 2"));
    eventually(REPLACED_MAX, "the old ones alone", || async { ids(&docker).await == before }).await;
    books.wait_more(100).await;
    books.close_clean(&portway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_adopts_what_runs() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let home = Scratch::new();
    let file = home.0.join("portway.yaml");
    let text = yaml(&docker, Manner::One, "replicas: 2");
    let launch = || Launch { yaml: &text, file: Some(&file), ..Launch::default() };
    let mut first = Portway::launch(launch()).await;
    wait_backends(&first, "web", 2).await;
    let before = ids(&docker).await;

    first.sigterm();
    assert_eq!(first.wait_exit(Duration::from_secs(10)).await.code(), Some(0), "{}", first.stderr());
    assert_eq!(ids(&docker).await, before, "the end of Portway is not the end of its containers");

    let second = Portway::launch(launch()).await;
    wait_backends(&second, "web", 2).await;
    let load =
        crate::support::Load { requests: 200, connections: 4, ..crate::support::Load::get(second.address, "/api") };
    load.run().await.assert_all_ok(200);
    assert_eq!(ids(&docker).await, before, "{}", second.stderr());

    // What no service wants any more goes.
    second.write("services: { other: { backends: [\"127.0.0.1:1\"] } }\n");
    let is_empty = || async { docker.all().await.is_empty() };
    eventually(REPLACED_MAX, "no container of a service that is gone", is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_is_replaced() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, "replicas: 2")).await;
    wait_backends(&portway, "web", 2).await;

    let victim: Container = docker.handles().await.remove(0);
    victim.kill().await;
    let is_replaced = || async {
        let now = ids(&docker).await;
        now.len() == 2 && !now.contains(&victim.id)
    };
    eventually(REPLACED_MAX, "another one in place of the dead", is_replaced).await;
    wait_backends(&portway, "web", 2).await;
    // The dead one does not lie about for ever.
    eventually(REPLACED_MAX, "two containers in all", || async { docker.all().await.len() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_and_fewer_replicas_in_the_file_are_more_and_fewer_containers() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let portway = Portway::start(&yaml(&docker, Manner::One, "replicas: 1")).await;
    wait_backends(&portway, "web", 1).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    for n in pick(vec![3, 1], vec![3, 1, 4, 2, 5, 1]) {
        portway.write(&yaml(&docker, Manner::One, &format!("replicas: {n}")));
        docker.wait_running(n, REPLACED_MAX).await;
        wait_backends(&portway, "web", n).await;
        books.wait_more(60).await;
    }
    books.close_clean(&portway).await;
}
