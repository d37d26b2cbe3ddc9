//! Live configuration against the real process: what a save, a signal, the API and a rollback change, and what they do not.
//! It waits for generations and answers, never for time to pass. How changes of files are noticed has tests of its own in
//! `control::watch`, what differs in `config::diff`.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{
    Act, Client, Ending, Launch, Load, Origin, PATIENCE, Portway, binary, eventually, free_address, get, response,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Services by route and backend.
fn services(named: &[(&str, SocketAddr)]) -> String {
    let lines = named
        .iter()
        .enumerate()
        .map(|(idx, (route, address))| format!("  s{idx}: {{ route: \"{route}\", backends: [\"{address}\"] }}\n"));
    format!("services:\n{}", lines.collect::<String>())
}

/// Writes and applies; the generation that is in effect then. The watcher may have been faster.
async fn apply(portway: &Portway, yaml: &str) -> u64 {
    portway.write(yaml);
    let (status, answer) = portway.reload().await;
    assert_eq!(status, 200, "{answer}\n{}", portway.stderr());
    answer["generation"].as_u64().expect("a number")
}

fn run(portway: &Portway, line: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(line.split_whitespace()).current_dir(portway.directory()).stdin(Stdio::null());
    for variable in ["PORTWAY_CONFIG", "PORTWAY_ADMIN_TOKEN", "RUST_LOG"] {
        command.env_remove(variable);
    }
    let output = command.output().expect("the binary can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_route_changes_between_two_requests_of_one_connection() {
    let (one, two) = (Origin::hello("one").await, Origin::hello("two").await);
    let portway = Portway::start(&services(&[("/", one.address)])).await;
    let mut client = portway.connect().await;
    client.send(GET).await;
    assert_eq!(client.response().await.text(), "one");
    for round in 0..20 {
        let (origin, body) = if round % 2 == 0 { (&two, "two") } else { (&one, "one") };
        apply(&portway, &services(&[("/", origin.address)])).await;
        client.send(GET).await;
        assert_eq!(client.response().await.text(), body, "after the answer nobody sees the old route");
    }
}

#[tokio::test]
async fn every_save_is_applied_without_being_asked_for() {
    let (one, two) = (Origin::hello("one").await, Origin::hello("two").await);
    let portway = Portway::start(&services(&[("/", one.address)])).await;
    portway.write(&services(&[("/", two.address)]));
    portway.wait_generation(2).await;
    assert_eq!(portway.get("/").await.text(), "two");
    let saved = portway.directory().join("saved");
    fs::write(
        &saved,
        fs::read_to_string(portway.file()).unwrap().replace(&two.address.to_string(), &one.address.to_string()),
    )
    .unwrap();
    fs::rename(saved, portway.file()).unwrap();
    portway.wait_generation(3).await;
    assert_eq!(portway.get("/").await.text(), "one");
}

#[tokio::test]
async fn sighup_reloads() {
    let origin = Origin::hello("hi").await;
    let mut portway = Portway::start(&services(&[("/", origin.address)])).await;
    portway.write(&services(&[("/", origin.address), ("/b", origin.address)]));
    portway.signal(Signal::HUP);
    portway.wait_generation(2).await;
    assert!(portway.is_running());
    assert!(portway.stderr().contains("config applied"), "{}", portway.stderr());
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let origin = Origin::hello("hi").await;
    let good = services(&[("/", origin.address)]);
    let portway = Portway::start(&good).await;
    let new_listener = free_address();
    portway.write(&format!("listen: \"{new_listener}\"\n{good}    tiemout: 3s\n"));
    let (status, answer) = portway.reload().await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!((answer["result"].as_str(), answer["generation"].as_u64()), (Some("invalid"), Some(1)));
    let text = answer["text"].as_str().unwrap();
    assert!(text.contains("portway.yaml:") && text.contains('^'), "{text}");
    let checked = run(&portway, "check --json");
    let checked: serde_json::Value = serde_json::from_str(&checked.1).expect("JSON");
    assert_eq!(answer["diagnostics"][0]["message"], checked[0]["message"]);

    assert_eq!(portway.get("/").await.text(), "hi");
    assert!(TcpStream::connect(new_listener).await.is_err(), "no part of it is applied");
    portway.wait_metric("portway_config_last_reload_success", &[], 0.0).await;
    let status = portway.status().await;
    assert!(status["refused_config"]["error"].as_str().unwrap().contains("portway.yaml:"), "{status}");
    let log = portway.stderr();
    assert!(log.contains("config rejected") && log.contains("keeping=1") && log.contains('^'), "{log}");
    let (code, table, _) = run(&portway, &format!("status --admin {}", portway.admin));
    assert!(code == Some(0) && table.contains("rejected"), "{table}");
    // The file still says where to ask: the line of its admin listener is right.
    let (code, table, warning) = run(&portway, "status");
    assert!(code == Some(0) && table.contains("rejected"), "{table}{warning}");
    assert!(warning.starts_with("warning: ") && warning.contains("is asked all the same"), "{warning}");

    // Mended, it is as if nothing had been.
    apply(&portway, &good).await;
    portway.wait_metric("portway_config_last_reload_success", &[], 1.0).await;
    assert_eq!(portway.status().await["generation"], 1);
    assert!(portway.status().await["refused_config"].is_null());
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_whole_reload() {
    let origin = Origin::hello("hi").await;
    let portway = Portway::start(&services(&[("/", origin.address)])).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let free = free_address();
    let listen = format!("listen: [\"{}\", \"{free}\", \"{}\"]\n", portway.address, taken.1);
    portway.write(&format!("{listen}{}", services(&[("/", origin.address), ("/new", origin.address)])));
    let (status, answer) = portway.reload().await;
    assert_eq!((status, answer["result"].as_str()), (422, Some("refused")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("cannot listen on"), "{answer}");
    let (place, text) = (&answer["diagnostics"][0], answer["text"].as_str().unwrap());
    assert_eq!((place["path"].as_str(), place["line"].as_u64()), (Some("listen"), Some(3)), "{answer}");
    assert!(text.contains("portway.yaml:3:") && text.contains("^^^ Another process is using it"), "{text}");
    assert!(TcpStream::connect(free).await.is_err());
    assert_eq!(portway.status().await["services"].as_array().unwrap().len(), 1);
    assert_eq!(portway.get("/").await.status, 200);
}

#[tokio::test]
async fn listeners_come_move_and_go_live() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let portway = Portway::start(&service).await;
    let mut kept = portway.connect().await;
    kept.send(GET).await;
    assert_eq!(kept.response().await.status, 200);
    let added = free_address();
    apply(&portway, &format!("listen: [\"{}\", \"{added}\"]\n{service}", portway.address)).await;
    assert_eq!(get(added, "/").await.text(), "hi");
    portway.wait_metric("portway_connections", &[("listener", &portway.address.to_string())], 1.0).await;

    // The first one goes: what is open on it ends in order.
    let mut busy = portway.connect().await;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    eventually(PATIENCE, "both connections", || async {
        portway.metrics().await.sum("portway_connections", &[("listener", &portway.address.to_string())]) == 2.0
    })
    .await;
    apply(&portway, &format!("listen: \"{added}\"\n{service}")).await;
    let address = portway.address;
    eventually(PATIENCE, "the listener to close", || async move { TcpStream::connect(address).await.is_err() }).await;
    assert_eq!(kept.until_close(PATIENCE).await, (Vec::new(), Ending::Closed));
    busy.send("\r\n").await;
    let answer = busy.response().await;
    assert!(answer.status == 200 && answer.head.says_close(), "{:?}", answer.head);
    assert_eq!(get(added, "/").await.text(), "hi");
    let status = portway.status().await;
    assert_eq!(status["listeners"].as_array().unwrap().len(), 1, "{status}");

    // It moves: the same port, another address.
    let port = added.port();
    apply(&portway, &format!("listen: \":{port}\"\n{service}")).await;
    assert!(is_served(added).await.expect("an answer at the new address"));
    assert_eq!(portway.status().await["listeners"][0]["address"], format!(":{port}"));
}

/// A socket that is closed resets what the kernel has completed for it and nobody has accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_reset_while_a_listener_moves() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let portway = Portway::start(&service).await;
    let address = free_address();
    let places = [format!("\":{}\"", address.port()), format!("\"{address}\"")];
    apply(&portway, &format!("listen: {}\n{service}", places[1])).await;
    let (n_served, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let client = || {
        let (n_served, is_over) = (Arc::clone(&n_served), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                match is_served(address).await {
                    Ok(true) => n_served.fetch_add(1, Ordering::SeqCst),
                    other => return Err(format!("{other:?} after {}", n_served.load(Ordering::SeqCst))),
                };
            }
            Ok(())
        })
    };
    let clients: Vec<_> = (0..4).map(|_| client()).collect();
    for round in 0..40 {
        let before = n_served.load(Ordering::SeqCst);
        let some = || async {
            n_served.load(Ordering::SeqCst) >= before + 8 || clients.iter().any(tokio::task::JoinHandle::is_finished)
        };
        eventually(PATIENCE, "two more answers for each client", some).await;
        apply(&portway, &format!("listen: {}\n{service}", places[round % 2])).await;
    }
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        assert_eq!(client.await.expect("it does not panic"), Ok(()));
    }
}

/// Whether a request on a connection of its own is answered.
async fn is_served(address: SocketAddr) -> std::io::Result<bool> {
    Ok(said(address, "/").await?.ends_with("hi"))
}

/// What a GET on a connection of its own is told.
async fn said(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_unix_listener_comes_and_goes_with_its_file_under_balanced_accepting() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let top = "accept: balanced\n";
    let mut portway = Portway::start(&format!("{top}{service}")).await;
    let socket = portway.directory().join("front.sock");
    let with_socket = format!("{top}listen: [\"{}\", \"unix:{}\"]\n{service}", portway.address, socket.display());
    apply(&portway, &with_socket).await;
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("it listens");
    drop(stream);
    assert_eq!(portway.get("/").await.text(), "hi");
    apply(&portway, &format!("{top}{service}")).await;
    assert!(!socket.exists());
    apply(&portway, &with_socket).await;
    assert!(socket.exists());
    portway.sigterm();
    assert_eq!(portway.wait_exit(PATIENCE).await.code(), Some(0), "{}", portway.stderr());
    assert!(!socket.exists(), "left behind at the end");
}

#[tokio::test]
async fn a_listener_keeps_its_sockets_while_its_limit_changes() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let portway = Portway::start(&service).await;
    let _open = (portway.connect().await, portway.connect().await);
    portway.wait_metric("portway_connections", &[], 2.0).await;
    apply(&portway, &format!("listen: {{ address: \"{}\", max_connections: 2 }}\n{service}", portway.address)).await;
    let mut refused = portway.connect().await;
    assert_ne!(refused.until_close(PATIENCE).await.1, Ending::StillOpen);
    portway.wait_metric("portway_connections", &[], 2.0).await;
    portway.wait_limit("listener_connections").await;
}

#[tokio::test]
async fn a_websocket_of_an_unrelated_service_and_a_request_under_way_live_on() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = {
        let gate = Arc::clone(&gate);
        Origin::start(move |received| match received.head.get("upgrade") {
            Some(_) => vec![Act::Send(SWITCHED.into()), Act::Echo],
            None => vec![Act::Gate(Arc::clone(&gate)), Act::Send(response(200, &[], "late"))],
        })
        .await
    };
    let other = Origin::hello("other").await;
    let portway = Portway::start(&services(&[("/", origin.address), ("/x", other.address)])).await;
    let mut socket = portway.connect().await;
    socket.send(UPGRADE).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101 "));
    let mut waiting = portway.connect().await;
    waiting.send(GET).await;
    eventually(PATIENCE, "both at the origin", || async { origin.n_requests() == 2 }).await;

    for round in 0..10 {
        let route = if round % 2 == 0 { "/y" } else { "/x" };
        apply(&portway, &services(&[("/", origin.address), (route, other.address)])).await;
        socket.send(format!("ping {round}")).await;
        assert_eq!(socket.bytes(6).await, format!("ping {round}").into_bytes());
    }
    // Even without its service: what it has may finish.
    apply(&portway, &services(&[("/x", other.address)])).await;
    socket.send("still").await;
    assert_eq!(socket.bytes(5).await, b"still");
    gate.add_permits(1);
    assert_eq!(waiting.response().await.text(), "late");
    assert_eq!(portway.get("/").await.status, 404);
    assert_eq!(origin.n_accepted(), 2, "no connection was made anew");
}

#[tokio::test]
async fn an_unchanged_service_keeps_its_counts_and_its_pooled_connections() {
    let (one, two) = (Origin::hello("one").await, Origin::hello("two").await);
    let portway = Portway::start(&services(&[("/", one.address), ("/b", two.address)])).await;
    let mut client = portway.connect().await;
    for round in 0..5 {
        client.send(GET).await;
        assert_eq!(client.response().await.status, 200);
        let route = format!("/b{round}");
        apply(&portway, &services(&[("/", one.address), (&route, two.address)])).await;
    }
    assert_eq!(one.n_accepted(), 1, "the pooled connection outlives every reload");
    let labels = [("service", "s0"), ("code_class", "2xx")];
    portway.wait_metric("portway_requests_total", &labels, 5.0).await;
}

#[tokio::test]
async fn what_a_removed_service_showed_is_gone_and_what_a_new_one_shows_is_there() {
    let origin = Origin::hello("hi").await;
    let portway = Portway::start("services: { old: { backends: [\"127.0.0.1:1\"] } }").await;
    apply(&portway, &format!("services: {{ new: {{ backends: [\"{}\"] }} }}", origin.address)).await;
    let gone = || async {
        let page = portway.admin_get("/metrics").await.text();
        !page.contains("service=\"old\"") && page.contains("portway_queue_length{service=\"new\"} 0")
    };
    eventually(PATIENCE, "the series of the old service to end", gone).await;
}

#[tokio::test]
async fn included_files_are_part_of_the_configuration() {
    let origin = Origin::hello("hi").await;
    let main = "include: [\"more-*.yaml\"]\nservices: { web: { route: /web, backends: [\"127.0.0.1:1\"] } }";
    let portway = Portway::start(main).await;
    let more = portway.directory().join("more-a.yaml");
    let included = services(&[("/more", origin.address)]);
    fs::write(&more, &included).unwrap();
    portway.wait_generation(2).await;
    assert_eq!(portway.get("/more").await.text(), "hi");
    fs::write(&more, included.replace("/more", "/less")).unwrap();
    portway.wait_generation(3).await;
    assert_eq!(portway.get("/less").await.text(), "hi");
    assert_eq!(portway.get("/more").await.status, 404);
    let (_, answer) = portway.reload().await;
    assert_eq!(answer["result"], "unchanged");
    portway.admin_post("/api/v1/rollback", "").await;
    assert_eq!(portway.get("/more").await.text(), "hi", "included files are part of what a rollback returns to");
}

#[tokio::test]
async fn a_rollback_returns_and_the_next_save_applies_again() {
    let (one, two) = (Origin::hello("one").await, Origin::hello("two").await);
    let yaml = |origin: &Origin| services(&[("/", origin.address)]);
    let portway = Portway::start(&yaml(&one)).await;
    assert_eq!(apply(&portway, &yaml(&two)).await, 2);
    let (code, stdout, stderr) = run(&portway, &format!("rollback --admin {}", portway.admin));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("returned to generation 1, as generation 3") && stdout.contains("~ service s0"),
        "{stdout}"
    );
    assert_eq!(portway.get("/").await.text(), "one");
    let status = portway.status().await;
    assert_eq!((status["generation"].as_u64(), status["rollback_to"].as_u64()), (Some(3), Some(1)));
    assert!(portway.stderr().contains("the file differs from what is in effect"), "{}", portway.stderr());

    let (code, _, stderr) = run(&portway, &format!("rollback 77 --admin {}", portway.admin));
    assert!(code == Some(1) && stderr.contains("there are: 1, 2, 3"), "{stderr}");
    let (code, list, _) = run(&portway, &format!("rollback --list --admin {}", portway.admin));
    assert!(code == Some(0) && list.contains("active rollback to 1"), "{list}");

    assert_eq!(apply(&portway, &yaml(&two)).await, 4);
    assert_eq!(portway.get("/").await.text(), "two");
    assert!(portway.status().await["rollback_to"].is_null());

    for (to, notice) in [(3, Some(3)), (4, None)] {
        let (code, _, stderr) = run(&portway, &format!("rollback {to} --admin {}", portway.admin));
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(portway.status().await["rollback_to"].as_u64(), notice, "4 is what the file says");
    }
}

/// A pipe in the file's place is refused like any other file that is wrong, and what is there after it is read.
#[tokio::test]
async fn a_pipe_that_nobody_fills_ends_no_reloading() {
    let origin = Origin::hello("hi").await;
    let portway = Portway::start(&services(&[("/", origin.address)])).await;
    let aside = portway.directory().join("aside.yaml");
    fs::rename(portway.file(), &aside).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, portway.file(), rustix::fs::Mode::RWXU).unwrap();
    let (status, answer) = portway.reload().await;
    assert_eq!((status, answer["result"].as_str()), (422, Some("invalid")), "{answer}");
    assert_eq!(portway.get("/").await.text(), "hi");
    fs::rename(&aside, portway.file()).unwrap();
    let (status, answer) = portway.reload().await;
    assert_eq!((status, answer["result"].as_str()), (200, Some("unchanged")), "{answer}");
}

#[tokio::test]
async fn reload_and_diff_say_what_changes() {
    let origin = Origin::hello("hi").await;
    let one = services(&[("/", origin.address)]);
    let portway = Portway::start(&one).await;
    let (code, stdout, _) = run(&portway, "reload");
    assert_eq!((code, stdout.as_str()), (Some(0), "unchanged: generation 1 says the same\n"));

    let new = fs::read_to_string(portway.file()).unwrap() + "  thumbs: { route: /t, backends: [\"127.0.0.1:1\"] }\n";
    fs::write(portway.directory().join("new.yaml"), new.replace("workers: 2", "workers: 3")).unwrap();
    let (code, stdout, stderr) = run(&portway, "diff new.yaml");
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "+ service thumbs\n    + route /t\n    + backend 127.0.0.1:1\n~ workers\n")
    );
    assert!(stderr.contains("workers: takes effect at the next start"), "{stderr}");
    let (code, stdout, _) = run(&portway, "diff portway.yaml");
    assert_eq!((code, stdout.as_str()), (Some(0), "portway.yaml: changes nothing\n"));
    assert_eq!(portway.status().await["generation"], 1, "a diff changes nothing");

    // The watcher sees the save as well, and sometimes first: then it is for the next service to be new.
    let is_first = |attempt: usize| {
        let text = fs::read_to_string(portway.directory().join("new.yaml")).unwrap();
        fs::write(portway.file(), text.replace("thumbs", &format!("thumbs-{attempt}"))).unwrap();
        let (code, stdout, stderr) = run(&portway, "reload");
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("takes effect at the next start") || stdout.starts_with("unchanged"), "{stderr}");
        stdout.starts_with("applied generation") && stdout.contains(&format!("+ service thumbs-{attempt}"))
    };
    assert!((0..20).any(is_first), "no reload out of 20 was faster than the watcher and said what changed");
    let status = portway.status().await;
    assert_eq!((status["needs_restart"][0].as_str(), status["workers"].as_u64()), (Some("workers"), Some(2)));

    portway.write("services: { web: {} }\n");
    let (code, _, stderr) = run(&portway, "reload");
    assert!(code == Some(1) && stderr.contains("portway.yaml:"), "{stderr}");
    let (code, _, stderr) = run(&portway, &format!("reload --admin {}", portway.admin));
    assert!(
        code == Some(1)
            && stderr.contains("portway.yaml:")
            && stderr.contains(&format!("generation {} stays", status["generation"])),
        "{stderr}"
    );
    let kinds: Vec<_> = portway.events().await;
    assert!(kinds.contains(&"config_applied".to_owned()) && kinds.contains(&"config_rejected".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn a_start_with_a_bad_file_fails() {
    let mut portway = Portway::spawn(Launch { yaml: "services: { web: {} }", ..Launch::default() });
    assert_eq!(portway.wait_exit(PATIENCE).await.code(), Some(1));
}

/// A short form of N1: saves of a listener, a route and a backend under load on keep-alive connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    let _turn = crate::support::whole_machine().await;
    let (one, two) = (Origin::hello("ok").await, Origin::hello("ok").await);
    let portway = Portway::start(&services(&[("/", one.address)])).await;
    let load = Load { requests: 100_000, connections: 16, ..Load::get(portway.address, "/") }.start();
    let other = free_address();
    for round in 0..30 {
        let origin = if round % 2 == 0 { &two } else { &one };
        let listen = match round % 3 {
            0 => format!("listen: [\"{}\", \"{other}\"]\n", portway.address),
            _ => format!("listen: \"{}\"\n", portway.address),
        };
        apply(&portway, &format!("{listen}{}", services(&[("/", origin.address)]))).await;
    }
    load.stop().await.assert_no_loss();
}

/// A request whose head began before a reload and ended after it is served by the new configuration, whole.
#[tokio::test]
async fn a_request_is_routed_by_what_is_in_effect_when_its_head_is_whole() {
    let (one, two) = (Origin::hello("one").await, Origin::hello("two").await);
    let portway = Portway::start(&services(&[("/", one.address)])).await;
    let mut client = Client::connect(portway.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    portway.wait_metric("portway_connections", &[], 1.0).await;
    apply(&portway, &services(&[("/", two.address)])).await;
    client.send("\r\n").await;
    assert_eq!(client.response().await.text(), "two");
}

/// Beyond the debounce and the harness, a change is live at once.
#[tokio::test]
async fn a_save_is_live_within_two_seconds() {
    let origin = Origin::hello("hi").await;
    let portway = Portway::start(&services(&[("/", origin.address)])).await;
    portway.write(&services(&[("/", origin.address), ("/new", origin.address)]));
    eventually(Duration::from_secs(2), "the new route", || async { portway.get("/new").await.status == 200 }).await;
}

#[tokio::test]
async fn what_is_open_at_a_removed_backend_is_cut_when_its_drain_is_over() {
    let origin = Origin::start(|_| vec![Act::Send(SWITCHED.into()), Act::Echo]).await;
    let other = Origin::hello("other").await;
    let yaml = |address: SocketAddr| format!("services: {{ web: {{ backends: [\"{address}\"], drain: 300ms }} }}");
    let portway = Portway::start(&yaml(origin.address)).await;
    let mut socket = portway.connect().await;
    socket.send(UPGRADE).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101 "));
    apply(&portway, &yaml(other.address)).await;
    socket.send("ping").await;
    assert_eq!(socket.bytes(4).await, b"ping", "it may finish");
    assert_ne!(socket.until_close(PATIENCE).await.1, Ending::StillOpen, "but not for ever");
    assert_eq!(portway.get("/").await.text(), "other");
    portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
}

/// A slip and its correction: nobody is cut, since the backend is the same one again.
#[tokio::test]
async fn a_backend_that_is_back_within_its_drain_keeps_its_connections() {
    let origin = Origin::start(|_| vec![Act::Send(SWITCHED.into()), Act::Echo]).await;
    let yaml = |address: &str| format!("services: {{ web: {{ backends: [\"{address}\"], drain: 1s }} }}");
    let portway = Portway::start(&yaml(&origin.address.to_string())).await;
    let mut socket = portway.connect().await;
    socket.send(UPGRADE).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101 "));
    apply(&portway, &yaml("127.0.0.1:1")).await;
    portway.admin_post("/api/v1/rollback", "").await;
    assert_eq!(socket.until_close(Duration::from_millis(1_500)).await.1, Ending::StillOpen);
    socket.send("ping").await;
    assert_eq!(socket.bytes(4).await, b"ping");
}

#[tokio::test]
async fn the_access_log_moves_changes_and_stops_live() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let portway = Portway::start(&format!("access_log: {{ path: one.log }}\n{service}")).await;
    let lines = |name: &str| fs::read_to_string(portway.directory().join(name)).unwrap_or_default().lines().count();
    portway.get("/").await;
    apply(&portway, &format!("access_log: {{ path: two.log, only: errors }}\n{service}")).await;
    assert_eq!(portway.get("/").await.status, 200);
    let missing = portway.connect().await;
    drop(missing);
    apply(&portway, &format!("access_log: off\n{service}")).await;
    portway.get("/").await;
    apply(&portway, &format!("access_log: {{ path: two.log, format: combined }}\n{service}")).await;
    portway.get("/").await;
    eventually(PATIENCE, "one line in each file", || async { (lines("one.log"), lines("two.log")) == (1, 1) }).await;
    let text = fs::read_to_string(portway.directory().join("two.log")).unwrap();
    assert!(text.contains("\"GET / HTTP/1.1\" 200"), "{text}");
    portway.write(&format!("access_log: {{ path: nowhere/three.log }}\n{service}"));
    let (status, answer) = portway.reload().await;
    assert!(status == 422 && answer["message"].as_str().unwrap().contains("nowhere/three.log"), "{answer}");
}

#[tokio::test]
async fn the_admin_listener_moves_and_changes_its_token_live() {
    let origin = Origin::hello("hi").await;
    let service = services(&[("/", origin.address)]);
    let portway = Portway::start(&service).await;
    let (old, new) = (portway.admin, free_address());
    let status_of = |address: SocketAddr| async move { get(address, "/api/v1/status").await.status };
    apply(&portway, &format!("admin: {{ address: \"{old}\", token: s3cret }}\n{service}")).await;
    assert_eq!(status_of(old).await, 401);
    portway.write(&format!("admin: \"{new}\"\n{service}"));
    eventually(PATIENCE, "the new admin listener", || async { TcpStream::connect(new).await.is_ok() }).await;
    assert_eq!(status_of(new).await, 200);
    eventually(PATIENCE, "the old one to close", || async { TcpStream::connect(old).await.is_err() }).await;

    // To all addresses of the same port, and back to one.
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], new.port()));
    for (address, is_everywhere) in [(format!(":{}", new.port()), true), (new.to_string(), false)] {
        portway.write(&format!("admin: {{ address: \"{address}\", token: s3cret }}\n{service}"));
        let what = format!("the admin listener at {address}");
        let is_there = || async {
            let healthy = |at| async move { said(at, "/healthz").await.is_ok_and(|said| said.contains("200 OK")) };
            (healthy(new).await, healthy(elsewhere).await) == (true, is_everywhere)
        };
        eventually(PATIENCE, &what, is_there).await;
    }
}
