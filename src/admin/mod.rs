//! The admin listener: health, metrics, the API and the dashboard, for one operator on the control thread.
//! Promises that GET never changes anything, that a web page from elsewhere can reach none of it, and that every size,
//! count and wait is bounded. It does not know the data plane: what it shows comes through [`StatusSource`].

use std::sync::Arc;

use crate::lifecycle::drain::Trigger;
use crate::lifecycle::readiness::Readiness;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

pub use self::by_hand::{ByHand, Handled, NotThere, ScaleTo, Scaled, Unscalable};
pub use self::reloading::{Answering, KeptGeneration, ReloadAnswer, ReloadResult, Reloading};
pub use self::replicas::{
    ContainerName, LastDecision, PassedOver, ReplicaFailure, ReplicaStatus, SourceKind, SourceStatus,
};
pub use self::server::{BindError, Keys, Server};
pub use self::status::{
    BackendState, BackendStatus, ListenerStatus, ProcessState, RefusedConfig, ServiceStatus, Status, StatusSource,
    Traffic,
};

mod api;
mod by_hand;
mod guard;
mod page;
mod reloading;
mod replicas;
mod server;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;

/// What the admin listener reads and asks.
pub struct Resources {
    /// Listeners, services and backends.
    pub source: Arc<dyn StatusSource>,
    /// `GET /metrics`.
    pub metrics: Arc<Metrics>,
    /// `GET /api/v1/events`.
    pub events: Arc<Events>,
    /// `GET /readyz`, together with `drain`.
    pub readiness: Readiness,
    /// `POST /api/v1/drain` of the process.
    pub drain: Trigger,
    /// `POST /api/v1/{drain,undrain}` of a backend, `POST /api/v1/scale` of a service.
    pub by_hand: Arc<dyn ByHand>,
    /// `POST /api/v1/reload` and `rollback`.
    pub reloading: Arc<dyn Reloading>,
}

impl Resources {
    fn state(&self) -> ProcessState {
        if self.drain.is_requested() {
            ProcessState::Draining
        } else if self.readiness.is_ready() {
            ProcessState::Ready
        } else {
            ProcessState::Starting
        }
    }
}
