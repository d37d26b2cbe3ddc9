//! The rounds: each contender in turn gets the same work, and the next round begins with another one.
//! It promises that whatever drifts (heat, neighbours) hits all of them alike. It does not average: results do.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::contender::{Contender, Running, Who};
use crate::exchange::Connection;
use crate::idle::{self, Plan};
use crate::open_loop;
use crate::options::Options;
use crate::origin::Origin;
use crate::results::{Results, Sample};
use crate::workload::{Kind, Workload};
use crate::wrk::{self, Counts};

/// Fills pools and caches before a measurement.
const WARM_UP: Duration = Duration::from_secs(1);
/// The kernel and the proxy put away what the load has left.
const SETTLE: Duration = Duration::from_millis(100);
/// When HAProxy is not there to tell its maximum.
const RATE_DEFAULT: f64 = 5_000.0;

/// One run of the bench.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) contenders: &'a [Contender],
    pub(crate) origin: &'a Origin,
    pub(crate) work: &'a Path,
    pub(crate) results: &'a mut Results,
}

impl Bench<'_> {
    pub(crate) fn run(&mut self, workload: Workload) -> anyhow::Result<()> {
        match workload.kind() {
            Kind::Idle => self.weigh(),
            Kind::Closed => self.load(workload),
            Kind::Open => {
                let half = self.options.rate.or_else(|| self.results.half_of_haproxy());
                let half = match half {
                    Some(half) => half,
                    None => self.probe_haproxy()?.unwrap_or(RATE_DEFAULT),
                };
                self.results.rate = Some(half);
                self.load(workload)
            }
        }
    }

    fn load(&mut self, workload: Workload) -> anyhow::Result<()> {
        let is_in = |c: &&Contender| c.who.takes(workload);
        let start = |c: &Contender| c.start(self.origin, self.work);
        let running: Vec<Running> = self.contenders.iter().filter(is_in).map(start).collect::<Result<_, _>>()?;
        for round in 0..self.options.rounds() {
            let (later, sooner) = running.split_at(round % running.len().max(1));
            for contender in sooner.iter().chain(later) {
                let sample = self.sample(contender, workload, round)?;
                self.results.samples.push(sample);
                self.say(contender.who, workload, round);
            }
        }
        Ok(())
    }

    fn sample(&self, running: &Running, workload: Workload, round: usize) -> anyhow::Result<Sample> {
        let check_before = check(running, workload);
        self.put_on(running, workload, WARM_UP)?;
        thread::sleep(SETTLE);
        let cpu_before = running.process.cpu();
        let mut counts = self.put_on(running, workload, self.options.measured())?;
        thread::sleep(SETTLE);
        let cpu_seconds = (running.process.cpu() - cpu_before).as_secs_f64();
        for result in [check_before, check(running, workload)] {
            if let Err(error) = result {
                eprintln!("peers: {} under {}: {error}", running.who.title(), workload.name());
                counts.errors += 1;
            }
        }
        Ok(Sample { who: running.who, workload, round, counts, cpu_seconds })
    }

    fn put_on(&self, running: &Running, workload: Workload, duration: Duration) -> anyhow::Result<Counts> {
        match workload.kind() {
            Kind::Open => {
                let per_second = self.results.rate.unwrap_or(RATE_DEFAULT);
                Ok(open_loop::run(workload, running.port, per_second, duration)?)
            }
            _ => wrk::run(workload, running.port, duration, self.work),
        }
    }

    fn weigh(&mut self) -> anyhow::Result<()> {
        let plan = Plan { connections: self.options.idle_connections, rest: self.options.rest() };
        // Memory hardly varies, and each weighing takes a process and a rest of its own: a third of the rounds.
        for _ in 0..self.options.rounds().div_ceil(3) {
            for contender in self.contenders.iter().filter(|c| c.who.takes(Workload::Idle)) {
                let memory = idle::weigh(contender, self.origin, self.work, plan);
                let memory = memory.with_context(|| contender.who.title())?;
                eprintln!(
                    "idle    {:14} {:7.0} KiB at start, {:6.2} KiB per connection, {:6.2} rested",
                    contender.who.name(),
                    memory.start_kib,
                    memory.at_once_kib,
                    memory.rested_kib
                );
                self.results.memories.push((contender.who, memory));
            }
        }
        Ok(())
    }

    /// Half of HAProxy's maximum when the workload that would have told was left out.
    fn probe_haproxy(&self) -> anyhow::Result<Option<f64>> {
        let Some(haproxy) = self.contenders.iter().find(|c| c.who == Who::Haproxy) else { return Ok(None) };
        let running = haproxy.start(self.origin, self.work)?;
        let counts = wrk::run(Workload::Small, running.port, WARM_UP * 2, self.work)?;
        Ok(Some((counts.requests as f64 / counts.seconds / 2.0).round()))
    }

    fn say(&self, who: Who, workload: Workload, round: usize) {
        let Some(sample) = self.results.samples.last() else { return };
        let counts = sample.counts;
        let marked = if counts.errors > 0 { format!("  {} ERRORS", counts.errors) } else { String::new() };
        eprintln!(
            "{:7} {:14} round {:2}  {:8.1} µs CPU/request  {:8.0} requests/s  p50 {:6.0} p99 {:6.0} µs{marked}",
            workload.name(),
            who.name(),
            round + 1,
            sample.cpu_seconds * 1e6 / counts.requests.max(1) as f64,
            counts.requests as f64 / counts.seconds,
            counts.p50_us,
            counts.p99_us,
        );
    }
}

/// A few answers looked at closely: status, length, whole.
fn check(running: &Running, workload: Workload) -> std::io::Result<()> {
    let request = workload.request(&format!("127.0.0.1:{}", running.port));
    for _ in 0..4 {
        Connection::open(running.port)?.ask(&request, workload.response_bytes())?;
    }
    Ok(())
}
