//! What was typed about containers: found by label, run from an image, tasks of a Swarm service; keys and short forms.
//! Promises the same keys as the JSON Schema (a test compares them), and that a secret which is taken from the environment is
//! kept as `${NAME}`. Looks at no value.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::{Serialize, Serializer};

use super::kind;
use crate::config::checked::Endpoint;
use crate::config::decode::{Decode, Decoder, Name, Named};
use crate::config::expand;
use crate::config::scalar::Scalar;
use crate::config::source::Span;
use crate::config::tree::{Entry, Node, Style, Text, Value};

/// Containers that somebody else starts, found by label on one or more engines.
#[derive(Clone, Debug, Default, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Docker {
    /// Which containers: `app=orders`, or `app` for those that have this label with whatever value.
    pub label: Option<Scalar<kind::Label>>,
    /// The port that the containers listen on, inside.
    pub port: Option<Scalar<kind::Port>>,
    /// On which of its networks a container is reached. Default: the only one, or the first that Portway is on too.
    pub network: Option<Scalar<kind::Text>>,
    /// At which address: `published` on the host, its own on a `network`, or `auto`: published if Portway runs on the host, else network. Default `auto`.
    pub address: Option<Scalar<kind::AddressFrom>>,
    /// The engine: `unix:///var/run/docker.sock`, `tcp://10.0.0.7:2375`, or a list of them. Default: what `DOCKER_HOST` says, else the local socket.
    #[schemars(schema_with = "crate::config::schema::one_or_many::<Scalar<kind::Endpoint>>")]
    pub endpoint: Option<Vec<Scalar<kind::Endpoint>>>,
    /// Where it stands.
    #[serde(skip)]
    pub at: Option<Span>,
}

/// Containers that Portway starts, checks, replaces and removes.
#[derive(Clone, Debug, Default, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What they are made from, such as `acme/thumbs:1.4`.
    pub image: Option<Scalar<kind::Image>>,
    /// The port that it listens on, inside. Portway publishes it on a free port of 127.0.0.1 where it needs that.
    pub port: Option<Scalar<kind::Port>>,
    /// In place of the image's own command: a line, taken apart as a shell would, or a list. Default: the image's own.
    pub command: Option<Command>,
    /// Variables by name, or a list of `NAME=value`. A name without a value takes it from Portway's own environment. Default: none.
    #[schemars(schema_with = "crate::config::schema::pairs")]
    pub environment: Option<Named<Scalar<kind::Text>>>,
    /// `SOURCE:TARGET` or `SOURCE:TARGET:ro`; the source is the name of a volume, or a path, relative to this file if it begins with a dot. Default: none.
    #[schemars(schema_with = "crate::config::schema::one_or_many::<Scalar<kind::Volume>>")]
    pub volumes: Option<Vec<Scalar<kind::Volume>>>,
    /// Networks to join, which must exist. Default: the engine's own.
    #[schemars(schema_with = "crate::config::schema::one_or_many::<Scalar<kind::Text>>")]
    pub networks: Option<Vec<Scalar<kind::Text>>>,
    /// Labels by name, or a list of `name=value`, beside Portway's own. Default: none.
    #[schemars(schema_with = "crate::config::schema::pairs")]
    pub labels: Option<Named<Scalar<kind::Text>>>,
    /// Most memory of one container, at least 6MiB. Default `unlimited`.
    pub memory: Option<Scalar<kind::SizeOrUnlimited>>,
    /// Most cores of one container, such as `0.5`. Default `unlimited`.
    pub cpus: Option<Scalar<kind::Cpus>>,
    /// When the image is fetched: if it is `missing`, `always` before a container starts (replicas of what
    /// its tag meant before are replaced), or `never`. Default `missing`.
    pub pull: Option<Scalar<kind::Pull>>,
    /// From SIGTERM to SIGKILL, once its requests are over. Default 10s.
    pub stop_timeout: Option<Scalar<kind::Duration>>,
    /// At which address it is reached: `published` on the host, its own on a `network`, or `auto`. Default `auto`.
    pub address: Option<Scalar<kind::AddressFrom>>,
    /// The engine that runs them. Default: what `DOCKER_HOST` says, else the local socket.
    pub endpoint: Option<Scalar<kind::Endpoint>>,
    /// How many there are; with `autoscale`, that decides instead. Default 1.
    pub replicas: Option<Scalar<kind::Count>>,
    /// Where it stands.
    #[serde(skip)]
    pub at: Option<Span>,
    /// The folder of its file, which paths are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Tasks of a Swarm service.
#[derive(Clone, Debug, Default, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// The name of the Swarm service, such as `web` or, in a stack, `shop_web`.
    pub service: Option<Scalar<kind::Text>>,
    /// The port that its tasks listen on, inside.
    pub port: Option<Scalar<kind::Port>>,
    /// On which of its networks a task is reached. Default: the only one, or the first that Portway is on too.
    pub network: Option<Scalar<kind::Text>>,
    /// At which address a task is reached: `published` on its host, its own on a `network`, or `auto`. Default `auto`.
    pub address: Option<Scalar<kind::AddressFrom>>,
    /// A manager of the swarm. Default: what `DOCKER_HOST` says, else the local socket.
    pub endpoint: Option<Scalar<kind::Endpoint>>,
    /// Where it stands.
    #[serde(skip)]
    pub at: Option<Span>,
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub enum Command {
    /// One text, which is taken apart as a shell would.
    Line(Scalar<kind::Text>),
    /// Word by word.
    Words(Vec<Scalar<kind::Text>>),
}

impl Command {
    /// Where it stands, as far as that is known.
    pub fn span(&self) -> Span {
        match self {
            Command::Line(line) => line.span(),
            Command::Words(words) => words.first().map_or(Span::NONE, Scalar::span),
        }
    }
}

/// What Compose has and a replica does not, and what to do about it.
const COMPOSE_KEYS: &[(&str, &str)] = &[
    ("build", "Portway builds nothing: build the image with `docker build -t NAME` and write `image: NAME`"),
    ("restart", "leave it out: Portway replaces a replica that ends"),
    ("depends_on", "leave it out: requests wait for a backend that is ready"),
    ("healthcheck", "it belongs to the service: `health:` beside `container:`"),
    ("health", "it belongs to the service: `health:` beside `container:`"),
    ("autoscale", "it belongs to the service: `autoscale:` beside `container:`"),
    ("deploy", "write `replicas`, `memory` and `cpus` here, or `autoscale:` beside `container:`"),
    ("env_file", "list the variables under `environment`; a name alone takes its value from Portway's own environment"),
    ("container_name", "leave it out: there may be several replicas, and each has its own name"),
    ("hostname", "leave it out: there may be several replicas, and each has its own name"),
    ("expose", "leave it out: `port` says where it listens"),
    ("entrypoint", "write the whole command line under `command`, or set it in the image"),
    ("network_mode", "write the name of a network under `networks`"),
];

impl Decode for Docker {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let docker = decoder.mapping(node, "a mapping such as { label: \"app=orders\", port: 8000 }", |keys| {
            keys.hints(&[("image", "containers that Portway starts itself stand under `container:`")]);
            Docker {
                label: keys.required_as("label", "add, for example, `label: app=orders`"),
                port: keys.required_as("port", "add `port:`, the port that the containers listen on, inside"),
                network: keys.get("network"),
                address: keys.get("address"),
                endpoint: keys.get("endpoint"),
                at: Some(node.span),
            }
        })?;
        warn_of_docker_host(docker.endpoint.as_deref().unwrap_or_default(), node.span, decoder);
        Some(docker)
    }
}

impl Decode for Container {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let folder = decoder.folder.clone();
        let container =
            decoder.mapping(node, "a mapping such as { image: \"acme/thumbs:1.4\", port: 5000 }", |keys| {
                keys.hints(COMPOSE_KEYS);
                // One word about the image is enough.
                let image = match keys.has_value("build") {
                    true => keys.get("image"),
                    false => keys.required_as("image", "add, for example, `image: acme/thumbs:1.4`"),
                };
                Container {
                    image,
                    port: keys.required_as("port", "add `port:`, the port that it listens on, inside"),
                    command: keys.get("command"),
                    environment: keys.get::<Environment>("environment").map(|pairs| pairs.0),
                    volumes: keys.get("volumes"),
                    networks: keys.get("networks"),
                    labels: keys.get::<Labels>("labels").map(|pairs| pairs.0),
                    memory: keys.get("memory"),
                    cpus: keys.get("cpus"),
                    pull: keys.get("pull"),
                    stop_timeout: keys.get("stop_timeout"),
                    address: keys.get("address"),
                    endpoint: keys.get("endpoint"),
                    replicas: keys.get("replicas"),
                    at: Some(node.span),
                    folder,
                }
            })?;
        warn_of_docker_host(container.endpoint.as_slice(), node.span, decoder);
        Some(container)
    }
}

impl Decode for Swarm {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let swarm = decoder.mapping(node, "a mapping such as { service: web, port: 5000 }", |keys| {
            keys.hints(&[("replicas", "the swarm has that number; for Portway to set it, write `autoscale:`")]);
            Swarm {
                service: keys.required_as("service", "add `service:`, the name that `docker service ls` shows"),
                port: keys.required_as("port", "add `port:`, the port that its tasks listen on, inside"),
                network: keys.get("network"),
                address: keys.get("address"),
                endpoint: keys.get("endpoint"),
                at: Some(node.span),
            }
        })?;
        warn_of_docker_host(swarm.endpoint.as_slice(), node.span, decoder);
        Some(swarm)
    }
}

/// Whoever names no endpoint is at the mercy of `DOCKER_HOST`, of which the Docker client takes more than we do.
fn warn_of_docker_host(typed: &[Scalar<kind::Endpoint>], at: Span, decoder: &mut Decoder<'_>) {
    let takes_default = typed.is_empty() || typed.iter().any(|endpoint| endpoint.value() == "default");
    let Some(host) = decoder.environment.var("DOCKER_HOST").filter(|host| takes_default && !host.is_empty()) else {
        return;
    };
    if let Err(error) = host.parse::<Endpoint>() {
        let message = format!("`DOCKER_HOST` names an engine that Portway cannot use: {error}");
        decoder.report.warning(at, message, "set another, or write `endpoint:` here");
    }
}

impl Decode for Command {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(_) => Decode::decode(node, decoder).map(Command::Line),
            Value::List(items) if items.is_empty() => {
                let message = format!("{} is an empty list", decoder.context());
                decoder.report.error(node.span, message, "write the words of the command, or leave it out");
                None
            }
            Value::List(_) => Decode::decode(node, decoder).map(Command::Words),
            Value::Mapping(_) => {
                decoder.expected("a command such as gunicorn app:app, or a list of its words", node);
                None
            }
        }
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Command::Line(line) => line.serialize(serializer),
            Command::Words(words) => words.serialize(serializer),
        }
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = json_schema!({ "type": ["string", "number", "boolean"] });
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": word, "minItems": 1 }] })
    }
}

/// `environment`: what has no value takes that of Portway's own environment.
struct Environment(Named<Scalar<kind::Text>>);

impl Decode for Environment {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        pairs(node, decoder, &OWN_VARIABLE).map(Environment)
    }
}

/// `labels`: what has no value is empty.
struct Labels(Named<Scalar<kind::Text>>);

impl Decode for Labels {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        pairs(node, decoder, &LABEL).map(Labels)
    }
}

/// What names and values mean.
struct Meaning {
    example: &'static str,
    /// What stands for the value of a name that has none.
    alone: fn(&str, Span, &mut Decoder<'_>) -> Option<Scalar<kind::Text>>,
}

const OWN_VARIABLE: Meaning = Meaning {
    example: "a mapping such as { LOG_LEVEL: debug }, or a list such as [LOG_LEVEL=debug]",
    alone: own_variable,
};
const LABEL: Meaning = Meaning {
    example: "a mapping such as { team: shop }, or a list such as [team=shop]",
    alone: |_, span, _| Some(Scalar::new("", String::new(), Style::Quoted, span)),
};

fn own_variable(name: &str, span: Span, decoder: &mut Decoder<'_>) -> Option<Scalar<kind::Text>> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let message = format!("\"{name}\" has no value, and cannot be the name of a variable of Portway's environment");
        decoder.report.error(span, message, "write NAME=value");
        return None;
    }
    let value = decoder.environment.var(name);
    if value.is_none() {
        let message = format!("the variable `{name}` is not set, so the container does not get it");
        decoder.report.warning(span, message, "set it where Portway runs, give it a value here, or remove it");
    }
    value.map(|value| Scalar::new(&format!("${{{name}}}"), value, Style::Quoted, span))
}

/// A mapping, or Compose's list of `NAME=value`.
fn pairs(node: &Node, decoder: &mut Decoder<'_>, meaning: &Meaning) -> Option<Named<Scalar<kind::Text>>> {
    let named = match &node.value {
        Value::Mapping(entries) => entries.iter().filter_map(|entry| of_entry(entry, decoder, meaning)).collect(),
        Value::List(items) => items.iter().filter_map(|item| of_item(item, decoder, meaning)).collect(),
        Value::Scalar(_) => {
            decoder.expected(meaning.example, node);
            return None;
        }
    };
    Some(Named(named))
}

fn of_entry(entry: &Entry, decoder: &mut Decoder<'_>, meaning: &Meaning) -> Option<Name<Scalar<kind::Text>>> {
    let value = match entry.value.is_null() {
        true => (meaning.alone)(&entry.key, entry.key_span, decoder),
        false => decoder.inside(format!("`{}`", entry.key), &entry.value),
    }?;
    Some(Name { name: entry.key.clone(), span: entry.key_span, value })
}

fn of_item(item: &Node, decoder: &mut Decoder<'_>, meaning: &Meaning) -> Option<Name<Scalar<kind::Text>>> {
    let Value::Scalar(Text { text, style }) = &item.value else {
        let message = format!("{} is a list here, and each entry must be text", decoder.context());
        decoder.report.error(item.span, message, "write it as NAME=value, or remove all the dashes");
        return None;
    };
    let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
    if expand::has_variables(name) {
        let message = format!("the name in \"{text}\" comes from a variable");
        decoder.report.error(item.span, message, "write the name itself: NAME=${VALUE}");
        return None;
    }
    let is_verbatim = item.span.range().len() == text.len();
    let part = |offset: usize, length: usize| if is_verbatim { item.span.part(offset, length) } else { item.span };
    let value = match value {
        None => (meaning.alone)(name, item.span, decoder)?,
        Some(typed) => {
            let span = part(name.len() + 1, typed.len());
            match expand::expand(typed, decoder.environment) {
                Ok(value) => Scalar::new(typed, value, *style, span),
                Err(error) => {
                    decoder.report.error(span, error.message, error.help);
                    return None;
                }
            }
        }
    };
    Some(Name { name: name.to_owned(), span: part(0, name.len()), value })
}
