//! What a running process tells about itself, as values that become JSON: `GET /api/v1/status`.
//! Promises that fields are added, never renamed or removed. It computes nothing: the source fills it in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::replicas::{ContainerName, PassedOver, ReplicaStatus, SourceStatus};

/// Whoever knows the present state. Called on the control thread, so it may take its time, but must not wait.
pub trait StatusSource: Send + Sync {
    /// All of it, with the given word for the process as a whole.
    fn status(&self, state: ProcessState) -> Status;

    /// The configuration in effect, defaults included, `${VAR}` in place of its value.
    fn config_yaml(&self) -> String;
}

/// A whole process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `0.1.0`.
    pub version: String,
    /// In a word.
    pub state: ProcessState,
    /// Since it was started.
    pub uptime_s: u64,
    /// Number of the configuration in effect.
    pub generation: u64,
    /// Since that configuration took effect.
    pub generation_age_s: u64,
    /// Where it was read from.
    pub config_file: Option<String>,
    /// The generation that was returned to: the file says something else.
    #[serde(default)]
    pub rollback_to: Option<u64>,
    /// What the file says now, if that is wrong and not in effect.
    #[serde(default)]
    pub refused_config: Option<RefusedConfig>,
    /// Keys of the configuration that take effect at the next start only.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Data-plane threads.
    pub workers: usize,
    /// All requests together, those without a route included.
    pub traffic: Traffic,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
    /// In the order of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// A configuration that was read and not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedConfig {
    /// Since it was refused.
    pub age_s: u64,
    /// Its first mistake, in a line.
    pub error: String,
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Not everything is up yet.
    Starting,
    /// Ordinary work.
    Ready,
    /// On its way out.
    Draining,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProcessState::Starting => "starting",
            ProcessState::Ready => "ready",
            ProcessState::Draining => "draining",
        })
    }
}

/// Requests of the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Per second.
    pub req_per_s: f64,
    /// Half of them took no longer; absent without requests.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<f64>,
    /// Share that ended with 5xx, 0 to 1.
    pub error_ratio: f64,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// As configured.
    pub address: String,
    /// `http`.
    pub protocol: String,
    /// Open now.
    pub connections: u64,
    /// Since the start.
    pub accepted: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its key in the configuration.
    pub name: String,
    /// As the user would write them in short.
    pub routes: Vec<String>,
    /// Where its backends come from.
    #[serde(default)]
    pub source: SourceStatus,
    /// How many replicas there should be and are; absent where Portway does not decide that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicaStatus>,
    /// Engines that cannot be spoken to, each with why: what was known of their containers stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines_away: Vec<String>,
    /// Its containers that run and get no requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// Its requests.
    pub traffic: Traffic,
    /// Requests at its backends.
    pub in_flight: u64,
    /// Requests that wait for a free backend.
    pub queue: u64,
    /// How many may wait.
    pub queue_limit: u64,
    /// Further attempts per request of the last seconds, 0 to 1.
    pub retry_ratio: f64,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// What is dialled, or the name that could not be resolved.
    pub address: String,
    /// The container there; absent for an address that somebody wrote down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerName>,
    /// In a word.
    pub state: BackendState,
    /// What keeps it from its whole share, for people: `GET /healthz: 500`, `by hand`.
    #[serde(default)]
    pub why: Option<String>,
    /// Its share of a whole one while it warms up, 0 to 1.
    #[serde(default)]
    pub share: Option<f64>,
    /// Its relative share.
    pub weight: u32,
    /// Requests at it.
    pub in_flight: u64,
    /// Attempts since the start.
    pub requests: u64,
    /// Those it is to blame for.
    pub errors: u64,
    /// Half of the attempts took no longer; absent without attempts.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<f64>,
}

/// Whether a backend takes requests. Of several reasons not to, the one that nothing but a person can end goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It does.
    Ready,
    /// It is at `max_in_flight`.
    Full,
    /// It was ejected, and the next single request decides.
    Probation,
    /// Its answers took it out.
    Ejected,
    /// Its probes fail, or it waits for the first that passes.
    Unhealthy,
    /// It asked to be left alone.
    Leaving,
    /// It was taken out, and finishes what it has.
    Draining,
    /// It was taken out, and has finished.
    Drained,
    /// Its name has no address at the moment.
    Unresolved,
}

impl BackendState {
    /// All of them, in the order in which people want to see them.
    pub const ALL: [BackendState; 9] = [
        BackendState::Ready,
        BackendState::Full,
        BackendState::Probation,
        BackendState::Ejected,
        BackendState::Unhealthy,
        BackendState::Leaving,
        BackendState::Draining,
        BackendState::Drained,
        BackendState::Unresolved,
    ];

    /// Whether it takes requests only if its service has no other backend: the reason may be wrong.
    pub const fn is_doubtful(self) -> bool {
        matches!(self, BackendState::Ejected | BackendState::Unhealthy)
    }
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            BackendState::Ready => "ready",
            BackendState::Full => "full",
            BackendState::Probation => "probation",
            BackendState::Ejected => "ejected",
            BackendState::Unhealthy => "unhealthy",
            BackendState::Leaving => "leaving",
            BackendState::Draining => "draining",
            BackendState::Drained => "drained",
            BackendState::Unresolved => "unresolved",
        })
    }
}

/// A duration as the API gives it: milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}
