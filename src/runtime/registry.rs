//! Every backend there is, by service and address, so that a reload or a new DNS answer finds it again with its state.
//! It promises one object per (service, address) at any time. Only the control plane calls it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::backend::Backend;
use crate::telemetry::metrics::Metrics;
use crate::units::ServiceName;

/// Finds or makes backends.
#[derive(Debug)]
pub struct Registry {
    metrics: Arc<Metrics>,
    backends: Mutex<HashMap<(ServiceName, SocketAddr), Arc<Backend>>>,
}

impl Registry {
    /// An empty registry whose backends count in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, backends: Mutex::default() }
    }

    /// The backend of `service` at `address`: the one that is known, or a new one.
    pub fn backend(&self, service: &ServiceName, address: SocketAddr) -> Arc<Backend> {
        match self.lock().entry((service.clone(), address)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let metrics = self.metrics.backend(service, &address.to_string());
                place.insert(Backend::new(service.clone(), address, metrics)).clone()
            }
        }
    }

    /// Forgets the backends of `service` that are not in `members`; their open requests go on.
    pub fn retain(&self, service: &ServiceName, members: &[Arc<Backend>]) {
        self.lock().retain(|(owner, _), backend| {
            let stays = owner != service || members.iter().any(|member| member.id == backend.id);
            if !stays {
                backend.retire();
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ServiceName, SocketAddr), Arc<Backend>>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_keeps_its_state_for_as_long_as_it_is_a_member() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let first = registry.backend(&name, address);
        assert_eq!(registry.backend(&name, address).id, first.id);
        registry.retain(&name, std::slice::from_ref(&first));
        assert!(!first.is_retired());
        registry.retain(&name, &[]);
        assert!(first.is_retired());
        assert_ne!(registry.backend(&name, address).id, first.id);
    }

    #[test]
    fn two_services_at_one_address_share_nothing() {
        let registry = Registry::new(Metrics::new());
        let address = "127.0.0.1:5000".parse().unwrap();
        let [a, b] = ["a", "b"].map(|name| registry.backend(&ServiceName::new(name).unwrap(), address));
        assert_ne!(a.id, b.id);
    }
}
