//! What may be asked of one run.
//! A complete run writes to `benches/results`; anything less goes under `target/`, so that a quick look never replaces
//! published figures. It knows no measurement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use crate::workload::Workload;

#[derive(Debug, Parser)]
#[command(name = "peers", about = "Portway side by side with HAProxy, nginx, Envoy, Traefik and Caddy")]
pub(crate) struct Options {
    /// A smoke run: 2 rounds of 1 s.
    #[arg(long)]
    quick: bool,
    /// Rounds per workload. Medians and ranges are over rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measured seconds per contender and round, after a warm-up.
    #[arg(long)]
    seconds: Option<u64>,
    /// Contenders to run, by name: portway, portway-log, haproxy, nginx, envoy, traefik, caddy.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Workloads to run, by name.
    #[arg(long, value_delimiter = ',', value_enum)]
    workloads: Vec<Workload>,
    /// Where the table, the chart and the JSON file go.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The Portway binary. Default: the one that cargo built along with this bench.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_portway"))]
    pub(crate) portway: PathBuf,
    /// Requests per second of the fixed-rate workload. Default: half of what HAProxy reaches.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Connections of the idle workload.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) idle_connections: usize,
    /// Cargo says this when it runs benches.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// `cargo test --benches` starts this program too, without `--bench`.
    pub(crate) fn is_started_by_cargo_bench(&self) -> bool {
        self.bench
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 9 }).max(1)
    }

    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 5 }).max(1))
    }

    /// How long the connections of the idle workload rest before they are weighed a second time.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 10 })
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        match self.workloads.is_empty() {
            true => Workload::ALL.to_vec(),
            false => Workload::ALL.into_iter().filter(|workload| self.workloads.contains(workload)).collect(),
        }
    }

    pub(crate) fn out(&self, home: &Path) -> PathBuf {
        let is_complete = !self.quick && self.only.is_empty() && self.workloads.is_empty();
        let default = match is_complete {
            true => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/results"),
            false => home.join("results"),
        };
        self.out.clone().unwrap_or(default)
    }
}
