//! What a new user sees: a label, three containers, `Hello, World!`.

use crate::support::{Docker, Load, Manner, Portway, part_of_the_machine, require, wait_backends};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_containers_with_one_label_share_the_load() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    docker.start_many(3).await;

    let portway = Portway::start(&format!("services: {{ my-app: {{ {} }} }}", docker.docker_yaml())).await;
    wait_backends(&portway, "my-app", 3).await;

    let report = Load { requests: 1_500, connections: 12, ..Load::get(portway.address, "/api") }.run().await;
    report.assert_all_ok(1_500);
    assert_eq!(report.by_body.keys().collect::<Vec<_>>(), ["Hello, World!"]);
    assert_eq!(report.by_backend.len(), 3, "{:?}", report.by_backend);
    let least = report.by_backend.values().min().expect("three of them");
    assert!(*least > 200, "one gets next to nothing: {:?}", report.by_backend);
}

/// A route outlives its containers: 503 with a reason, and `Retry-After`, never 404.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_a_container_says_503_until_the_first_one_is_there() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    let portway = Portway::start(&format!("services: {{ my-app: {{ {} }} }}", docker.docker_yaml())).await;

    let none = portway.get("/api").await;
    assert_eq!(none.status, 503, "{none:?}");
    assert!(none.get("x-portway-reason").is_some() && none.get("retry-after").is_some(), "{none:?}");

    let only = docker.start(Manner::One, &[]).await;
    wait_backends(&portway, "my-app", 1).await;
    assert_eq!(portway.get("/api").await.text(), "Hello, World!");

    only.stop(10).await;
    wait_backends(&portway, "my-app", 0).await;
    assert_eq!(portway.get("/api").await.status, 503);
}

/// The engine's own proxy accepts connections long before the app does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_gets_no_request_before_its_app_listens() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    docker.start_many(1).await;
    let portway = Portway::start(&format!("services: {{ my-app: {{ {} }} }}", docker.docker_yaml())).await;
    wait_backends(&portway, "my-app", 1).await;

    let load = Load { requests: 1_000_000, connections: 4, ..Load::get(portway.address, "/sleep/5") }.start();
    docker.start(Manner::One, &["DELAY=2"]).await;
    wait_backends(&portway, "my-app", 2).await;
    let enough = load.answered() + 200;
    crate::support::eventually(crate::support::PATIENCE, "200 more", || async { load.answered() > enough }).await;

    let report = load.stop().await;
    report.assert_no_loss();
    assert_eq!(report.by_backend.len(), 2, "{:?}", report.by_backend);
}
