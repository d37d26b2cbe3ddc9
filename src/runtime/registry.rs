//! Every backend there is, by service and address, so that a reload or a new DNS answer finds it again with its state.
//! It promises one object per (service, address) at any time. Only the control plane calls it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::runtime::backend::Backend;
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::{HostPort, ServiceName};

/// Finds or makes backends.
#[derive(Debug)]
pub struct Registry {
    metrics: Arc<Metrics>,
    backends: Mutex<HashMap<(ServiceName, SocketAddr), Arc<Backend>>>,
    resolved: Mutex<HashMap<HostPort, BTreeSet<SocketAddr>>>,
    /// What people took out, whether it is a member at the moment or not. Only people make it longer.
    drained: Mutex<HashSet<(ServiceName, SocketAddr)>>,
    /// Rung by backends whose answers call for a decision.
    bell: Arc<Notify>,
}

impl Registry {
    /// An empty registry whose backends count in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let (resolved, drained) = (Mutex::default(), Mutex::default());
        Self { metrics, backends: Mutex::default(), resolved, drained, bell: Arc::default() }
    }

    /// The backend of `service` at `address`: the one that is known, or a new one.
    pub fn backend(&self, service: &ServiceName, address: SocketAddr) -> Arc<Backend> {
        self.backend_from(service, address, |_| ())
    }

    /// The same; a new one goes through `begin` before anybody else sees it.
    pub fn backend_from(
        &self,
        service: &ServiceName,
        address: SocketAddr,
        begin: impl FnOnce(&Backend),
    ) -> Arc<Backend> {
        match self.lock().entry((service.clone(), address)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let metrics = self.metrics.backend(service, &address.to_string());
                let backend = Backend::new(service.clone(), address, metrics, self.bell.clone());
                if self.people().contains(&(service.clone(), address)) {
                    backend.standing.add(Reason::Drained);
                }
                begin(&backend);
                self.watch(&backend);
                place.insert(backend).clone()
            }
        }
    }

    /// Its series ends with it, not when it leaves: what it still serves is worth seeing.
    fn watch(&self, backend: &Arc<Backend>) {
        let weak = Arc::downgrade(backend);
        let read = move || weak.upgrade().map(|backend| f64::from(backend.in_flight()));
        self.metrics.watch(Gauge::BackendInFlight, &[backend.service.as_str(), &backend.name], read);
        let weak = Arc::downgrade(backend);
        let read = move || weak.upgrade().map(|backend| f64::from(u8::from(backend.is_ejected())));
        self.metrics.watch(Gauge::BackendEjected, &[backend.service.as_str(), &backend.name], read);
    }

    /// Waits until a backend has failed as often in a row as it may, or until its trial has ended.
    pub async fn decision_wanted(&self) {
        self.bell.notified().await;
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

    /// Takes the backend at `address` out for as long as the process lives, over reloads and absences; the backend if it
    /// is there now.
    pub fn drain(&self, service: &ServiceName, address: SocketAddr) -> Option<Arc<Backend>> {
        let key = (service.clone(), address);
        self.people().insert(key.clone());
        let known = self.lock().get(&key).cloned();
        if let Some(backend) = &known {
            backend.standing.add(Reason::Drained);
        }
        known
    }

    /// Whether a person took it out.
    pub fn is_drained(&self, service: &ServiceName, address: SocketAddr) -> bool {
        self.people().contains(&(service.clone(), address))
    }

    /// Forgets that a person took it out; tells whether one had. Its standing is left to the caller, who knows its ramp.
    pub fn undrain(&self, service: &ServiceName, address: SocketAddr) -> bool {
        self.people().remove(&(service.clone(), address))
    }

    /// The last addresses that `name` was found to have.
    pub fn addresses(&self, name: &HostPort) -> Vec<SocketAddr> {
        self.names().get(name).into_iter().flatten().copied().collect()
    }

    /// Notes what `name` was found to have.
    pub fn note_addresses(&self, name: HostPort, addresses: BTreeSet<SocketAddr>) {
        self.names().insert(name, addresses);
    }

    fn people(&self) -> MutexGuard<'_, HashSet<(ServiceName, SocketAddr)>> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<HostPort, BTreeSet<SocketAddr>>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn requests_in_flight_are_shown_for_as_long_as_the_backend_is_there() {
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let name = ServiceName::new("web").unwrap();
        let backend = registry.backend(&name, "127.0.0.1:5000".parse().unwrap());
        assert!(backend.try_enter(u32::MAX));
        let series = "portway_backend_in_flight{service=\"web\",backend=\"127.0.0.1:5000\"}";
        assert!(metrics.render().contains(&format!("{series} 1")));
        backend.leave();
        assert!(metrics.render().contains(&format!("{series} 0")));
        registry.retain(&name, &[]);
        drop(backend);
        assert!(!metrics.render().contains(series));
    }

    #[test]
    fn what_a_person_took_out_stays_out_over_its_absence() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let backend = registry.backend(&name, address);
        assert_eq!(registry.drain(&name, address).map(|drained| drained.id), Some(backend.id));
        assert!(backend.standing.has(Reason::Drained));
        registry.retain(&name, &[]);
        assert!(registry.backend(&name, address).standing.has(Reason::Drained));
        assert!(registry.undrain(&name, address));
        assert!(!registry.undrain(&name, address));
        registry.retain(&name, &[]);
        assert!(registry.backend(&name, address).standing.is_plain());
    }

    #[test]
    fn two_services_at_one_address_share_nothing() {
        let registry = Registry::new(Metrics::new());
        let address = "127.0.0.1:5000".parse().unwrap();
        let [a, b] = ["a", "b"].map(|name| registry.backend(&ServiceName::new(name).unwrap(), address));
        assert_ne!(a.id, b.id);
    }
}
