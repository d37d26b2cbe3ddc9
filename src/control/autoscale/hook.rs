//! Carries intents to whoever changes the number of replicas where Portway does not start them itself: a URL, a command, the
//! manager of a Swarm.
//! Promises order, one at a time, that a newer intent takes the place of one which is not on its way, and that nothing
//! is forgotten: what failed is tried again until it works or something else is wanted. A hook is told a number, not a
//! change, so being told twice does no harm.

mod command;
mod swarm;
mod url;

use std::fmt::Display;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::follow::Report;
use crate::config::checked::{Autoscale, Hook, HookWay, Service as Declared, Source, SwarmSource};
use crate::config::quantity::spell_duration;
use crate::control::docker::error::EngineError;
use crate::lifecycle::clock;
use crate::runtime::scale::{Intent, StartFailure};
use crate::runtime::service::Service;
use crate::telemetry::events::Events;

/// Tries of one intent in quick succession: Sablier's figure.
const TRIES: u32 = 5;
/// The pause after the first of them; each further one doubles it: eight seconds in all.
const PAUSE: Duration = Duration::from_millis(500);
/// After those, in between: intents are said once, so one that was given up for good would be wrong until the load changes.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Why a hook did not do what it was told.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no end within {}", spell_duration(*.0))]
    Timeout(Duration),
    #[error("{0} is no address of a hook: write http://host:port/path")]
    Address(String),
    #[error("cannot find {host}: {source}")]
    Unresolved { host: String, source: io::Error },
    #[error("cannot connect to {host}: {words}")]
    Unreachable { host: String, words: String },
    #[error("the connection ended before an answer: {0}")]
    Broken(hyper::Error),
    #[error("it answered {status}{}", quoted(.words))]
    Status { status: u16, words: String },
    #[error("cannot start {program}: {source}. Is it there, and may this user run it?")]
    Unstartable { program: String, source: io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("Swarm service `{0}` has no number of replicas: it is not replicated")]
    NotReplicated(String),
    #[error("{}{}", ending(*.status), quoted(.words))]
    Exit { status: ExitStatus, words: String },
}

fn quoted(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn ending(status: ExitStatus) -> String {
    // `exit status: 3` or `signal: 9 (SIGKILL)`: std's words.
    format!("it ended with {status}")
}

/// What a hook is told: the JSON of the contract.
#[derive(Clone, Debug, Serialize)]
struct Message {
    service: String,
    generation: u64,
    /// Generations count from 1 in each process; this tells the processes apart.
    started: u64,
    current: u32,
    desired: u32,
    reason: String,
    signals: SignalsMessage,
}

#[derive(Clone, Debug, Serialize)]
struct SignalsMessage {
    in_flight: u32,
    rps: f64,
    queue: u32,
    held: u32,
    latency_ms: Option<f64>,
}

impl Message {
    fn new(service: &Service, started: u64, intent: &Intent, report: Report) -> Self {
        let signals = report.signals;
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        Self {
            service: service.name.to_string(),
            generation: intent.generation,
            started,
            current: report.ready,
            desired: intent.desired,
            reason: intent.reason.to_string(),
            signals: SignalsMessage {
                in_flight: signals.in_flight,
                rps: tenths(signals.rps),
                queue: signals.queue,
                held: signals.held,
                latency_ms: signals.latency_ms.map(tenths),
            },
        }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// The same for every try of one intent, and for no other.
    fn key(&self) -> String {
        format!("{}-{}-{}", self.service, self.started, self.generation)
    }
}

/// Who changes the number of replicas.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scaler {
    /// Whoever the user named.
    Hook(Hook),
    /// The manager of a Swarm.
    Swarm(SwarmSource),
}

impl Scaler {
    /// Who is told about `declared`; `None` where Portway itself starts and stops replicas.
    pub(super) fn of(declared: &Declared, autoscale: &Autoscale) -> Option<Self> {
        match &declared.source {
            Source::Backends(_) | Source::Docker(_) => autoscale.hook.clone().map(Scaler::Hook),
            Source::Swarm(source) => Some(Scaler::Swarm(source.clone())),
            Source::Container(_) => None,
        }
    }
}

/// What couriers share.
#[derive(Clone, Debug)]
pub(super) struct Office {
    pub(super) reports: watch::Receiver<Report>,
    pub(super) events: Arc<Events>,
    pub(super) started_unix: u64,
}

/// Carries the intents of one service.
#[derive(Debug)]
pub(super) struct Courier {
    service: Arc<Service>,
    scaler: Scaler,
    office: Office,
    intents: watch::Receiver<Intent>,
    /// Tries that failed since one that did not.
    failed_in_a_row: u32,
}

impl Courier {
    pub(super) fn new(service: &Arc<Service>, scaler: Scaler, office: Office) -> Self {
        let intents = service.group.scale.intents();
        Self { service: service.clone(), scaler, office, intents, failed_in_a_row: 0 }
    }

    /// Carries them for ever, the present one first: a new hook knows nothing yet.
    pub(super) async fn run(mut self) {
        loop {
            let intent = self.intents.borrow_and_update().clone();
            if intent.generation > 0 {
                self.deliver(intent).await;
            }
            if self.intents.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tries until it works, or until what is wanted was delivered instead.
    async fn deliver(&mut self, mut intent: Intent) {
        let mut tries = 0;
        loop {
            match self.tell(&intent).await {
                Ok(()) => return self.note_success(&intent),
                Err(refusal) => {
                    tries += 1;
                    self.note_failure(&intent, tries, &refusal);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause(tries)) => {}
                changed = self.intents.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    intent = self.intents.borrow_and_update().clone();
                    tries = 0;
                }
            }
        }
    }

    async fn tell(&self, intent: &Intent) -> Result<(), Refusal> {
        let report = *self.office.reports.borrow();
        let message = Message::new(&self.service, self.office.started_unix, intent, report);
        match &self.scaler {
            Scaler::Swarm(source) => swarm::scale(source, intent.desired).await,
            Scaler::Hook(Hook { way: HookWay::Url(uri), timeout }) => url::post(uri, &message, *timeout).await,
            Scaler::Hook(Hook { way: HookWay::Command(command), timeout }) => {
                command::run(command, &message, *timeout).await
            }
        }
    }

    fn note_success(&mut self, intent: &Intent) {
        let (service, generation, replicas) = (&self.service.name, intent.generation, intent.desired);
        self.service.group.scale.state().failure = None;
        match std::mem::take(&mut self.failed_in_a_row) {
            0 => tracing::debug!(%service, generation, replicas, "scaler told"),
            failures => {
                tracing::info!(%service, replicas, failures, "scaler works again");
                let fields: [(&str, &dyn Display); 3] =
                    [("service", service), ("replicas", &replicas), ("failures", &failures)];
                self.office.events.push("scaler_recovered", "scaler works again", &fields);
            }
        }
    }

    fn note_failure(&mut self, intent: &Intent, tries: u32, refusal: &Refusal) {
        let (service, replicas) = (&self.service.name, intent.desired);
        self.service.metrics.scaler_failed();
        let is_first = self.failed_in_a_row == 0;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        let words: Arc<str> = format!("{}: {refusal}", self.who()).into();
        // Requests that are held go on waiting while tries follow each other quickly: only then is it a failure to them.
        let n_in_a_row = 1 + tries.saturating_sub(TRIES - 1);
        let failure = StartFailure { at: clock::now(), n_in_a_row, words: words.clone() };
        self.service.group.scale.state().failure = Some(failure);
        if !is_first && tries != TRIES {
            return tracing::debug!(%service, replicas, tries, error = %words, "scaler failed");
        }
        let again = spell_duration(pause(tries));
        tracing::warn!(%service, replicas, tries, error = %words, %again, "scaler failed");
        let fields: [(&str, &dyn Display); 5] =
            [("service", service), ("replicas", &replicas), ("tries", &tries), ("error", &words), ("again_in", &again)];
        self.office.events.push("scaler_failed", "scaler failed", &fields);
    }

    /// Who it is, for people: without its arguments and its query, which may hold a secret.
    fn who(&self) -> String {
        match &self.scaler {
            Scaler::Swarm(source) => format!("swarm service {}", source.service),
            Scaler::Hook(Hook { way: HookWay::Url(uri), .. }) => format!("hook {}", url::shown(uri)),
            Scaler::Hook(Hook { way: HookWay::Command(command), .. }) => {
                format!("hook {}", command.first().map_or("", String::as_str))
            }
        }
    }
}

/// How long to wait after so many tries that failed.
fn pause(tries: u32) -> Duration {
    if tries < TRIES { PAUSE * 2_u32.pow(tries.saturating_sub(1)) } else { LONG_PAUSE }
}

#[cfg(test)]
mod tests;
