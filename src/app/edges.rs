//! Everything that a configuration opens or sets beside the snapshot: listeners, the access log, the admin listener, limits.
//! It promises that preparing has no effect that outlives a failure, and that committing cannot fail. It decides nothing.

use std::sync::Arc;

use crate::app::StartError;
use crate::app::doors::AdminDoor;
use crate::app::listeners::Listeners;
use crate::config::checked::{self, Config};
use crate::control::reload::{self, Commit, Edge, EdgeError};
use crate::proxy::capacity::Capacity;
use crate::telemetry::access_log::{AccessLog, Prepared};

/// The edges of this process.
pub(super) struct Edges {
    pub(super) listeners: Arc<Listeners>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) log: Arc<AccessLog>,
    pub(super) admin: Arc<AdminDoor>,
}

impl reload::Edges for Edges {
    fn prepare(&self, next: &Arc<Config>) -> Result<Commit, EdgeError> {
        let change = self.listeners.prepare(next).map_err(|error| {
            let is_it = |listener: &checked::Listener| listener.address.to_string() == error.address;
            let idx = next.listeners.iter().position(is_it).unwrap_or(usize::MAX);
            EdgeError { edge: Edge::Listener(idx), message: error.to_string() }
        })?;
        let opened = prepare_log(&self.log, next.access_log.as_ref())
            .map_err(|error| EdgeError { edge: Edge::AccessLog, message: error.to_string() })?;
        let door = self
            .admin
            .prepare(next.admin.as_ref())
            .map_err(|error| EdgeError { edge: Edge::Admin, message: error.to_string() })?;
        let (listeners, capacity, next) = (self.listeners.clone(), self.capacity.clone(), next.clone());
        let (log, admin) = (self.log.clone(), self.admin.clone());
        Ok(Box::new(move || {
            capacity.configure(next.limits.connections.get());
            log.apply(opened);
            listeners.apply(change, &next);
            admin.apply(door);
        }))
    }
}

/// Opens the access log; an error says which.
pub(super) fn prepare_log(log: &AccessLog, next: Option<&checked::AccessLog>) -> Result<Prepared, StartError> {
    log.prepare(next).map_err(|source| {
        let path = next.and_then(|next| next.path.as_ref());
        let path = path.map_or_else(|| "standard output".into(), |path| path.display().to_string());
        StartError::AccessLog { path, source }
    })
}
