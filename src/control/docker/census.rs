//! Everything that is known of the containers of one engine at one moment: what the watcher publishes.
//! It promises that an engine which is away changes nothing but the word that says so. It is a value and asks nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::EngineError;
use super::facts::ContainerFacts;

/// The containers of one engine.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// All of them, whatever they do; by age, and by id among those of one second.
    pub containers: Vec<Arc<ContainerFacts>>,
    /// Whether they are those of now.
    pub connection: Connection,
    /// Where ports are reached that are published on every address of the engine's host; `None` until it is known.
    pub host: Option<IpAddr>,
    /// How often a process of theirs was seen to end, by id; those that never ended are not in it.
    pub(super) ends: HashMap<Arc<str>, u64>,
}

/// Whether an engine is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Nothing has been heard of it yet.
    #[default]
    Opening,
    /// What is known is of now.
    Open,
    /// What is known is what was known then.
    Lost(EngineError),
}

impl Census {
    /// Whether it was ever spoken to: only then is a container that is not among them not there.
    pub fn is_known(&self) -> bool {
        self.host.is_some()
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Option<&Arc<ContainerFacts>> {
        self.containers.iter().find(|container| &*container.id == id)
    }

    /// Counts the processes that the container has had: who was ready in its last life is not yet so in this one.
    pub fn life(&self, id: &str) -> u64 {
        self.ends.get(id).copied().unwrap_or(0)
    }
}
