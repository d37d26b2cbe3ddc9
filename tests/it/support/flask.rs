//! Real Flask services: gunicorn from PyPI in a virtual environment of its own, made once under `target/`.
//! It promises processes that answer, each saying in `x-backend` which one it is. It does not hide why it could not.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::process::{Guarded, Scratch};
use super::{eventually, free_address};

/// The app of issue #2, and a field that says which process answered.
const APP: &str = r#"
import os
from flask import Flask

app = Flask(__name__)

@app.route('/api', methods=['GET'])
def api():
    return "Hello, World!"

@app.after_request
def say_who(response):
    response.headers['X-Backend'] = os.environ['BACKEND']
    return response
"#;

/// gunicorn's worker class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// One request at a time, a new connection for each.
    Sync,
    /// Threads with keep-alive of 2 s.
    Gthread,
}

/// An interpreter that has gunicorn and Flask.
#[derive(Clone, Debug)]
pub(crate) struct Flask {
    python: PathBuf,
}

/// Running gunicorn processes; they end with the value.
#[derive(Debug)]
pub(crate) struct Fleet {
    processes: Vec<Guarded>,
    scratch: Scratch,
    /// Where each listens.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Flask {
    /// The interpreter, or why there is none.
    pub(crate) async fn find() -> Result<Self, String> {
        static FOUND: OnceCell<Result<Flask, String>> = OnceCell::const_new();
        let find = || async { tokio::task::spawn_blocking(environment).await.map_err(|e| e.to_string())? };
        FOUND.get_or_init(find).await.clone()
    }

    /// The interpreter.
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// `n` gunicorn processes with one worker each, all of them answering.
    pub(crate) async fn start(&self, n: usize, worker: Worker) -> Fleet {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("app.py"), APP).expect("the scratch directory can be written");
        let addresses: Vec<_> = (0..n).map(|_| free_address()).collect();
        let processes = addresses.iter().map(|address| self.spawn(*address, worker, &scratch.0)).collect();
        let fleet = Fleet { processes, scratch, addresses };
        for address in &fleet.addresses {
            let what = format!("gunicorn answering on {address}; its log is in {:?}", fleet.scratch.0);
            let is_up = || async { tokio::net::TcpStream::connect(address).await.is_ok() };
            eventually(Duration::from_secs(30), &what, is_up).await;
            assert_eq!(super::get(*address, "/api").await.text(), "Hello, World!");
        }
        fleet
    }

    fn spawn(&self, address: SocketAddr, worker: Worker, directory: &Path) -> Guarded {
        let log = File::create(directory.join(format!("gunicorn-{}.log", address.port())));
        let mut command = Command::new(&self.python);
        command.args(["-m", "gunicorn", "--workers", "1", "--bind", &address.to_string()]);
        match worker {
            Worker::Sync => command.args(["--worker-class", "sync"]),
            Worker::Gthread => command.args(["--worker-class", "gthread", "--threads", "8"]),
        };
        command.arg("app:app").current_dir(directory).env("BACKEND", address.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("the scratch directory can be written"));
        Guarded(command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }
}

impl Fleet {
    /// The addresses as a YAML list.
    pub(crate) fn yaml(&self) -> String {
        format!("{:?}", self.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>())
    }
}

/// Makes the virtual environment unless it is there. It is made beside its place and renamed, so that a run which is
/// interrupted, or two at a time, leave no half environment.
fn environment() -> Result<Flask, String> {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let place = home.join("flask-environment");
    let flask = Flask { python: place.join("bin/python") };
    if flask.python.exists() {
        return Ok(flask);
    }
    let draft = home.join(format!("flask-environment-{}", std::process::id()));
    let python = draft.join("bin/python");
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&draft)).and_then(|()| {
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["gunicorn==27.0.1", "flask==3.1.3"]))
    });
    if let Err(reason) = made {
        fs::remove_dir_all(&draft).ok();
        return Err(reason);
    }
    if fs::rename(&draft, &place).is_err() {
        fs::remove_dir_all(&draft).ok(); // Another run was faster.
    }
    Ok(flask)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last_line = text.trim().lines().last().unwrap_or("no message");
    Err(format!("{command:?} ended with {}: {last_line}", output.status))
}
