//! The immutable runtime view of one configuration: what a request sees from its first to its last byte.
//! It promises to be complete when it is published. Building it opens nothing and resolves no name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::checked::{self, Config};
use crate::routing::table::Table;
use crate::runtime::membership::Members;
use crate::runtime::registry::Registry;
use crate::runtime::route::Route;
use crate::runtime::service::Service;
use crate::telemetry::metrics::Metrics;
use crate::units::ServiceName;

/// One configuration, ready for requests.
#[derive(Debug)]
pub struct Snapshot<S> {
    /// Counts up from 1 with every configuration that was applied.
    pub generation: u64,
    /// What was checked.
    pub config: Arc<Config>,
    /// Finds the route of a request.
    pub table: Table<Arc<Route<S>>>,
    /// In the order of the configuration.
    pub services: Vec<Arc<Service>>,
    by_name: HashMap<ServiceName, usize>,
}

/// What building a snapshot needs besides the configuration.
pub struct Build<'a, S> {
    /// The number of the new snapshot.
    pub generation: u64,
    /// Where backends with their state are found.
    pub registry: &'a Registry,
    /// Where counters are made.
    pub metrics: &'a Metrics,
    /// Makes the filter stack of a service, if it has filters.
    pub stack: &'a dyn Fn(&checked::Service) -> Option<S>,
    /// What it will replace: its services go on in the new one.
    pub previous: Option<&'a Snapshot<S>>,
}

/// A snapshot that nobody has seen: the members of what is new or changed in it are not installed yet.
///
/// Services that change share their group with the present configuration, so building must not touch it: a reload that
/// fails after it has left no trace.
#[derive(Debug)]
#[must_use = "nothing has happened yet"]
pub struct Prepared<S> {
    snapshot: Snapshot<S>,
    changed: Vec<usize>,
}

impl<S> Prepared<S> {
    /// Gives the services their members; what comes back is for the store.
    pub fn install(self, registry: &Registry) -> Snapshot<S> {
        let Self { snapshot, changed } = self;
        for idx in changed {
            snapshot.services[idx].group.adopt(&snapshot.services[idx]); // first, so that whoever is woken goes on under it
            Members::of(&snapshot.config.services[idx], registry).replace(&snapshot.services[idx], registry);
        }
        snapshot
    }

    /// What would be published.
    pub fn snapshot(&self) -> &Snapshot<S> {
        &self.snapshot
    }
}

impl<S> Build<'_, S> {
    /// The service of `declared`: the present one if nothing about it changed, the present one under new policies, or a
    /// new one.
    fn service(&self, declared: &checked::Service) -> Built {
        let known = self.previous.and_then(|previous| previous.declared(&declared.name));
        match known {
            Some((before, service)) if before == declared => Built::Same(service.clone()),
            Some((_, service)) => Built::Changed(service.reconfigured(declared).into()),
            None => Built::Changed(Service::new(declared, self.metrics.service(&declared.name)).into()),
        }
    }
}

enum Built {
    Same(Arc<Service>),
    Changed(Arc<Service>),
}

impl<S> Snapshot<S> {
    /// A service with what the configuration says of it.
    pub fn declared(&self, name: &ServiceName) -> Option<(&checked::Service, &Arc<Service>)> {
        self.by_name.get(name).map(|idx| (&self.config.services[*idx], &self.services[*idx]))
    }
}

impl<S: Clone> Snapshot<S> {
    /// Builds the runtime view of `config`. Addresses are members at once, names after their first resolution.
    pub fn build(config: impl Into<Arc<Config>>, with: &Build<'_, S>) -> Self {
        Self::prepare(config, with).install(with.registry)
    }

    /// Builds the runtime view of `config` without any effect on what is there.
    pub fn prepare(config: impl Into<Arc<Config>>, with: &Build<'_, S>) -> Prepared<S> {
        let config = config.into();
        let mut changed = Vec::new();
        let mut services = Vec::with_capacity(config.services.len());
        let mut routes = Vec::new();
        for (idx, declared) in config.services.iter().enumerate() {
            let service = match with.service(declared) {
                Built::Same(service) => service,
                Built::Changed(service) => {
                    changed.push(idx);
                    service
                }
            };
            let stack = (with.stack)(declared);
            for route in &declared.routes {
                let finished = Route {
                    display: route.display.clone(),
                    action: route.action.clone(),
                    service: service.clone(),
                    stack: stack.clone(),
                };
                routes.push((route.matcher.clone(), Arc::new(finished)));
            }
            services.push(service);
        }
        let by_name = services.iter().enumerate().map(|(idx, service)| (service.name.clone(), idx)).collect();
        let snapshot = Self { generation: with.generation, table: Table::build(routes), services, by_name, config };
        Prepared { snapshot, changed }
    }

    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|idx| &self.services[*idx])
    }
}
