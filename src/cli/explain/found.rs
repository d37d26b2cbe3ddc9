//! Where the backends of a service come from and how many there are to be, as the file says it.
//! Promises a line for each source but written addresses, which speak for themselves. It asks no engine.

use crate::admin::{ServiceStatus, SourceKind};
use crate::cli::status::replicas as replicas_of;
use crate::config::checked::{Autoscale, Endpoint, Reach, Service, Source, Target};
use crate::config::quantity::spell_duration;

/// `containers with label app=orders, port 8000`; `None` for addresses that the file names.
pub(super) fn source(source: &Source) -> Option<String> {
    let (what, port, reach, endpoints) = match source {
        Source::Backends(_) => return None,
        Source::Docker(docker) => {
            (format!("containers with label {}", docker.label), docker.port, &docker.reach, &docker.endpoints[..])
        }
        Source::Container(container) => {
            let template = &container.template;
            let endpoint = std::slice::from_ref(&container.endpoint);
            (format!("containers of image {}", template.image), template.port, &container.reach, endpoint)
        }
        Source::Swarm(swarm) => {
            let endpoint = std::slice::from_ref(&swarm.endpoint);
            (format!("tasks of the Swarm service {}", swarm.service), swarm.port, &swarm.reach, endpoint)
        }
    };
    Some(format!("{what}, port {port}{}{}", network(reach), engines(endpoints)))
}

fn network(reach: &Reach) -> String {
    reach.network.as_ref().map_or_else(String::new, |network| format!(", on network {network}"))
}

fn engines(endpoints: &[Endpoint]) -> String {
    let is_default = matches!(endpoints, [Endpoint::Default]);
    let names: Vec<String> = endpoints
        .iter()
        .map(|endpoint| match endpoint {
            Endpoint::Default => "the default engine".to_owned(),
            endpoint => endpoint.to_string(),
        })
        .collect();
    if is_default { String::new() } else { format!(", at {}", names.join(" and ")) }
}

/// `3`, `0 to 10, for 6 in flight each`; `None` where Portway has no say.
pub(super) fn replicas(service: &Service) -> Option<String> {
    match (&service.autoscale, &service.source) {
        (Some(autoscale), _) => Some(scaled(autoscale)),
        (None, Source::Container(container)) => Some(container.replicas.to_string()),
        (None, Source::Backends(_) | Source::Docker(_) | Source::Swarm(_)) => None,
    }
}

fn scaled(autoscale: &Autoscale) -> String {
    let target = match autoscale.target {
        Target::InFlight(in_flight) => format!("{in_flight} in flight each"),
        Target::Rps(rps) => format!("{rps} requests per second each"),
        Target::Latency(latency) => format!("answers in {}", spell_duration(latency)),
    };
    format!("{} to {}, for {target}", autoscale.min, autoscale.max)
}

/// What becomes of a request while there is no backend: `cold: the request waits …`.
pub(super) fn without(service: &Service, known: &ServiceStatus) -> String {
    let what = match &service.autoscale {
        Some(autoscale) => {
            let patience = spell_duration(autoscale.hold.timeout.min(service.timeout));
            format!("the request waits for the first replica, {patience} at most")
        }
        None => "the answer is 503 no_healthy_backend".to_owned(),
    };
    // Of written addresses the table says nothing where there are none.
    let state = match known.source.kind {
        SourceKind::Backends if known.replicas.is_none() => "none".to_owned(),
        _ => replicas_of::backends(known),
    };
    format!("{state}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;

    #[track_caller]
    fn check(keys: &str, wanted: [Option<&str>; 2]) {
        let text = format!("services: {{ web: {{ {keys} }} }}");
        let loaded = load::parse(&text, "x", &ProcessEnvironment).unwrap_or_else(|d| panic!("{d}"));
        let service = &loaded.config.services[0];
        assert_eq!([source(&service.source).as_deref(), replicas(service).as_deref()], wanted);
    }

    #[test]
    fn each_source_is_said_as_people_would() {
        check("backends: \"a:1\"", [None, None]);
        check("docker: { label: app=orders, port: 8000 }", [Some("containers with label app=orders, port 8000"), None]);
        check(
            "docker: { label: app, port: 1, network: n, endpoint: [default, \"tcp://h:1\"] }",
            [Some("containers with label app, port 1, on network n, at the default engine and tcp://h:1"), None],
        );
        check(
            "container: { image: \"acme/thumbs:1.4\", port: 5000, replicas: 3 }",
            [Some("containers of image acme/thumbs:1.4, port 5000"), Some("3")],
        );
        check(
            "container: { image: a, port: 1 }, max_in_flight: 8, autoscale: { min: 0, max: 10 }",
            [Some("containers of image a, port 1"), Some("0 to 10, for 5.6 in flight each")],
        );
        check(
            "swarm: { service: shop_web, port: 80 }, autoscale: { max: 2, target_latency: 200ms }",
            [Some("tasks of the Swarm service shop_web, port 80"), Some("1 to 2, for answers in 200ms")],
        );
        check(
            "backends: \"a:1\", autoscale: { max: 2, target_rps: 0.5, hook: \"http://h/\" }",
            [None, Some("1 to 2, for 0.5 requests per second each")],
        );
    }
}
