//! The backends of a service: addresses, weights, and no backend twice.
//! Promises a cure for each wrong address, taken from its neighbours. Resolves no name.

use std::collections::HashMap;

use super::address;
use super::check::Check;
use crate::config::checked::BackendAddress;
use crate::config::raw;
use crate::config::source::Span;
use crate::units::{HostPort, Weight};

/// The port that messages propose where no neighbour has one: Flask's.
const PORT_HINT: &str = "5000";

/// The backends that are right.
pub(crate) fn backends(raw: &[raw::Backend], check: &mut Check<'_>) -> Vec<BackendAddress> {
    let port_hint = port_hint(raw);
    let mut seen: HashMap<HostPort, Span> = HashMap::new();
    let mut backends = Vec::with_capacity(raw.len());
    for raw in raw {
        if check.report.is_full() {
            break;
        }
        let weight = check.count(&raw.weight, 1, 1..=Weight::MAX);
        let Some(scalar) = &raw.address else { continue };
        let Some(address) = address::backend_address(scalar, port_hint, check) else { continue };
        if let Some(&first) = seen.get(&address) {
            let message = format!("the backend {} is here twice", scalar.shown());
            check
                .error(scalar.span(), message, "again here; for a larger share, give it a `weight`")
                .also(first, "first here");
            continue;
        }
        seen.insert(address.clone(), scalar.span());
        let zone = raw.zone.as_ref().map(|zone| zone.value().to_owned());
        backends.push(BackendAddress { address, weight: Weight::new(weight).unwrap_or(Weight::ONE), zone });
    }
    backends
}

fn port_hint(raw: &[raw::Backend]) -> &str {
    let ports = raw.iter().filter_map(|raw| raw.address.as_ref()).filter(|address| !address.has_variables());
    let mut ports = ports.filter_map(|address| address.value().rsplit_once(':'));
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    ports.find(|(host, port)| !host.contains(':') && is_port(port)).map_or(PORT_HINT, |(_, port)| port)
}
