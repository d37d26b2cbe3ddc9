//! Everything that a configuration opens or sets beside the snapshot: listeners, limits of the process.
//! It promises that preparing has no effect that outlives a failure, and that committing cannot fail. It decides nothing.

use std::sync::Arc;

use crate::app::listeners::Listeners;
use crate::config::checked::Config;
use crate::control::reload::{self, Commit, EdgeError};
use crate::proxy::capacity::Capacity;

/// The edges of this process.
pub(super) struct Edges {
    pub(super) listeners: Arc<Listeners>,
    pub(super) capacity: Arc<Capacity>,
}

impl reload::Edges for Edges {
    fn prepare(&self, next: &Arc<Config>) -> Result<Commit, EdgeError> {
        let change = self.listeners.prepare(next)?;
        let (listeners, capacity, next) = (self.listeners.clone(), self.capacity.clone(), next.clone());
        Ok(Box::new(move || {
            capacity.configure(next.limits.connections.get());
            listeners.apply(change, &next);
        }))
    }
}
