//! Backends that a person takes out and puts back: `portway drain SERVICE/BACKEND`, `portway undrain SERVICE/BACKEND`.
//! Promises that the word holds until it is taken back: over reloads and over absences of the address, not over a
//! restart. Numbers of replicas are in `scaling`. It cuts nothing: requests that are open at the backend go on for as long as they like.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::checked::Service as Declared;
use crate::lifecycle::clock;
use crate::runtime::backend::{Backend, Instance};
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::standing::Reason;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::units::ServiceName;

mod scaling;

pub use scaling::CannotScale;

/// Acts for people.
#[derive(Debug)]
pub struct ByHand<S> {
    store: Arc<Store<S>>,
    registry: Arc<Registry>,
    events: Arc<Events>,
}

/// What was asked for, understood.
#[derive(Clone, Debug)]
pub struct Named {
    /// Whose backends.
    pub service: Arc<Service>,
    /// One, or all that a name stands for.
    pub addresses: Vec<SocketAddr>,
}

/// What is not there. The message is for people and names what is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No service of this name.
    #[error("there is no service `{asked}`; {}", suggestion(.asked, .known))]
    Service {
        /// What was asked for.
        asked: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// No backend of this address or name.
    #[error("service `{service}` has no backend `{asked}`; {}", suggestion(.asked, .known))]
    Backend {
        /// The service, which is there.
        service: ServiceName,
        /// What was asked for.
        asked: String,
        /// Those there are.
        known: Vec<String>,
    },
}

fn suggestion(asked: &str, known: &[String]) -> String {
    const NAMES_MAX: usize = 10;
    let distance = |name: &String| strsim::damerau_levenshtein(asked, name);
    let nearest = known.iter().min_by_key(|name| distance(name)).filter(|name| distance(name) <= 2);
    match (nearest, known) {
        (Some(nearest), _) => format!("did you mean `{nearest}`?"),
        (None, []) => "there are none".to_owned(),
        (None, _) if known.len() > NAMES_MAX => {
            format!("there are: {} and {} more", known[..NAMES_MAX].join(", "), known.len() - NAMES_MAX)
        }
        (None, _) => format!("there are: {}", known.join(", ")),
    }
}

impl<S> ByHand<S> {
    /// Acts on what `store` and `registry` hold; `events` remembers it.
    pub fn new(store: Arc<Store<S>>, registry: Arc<Registry>, events: Arc<Events>) -> Self {
        Self { store, registry, events }
    }

    /// Takes a backend out: no new requests, while open ones go on. A name stands for every address that it has now.
    pub fn drain(&self, service: &str, backend: &str) -> Result<Named, Unknown> {
        let named = self.find(service, backend)?;
        for address in &named.addresses {
            if self.registry.is_drained(&named.service.name, *address) {
                continue;
            }
            self.registry.drain(&named.service.name, *address);
            self.tell(&named.service, *address, ("backend_drained", "backend drained by hand"));
        }
        Ok(named)
    }

    /// Puts it back, on its ramp if the service has one. One that nobody took out stays as it is.
    pub fn undrain(&self, service: &str, backend: &str) -> Result<Named, Unknown> {
        let named = self.find(service, backend)?;
        let now = clock::now();
        for address in &named.addresses {
            if !self.registry.undrain(&named.service.name, *address) {
                continue;
            }
            let members = named.service.members();
            if let Some(member) = members.members.iter().find(|member| member.backend.address == *address) {
                named.service.readmit(&member.backend, Reason::Drained, now);
            }
            self.tell(&named.service, *address, ("backend_undrained", "backend put back by hand"));
        }
        Ok(named)
    }

    fn tell(&self, service: &Service, address: SocketAddr, (kind, message): (&'static str, &'static str)) {
        tracing::info!(service = %service.name, backend = %address, "{message}");
        self.events.push(kind, message, &[("service", &service.name), ("backend", &address)]);
    }

    fn find(&self, service: &str, backend: &str) -> Result<Named, Unknown> {
        let snapshot = self.store.load_full();
        let (declared, service) = Self::declared(&snapshot, service)?;
        let addresses = self.addresses(declared, service, backend);
        if addresses.is_empty() {
            let known = service.members().members.iter().map(|member| called(&member.backend)).collect();
            return Err(Unknown::Backend { service: service.name.clone(), asked: backend.to_owned(), known });
        }
        Ok(Named { service: service.clone(), addresses })
    }

    fn declared<'a>(snapshot: &'a Snapshot<S>, name: &str) -> Result<(&'a Declared, &'a Arc<Service>), Unknown> {
        let found = ServiceName::new(name).and_then(|name| snapshot.declared(&name));
        found.ok_or_else(|| Unknown::Service { asked: name.to_owned(), known: names(snapshot) })
    }

    /// By address, as the configuration names it, or by container: its name or its id, whole or as `docker ps` shows it.
    /// An address that is absent at the moment counts if it was drained.
    fn addresses(&self, declared: &Declared, service: &Service, backend: &str) -> Vec<SocketAddr> {
        if let Ok(address) = backend.parse::<SocketAddr>() {
            let is_member = service.members().members.iter().any(|member| member.backend.address == address);
            let is_known = is_member || self.registry.is_drained(&service.name, address);
            return if is_known { vec![address] } else { vec![] };
        }
        let is_container =
            |found: &Backend| found.instance.as_ref().is_some_and(|instance| is_named(instance, backend));
        let set = service.members();
        if let Some(member) = set.members.iter().find(|member| is_container(&member.backend)) {
            return vec![member.backend.address];
        }
        let entries = declared.source.declared();
        let entry = entries.iter().find(|entry| entry.address.to_string() == backend);
        entry.map_or_else(Vec::new, |entry| self.registry.addresses(&entry.address))
    }
}

/// Digits of a container's id that tell it from others.
const ID_CHARS_MIN: usize = 12;

fn is_named(instance: &Instance, asked: &str) -> bool {
    *instance.name == *asked || (asked.len() >= ID_CHARS_MIN && instance.id.starts_with(asked))
}

/// As people call it.
fn called(backend: &Backend) -> String {
    backend.instance.as_ref().map_or(&backend.name, |instance| &instance.name).to_string()
}

fn names<S>(snapshot: &Snapshot<S>) -> Vec<String> {
    snapshot.services.iter().map(|service| service.name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::config::checked;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use crate::runtime::backend::Located;
    use crate::runtime::snapshot::Build;
    use crate::telemetry::metrics::Metrics;
    use crate::units::HostPort;

    pub(super) struct Stage {
        pub(super) hands: ByHand<()>,
        metrics: Arc<Metrics>,
    }

    fn read(yaml: &str) -> checked::Config {
        let text = format!("services: {{ {yaml} }}");
        load::parse(&text, "test", &ProcessEnvironment).unwrap_or_else(|d| panic!("{:?}", d.list)).config
    }

    fn build(metrics: &Metrics, registry: &Registry, previous: Option<&Snapshot<()>>, yaml: &str) -> Snapshot<()> {
        let mut config = read(yaml);
        let ramp = |service: &mut checked::Service| service.slow_start = Duration::from_secs(5);
        config.services.iter_mut().for_each(ramp);
        Snapshot::build(config, &Build { generation: 1, registry, metrics, stack: &|_| None, previous })
    }

    impl Stage {
        fn new(yaml: &str) -> Self {
            let metrics = Metrics::new();
            let registry = Arc::new(Registry::new(metrics.clone()));
            let store = Arc::new(Store::new(build(&metrics, &registry, None, yaml)));
            Self { hands: ByHand::new(store, registry, Arc::default()), metrics }
        }

        /// The first service has zero to ten replicas.
        pub(super) fn scaled(yaml: &str) -> Self {
            let stage = Self::new(yaml);
            let mut config = read(yaml);
            config.services[0].autoscale = Some(crate::runtime::replicas::tests::up_to_ten());
            let (registry, metrics) = (&stage.hands.registry, &stage.metrics);
            let build = Build { generation: 2, registry, metrics, stack: &|_| None, previous: None };
            stage.hands.store.publish(Snapshot::build(config, &build));
            stage
        }

        fn reload(&self, yaml: &str) {
            let next = build(&self.metrics, &self.hands.registry, Some(&self.hands.store.load()), yaml);
            self.hands.store.publish(next);
        }

        fn backends(&self, service_idx: usize) -> Vec<Arc<Backend>> {
            let members = self.hands.store.load().services[service_idx].members();
            members.members.iter().map(|member| member.backend.clone()).collect()
        }
    }

    pub(super) const TWO: &str = "web: { backends: [\"10.0.0.1:80\", \"10.0.0.2:80\"] }, \
                       api: { route: /api, backends: [\"10.0.0.1:80\"] }";

    #[test]
    fn a_drained_backend_is_out_in_its_service_alone_until_it_is_put_back() {
        let stage = Stage::new(TWO);
        let named = stage.hands.drain("web", "10.0.0.1:80").unwrap();
        assert_eq!(named.addresses, ["10.0.0.1:80".parse().unwrap()]);
        let web = stage.backends(0);
        assert!(web[0].standing.has(Reason::Drained) && web[1].standing.is_plain());
        assert!(stage.backends(1)[0].standing.is_plain());
        stage.hands.undrain("web", "10.0.0.1:80").unwrap();
        assert!(!web[0].standing.has(Reason::Drained) && web[0].standing.has(Reason::Ramping));
        let kinds: Vec<_> = stage.hands.events.all().into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["backend_drained", "backend_undrained"]);
    }

    #[test]
    fn what_was_not_drained_is_not_put_on_a_ramp() {
        let stage = Stage::new(TWO);
        stage.hands.undrain("web", "10.0.0.1:80").unwrap();
        assert!(stage.backends(0)[0].standing.is_plain());
        assert!(stage.hands.events.all().is_empty());
    }

    #[test]
    fn a_drain_outlives_reloads_and_the_absence_of_its_backend() {
        let stage = Stage::new(TWO);
        stage.hands.drain("web", "10.0.0.1:80").unwrap();
        stage.reload("web: { timeout: 9s, backends: [\"10.0.0.1:80\", \"10.0.0.2:80\"] }");
        assert!(stage.backends(0)[0].standing.has(Reason::Drained));
        stage.reload("web: { backends: [\"10.0.0.2:80\"] }");
        stage.reload("web: { backends: [\"10.0.0.1:80\", \"10.0.0.2:80\"] }");
        assert!(stage.backends(0)[0].standing.has(Reason::Drained), "before anybody could pick it");
        stage.reload("web: { backends: [\"10.0.0.2:80\"] }");
        stage.hands.undrain("web", "10.0.0.1:80").unwrap();
        stage.reload("web: { backends: [\"10.0.0.1:80\", \"10.0.0.2:80\"] }");
        assert!(!stage.backends(0)[0].standing.has(Reason::Drained));
    }

    #[test]
    fn a_name_stands_for_its_addresses() {
        let stage = Stage::new("web: { backends: [\"flask:80\"] }");
        let name = HostPort { host: "flask".into(), port: 80 };
        let found: BTreeSet<SocketAddr> = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap()).into();
        stage.hands.registry.note_addresses(name, found);
        stage.reload("web: { timeout: 9s, backends: [\"flask:80\"] }");
        assert_eq!(stage.hands.drain("web", "flask:80").unwrap().addresses.len(), 2);
        assert!(stage.backends(0).iter().all(|backend| backend.standing.has(Reason::Drained)));
    }

    #[test]
    fn a_container_is_called_by_its_name_or_its_id() {
        let stage = Stage::new(TWO);
        let service = stage.hands.store.load().services[0].clone();
        let id: Arc<str> = "3f2a9c0d1e4b".repeat(5).into();
        let instance = Instance { id: id.clone(), name: "shop-1".into() };
        let place = Located { address: "10.0.0.9:80".parse().unwrap(), instance: Some(instance) };
        let backend = stage.hands.registry.backend_from(&service.name, place, |_| ());
        service.set_members(vec![(backend.clone(), crate::units::Weight::ONE)], vec![]);
        for asked in ["shop-1", &id[..12], &id] {
            assert_eq!(stage.hands.drain("web", asked).unwrap().addresses, [backend.address]);
        }
        assert!(backend.standing.has(Reason::Drained));
        let error = stage.hands.drain("web", "shop-2").unwrap_err().to_string();
        assert_eq!(error, "service `web` has no backend `shop-2`; did you mean `shop-1`?");
        assert!(stage.hands.drain("web", &id[..11]).is_err(), "too short to be sure");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let stage = Stage::new(TWO);
        for (service, backend, message) in [
            ("wep", "10.0.0.1:80", "there is no service `wep`; did you mean `web`?"),
            ("ordering", "x", "there is no service `ordering`; there are: web, api"),
            ("", "x", "there is no service ``; there are: web, api"),
            ("web", "10.0.0.1:81", "service `web` has no backend `10.0.0.1:81`; did you mean `10.0.0.1:80`?"),
            ("web", "flask:80", "service `web` has no backend `flask:80`; there are: 10.0.0.1:80, 10.0.0.2:80"),
        ] {
            assert_eq!(stage.hands.drain(service, backend).unwrap_err().to_string(), message);
            assert_eq!(stage.hands.undrain(service, backend).unwrap_err().to_string(), message);
        }
    }
}
