//! Portway side by side with the proxies people use instead: `cargo bench --bench peers -- [--quick] [--only …]`.
//! It fetches the real peers, gives all of them the same work and the same features, and measures the CPU each spends
//! per request, interleaved round by round. It decides nothing: the numbers go to a table, a chart and a JSON file.

mod chart;
mod contender;
mod exchange;
mod fetch;
mod idle;
mod machine;
mod open_loop;
mod options;
mod origin;
mod packages;
mod process;
mod report;
mod results;
mod rounds;
mod workload;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use options::Options;
use origin::Origin;
use results::Results;
use rounds::Bench;

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.is_started_by_cargo_bench() {
        println!("the comparison with other proxies takes minutes: start it with `cargo bench --bench peers`");
        return ExitCode::SUCCESS;
    }
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("peers: built without optimisation: use `cargo bench --bench peers`, these figures mean nothing");
    }
    process::end_children_on_signal();
    machine::prepare()?;
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let work = Work::make(&home)?;
    let contenders = fetch::contenders(options, &home);
    anyhow::ensure!(!contenders.is_empty(), "there is nothing to measure");
    let origin = Origin::start(&work.0)?;
    let mut results = Results::begin(options, &contenders);
    let mut bench = Bench { options, contenders: &contenders, origin: &origin, work: &work.0, results: &mut results };
    for workload in options.workloads() {
        bench.run(workload).with_context(|| format!("workload {}", workload.name()))?;
    }
    report::write(&results, &options.out(&home))
}

/// Configurations and logs of one run; removed when it ends.
struct Work(PathBuf);

impl Work {
    fn make(home: &Path) -> anyhow::Result<Self> {
        remove_what_interrupted_runs_left(home);
        let path = home.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

fn remove_what_interrupted_runs_left(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
