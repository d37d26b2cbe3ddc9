//! Closed-loop load from `wrk`, and what it counted.
//! It promises that anything but a whole 200 of the right length is an error in the result. It does not time the proxy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::workload::Workload;

/// What one run of `wrk` counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) errors: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

/// Head sizes that an honest response has; the rest of the average must be the body.
const HEAD_BYTES_MIN: f64 = 60.0;
const HEAD_BYTES_MAX: f64 = 900.0;

/// Loads `port` for `duration` from the core that this program is on.
pub(crate) fn run(workload: Workload, port: u16, duration: Duration, work: &Path) -> anyhow::Result<Counts> {
    let script = work.join(format!("{}.lua", workload.name()));
    fs::write(&script, workload.lua())?;
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{}", workload.connections()), &format!("-d{}s", duration.as_secs().max(1))]);
    command.args(["--timeout", "10s", "-s"]).arg(&script);
    command.arg(format!("http://127.0.0.1:{port}{}", workload.path()));
    let output = command.output().context("wrk is missing. Try: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("COUNTS "));
    let line = line.with_context(|| format!("wrk counted nothing: {}", String::from_utf8_lossy(&output.stderr)))?;
    let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [requests, micros, bytes, connect, read, write, status, timeout, p50_us, p99_us, p999_us] = numbers[..] else {
        anyhow::bail!("wrk printed {line:?}");
    };
    let mut errors = connect + read + write + status + timeout;
    let body = workload.response_bytes() as f64;
    let head = bytes / requests.max(1.0) - body;
    // Responses that were under way at the end are in the bytes but not in the requests.
    let head_max = HEAD_BYTES_MAX + body * workload.connections() as f64 / requests.max(1.0);
    if requests > 0.0 && !(HEAD_BYTES_MIN..=head_max).contains(&head) {
        eprintln!("peers: responses of {} have {head:.0} bytes besides the body: counted as errors", workload.name());
        errors += requests;
    }
    Ok(Counts { requests: requests as u64, seconds: micros / 1e6, errors: errors as u64, p50_us, p99_us, p999_us })
}
