//! The two cores: core 0 for the proxy, core 1 for everything else.
//! It promises that this program, its load generators and the origin stay off the proxy's core. It tunes no kernel.

use std::fs;
use std::process::Command;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The core of the contender that is measured.
pub(crate) const PROXY_CORE: &str = "0";
/// The core of load generator and origin.
pub(crate) const LOAD_CORE: &str = "1";

/// Descriptors that 5,000 idle connections need on either side, with room.
const FILES_NEEDED: u64 = 16_000;

/// Moves this program to its core and lets it and its children hold enough sockets.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", LOAD_CORE, &pid]).output();
    let pinned = pinned.context("taskset is missing. Try: apt-get install util-linux")?;
    anyhow::ensure!(pinned.status.success(), "cannot run on core {LOAD_CORE}: this bench needs two cores");
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|max| max < FILES_NEEDED) {
        eprintln!("peers: the limit of open files is below {FILES_NEEDED}: fewer idle connections will fit");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// For the report: `AMD EPYC 7B13, 2 cores, Linux 6.18`.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let n_cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(cores);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: Vec<&str> = release.trim().split(['.', '-']).take(2).collect();
    format!("{model}, {n_cores} cores, Linux {}", release.join("."))
}
