//! Child processes and what the kernel says about them.
//! It promises that a child ends with its value. It ends nothing that it did not start.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

/// A child that is asked to end, then made to, when the value goes.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends `signal` if the child still runs.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(pid_of(self.pid()), signal).ok();
        }
    }

    /// `None` while it runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child can be waited for")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        for _ in 0..100 {
            if self.exit_status().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A directory of its own for one test, removed with the value unless the test failed.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static STEP: AtomicU32 = AtomicU32::new(0);
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&home).expect("cargo's own directory can be written");
        loop {
            let name = format!("run-{}-{}", std::process::id(), STEP.fetch_add(1, Ordering::Relaxed));
            let path = home.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Process ids come again, in a namespace of their own above all.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).ok();
        }
    }
}

fn pid_of(pid: u32) -> Pid {
    let raw = i32::try_from(pid).expect("process ids fit");
    Pid::from_raw(raw).expect("a child's id is never zero")
}

/// CPU time, user and system, that a process has used so far. proc(5): fields 14 and 15 of `stat`, in ticks of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit(')').next().expect("split gives at least one part");
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
}

/// Open file descriptors of a process.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Sockets connected to `peer`, by whomever, that it has closed and their owner has not: `CLOSE_WAIT`.
pub(crate) fn n_half_closed(peer: SocketAddr) -> usize {
    n_in_state(peer, "08")
}

/// Connections to `peer` that were closed on this side first, and hold their local port for a minute: `TIME_WAIT`.
pub(crate) fn n_lingering(peer: SocketAddr) -> usize {
    n_in_state(peer, "06")
}

/// proc(5): the third and fourth columns of `net/tcp` are the remote address and the state.
fn n_in_state(peer: SocketAddr, state: &str) -> usize {
    let port = format!(":{:04X}", peer.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let is_one = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(2).is_some_and(|remote| remote.ends_with(&port)) && words.get(3) == Some(&state)
    };
    table.lines().filter(|line| is_one(line)).count()
}

/// Lets this test program hold some thousand sockets: the usual soft limit is 1,024.
pub(crate) fn raise_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |max| max.min(65_536));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).ok();
}

/// Sets the soft limit of another process's open files and gives the limit from before.
pub(crate) fn limit_files(pid: u32, current: Option<u64>) -> Option<u64> {
    let before = prlimit(Some(pid_of(pid)), Resource::Nofile, Rlimit { current, maximum: maximum_of(pid) });
    before.expect("the limits of our own child can be set").current
}

fn maximum_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("proc(5) names it");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok())
}
