//! Turns the names of backends into addresses, at once and then every few seconds.
//! It promises that an unresolvable name never stops a start, and that a name which resolved once keeps its last
//! addresses while the resolver fails. Every address of a name is a backend; IPv4 goes before IPv6, not beside it.
//! It asks the system's resolver: its `hosts` file and search path are the user's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::checked::{self, Source};
use crate::runtime::backend::Backend;
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::store::Store;
use crate::telemetry::metrics::{Limit, Metrics};
use crate::units::{HostPort, Weight};

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
    last_good: HashMap<HostPort, BTreeSet<SocketAddr>>,
    /// Said once when a name begins to fail and once when it is found again, not every round.
    failing: HashSet<HostPort>,
}

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        Self { registry, metrics, last_good: HashMap::new(), failing: HashSet::new() }
    }

    /// Runs rounds for ever.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        loop {
            let began = Instant::now();
            self.round(&store.load_full()).await;
            tokio::select! {
                () = tokio::time::sleep_until(began + EVERY) => {}
                () = store.resolution_wanted() => tokio::time::sleep_until(began + AT_MOST_EVERY).await,
            }
        }
    }

    /// Resolves every name once and gives the services their members.
    pub async fn round<S>(&mut self, snapshot: &Snapshot<S>) {
        let mut lookups = JoinSet::new();
        for name in names(snapshot) {
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
        for (declared, service) in snapshot.config.services.iter().zip(&snapshot.services) {
            self.install(declared, service);
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
                self.last_good.insert(name, addresses);
            }
            // The last good set stays: a resolver that fails says nothing about the backends.
            Ok(_) => self.failed(name, "it has no address"),
            Err(error) => self.failed(name, &error.to_string()),
        }
    }

    fn failed(&mut self, name: HostPort, error: &str) {
        let keeps = if self.last_good.contains_key(&name) { "its last addresses" } else { "nothing" };
        if self.failing.contains(&name) {
            tracing::debug!(%name, error, keeps, "name not resolved");
        } else {
            tracing::warn!(%name, error, keeps, "name not resolved");
            self.failing.insert(name);
        }
    }

    fn install(&self, declared: &checked::Service, service: &Arc<Service>) {
        let Source::Backends(backends) = &declared.source;
        if backends.iter().all(|entry| entry.address.socket_addr().is_some()) {
            return;
        }
        let mut members: Vec<(Arc<Backend>, Weight)> = Vec::new();
        let mut unresolved = Vec::new();
        for entry in backends {
            let known = match entry.address.socket_addr() {
                Some(address) => vec![address],
                None => self.last_good.get(&entry.address).into_iter().flatten().copied().collect(),
            };
            if known.is_empty() {
                unresolved.push(entry.address.clone());
            }
            for address in known {
                let backend = self.registry.backend(&service.name, address);
                // Two names may lead to one address: it is one backend.
                if members.iter().all(|(member, _)| member.id != backend.id) {
                    members.push((backend, entry.weight));
                }
            }
        }
        let present = service.members();
        let same = present.members.iter().map(|member| member.backend.id).eq(members.iter().map(|(b, _)| b.id));
        if same && present.unresolved == unresolved {
            return;
        }
        let all: Vec<_> = members.iter().map(|(backend, _)| backend.clone()).collect();
        tracing::info!(service = %service.name, backends = all.len(), unresolved = unresolved.len(), "backends resolved");
        service.set_members(members, unresolved);
        self.registry.retain(&service.name, &all);
    }
}

fn names<S>(snapshot: &Snapshot<S>) -> BTreeSet<HostPort> {
    let entries = snapshot.config.services.iter().flat_map(|service| {
        let Source::Backends(backends) = &service.source;
        backends
    });
    entries.map(|entry| &entry.address).filter(|address| address.socket_addr().is_none()).cloned().collect()
}

async fn look_up(name: &HostPort) -> io::Result<BTreeSet<SocketAddr>> {
    let found = tokio::net::lookup_host((&*name.host, name.port)).await?;
    // A name with addresses of both families is the same backends twice, and `localhost` is ::1 and 127.0.0.1 while a
    // Flask server listens on one of them: IPv4 if there is any, as Docker's networks have it.
    let (v4, v6): (BTreeSet<_>, BTreeSet<_>) = found.partition(SocketAddr::is_ipv4);
    Ok(if v4.is_empty() { v6 } else { v4 })
}
