//! Sources that are containers: found by label, run from an image, tasks of a Swarm service.
//! Promises a cure for what people bring along from Compose, and absolute paths. It asks no engine whether any of it is there.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::Path;

use super::check::{Check, Zero};
use super::{command, image};
use crate::config::checked::{
    AddressFrom, ContainerSource, DockerSource, Endpoint, EndpointError, LabelMatch, Pull, Reach, SwarmSource, Template,
};
use crate::config::decode::{Name, Named};
use crate::config::defaults;
use crate::config::quantity;
use crate::config::raw::{self, kind};
use crate::config::scalar::Scalar;
use crate::config::source::Span;
use crate::units::ByteSize;

/// Most replicas: a typo must not fill a machine.
pub(super) const REPLICAS_MAX: u32 = 10_000;
/// Docker refuses less; since version 20.10.
const MEMORY_MIN: ByteSize = ByteSize::mib(6);
/// Docker refuses less than a hundredth of a core.
const NANO_CPUS_MIN: u64 = 10_000_000;
/// Labels that say what is ours.
const OWN_LABELS: &str = "portway.";

/// Containers by label; `None` if what is indispensable is wrong, which was reported.
pub(super) fn docker(raw: &raw::Docker, check: &mut Check<'_>) -> Option<DockerSource> {
    let label = raw.label.as_ref().and_then(|label| self::label(label, check));
    let port = port(&raw.port, check);
    let reach = reach(&raw.address, &raw.network, check);
    let typed = raw.endpoint.as_deref();
    if let Some([]) = typed {
        check.error(raw.at.unwrap_or(Span::NONE), "`endpoint` is an empty list", "leave it out for the local engine");
    }
    let mut seen: HashMap<Endpoint, Span> = HashMap::new();
    let mut endpoints = Vec::new();
    for scalar in typed.unwrap_or_default() {
        let Some(endpoint) = endpoint(scalar, check) else { continue };
        if let Some(&first) = seen.get(&endpoint) {
            let message = format!("the engine {} is here twice", scalar.shown());
            check.error(scalar.span(), message, "again here; keep one of them").also(first, "first here");
            continue;
        }
        seen.insert(endpoint.clone(), scalar.span());
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        endpoints.push(Endpoint::Default);
    }
    Some(DockerSource { label: label?, port: port?, reach, endpoints })
}

/// Containers that Portway runs.
pub(super) fn container(raw: &raw::Container, check: &mut Check<'_>) -> Option<ContainerSource> {
    let template = template(raw, check);
    let source = ContainerSource {
        replicas: check.count(&raw.replicas, defaults::CONTAINER_REPLICAS, 0..=REPLICAS_MAX),
        pull: pull(&raw.pull, check),
        stop_timeout: check.duration(&raw.stop_timeout, defaults::CONTAINER_STOP_TIMEOUT, Zero::Allowed),
        reach: reach(&raw.address, &None, check),
        endpoint: one_endpoint(&raw.endpoint, check),
        template: template?,
    };
    Some(source)
}

/// Tasks of a Swarm service.
pub(super) fn swarm(raw: &raw::Swarm, check: &mut Check<'_>) -> Option<SwarmSource> {
    let service = raw.service.as_ref().and_then(|name| {
        let message = "is not the name of a Swarm service";
        let help = "write the name that `docker service ls` shows, such as shop_web";
        engine_name(name, message, help, check)
    });
    let port = port(&raw.port, check);
    let reach = reach(&raw.address, &raw.network, check);
    let endpoint = one_endpoint(&raw.endpoint, check);
    Some(SwarmSource { service: service?, port: port?, reach, endpoint })
}

fn template(raw: &raw::Container, check: &mut Check<'_>) -> Option<Template> {
    let image = raw.image.as_ref().and_then(|image| image::image(image, check));
    let port = port(&raw.port, check);
    let without = "leave `command` out for the image's own";
    let volumes = raw.volumes.iter().flatten().filter_map(|typed| volume(typed, &raw.folder, check)).collect();
    let template = Template {
        command: raw.command.as_ref().and_then(|typed| command::command(typed, without, check)),
        environment: environment(raw.environment.as_ref(), check),
        volumes,
        networks: networks(raw.networks.as_deref().unwrap_or_default(), check),
        labels: labels(raw.labels.as_ref(), check),
        memory: memory(&raw.memory, check),
        nano_cpus: nano_cpus(&raw.cpus, check),
        image: image?,
        port: port?,
    };
    Some(template)
}

/// `app=orders` or `app`.
fn label(scalar: &Scalar<kind::Label>, check: &mut Check<'_>) -> Option<LabelMatch> {
    let text = scalar.value();
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
    let tight = || format!("{}={}", key.trim(), value.unwrap_or_default().trim());
    let (message, help) = match (key, value) {
        _ if text.trim().is_empty() => ("names no label", "write one such as app=orders".to_owned()),
        ("", Some(_)) => ("has no name before its `=`", "write one such as app=orders".to_owned()),
        (key, Some(_)) if key.ends_with('!') => {
            ("asks for containers without a label", "write one that they have, such as app=orders".to_owned())
        }
        (key, Some(value)) if key.trim() != key || value.trim() != value => {
            ("has spaces around its `=`", format!("write it as {}", tight()))
        }
        (key, None) if key.split_once(':').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty()) => {
            ("has a colon and no `=`", format!("write it as {}", key.replacen(':', "=", 1).replace(' ', "")))
        }
        (key, _) if key.contains(char::is_whitespace) => {
            ("has spaces in its name", "write one such as app=orders".to_owned())
        }
        (key, Some("" | "*")) => {
            ("has no value that a container could have", format!("for any value write {key} alone"))
        }
        (key, value) => return Some(LabelMatch { key: key.to_owned(), value: value.map(str::to_owned) }),
    };
    let help = if scalar.has_variables() { "write one such as app=orders".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

/// The container's port. What is missing was reported where it is missing.
fn port(field: &Option<Scalar<kind::Port>>, check: &mut Check<'_>) -> Option<NonZeroU16> {
    let scalar = field.as_ref()?;
    let text = scalar.value();
    if let Ok(port) = text.parse::<NonZeroU16>() {
        return Some(port);
    }
    let bare = text.split_once('/').map_or(text, |(port, _)| port);
    let own = bare.rsplit(':').next().unwrap_or(bare);
    let is_port = own.parse::<NonZeroU16>().is_ok();
    let (message, help) = match () {
        () if text.ends_with("/udp") => {
            ("is a UDP port", "requests come over TCP; write the port that takes them".into())
        }
        () if is_port && bare.contains(':') => {
            ("says on which port of the host it is published", format!("write the container's port alone: {own}"))
        }
        () if is_port => ("says more than a port", format!("write it as {own}")),
        () if text.parse::<u64>().is_ok() => ("is not a port", "ports are 1 to 65535".into()),
        () => ("is not a port", "write the number that it listens on, inside, such as 5000".into()),
    };
    let help: String = if scalar.has_variables() { "write a number from 1 to 65535".into() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

fn reach(
    address: &Option<Scalar<kind::AddressFrom>>,
    network: &Option<Scalar<kind::Text>>,
    check: &mut Check<'_>,
) -> Reach {
    let words = [("auto", AddressFrom::Auto), ("published", AddressFrom::Published), ("network", AddressFrom::Network)];
    let from = check.word(address, &words);
    if let (AddressFrom::Published, Some(network)) = (from, network) {
        let message = "this network is never used: containers are reached at their published ports";
        let at = address.as_ref().map_or(Span::NONE, Scalar::span);
        check.report.warning(network.span(), message, "remove it, or write `address: network`").also(at, "by this");
    }
    Reach { address: from, network: network.as_ref().and_then(|network| self::network(network, check)) }
}

fn one_endpoint(field: &Option<Scalar<kind::Endpoint>>, check: &mut Check<'_>) -> Endpoint {
    field.as_ref().and_then(|scalar| endpoint(scalar, check)).unwrap_or(Endpoint::Default)
}

fn endpoint(scalar: &Scalar<kind::Endpoint>, check: &mut Check<'_>) -> Option<Endpoint> {
    let text = scalar.value();
    if text == defaults::ENDPOINT {
        return Some(Endpoint::Default);
    }
    let error = match text.parse::<Endpoint>() {
        Ok(endpoint) => return Some(endpoint),
        Err(error) => error,
    };
    let example = "write unix:///var/run/docker.sock or tcp://10.0.0.7:2375";
    let (message, help) = match error {
        EndpointError::Ssh => {
            ("is reached over ssh, which Portway does not speak", "let a socket proxy there listen on tcp".to_owned())
        }
        EndpointError::Tls => (
            "needs TLS, which is not in this version of Portway yet",
            "use tcp:// inside of a private network".to_owned(),
        ),
        EndpointError::NoPort => ("has no port", format!("write it as {}:2375", text.trim_end_matches('/'))),
        EndpointError::Form if text.starts_with('/') => ("has no scheme", format!("write it as unix://{text}")),
        EndpointError::Form if format!("tcp://{text}").parse::<Endpoint>().is_ok() => {
            ("has no scheme", format!("write it as tcp://{text}"))
        }
        EndpointError::Form => ("is not where an engine listens", example.to_owned()),
    };
    let help = if scalar.has_variables() { example.to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

fn pull(field: &Option<Scalar<kind::Pull>>, check: &mut Check<'_>) -> Pull {
    /// What Kubernetes and Compose call them.
    const SYNONYMS: [(&str, &str); 4] =
        [("if_not_present", "missing"), ("IfNotPresent", "missing"), ("Always", "always"), ("Never", "never")];
    const WORDS: [(&str, Pull); 3] = [("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];
    let synonym = field.as_ref().and_then(|typed| SYNONYMS.iter().find(|(other, _)| *other == typed.value()));
    if let (Some(scalar), Some((_, ours))) = (field, synonym) {
        let message = format!("\"{}\" is not one of the words here", scalar.shown());
        check.error(scalar.span(), message, format!("did you mean `{ours}`?"));
        return Pull::Missing;
    }
    check.word(field, &WORDS)
}

/// In the order of their names: lines that change places replace no container.
fn environment(raw: Option<&Named<Scalar<kind::Text>>>, check: &mut Check<'_>) -> Vec<(String, String)> {
    let is_wrong = |name: &Name<Scalar<kind::Text>>, check: &mut Check<'_>| {
        let trimmed = name.name.trim();
        let (message, help) = match name.name.as_str() {
            text if text.contains('=') => ("has a `=`", "write one such as LOG_LEVEL".to_owned()),
            text if trimmed.is_empty() => {
                debug_assert!(text.trim().is_empty());
                ("is empty", "write one such as LOG_LEVEL".to_owned())
            }
            text if trimmed != text => ("has a space beside it", format!("write it as {trimmed}=…")),
            _ => return false,
        };
        check.error(name.span, format!("the name of the variable \"{}\" {message}", name.name), help);
        true
    };
    sorted(raw, "the variable", is_wrong, check)
}

fn labels(raw: Option<&Named<Scalar<kind::Text>>>, check: &mut Check<'_>) -> Vec<(String, String)> {
    let is_wrong = |name: &Name<Scalar<kind::Text>>, check: &mut Check<'_>| {
        let (message, help) = match name.name.as_str() {
            text if text.starts_with(OWN_LABELS) => {
                ("belongs to Portway, which finds its replicas by it", "write another name")
            }
            text if text.trim() != text || text.is_empty() => ("has no proper name", "write one such as team=shop"),
            _ => return false,
        };
        check.error(name.span, format!("the label \"{}\" {message}", name.name), help);
        true
    };
    sorted(raw, "the label", is_wrong, check)
}

fn sorted(
    raw: Option<&Named<Scalar<kind::Text>>>,
    noun: &str,
    mut is_wrong: impl FnMut(&Name<Scalar<kind::Text>>, &mut Check<'_>) -> bool,
    check: &mut Check<'_>,
) -> Vec<(String, String)> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut pairs = Vec::new();
    for named in raw.iter().flat_map(|named| &named.0) {
        if is_wrong(named, check) {
            continue;
        }
        if let Some(first) = seen.insert(&named.name, named.span) {
            let message = format!("{noun} `{}` is here twice", named.name);
            check.error(named.span, message, "again here; keep one of them").also(first, "first here");
            continue;
        }
        if named.value.value().contains('\0') {
            check.error(named.value.span(), format!("{noun} `{}` holds a NUL", named.name), "remove it");
        }
        pairs.push((named.name.clone(), named.value.value().to_owned()));
    }
    pairs.sort();
    pairs
}

/// `SOURCE:TARGET[:MODE]`, its source absolute or the name of a volume.
fn volume(scalar: &Scalar<kind::Volume>, folder: &Path, check: &mut Check<'_>) -> Option<String> {
    const MODES: [&str; 12] =
        ["ro", "rw", "z", "Z", "nocopy", "shared", "rshared", "slave", "rslave", "private", "rprivate", "consistent"];
    let text = scalar.value();
    let parts: Vec<&str> = text.split(':').collect();
    let is_wrong_mode = |mode: &&str| mode.split(',').any(|word| !MODES.contains(&word));
    let (message, help) = match parts[..] {
        [path] if path.starts_with(['/', '.']) => {
            ("does not say where", format!("write SOURCE:TARGET, such as data:{}", path.trim_start_matches('.')))
        }
        [_] => ("does not say where", "write SOURCE:TARGET, such as data:/var/lib/app".to_owned()),
        [_, target, ..] if !target.starts_with('/') => (
            "has no absolute path inside of the container",
            "write SOURCE:TARGET, such as data:/var/lib/app".to_owned(),
        ),
        [_, "/", ..] => ("covers all of the container", "mount it on a folder, such as /data".to_owned()),
        [_, _, mode] if is_wrong_mode(&mode) => {
            ("ends in no mode that there is", "modes are ro, rw, z and Z".to_owned())
        }
        [_, _, _, _, ..] => ("has too many parts", "write SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
        [source, ..] if source.starts_with('~') => {
            ("begins with `~`, which a shell would replace", "write ${HOME}, or the whole path".to_owned())
        }
        [source, ..] if source.starts_with('/') || command::is_relative(source) => {
            return Some(text.replacen(source, &command::below(folder, source), 1));
        }
        [source, ..] if is_engine_name(source) => return Some(text.to_owned()),
        [source, ..] if source.contains('/') => {
            ("begins neither with a path nor with the name of a volume", format!("for a path write ./{source}"))
        }
        _ => (
            "begins neither with a path nor with the name of a volume",
            "names have two or more letters, digits, - _ and .".to_owned(),
        ),
    };
    let help = if scalar.has_variables() { "write SOURCE:TARGET or SOURCE:TARGET:ro".to_owned() } else { help };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

fn networks(typed: &[Scalar<kind::Text>], check: &mut Check<'_>) -> Vec<String> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut networks = Vec::new();
    for scalar in typed {
        if let Some(first) = seen.insert(scalar.value(), scalar.span()) {
            let message = format!("the network {} is here twice", scalar.shown());
            check.error(scalar.span(), message, "again here; keep one of them").also(first, "first here");
            continue;
        }
        match scalar.value() {
            "host" => {
                let message = "on the host's network, two replicas could not listen on one port";
                check.error(scalar.span(), message, "leave it out: Portway publishes the port of each replica");
            }
            "none" => {
                let message = "without a network, nobody reaches a replica";
                check.error(scalar.span(), message, "leave it out for the engine's own network");
            }
            _ => networks.extend(network(scalar, check)),
        }
    }
    networks
}

fn network(scalar: &Scalar<kind::Text>, check: &mut Check<'_>) -> Option<String> {
    let help = "write the name that `docker network ls` shows, such as shop_default";
    engine_name(scalar, "is not the name of a network", help, check)
}

/// What Docker takes for a name of a volume, a network, a service.
fn is_engine_name(text: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_name_char)
}

fn engine_name(scalar: &Scalar<kind::Text>, message: &str, help: &str, check: &mut Check<'_>) -> Option<String> {
    // A service or a network may have a name of one letter.
    let name = scalar.value();
    if is_engine_name(name) || is_engine_name(&format!("{name}_")) {
        return Some(name.to_owned());
    }
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}

fn memory(field: &Option<Scalar<kind::SizeOrUnlimited>>, check: &mut Check<'_>) -> Option<ByteSize> {
    let scalar = field.as_ref().filter(|scalar| scalar.value() != "unlimited")?;
    match quantity::size(scalar.value(), scalar.shown()) {
        Ok(size) if size >= MEMORY_MIN => return Some(size),
        Ok(_) => {
            let message = format!("\"{}\" is less than {MEMORY_MIN}, the least that Docker takes", scalar.shown());
            check.error(scalar.span(), message, "write a size such as 256MiB, or unlimited");
        }
        Err(error) => {
            // Compose writes 512m for what is 512MiB here.
            let unit = scalar.value().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let ours = match unit {
                "k" | "kb" | "K" => Some("KiB"),
                "m" | "mb" => Some("MiB"),
                "g" | "gb" => Some("GiB"),
                _ => None,
            };
            let number = &scalar.value()[..scalar.value().len() - unit.len()];
            let help = match ours.filter(|_| !scalar.has_variables() && !number.is_empty()) {
                Some(ours) => format!("write it as {number}{ours}"),
                None => error.help,
            };
            check.error(scalar.span(), error.message, help);
        }
    }
    None
}

fn nano_cpus(field: &Option<Scalar<kind::Cpus>>, check: &mut Check<'_>) -> Option<NonZeroU64> {
    let scalar = field.as_ref().filter(|scalar| scalar.value() != "unlimited")?;
    let text = scalar.value();
    let (message, help) = match quantity::billionths(text) {
        Some(nanos) if nanos >= NANO_CPUS_MIN => return NonZeroU64::new(nanos),
        Some(0) => ("leaves no processor time at all", "write a number such as 0.5, or unlimited".to_owned()),
        Some(_) => (
            "is less than a hundredth of a core, the least that Docker takes",
            "write a number such as 0.5, or unlimited".to_owned(),
        ),
        None => {
            let thousandths = text.strip_suffix('m').and_then(|number| number.parse::<u32>().ok());
            let hundredths = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
            let cores = thousandths.map(|n| f64::from(n) / 1000.0).or(hundredths.map(|n| f64::from(n) / 100.0));
            let help = match cores.filter(|_| !scalar.has_variables()) {
                Some(cores) => format!("write it as {cores}"),
                None => "write a number such as 0.5, or unlimited".to_owned(),
            };
            ("is not a number of cores", help)
        }
    };
    check.error(scalar.span(), format!("\"{}\" {message}", scalar.shown()), help);
    None
}
