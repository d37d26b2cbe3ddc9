//! What differs between two sources of backends, and between two ways of scaling.
//! Promises a word for everything that differs, and never a value that may be a secret: of commands, of the environment and of
//! labels the names alone. It applies nothing.

use super::below::Below;
use super::{Kind, Part, paired, parts_of};
use crate::config::checked::{
    AddressFrom, Autoscale, BackendAddress, ContainerSource, DockerSource, Endpoint, Hook, HookWay, Pull, Reach,
    Service, Source, SwarmSource, Target, Template, WaitingPage,
};
use crate::config::quantity::spell_duration;

/// What differs between where the backends of two services come from.
pub(super) fn source_parts(old: Option<&Source>, new: &Source) -> Vec<Part> {
    let mut parts = match (old, new) {
        (Some(Source::Docker(old)), Source::Docker(new)) => docker(old, new),
        (Some(Source::Container(old)), Source::Container(new)) => container(old, new),
        (Some(Source::Swarm(old)), Source::Swarm(new)) => swarm(old, new),
        (Some(Source::Backends(_)), Source::Backends(_)) | (None, Source::Backends(_)) => Vec::new(),
        (None, new) => vec![Part::of(Kind::Added, word(new), gist(new))],
        (Some(old), new) => {
            vec![Part::of(Kind::Changed, "source", format!("from {} to {}", full(old), full(new)))]
        }
    };
    let declared = old.map(Source::declared).unwrap_or_default();
    let name = |backend: &BackendAddress| backend.address.to_string();
    for pair in paired(declared, new.declared(), |backend| &backend.address) {
        parts.extend(match pair {
            (Some(old), Some(new)) => moved(old, new),
            pair => parts_of("backend", vec![pair], name),
        });
    }
    parts
}

/// What differs of a backend that stays.
fn moved(old: &BackendAddress, new: &BackendAddress) -> Vec<Part> {
    let BackendAddress { address, weight, zone } = new;
    let mut below = Below::new("backend");
    below.moved(&format!("{address} weight"), &old.weight, weight, |weight| weight.get().to_string());
    let spell = |zone: &Option<String>| zone.clone().unwrap_or_else(|| "none".to_owned());
    below.moved(&format!("{address} zone"), &old.zone, zone, spell);
    below.parts
}

/// The key of the language.
fn word(source: &Source) -> &'static str {
    match source {
        Source::Backends(_) => "backends",
        Source::Docker(_) => "docker",
        Source::Container(_) => "container",
        Source::Swarm(_) => "swarm",
    }
}

fn gist(source: &Source) -> String {
    match source {
        Source::Backends(_) => String::new(),
        Source::Docker(docker) => format!("label {}", docker.label),
        Source::Container(container) => format!("image {}", container.template.image),
        Source::Swarm(swarm) => format!("service {}", swarm.service),
    }
}

fn full(source: &Source) -> String {
    let gist = gist(source);
    if gist.is_empty() { word(source).to_owned() } else { format!("{} ({gist})", word(source)) }
}

impl Below {
    fn reach(&mut self, old: &Reach, new: &Reach) {
        self.moved("address", &old.address, &new.address, |address| {
            let word = match address {
                AddressFrom::Auto => "auto",
                AddressFrom::Published => "published",
                AddressFrom::Network => "network",
            };
            word.to_owned()
        });
        let network = |network: &Option<String>| network.clone().unwrap_or_else(|| "any".to_owned());
        self.moved("network", &old.network, &new.network, network);
    }
}

fn docker(old: &DockerSource, new: &DockerSource) -> Vec<Part> {
    let DockerSource { label, port, reach, endpoints } = new;
    let mut below = Below::new("docker");
    below.moved("label", &old.label, label, ToString::to_string);
    below.moved("port", &old.port, port, ToString::to_string);
    below.reach(&old.reach, reach);
    below.each("endpoint", &old.endpoints, endpoints, Endpoint::to_string);
    below.parts
}

fn container(old: &ContainerSource, new: &ContainerSource) -> Vec<Part> {
    let ContainerSource { template, replicas, pull, stop_timeout, reach, endpoint } = new;
    let mut below = Below::new("container");
    template_parts(&old.template, template, &mut below);
    below.moved("replicas", &old.replicas, replicas, ToString::to_string);
    below.moved("pull", &old.pull, pull, |pull| {
        let word = match pull {
            Pull::Missing => "missing",
            Pull::Always => "always",
            Pull::Never => "never",
        };
        word.to_owned()
    });
    below.moved("stop_timeout", &old.stop_timeout, stop_timeout, |time| spell_duration(*time));
    below.reach(&old.reach, reach);
    below.moved("endpoint", &old.endpoint, endpoint, Endpoint::to_string);
    below.parts
}

fn template_parts(old: &Template, new: &Template, below: &mut Below) {
    let Template { image, port, command, environment, volumes, networks, labels, memory, nano_cpus } = new;
    let name = |pair: &(String, String)| pair.0.clone();
    below.moved("image", &old.image, image, String::clone);
    below.moved("port", &old.port, port, ToString::to_string);
    below.named("command", &old.command, command);
    below.each("environment", &old.environment, environment, name);
    below.each("volume", &old.volumes, volumes, String::clone);
    below.each("network", &old.networks, networks, String::clone);
    below.each("label", &old.labels, labels, name);
    let unlimited = || "unlimited".to_owned();
    below.moved("memory", &old.memory, memory, |size| size.map_or_else(unlimited, |size| size.to_string()));
    below.moved("cpus", &old.nano_cpus, nano_cpus, |nanos| {
        // Exact up to nine places, which is what the language takes.
        #[allow(clippy::cast_precision_loss)]
        nanos.map_or_else(unlimited, |nanos| (nanos.get() as f64 / 1e9).to_string())
    });
}

fn swarm(old: &SwarmSource, new: &SwarmSource) -> Vec<Part> {
    let SwarmSource { service, port, reach, endpoint } = new;
    let mut below = Below::new("swarm");
    below.moved("service", &old.service, service, String::clone);
    below.moved("port", &old.port, port, ToString::to_string);
    below.reach(&old.reach, reach);
    below.moved("endpoint", &old.endpoint, endpoint, Endpoint::to_string);
    below.parts
}

/// What differs in how many replicas there should be. `None` for the old one is a service that is new.
pub(super) fn autoscale_parts(old: Option<&Service>, new: &Service) -> Vec<Part> {
    let bounds = |autoscale: &Autoscale| format!("from {} to {} replicas", autoscale.min, autoscale.max);
    match (old.and_then(|old| old.autoscale.as_ref()), &new.autoscale) {
        (None, None) => Vec::new(),
        (None, Some(new)) => vec![Part::of(Kind::Added, "autoscale", bounds(new))],
        (Some(old), None) => vec![Part::of(Kind::Removed, "autoscale", bounds(old))],
        (Some(old), Some(new)) => changed(old, new),
    }
}

fn changed(old: &Autoscale, new: &Autoscale) -> Vec<Part> {
    let Autoscale { min, max, target, stable, panic, up_at_once, down_at_once, idle, hold, hook } = new;
    let mut below = Below::new("autoscale");
    let time = |time: &std::time::Duration| spell_duration(*time);
    below.moved("min", &old.min, min, ToString::to_string);
    below.moved("max", &old.max, max, ToString::to_string);
    below.moved("target", &old.target, target, spell_target);
    below.moved("stable", &old.stable, stable, time);
    below.moved("panic", &old.panic, panic, time);
    below.moved("up_at_once", &old.up_at_once, up_at_once, ToString::to_string);
    below.moved("down_at_once", &old.down_at_once, down_at_once, ToString::to_string);
    below.moved("idle", &old.idle, idle, time);
    below.moved("hold.timeout", &old.hold.timeout, &hold.timeout, time);
    below.moved("hold.max", &old.hold.max, &hold.max, ToString::to_string);
    below.moved("hold.page", &old.hold.page, &hold.page, |page| (*page == WaitingPage::On).to_string());
    hook_parts(old.hook.as_ref(), hook.as_ref(), &mut below);
    below.parts
}

/// Its URL and its command may hold a secret.
fn hook_parts(old: Option<&Hook>, new: Option<&Hook>, below: &mut Below) {
    let way = |hook: Option<&Hook>| hook.map(|hook| hook.way.clone());
    let (old_way, new_way) = (way(old), way(new));
    let name = match new_way.as_ref().or(old_way.as_ref()) {
        Some(HookWay::Url(_)) => "hook.url",
        Some(HookWay::Command(_)) | None => "hook.command",
    };
    below.named(name, &old_way, &new_way);
    if let (Some(old), Some(new)) = (old, new) {
        below.moved("hook.timeout", &old.timeout, &new.timeout, |time| spell_duration(*time));
    }
}

fn spell_target(target: &Target) -> String {
    match target {
        Target::InFlight(in_flight) => format!("{in_flight} in flight"),
        Target::Rps(rps) => format!("{rps} requests per second"),
        Target::Latency(latency) => format!("answers in {}", spell_duration(*latency)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Diff;
    use crate::config::checked::Config;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;

    fn config(keys: &str) -> Config {
        let text = format!("services: {{ web: {{ {keys} }} }}");
        load::parse(&text, "portway.yaml", &ProcessEnvironment).unwrap_or_else(|d| panic!("{d}\n{text}")).config
    }

    #[track_caller]
    fn check(before: &str, after: &str, lines: &[&str]) {
        let diff = Diff::between(&config(before), &config(after));
        let text = diff.to_string();
        let found: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(found[1..], *lines);
        assert!(!Diff::between(&config(after), &config(before)).is_empty());
    }

    #[test]
    fn a_source_of_another_kind_is_said_with_what_it_was() {
        check(
            "backends: [\"a:1\"]",
            "docker: { label: app=web, port: 1 }",
            &["~ source from backends to docker (label app=web)", "- backend a:1"],
        );
        check(
            "docker: { label: app=web, port: 1 }",
            "container: { image: \"a:1\", port: 1 }",
            &["~ source from docker (label app=web) to container (image a:1)"],
        );
    }

    #[test]
    fn what_changed_of_found_containers_is_named() {
        check(
            "docker: { label: app=web, port: 1 }",
            "docker: { label: app, port: 2, network: n, address: network, endpoint: [\"tcp://h:1\", default] }",
            &[
                "~ docker label from app=web to app",
                "~ docker port from 1 to 2",
                "~ docker address from auto to network",
                "~ docker network from any to n",
                "+ docker endpoint tcp://h:1",
            ],
        );
        check(
            "swarm: { service: a, port: 1 }",
            "swarm: { service: b, port: 1, endpoint: \"tcp://m:1\" }",
            &["~ swarm service from a to b", "~ swarm endpoint from default to tcp://m:1"],
        );
    }

    #[test]
    fn what_changed_of_a_template_is_named_and_no_value_of_it_is_told() {
        check(
            "container: { image: \"a:1\", port: 1, command: run s3cret, environment: { A: s3cret, B: x, C: x }, labels: { l: s3cret } }",
            "container: { image: \"a:2\", port: 1, command: run other, environment: { A: other, C: x, D: s3cret }, labels: { l: other }, \
             volumes: \"vv:/v\", networks: [n1], memory: 64MiB, cpus: 0.5, replicas: 3, pull: always, stop_timeout: 1s, endpoint: \"tcp://h:1\" }",
            &[
                "~ container image from a:1 to a:2",
                "~ container command",
                "~ container environment A",
                "+ container environment D",
                "- container environment B",
                "+ container volume vv:/v",
                "+ container network n1",
                "~ container label l",
                "~ container memory from unlimited to 64MiB",
                "~ container cpus from unlimited to 0.5",
                "~ container replicas from 1 to 3",
                "~ container pull from missing to always",
                "~ container stop_timeout from 10s to 1s",
                "~ container endpoint from default to tcp://h:1",
            ],
        );
        check(
            "container: { image: a, port: 1, networks: [n1, n2] }",
            "container: { image: a, port: 1, networks: [n2, n1] }",
            &["~ container network in another order"],
        );
    }

    #[test]
    fn what_changed_of_autoscaling_is_named() {
        let with = |autoscale: &str| format!("container: {{ image: a, port: 1 }}, autoscale: {autoscale}");
        check(&with("off"), &with("{ min: 0, max: 3 }"), &["+ autoscale from 0 to 3 replicas"]);
        check(&with("{ max: 3 }"), &with("off"), &["- autoscale from 1 to 3 replicas"]);
        check(
            &with("{ max: 3 }"),
            &with(
                "{ min: 0, max: 9, target_rps: 0.5, stable: 30s, up_at_once: 4, down_at_once: 3, idle: 1m, hold: { timeout: 5s, max: 7, page: true } }",
            ),
            &[
                "~ autoscale min from 1 to 0",
                "~ autoscale max from 3 to 9",
                "~ autoscale target from 7 in flight to 0.5 requests per second",
                "~ autoscale stable from 1m to 30s",
                "~ autoscale panic from 6s to 3s",
                "~ autoscale up_at_once from 1000 to 4",
                "~ autoscale down_at_once from 2 to 3",
                "~ autoscale idle from 5m to 1m",
                "~ autoscale hold.timeout from 1m to 5s",
                "~ autoscale hold.max from 1000 to 7",
                "~ autoscale hold.page from false to true",
            ],
        );
        let hook = |hook: &str| format!("backends: \"a:1\", autoscale: {{ max: 3, hook: {hook} }}");
        check(&hook("\"http://h/s3cret\""), &hook("\"http://h/other\""), &["~ autoscale hook.url"]);
        check(&hook("\"http://h/\""), &hook("{ command: x }"), &["~ autoscale hook.command"]);
        check(
            &hook("{ command: x }"),
            &hook("{ command: x, timeout: 1s }"),
            &["~ autoscale hook.timeout from 10s to 1s"],
        );
    }

    #[test]
    fn a_service_that_is_new_says_what_it_runs() {
        let before = config("backends: [\"a:1\"]");
        let text = "services: { web: { backends: [\"a:1\"] }, b: { route: /b, container: { image: \"x:1\", port: 1 }, autoscale: { max: 2 } } }";
        let after = load::parse(text, "portway.yaml", &ProcessEnvironment).unwrap().config;
        let lines = "+ service b\n    + route /b\n    + container image x:1\n    + autoscale from 1 to 2 replicas\n";
        assert_eq!(Diff::between(&before, &after).to_string(), lines);
    }
}
