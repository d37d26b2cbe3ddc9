//! Child processes: started on a core, weighed with their own children, ended whatever happens.
//! It promises that no child outlives this program, on an error, a panic or a signal. It ends nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Children that run now, for the signal handler.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// proc(5): `utime` and `stime` are in ticks of 10 ms on every Linux that matters here.
const TICK: Duration = Duration::from_millis(10);

/// A child; it ends with the value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` on `core`, its output in `log`.
    pub(crate) fn start(core: &str, command: &Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut pinned = Command::new("taskset");
        // taskset replaces itself, so the id of the child is that of the program.
        pinned.args(["-c", core]).arg(command.get_program()).args(command.get_args());
        pinned.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        pinned.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = pinned.spawn().context("cannot start taskset")?;
        register(|children| children.push(child.id()));
        Ok(Self { child })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU time so far, user and system, of the child and its descendants.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().iter().map(|pid| stat_fields(*pid, 11, 2).iter().sum::<u64>()).sum();
        TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Resident memory, in KiB, of the child and its descendants.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.tree().iter().filter_map(|pid| resident_kib(*pid)).sum()
    }

    /// The child and its descendants: nginx works in a second process.
    fn tree(&self) -> Vec<u32> {
        let mut children_of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for pid in all_pids() {
            if let [parent] = stat_fields(pid, 1, 1)[..] {
                children_of.entry(u32::try_from(parent).unwrap_or_default()).or_default().push(pid);
            }
        }
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while next < tree.len() {
            tree.extend(children_of.remove(&tree[next]).unwrap_or_default());
            next += 1;
        }
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree = self.tree();
        send(self.child.id(), Signal::TERM);
        for _ in 0..100 {
            if !self.is_running() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.is_running() {
            tree.iter().for_each(|pid| send(*pid, Signal::KILL));
            self.child.wait().ok();
        }
        register(|children| children.retain(|pid| *pid != self.child.id()));
    }
}

fn register(change: impl FnOnce(&mut Vec<u32>)) {
    change(&mut CHILDREN.lock().unwrap_or_else(PoisonError::into_inner));
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `n` numbers of `/proc/PID/stat`, from the `skip`-th field after the name; none if the process is gone.
fn stat_fields(pid: u32, skip: usize, n: usize) -> Vec<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    after_name.split(' ').skip(skip).take(n).filter_map(|field| field.parse().ok()).collect()
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Ends the children, then this program, when it is interrupted.
pub(crate) fn end_children_on_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        runtime.expect("a runtime for signals").block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        register(|children| children.iter().for_each(|pid| send(*pid, Signal::TERM)));
        std::process::exit(130);
    });
}

/// A port on loopback that nothing listens on now.
///
/// From below the kernel's range for outgoing connections: one of the load's own sockets must not take it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: Mutex<u16> = Mutex::new(10_000);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        *next += 1;
        assert!(*next < 32_000, "no free port on loopback");
        if TcpListener::bind(("127.0.0.1", *next)).is_ok() {
            return *next;
        }
    }
}
