//! From what the configuration says of a service to the backends it has now.
//! Promises one backend per address, the known one with its state, in the order of the file. It resolves nothing: names
//! have the addresses that the registry has heard of, and so have containers.

use std::sync::Arc;

use crate::config::checked::{self, Initial, Source};
use crate::runtime::backend::Backend;
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::standing::Reason;
use crate::units::{HostPort, Weight};

/// The backends that a service should have.
#[derive(Debug, Default)]
pub struct Members {
    /// In the order of the configuration.
    pub backends: Vec<(Arc<Backend>, Weight)>,
    /// Names without an address.
    pub unresolved: Vec<HostPort>,
}

impl Members {
    /// Finds or makes the backends of `declared`.
    pub fn of(declared: &checked::Service, registry: &Registry) -> Self {
        let Source::Backends(entries) = &declared.source else {
            return Self::found(declared, registry);
        };
        let mut members = Self::default();
        for entry in entries {
            let addresses = match entry.address.socket_addr() {
                Some(address) => vec![address],
                None => registry.addresses(&entry.address),
            };
            if addresses.is_empty() {
                members.unresolved.push(entry.address.clone());
            }
            for address in addresses {
                let backend = registry.backend_from(&declared.name, address.into(), |new| begin(new, declared));
                // Two names may lead to one address: it is one backend.
                if members.backends.iter().all(|(member, _)| member.id != backend.id) {
                    members.backends.push((backend, entry.weight));
                }
            }
        }
        members
    }

    /// Those that discovery has found: a probe of each has passed, so that `initial: down` asks for none.
    fn found(declared: &checked::Service, registry: &Registry) -> Self {
        let found = registry.found(&declared.name).into_iter();
        let backend = |place| registry.backend_from(&declared.name, place, |_| ());
        Self { backends: found.map(|place| (backend(place), Weight::ONE)).collect(), unresolved: Vec::new() }
    }

    /// Makes them the members of `service`, and lets go of those that are no longer among them; tells whether anything
    /// changed.
    pub fn install(self, service: &Service, registry: &Registry) -> bool {
        let present = service.members();
        let ids = self.backends.iter().map(|(backend, _)| backend.id);
        if present.members.iter().map(|member| member.backend.id).eq(ids) && present.unresolved == self.unresolved {
            return false;
        }
        self.replace(service, registry);
        true
    }

    /// The same, also if only weights or limits differ.
    pub fn replace(self, service: &Service, registry: &Registry) {
        let stay: Vec<_> = self.backends.iter().map(|(backend, _)| backend.clone()).collect();
        service.set_members(self.backends, self.unresolved);
        registry.retain(&service.name, &stay, service.policy.drain);
    }
}

/// What a new backend is before anybody knows it: with `initial: down` it waits for its first passed probe.
fn begin(backend: &Backend, declared: &checked::Service) {
    if declared.health.as_ref().is_some_and(|health| health.initial == Initial::Down) {
        backend.standing.add(Reason::Unhealthy);
    }
}
