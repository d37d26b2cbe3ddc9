//! A backend as a process of its own, so that it can be killed, stopped and continued like a real one.
//! It promises that the process ends with the value, and that a command has been obeyed when its call returns.

mod behaviour;
mod book;
mod conversation;
mod serve;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::stage::namespace::Namespace;
use crate::support::{eventually, free_address};

pub(crate) use book::Book;
pub(crate) use serve::run_if_told;

/// Longest start of a backend, on a machine that builds something meanwhile.
const START_MAX: Duration = Duration::from_secs(20);

/// One backend over all of its lives.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Its place in the fleet.
    pub(crate) idx: usize,
    pub(crate) address: SocketAddr,
    service: &'static str,
    book: PathBuf,
    /// Every command so far, for its next life.
    orders: Vec<String>,
    /// The network it lives in, if it is not the host's.
    pub(crate) namespace: Option<Namespace>,
    life: Option<Life>,
}

#[derive(Debug)]
struct Life {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Backend {
    /// Starts one and waits until it listens.
    pub(crate) async fn start(idx: usize, service: &'static str, directory: &Path) -> Self {
        let book = directory.join(format!("{service}-{idx}.book"));
        let (address, orders) = (free_address(), Vec::new());
        let mut backend = Self { idx, address, service, book, orders, namespace: None, life: None };
        backend.revive().await;
        backend
    }

    /// Moves it to a network of its own, which can be cut off; or says why there is none.
    pub(crate) async fn emigrate(&mut self) -> Result<(), String> {
        let namespace = Namespace::make()?;
        self.kill();
        self.address = namespace.address(self.address.port());
        self.namespace = Some(namespace);
        self.revive().await;
        Ok(())
    }

    /// Starts it again, at the same address and with the same behaviour.
    pub(crate) async fn revive(&mut self) {
        // The test runner needs to be told which of its tests is the backend; a bench starts with its own `main`.
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = match &self.namespace {
            // `ip netns exec` replaces itself, so the id of the child is that of the backend.
            Some(_) => Command::new("ip"),
            None => Command::new(&program),
        };
        if let Some(namespace) = &self.namespace {
            command.args(["netns", "exec", &namespace.name]).arg(&program);
        }
        command.args(["--exact", "backend_process", "--ignored", "--nocapture"]);
        command.env(serve::ADDRESS, self.address.to_string());
        command.env(serve::BOOK, &self.book).env(serve::SERVICE, self.service);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        self.life = Some(Life { child, stdin, stdout });
        for order in self.orders.clone() {
            self.obey(&order);
        }
        let address = self.address;
        let is_up = || async move { TcpStream::connect(address).await.is_ok() };
        eventually(START_MAX, &format!("backend {} listening", self.idx), is_up).await;
    }

    /// Changes its behaviour: `mode delay 1000`, `idle 50`, `capacity 10 100`, `health fail`.
    pub(crate) fn tell(&mut self, order: &str) {
        let word = order.split(' ').next().unwrap_or_default();
        self.orders.retain(|earlier| earlier.split(' ').next() != Some(word));
        self.orders.push(order.to_owned());
        if self.life.is_some() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: &str) {
        let life = self.life.as_mut().expect("a backend that is told something lives");
        writeln!(life.stdin, "{order}").expect("a backend reads its orders");
        let mut line = String::new();
        while !line.contains(serve::DONE) {
            line.clear();
            let n = life.stdout.read_line(&mut line).expect("a backend can be heard");
            assert!(n > 0, "backend {} ended at {order:?}", self.idx);
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.life = None;
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn leave(&mut self) {
        self.signal(Signal::TERM);
        let mut life = self.life.take().expect("it lived");
        let ended = tokio::task::spawn_blocking(move || life.child.wait());
        ended.await.expect("no panic").expect("our own child can be waited for");
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(life) = &self.life else { return };
        let pid = i32::try_from(life.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// What it wrote so far.
    pub(crate) fn book(&self) -> Book {
        Book::read(&self.book, self.idx)
    }
}
