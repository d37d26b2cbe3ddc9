//! Every sample of a run and what follows from them: medians, ranges, ratios to HAProxy within the same round.
//! It promises that a ratio compares only samples of one round, minutes apart at most. It formats nothing.

use serde_json::{Value, json};

use crate::contender::{Contender, Who};
use crate::machine;
use crate::options::Options;
use crate::workload::Workload;
use crate::wrk::Counts;

/// One contender under one workload in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) who: Who,
    pub(crate) workload: Workload,
    pub(crate) round: usize,
    pub(crate) counts: Counts,
    /// User and system time of the proxy.
    pub(crate) cpu_seconds: f64,
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / (self.counts.requests.max(1) as f64)
    }
}

/// What one fresh process weighed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// When it answered its first request.
    pub(crate) start_kib: f64,
    /// Per idle connection, right after their requests.
    pub(crate) at_once_kib: f64,
    /// Per idle connection, after a rest.
    pub(crate) rested_kib: f64,
}

/// Median and range over rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) idle_connections: usize,
    pub(crate) rest_seconds: u64,
    pub(crate) contenders: Vec<Contender>,
    /// Requests per second of the fixed-rate workload, once it is known.
    pub(crate) rate: Option<f64>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) memories: Vec<(Who, Memory)>,
}

impl Results {
    pub(crate) fn begin(options: &Options, contenders: &[Contender]) -> Self {
        Self {
            machine: machine::describe(),
            rounds: options.rounds(),
            seconds: options.measured().as_secs(),
            idle_connections: options.idle_connections,
            rest_seconds: options.rest().as_secs(),
            contenders: contenders.to_vec(),
            rate: None,
            samples: Vec::new(),
            memories: Vec::new(),
        }
    }

    /// Workloads with at least one sample, in the order of the table.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let has_sample = |workload: &Workload| self.samples.iter().any(|sample| sample.workload == *workload);
        Workload::ALL.into_iter().filter(has_sample).collect()
    }

    fn of(&self, who: Who, workload: Workload) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.who == who && sample.workload == workload)
    }

    /// Any figure of the samples.
    pub(crate) fn spread(&self, who: Who, workload: Workload, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::over(self.of(who, workload).map(figure).collect())
    }

    /// CPU per request in microseconds.
    pub(crate) fn cpu_us(&self, who: Who, workload: Workload) -> Option<Spread> {
        self.spread(who, workload, Sample::cpu_us)
    }

    /// CPU per request as a multiple of HAProxy's in the same round.
    pub(crate) fn ratio(&self, who: Who, workload: Workload) -> Option<Spread> {
        let in_round = |sample: &Sample| {
            let yardstick = self.of(Who::Haproxy, workload).find(|other| other.round == sample.round)?;
            Some(sample.cpu_us() / yardstick.cpu_us())
        };
        Spread::over(self.of(who, workload).filter_map(in_round).collect())
    }

    /// A figure of the fresh processes.
    pub(crate) fn memory(&self, who: Who, figure: impl Fn(&Memory) -> f64) -> Option<Spread> {
        Spread::over(self.memories.iter().filter(|(of, _)| *of == who).map(|(_, memory)| figure(memory)).collect())
    }

    /// Requests of that workload that did not end in a whole 200.
    pub(crate) fn errors(&self, who: Who, workload: Workload) -> u64 {
        self.of(who, workload).map(|sample| sample.counts.errors).sum()
    }

    /// Half of the most that HAProxy reached with small answers; `None` if it was not measured.
    pub(crate) fn half_of_haproxy(&self) -> Option<f64> {
        let per_second = |sample: &Sample| sample.counts.requests as f64 / sample.counts.seconds;
        Some((self.spread(Who::Haproxy, Workload::Small, per_second)?.median / 2.0).round())
    }

    /// Everything, for other programs.
    pub(crate) fn to_json(&self) -> Value {
        let contender = |c: &Contender| json!({ "name": c.who.name(), "version": c.version });
        let sample = |s: &Sample| {
            json!({
                "contender": s.who.name(), "workload": s.workload.name(), "round": s.round,
                "requests": s.counts.requests, "seconds": s.counts.seconds, "errors": s.counts.errors,
                "cpu_seconds": s.cpu_seconds, "cpu_us_per_request": s.cpu_us(),
                "p50_us": s.counts.p50_us, "p99_us": s.counts.p99_us, "p999_us": s.counts.p999_us,
            })
        };
        let memory = |(who, m): &(Who, Memory)| {
            json!({
                "contender": who.name(), "start_kib": m.start_kib,
                "kib_per_idle_connection": m.at_once_kib, "kib_per_rested_connection": m.rested_kib,
            })
        };
        json!({
            "machine": self.machine, "rounds": self.rounds, "seconds": self.seconds, "rate": self.rate,
            "idle_connections": self.idle_connections, "rest_seconds": self.rest_seconds,
            "contenders": self.contenders.iter().map(contender).collect::<Vec<_>>(),
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            "memory": self.memories.iter().map(memory).collect::<Vec<_>>(),
        })
    }
}

impl Spread {
    fn over(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}
