//! Where containers come from and how many there should be, checked.
//! Promises that whatever is missing has its default. It talks to no engine.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

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

/// How a container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// At which of its addresses.
    pub address: AddressFrom,
    /// On which of its networks; `None` takes the only one, or the first that Portway is on too.
    pub network: Option<String>,
}

/// At which address a container is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFrom {
    /// `Published` when Portway runs on the host, `Network` when it is a container on one of the container's networks.
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
    /// `tcp://10.0.0.7:2375`.
    Tcp(HostPort),
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

/// What a replica is made from.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookWay {
    /// `POST` of the intent as JSON; plain HTTP.
    Url(Uri),
    /// A program with its arguments, the intent as JSON on its standard input.
    Command(Vec<String>),
}
