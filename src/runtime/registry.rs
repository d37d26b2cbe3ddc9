//! Every backend there is, by service and address, so that a reload or a new DNS answer finds it again with its state.
//! It promises one object per (service, address) at any time. Only the control plane calls it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::lifecycle::clock;
use crate::runtime::backend::{Backend, Located};
use crate::runtime::leaving::Leaving;
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::{HostPort, ServiceName};

type ByAddress = HashMap<SocketAddr, Arc<Backend>>;
/// With the id of the container that was meant: the next one at its address is another.
type Drained = HashMap<(ServiceName, SocketAddr), Option<Arc<str>>>;

/// What is open at a container whose address another one has by now cannot end well; it may take so long to notice.
const HANDOVER: Duration = Duration::from_secs(1);

/// Finds or makes backends.
#[derive(Debug)]
pub struct Registry {
    /// Those that left and still have requests.
    pub leaving: Arc<Leaving>,
    metrics: Arc<Metrics>,
    backends: Mutex<HashMap<ServiceName, ByAddress>>,
    resolved: Mutex<HashMap<HostPort, BTreeSet<SocketAddr>>>,
    /// What discovery says of services whose backends the file does not name.
    found: Mutex<HashMap<ServiceName, BTreeSet<Located>>>,
    /// What people took out, whether it is a member at the moment or not. Only people make it longer.
    drained: Mutex<Drained>,
    /// Rung by backends whose answers call for a decision.
    bell: Arc<Notify>,
}

impl Registry {
    /// An empty registry whose backends count in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            leaving: Arc::default(),
            metrics,
            backends: Mutex::default(),
            resolved: Mutex::default(),
            found: Mutex::default(),
            drained: Mutex::default(),
            bell: Arc::default(),
        }
    }

    /// The backend of `service` at `address`: the one that is known, one that has not quite left, or a new one.
    pub fn backend(&self, service: &ServiceName, address: SocketAddr) -> Arc<Backend> {
        self.backend_from(service, address.into(), |_| ())
    }

    /// The same; a new one goes through `begin` before anybody else sees it.
    ///
    /// Another container at a known address is another backend: what was known of the one before does not hold for it,
    /// and none of its connections is used again.
    pub fn backend_from(&self, service: &ServiceName, place: Located, begin: impl FnOnce(&Backend)) -> Arc<Backend> {
        match self.lock().entry(service.clone()).or_default().entry(place.address) {
            Entry::Occupied(known) if known.get().stands_at(&place) => known.get().clone(),
            Entry::Occupied(mut other) => {
                let backend = self.join(service, place, begin);
                let before = other.insert(backend.clone());
                before.retire();
                self.leaving.add(&[before], clock::now().after(HANDOVER));
                backend
            }
            Entry::Vacant(free) => free.insert(self.join(service, place, begin)).clone(),
        }
    }

    /// One that has not quite left, or a new one.
    fn join(&self, service: &ServiceName, place: Located, begin: impl FnOnce(&Backend)) -> Arc<Backend> {
        let address = place.address;
        // People may have spoken while it was away.
        let instance = place.instance.as_ref().map(|instance| &instance.id);
        let is_drained = self.people().get(&(service.clone(), address)).is_some_and(|meant| meant.as_ref() == instance);
        if let Some(backend) = self.leaving.take_back(service, &place) {
            backend.take_back();
            match is_drained {
                true => backend.standing.add(Reason::Drained),
                false => backend.standing.remove(Reason::Drained),
            };
            return backend;
        }
        let metrics = self.metrics.backend(service, &address.to_string());
        let backend = Backend::new(service.clone(), place, metrics, self.bell.clone());
        if is_drained {
            backend.standing.add(Reason::Drained);
        }
        begin(&backend);
        self.watch(&backend);
        backend
    }

    /// Its series ends with it, not when it leaves: what it still serves is worth seeing.
    fn watch(&self, backend: &Arc<Backend>) {
        let weak = Arc::downgrade(backend);
        let read = move || weak.upgrade().map(|backend| f64::from(backend.in_flight()));
        self.metrics.watch(Gauge::BackendInFlight, &[backend.service.as_str(), &backend.name], read);
        let weak = Arc::downgrade(backend);
        let read = move || weak.upgrade().map(|backend| f64::from(u8::from(backend.is_ejected())));
        self.metrics.watch(Gauge::BackendEjected, &[backend.service.as_str(), &backend.name], read);
        let weak = Arc::downgrade(backend);
        let read = move || weak.upgrade().map(|backend| backend.idle_limit.safe_rest(None).as_secs_f64());
        self.metrics.watch(Gauge::BackendIdleLimit, &[backend.service.as_str(), &backend.name], read);
    }

    /// Waits until a backend has failed as often in a row as it may, or until its trial has ended.
    pub async fn decision_wanted(&self) {
        self.bell.notified().await;
    }

    /// Forgets the backends of `service` that are not in `members`; their open requests may go on for `drain`.
    pub fn retain(&self, service: &ServiceName, members: &[Arc<Backend>], drain: Duration) {
        let mut backends = self.lock();
        let Some(known) = backends.get_mut(service) else { return };
        let mut gone = Vec::new();
        known.retain(|_, backend| {
            let stays = members.iter().any(|member| member.id == backend.id);
            if !stays {
                backend.retire();
                gone.push(backend.clone());
            }
            stays
        });
        if known.is_empty() {
            backends.remove(service);
        }
        self.leaving.add(&gone, clock::now().after(drain));
    }

    /// Takes the backend at `address` out for as long as the process lives, over reloads and absences; the backend if it
    /// is there now.
    pub fn drain(&self, service: &ServiceName, address: SocketAddr) -> Option<Arc<Backend>> {
        let backends = self.lock(); // until it is noted, so that nobody joins in between
        let known = backends.get(service).and_then(|known| known.get(&address)).cloned();
        let meant = known.as_ref().and_then(|backend| backend.instance.as_ref()).map(|instance| instance.id.clone());
        self.people().insert((service.clone(), address), meant);
        if let Some(backend) = &known {
            backend.standing.add(Reason::Drained);
        }
        known
    }

    /// Whether a person took it out: the container that is there now, if it is one.
    pub fn is_drained(&self, service: &ServiceName, address: SocketAddr) -> bool {
        let known = self.lock().get(service).and_then(|known| known.get(&address)).cloned();
        let is_meant = |meant: &Option<Arc<str>>| {
            let instance = |backend: Arc<Backend>| backend.instance.as_ref().map(|instance| instance.id.clone());
            known.is_none_or(|backend| instance(backend) == *meant)
        };
        self.people().get(&(service.clone(), address)).is_some_and(is_meant)
    }

    /// Forgets that a person took it out; tells whether one had. Its standing is left to the caller, who knows its ramp.
    pub fn undrain(&self, service: &ServiceName, address: SocketAddr) -> bool {
        let was_drained = self.is_drained(service, address);
        self.people().remove(&(service.clone(), address));
        was_drained
    }

    /// The last addresses that `name` was found to have.
    pub fn addresses(&self, name: &HostPort) -> Vec<SocketAddr> {
        self.names().get(name).into_iter().flatten().copied().collect()
    }

    /// Notes what `name` was found to have.
    pub fn note_addresses(&self, name: HostPort, addresses: BTreeSet<SocketAddr>) {
        self.names().insert(name, addresses);
    }

    /// Forgets the addresses of all other names.
    pub fn retain_names(&self, names: &BTreeSet<HostPort>) {
        self.names().retain(|name, _| names.contains(name));
    }

    /// What discovery has found of a service, in the order of addresses.
    pub fn found(&self, service: &ServiceName) -> Vec<Located> {
        self.finds().get(service).into_iter().flatten().cloned().collect()
    }

    /// Notes everything that discovery finds of a service; tells whether it is news.
    pub fn note_found(&self, service: &ServiceName, found: BTreeSet<Located>) -> bool {
        let mut finds = self.finds();
        if finds.get(service).is_some_and(|known| *known == found) {
            return false;
        }
        finds.insert(service.clone(), found);
        true
    }

    /// Forgets what was found of services that are not among `services`.
    pub fn retain_found(&self, services: &HashSet<ServiceName>) {
        self.finds().retain(|service, _| services.contains(service));
    }

    fn finds(&self) -> MutexGuard<'_, HashMap<ServiceName, BTreeSet<Located>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn people(&self) -> MutexGuard<'_, Drained> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<HostPort, BTreeSet<SocketAddr>>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, ByAddress>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::backend::Instance;

    #[test]
    fn a_backend_keeps_its_state_for_as_long_as_it_is_a_member() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let first = registry.backend(&name, address);
        assert_eq!(registry.backend(&name, address).id, first.id);
        registry.retain(&name, std::slice::from_ref(&first), Duration::ZERO);
        assert!(!first.is_retired());
        let id = first.id;
        registry.retain(&name, &[], Duration::ZERO);
        assert!(first.is_retired());
        drop(first);
        assert_ne!(registry.backend(&name, address).id, id);
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
        registry.retain(&name, &[], Duration::ZERO);
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
        drop(backend);
        registry.retain(&name, &[], Duration::ZERO);
        assert!(registry.backend(&name, address).standing.has(Reason::Drained));
        assert!(registry.undrain(&name, address));
        assert!(!registry.undrain(&name, address));
        registry.retain(&name, &[], Duration::ZERO);
        assert!(registry.backend(&name, address).standing.is_plain());
    }

    #[test]
    fn a_backend_that_returns_before_its_last_request_has_ended_is_the_same_one() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let held_by_a_request = registry.backend(&name, address);
        registry.retain(&name, &[], Duration::ZERO);
        let again = registry.backend(&name, address);
        assert_eq!(again.id, held_by_a_request.id);
        assert!(!again.is_retired());
        assert_eq!(registry.leaving.overdue(clock::now()), []);
    }

    #[test]
    fn another_container_at_the_same_address_is_another_backend() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let container =
            |id: &str| Located { address, instance: Some(Instance { id: id.into(), name: "web-1".into() }) };
        let first = registry.backend_from(&name, container("a"), |_| ());
        assert_eq!(registry.backend_from(&name, container("a"), |_| ()).id, first.id);
        let second = registry.backend_from(&name, container("b"), |_| ());
        assert_ne!(second.id, first.id);
        assert!(first.is_retired());
        assert!(!second.is_retired());
    }

    #[test]
    fn who_follows_a_drained_container_at_its_address_is_not_drained() {
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let address = "127.0.0.1:5000".parse().unwrap();
        let container =
            |id: &str| Located { address, instance: Some(Instance { id: id.into(), name: "web-1".into() }) };
        registry.backend_from(&name, container("a"), |_| ());
        registry.drain(&name, address);
        assert!(registry.backend_from(&name, container("a"), |_| ()).standing.has(Reason::Drained));
        assert!(registry.is_drained(&name, address));
        assert!(registry.backend_from(&name, container("b"), |_| ()).standing.is_plain());
        assert!(!registry.is_drained(&name, address) && !registry.undrain(&name, address));
    }

    #[test]
    fn two_services_at_one_address_share_nothing() {
        let registry = Registry::new(Metrics::new());
        let address = "127.0.0.1:5000".parse().unwrap();
        let [a, b] = ["a", "b"].map(|name| registry.backend(&ServiceName::new(name).unwrap(), address));
        assert_ne!(a.id, b.id);
    }
}
