//! What an engine says of a container, reduced to what anybody here looks at.
//! It promises to hold no more than was said: whatever is missing is `None` or empty. It talks to no engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Names the service that a container of ours is a replica of.
pub const LABEL_SERVICE: &str = "portway.service";
/// Names whose it is: two instances on one engine leave each other's containers alone.
pub const LABEL_PROJECT: &str = "portway.project";
/// What a Swarm puts on the containers of a service's tasks.
pub const LABEL_SWARM_SERVICE: &str = "com.docker.swarm.service.name";
/// Tells what it was made from: a replica with another value is replaced.
pub const LABEL_TEMPLATE: &str = "portway.template";

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// What the engine calls it: 64 hexadecimal digits, never reused.
    pub id: Arc<str>,
    /// What people call it, without the leading slash.
    pub name: Arc<str>,
    /// What it was started from, as it was named then.
    pub image: String,
    /// What that name meant then: `sha256:…`; empty if it is not known.
    pub image_id: String,
    /// Its own and its image's.
    pub labels: BTreeMap<String, String>,
    /// In a word.
    pub state: ContainerState,
    /// What its `HEALTHCHECK` says.
    pub health: ContainerHealth,
    /// Its networks by name, each with its address there if it has one.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// TCP ports inside, each with where on the host it is published.
    pub published: BTreeMap<u16, Vec<SocketAddr>>,
    /// Since 1970, in seconds.
    pub created_unix: u64,
    /// How its process ended, if it did.
    pub exit_code: Option<i64>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It was made and not started.
    Created,
    /// Its process runs.
    Running,
    /// It was told to end, by a signal or by `docker stop`, and still runs.
    Stopping,
    /// It is frozen.
    Paused,
    /// Between an end and the next start.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process has ended.
    Exited,
    /// The engine could not remove it.
    Dead,
}

/// What a container's own `HEALTHCHECK` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerHealth {
    /// It has none.
    None,
    /// It has not said anything yet.
    Starting,
    /// All is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl ContainerFacts {
    /// Whether requests may go there as far as the engine knows: it runs, and nobody has told it to end.
    pub fn takes_requests(&self) -> bool {
        self.state == ContainerState::Running && self.health != ContainerHealth::Unhealthy
    }
}
