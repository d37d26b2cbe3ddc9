//! What an engine says of one container that a service wants. A value; it decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::control::docker::facts::{ContainerFacts, ContainerState};
use crate::control::docker::reach::Unreachable;

/// A container that the service wants, whatever it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) container: Arc<ContainerFacts>,
    /// Counts its processes.
    pub(super) life: u64,
    pub(super) standing: Standing,
}

impl Finding {
    /// Why it gets no requests although its process is there, so that people look for it.
    pub(super) fn set_aside(&self) -> Option<&str> {
        use ContainerState::{Paused, Restarting, Running, Stopping};
        match &self.standing {
            Standing::Out(why) if matches!(self.container.state, Paused | Restarting | Running | Stopping) => Some(why),
            _ => None,
        }
    }
}

/// What is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Requests may go there once it answers.
    At(SocketAddr),
    /// They could if it could be reached.
    Unreachable(Unreachable),
    /// They may not: `paused`.
    Out(String),
}
