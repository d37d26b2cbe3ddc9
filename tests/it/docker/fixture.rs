//! The fixture itself, with backends that stand in the file: a suite can only be as right as what it stands on.

use super::stage::ledger::Contract;
use super::stage::payload;
use super::{Books, ORDINARY, executed};
use crate::support::{Docker, Manner, Portway, require, whole_machine};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_write_down_all_they_execute_and_are_gone_after_the_test() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = whole_machine().await;
    let fleet = docker.start_many(2).await;
    let mut addresses = Vec::new();
    for container in &fleet {
        addresses.push(container.address().await.expect("it runs").to_string());
    }
    let yaml = format!("access_log: off\nservices: {{ web: {{ backends: {addresses:?} }} }}");
    let portway = Portway::start(&yaml).await;

    let books = Books::open(&docker, portway.address, ORDINARY);
    books.wait_more(300).await;
    let (sent, verdict) = books.close(&Contract::STRICT).await;
    super::assert_clean(&verdict, &portway);
    let ran = executed(&docker);
    assert_eq!(ran.len(), sent.len(), "each request ran once");
    assert_eq!(docker.books().len(), 2);
    assert!(ran.iter().all(|ran| ran.at_us <= payload::now_us()));

    let (engine, mark) = (docker.engine.clone(), docker.mark.clone());
    drop(docker);
    let left = engine.call("GET", "/containers/json?all=1", None).await.text();
    assert!(!left.contains(&mark), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_exits_says_why() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let container = docker.start(Manner::Exits, &[]).await;
    let is_over = || async { docker.running().await.is_empty() };
    crate::support::eventually(crate::support::PATIENCE, "its end", is_over).await;
    let path = format!("/containers/{}/logs?stdout=1&stderr=1", container.id);
    let log = docker.engine.call("GET", &path, None).await.text();
    assert!(log.contains("cannot reach the database at db.internal:5432"), "{log}");
}
