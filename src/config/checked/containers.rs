//! Where containers come from and how many there should be, checked.
//! Promises that whatever is missing has its default, and that no debug output holds a value that may be a secret. It talks
//! to no engine.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

use crate::config::defaults;
use crate::units::{ByteSize, HostPort};

/// Containers that somebody else starts, found by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSource {
    /// Which containers.
    pub label: LabelMatch,
    /// What they listen on, inside.
    pub port: NonZeroU16,
    /// How they are reached.
    pub reach: Reach,
    /// At least one engine; each one's containers are backends.
    pub endpoints: Vec<Endpoint>,
}

/// A condition on the labels of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatch {
    /// `app`.
    pub key: String,
    /// `orders`; `None` takes every value.
    pub value: Option<String>,
}

impl fmt::Display for LabelMatch {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// How a container is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// At which of its addresses.
    pub address: AddressFrom,
    /// On which of its networks; `None` takes the only one, or the first that Portway is on too.
    pub network: Option<String>,
}

/// At which address a container is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFrom {
    /// `Published` when Portway runs on the host, `Network` when it is a container on one of the container's networks.
    #[default]
    Auto,
    /// The port of the host that its port is published on.
    Published,
    /// Its own address on a network.
    Network,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// What `DOCKER_HOST` says, `unix:///var/run/docker.sock` if it says nothing.
    Default,
    /// `unix:///run/docker.sock`.
    Unix(PathBuf),
    /// `tcp://10.0.0.7:2375`, without TLS.
    Tcp(HostPort),
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `ssh://`.
    #[error("engines are not reached over ssh: let a socket proxy listen on tcp, or run Portway beside the engine")]
    Ssh,
    /// `https://`.
    #[error(
        "TLS to an engine is not in this version of Portway yet: use its socket, or tcp inside of a private network"
    )]
    Tls,
    /// `tcp://10.0.0.7`.
    #[error("it has no port: engines without TLS listen on 2375")]
    NoPort,
    /// Anything else.
    #[error("write unix:///var/run/docker.sock or tcp://10.0.0.7:2375")]
    Form,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// As `endpoint` and `DOCKER_HOST` write it.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(EndpointError::Form) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Form)?;
        match scheme {
            "tcp" | "http" => {}
            "ssh" => return Err(EndpointError::Ssh),
            "https" => return Err(EndpointError::Tls),
            _ => return Err(EndpointError::Form),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| EndpointError::Form)?),
            _ => return Err(if authority.is_empty() { EndpointError::Form } else { EndpointError::NoPort }),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let is_host = !bare.is_empty() && bare.chars().all(is_host_char) && (bare != host || !host.contains(':'));
        match is_host && port > 0 {
            true => Ok(Self::Tcp(HostPort { host: bare.into(), port })),
            false => Err(EndpointError::Form),
        }
    }
}

impl fmt::Display for Endpoint {
    /// As the file writes it; `default` for what `DOCKER_HOST` says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Default => f.write_str("default"),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Containers that Portway starts, checks, replaces and removes.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSource {
    /// What a replica is made from: replicas are replaced when it changes.
    pub template: Template,
    /// How many there are without `autoscale`.
    pub replicas: u32,
    /// When the image is fetched.
    pub pull: Pull,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// How replicas are reached.
    pub reach: Reach,
    /// Where they run.
    pub endpoint: Endpoint,
}

/// What a replica is made from. `environment` and `labels` are in the order of their names, whatever that of the file.
#[derive(Clone, PartialEq)]
pub struct Template {
    /// `acme/thumbs:1.4`.
    pub image: String,
    /// What it listens on, inside.
    pub port: NonZeroU16,
    /// In place of the image's own.
    pub command: Option<Vec<String>>,
    /// By name; values may be secrets and are never shown.
    pub environment: Vec<(String, String)>,
    /// `SOURCE:TARGET[:MODE]`, as Compose writes them.
    pub volumes: Vec<String>,
    /// Networks to join; empty means the engine's default one.
    pub networks: Vec<String>,
    /// Beside ours.
    pub labels: Vec<(String, String)>,
    /// Most memory.
    pub memory: Option<ByteSize>,
    /// Most processor time, in billionths of a core.
    pub nano_cpus: Option<NonZeroU64>,
}

impl fmt::Debug for Template {
    /// Without the values of its environment and labels, and without its command: any of these may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn names(pairs: &[(String, String)]) -> Vec<&str> {
            pairs.iter().map(|(name, _)| name.as_str()).collect()
        }
        f.debug_struct("Template")
            .field("image", &self.image)
            .field("port", &self.port)
            .field("environment", &names(&self.environment))
            .field("volumes", &self.volumes)
            .field("networks", &self.networks)
            .field("labels", &names(&self.labels))
            .field("memory", &self.memory)
            .field("nano_cpus", &self.nano_cpus)
            .finish_non_exhaustive()
    }
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// When the engine does not have it.
    Missing,
    /// Before every replica.
    Always,
    /// Never: the engine has it, or the start fails.
    Never,
}

/// A Swarm service whose tasks are the backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmSource {
    /// Its name.
    pub service: String,
    /// What its tasks listen on, inside.
    pub port: NonZeroU16,
    /// How tasks are reached.
    pub reach: Reach,
    /// A manager.
    pub endpoint: Endpoint,
}

/// How many replicas there should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscale {
    /// Never fewer; 0 scales to zero.
    pub min: u32,
    /// Never more.
    pub max: NonZeroU32,
    /// What one replica should carry.
    pub target: Target,
    /// The window of ordinary decisions.
    pub stable: Duration,
    /// The window of bursts; shorter than `stable`.
    pub panic: Duration,
    /// At most times so many per step up; more than 1.
    pub up_at_once: f64,
    /// At most divided by so many per step down; more than 1.
    pub down_at_once: f64,
    /// No request for so long: `min`.
    pub idle: Duration,
    /// Requests that wait for a cold start.
    pub hold: Hold,
    /// Who is told, unless the source scales by itself.
    pub hook: Option<Hook>,
}

impl Autoscale {
    /// What `autoscale: { max: … }` means for a service without `max_in_flight`.
    pub fn up_to(max: NonZeroU32) -> Self {
        Self {
            min: defaults::AUTOSCALE_MIN,
            max,
            target: Target::InFlight(defaults::AUTOSCALE_TARGET_IN_FLIGHT),
            stable: defaults::AUTOSCALE_STABLE,
            panic: defaults::AUTOSCALE_STABLE / defaults::AUTOSCALE_STABLE_PER_PANIC,
            up_at_once: defaults::AUTOSCALE_UP_AT_ONCE,
            down_at_once: defaults::AUTOSCALE_DOWN_AT_ONCE,
            idle: defaults::AUTOSCALE_IDLE,
            hold: Hold::default(),
            hook: None,
        }
    }
}

/// What one replica should carry, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Requests in flight, waiting ones included.
    InFlight(f64),
    /// Requests per second.
    Rps(f64),
    /// The mean time to an answer.
    Latency(Duration),
}

/// Requests that wait for a cold start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How long each may wait.
    pub timeout: Duration,
    /// How many may wait.
    pub max: u32,
    /// What a browser sees meanwhile.
    pub page: WaitingPage,
}

impl Default for Hold {
    fn default() -> Self {
        Self { timeout: defaults::HOLD_TIMEOUT, max: defaults::HOLD_MAX, page: WaitingPage::Off }
    }
}

/// What a browser sees while a service starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingPage {
    /// Nothing: it waits, as everybody does.
    Off,
    /// A page that asks again by itself.
    On,
}

/// Who changes the number of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// How it is told.
    pub way: HookWay,
    /// How long one try may take.
    pub timeout: Duration,
}

/// How a hook is told.
#[derive(Clone, PartialEq, Eq)]
pub enum HookWay {
    /// `POST` of the intent as JSON; plain HTTP.
    Url(Uri),
    /// A program with its arguments, the intent as JSON on its standard input. At least one word.
    Command(Vec<String>),
}

impl fmt::Debug for HookWay {
    /// Without the query of the URL and without the arguments: either may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookWay::Url(url) => write!(f, "Url({}{})", url.host().unwrap_or_default(), url.path()),
            HookWay::Command(words) => write!(f, "Command({:?}, …)", words.first()),
        }
    }
}
