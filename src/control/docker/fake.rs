//! A Docker engine for tests: the answers of its API for containers that only exist on paper.
//! It promises to answer as dockerd 20.10 does, and to be cut, frozen, wrong, gone or forgetful on demand. It runs nothing,
//! and it lives on a thread of its own, so that its work is not counted as ours. It names nothing of this crate: a suite of
//! the whole binary takes it in as well.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// An engine on paper; ends when it is dropped.
pub(crate) struct FakeEngine {
    path: PathBuf,
    shared: Arc<Shared>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Fine,
    /// Every question with a 500.
    Failing,
    /// Not at all.
    Frozen,
    /// It is not there.
    Away,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// How often it was asked for one container.
    looks: AtomicU32,
}

struct State {
    mood: Mood,
    /// As `GET /containers/ID/json` shows them, by id.
    containers: BTreeMap<String, Value>,
    listeners: Vec<Sender<String>>,
    /// Events are not told.
    is_forgetful: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { mood: Mood::Fine, containers: BTreeMap::new(), listeners: Vec::new(), is_forgetful: false }
    }
}

impl FakeEngine {
    /// An engine without containers.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portway-engine-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let engine = Self { path: std::env::temp_dir().join(name), shared: Arc::default() };
        engine.listen();
        engine
    }

    fn listen(&self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a socket in the temporary folder");
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.state().mood == Mood::Away {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.path
    }

    pub(crate) fn looks(&self) -> u32 {
        self.shared.looks.load(SeqCst)
    }

    /// Puts a container there that runs, its port 5000 published at `port` of the host, and tells of its start.
    pub(crate) fn run(&self, id: &str, label: (&str, &str), port: u16) {
        let container = json!({
            "Id": id, "Name": format!("/name-{id}"), "Created": "2023-11-14T22:13:20Z",
            "State": {"Status": "running", "Running": true, "ExitCode": 0},
            "Config": {"Image": "my-app", "Labels": {label.0: label.1}},
            "NetworkSettings": {
                "Ports": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}
            }
        });
        self.shared.state().containers.insert(id.to_owned(), container);
        self.tell(id, "start", &json!({}));
    }

    /// Changes what is so, and tells nobody.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.shared.state().containers.get_mut(id).expect("it is there"));
    }

    /// Its process ends.
    pub(crate) fn end(&self, id: &str, exit_code: i64) {
        self.change(id, |container| container["State"] = json!({"Status": "exited", "ExitCode": exit_code}));
        self.tell(id, "die", &json!({"exitCode": exit_code.to_string()}));
    }

    /// It is removed.
    pub(crate) fn remove(&self, id: &str) {
        self.shared.state().containers.remove(id);
        self.tell(id, "destroy", &json!({}));
    }

    /// Tells everybody who listens.
    pub(crate) fn tell(&self, id: &str, action: &str, attributes: &Value) {
        let event = json!({
            "status": action, "id": id, "Type": "container", "Action": action, "scope": "local", "time": 1_700_000_000,
            "Actor": {"ID": id, "Attributes": attributes}
        });
        let mut state = self.shared.state();
        if !state.is_forgetful {
            state.listeners.retain(|listener| listener.send(format!("{event}\n")).is_ok());
        }
    }

    /// From now on it tells of nothing, or of everything again.
    pub(crate) fn forget_events(&self, is_forgetful: bool) {
        self.shared.state().is_forgetful = is_forgetful;
    }

    /// Ends the streams of events.
    pub(crate) fn cut(&self) {
        self.shared.state().listeners.clear();
    }

    /// How many listen to its events.
    pub(crate) fn listeners(&self) -> usize {
        self.shared.state().listeners.len()
    }

    /// Answers otherwise from now on.
    pub(crate) fn be(&self, mood: Mood) {
        let before = std::mem::replace(&mut self.shared.state().mood, mood);
        if mood == Mood::Away {
            let _ = UnixStream::connect(&self.path); // ends its thread
            let _ = std::fs::remove_file(&self.path);
            self.cut();
        } else if before == Mood::Away {
            self.listen();
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.be(Mood::Away);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: UnixStream) {
        let Some(target) = read_target(&mut stream) else { return };
        let mood = self.state().mood;
        match mood {
            Mood::Fine => {}
            Mood::Failing => return answer(&mut stream, 500, &json!({"message": "it is one of those days"})),
            Mood::Frozen | Mood::Away => {
                // Until the other side has had enough.
                let _ = stream.read(&mut [0]);
                return;
            }
        }
        let path = target.split('?').next().unwrap_or_default();
        if path == "/events" {
            let (sender, events) = channel();
            self.state().listeners.push(sender);
            stream_events(&mut stream, &events);
        } else if path == "/containers/json" {
            let list: Vec<Value> = self.state().containers.values().map(summary).collect();
            answer(&mut stream, 200, &list.into());
        } else if let Some(id) = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")) {
            self.looks.fetch_add(1, SeqCst);
            let found = self.state().containers.get(id).cloned();
            match found {
                Some(container) => answer(&mut stream, 200, &container),
                None => answer(&mut stream, 404, &json!({"message": format!("No such container: {id}")})),
            }
        } else {
            answer(&mut stream, 404, &json!({"message": "page not found"}));
        }
    }
}

/// The target of a request's first line; the rest of its head is read and forgotten.
fn read_target(stream: &mut UnixStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    head.split(' ').nth(1).map(str::to_owned)
}

fn answer(stream: &mut UnixStream, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

fn stream_events(stream: &mut UnixStream, events: &Receiver<String>) {
    let head = "HTTP/1.1 200 -\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut sent = stream.write_all(head.as_bytes());
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    while sent.is_ok() {
        let Ok(event) = events.recv() else { break };
        sent = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    let _ = stream.write_all(b"0\r\n\r\n");
}

/// As the list shows a container.
fn summary(container: &Value) -> Value {
    let state = &container["State"];
    let status = match state["Status"].as_str() {
        Some("exited") => format!("Exited ({}) 3 seconds ago", state["ExitCode"]),
        _ => match state["Health"]["Status"].as_str() {
            Some("starting") => "Up 3 seconds (health: starting)".to_owned(),
            Some(health) => format!("Up 3 seconds ({health})"),
            None => "Up 3 seconds".to_owned(),
        },
    };
    let mut ports = Vec::new();
    for (inside, bindings) in container["NetworkSettings"]["Ports"].as_object().into_iter().flatten() {
        let inside: u16 = inside.trim_end_matches("/tcp").parse().expect("a TCP port");
        for binding in bindings.as_array().into_iter().flatten() {
            let public: u16 = binding["HostPort"].as_str().and_then(|port| port.parse().ok()).expect("a port");
            ports.push(json!({"IP": binding["HostIp"], "PrivatePort": inside, "PublicPort": public, "Type": "tcp"}));
        }
    }
    json!({
        "Id": container["Id"], "Names": [container["Name"]], "Image": container["Config"]["Image"], "ImageID": "sha256:aa",
        "Command": "flask run", "Created": 1_700_000_000, "Ports": ports, "Labels": container["Config"]["Labels"],
        "State": state["Status"], "Status": status, "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": container["NetworkSettings"]["Networks"]}, "Mounts": []
    })
}
