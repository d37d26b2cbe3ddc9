//! From what an engine's API says to facts and events. Pure.
//! It promises to take whatever comes: what is missing, unknown or nonsense is left out, and one strange container hides no
//! other. It asks nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings,
    EventMessage, EventMessageTypeEnum, HealthStatusEnum, PortMap, PortSummary, PortSummaryTypeEnum,
};

use super::facts::{ContainerFacts, ContainerHealth, ContainerState};

/// What the events of an engine are narrowed down to: health checks alone make three others per run.
pub(super) const EVENTS: [&str; 14] = [
    "create",
    "start",
    "restart",
    "health_status",
    "kill",
    "stop",
    "pause",
    "unpause",
    "die",
    "destroy",
    "rename",
    "update",
    "connect",
    "disconnect",
];

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its full id.
    pub(super) container: Arc<str>,
    pub(super) what: What,
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It is there, or another than it was: to be looked at.
    Changed,
    /// Its process runs: to be looked at.
    Started,
    /// It was sent a signal; `None` if the engine does not say which.
    Signalled(Option<i32>),
    /// It was stopped, or is about to be.
    Stopped,
    Paused,
    Unpaused,
    /// Its process has ended.
    Ended(Option<i64>),
    /// It was removed.
    Gone,
    Health(ContainerHealth),
    /// It is on this network no more.
    Disconnected(String),
}

/// What a look at a single container tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// As the list tells it, and more exact.
    pub facts: ContainerFacts,
    /// What its image wants to be stopped with, if it says so.
    pub stop_signal: Option<i32>,
    /// When its present process began, as the engine writes it: another word is another process.
    pub started: Option<String>,
}

/// A container of the list.
pub(super) fn listed(summary: ContainerSummary) -> Option<ContainerFacts> {
    let status = summary.status.unwrap_or_default();
    Some(ContainerFacts {
        id: summary.id?.into(),
        name: name_among(&summary.names.unwrap_or_default()),
        image: summary.image.unwrap_or_default(),
        image_id: summary.image_id.unwrap_or_default(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        state: summary.state.and_then(state_in_list).unwrap_or(ContainerState::Dead),
        health: health_in_status(&status),
        networks: networks(summary.network_settings.and_then(|settings| settings.networks)),
        published: published_in_list(&summary.ports.unwrap_or_default()),
        created_unix: summary.created.and_then(|secs| secs.try_into().ok()).unwrap_or(0),
        exit_code: exit_code_in_status(&status),
    })
}

/// A container by itself.
pub(super) fn inspected(response: ContainerInspectResponse) -> Option<Inspected> {
    let (state, config) = (response.state.unwrap_or_default(), response.config.unwrap_or_default());
    let settings = response.network_settings.unwrap_or_default();
    let word = state.status.and_then(state_of).unwrap_or(ContainerState::Dead);
    let has_ended = matches!(word, ContainerState::Exited | ContainerState::Dead | ContainerState::Restarting);
    let facts = ContainerFacts {
        id: response.id?.into(),
        name: response.name.unwrap_or_default().trim_start_matches('/').into(),
        image: config.image.unwrap_or_default(),
        image_id: response.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: word,
        health: state.health.and_then(|health| health.status).map_or(ContainerHealth::None, health_of),
        networks: networks(settings.networks),
        published: published(settings.ports.unwrap_or_default()),
        created_unix: response.created.as_deref().map_or(0, unix_seconds),
        exit_code: state.exit_code.filter(|_| has_ended),
    };
    let has_process = matches!(word, ContainerState::Running | ContainerState::Paused);
    let started = state.started_at.filter(|_| has_process);
    Some(Inspected { facts, stop_signal: config.stop_signal.as_deref().and_then(signal_number), started })
}

/// What an event means for a container; `None` if nothing.
pub(super) fn event(message: EventMessage) -> Option<Event> {
    let (action, actor) = (message.action?, message.actor?);
    let attributes = actor.attributes.unwrap_or_default();
    if message.typ == Some(EventMessageTypeEnum::NETWORK) {
        let what = match action.as_str() {
            "connect" => What::Changed,
            "disconnect" => What::Disconnected(attributes.get("name")?.clone()),
            _ => return None,
        };
        return Some(Event { container: attributes.get("container")?.as_str().into(), what });
    }
    if message.typ != Some(EventMessageTypeEnum::CONTAINER) {
        return None;
    }
    let what = match action.as_str() {
        // A `restart` follows the `die` and the `start` that it is made of.
        "create" | "rename" | "update" | "restart" => What::Changed,
        "start" => What::Started,
        "kill" => What::Signalled(attributes.get("signal").and_then(|text| signal_number(text))),
        "stop" => What::Stopped,
        "pause" => What::Paused,
        "unpause" => What::Unpaused,
        "die" => What::Ended(attributes.get("exitCode").and_then(|code| code.parse().ok())),
        "destroy" => What::Gone,
        other => What::Health(health_named(other.strip_prefix("health_status:")?.trim())?),
    };
    Some(Event { container: actor.id?.as_str().into(), what })
}

/// `SIGTERM`, `TERM`, `15` are 15.
pub(super) fn signal_number(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        // As Docker counts them: systemd in a container is stopped with SIGRTMIN+3.
        return Some(34 + offset.trim_start_matches('+').parse::<i32>().unwrap_or(0));
    }
    Some(match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ABRT" => 6,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "ALRM" => 14,
        "TERM" => 15,
        "WINCH" => 28,
        "PWR" => 30,
        number => number.parse().ok()?,
    })
}

/// A container has a name per link to it as well, such as `/web/db`.
fn name_among(names: &[String]) -> Arc<str> {
    let mut own = names.iter().map(|name| name.trim_start_matches('/'));
    own.find(|name| !name.contains('/')).unwrap_or_default().into()
}

fn networks(endpoints: Option<HashMap<String, EndpointSettings>>) -> BTreeMap<String, Option<IpAddr>> {
    let address = |endpoint: &EndpointSettings| {
        let texts = [&endpoint.ip_address, &endpoint.global_ipv6_address];
        texts.into_iter().flatten().find_map(|text| text.parse().ok())
    };
    endpoints.unwrap_or_default().into_iter().map(|(name, endpoint)| (name, address(&endpoint))).collect()
}

fn published_in_list(ports: &[PortSummary]) -> BTreeMap<u16, Vec<SocketAddr>> {
    let mut published: BTreeMap<u16, Vec<SocketAddr>> = BTreeMap::new();
    for port in ports.iter().filter(|port| matches!(port.typ, None | Some(PortSummaryTypeEnum::TCP))) {
        let places = published.entry(port.private_port).or_default();
        let ip = port.ip.as_deref().map_or(Some(IpAddr::from([0, 0, 0, 0])), |ip| ip.parse().ok());
        if let (Some(ip), Some(public)) = (ip, port.public_port.filter(|public| *public != 0)) {
            places.push(SocketAddr::new(ip, public));
        }
    }
    in_order(published)
}

fn published(ports: PortMap) -> BTreeMap<u16, Vec<SocketAddr>> {
    let mut published: BTreeMap<u16, Vec<SocketAddr>> = BTreeMap::new();
    for (inside, bindings) in ports {
        let Some(inside) = inside.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else { continue };
        let places = published.entry(inside).or_default();
        for binding in bindings.unwrap_or_default() {
            let ip = match binding.host_ip.as_deref() {
                None | Some("") => Some(IpAddr::from([0, 0, 0, 0])),
                Some(ip) => ip.parse().ok(),
            };
            let port = binding.host_port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            places.extend(ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port)));
        }
    }
    in_order(published)
}

/// The list and the single look give the same places in another order.
fn in_order(mut published: BTreeMap<u16, Vec<SocketAddr>>) -> BTreeMap<u16, Vec<SocketAddr>> {
    for places in published.values_mut() {
        places.sort_unstable();
        places.dedup();
    }
    published
}

fn state_in_list(state: ContainerSummaryStateEnum) -> Option<ContainerState> {
    Some(match state {
        ContainerSummaryStateEnum::CREATED => ContainerState::Created,
        ContainerSummaryStateEnum::RUNNING => ContainerState::Running,
        ContainerSummaryStateEnum::STOPPING => ContainerState::Stopping,
        ContainerSummaryStateEnum::PAUSED => ContainerState::Paused,
        ContainerSummaryStateEnum::RESTARTING => ContainerState::Restarting,
        ContainerSummaryStateEnum::REMOVING => ContainerState::Removing,
        ContainerSummaryStateEnum::EXITED => ContainerState::Exited,
        ContainerSummaryStateEnum::DEAD => ContainerState::Dead,
        ContainerSummaryStateEnum::EMPTY => return None,
    })
}

fn state_of(state: ContainerStateStatusEnum) -> Option<ContainerState> {
    Some(match state {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING => ContainerState::Running,
        ContainerStateStatusEnum::STOPPING => ContainerState::Stopping,
        ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
        ContainerStateStatusEnum::RESTARTING => ContainerState::Restarting,
        ContainerStateStatusEnum::REMOVING => ContainerState::Removing,
        ContainerStateStatusEnum::EXITED => ContainerState::Exited,
        ContainerStateStatusEnum::DEAD => ContainerState::Dead,
        ContainerStateStatusEnum::EMPTY => return None,
    })
}

fn health_of(health: HealthStatusEnum) -> ContainerHealth {
    match health {
        HealthStatusEnum::STARTING => ContainerHealth::Starting,
        HealthStatusEnum::HEALTHY => ContainerHealth::Healthy,
        HealthStatusEnum::UNHEALTHY => ContainerHealth::Unhealthy,
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => ContainerHealth::None,
    }
}

fn health_named(word: &str) -> Option<ContainerHealth> {
    Some(match word {
        "starting" => ContainerHealth::Starting,
        "healthy" => ContainerHealth::Healthy,
        "unhealthy" => ContainerHealth::Unhealthy,
        _ => return None,
    })
}

/// The list says it in prose only: `Up 2 minutes (health: starting)`. Newer engines also as a word, which says the same.
fn health_in_status(status: &str) -> ContainerHealth {
    let word = status.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or("");
    health_named(word.trim_start_matches("health: ")).unwrap_or(ContainerHealth::None)
}

/// `Exited (137) 4 seconds ago`.
fn exit_code_in_status(status: &str) -> Option<i64> {
    let rest = status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("))?;
    rest.split_once(')')?.0.parse().ok()
}

fn unix_seconds(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().ok().and_then(|at| at.as_second().try_into().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
