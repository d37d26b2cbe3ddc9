//! The images of docker/: Portway as a container before the app of the README, with the files as they are shipped.
//! Compiling is left out: the binary under test is put in, as docker/Dockerfile offers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Docker, LABEL_TEST, Load, Scratch, binary, eventually, get, part_of_the_machine, require};

/// From `docker run` to `healthy` on a busy machine.
const HEALTHY_MAX: Duration = Duration::from_secs(40);

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

/// A build context of `files`, each from its place in this file system to its place in the context.
fn context(files: &[(PathBuf, &str)]) -> Vec<u8> {
    let scratch = Scratch::new();
    for (from, to) in files {
        let to = scratch.0.join(to);
        fs::create_dir_all(to.parent().expect("it is in the scratch directory")).expect("it can be written");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let output = Command::new("tar").arg("-C").arg(&scratch.0).args(["-c", "."]).output();
    output.expect("tar is part of every system that runs an engine").stdout
}

/// `{"BASE":"portway-base"}` for a query string.
const APP_ARGUMENTS: &str = "buildargs=%7B%22BASE%22%3A%22portway-base%22%7D";
const PORTWAY_ARGUMENTS: &str = "dockerfile=docker/Dockerfile&buildargs=%7B%22BASE%22%3A%22portway-base%22%2C\
    %22BUILD_BASE%22%3A%22portway-base%22%2C%22BINARY%22%3A%22dist/portway%22%7D";

async fn build_both(docker: &Docker) {
    let app = [(shipped("my-app/Dockerfile"), "Dockerfile"), (shipped("my-app/app.py"), "app.py")];
    docker.build("portway-test-my-app", APP_ARGUMENTS, context(&app)).await;
    let portway = [(shipped("Dockerfile"), "docker/Dockerfile"), (PathBuf::from(binary()), "dist/portway")];
    docker.build("portway-test-front", PORTWAY_ARGUMENTS, context(&portway)).await;
}

/// Runs the image of Portway as compose.yaml does, with `directory` mounted; gives its id.
async fn run_front(docker: &Docker, directory: &Path) -> String {
    let socket = docker.engine.socket.display().to_string();
    let group = fs::metadata(&docker.engine.socket).expect("the engine answered there").gid();
    let spec = json!({
        "Image": "portway-test-front",
        "Labels": { LABEL_TEST: docker.mark },
        "ExposedPorts": { "8080/tcp": {} },
        "HostConfig": {
            "PortBindings": { "8080/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] },
            "Binds": [format!("{}:/etc/portway:ro", directory.display()), format!("{socket}:/var/run/docker.sock")],
            "GroupAdd": [group.to_string()],
        },
    });
    let made = docker.engine.call("POST", "/containers/create", Some(spec)).await.json();
    let id = made["Id"].as_str().expect("a container has an id").to_owned();
    docker.engine.call("POST", &format!("/containers/{id}/start"), None).await;
    id
}

async fn facts(docker: &Docker, id: &str) -> Value {
    docker.engine.call("GET", &format!("/containers/{id}/json"), None).await.json()
}

async fn address(docker: &Docker, id: &str) -> SocketAddr {
    let published = facts(docker, id).await["NetworkSettings"]["Ports"]["8080/tcp"][0].clone();
    let port = published["HostPort"].as_str().unwrap_or_default();
    format!("127.0.0.1:{port}").parse().unwrap_or_else(|_| panic!("not published: {published}"))
}

async fn log(docker: &Docker, id: &str) -> String {
    docker.engine.call("GET", &format!("/containers/{id}/logs?stdout=1&stderr=1"), None).await.text()
}

async fn wait_healthy(docker: &Docker, id: &str) {
    let is_healthy = || async { facts(docker, id).await["State"]["Health"]["Status"] == "healthy" };
    if tokio::time::timeout(HEALTHY_MAX, async { eventually(HEALTHY_MAX * 2, "healthy", is_healthy).await })
        .await
        .is_err()
    {
        let state = facts(docker, id).await["State"].clone();
        panic!("not healthy within {HEALTHY_MAX:?}: {state:#}\n{}", log(docker, id).await);
    }
}

/// The shipped file, looking for this test's containers.
fn shipped_yaml(docker: &Docker) -> String {
    let text = fs::read_to_string(shipped("portway.yaml")).expect("it is shipped");
    let label = "app=my-app";
    assert!(text.contains(label), "{text}");
    text.replace(label, &format!("portway-test-app={}", docker.mark))
}

async fn start_app(docker: &Docker) {
    let labels = json!({ LABEL_TEST: docker.mark, "portway-test-app": docker.mark });
    let spec = json!({ "Image": "portway-test-my-app", "Labels": labels, "StopTimeout": 1 });
    let made = docker.engine.call("POST", "/containers/create", Some(spec)).await.json();
    let path = format!("/containers/{}/start", made["Id"].as_str().expect("a container has an id"));
    docker.engine.call("POST", &path, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portway_in_a_container_finds_three_of_the_readmes_app_beside_it() {
    let Some(docker) = require("docker", Docker::find().await) else { return };
    let _turn = part_of_the_machine().await;
    build_both(&docker).await;
    let directory = Scratch::new();
    fs::write(directory.0.join("portway.yaml"), shipped_yaml(&docker)).expect("the scratch directory can be written");
    for _ in 0..3 {
        start_app(&docker).await;
    }

    let front = run_front(&docker, &directory.0).await;
    wait_healthy(&docker, &front).await;
    let address = address(&docker, &front).await;
    let answers = || async { get(address, "/api").await.text() == "Hello, World!" };
    eventually(HEALTHY_MAX, "Hello, World!", answers).await;
    let report = Load { requests: 300, connections: 6, ..Load::get(address, "/api") }.run().await;
    report.assert_all_ok(300);
    assert_eq!(facts(&docker, &front).await["Config"]["User"], "10001:10001");

    // A save in the mounted directory is seen inside.
    let text = shipped_yaml(&docker).replace("  my-app:\n", "  my-app:\n    route: /only\n");
    let draft = directory.0.join("draft");
    fs::write(&draft, text).expect("the scratch directory can be written");
    fs::rename(draft, directory.0.join("portway.yaml")).expect("both are in one directory");
    eventually(HEALTHY_MAX, "the saved file in effect", || async { get(address, "/api").await.status == 404 }).await;

    // `docker stop` ends it in order.
    docker.engine.call("POST", &format!("/containers/{front}/stop?t=35"), None).await;
    let state = facts(&docker, &front).await["State"].clone();
    assert_eq!(state["ExitCode"], 0, "{state:#}\n{}", log(&docker, &front).await);
}
