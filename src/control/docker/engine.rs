//! One engine and what is asked of it.
//! Promises that every call ends within a time, that opening needs nobody there, and that errors are written for people.
//! Each call has a connection of its own: nothing has to be mended when an engine comes back. It remembers nothing.
//!
//! Calls carry no version of the API: an engine then speaks its own newest one, and both ends of the field refuse any pinned
//! one (20.10 knows none above 1.41, 29 none below 1.44).

mod swarm;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, NetworkConnectRequest, NetworkingConfig, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, EventsOptions, InspectContainerOptions, ListContainersOptions,
    LogsOptions, RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt, future, stream};
use tokio::time::timeout;

pub use self::swarm::SwarmService;
use super::error::{EngineError, EngineErrorKind};
use super::facts::ContainerFacts;
use super::place::Place;
pub use super::reading::Inspected;
use super::reading::{self, Event};
use crate::config::checked::{Endpoint, Template};

/// For what an engine knows by heart. A busy one takes a second.
const QUICK: Duration = Duration::from_secs(10);
/// For what makes it work: unpacking layers, setting up networks, ending processes.
const WORK: Duration = Duration::from_secs(60);
/// A pull of which nothing was heard for so long is stuck.
const PULL_SILENCE: Duration = Duration::from_secs(60);
/// A whole pull: an hour of a thin line.
const PULL_ALL: Duration = Duration::from_secs(3600);
/// How much of a container's last words is read.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// bollard counts in seconds and stops counting at the head of an answer: our own limit holds for all of it.
const BEYOND_OURS_SECS: u64 = 24 * 3600;

/// An engine.
#[derive(Clone, Debug)]
pub struct Engine {
    place: Arc<Place>,
}

/// Which containers of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All, whatever they do.
    All,
    /// All of those with each of these labels: `app`, or `app=orders`.
    Labelled(Vec<String>),
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct NewContainer<'a> {
    /// What people will call it.
    pub name: &'a str,
    /// What it is made from.
    pub template: &'a Template,
    /// All of its labels: ours, and those of the template that hold.
    pub labels: BTreeMap<String, String>,
    /// Where its port is to be reached.
    pub publish: Publish,
    /// From SIGTERM to SIGKILL when somebody else stops it.
    pub stop_timeout: Duration,
}

/// Where the port of a new container is published; the engine chooses a free one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Nowhere: it is reached on a network.
    Nowhere,
    /// On this address of the engine's host.
    On(IpAddr),
}

impl Publish {
    /// On the host itself, for nobody but the host.
    pub const LOOPBACK: Self = Self::On(IpAddr::V4(Ipv4Addr::LOCALHOST));
    /// For other machines too.
    pub const ANYWHERE: Self = Self::On(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
}

impl Engine {
    /// The engine at `endpoint`. Nothing is opened before something is asked.
    pub fn open(endpoint: &Endpoint) -> Self {
        Self { place: Arc::new(Place::of(endpoint)) }
    }

    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The containers there are, in no certain order.
    pub async fn containers(&self, which: Which) -> Result<Vec<ContainerFacts>, EngineError> {
        let filters = match which {
            Which::All => None,
            Which::Labelled(labels) => Some(HashMap::from([("label".to_owned(), labels)])),
        };
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let docker = self.docker()?;
        let found = self.within(QUICK, docker.list_containers(Some(options))).await?;
        Ok(found.into_iter().filter_map(reading::listed).collect())
    }

    /// A look at the container that `container` names, or is the id of.
    pub async fn inspect(&self, container: &str) -> Result<Inspected, EngineError> {
        let docker = self.docker()?;
        let response = self.within(QUICK, docker.inspect_container(container, None::<InspectContainerOptions>)).await?;
        reading::inspected(response).ok_or_else(|| self.garbled("a container without an id"))
    }

    /// What happens to containers from now on; ends when the engine does. Nothing is asked before it is first polled.
    pub(super) fn events(&self) -> impl Stream<Item = Result<Option<Event>, EngineError>> + Send + Unpin + use<> {
        let docker = match self.docker() {
            Ok(docker) => docker,
            Err(error) => return stream::once(future::ready(Err(error))).boxed(),
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type".to_owned(), words(&["container", "network"])),
            ("event".to_owned(), words(&reading::EVENTS)),
        ]);
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let place = self.place.clone();
        let messages = docker.events(Some(options)).filter_map(move |message| {
            future::ready(match message {
                Ok(message) => Some(Ok(reading::event(message))),
                // One event that we do not understand is no reason to lose the others: the next look at everything
                // finds what it was about.
                Err(Error::JsonDataError { .. }) => Some(Ok(None)),
                Err(error) => Some(Err(EngineError::of(&place, &error))),
            })
        });
        messages.boxed()
    }

    /// Makes a container and joins it to its networks; its id. It does not run yet.
    pub async fn create(&self, new: &NewContainer<'_>) -> Result<Arc<str>, EngineError> {
        let docker = self.docker()?;
        let options = CreateContainerOptions { name: Some(new.name.to_owned()), ..CreateContainerOptions::default() };
        let created = self.within(WORK, docker.create_container(Some(options), body(new))).await?;
        // Engines before 25 take one network at a time.
        for network in new.template.networks.iter().skip(1) {
            let request = NetworkConnectRequest { container: created.id.clone(), endpoint_config: None };
            if let Err(error) = self.within(WORK, docker.connect_network(network, request)).await {
                // Without all of its networks it is not what was asked for; what is left over is named like the next one.
                let _ = self.remove(&created.id).await;
                return Err(error);
            }
        }
        Ok(created.id.into())
    }

    /// Starts it. To start one that runs is no error.
    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        self.within(WORK, docker.start_container(container, None::<StartContainerOptions>)).await
    }

    /// Asks it to end, kills it after `patience`, and waits for its end. To stop one that has ended is no error.
    pub async fn stop(&self, container: &str, patience: Duration) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let seconds = i32::try_from(patience.as_secs().max(1)).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..StopContainerOptions::default() };
        self.within(patience + WORK, docker.stop_container(container, Some(options))).await
    }

    /// Removes it with its anonymous volumes, whatever it does. To remove one that is gone is no error.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.within(WORK, docker.remove_container(container, Some(options))).await {
            Err(error) if error.kind == EngineErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// At most `n` last lines of what it printed, oldest first, without their ends.
    pub async fn last_lines(&self, container: &str, n: usize) -> Result<Vec<String>, EngineError> {
        let docker = self.docker()?;
        let options = LogsOptions { stdout: true, stderr: true, tail: n.to_string(), ..LogsOptions::default() };
        let mut output = Box::pin(docker.logs(container, Some(options)));
        let read = async {
            let mut text = Vec::new();
            while let Some(chunk) = output.next().await {
                text.extend_from_slice(chunk.map(LogOutput::into_bytes)?.as_ref());
                if text.len() > LOG_BYTES_MAX {
                    break;
                }
            }
            Ok(text)
        };
        let text = self.within(QUICK, read).await?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        Ok(lines[lines.len().saturating_sub(n)..].iter().map(|line| (*line).to_owned()).collect())
    }

    /// Fetches an image. Takes as long as the registry does; one that falls silent is given up.
    pub async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let options = CreateImageOptions { from_image: Some(with_tag(image)), ..CreateImageOptions::default() };
        let mut progress = Box::pin(docker.create_image(Some(options), None, None));
        let all = async {
            while let Some(step) =
                timeout(PULL_SILENCE, progress.next()).await.map_err(|_| Error::RequestTimeoutError)?
            {
                step?;
            }
            Ok(())
        };
        self.within(PULL_ALL, all).await
    }

    /// What the image called `image` is, if the engine has it.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        let docker = self.docker()?;
        match self.within(QUICK, docker.inspect_image(image)).await {
            Ok(found) => Ok(found.id),
            Err(error) if error.kind == EngineErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens nothing; fails if there is no socket to be opened.
    fn docker(&self) -> Result<Docker, EngineError> {
        let version = API_DEFAULT_VERSION; // written into no path: see the module's word on versions
        let docker = match &*self.place {
            Place::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), BEYOND_OURS_SECS, version),
            place @ Place::Tcp { .. } => Docker::connect_with_http(&place.to_string(), BEYOND_OURS_SECS, version),
            Place::Unknown(text) => Err(Error::UnsupportedURISchemeError { uri: text.clone() }),
        };
        docker.map_err(|error| EngineError::of(&self.place, &error))
    }

    async fn within<T>(&self, limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, EngineError> {
        match timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Error::RequestTimeoutError)) => Err(EngineError::timed_out(&self.place, PULL_SILENCE)),
            Ok(Err(error)) => Err(EngineError::of(&self.place, &error)),
            Err(_) => Err(EngineError::timed_out(&self.place, limit)),
        }
    }

    fn garbled(&self, said: &str) -> EngineError {
        EngineError { place: (*self.place).clone(), kind: EngineErrorKind::Garbled, said: said.to_owned() }
    }
}

fn body(new: &NewContainer<'_>) -> ContainerCreateBody {
    let template = new.template;
    let inside = format!("{}/tcp", template.port);
    let bindings = match new.publish {
        Publish::Nowhere => None,
        Publish::On(ip) => {
            let binding = PortBinding { host_ip: Some(ip.to_string()), host_port: Some(String::new()) };
            Some(HashMap::from([(inside.clone(), Some(vec![binding]))]))
        }
    };
    let network = template.networks.first();
    let host = HostConfig {
        binds: Some(template.volumes.clone()).filter(|binds| !binds.is_empty()),
        memory: template.memory.map(|size| i64::try_from(size.0).unwrap_or(i64::MAX)),
        nano_cpus: template.nano_cpus.map(|cpus| i64::try_from(cpus.get()).unwrap_or(i64::MAX)),
        network_mode: network.cloned(),
        port_bindings: bindings,
        ..HostConfig::default()
    };
    let joined = network.map(|name| NetworkingConfig {
        endpoints_config: Some(HashMap::from([(name.clone(), EndpointSettings::default())])),
    });
    ContainerCreateBody {
        image: Some(template.image.clone()),
        cmd: template.command.clone(),
        env: Some(template.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: Some(vec![inside]),
        labels: Some(new.labels.clone().into_iter().collect()),
        stop_timeout: i64::try_from(new.stop_timeout.as_secs().max(1)).ok(),
        host_config: Some(host),
        networking_config: joined,
        ..ContainerCreateBody::default()
    }
}

/// An engine that is asked for an image without a tag fetches every tag there is.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests;
