//! The backend's half of the books: one line per event, written before the answer, so that `kill -9` takes nothing away.
//! It promises whole lines, whatever happens to the process. What they mean is the ledger's matter.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::stage::ledger::Executed;
use crate::stage::payload::now_us;

/// Where a backend process writes.
#[derive(Debug)]
pub(crate) struct Writer(File);

/// What a backend wrote, over all of its lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// Requests with an id, in the order of their execution.
    pub(crate) executed: Vec<Executed>,
    /// Messages that no honest proxy sends.
    pub(crate) violations: Vec<String>,
    /// When a client was found to be gone before its answer.
    pub(crate) gone_at_us: Vec<u64>,
    /// Probes of `/healthz`.
    pub(crate) n_probes: usize,
    /// Connections accepted.
    pub(crate) n_connections: usize,
}

impl Writer {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    pub(crate) fn connection(&self) {
        self.line("connection");
    }

    pub(crate) fn executed(&self, id: u64, connection: u64, body: u64) {
        self.line(&format!("executed {id} {connection} {} {body}", now_us()));
    }

    pub(crate) fn violation(&self, what: &str) {
        self.line(&format!("violation {}", what.escape_debug()));
    }

    pub(crate) fn gone(&self) {
        self.line(&format!("gone {}", now_us()));
    }

    pub(crate) fn probe(&self) {
        self.line("probe");
    }

    /// One call, so that lines of one file never mix.
    fn line(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).expect("the backend's book can be written");
    }
}

impl Book {
    /// Reads what the `backend`-th backend wrote; a line that is none is a violation.
    pub(crate) fn read(path: &Path, backend: usize) -> Self {
        let mut book = Book::default();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("connection", _) => book.n_connections += 1,
                ("probe", _) => book.n_probes += 1,
                ("gone", at) => book.gone_at_us.extend(at.parse::<u64>()),
                ("executed", numbers) => match execution(numbers, backend) {
                    Some(executed) => book.executed.push(executed),
                    None => book.violations.push(format!("half a line: {line}")),
                },
                (_, what) => book.violations.push(what.to_owned()),
            }
        }
        book
    }
}

fn execution(numbers: &str, backend: usize) -> Option<Executed> {
    let mut numbers = numbers.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(Executed { id: next()?, connection: next()?, at_us: next()?, body: next()?, backend })
}
