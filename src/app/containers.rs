//! What a process knows of containers: which engines it watches, who is to be removed, whose containers are its own.
//! It promises that nothing is opened before a service needs it. It decides nothing.

use std::path::Path;
use std::sync::Arc;

use crate::app::App;
use crate::control::discovery::notes::Notes;
use crate::control::discovery::{self, Discovery};
use crate::control::docker;
use crate::control::docker::retiring::Retiring;
use crate::control::docker::watch::Hub;
use crate::control::replicas::{self, Replicas};
use crate::telemetry::events::Events;

/// What control loops that deal with containers share.
pub(super) struct Containers {
    pub(super) hub: Arc<Hub>,
    pub(super) retiring: Arc<Retiring>,
    pub(super) notes: Arc<Notes>,
    pub(super) project: String,
}

impl Containers {
    pub(super) fn new(events: &Arc<Events>, file: Option<&Path>) -> Self {
        Self {
            hub: Arc::new(Hub::new(events.clone())),
            retiring: Arc::default(),
            notes: Arc::default(),
            project: docker::project(file),
        }
    }
}

impl App {
    /// Finds the containers of services. The process is not ready before those are found that run already.
    pub(super) fn discovery(&self) -> Discovery {
        let Containers { hub, retiring, notes, project } = &self.containers;
        let parts = discovery::Parts {
            registry: self.registry.clone(),
            hub: hub.clone(),
            retiring: retiring.clone(),
            events: self.events.clone(),
            notes: notes.clone(),
            project: project.clone(),
        };
        Discovery::new(parts, self.readiness.block("containers"))
    }

    /// Makes and ends the containers of services that Portway runs.
    pub(super) fn replicas(&self) -> Replicas {
        let Containers { hub, retiring, project, .. } = &self.containers;
        Replicas::new(replicas::Parts {
            hub: hub.clone(),
            retiring: retiring.clone(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            project: project.as_str().into(),
        })
    }
}
