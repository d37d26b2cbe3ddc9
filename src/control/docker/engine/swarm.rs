//! What is asked of an engine that manages a Swarm: how many replicas a service has, to have another number, its tasks.
//! Promises that a change takes place only if nobody else has changed the service in between. Everything about the service
//! but the number goes back as it came.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, ServiceSpec, Task, TaskState,
};
use bollard::query_parameters::{InspectServiceOptions, ListTasksOptions, UpdateServiceOptions};

use super::{Engine, QUICK};
use crate::control::docker::error::EngineError;
use crate::control::docker::facts::{ContainerFacts, ContainerHealth, ContainerState, LABEL_SWARM_SERVICE};

/// A Swarm service as it was at one moment.
#[derive(Clone, Debug)]
pub struct SwarmService {
    /// How many replicas it is to have; `None` if it has one on each node, or runs to an end.
    pub replicas: Option<u64>,
    id: String,
    version: u64,
    spec: ServiceSpec,
}

impl Engine {
    /// The service called `name`.
    pub async fn swarm_service(&self, name: &str) -> Result<SwarmService, EngineError> {
        let docker = self.docker()?;
        let found = self.within(QUICK, docker.inspect_service(name, None::<InspectServiceOptions>)).await?;
        let garbled = || self.garbled("a service without an id, a version or a specification");
        let version = found.version.and_then(|version| version.index).ok_or_else(garbled)?;
        let (id, spec) = (found.id.ok_or_else(garbled)?, found.spec.ok_or_else(garbled)?);
        let replicated = spec.mode.as_ref().and_then(|mode| mode.replicated.as_ref());
        // A service without a number has one replica.
        let replicas = replicated.map(|replicated| replicated.replicas.and_then(|n| n.try_into().ok()).unwrap_or(1));
        Ok(SwarmService { replicas, id, version, spec })
    }

    /// Lets `service` have so many replicas. Fails if it is not what it was any more.
    pub async fn set_swarm_replicas(&self, service: &SwarmService, replicas: u32) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let mut spec = service.spec.clone();
        if let Some(replicated) = spec.mode.as_mut().and_then(|mode| mode.replicated.as_mut()) {
            replicated.replicas = Some(replicas.into());
        }
        let version = i32::try_from(service.version).map_err(|_| self.garbled("a version that is too large"))?;
        let options = UpdateServiceOptions { version, ..UpdateServiceOptions::default() };
        self.within(QUICK, docker.update_service(&service.id, spec, options, None)).await.map(drop)
    }

    /// The tasks of the service called `name` that ought to run, as the containers that they are, on all nodes. Only what a
    /// task publishes on its own node is known of its ports.
    pub async fn swarm_tasks(&self, name: &str) -> Result<Vec<ContainerFacts>, EngineError> {
        let docker = self.docker()?;
        let only = |value: &str| vec![value.to_owned()];
        let filters =
            HashMap::from([("service".to_owned(), only(name)), ("desired-state".to_owned(), only("running"))]);
        let tasks = self.within(QUICK, docker.list_tasks(Some(ListTasksOptions { filters: Some(filters) }))).await?;
        let mut nodes: HashMap<String, Option<IpAddr>> = HashMap::new();
        let mut found = Vec::new();
        for task in tasks {
            let node = task.node_id.clone().unwrap_or_default();
            if !nodes.contains_key(&node) {
                nodes.insert(node.clone(), self.node_address(&node).await);
            }
            found.extend(facts(name, &task, nodes.get(&node).copied().flatten()));
        }
        Ok(found)
    }

    /// Where other machines reach the node called `id`; `None` if nobody knows.
    async fn node_address(&self, id: &str) -> Option<IpAddr> {
        let docker = self.docker().ok().filter(|_| !id.is_empty())?;
        let node = self.within(QUICK, docker.inspect_node(id)).await.ok()?;
        node.status?.addr?.parse().ok()
    }
}

/// `None` for a task that has no container yet.
fn facts(service: &str, task: &Task, node: Option<IpAddr>) -> Option<ContainerFacts> {
    let status = task.status.as_ref()?;
    let container = status.container_status.as_ref()?.container_id.as_ref().filter(|id| !id.is_empty())?;
    let name = match task.slot {
        Some(slot) => format!("{service}.{slot}"),
        None => service.to_owned(),
    };
    let image = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref()).and_then(|spec| spec.image.clone());
    Some(ContainerFacts {
        id: container.as_str().into(),
        name: name.into(),
        image: image.unwrap_or_default(),
        image_id: String::new(),
        labels: BTreeMap::from([(LABEL_SWARM_SERVICE.to_owned(), service.to_owned())]),
        state: if status.state == Some(TaskState::RUNNING) { ContainerState::Running } else { ContainerState::Created },
        // A task whose container has a health check runs only once that has passed.
        health: ContainerHealth::None,
        networks: BTreeMap::new(),
        published: node.map(|node| published(task, node)).unwrap_or_default(),
        created_unix: 0,
        exit_code: None,
    })
}

/// What the task publishes on its own node; what the whole Swarm publishes leads to any task.
fn published(task: &Task, node: IpAddr) -> BTreeMap<u16, Vec<SocketAddr>> {
    let ports = task.status.iter().filter_map(|status| status.port_status.as_ref()?.ports.as_ref()).flatten();
    let own = ports.filter(|port| {
        port.publish_mode == Some(EndpointPortConfigPublishModeEnum::HOST)
            && port.protocol.is_none_or(|protocol| protocol == EndpointPortConfigProtocolEnum::TCP)
    });
    let mut published: BTreeMap<u16, Vec<SocketAddr>> = BTreeMap::new();
    for port in own {
        let number = |port: Option<i64>| port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if let (Some(inside), Some(outside)) = (number(port.target_port), number(port.published_port)) {
            published.entry(inside).or_default().push(SocketAddr::new(node, outside));
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(task: serde_json::Value) -> Option<ContainerFacts> {
        let task = serde_json::from_value(task).unwrap();
        facts("shop", &task, Some("10.0.0.7".parse().unwrap()))
    }

    #[test]
    fn a_task_is_reached_at_the_port_that_it_publishes_on_its_own_node() {
        let found = read(serde_json::json!({
            "ID": "t1", "Slot": 2, "NodeID": "n1", "DesiredState": "running",
            "Spec": { "ContainerSpec": { "Image": "shop:1" } },
            "Status": {
                "State": "running",
                "ContainerStatus": { "ContainerID": "c1", "PID": 7, "ExitCode": 0 },
                "PortStatus": { "Ports": [
                    { "Protocol": "tcp", "TargetPort": 8000, "PublishedPort": 32_768, "PublishMode": "host" },
                    { "Protocol": "udp", "TargetPort": 8000, "PublishedPort": 32_769, "PublishMode": "host" },
                    { "Protocol": "tcp", "TargetPort": 9000, "PublishedPort": 9000, "PublishMode": "ingress" },
                ] },
            },
        }))
        .unwrap();
        assert_eq!((&*found.id, &*found.name, found.image.as_str()), ("c1", "shop.2", "shop:1"));
        assert_eq!(found.state, ContainerState::Running);
        assert_eq!(found.published, BTreeMap::from([(8000, vec!["10.0.0.7:32768".parse().unwrap()])]));
    }

    #[test]
    fn a_task_that_waits_for_a_node_is_nobody_and_one_that_starts_takes_no_requests() {
        assert_eq!(read(serde_json::json!({ "ID": "t1", "Status": { "State": "pending" } })), None);
        let starting =
            serde_json::json!({ "Status": { "State": "starting", "ContainerStatus": { "ContainerID": "c" } } });
        assert!(!read(starting).unwrap().takes_requests());
    }
}
