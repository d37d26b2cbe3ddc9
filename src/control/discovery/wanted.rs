//! Which containers a service wants, and what their engines say of them. Pure.
//! It promises that two services with the same labels share nothing but the containers. It asks no engine.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::Found;
use super::finding::{Finding, Standing};
use crate::config::checked::{self, Endpoint, LabelMatch, Reach, Source};
use crate::control::docker::census::Census;
use crate::control::docker::facts::{
    ContainerFacts, ContainerHealth, ContainerState, LABEL_PROJECT, LABEL_SERVICE, LABEL_SWARM_SERVICE,
};
use crate::control::docker::own::OwnId;
use crate::control::docker::reach::Vantage;
use crate::control::docker::retiring::Retiring;

/// What a service wants of the engines that it names.
pub(super) struct Wanted<'a> {
    labels: Labels<'a>,
    port: NonZeroU16,
    reach: &'a Reach,
    endpoints: Vec<&'a Endpoint>,
}

enum Labels<'a> {
    Match(&'a LabelMatch),
    Ours { service: &'a str, project: &'a str },
    TasksOf(&'a str),
}

impl<'a> Wanted<'a> {
    /// What `service` wants; `None` if its backends are no containers.
    pub(super) fn of(service: &'a checked::Service, project: &'a str) -> Option<Self> {
        match &service.source {
            Source::Docker(source) => Some(Self {
                labels: Labels::Match(&source.label),
                port: source.port,
                reach: &source.reach,
                endpoints: source.endpoints.iter().collect(),
            }),
            Source::Container(source) => Some(Self {
                labels: Labels::Ours { service: service.name.as_str(), project },
                port: source.template.port,
                reach: &source.reach,
                endpoints: vec![&source.endpoint],
            }),
            Source::Swarm(source) => Some(Self {
                labels: Labels::TasksOf(&source.service),
                port: source.port,
                reach: &source.reach,
                endpoints: vec![&source.endpoint],
            }),
            Source::Backends(_) => None,
        }
    }

    /// What the engines say.
    pub(super) fn among(
        &self,
        censuses: &HashMap<Endpoint, Arc<Census>>,
        own: Option<&OwnId>,
        retiring: &Retiring,
    ) -> Found {
        let mut found = Found::new();
        for census in self.endpoints.iter().filter_map(|endpoint| censuses.get(endpoint)) {
            let Some(host) = census.host else { continue };
            let vantage = Vantage { own: own.and_then(|own| own.among(census)), host };
            for container in census.containers.iter().filter(|container| self.is_meant(container)) {
                let standing = match out(container, retiring) {
                    Some(why) => Standing::Out(why),
                    None => match vantage.address(container, self.port, self.reach) {
                        Ok(address) => Standing::At(address),
                        Err(unreachable) => Standing::Unreachable(unreachable),
                    },
                };
                let life = census.life(&container.id);
                found.insert(container.id.clone(), Finding { container: container.clone(), life, standing });
            }
        }
        found
    }

    fn is_meant(&self, container: &ContainerFacts) -> bool {
        let has = |key: &str, value: &str| container.labels.get(key).is_some_and(|found| found == value);
        match &self.labels {
            Labels::Match(LabelMatch { key, value: Some(value) }) => has(key, value),
            Labels::Match(LabelMatch { key, value: None }) => container.labels.contains_key(key),
            Labels::TasksOf(service) => has(LABEL_SWARM_SERVICE, service),
            Labels::Ours { service, project } => has(LABEL_SERVICE, service) && has(LABEL_PROJECT, project),
        }
    }
}

/// Why no requests may go there.
fn out(container: &ContainerFacts, retiring: &Retiring) -> Option<String> {
    if retiring.is_retiring(&container.id) {
        return Some("it is being replaced or removed".to_owned());
    }
    let word = match container.state {
        ContainerState::Running if container.health == ContainerHealth::Unhealthy => "its HEALTHCHECK says unhealthy",
        ContainerState::Running => return None,
        ContainerState::Created => "it was not started",
        ContainerState::Stopping => "it was told to end",
        ContainerState::Paused => "it is paused",
        ContainerState::Restarting => {
            return Some(
                container
                    .exit_code
                    .map_or("it restarts".to_owned(), |code| format!("it restarts after exit code {code}")),
            );
        }
        ContainerState::Removing => "it is being removed",
        ContainerState::Dead => "it is dead",
        ContainerState::Exited => {
            return Some(container.exit_code.map_or("it has ended".to_owned(), |code| format!("it ended with {code}")));
        }
    };
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn container(change: impl FnOnce(&mut ContainerFacts)) -> ContainerFacts {
        let mut facts = ContainerFacts {
            id: "a".into(),
            name: "web".into(),
            image: String::new(),
            image_id: String::new(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            state: ContainerState::Running,
            health: ContainerHealth::None,
            networks: BTreeMap::new(),
            published: BTreeMap::new(),
            created_unix: 0,
            exit_code: None,
        };
        change(&mut facts);
        facts
    }

    #[test]
    fn who_runs_may_take_requests_and_nobody_else() {
        use ContainerState::{Created, Dead, Exited, Paused, Removing, Restarting, Running, Stopping};
        let retiring = Retiring::default();
        let why = |state, health| {
            let container = container(|facts| (facts.state, facts.health) = (state, health));
            assert_eq!(out(&container, &retiring).is_none(), container.takes_requests(), "{state:?} {health:?}");
            out(&container, &retiring)
        };
        for state in [Created, Running, Stopping, Paused, Restarting, Removing, Exited, Dead] {
            why(state, ContainerHealth::None);
            why(state, ContainerHealth::Unhealthy);
        }
        assert_eq!(why(Running, ContainerHealth::Starting), None, "our own probe decides");
        assert_eq!(why(Stopping, ContainerHealth::None).as_deref(), Some("it was told to end"));
        let looping = container(|facts| (facts.state, facts.exit_code) = (Restarting, Some(3)));
        assert_eq!(out(&looping, &retiring).as_deref(), Some("it restarts after exit code 3"));
        let container = container(|_| ());
        retiring.retire(container.id.clone());
        assert!(out(&container, &retiring).is_some());
    }

    #[test]
    fn a_label_is_meant_with_its_value_or_with_any() {
        let meant = |key: &str, value: Option<&str>| {
            let label = LabelMatch { key: key.to_owned(), value: value.map(str::to_owned) };
            let reach = Reach { address: checked::AddressFrom::Auto, network: None };
            let port = NonZeroU16::new(5000).unwrap();
            let wanted = Wanted { labels: Labels::Match(&label), port, reach: &reach, endpoints: Vec::new() };
            wanted.is_meant(&container(|_| ()))
        };
        assert!(meant("app", Some("web")));
        assert!(meant("app", None));
        assert!(!meant("app", Some("we")));
        assert!(!meant("ap", None));
    }
}
