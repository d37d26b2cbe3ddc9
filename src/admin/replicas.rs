//! Where the backends of a service come from, and how many there should be: the part of its status about containers.
//! Promises that fields are added, never renamed or removed. It counts nothing: the source of the status fills it in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::checked::Source;

/// Where backends come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The key of the configuration.
    pub kind: SourceKind,
    /// What tells them from others, for people: `label app=orders`, `image acme/thumbs:1.4`. Empty for addresses.
    pub description: String,
}

impl SourceStatus {
    /// What the configuration says, as people would.
    pub fn of(source: &Source) -> Self {
        let (kind, description) = match source {
            Source::Backends(_) => (SourceKind::Backends, String::new()),
            Source::Docker(docker) => {
                let label = match &docker.label.value {
                    Some(value) => format!("label {}={value}", docker.label.key),
                    None => format!("label {}", docker.label.key),
                };
                (SourceKind::Docker, label)
            }
            Source::Container(container) => (SourceKind::Container, format!("image {}", container.template.image)),
            Source::Swarm(swarm) => (SourceKind::Swarm, format!("Swarm service {}", swarm.service)),
        };
        Self { kind, description }
    }
}

/// The key under which the configuration names the source of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Addresses in the file.
    #[default]
    Backends,
    /// Containers that somebody else starts.
    Docker,
    /// Containers that Portway runs.
    Container,
    /// Tasks of a Swarm service.
    Swarm,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SourceKind::Backends => "backends",
            SourceKind::Docker => "docker",
            SourceKind::Container => "container",
            SourceKind::Swarm => "swarm",
        })
    }
}

/// A container as the engine and as people call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerName {
    /// Never reused.
    pub id: String,
    /// `thumbs-1`.
    pub name: String,
}

/// A container that runs and is no backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// `thumbs-1`.
    pub container: String,
    /// For people: `no answer yet on port 5000`.
    pub why: String,
}

/// How many replicas a service should have, has, and waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// So many there should be.
    pub desired: u32,
    /// They take requests.
    pub ready: u32,
    /// They were started and have not answered yet.
    pub starting: u32,
    /// They finish what they have.
    pub draining: u32,
    /// Requests that wait for a first replica.
    pub held: u32,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// A person's word, above the formula's.
    pub pinned: Option<u32>,
    /// What changed `desired` last, and why.
    pub last_decision: Option<LastDecision>,
    /// How long requests waited for the last first replica.
    #[serde(default)]
    pub last_cold_start_ms: Option<f64>,
    /// What keeps replicas from starting, until one starts.
    pub failure: Option<ReplicaFailure>,
}

/// A change of the number wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDecision {
    /// RFC 3339, UTC.
    pub at: String,
    /// Since then.
    pub age_s: u64,
    /// How many there were to be before.
    pub from: u32,
    /// And after.
    pub to: u32,
    /// For people: `1 request held`.
    pub because: String,
}

/// Starts that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaFailure {
    /// Since the last of them.
    pub age_s: u64,
    /// In a row.
    pub times: u32,
    /// What failed, and the container's last words.
    pub words: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::{AddressFrom, DockerSource, LabelMatch, Reach};

    #[test]
    fn a_source_is_described_as_people_would() {
        let docker = DockerSource {
            label: LabelMatch { key: "app".to_owned(), value: Some("orders".to_owned()) },
            port: std::num::NonZeroU16::MIN,
            reach: Reach { address: AddressFrom::Auto, network: None },
            endpoints: vec![],
        };
        let told = SourceStatus::of(&Source::Docker(docker));
        assert_eq!((told.kind, told.description.as_str()), (SourceKind::Docker, "label app=orders"));
        assert_eq!(SourceStatus::of(&Source::Backends(vec![])), SourceStatus::default());
    }
}
