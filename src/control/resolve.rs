//! Turns the names of backends into addresses, at once and then every few seconds.
//! It promises that an unresolvable name never stops a start, and that a name which resolved once keeps its last
//! addresses while the resolver fails. Every address of a name is a backend; IPv4 goes before IPv6, not beside it.
//! It asks the system's resolver: its `hosts` file and search path are the user's.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::checked::Config;
use crate::runtime::membership::Members;
use crate::runtime::registry::Registry;
use crate::runtime::store::Store;
use crate::telemetry::metrics::{Limit, Metrics};
use crate::units::HostPort;

/// Between two rounds. Docker's embedded DNS says ten minutes, and its containers move in seconds.
pub const EVERY: Duration = Duration::from_secs(5);
/// A failed connection asks for a round at once, but not more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// How long one name may take. The rest of the round does not wait for it longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Addresses of one name that become backends; a name with more is not a service of ours.
const ADDRESSES_MAX: usize = 256;

/// Resolves the names of all services for as long as the process lives.
#[derive(Debug)]
pub struct Resolver {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// Said once when a name begins to fail and once when it is found again, not every round.
    failing: HashSet<HostPort>,
}

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        Self { registry, metrics, failing: HashSet::new() }
    }

    /// Runs rounds for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        loop {
            let began = Instant::now();
            self.round(&store).await;
            tokio::select! {
                () = tokio::time::sleep_until(began + EVERY) => {}
                () = store.resolution_wanted() => tokio::time::sleep_until(began + AT_MOST_EVERY).await,
            }
        }
    }

    /// Resolves every name once and gives the services their members.
    pub async fn round<S>(&mut self, store: &Store<S>) {
        let mut lookups = JoinSet::new();
        for name in names(&store.load().config) {
            lookups.spawn(async move {
                let found = tokio::time::timeout(PATIENCE, look_up(&name)).await;
                (name, found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            });
        }
        while let Some(answer) = lookups.join_next().await {
            if let Ok((name, found)) = answer {
                self.learn(name, found);
            }
        }
        // A reload may have come in between: the services are those of now.
        let snapshot = store.load_full();
        for (declared, service) in snapshot.config.services.iter().zip(&snapshot.services) {
            let members = Members::of(declared, &self.registry);
            let (backends, unresolved) = (members.backends.len(), members.unresolved.len());
            if members.install(service, &self.registry) {
                tracing::info!(service = %service.name, backends, unresolved, "backends resolved");
                store.note_change();
            }
        }
    }

    fn learn(&mut self, name: HostPort, found: io::Result<BTreeSet<SocketAddr>>) {
        match found {
            Ok(mut addresses) if !addresses.is_empty() => {
                if addresses.len() > ADDRESSES_MAX {
                    self.metrics.limit_hit(Limit::Addresses);
                    addresses = addresses.into_iter().take(ADDRESSES_MAX).collect();
                }
                if self.failing.remove(&name) {
                    tracing::info!(%name, "name resolved again");
                }
                self.registry.note_addresses(name, addresses);
            }
            // The last good set stays: a resolver that fails says nothing about the backends.
            Ok(_) => self.failed(name, "it has no address"),
            Err(error) => self.failed(name, &error.to_string()),
        }
    }

    fn failed(&mut self, name: HostPort, error: &str) {
        let keeps = if !self.registry.addresses(&name).is_empty() { "its last addresses" } else { "nothing" };
        if self.failing.contains(&name) {
            tracing::debug!(%name, error, keeps, "name not resolved");
        } else {
            tracing::warn!(%name, error, keeps, "name not resolved");
            self.failing.insert(name);
        }
    }
}

/// Looks up the names of `config` that nobody has looked up before, all at once, and notes what is found within `patience`.
pub async fn learn_new(config: &Config, registry: &Registry, patience: Duration) {
    let mut lookups = JoinSet::new();
    for name in names(config).into_iter().filter(|name| registry.addresses(name).is_empty()) {
        lookups.spawn(async move { (look_up(&name).await, name) });
    }
    let all = async {
        while let Some(answer) = lookups.join_next().await {
            if let Ok((Ok(found), name)) = answer
                && !found.is_empty()
            {
                registry.note_addresses(name, found.into_iter().take(ADDRESSES_MAX).collect());
            }
        }
    };
    // What is not found in time is the business of the next round, which says so.
    let _ = tokio::time::timeout(patience, all).await;
}

/// The names among the backends of `config`.
pub fn names(config: &Config) -> BTreeSet<HostPort> {
    let entries = config.services.iter().flat_map(|service| service.source.declared());
    entries.map(|entry| &entry.address).filter(|address| address.socket_addr().is_none()).cloned().collect()
}

async fn look_up(name: &HostPort) -> io::Result<BTreeSet<SocketAddr>> {
    let found = tokio::net::lookup_host((&*name.host, name.port)).await?;
    // A name with addresses of both families is the same backends twice, and `localhost` is ::1 and 127.0.0.1 while a
    // Flask server listens on one of them: IPv4 if there is any, as Docker's networks have it.
    let (v4, v6): (BTreeSet<_>, BTreeSet<_>) = found.partition(SocketAddr::is_ipv4);
    Ok(if v4.is_empty() { v6 } else { v4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;

    const YAML: &str = "services: { web: { backends: [\"shop.invalid:80\"] } }";

    /// What one round brings: who stands behind the service, and which names are still to be found.
    fn learned(resolver: &mut Resolver, config: &Config, found: io::Result<&[SocketAddr]>) -> (Vec<SocketAddr>, usize) {
        let asked: Vec<HostPort> = names(config).into_iter().collect();
        assert_eq!(asked.len(), 1, "each round asks for each name, whatever became of it before");
        resolver.learn(asked[0].clone(), found.map(|found| found.iter().copied().collect()));
        let members = Members::of(&config.services[0], &resolver.registry);
        (members.backends.iter().map(|(backend, _)| backend.address).collect(), members.unresolved.len())
    }

    fn scene() -> (Resolver, Config, Arc<Metrics>) {
        let metrics = Metrics::new();
        let resolver = Resolver::new(Arc::new(Registry::new(metrics.clone())), metrics.clone());
        let config =
            load::parse(YAML, "test.yaml", &ProcessEnvironment).expect("it need not resolve to be valid").config;
        (resolver, config, metrics)
    }

    /// NGINX refuses to start when one name of many does not resolve, and asks no more once one did.
    #[test]
    fn trap_a_name_that_does_not_resolve_is_asked_for_until_it_does() {
        let (mut resolver, config, _) = scene();
        let gone = || Err(io::ErrorKind::NotFound.into());
        let [first, second] = [1, 2].map(|last| SocketAddr::from(([10, 0, 0, last], 80)));
        assert_eq!(learned(&mut resolver, &config, gone()), (vec![], 1));
        assert_eq!(learned(&mut resolver, &config, Ok(&[])), (vec![], 1));
        assert_eq!(learned(&mut resolver, &config, Ok(&[first])), (vec![first], 0));
        assert_eq!(learned(&mut resolver, &config, gone()), (vec![first], 0), "the last good answer stays");
        assert_eq!(learned(&mut resolver, &config, Ok(&[second])), (vec![second], 0));
    }

    #[test]
    fn a_name_with_too_many_addresses_gives_as_many_backends_as_fit() {
        let (mut resolver, config, metrics) = scene();
        let many: Vec<SocketAddr> = (0..300_u16).map(|port| SocketAddr::from(([10, 0, 0, 1], port + 1))).collect();
        assert_eq!(learned(&mut resolver, &config, Ok(&many)).0.len(), ADDRESSES_MAX);
        assert!(metrics.render().contains("portway_limit_hits_total{limit=\"addresses\"} 1\n"));
    }
}
